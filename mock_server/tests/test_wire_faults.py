"""Answers that the network spoils, as clients of many kinds see them on real sockets."""

import asyncio
import contextlib
import gc
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import httpx2
import pytest
import requests
from seedbed_mock import create_app
from seedbed_mock import server as server_module
from seedbed_mock.app import SwappableApp
from seedbed_mock.asgi import read_body
from seedbed_mock.faults.connection import (
    BrokenConnectionError,
    ClientConnection,
    CloseAfterHeaders,
    ConnectionEffect,
    HangingResponse,
    ResetConnection,
    TrickledResponse,
    TruncatedResponse,
    UnrequestedResponse,
    sleep_until_left,
)
from seedbed_mock.responses import ApiResponse
from seedbed_schemas import job_api
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

BODY = b'{"code":200,"msg":"success"}'
LONG = b"x" * 8_000_000
OK = b"HTTP/1.1 200 OK\r\n"
WELL = job_api().credit.path
LOOPS = ["asyncio"] if sys.platform == "win32" else ["asyncio", "uvloop"]
MANY = 1000
SHORT_SECONDS = 0.2
LONG_SECONDS = 20.0


class Late:
    """Waits and then answers well, or notes that the client left; what an effect of another kind would do."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.left: list[bool] = []

    async def send(self, answer: Response, wire: ClientConnection) -> None:
        self.left.append(await sleep_until_left(self.seconds, wire.receive))
        if not self.left[-1]:
            await answer(wire.scope, wire.receive, wire.send)


EFFECTS: dict[str, ConnectionEffect | Late] = {
    "reset-before": ResetConnection(),
    "reset-middle": ResetConnection(at="middle"),
    "close-after-headers": CloseAfterHeaders(),
    "cut-short": TruncatedResponse(),
    "trickle": TrickledResponse(seconds=0.01),
    "hang": HangingResponse(),
    "answer-to-nothing": UnrequestedResponse(),
    "trickle-for-hours": TrickledResponse(seconds=3600),
    "late-a-little": Late(0.01),
    "late-for-hours": Late(3600),
}
LASTING = ["hang", "trickle-for-hours", "late-for-hours"]


async def spoil(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as the last part of the path says, with as long a body as the query says."""
    await read_body(receive)
    answer = ApiResponse(200, "done", LONG if scope["query_string"] == b"long" else BODY, 200)
    await EFFECTS[scope["path"].rpartition("/")[2]].send(answer, ClientConnection.of(scope, receive, send))


@dataclass
class SpoilingStage(SwappableApp):
    """A fake that answers well, beside paths where answers are spoilt."""

    began: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ended: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        super().__init__(create_app())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith("/spoilt/"):
            await super().__call__(scope, receive, send)
            return
        self.began.release()
        try:
            await spoil(scope, receive, send)
        finally:
            self.ended.release()

    def census(self) -> int:
        """Return how many requests are in memory, those of the past included."""
        assert self._loop
        return asyncio.run_coroutine_threadsafe(count_requests(), self._loop).result()


async def count_requests() -> int:
    gc.collect()
    return sum(isinstance(each, RequestResponseCycle) for each in gc.get_objects())


@dataclass
class Spoiler:
    """A server that runs."""

    url: str
    address: tuple[str, int]
    stage: SpoilingStage
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
def spoiling(loop: Any = LOOPS[-1]) -> Iterator[Spoiler]:
    stage, ready = SpoilingStage(), threading.Event()
    with server_module.listen("127.0.0.1", 0) as listener:
        server = server_module._UvicornServer(stage, ready.set)
        server.config.loop = loop
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        assert ready.wait(LONG_SECONDS)
        address = listener.getsockname()
        spoiler = Spoiler(server_module.url_of(listener), address, stage, server, thread)
        try:
            yield spoiler
        finally:
            spoiler.stop()


@pytest.fixture(scope="module", name="spoiler", params=LOOPS)
def start_spoiler(request: pytest.FixtureRequest) -> Iterator[Spoiler]:
    with spoiling(request.param) as spoiler:
        yield spoiler


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level("WARNING", "uvicorn.error")
    yield
    assert caplog.get_records("call") == []


# What clients make of it.


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
        pytest.skip("there is no curl on this machine")
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
    "answer-to-nothing": ("RemoteProtocolError", "ConnectionError", "ServerDisconnectedError", "curl 52"),
}
CLIENTS = (with_httpx2, with_requests, with_aiohttp, with_curl)


@pytest.mark.parametrize(
    ("effect", "client", "outcome"),
    [(effect, *pair) for effect, outcomes in SEEN.items() for pair in zip(CLIENTS, outcomes, strict=True)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_every_client_sees_the_effect_as_what_it_imitates(
    spoiler: Spoiler, effect: str, client: Callable[[str, float], str], outcome: str
) -> None:
    seconds = SHORT_SECONDS if effect == "hang" else LONG_SECONDS
    assert client(f"{spoiler.url}/spoilt/{effect}", seconds) == outcome


def test_of_a_trickle_only_a_limit_of_the_whole_call_tires(spoiler: Spoiler) -> None:
    url = f"{spoiler.url}/spoilt/trickle"
    assert with_httpx2(url, seconds=SHORT_SECONDS) == WHOLE
    assert with_curl(url, seconds=SHORT_SECONDS) == "curl 28"


# What passes on the wire.


def request_for(path: str, *, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()


def spoilt(effect: str) -> bytes:
    return request_for(f"/spoilt/{effect}")


def well() -> bytes:
    return request_for(WELL, method="GET")


def is_answered_well(connection: socket.socket) -> bool:
    answer = b""
    connection.sendall(well())
    while not answer.endswith(b"}"):
        answer += connection.recv(65536)
    return answer.startswith(OK)


def all_of(connection: socket.socket) -> tuple[list[bytes], str]:
    """Return what arrives, as it arrives, and how the connection ends."""
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
        ("answer-to-nothing", b"", b"", "FIN"),
    ],
)
@pytest.mark.parametrize("behind", [b"", well()], ids=["alone", "with-another-behind-it"])
def test_so_much_arrives_and_then_the_connection_ends(  # noqa: PLR0917 (a row of the table)
    spoiler: Spoiler, effect: str, start: bytes, body: bytes, end: str, behind: bytes
) -> None:
    with spoiler.connect() as connection:
        connection.sendall(spoilt(effect) + behind)
        chunks, seen = all_of(connection)
    head, _, content = b"".join(chunks).partition(b"\r\n\r\n")
    assert (head[: len(OK)], content, seen) == (start, body, end)
    assert not head or f"content-length: {len(BODY)}".encode() in head


@pytest.mark.parametrize("effect", ["reset-middle", "cut-short"])
def test_half_of_a_body_larger_than_all_buffers_arrives(spoiler: Spoiler, effect: str) -> None:
    with spoiler.connect() as connection:
        connection.sendall(spoilt(f"{effect}?long"))
        arrived = b"".join(all_of(connection)[0])
    # A reset drops what is still on its way.
    least = len(LONG) // 2 if effect == "cut-short" else 100_000
    assert least <= len(arrived.partition(b"\r\n\r\n")[2]) <= len(LONG) // 2


def test_a_trickle_comes_in_small_pieces_and_what_is_behind_it_after_it(spoiler: Spoiler) -> None:
    with spoiler.connect() as connection:
        connection.sendall(spoilt("trickle") + spoilt("late-a-little") + spoilt("cut-short"))
        chunks, _ = all_of(connection)
    assert b"".join(chunks).count(BODY) == 2
    assert sum(len(chunk) < 5 for chunk in chunks) > 5


@pytest.mark.parametrize("effect", [name for name in EFFECTS if name not in LASTING])
def test_other_connections_are_undisturbed(spoiler: Spoiler, effect: str) -> None:
    with spoiler.connect() as kept:
        for _ in range(2):
            with spoiler.connect() as broken:
                broken.sendall(spoilt(effect) + spoilt("answer-to-nothing"))
                assert is_answered_well(kept)
                all_of(broken)


# Those who leave, and those who stay.


@pytest.fixture(name="fresh", params=LOOPS)
def start_fresh_spoiler(request: pytest.FixtureRequest) -> Iterator[Spoiler]:
    with spoiling(request.param) as spoiler:
        yield spoiler


@pytest.mark.parametrize(
    ("effect", "behind"),
    [*((effect, behind) for effect in LASTING for behind in (0, 1)), ("hang", 40)],
)
def test_a_wait_ends_when_the_client_leaves_and_nothing_of_it_is_kept(fresh: Spoiler, effect: str, behind: int) -> None:
    with fresh.connect() as connection:
        connection.sendall(spoilt(effect) + well() * min(behind, 1))
        fresh.wait(1, fresh.stage.began)
        for _ in range(behind - 1):
            connection.sendall(well())
    fresh.wait(1, fresh.stage.ended)
    assert fresh.stage.census() == 0


@pytest.mark.parametrize(("effect", "left"), [("late-a-little", [False]), ("late-for-hours", [True])])
def test_a_wait_tells_whether_the_client_left(fresh: Spoiler, effect: str, left: list[bool]) -> None:
    late = EFFECTS[effect]
    assert isinstance(late, Late)
    late.left.clear()
    with fresh.connect() as connection:
        connection.sendall(spoilt(effect))
        fresh.wait(1, fresh.stage.began)
        assert left == [True] or connection.recv(65536)
    fresh.wait(1, fresh.stage.ended)
    assert late.left == left


@pytest.fixture(name="thousand")
def connect_a_thousand(fresh: Spoiler) -> Iterator[list[socket.socket]]:
    resource = pytest.importorskip("resource", reason="this system says nothing of how many files may be open")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * MANY + 500
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"this system allows {hard} open files, and {needed} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(fresh.connect()) for _ in range(MANY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("effect", LASTING)
def test_a_thousand_that_wait_hold_nobody_up_and_leave_nothing(
    fresh: Spoiler, thousand: list[socket.socket], effect: str
) -> None:
    hold(fresh, thousand, effect)
    with fresh.connect() as connection:
        connection.settimeout(1)
        assert is_answered_well(connection)
    for each in thousand:
        each.close()
    fresh.wait(MANY, fresh.stage.ended)
    assert fresh.stage.census() == 0
    assert fresh.server.server_state.connections == set()


@pytest.mark.parametrize("effect", LASTING)
def test_a_server_stops_promptly_while_a_thousand_wait(
    fresh: Spoiler, thousand: list[socket.socket], effect: str
) -> None:
    hold(fresh, thousand, effect)
    began = time.monotonic()
    fresh.stop()
    assert time.monotonic() - began < 3
    assert effect != "hang" or {each.recv(1) for each in thousand} == {b""}


def hold(spoiler: Spoiler, connections: list[socket.socket], effect: str) -> None:
    for each in connections:
        each.sendall(spoilt(effect))
    spoiler.wait(len(connections), spoiler.stage.began)


# Where there is no connection.


def ask_in_process(effect: str, seconds: float = LONG_SECONDS) -> httpx2.Response:
    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(spoil)
        async with httpx2.AsyncClient(transport=transport) as client, asyncio.timeout(seconds):
            return await client.post(f"http://testserver/spoilt/{effect}", content=b"{}")

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        ("reset-before", "reset"),
        ("reset-middle", "reset"),
        ("close-after-headers", "closed"),
        ("cut-short", "closed"),
        ("answer-to-nothing", "closed"),
    ],
)
def test_in_process_an_error_stands_for_the_broken_connection(effect: str, words: str) -> None:
    with pytest.raises(BrokenConnectionError, match=f"the connection was {words}"):
        ask_in_process(effect)


def test_in_process_a_trickle_arrives_whole() -> None:
    assert ask_in_process("trickle").content == BODY


def test_in_process_a_hang_lasts_until_the_client_gives_up() -> None:
    with pytest.raises(TimeoutError):
        ask_in_process("hang", seconds=SHORT_SECONDS)
