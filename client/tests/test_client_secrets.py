"""Keys are not shown in a repr, a log, an error, the locals of a traceback, or a file."""

import asyncio
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rich.console import Console
from rich.traceback import Traceback
from seedbed_client import (
    AsyncSeedreamClient,
    CallbackReceiver,
    SeedreamClient,
    SeedreamError,
    SubmissionUnknownError,
    verify_callback,
)
from seedbed_mock import MockServer, running
from seedbed_mock.cli import main

CANARY = "sk-canary-7f3a"
BODY = b'{"code": 200, "msg": "", "data": {"taskId": "t"}}'


def rendered(error: BaseException) -> str:
    """Return an error as verbose tools show it: all frames below that of the test, with their locals."""
    own = error.__traceback__
    while own and own.tb_frame.f_code.co_filename == __file__:
        own = own.tb_next
    shown = "".join(traceback.TracebackException(type(error), error, own, capture_locals=True).format())
    console = Console(record=True, width=400, file=Path("/dev/null").open("w"))  # noqa: SIM115 (closed below)
    console.print(Traceback.from_exception(type(error), error, own, show_locals=True, locals_max_string=10_000))
    console.file.close()
    return shown + console.export_text()


def failing_calls(key: str) -> list[Callable[[], object]]:
    """Return calls with a key that fail, with and without sockets."""
    client = SeedreamClient("http://127.0.0.1:1", key, max_retries=1, sleep=lambda _: None)
    return [
        lambda: SeedreamClient("nonsense", key),
        lambda: SeedreamClient("https://api.kie.ai", key),
        lambda: SeedreamClient(api_key=key + " with space"),
        lambda: SeedreamClient.live(key + "\n"),
        client.credits,
        lambda: client.create_task("a hill"),
        lambda: client.create_task("a hill", aspect_ratio="5:4"),  # type: ignore[arg-type]
        lambda: client.generate("a hill", timeout=1),
        lambda: client.wait("t", timeout=0),
        lambda: verify_callback({}, BODY, key),
        lambda: verify_callback({"X-Webhook-Signature": "x", "X-Webhook-Timestamp": "1"}, BODY, key),
    ]


@pytest.mark.parametrize("number", range(len(failing_calls(CANARY))))
def test_no_error_shows_the_key_even_with_locals(number: int) -> None:
    with pytest.raises((SeedreamError, httpx2.RequestError)) as error:
        failing_calls(CANARY)[number]()
    assert CANARY not in rendered(error.value)


@pytest.mark.parametrize(
    "fault",
    [
        *("401", "wire.reset", "answer.html"),
        *(
            pytest.param(fault, marks=pytest.mark.slow)
            for fault in ("429", "500", "wire.close", "wire.cut-short", "wire.nothing", "wire.hang")
        ),
    ],
)
def test_no_error_of_a_request_shows_the_key(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with running(key=CANARY) as server:
        server.add_faults(fault)
        with SeedreamClient(server.url, CANARY, timeout=0.2, max_retries=0) as client:
            for call in (client.credits, lambda: client.create_task("a hill")):
                with pytest.raises((SeedreamError, httpx2.RequestError)) as error:
                    call()
                assert CANARY not in rendered(error.value)
            assert CANARY not in repr(client)
    assert CANARY not in caplog.text
    assert caplog.text


def test_no_error_of_a_cancelled_call_shows_the_key() -> None:
    async def interrupt(server: MockServer) -> None:
        async with AsyncSeedreamClient(server.url, CANARY) as client:
            call = asyncio.create_task(client.credits())
            while not await asyncio.to_thread(lambda: server.calls):
                pass  # the request is sent, and has no response yet
            call.cancel()
            with pytest.raises(asyncio.CancelledError) as error:
                await call
            assert CANARY not in rendered(error.value)

    with running(key=CANARY) as server:
        server.add_faults("wire.hang")
        asyncio.run(interrupt(server))


def test_an_error_that_the_caller_handles_keeps_its_traceback() -> None:
    client = SeedreamClient("http://127.0.0.1:1", CANARY, max_retries=0)

    def handle_own_error() -> None:
        try:
            raise ValueError("own")  # noqa: TRY301 (this is the error that is being handled)
        except ValueError:
            client.credits()

    with pytest.raises(httpx2.ConnectError) as error:
        handle_own_error()
    own: BaseException | None = error.value
    while own and not isinstance(own, ValueError):
        own = own.__context__
    assert own
    assert own.__traceback__


def failing_hook(response: httpx2.Response) -> None:
    raise KeyError(response.status_code)


def failing_transport(request: httpx2.Request) -> httpx2.Response:
    raise LookupError(request.method)


class FailingTransport(httpx2.BaseTransport):
    """A transport of the user around that of httpx2, which fails after the response."""

    def __init__(self) -> None:
        self._inner = httpx2.HTTPTransport(trust_env=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self._inner.handle_request(request).close()
        return self.after()

    def after(self) -> httpx2.Response:
        raise ZeroDivisionError

    def close(self) -> None:
        self._inner.close()


@pytest.mark.parametrize(
    ("make", "frames"),
    [
        (lambda: {"http_client": httpx2.Client(event_hooks={"response": [failing_hook]})}, ["failing_hook"]),
        (lambda: {"transport": httpx2.MockTransport(failing_transport)}, ["failing_transport"]),
        (lambda: {"transport": FailingTransport()}, ["handle_request", "after"]),
    ],
    ids=["hook", "handler", "transport"],
)
@pytest.mark.slow
def test_the_frames_of_the_users_own_code_stay_in_the_traceback(
    make: Callable[[], dict[str, Any]], frames: list[str]
) -> None:
    options = make()
    with running(key=CANARY) as server, SeedreamClient(server.url, CANARY, **options) as client:
        with pytest.raises((LookupError, ArithmeticError)) as read:
            client.credits()
        with pytest.raises(SubmissionUnknownError) as paid:
            client.create_task("a hill")
        if http := options.get("http_client"):
            http.close()
    for error in (read.value, paid.value.__cause__):
        assert error is not None
        shown = [frame.name for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
        assert shown[-len(frames) :] == frames
        assert CANARY not in rendered(error)
    assert CANARY not in rendered(paid.value)


def test_no_repr_or_pickle_contains_the_key() -> None:
    client, receiver = SeedreamClient(api_key=CANARY), CallbackReceiver(signing_key=CANARY)
    objects = [client, client._context, client._context.endpoint, receiver, vars(receiver), vars(client)]
    assert all(CANARY not in repr(each) for each in objects)
    with pytest.raises((TypeError, AttributeError)):
        pickle.dumps(client._context.endpoint.api_key)


def test_no_command_shows_or_stores_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with running(key=CANARY, task_seconds=0) as server:
        service = ["--url", server.url, "--key", CANARY]
        assert main(["generate", "a hill", "--resume", "run.json", "--json", *service]) == 0
        assert main(["generate", "a hill", "--key", CANARY + "x", "--url", server.url]) == 1
        assert main(["credits", *service]) == 0
        server.add_faults("500")
        assert main(["generate", "a hill", *service]) == 4
    output, errors = capsys.readouterr()
    files = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert CANARY not in output + errors + files
