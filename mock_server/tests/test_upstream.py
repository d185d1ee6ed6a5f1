"""The connections of the proxy to its service: responses in all forms of HTTP, and services that break them."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from seedbed_mock import MockServer
from seedbed_mock.proxy import ProxyOptions, start_proxy
from seedbed_mock.recording.http_connection import UpstreamError
from seedbed_mock.recording.upstream import Upstream
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import default_profile

CONTRACT = default_contract()
CREATE = CONTRACT.operation.path
CREDIT = job_api().credit.path
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
PRICE = default_profile().credits
KEY = {"Authorization": f"Bearer {local.KEY}"}

Serve = Callable[[socket.socket], None]


class Service:
    """A server that runs a function for each connection."""

    def __init__(self, serve: Serve) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._serve = serve
        self.connections: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.has_ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._one, args=(connection,)).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._serve(connection)
        self.has_ended.set()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self.connections:
            each.close()
        self._thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[[Serve], Service]]:
    with contextlib.ExitStack() as stack:

        def start(behaviour: Serve) -> Service:
            service = Service(behaviour)
            stack.callback(service.close)
            return service

        yield start


@pytest.fixture
def proxy_to() -> Iterator[Callable[..., MockServer]]:
    with contextlib.ExitStack() as stack:
        yield lambda url, **options: stack.enter_context(start_proxy(ProxyOptions(upstream=url, port=0, **options)))


def head_of(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            raise ConnectionAbortedError
        received += part
    return received


def answering(*responses: bytes) -> Serve:
    """Return a behaviour that gives these responses to the requests of one connection, and then ends it."""

    def behave(connection: socket.socket) -> None:
        for response in responses:
            head_of(connection)
            connection.sendall(response)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    return behave


async def fetch(upstream: Upstream, method: str = "GET", content: Any = b"") -> tuple[int, bytes]:
    response = await upstream.open(method, b"/", ((b"accept", b"*/*"),), content)
    return response.status, b"".join([chunk async for chunk in response.chunks()])


def fetches(url: str, number: int = 1, method: str = "GET", timeout: float = 5) -> list[Any]:
    """Return status and body of requests one after the other, or the error."""

    async def run() -> list[Any]:
        upstream, found = Upstream(url, timeout), list[Any]()
        for _ in range(number):
            try:
                found.append(await fetch(upstream, method))
            except UpstreamError as error:
                found.append(error)
        await upstream.close()
        return found

    return asyncio.run(run())


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("response", "method", "expected", "is_kept"),
    [
        (OK, "GET", (200, b"ok"), True),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
            "GET",
            (200, b"ok"),
            True,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-t: 1\r\n\r\n",
            "GET",
            (200, b"ok"),
            True,
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK, "GET", (200, b"ok"), True),
        (b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", "GET", (500, b""), True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", "GET", (200, b"ok"), False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", (200, b"ok"), False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", "HEAD", (200, b""), False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", (204, b""), False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", "GET", (304, b""), False),
        (OK + OK, "GET", (200, b"ok"), False),
        (OK + b"junk", "GET", (200, b"ok"), False),
    ],
)
def test_a_response_ends_where_http_says_and_its_connection_is_kept_only_if_that_is_safe(
    response: bytes, method: str, expected: tuple[int, bytes], is_kept: Any, serve: Callable[[Serve], Service]
) -> None:
    service = serve(answering(response, response))
    assert fetches(service.url, 2, method) == [expected, expected]
    assert len(service.connections) == (1 if is_kept else 2)


def test_a_body_without_a_length_ends_with_its_connection(serve: Callable[[Serve], Service]) -> None:
    service = serve(answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000))
    assert fetches(service.url, 2) == [(200, b"x" * 100_000)] * 2
    assert len(service.connections) == 2


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "it closed the connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "it closed the connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n", "no complete HTTP response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "no complete HTTP response"),
        (b"HTTP/1.1 200 OK\r\nContent-Len", "it closed the connection"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "it closed the connection"),
        (b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "no complete HTTP response"),
        (b"SSH-2.0-OpenSSH\r\n", "no complete HTTP response"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000, "larger than"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 1_000_000, "larger than"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "larger than"),
    ],
)
def test_a_response_that_is_no_valid_http_is_an_error_after_which_the_task_may_exist(
    response: bytes, says: str, serve: Callable[[Serve], Service]
) -> None:
    (error,) = fetches(serve(answering(response)).url)
    assert isinstance(error, UpstreamError)
    assert says in str(error)
    assert error.was_sent


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(st.binary(max_size=300), max_size=6),
    cuts=st.lists(st.integers(1, 400), max_size=12),
    is_chunked=st.booleans(),
)
def test_however_a_response_is_cut_into_pieces_its_body_arrives_unchanged(
    parts: list[bytes], cuts: list[int], is_chunked: Any
) -> None:
    body = b"".join(parts)
    if is_chunked:
        coded = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
        whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded
    else:
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    async def run() -> tuple[int, bytes]:
        has_ended = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            rest = whole
            for cut in cuts:
                writer.write(rest[:cut])
                rest = rest[cut:]
                await writer.drain()
                await asyncio.sleep(0)
            writer.write(rest)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            has_ended.set()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            upstream = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", 5)
            found = await fetch(upstream)
            await upstream.close()
            await has_ended.wait()
            return found

    assert asyncio.run(run()) == (200, body)


def test_a_refusal_before_the_end_of_an_upload_is_the_response(serve: Callable[[Serve], Service]) -> None:
    def refuse(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        # The rest is not read, so that the upload comes to a halt.
        hold.wait(10)

    hold, service = threading.Event(), serve(refuse)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async def run() -> tuple[int, bytes]:
        upstream = Upstream(service.url, 5)
        found = await fetch(upstream, "POST", endless())
        await upstream.close()
        return found

    assert asyncio.run(run()) == (413, b"")
    hold.set()


def test_a_caller_that_takes_nothing_stops_the_service(serve: Callable[[Serve], Service]) -> None:
    """What is not taken yet stays with the service, not in the memory of the proxy."""
    sent = [0]

    def flood(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.settimeout(0.3)
        for _ in range(2000):
            connection.sendall(b"x" * 65536)
            sent[0] += 65536

    service = serve(flood)

    async def run() -> None:
        upstream = Upstream(service.url, 5)
        await upstream.open("GET", b"/", ())
        await asyncio.to_thread(service.has_ended.wait, 10)
        await upstream.close()

    asyncio.run(run())
    assert sent[0] < 64 * 1024 * 1024


# Services that break, as the caller of the proxy sees them


def drip(start: bytes, step: bytes) -> Serve:
    """Return a behaviour that sends a little at a time, without an end."""

    def behave(connection: socket.socket) -> None:
        head_of(connection)
        connection.sendall(start)
        connection.settimeout(0.03)
        while True:
            connection.sendall(step)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(65536):
                    return

    return behave


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "],
)
def test_a_response_that_drips_comes_to_an_end_and_counts_as_paid(
    start: bytes, serve: Callable[[Serve], Service], proxy_to: Callable[..., MockServer]
) -> None:
    service = serve(drip(start, b" "))
    proxy = proxy_to(service.url, upstream_timeout=0.4, max_credits=PRICE)
    with httpx2.Client(base_url=proxy.url, headers=KEY, trust_env=False, timeout=30) as client:
        if start.endswith(b"X: "):
            assert "in time" in client.post(CREATE, json=GOOD).json()["msg"]
        else:
            with pytest.raises(httpx2.RemoteProtocolError):
                client.post(CREATE, json=GOOD)
        assert client.post(CREATE, json=GOOD).json()["code"] == 402
    assert service.has_ended.wait(10)
    assert "in time" in proxy.calls[0]["hint"]
    assert proxy.bill.lost == PRICE


def test_a_caller_that_leaves_ends_an_endless_response(
    serve: Callable[[Serve], Service], proxy_to: Callable[..., MockServer]
) -> None:
    service = serve(drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 30_000))
    proxy = proxy_to(service.url)
    with (
        httpx2.Client(base_url=proxy.url, headers=KEY, trust_env=False) as client,
        client.stream("GET", CREDIT) as stream,
    ):
        assert next(stream.iter_raw())
    assert service.has_ended.wait(10)


def reset(connection: socket.socket) -> None:
    connection.recv(100)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def no_tls(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def half_a_handshake(connection: socket.socket) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    incoming.write(connection.recv(65536))
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_side=True).do_handshake()
    connection.sendall(outgoing.read()[:200])


def old_tls(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")  # a fatal alert: protocol_version


@pytest.mark.parametrize("behaviour", [lambda connection: connection.recv(9), reset, no_tls, half_a_handshake, old_tls])
def test_a_broken_handshake_is_named_and_costs_nothing(
    behaviour: Serve, serve: Callable[[Serve], Service], proxy_to: Callable[..., MockServer]
) -> None:
    service = serve(behaviour)
    host = service.url.removeprefix("http://")
    proxy = proxy_to(f"https://{host}", max_credits=PRICE)
    with httpx2.Client(base_url=proxy.url, headers=KEY, trust_env=False, timeout=30) as client:
        for _ in range(2):
            response = client.post(CREATE, json=GOOD)
            assert response.status_code == 502
            assert response.json()["msg"].startswith(f"seedbed proxy: the TLS handshake with {host} failed (")
    assert service.has_ended.wait(10)
    assert not proxy.bill
