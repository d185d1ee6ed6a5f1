"""Keys show nowhere: not in a repr, a log, an error, the locals of a traceback, or a file."""

import asyncio
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from rich.console import Console
from rich.traceback import Traceback
from seedbed_client import AsyncSeedreamClient, CallbackReceiver, SeedreamClient, SeedreamError, verify_callback
from seedbed_mock import MockServer, running
from seedbed_mock.cli import main

CANARY = "sk-canary-7f3a"
BODY = b'{"code": 200, "msg": "", "data": {"taskId": "t"}}'


def all_of(error: BaseException) -> str:
    """Return an error as the most talkative tools show it: every frame below the test's own with its locals."""
    own = error.__traceback__
    while own and own.tb_frame.f_code.co_filename == __file__:
        own = own.tb_next
    shown = "".join(traceback.TracebackException(type(error), error, own, capture_locals=True).format())
    console = Console(record=True, width=400, file=Path("/dev/null").open("w"))  # noqa: SIM115 (closed below)
    console.print(Traceback.from_exception(type(error), error, own, show_locals=True, locals_max_string=10_000))
    console.file.close()
    return shown + console.export_text()


def broken(key: str) -> list[Callable[[], object]]:
    """Return ways to make a client with that key fail, on real sockets and off them."""
    nobody = SeedreamClient("http://127.0.0.1:1", key, max_retries=1, sleep=lambda _: None)
    return [
        lambda: SeedreamClient("nonsense", key),
        lambda: SeedreamClient("https://api.kie.ai", key),
        lambda: SeedreamClient(api_key=key + " with space"),
        lambda: SeedreamClient.live(key + "\n"),
        nobody.credits,
        lambda: nobody.create_task("a hill"),
        lambda: nobody.create_task("a hill", aspect_ratio="5:4"),
        lambda: nobody.generate("a hill", timeout=1),
        lambda: nobody.wait("t", timeout=0),
        lambda: verify_callback({}, BODY, key),
        lambda: verify_callback({"X-Webhook-Signature": "x", "X-Webhook-Timestamp": "1"}, BODY, key),
    ]


@pytest.mark.parametrize("number", range(len(broken(CANARY))))
def test_no_error_shows_a_key_even_with_all_locals(number: int) -> None:
    with pytest.raises((SeedreamError, httpx2.RequestError)) as error:
        broken(CANARY)[number]()
    assert CANARY not in all_of(error.value)


@pytest.mark.parametrize(
    "fault",
    ["401", "429", "500", "wire.reset", "wire.close", "wire.cut-short", "wire.nothing", "wire.hang", "answer.html"],
)
def test_no_error_of_a_live_call_shows_a_key(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with running(key=CANARY) as server:
        server.add_faults(fault)
        with SeedreamClient(server.url, CANARY, timeout=0.2, max_retries=0) as client:
            for call in (client.credits, lambda: client.create_task("a hill")):
                with pytest.raises((SeedreamError, httpx2.RequestError)) as error:
                    call()
                assert CANARY not in all_of(error.value)
            assert CANARY not in repr(client)
    assert CANARY not in caplog.text
    assert caplog.text


def test_no_error_of_an_interrupted_call_shows_a_key() -> None:
    async def interrupt(server: MockServer) -> None:
        async with AsyncSeedreamClient(server.url, CANARY) as client:
            call = asyncio.create_task(client.credits())
            while not await asyncio.to_thread(lambda: server.calls):
                pass  # the call is on its way, but has not come
            call.cancel()
            with pytest.raises(asyncio.CancelledError) as error:
                await call
            assert CANARY not in all_of(error.value)

    with running(key=CANARY) as server:
        server.add_faults("wire.hang")
        asyncio.run(interrupt(server))


def test_an_error_that_is_being_handled_keeps_its_own_frames() -> None:
    client = SeedreamClient("http://127.0.0.1:1", CANARY, max_retries=0)

    def handle_theirs() -> None:
        try:
            raise ValueError("theirs")  # noqa: TRY301 (it is theirs)
        except ValueError:
            client.credits()

    with pytest.raises(httpx2.ConnectError) as error:
        handle_theirs()
    theirs: BaseException | None = error.value
    while theirs and not isinstance(theirs, ValueError):
        theirs = theirs.__context__
    assert theirs
    assert theirs.__traceback__


def test_a_key_is_in_no_repr_and_no_pickle() -> None:
    client, receiver = SeedreamClient(api_key=CANARY), CallbackReceiver(signing_key=CANARY)
    things = [client, client._context, client._context.endpoint, receiver, vars(receiver), vars(client)]
    assert all(CANARY not in repr(thing) for thing in things)
    with pytest.raises((TypeError, AttributeError)):
        pickle.dumps(client._context.endpoint.api_key)


def test_a_command_shows_no_key_and_keeps_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with running(key=CANARY, task_seconds=0) as server:
        told = ["--url", server.url, "--key", CANARY]
        assert main(["generate", "a hill", "--resume", "run.json", "--json", *told]) == 0
        assert main(["generate", "a hill", "--key", CANARY + "x", "--url", server.url]) == 1
        assert main(["credits", *told]) == 0
        server.add_faults("500")
        assert main(["generate", "a hill", *told]) == 3
    output, errors = capsys.readouterr()
    kept = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert CANARY not in output + errors + kept
