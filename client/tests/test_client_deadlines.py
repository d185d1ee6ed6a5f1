"""A response ends at its deadline even if it drips, and waiting for a connection does not shorten the deadline."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from seedbed_client import AsyncSeedreamClient, SeedreamClient, SubmissionUnknownError, WaitTimeoutError

LONG = 30
"""Seconds for which the servers drip: far more than a call may take."""


@contextlib.contextmanager
def serving(respond: Callable[[socket.socket], object]) -> Iterator[str]:
    """Serve connections with a function that responds on each of them, and yield the URL."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(65536):
                respond(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def drip(connection: socket.socket) -> None:
    ends = time.monotonic() + LONG
    while time.monotonic() < ends:
        connection.sendall(b"a")
        time.sleep(0.02)


def dripping_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    drip(connection)


def dripping_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n")
    drip(connection)


CALLS: list[tuple[Callable[[SeedreamClient], object], type[Exception]]] = [
    (lambda client: client.credits(), httpx2.ReadTimeout),
    (lambda client: client.create_task("a hill"), SubmissionUnknownError),
    (lambda client: client.wait("t1", timeout=0.2), WaitTimeoutError),
    (lambda client: client.download(f"{client.base_url}/hill.jpg"), httpx2.ReadTimeout),
]


@pytest.mark.parametrize("respond", [dripping_headers, dripping_body])
@pytest.mark.parametrize(("call", "expected"), CALLS, ids=["credits", "create", "wait", "download"])
def test_a_dripping_response_ends_at_its_deadline(
    respond: Callable[[socket.socket], object], call: Callable[[SeedreamClient], object], expected: type[Exception]
) -> None:
    began = time.monotonic()
    with serving(respond) as url, SeedreamClient(url, timeout=0.2, max_retries=0) as client, pytest.raises(expected):
        call(client)
    assert time.monotonic() - began < LONG / 5


@pytest.mark.parametrize("respond", [dripping_headers, dripping_body])
def test_a_dripping_response_ends_at_its_deadline_for_the_async_client(
    respond: Callable[[socket.socket], object],
) -> None:
    async def call(url: str) -> None:
        async with AsyncSeedreamClient(url, timeout=0.2, max_retries=0) as client:
            with pytest.raises(httpx2.ReadTimeout):
                await client.credits()
            with pytest.raises(httpx2.ReadTimeout):
                await client.download(f"{url}/hill.jpg")

    began = time.monotonic()
    with serving(respond) as url:
        asyncio.run(call(url))
    assert time.monotonic() - began < LONG / 5


def test_a_reused_connection_has_the_deadline_of_the_new_request() -> None:
    bodies = iter([b'{"code": 200, "data": 7}', b'{"code": 200, "data": 8}'])

    def respond(connection: socket.socket) -> None:
        body = next(bodies)
        time.sleep(0.3)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    with serving(respond) as url, SeedreamClient(url, timeout=0.5, max_retries=0) as client:
        assert (client.credits(), client.credits()) == (7, 8)


def test_waiting_for_a_free_connection_does_not_shorten_the_deadline() -> None:
    created = b'{"code": 200, "data": {"taskId": "t1"}}'

    def respond(connection: socket.socket) -> None:
        time.sleep(0.6)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(created) + created)

    limits = httpx2.Limits(max_connections=1)
    with serving(respond) as url, httpx2.Client(limits=limits) as http, ThreadPoolExecutor() as threads:
        client = SeedreamClient(url, http_client=http, timeout=1, max_retries=0)
        assert list(threads.map(client.create_task, ["a hill", "a lake"])) == ["t1", "t1"]
