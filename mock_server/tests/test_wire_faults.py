"""Faults of the connection, as different clients see them on real sockets."""

import asyncio
import contextlib
import gc
import shutil
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import httpx2
import pytest
import requests
from seedbed_mock import create_app
from seedbed_mock import server as server_module
from seedbed_mock.clock import ManualClock
from seedbed_mock.faults.connection import (
    BrokenConnectionError,
    ClientConnection,
    CloseAfterHeaders,
    CloseWithoutResponse,
    ConnectionEffect,
    HangingResponse,
    ResetConnection,
    TrickledResponse,
    TruncatedResponse,
    sleep_by_clock,
    sleep_or_disconnect,
)
from seedbed_mock.request_body import read_body
from seedbed_mock.responses import ApiResponse
from seedbed_mock.sockets import listen, url_of
from seedbed_mock.swappable import SwappableApp
from seedbed_schemas import job_api
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

pytestmark = pytest.mark.slow

BODY = b'{"code":200,"msg":"success"}'
LONG = b"x" * 8_000_000
OK = b"HTTP/1.1 200 OK\r\n"
HEALTHY = job_api().credit.path
LOOPS = ["asyncio"] if sys.platform == "win32" else ["asyncio", "uvloop"]
MANY = 1000
SHORT_SECONDS = 0.2
LONG_SECONDS = 20.0


class DelayedResponse:
    """Waits and then responds, or records that the client closed the connection."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.disconnects: list[bool] = []

    async def send(self, response: Response, connection: ClientConnection) -> None:
        self.disconnects.append(await sleep_or_disconnect(self.seconds, connection.receive))
        if not self.disconnects[-1]:
            await response(connection.scope, connection.receive, connection.send)


EFFECTS: dict[str, ConnectionEffect | DelayedResponse] = {
    "reset-before": ResetConnection(),
    "reset-middle": ResetConnection(at="middle"),
    "close-after-headers": CloseAfterHeaders(),
    "cut-short": TruncatedResponse(),
    "trickle": TrickledResponse(seconds=0.01),
    "hang": HangingResponse(),
    "close-without-response": CloseWithoutResponse(),
    "trickle-for-hours": TrickledResponse(seconds=3600),
    "short-delay": DelayedResponse(0.01),
    "delay-for-hours": DelayedResponse(3600),
}
LASTING = ["hang", "trickle-for-hours", "delay-for-hours"]


async def respond_with_fault(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the effect that the path names, and with a long body if the query is ``long``."""
    await read_body(receive)
    response = ApiResponse(200, "done", LONG if scope["query_string"] == b"long" else BODY, 200)
    await EFFECTS[scope["path"].rpartition("/")[2]].send(response, ClientConnection.of(scope, receive, send))


@dataclass
class FaultyApp(SwappableApp):
    """A mock server with additional paths whose responses have faults."""

    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        super().__init__(create_app())
        # Other servers of the process may still have connections, which may end meanwhile.
        self._others = weakref.WeakSet(all_requests())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith("/faulty/"):
            await super().__call__(scope, receive, send)
            return
        self.started.release()
        try:
            await respond_with_fault(scope, receive, send)
        finally:
            self.ended.release()

    def requests_in_memory(self) -> int:
        """Return the number of requests to this server in memory, past ones included."""

        async def count() -> int:
            return sum(each not in self._others for each in all_requests())

        assert self._loop
        return asyncio.run_coroutine_threadsafe(count(), self._loop).result()


def all_requests() -> list[RequestResponseCycle]:
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, RequestResponseCycle)]


@dataclass
class FaultyServer:
    """A running server with faulty responses."""

    url: str
    address: tuple[str, int]
    stage: FaultyApp
    server: server_module._UvicornServer
    thread: threading.Thread

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=LONG_SECONDS)

    def wait(self, times: int, semaphore: threading.Semaphore) -> None:
        assert all(semaphore.acquire(timeout=LONG_SECONDS) for _ in range(times))


@contextlib.contextmanager
def run_faulty_server(loop: Any = LOOPS[-1]) -> Iterator[FaultyServer]:
    stage, ready = FaultyApp(), threading.Event()

    async def on_ready() -> None:
        ready.set()

    with listen("127.0.0.1", 0) as listener:
        server = server_module._UvicornServer(stage, on_ready)
        server.config.loop = loop
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        assert ready.wait(LONG_SECONDS)
        address = listener.getsockname()
        faulty = FaultyServer(url_of(listener), address, stage, server, thread)
        try:
            yield faulty
        finally:
            faulty.stop()


@pytest.fixture(scope="module", name="faulty", params=LOOPS)
def start_server(request: pytest.FixtureRequest) -> Iterator[FaultyServer]:
    with run_faulty_server(request.param) as faulty:
        yield faulty


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level("WARNING", "uvicorn.error")
    yield
    assert caplog.get_records("call") == []


# What clients see.


def with_httpx2(url: str, seconds: float) -> str:
    try:
        return httpx2.post(url, content=b"{}", timeout=seconds, trust_env=False).text
    except httpx2.HTTPError as error:
        return type(error).__name__


def with_requests(url: str, seconds: float) -> str:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.post(url, data=b"{}", timeout=seconds).text
        except requests.RequestException as error:
            return type(error).__name__


def with_aiohttp(url: str, seconds: float) -> str:
    return asyncio.run(post_with_aiohttp(url, seconds))


async def post_with_aiohttp(url: str, seconds: float) -> str:
    limit = aiohttp.ClientTimeout(sock_read=seconds)
    try:
        async with aiohttp.ClientSession(timeout=limit) as session, session.post(url, data=b"{}") as response:
            return await response.text()
    except aiohttp.ClientError as error:
        return type(error).__name__


def with_curl(url: str, seconds: float) -> str:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    command = ["curl", "-q", "-s", "--noproxy", "*", "--max-time", str(seconds), "-d", "{}", url]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout if result.returncode == 0 else f"curl {result.returncode}"


WHOLE = BODY.decode()
SEEN = {
    "reset-before": ("ReadError", "ConnectionError", "ClientOSError", "curl 56"),
    "reset-middle": ("ReadError", "ChunkedEncodingError", "ClientPayloadError", "curl 56"),
    "close-after-headers": ("RemoteProtocolError", "ChunkedEncodingError", "ClientPayloadError", "curl 18"),
    "cut-short": ("RemoteProtocolError", "ChunkedEncodingError", "ClientPayloadError", "curl 18"),
    "trickle": (WHOLE, WHOLE, WHOLE, WHOLE),
    "hang": ("ReadTimeout", "ReadTimeout", "SocketTimeoutError", "curl 28"),
    "close-without-response": ("RemoteProtocolError", "ConnectionError", "ServerDisconnectedError", "curl 52"),
}
CLIENTS = (with_httpx2, with_requests, with_aiohttp, with_curl)


@pytest.mark.parametrize(
    ("effect", "client", "outcome"),
    [(effect, *pair) for effect, outcomes in SEEN.items() for pair in zip(CLIENTS, outcomes, strict=True)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_every_client_raises_the_error_of_the_imitated_failure(
    faulty: FaultyServer, effect: str, client: Callable[[str, float], str], outcome: str
) -> None:
    seconds = SHORT_SECONDS if effect == "hang" else LONG_SECONDS
    assert client(f"{faulty.url}/faulty/{effect}", seconds) == outcome


def test_only_a_limit_of_the_whole_call_ends_a_trickle(faulty: FaultyServer) -> None:
    url = f"{faulty.url}/faulty/trickle"
    assert with_httpx2(url, seconds=SHORT_SECONDS) == WHOLE
    assert with_curl(url, seconds=SHORT_SECONDS) == "curl 28"


# What is sent on the connection.


def request_for(path: str, *, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()


def faulty_request(effect: str) -> bytes:
    return request_for(f"/faulty/{effect}")


def healthy_request() -> bytes:
    return request_for(HEALTHY, method="GET")


def is_answered(connection: socket.socket) -> bool:
    response = b""
    connection.sendall(healthy_request())
    while not response.endswith(b"}"):
        response += connection.recv(65536)
    return response.startswith(OK)


def read_all(connection: socket.socket) -> tuple[list[bytes], str]:
    """Return the received chunks, and how the connection ends."""
    chunks: list[bytes] = []
    try:
        while chunk := connection.recv(65536):
            chunks.append(chunk)
    except ConnectionResetError:
        return chunks, "RST"
    return chunks, "FIN"


@pytest.mark.parametrize(
    ("effect", "start", "body", "end"),
    [
        ("reset-before", b"", b"", "RST"),
        ("reset-middle", OK, BODY[: len(BODY) // 2], "RST"),
        ("close-after-headers", OK, b"", "FIN"),
        ("cut-short", OK, BODY[: len(BODY) // 2], "FIN"),
        ("close-without-response", b"", b"", "FIN"),
    ],
)
@pytest.mark.parametrize("behind", [b"", healthy_request()], ids=["single", "pipelined"])
def test_a_part_arrives_and_then_the_connection_ends(  # noqa: PLR0917 (a row of the table)
    faulty: FaultyServer, effect: str, start: bytes, body: bytes, end: str, behind: bytes
) -> None:
    with faulty.connect() as connection:
        connection.sendall(faulty_request(effect) + behind)
        chunks, seen = read_all(connection)
    head, _, content = b"".join(chunks).partition(b"\r\n\r\n")
    assert (head[: len(OK)], content, seen) == (start, body, end)
    assert not head or f"content-length: {len(BODY)}".encode() in head


@pytest.mark.parametrize("effect", ["reset-middle", "cut-short"])
def test_half_of_a_body_larger_than_all_buffers_arrives(faulty: FaultyServer, effect: str) -> None:
    with faulty.connect() as connection:
        connection.sendall(faulty_request(f"{effect}?long"))
        arrived = b"".join(read_all(connection)[0])
    # A reset drops what is still in transit.
    least = len(LONG) // 2 if effect == "cut-short" else 100_000
    assert least <= len(arrived.partition(b"\r\n\r\n")[2]) <= len(LONG) // 2


def test_a_trickle_arrives_in_small_pieces_before_pipelined_responses(faulty: FaultyServer) -> None:
    with faulty.connect() as connection:
        connection.sendall(faulty_request("trickle") + faulty_request("short-delay") + faulty_request("cut-short"))
        chunks, _ = read_all(connection)
    assert b"".join(chunks).count(BODY) == 2
    assert sum(len(chunk) < 5 for chunk in chunks) > 5


@pytest.mark.parametrize("effect", [name for name in EFFECTS if name not in LASTING])
def test_other_connections_are_not_affected(faulty: FaultyServer, effect: str) -> None:
    with faulty.connect() as kept:
        for _ in range(2):
            with faulty.connect() as broken:
                broken.sendall(faulty_request(effect) + faulty_request("close-without-response"))
                assert is_answered(kept)
                read_all(broken)


# Clients that disconnect, and many clients at once.


@pytest.fixture(name="fresh", params=LOOPS)
def start_fresh_server(request: pytest.FixtureRequest) -> Iterator[FaultyServer]:
    with run_faulty_server(request.param) as faulty:
        yield faulty


@pytest.mark.parametrize(
    ("effect", "behind"),
    [*((effect, behind) for effect in LASTING for behind in (0, 1)), ("hang", 40)],
)
def test_a_wait_ends_when_the_client_disconnects_and_leaks_nothing(
    fresh: FaultyServer, effect: str, behind: int
) -> None:
    with fresh.connect() as connection:
        connection.sendall(faulty_request(effect) + healthy_request() * min(behind, 1))
        fresh.wait(1, fresh.stage.started)
        for _ in range(behind - 1):
            connection.sendall(healthy_request())
    fresh.wait(1, fresh.stage.ended)
    assert fresh.stage.requests_in_memory() == 0


@pytest.mark.parametrize(("effect", "disconnects"), [("short-delay", [False]), ("delay-for-hours", [True])])
def test_a_wait_returns_whether_the_client_disconnected(
    fresh: FaultyServer, effect: str, disconnects: list[bool]
) -> None:
    late = EFFECTS[effect]
    assert isinstance(late, DelayedResponse)
    late.disconnects.clear()
    with fresh.connect() as connection:
        connection.sendall(faulty_request(effect))
        fresh.wait(1, fresh.stage.started)
        assert disconnects == [True] or connection.recv(65536)
    fresh.wait(1, fresh.stage.ended)
    assert late.disconnects == disconnects


@pytest.fixture(name="thousand")
def connect_a_thousand(fresh: FaultyServer) -> Iterator[list[socket.socket]]:
    resource = pytest.importorskip("resource", reason="this system has no limit of open files")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * MANY + 500
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"this system allows {hard} open files, and {needed} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(fresh.connect()) for _ in range(MANY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("effect", LASTING)
def test_a_thousand_waiting_clients_block_nobody_and_leak_nothing(
    fresh: FaultyServer, thousand: list[socket.socket], effect: str
) -> None:
    hold(fresh, thousand, effect)
    with fresh.connect() as connection:
        connection.settimeout(1)
        assert is_answered(connection)
    for each in thousand:
        each.close()
    fresh.wait(MANY, fresh.stage.ended)
    assert fresh.stage.requests_in_memory() == 0
    assert fresh.server.server_state.connections == set()


@pytest.mark.parametrize("effect", LASTING)
def test_a_server_stops_promptly_with_a_thousand_waiting_clients(
    fresh: FaultyServer, thousand: list[socket.socket], effect: str
) -> None:
    hold(fresh, thousand, effect)
    began = time.monotonic()
    fresh.stop()
    assert time.monotonic() - began < 3
    assert effect != "hang" or {each.recv(1) for each in thousand} == {b""}


def hold(faulty: FaultyServer, connections: list[socket.socket], effect: str) -> None:
    for each in connections:
        each.sendall(faulty_request(effect))
    faulty.wait(len(connections), faulty.stage.started)


# Without a connection.


def call_in_process(effect: str, seconds: float = LONG_SECONDS) -> httpx2.Response:
    async def call() -> httpx2.Response:
        transport = httpx2.ASGITransport(respond_with_fault)
        async with httpx2.AsyncClient(transport=transport) as client, asyncio.timeout(seconds):
            return await client.post(f"http://testserver/faulty/{effect}", content=b"{}")

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        ("reset-before", "reset"),
        ("reset-middle", "reset"),
        ("close-after-headers", "closed"),
        ("cut-short", "closed"),
        ("close-without-response", "closed"),
    ],
)
def test_an_in_process_client_gets_an_error_for_a_broken_connection(effect: str, words: str) -> None:
    with pytest.raises(BrokenConnectionError, match=f"the connection was {words}"):
        call_in_process(effect)


def test_an_in_process_client_gets_the_whole_trickle() -> None:
    assert call_in_process("trickle").content == BODY


def test_an_in_process_client_waits_for_a_hang_until_it_gives_up() -> None:
    with pytest.raises(TimeoutError):
        call_in_process("hang", seconds=SHORT_SECONDS)


def test_a_clock_that_is_advanced_when_the_client_has_just_gone_is_no_error() -> None:
    problems: list[dict[str, Any]] = []

    async def advance_and_go() -> bool:
        clock, gone = ManualClock(), asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        sleep = asyncio.create_task(sleep_by_clock(clock, 60, receive))
        await asyncio.sleep(0)
        gone.set()
        clock.advance(1)
        has_gone = await sleep
        await asyncio.sleep(0)
        return has_gone

    assert asyncio.run(advance_and_go())
    assert problems == []
