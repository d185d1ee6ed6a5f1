"""The handles of a running server: waiting for callbacks, async tests, and threads that fail."""

import asyncio
import contextlib
import errno
import json
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
import requests
import responses
import trio
import uvicorn
import vcr
from seedbed_mock import AsyncMockServer, ControlError, MockServer, running, running_async, swappable
from seedbed_mock import server as server_module
from seedbed_schemas import default_contract
from seedbed_schemas.openapi import example_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CONTRACT = default_contract()
GOOD = example_of(CONTRACT.part("request"))
MANUAL: dict[str, Any] = {"task_seconds": 60, "clock": "manual"}
manual = pytest.mark.seedbed(task_seconds=60, clock="manual")


# Waiting for callbacks


@manual
def test_wait_for_callback_returns_what_became_of_it(
    seedbed: MockServer, create: Callable[..., str], receive: Callable[..., Any]
) -> None:
    receiver = receive(OK)
    task_id = create(callBackUrl=receiver.url)
    with pytest.raises(TimeoutError, match=rf"{task_id} is still waiting after 0.05 seconds, and its task is waiting"):
        seedbed.wait_for_callback(task_id, timeout=0.05)
    seedbed.advance(60)
    callback = seedbed.wait_for_callback(task_id)
    assert (callback["task_id"], callback["outcome"], callback["url"]) == (task_id, "delivered", receiver.url)
    assert [each["status"] for each in callback["attempts"]] == [200]
    assert seedbed.callbacks == [callback]


def test_a_callback_in_real_time_is_waited_for(
    seedbed: MockServer, create: Callable[..., str], receive: Callable[..., Any]
) -> None:
    receiver = receive(OK)
    first, second = create(callBackUrl=receiver.url), create(callBackUrl=receiver.url)
    assert [each["task_id"] for each in seedbed.wait_for_callbacks()] == [first, second]
    assert len(seedbed.wait_for_callbacks(2)) == 2
    with pytest.raises(TimeoutError, match=r"Expected 3 callbacks within 0.05 seconds; of 2, 0 are still waiting"):
        seedbed.wait_for_callbacks(3, timeout=0.05)


def test_a_callback_that_never_comes_ends_the_wait(
    seedbed: MockServer, create: Callable[..., str], receive: Callable[..., Any]
) -> None:
    seedbed.add_faults("callback.never")
    assert seedbed.wait_for_callback(create(callBackUrl=receive(OK).url))["outcome"] == "withheld"


def test_waiting_for_a_callback_that_nobody_asked_for_is_an_error(
    seedbed: MockServer, create: Callable[..., str]
) -> None:
    with pytest.raises(RuntimeError, match="was created without a callback URL"):
        seedbed.wait_for_callback(create())
    with pytest.raises(ControlError, match="does not exist"):
        seedbed.wait_for_callback("task_of_nobody")


# Async tests


@contextlib.asynccontextmanager
async def receiver_in_this_loop() -> AsyncIterator[tuple[str, list[Any]]]:
    """Run a receiver of callbacks in the event loop of the test, with asyncio or trio."""
    bodies: list[Any] = []

    async def receive(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            content = b""
            while not content.endswith(b"}"):
                content += await stream.receive()
            bodies.append(json.loads(content.partition(b"\r\n\r\n")[2]))
            await stream.send(OK)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, receive)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 (not Django's)
        yield f"http://127.0.0.1:{port}", bodies
        group.cancel_scope.cancel()


async def scene(server: AsyncMockServer) -> None:
    """Use every method of the handle while the receiver runs in the same event loop."""
    async with receiver_in_this_loop() as (url, bodies), httpx2.AsyncClient(trust_env=False) as client:

        async def create() -> str:
            headers = {"Authorization": f"Bearer {server.key}"}
            body = {**GOOD, "callBackUrl": url}
            response = await client.post(server.url + CONTRACT.operation.path, json=body, headers=headers)
            return str(response.json()["data"]["taskId"])

        first, second, third = [await create() for _ in range(3)]
        await server.finish(first)
        await server.fail(second, 422, "Not this")
        await server.advance(60)
        assert [each["outcome"] for each in await server.wait_for_callbacks(3)] == ["delivered"] * 3
        assert (await server.wait_for_callback(third))["attempts"][0]["status"] == 200
        assert [each["data"]["taskId"] for each in bodies] == [first, second, third]
        assert len(await server.callbacks()) == 3
        await server.add_faults("429")
        assert (await server.control("GET", "faults"))["faults"][0]["rule"] == "429"
        await server.clear_faults()
        assert [call["code"] for call in await server.calls()] == [200] * 3
        await server.assert_called("createTask", times=3, prompt=GOOD["input"]["prompt"])
        with pytest.raises(AssertionError, match="never called"):
            await server.assert_called("credit")
        assert (await server.task(second))["failure"]["message"] == "Not this"
        await server.reset()
        assert await server.calls() == []
        await server.play(credits=5)
        assert (await server.control("GET", "accounts"))["accounts"][0]["balance"] == 5
        assert list(server.errors) == []


async def start_and_play_scene() -> None:
    async with running_async(**MANUAL) as server:
        await scene(server)


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_an_async_test_receives_callbacks_in_its_own_loop(run: Callable[..., None]) -> None:
    # trio.run takes the function, asyncio.run its coroutine.
    run(start_and_play_scene if run is trio.run else start_and_play_scene())


@manual
@pytest.mark.asyncio
async def test_the_async_fixture_works_with_pytest_asyncio(aseedbed: AsyncMockServer) -> None:
    await scene(aseedbed)


@manual
@pytest.mark.anyio
async def test_the_async_fixture_works_with_anyio(aseedbed: AsyncMockServer, anyio_backend: object) -> None:
    assert anyio_backend
    await scene(aseedbed)


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_a_method_that_would_block_the_event_loop_says_so(
    seedbed: MockServer, create: Callable[..., str], run: Callable[..., None]
) -> None:
    task_id = create()

    async def main() -> None:
        for name, arguments in [
            ("advance", (1,)),
            ("finish", (task_id,)),
            ("fail", (task_id,)),
            ("wait_for_callback", (task_id,)),
            ("wait_for_callbacks", ()),
        ]:
            with pytest.raises(RuntimeError, match=rf"^{name}\(\) would block the event loop .* await {name}\(\)"):
                getattr(seedbed, name)(*arguments)
        # These wait for nobody in this loop.
        assert seedbed.calls
        seedbed.assert_called("createTask")

    run(main if run is trio.run else main())


def test_a_cancelled_block_stops_its_server() -> None:
    async def main() -> str:
        url = ""
        with anyio.move_on_after(0.2):
            async with running_async() as server:
                url = server.url
                await anyio.sleep_forever()
        return url

    url = asyncio.run(main())
    assert url
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url, trust_env=False)


# Programs that replace sockets and HTTP clients


def no_socket(*_: object, **__: object) -> None:
    raise AssertionError("the handle opened a socket")


def test_the_handle_uses_nothing_that_a_test_replaces(
    seedbed: MockServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vcr.use_cassette(str(tmp_path / "cassette.yaml")) as cassette, responses.mock:
        seedbed.add_faults("429")
        assert seedbed.calls == []
        with pytest.raises(requests.ConnectionError):
            requests.get(seedbed.url, timeout=10)
        assert len(cassette) == 0
    monkeypatch.setattr(socket, "socket", no_socket)
    monkeypatch.setattr(socket, "create_connection", no_socket)
    seedbed.advance(1)
    seedbed.play(credits=1)
    assert seedbed.control("GET", "accounts")["accounts"][0]["balance"] == 1


def test_the_handle_sends_the_control_token_and_an_error_of_the_server_is_a_response() -> None:
    with running(control_token="secret") as server:  # noqa: S106 (of this test)
        assert server.calls == []
        with pytest.raises(ControlError, match="no operation GET"):
            server.control("GET", "nothing")
        server._app.run(server._service.store.close)
        server._service.store.page = no_socket  # type: ignore[assignment, method-assign]
        with pytest.raises(ControlError, match="Internal error"):
            server.control("GET", "tasks")
        assert len(server.errors) == 1


# Fields


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"aspectratio": "1:1"}, "No model has a field aspectratio; did you mean aspect_ratio?"),
        ({"callbackUrl": "x"}, "did you mean callBackUrl?"),
        ({"xyz": 1}, "No model has a field xyz; the fields are "),
        ({"operation": "credit", "prompt": "x"}, "credit has no field prompt; give its body with request="),
    ],
)
def test_a_field_that_does_not_exist_is_refused(seedbed: MockServer, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TypeError) as caught:
        seedbed.assert_called(times=0, **arguments)
    assert sentence in str(caught.value)


def test_a_request_can_have_any_value(seedbed: MockServer, create: Callable[..., str]) -> None:
    create(extra=1)
    seedbed.assert_called(request={"extra": 1}, times=1, prompt=GOOD["input"]["prompt"])
    seedbed.assert_called(request={"input": {"unknown": 1}}, prompt="x", times=0)


# Threads that fail


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(server_module, "_START_SECONDS", 0.2)
    monkeypatch.setattr(server_module, "_STOP_SECONDS", 0.2)
    yield
    for thread in threading.enumerate():
        if thread.name == "seedbed" and thread is not threading.current_thread():
            thread.join(0.5)


def count_descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), ModuleNotFoundError("uvloop")])
def test_an_error_at_the_start_is_raised_where_the_server_was_started(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(uvicorn.Config, "get_loop_factory", fail)
    descriptors = count_descriptors()
    with pytest.raises(type(error)) as caught, running():
        pytest.fail("the block ran")
    assert caught.value is error
    assert count_descriptors() == descriptors


def test_a_system_exit_at_the_start_does_not_end_the_test_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module._UvicornServer, "startup", lambda *_, **__: sys.exit(1))
    with pytest.raises(RuntimeError, match=r"ended with SystemExit\(1\)"), running():
        pytest.fail("the block ran")


@pytest.mark.usefixtures("quick")
def test_a_server_that_does_not_get_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(self: server_module._UvicornServer, *_: object, **__: object) -> None:
        self.started, self.servers = True, []
        await asyncio.sleep(0.3)

    monkeypatch.setattr(server_module._UvicornServer, "startup", start)
    with pytest.raises(RuntimeError, match=r"is not ready after 0\.2 seconds"), running():
        pytest.fail("the block ran")


@pytest.mark.usefixtures("quick")
def test_a_server_that_does_not_stop_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    shutdown = server_module._UvicornServer.shutdown

    async def stop(self: server_module._UvicornServer, *arguments: Any, **options: Any) -> None:
        await asyncio.sleep(0.5)
        await shutdown(self, *arguments, **options)

    monkeypatch.setattr(server_module._UvicornServer, "shutdown", stop)
    with pytest.raises(RuntimeError, match=r"has not stopped after 0\.2 seconds"), running():
        pass


def test_a_thread_that_dies_while_the_block_runs_is_reported_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def die(_: object) -> None:
        await asyncio.sleep(0.01)
        raise OSError("no more")

    monkeypatch.setattr(server_module._UvicornServer, "main_loop", die)
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.raises(OSError, match="no more"))
        before = threading.enumerate()
        server = stack.enter_context(running())
        for thread in threading.enumerate():
            if thread not in before:
                thread.join(20)
        with pytest.raises(RuntimeError, match="has stopped"):
            server.control("GET", "health")


def test_a_handle_of_a_stopped_server_says_so() -> None:
    with running() as server:
        pass
    for use in (lambda: server.calls, server.play, lambda: server.advance(1)):
        with pytest.raises(RuntimeError, match="The server has stopped"):
            use()
    server.stop()


def test_a_server_that_does_not_respond_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swappable, "_CALL_SECONDS", 0.1)
    release = threading.Event()
    with running() as server:
        assert server._app._loop
        server._app._loop.call_soon_threadsafe(release.wait, 20)
        with pytest.raises(TimeoutError, match=r"has not responded for 0\.1 seconds"):
            server.control("GET", "health")
        release.set()


def test_green_threads_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # gevent and eventlet replace this function by one in Python.
    monkeypatch.setattr("_thread.get_ident", lambda: 1)
    with pytest.raises(NotImplementedError, match="gevent or eventlet has replaced the threads"), running():
        pytest.fail("the block ran")
