"""The end of a server: nothing that it is doing can delay it for long."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from seedbed_mock import create_app, running
from seedbed_schemas import default_contract, local
from seedbed_schemas.openapi import example_of

GOOD: dict[str, Any] = example_of(default_contract().part("request"))
CREATE = default_contract().operation.path
HEADERS = {"Authorization": f"Bearer {local.KEY}"}
SECONDS = 20

BLOCKED = """
import sys, time
from seedbed_mock.swappable import SwappableApp
from seedbed_mock.cli import main

async def close(self):
    print("blocked", flush=True)
    time.sleep(600)

SwappableApp.close = close
sys.exit(main(["serve", "--port", "0"]))
"""


@contextmanager
def serving(*command: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Start a server as a process; yield it and its URL."""
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        try:
            yield server, server.stdout.readline().split()[-1]
        finally:
            server.kill()


def serve(*options: str) -> tuple[str, ...]:
    return ("-m", "seedbed_mock", "--port", "0", *options)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_dispatcher_that_is_woken_and_closed_in_one_turn_ends(turns: int) -> None:
    async def close() -> bool:
        dispatcher = create_app().state.dispatcher
        dispatcher.wake()
        for _ in range(10):
            await asyncio.sleep(0)
        dispatcher._woken.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(dispatcher.close(), SECONDS)
        is_done: bool = dispatcher._worker.done()
        return is_done

    assert asyncio.run(close())


def test_a_closed_dispatcher_is_not_woken_again() -> None:
    async def close() -> object:
        state = create_app().state
        await state.dispatcher.close()
        state.service.callback_is_due()
        worker: object = state.dispatcher._worker
        return worker

    assert asyncio.run(close()) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_an_idle_server(number: signal.Signals) -> None:
    with serving(*serve()) as (server, _):
        server.send_signal(number)
        _, errors = server.communicate(timeout=SECONDS)
    assert (server.returncode, errors) == (0, "")


def create(url: str, **fields: Any) -> None:
    response = httpx2.post(url + CREATE, json={**GOOD, **fields}, headers=HEADERS, trust_env=False)
    assert response.json()["code"] == 200


def hold(listener: socket.socket) -> str:
    """Return the URL of a receiver that accepts connections and never responds."""
    host, port = listener.getsockname()
    return f"http://{host}:{port}/"


def with_a_silent_receiver(url: str, listener: socket.socket) -> None:
    create(url, callBackUrl=hold(listener))
    listener.accept()


def with_an_overdue_callback(url: str, __: socket.socket) -> None:
    for _ in range(5):
        create(url, callBackUrl="http://127.0.0.1:1/")


def with_half_a_request(url: str, __: socket.socket) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    socket.create_connection((host, int(port))).sendall(b"GET / HTTP/1.1\r\n")


def with_a_hanging_response(url: str, __: socket.socket) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    request = f"GET /api/v1/models HTTP/1.1\r\nAuthorization: Bearer {local.KEY}\r\nX-Seedbed-Fault: delay seconds=600"
    socket.create_connection((host, int(port))).sendall(f"{request}\r\nHost: {host}:{port}\r\n\r\n".encode())


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(
    "engage", [with_a_silent_receiver, with_an_overdue_callback, with_half_a_request, with_a_hanging_response]
)
def test_a_signal_ends_a_busy_server(engage: Callable[[str, socket.socket], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, serving(*serve("--task-seconds", "0")) as (server, url):
        engage(url, listener)
        server.terminate()
        _, errors = server.communicate(timeout=SECONDS)
    assert (server.returncode, errors) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no second signal")
def test_a_second_signal_ends_a_blocked_server_at_once() -> None:
    with serving("-c", BLOCKED) as (server, _):
        assert server.stdout
        server.terminate()
        assert any(line == "blocked\n" for line in server.stdout)
        server.terminate()
        assert server.wait(timeout=SECONDS) == -signal.SIGTERM


@pytest.mark.slow
def test_a_blocked_server_ends_after_five_seconds() -> None:
    with serving("-c", BLOCKED) as (server, _):
        server.terminate()
        assert server.wait(timeout=SECONDS) == 1


def test_a_block_of_running_ends_while_a_call_in_a_thread_goes_on() -> None:
    release, started = threading.Event(), threading.Event()

    def look_up() -> None:
        started.set()
        release.wait(SECONDS)

    with running() as server:
        loop = server._app._loop
        assert loop
        asyncio.run_coroutine_threadsafe(asyncio.to_thread(look_up), loop)
        assert started.wait(SECONDS)
    assert not release.is_set()
    release.set()


def test_a_block_of_running_ends_while_the_host_of_a_callback_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    started, ended, system = threading.Event(), threading.Event(), socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if host != "unreachable.example":
            return system(host, *arguments, **options)
        started.set()
        ended.wait(SECONDS)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        with running(task_seconds=0, callback_allow="unreachable.example") as server:
            request = {**GOOD, "callBackUrl": "http://unreachable.example/"}
            httpx2.post(server.url + CREATE, headers=HEADERS, json=request, trust_env=False)
            assert started.wait(SECONDS)
        # The block has ended although the name server has not answered.
        assert not ended.is_set()
    finally:
        ended.set()
