"""Responses that are sent without a task of the event loop, which nobody can distinguish from the others."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seedbed_mock import MockServer, running
from seedbed_mock.direct_protocol import DirectProtocol
from seedbed_mock.faults.connection import NO_LINGER
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of
from tests.redis_process import RedisProcess
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

CREATE = default_contract().operation
RECORD = job_api().record_info
GOOD = example_of(default_contract().part("request"))
SECONDS = 20


@pytest.fixture(name="server", scope="module", params=["memory", "file", "redis"])
def make_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockServer]:
    db: Path | str | None = None
    if request.param == "file":
        db = tmp_path_factory.mktemp("direct") / "tasks.db"
    elif request.param == "redis":
        db = request.getfixturevalue("redis_server").url()
    with running(rate_limit="off", credits=10**6, clock="manual", db=db) as server:
        yield server
        assert not server.errors


@pytest.fixture(name="cycles")
def count_cycles(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that returns how many requests went the usual way."""
    counted: list[RequestResponseCycle] = []
    usual = RequestResponseCycle.__init__

    def count(cycle: RequestResponseCycle, *arguments: Any, **keywords: Any) -> None:
        counted.append(cycle)
        usual(cycle, *arguments, **keywords)

    monkeypatch.setattr(RequestResponseCycle, "__init__", count)
    return lambda: len(counted)


def post(*lines: str, body: bytes | None = None, key: str = local.KEY) -> bytes:
    body = json.dumps(GOOD).encode() if body is None else body
    return head(CREATE.method, CREATE.path, f"Content-Length: {len(body)}", *lines, key=key) + body


def head(method: str, target: str, *lines: str, key: str = local.KEY) -> bytes:
    start = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {key}"]
    return "\r\n".join([*start, *lines, "", ""]).encode()


BODIES = [json.dumps(GOOD).encode()]
BODIES += [BODIES[0].replace(b'"', b"'", 1), b" " * len(BODIES[0]), b"\r\n\r\n" + b"x" * (len(BODIES[0]) - 4)]
CHUNKED = head(CREATE.method, CREATE.path, "Transfer-Encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (
    len(BODIES[0]),
    BODIES[0],
)
LARGE = post(body=json.dumps({**GOOD, "input": {**GOOD["input"], "prompt": "x" * 20_000}}).encode())


def exchange(server: MockServer, *pieces: bytes, responses: int = 1) -> list[tuple[bytes, bytes]]:
    """Return the head and the body of each response to what is sent in these pieces."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    received, found = b"", list[tuple[bytes, bytes]]()
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces[:-1]:
            connection.sendall(piece)
            # The response on another connection shows that the server has read this piece.
            exchange(server, REQUESTS["a balance"])
        connection.sendall(pieces[-1])
        while len(found) < responses:
            while (match := re.match(rb"(.*?\r\n\r\n)", received, re.DOTALL)) is None:
                received += connection.recv(65536)
            length = re.search(rb"content-length: (\d+)", match[1])
            assert length
            end = match.end() + int(length[1])
            while len(received) < end:
                received += connection.recv(65536)
            found.append((match[1], received[match.end() : end]))
            received = received[end:]
    assert received == b""
    return found


def comparable(response: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """Return a response without the second in which it was sent and the ID of its task."""
    text, body = response
    return re.sub(rb"date: .*?\r\n", b"", text), re.sub(rb'"taskId":"[^"]*"', b"", body)


REQUESTS = {
    "a task": post(),
    "a task without a callback": post(body=json.dumps({k: v for k, v in GOOD.items() if k != "callBackUrl"}).encode()),
    "no JSON": post(body=b"{"),
    "nothing": post(body=b""),
    "an invalid request": post(body=b'{"model": "' + GOOD["model"].encode() + b'"}'),
    "an unknown model": post(body=b'{"model": "none"}'),
    "a wrong key": post(key="wrong"),
    "a fault in a header": post(f"{local.FAULT_HEADER}: 429"),
    "a fault of the task": post(f"{local.FAULT_HEADER}: fail"),
    "a delay": post(f"{local.FAULT_HEADER}: delay:0"),
    "a malformed fault": post(f"{local.FAULT_HEADER}: nonsense"),
    "a page of another origin": post("Origin: https://example.com"),
    "a compressed body": post("Content-Encoding: gzip"),
    "an unknown task": head(RECORD.method, f"{RECORD.path}?{RECORD.query}=none"),
    "no task": head(RECORD.method, RECORD.path),
    "a balance": head("GET", job_api().credit.path),
}


@pytest.mark.parametrize("request_sent", REQUESTS.values(), ids=REQUESTS)
def test_a_response_is_the_same_whichever_way_it_is_sent(
    server: MockServer, request_sent: bytes, cycles: Callable[[], int]
) -> None:
    server.reset()
    before = cycles()
    # The last one goes the usual way, since it comes after many others on one connection.
    found = exchange(server, request_sent * 17, responses=17)
    assert cycles() > before
    assert {comparable(each) for each in found} == {comparable(found[0])}


@pytest.mark.parametrize("name", ["a task", "no JSON", "an unknown model", "a wrong key", "a fault in a header"])
@pytest.mark.parametrize("cut", [1, 40, -1], ids=str)
def test_a_response_is_the_same_when_its_request_arrives_in_pieces(server: MockServer, name: str, cut: int) -> None:
    server.reset()
    (whole,) = exchange(server, REQUESTS[name])
    (later,) = exchange(server, REQUESTS[name][:cut], REQUESTS[name][cut:])
    assert comparable(later) == comparable(whole)


@pytest.mark.parametrize("name", ["a task", "no JSON", "an unknown task", "a balance"])
def test_a_request_that_arrives_whole_needs_no_task_of_the_event_loop(name: str, cycles: Callable[[], int]) -> None:
    with running(rate_limit="off") as server:
        exchange(server, REQUESTS[name])
        before = cycles()
        exchange(server, REQUESTS[name] * 3, responses=3)
        assert cycles() == before


def test_pipelined_requests_of_all_kinds_get_their_responses_in_order(server: MockServer) -> None:
    server.reset()
    kinds = [REQUESTS[name] for name in ("a task", "an unknown task", "a delay", "a balance", "a fault in a header")]
    single = [comparable(exchange(server, each)[0])[0] for each in kinds]
    lengths = [len(exchange(server, each)[0][1]) for each in kinds[1:2]]
    found = exchange(server, b"".join(kinds) * 20, responses=len(kinds) * 20)
    assert [comparable(each)[0] for each in found[1::5]] == single[1:2] * 20
    assert [len(each[1]) for each in found[1::5]] == lengths * 20
    codes = [json.loads(body)["code"] for _, body in found]
    assert codes == codes[:5] * 20
    assert codes[4] == 429
    assert len({json.loads(body)["data"]["taskId"] for _, body in found[0::5]}) == 20


def test_others_have_their_turn_before_a_client_with_many_requests(tmp_path: Path) -> None:
    with running(rate_limit="off", credits=10**6, db=tmp_path / "tasks.db") as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=SECONDS) as greedy:
            greedy.sendall(REQUESTS["a balance"] * 2000)
            assert exchange(server, REQUESTS["a balance"])


# Requests in pieces


def in_pieces(server: MockServer, pieces: Iterable[bytes]) -> tuple[bytes, bytes]:
    """Return the response to a request whose pieces the server reads one after the other."""
    *earlier, last = pieces
    return exchange(server, *earlier, last)[0]


SPLIT = {
    "a head and a body": (post()[: -len(json.dumps(GOOD))], json.dumps(GOOD).encode()),
    "a body in chunks": tuple(CHUNKED[place : place + 150] for place in range(0, len(CHUNKED), 150)),
    "a large body": tuple(LARGE[place : place + 9000] for place in range(0, len(LARGE), 9000)),
}


@pytest.mark.parametrize("name", SPLIT)
def test_a_request_in_pieces_needs_no_task_unless_it_is_large(name: str, cycles: Callable[[], int]) -> None:
    with running(rate_limit="off", clock="manual") as server:
        before = cycles()
        _, body = in_pieces(server, SPLIT[name])
        assert cycles() == before + (name == "a large body")
        assert json.loads(body)["code"] == (422 if name == "a large body" else 200)


def test_a_request_that_has_begun_gets_its_response_before_the_server_stops() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(running(rate_limit="off"))
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
            connection.sendall(post()[:-5])
            exchange(server, REQUESTS["a balance"])
            stopping = threading.Thread(target=stack.close)
            stopping.start()
            with suppress(OSError):
                while True:  # until the server takes no further connection
                    socket.create_connection((host, int(port)), timeout=SECONDS).close()
            line, body = one_response(connection, post()[-5:])
        stopping.join(SECONDS)
    assert json.loads(body)["code"] == 200
    assert b"connection: close" in line


# Heads that come again


def converse(server: MockServer, pieces: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """Return the responses to requests on one connection, each of which is sent when the one before is answered."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return [one_response(connection, piece) for piece in pieces]


def one_response(connection: socket.socket, request: bytes) -> tuple[bytes, bytes]:
    connection.sendall(request)
    received = b""
    while (match := re.match(rb"(.*?\r\n\r\n)", received, re.DOTALL)) is None:
        received += connection.recv(65536)
    length = re.search(rb"content-length: (\d+)", match[1])
    assert length
    while len(received) < match.end() + int(length[1]):
        received += connection.recv(65536)
    assert len(received) == match.end() + int(length[1])
    return match[1], received[match.end() :]


@pytest.fixture(name="parsed")
def count_parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that returns how often the server has parsed something."""
    pieces: list[bytes] = []
    usual = DirectProtocol._parse

    def parse(protocol: DirectProtocol, data: bytes) -> None:
        pieces.append(data)
        usual(protocol, data)

    monkeypatch.setattr(DirectProtocol, "_parse", parse)
    return lambda: len(pieces)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_head_is_parsed_once_if_it_comes_again(name: str, parsed: Callable[[], int]) -> None:
    with running(rate_limit="off", credits=10**6, clock="manual") as server:
        before = parsed()
        found = converse(server, [REQUESTS[name]] * 4)
        assert parsed() == before + 1
        assert {comparable(each) for each in found} == {comparable(found[0])}


CONVERSED = [
    *REQUESTS.values(),
    *[post(body=body) for body in BODIES],
    post(body=BODIES[0][:-1]),
    CHUNKED,
    b"\r\n" + post(),
    post().replace(b"Host", b"hOST"),
    head("GET", "/unknown"),
    head("GET", "/__seedbed/health"),
]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.integers(0, len(CONVERSED) - 1), min_size=2, max_size=12))
def test_responses_on_one_connection_are_those_on_fresh_ones(server: MockServer, places: list[int]) -> None:
    server.reset()
    found = converse(server, [CONVERSED[place] for place in places])
    fresh = [converse(server, [CONVERSED[place]])[0] for place in places]
    for ours, theirs in zip(found, fresh, strict=True):
        assert varying(ours) == varying(theirs)


def varying(response: tuple[bytes, bytes]) -> tuple[bytes, int]:
    """Return what does not vary with the number of requests before."""
    text, body = comparable(response)
    return re.sub(rb"content-length: \d+\r\n", b"", text), json.loads(body).get("code", 0)


@pytest.mark.parametrize("more", [b"\r\n", post()[:1], post()[:40], post()[:-1]], ids=["line", "1", "40", "all but 1"])
def test_what_follows_a_known_head_is_not_lost(server: MockServer, more: bytes) -> None:
    server.reset()
    known, rest = post(), post()[len(more) :] if more != b"\r\n" else post()
    found = exchange(server, known, known, known + more, rest, responses=4)
    assert [json.loads(body)["code"] for _, body in found] == [200] * 4
    assert len({json.loads(body)["data"]["taskId"] for _, body in found}) == 4


@pytest.mark.parametrize("piece", range(3))
def test_the_rest_of_another_request_is_no_part_of_a_head(server: MockServer, piece: int) -> None:
    server.reset()
    # The second piece has the end of one request and all of the next one. Alone, it is no request.
    split = len(post()) - 1 - piece
    second = post()[split:] + post()
    found = exchange(server, post()[:split], second, responses=2)
    assert [json.loads(body)["code"] for _, body in found] == [200, 200]
    found = exchange(server, post()[:split], second, second, responses=3)
    assert [line.split(b" ")[1] for line, _ in found] == [b"200", b"200", b"400"]


def test_a_known_head_gives_no_old_response() -> None:
    with running(rate_limit="off", credits=10, clock="manual") as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
            codes = [json.loads(one_response(connection, post())[1])["code"] for _ in range(2)]
            server.reset()
            codes.append(json.loads(one_response(connection, post())[1])["code"])
            server.add_faults("503")
            codes.append(json.loads(one_response(connection, post())[1])["code"])
        assert codes == [200, 402, 200, 503]


# A store that takes its time


def test_a_response_that_waits_for_the_store_needs_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[RequestResponseCycle] = []
    usual = DirectProtocol._start_asgi_task

    def start(protocol: DirectProtocol, cycle: RequestResponseCycle, app: Any) -> None:
        started.append(cycle)
        usual(protocol, cycle, app)

    monkeypatch.setattr(DirectProtocol, "_start_asgi_task", start)
    with running(rate_limit="off", credits=10**6, db=tmp_path / "tasks.db") as server:
        converse(server, [post()] * 3)
        before = len(started)
        found = converse(server, [post()] * 3)
        found += exchange(server, post() * 5, responses=5)
        assert len(started) <= before + 5
        assert len({json.loads(body)["data"]["taskId"] for _, body in found}) == 8


def test_a_client_that_leaves_while_the_store_is_busy_harms_nobody(tmp_path: Path) -> None:
    with running(rate_limit="off", credits=10**6, db=tmp_path / "tasks.db") as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        for _ in range(50):
            with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                connection.sendall(post() * 3)
        assert json.loads(converse(server, [post()])[0][1])["code"] == 200
        assert not server.errors


def test_scripts_that_redis_has_forgotten_are_loaded_again(redis_server: RedisProcess) -> None:
    with running(rate_limit="off", credits=10**6, db=redis_server.url("forgetful")) as server:
        converse(server, [post()])
        with redis.Redis.from_url(redis_server.url().partition("?")[0]) as client:
            client.script_flush()
        found = converse(server, [post()] * 3)
        assert [json.loads(body)["code"] for _, body in found] == [200] * 3
        assert not server.errors
