"""Limits of a connection: what a client may send, how slowly it may send and read, and what it gets for more."""

import contextlib
import gc
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from seedbed_mock import MockServer, running
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

CREATE = default_contract().operation.path
CREDIT = job_api().credit.path
# Its response is far larger than any other, so that a client which reads nothing soon stops the server.
SCHEMA = job_api().model_schema.path.replace("{model}", default_contract().model)
BODY = json.dumps(example_of(default_contract().part("request"))).encode()
SECONDS = 20


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running(rate_limit="off", credits=10**6) as server:
        yield server
        assert not server.errors


@pytest.fixture(scope="module", name="hasty")
def make_hasty_server() -> Iterator[MockServer]:
    with running(rate_limit="off", header_timeout=0.2, request_timeout=0.3, keep_alive=0.2) as server:
        yield server
        assert not server.errors


def connect(server: MockServer) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def head(server: MockServer, *lines: str, start: str = f"POST {CREATE} HTTP/1.1") -> bytes:
    host = server.url.removeprefix("http://")
    return "\r\n".join([start, f"Host: {host}", f"Authorization: Bearer {server.key}", *lines, "", ""]).encode()


def read_all(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def refusal(received: bytes) -> tuple[int, str]:
    """Return the HTTP status and the message of the only response, after a check of its envelope."""
    lines, _, body = received.partition(b"\r\n\r\n")
    assert lines.startswith(b"HTTP/1.1 "), received
    assert b"content-type: application/json" in lines.lower()
    assert b"connection: close" in lines.lower()
    envelope = json.loads(body)
    assert (envelope["code"], envelope["data"]) == (422, None)
    return int(lines.split()[1]), envelope["msg"]


def last_entry(server: MockServer) -> dict[str, Any]:
    entry: dict[str, Any] = server.control("GET", "journal", limit=1)["entries"][0]
    return entry


@pytest.mark.parametrize(
    ("sent", "status", "problem"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "not valid HTTP/1.1"),
        (b"GET\r\n\r\n", 400, "not valid HTTP/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "not valid HTTP/1.1"),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400, "not valid HTTP/1.1"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", 400, "not valid HTTP/1.1"),
        (b"GET /" + b"x" * 64_000 + b" HTTP/1.1\r\n", 431, "headers are larger than 65536 bytes"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "not valid HTTP/1.1"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "not valid HTTP/1.1"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "not valid HTTP/1.1"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n", 400, "not valid HTTP/1.1"),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n", 501, "not a proxy"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 257 + b"\r\n", 431, "more than 256 headers"),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 100_000, 431, "headers are larger than 65536 bytes"),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100_000, 431, "more than 256 headers|headers are larger"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else None,
)
def test_the_protocol_refuses_in_the_envelope_and_the_journal_records_it(
    server: MockServer, sent: bytes, status: int, problem: str
) -> None:
    with connect(server) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(sent + b"x" * (70_000 if status == 431 else 0))
        found, message = refusal(read_all(connection))
    assert found == status
    assert any(part in message for part in problem.split("|"))
    entry = last_entry(server)
    assert (entry["operation"], entry["status"], entry["answer"]["msg"]) == ("unmatched", status, message)


def test_a_refusal_follows_the_responses_to_earlier_requests(server: MockServer) -> None:
    with connect(server) as connection:
        connection.sendall(head(server, start=f"GET {CREDIT} HTTP/1.1") * 3 + b"nonsense\r\n\r\n")
        received = read_all(connection)
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert refusal(received[received.index(b"HTTP/1.1 400") :])[0] == 400
    assert last_entry(server)["method"] == ""


def test_a_large_head_within_the_limits_is_accepted(server: MockServer) -> None:
    lines = [f"A{number}: {'b' * 600}" for number in range(90)]
    with connect(server) as connection:
        connection.sendall(head(server, *lines, "Connection: close", start=f"GET {CREDIT} HTTP/1.1"))
        assert read_all(connection).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ((b"GET / HT",), "the headers were not complete after 0.2 seconds"),
        ((b"GET / HTTP/1.1\r\n", b"A: b\r\n"), "the headers were not complete after 0.2 seconds"),
        (
            (f"POST {CREATE} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode(), b"1\r\nx\r\n"),
            "the body was not complete after 0.3 seconds",
        ),
    ],
    ids=["request line", "headers", "chunks"],
)
def test_a_request_that_stays_incomplete_is_refused(hasty: MockServer, parts: tuple[bytes, ...], problem: str) -> None:
    with connect(hasty) as connection:
        for part in parts:
            connection.sendall(part)
        received = read_all(connection)
    assert refusal(received) == (408, f"Validation failed: {problem}.")
    assert last_entry(hasty)["status"] == 408


def test_a_body_that_goes_on_after_the_response_is_cut_off(hasty: MockServer) -> None:
    with connect(hasty) as connection:
        # The control API refuses this Host before it reads the body.
        connection.sendall(b"POST /__seedbed/reset HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1000000\r\n\r\n")
        received = connection.recv(65536)
        with contextlib.suppress(ConnectionError):
            while True:
                connection.sendall(b"x")
                hasty.control("GET", "health")
    assert received.startswith(b"HTTP/1.1 421")


def test_a_client_that_drips_does_not_delay_others(hasty: MockServer) -> None:
    with contextlib.ExitStack() as stack:
        dripping = [stack.enter_context(connect(hasty)) for _ in range(100)]
        for connection in dripping:
            connection.sendall(b"GET / HTTP/1.1\r\nA: ")
        headers = {"Authorization": f"Bearer {hasty.key}"}
        assert httpx2.get(hasty.url + CREDIT, headers=headers, trust_env=False).json()["code"] == 200
        assert {refusal(read_all(connection))[0] for connection in dripping} == {408}


def test_an_idle_connection_is_closed_after_the_keep_alive_time(hasty: MockServer) -> None:
    with connect(hasty) as silent, connect(hasty) as idle:
        idle.sendall(head(hasty, start=f"GET {CREDIT} HTTP/1.1"))
        assert read_all(idle).count(b"HTTP/1.1 200 OK") == 1
        assert read_all(silent) == b""


def test_pipelined_requests_beyond_the_limit_get_their_responses_in_order(server: MockServer) -> None:
    paths = [f"/unknown/{number}" for number in range(1000)]
    requests = b"".join(head(server, start=f"GET {path} HTTP/1.1") for path in paths[:-1])
    last = head(server, "Connection: close", start=f"GET {paths[-1]} HTTP/1.1")
    with connect(server) as connection:
        connection.sendall(requests + last)
        received = read_all(connection).decode()
    assert received.count("HTTP/1.1 200 OK") == len(paths)
    assert re.findall(r"/unknown/\d+", received) == paths


def test_requests_of_a_client_that_reads_nothing_are_not_piled_up(server: MockServer) -> None:
    request = head(server, start=f"GET {SCHEMA} HTTP/1.1")
    with connect(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.5)
        # The system buffers some megabytes; then sending blocks, because the server does not read.
        with contextlib.suppress(TimeoutError):
            for _ in range(2000):
                connection.sendall(request * 100)
            pytest.fail("the server reads everything")
        gc.collect()
        waiting = sum(isinstance(each, RequestResponseCycle) for each in gc.get_objects())
        assert waiting < 200


def test_a_client_that_reads_nothing_is_given_up(hasty: MockServer) -> None:
    request = head(hasty, start=f"GET {SCHEMA} HTTP/1.1")
    with connect(hasty) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(ConnectionError):
            while True:
                connection.sendall(request * 100)


@pytest.mark.parametrize("offer", ["h2c", "websocket", "something/1"])
@pytest.mark.parametrize("cuts", [(), (40,), (-30,), (-1,), (10, 200, -60, -20)], ids=str)
def test_an_upgrade_offer_is_ignored_however_the_request_is_cut(
    server: MockServer, offer: str, cuts: tuple[int, ...]
) -> None:
    lines = f"Connection: Upgrade, HTTP2-Settings|Upgrade: {offer}|HTTP2-Settings: AAMAAABkAAQ".split("|")
    request = head(server, *lines, f"Content-Length: {len(BODY)}") + BODY
    ends = [*(cut % len(request) for cut in cuts), len(request)]
    with connect(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in zip([0, *ends], ends, strict=False):
            connection.sendall(request[start:end])
            if end != len(request):
                # A response on another connection shows that the server has read this part.
                server.control("GET", "health")
        connection.sendall(head(server, "Connection: close", start=f"GET {CREDIT} HTTP/1.1"))
        received = read_all(connection)
    assert received.count(b'"code":200') == 2
    assert b'"taskId"' in received
