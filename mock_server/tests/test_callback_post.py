"""One POST request to receivers of any behaviour: a status or one sentence, no open socket, no blocked event loop."""

import asyncio
import gc
import importlib
import itertools
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import respx
import trustme
from seedbed_mock.callbacks import sender as sender_module
from seedbed_mock.callbacks.sender import DeliveryError, ReceiverResponse, send_callback
from seedbed_mock.callbacks.targets import AllowList, CallbackTarget, resolve
from seedbed_schemas import __version__

LOCAL = AllowList()
LOOPS = ["asyncio"] if sys.platform == "win32" else ["asyncio", "uvloop"]

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Receive = Callable[..., Any]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run coroutines in a loop that must not report an error, not even when its objects are collected."""
    reports: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=importlib.import_module(request.param).new_event_loop) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: reports.append(context))
        yield runner.run
        gc.collect()
    gc.collect()
    assert [report for report in reports if not is_known_from_uvloop(report)] == []


def is_known_from_uvloop(report: dict[str, Any]) -> bool:
    """Return whether uvloop reports that an aborted TLS connection is closed, which it does now and then (0.23)."""
    is_about_tls = report["message"] == "Fatal error on SSL protocol"
    return is_about_tls and "TCPTransport closed=True" in str(report.get("exception"))


@pytest.fixture(scope="module", name="authority")
def make_authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(name="trusted")
def trust_the_authority(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with authority.cert_pem.tempfile() as path:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        monkeypatch.setattr(sender_module, "tls_context", ssl.create_default_context)
        yield


def certified(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def deliver(url: str, body: bytes = b"{}", **headers: str) -> ReceiverResponse:
    return await send_callback(await resolve(url, LOCAL), body, headers)


def heads(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def sending(*chunks: bytes, times: int = 1) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        for chunk in itertools.chain.from_iterable(itertools.repeat(chunks, times)):
            connection.sendall(chunk)
        wait(connection)

    return behave


def wait(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def hang_up(connection: socket.socket) -> None:
    connection.recv(65536)


def reset(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def send_half(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nServ")


OK = heads("HTTP/1.1 200 OK", "Content-Length: 2") + b"ok"
MANY = 10**6


def test_a_callback_arrives_unchanged(run: Run, receive: Receive) -> None:
    receiver = receive(OK)
    headers = {"X-Webhook-Timestamp": "1765166238", "X-Webhook-Signature": "c2lnbg=="}
    response = run(deliver(f"{receiver.url}/hook?a=b#c", '{"msg":"é"}'.encode(), **headers))
    assert response == ReceiverResponse(200, None)
    (request,) = receiver.requests
    assert (request.method, request.target, request.body) == ("POST", "/hook?a=b", '{"msg":"é"}'.encode())
    assert request.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "user-agent": f"Seedbed/{__version__}",
        "content-type": "application/json",
        "content-length": "12",
        "connection": "close",
        **{name.lower(): value for name, value in headers.items()},
    }


def test_a_given_header_replaces_the_default_one(run: Run, receive: Receive) -> None:
    receiver = receive(OK)
    run(deliver(receiver.url, b"", **{"content-type": "text/html"}))
    assert receiver.requests[0].headers["content-type"] == "text/html"
    assert receiver.requests[0].body == b""


@pytest.mark.parametrize(
    ("response", "status", "retry_after"),
    [
        (OK, 200, None),
        (heads("HTTP/1.1 204 No Content"), 204, None),
        (heads("HTTP/1.0 500 Internal Server Error"), 500, None),
        (heads("HTTP/1.1 410 Gone"), 410, None),
        (heads("HTTP/1.1 999"), 999, None),
        (heads("HTTP/1.1 302 Found", "Location: http://10.0.0.5/"), 302, None),
        (heads("HTTP/1.1 100 Continue") + heads("HTTP/1.1 103 Early Hints", "Link: </a>") + OK, 200, None),
        (b"HTTP/1.1 200 OK\n\n", 200, None),
        (heads("HTTP/1.1 503 Busy", "Retry-After: 120"), 503, 120),
        (heads("HTTP/1.1 429 Busy", "retry-after:  0 "), 429, 0),
        (heads("HTTP/1.1 503 Busy", "Retry-After: 999999999"), 503, 999999999),
        *(
            (heads("HTTP/1.1 503 Busy", f"Retry-After: {value}"), 503, None)
            for value in ("-1", "1.5", "1e3", "inf", "nan", "", "1_0", "Fri, 31 Dec 1999 23:59:59 GMT", "9" * 60_000)
        ),
        (heads("HTTP/1.1 200 OK", "X: " + "a" * 65_000), 200, None),
    ],
    ids=lambda value: repr(value[:60]) if isinstance(value, bytes) else str(value),
)
def test_the_status_is_read(
    run: Run, receive: Receive, response: bytes, status: int, retry_after: float | None
) -> None:
    receiver = receive(response)
    assert run(deliver(receiver.url)) == ReceiverResponse(status, retry_after)
    assert receiver.left.acquire(timeout=30)


FAILURES: dict[str, tuple[Any, str]] = {
    "hangs up": (hang_up, "closed the connection before it responded"),
    "resets": (reset, "reset the connection before it responded"),
    "sends half": (send_half, "closed the connection before it responded"),
    "other greeting": (sending(b"SSH-2.0-OpenSSH_9\r\n"), "did not respond with HTTP/1.1"),
    "binary": (sending(bytes(range(256))), "did not respond with HTTP/1.1"),
    "half a status": (sending(heads("HTTP/1.1 2x0 OK")), "did not respond with HTTP/1.1"),
    "invalid status": (sending(heads("HTTP/1.1 099 No")), "did not respond with HTTP/1.1"),
    "other protocol": (sending(heads("HTTP/2 200")), "did not respond with HTTP/1.1"),
    "changes protocol": (
        sending(heads("HTTP/1.1 101 Switching Protocols", "Upgrade: x")),
        "did not respond with HTTP/1.1",
    ),
    "bad header": (sending(heads("HTTP/1.1 200 OK", "no colon")), "did not respond with HTTP/1.1"),
    "NUL in a header": (sending(heads("HTTP/1.1 200 OK", "a: \0")), "did not respond with HTTP/1.1"),
    "one long line": (sending(b"HTTP/1.1 200 OK\r\nX: ", *[b"a" * 65536] * 3), "headers"),
    "no line at all": (sending(b"x" * 65536, times=MANY), "headers"),
    "endless headers": (sending(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n" * 1000] * 100), "headers"),
    "large headers": (sending(b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"y" * 1000 + b"\r\n"] * 100), "headers"),
    "endless 100 Continue": (sending(heads("HTTP/1.1 100 Continue") * 100, times=MANY), "headers"),
    "endless 103 Early Hints": (sending(heads("HTTP/1.1 103 Early Hints", "X: " + "y" * 5000), times=MANY), "headers"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_receiver_without_a_valid_response_is_reported_in_one_sentence(run: Run, receive: Receive, kind: str) -> None:
    behaviour, words = FAILURES[kind]
    receiver = receive(behaviour)
    with pytest.raises(DeliveryError, match=words) as failed:
        run(deliver(receiver.url))
    assert_sentence(failed.value, receiver.port)
    assert receiver.left.acquire(timeout=30)


def assert_sentence(error: DeliveryError, port: int) -> None:
    message = str(error)
    assert f"127.0.0.1:{port}" in message
    assert message.endswith(".")
    assert not [sign for sign in ("Error", "errno", "Errno", "[", "_", "..") if sign in message]


def endless_body(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(heads("HTTP/1.1 200 OK", f"Content-Length: {2**30}"))
    for _ in range(1024):
        connection.sendall(bytes(2**20))
    raise AssertionError("the whole body was read")


def test_the_body_of_a_response_is_not_read(run: Run, receive: Receive) -> None:
    receiver = receive(endless_body)
    assert run(deliver(receiver.url)) == ReceiverResponse(200, None)
    assert receiver.left.acquire(timeout=30)


def test_a_refused_connection_is_reported(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DeliveryError, match="refused the connection") as failed:
        run(deliver(f"http://127.0.0.1:{port}/"))
    assert_sentence(failed.value, port)


def test_the_next_address_is_tried_if_one_refuses(run: Run, receive: Receive) -> None:
    receiver = receive(OK)
    target = CallbackTarget(("127.0.0.9", "127.0.0.1"), receiver.port, None, "hook.test", "/")
    assert run(send_callback(target, b"{}", {})).status == 200


def test_an_unreachable_address_is_reported(run: Run) -> None:
    # Connecting a stream to the broadcast address fails without sending a packet; no URL gives such a target.
    with pytest.raises(DeliveryError, match=r"could not be reached \([^()]+\)\.$"):
        run(send_callback(CallbackTarget(("255.255.255.255",), 9, None, "hook.test", "/"), b"{}", {}))


def test_a_patched_http_client_does_not_catch_callbacks(run: Run, receive: Receive) -> None:
    receiver = receive(OK)
    with respx.mock:
        assert run(deliver(receiver.url)).status == 200
    assert receiver.requests


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(("name", "url"), [("127.0.0.1", "https://127.0.0.1"), ("hook.test", "https://hook.test")])
def test_a_certificate_that_names_the_host_is_accepted(
    run: Run, receive: Receive, authority: trustme.CA, name: str, url: str
) -> None:
    receiver = receive(OK, tls=certified(authority, name))
    assert run(send_callback(tls_target(url, receiver.port), b"{}", {})).status == 200
    assert receiver.left.acquire(timeout=30)


def tls_target(url: str, port: int) -> CallbackTarget:
    name = url.removeprefix("https://")
    return CallbackTarget(("127.0.0.1",), port, name, f"{name}:{port}", "/")


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_name_is_refused(run: Run, receive: Receive, authority: trustme.CA) -> None:
    receiver = receive(OK, tls=certified(authority, "other.test"))
    with pytest.raises(DeliveryError, match=r"is not accepted \(Hostname mismatch.*hook\.test"):
        run(send_callback(tls_target("https://hook.test", receiver.port), b"{}", {}))
    assert receiver.requests == []


def test_a_certificate_of_an_unknown_authority_is_refused(run: Run, receive: Receive, authority: trustme.CA) -> None:
    receiver = receive(OK, tls=certified(authority, "127.0.0.1"))
    with pytest.raises(DeliveryError, match=r"is not accepted \(unable to get") as failed:
        run(deliver(receiver.url))
    assert_sentence(failed.value, receiver.port)
    assert receiver.requests == []


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    "behaviour", [hang_up, reset, sending(b"\x00" * 100), OK, sending(b"\x15\x03\x01\x00\x02\x02\x46")]
)
def test_a_receiver_without_tls_is_reported(run: Run, receive: Receive, behaviour: Any) -> None:
    receiver = receive(behaviour)
    with pytest.raises(DeliveryError, match=r"The TLS handshake with|before it was established") as failed:
        run(deliver(f"https://127.0.0.1:{receiver.port}/"))
    assert_sentence(failed.value, receiver.port)


def test_a_receiver_with_unexpected_tls_is_reported(run: Run, receive: Receive, authority: trustme.CA) -> None:
    receiver = receive(OK, tls=certified(authority, "127.0.0.1"))
    with pytest.raises(DeliveryError, match=r"did not respond with HTTP/1\.1|before it responded"):
        run(deliver(f"http://127.0.0.1:{receiver.port}/"))


def break_off(connection: socket.socket) -> None:
    connection.recv(65536)
    bare = socket.socket(fileno=connection.detach())
    with bare:
        bare.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        wait(bare)


@pytest.mark.usefixtures("trusted")
def test_a_broken_tls_connection_is_reported(run: Run, receive: Receive, authority: trustme.CA) -> None:
    receiver = receive(break_off, tls=certified(authority, "127.0.0.1"))
    with pytest.raises(DeliveryError, match=r"The TLS connection to .* broke"):
        run(deliver(receiver.url))


def drip(connection: socket.socket) -> None:
    connection.settimeout(0.001)
    for byte in itertools.chain(b"HTTP/1.1 200 OK\r\nX: ", itertools.repeat(ord("y"))):
        connection.sendall(bytes([byte]))
        try:
            if not connection.recv(65536):
                return
        except TimeoutError:
            continue


@pytest.mark.parametrize("behaviour", [wait, drip, sending(b"HTTP/1.1 200 OK\r\nX")], ids=["hangs", "drips", "stops"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.usefixtures("trusted")
def test_a_cancelled_request_closes_its_socket(
    run: Run, receive: Receive, authority: trustme.CA, scheme: str, behaviour: Any
) -> None:
    receiver = receive(behaviour, tls=certified(authority, "127.0.0.1") if scheme == "https" else None)

    async def cancel() -> None:
        task = asyncio.create_task(deliver(receiver.url))
        await asyncio.to_thread(receiver.came.acquire, timeout=30)
        await cancelled(task)

    run(cancel())
    assert receiver.left.acquire(timeout=30)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.usefixtures("trusted")
def test_a_cancelled_handshake_closes_its_socket(run: Run, receive: Receive) -> None:
    receiver = receive(wait)

    async def cancel() -> None:
        task = asyncio.create_task(deliver(f"https://127.0.0.1:{receiver.port}/"))
        await asyncio.to_thread(receiver.came.acquire, timeout=30)
        await cancelled(task)

    run(cancel())
    assert receiver.left.acquire(timeout=30)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.usefixtures("trusted")
def test_a_request_can_be_cancelled_at_any_turn_of_the_loop(
    run: Run, receive: Receive, authority: trustme.CA, scheme: str
) -> None:
    receiver = receive(wait, tls=certified(authority, "127.0.0.1") if scheme == "https" else None)

    async def cancel(turns: int) -> None:
        task = asyncio.create_task(deliver(receiver.url))
        for _ in range(turns):
            await asyncio.sleep(0)
        await cancelled(task)

    for turns in range(30):
        run(cancel(turns))
    receiver.close()


@pytest.fixture
def frozen_garbage() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


# Coverage and a full collection of the garbage of a thousand earlier tests would count as time of the loop.
@pytest.mark.slow
@pytest.mark.usefixtures("trusted", "frozen_garbage")
def test_two_hundred_requests_to_hostile_receivers_do_not_block_the_loop(
    run: Run, receive: Receive, authority: trustme.CA
) -> None:
    plain: list[Any] = [OK, endless_body, *(behaviour for behaviour, _ in FAILURES.values())]
    tls = certified(authority, "127.0.0.1")
    endless = [receive(wait), receive(drip), receive(drip, tls=tls)]
    urls = [receiver.url for receiver in [*map(receive, plain), *(receive(some, tls=tls) for some in plain[:3])]]

    async def everything() -> tuple[float, list[Any]]:
        watch = asyncio.create_task(longest_turn())
        hanging = [asyncio.create_task(deliver(receiver.url)) for receiver in endless for _ in range(10)]
        ended = [asyncio.create_task(deliver(url)) for url, _ in zip(itertools.cycle(urls), range(170), strict=False)]
        outcomes = await asyncio.gather(*ended, return_exceptions=True)
        for task in hanging:
            await cancelled(task)
        watch.cancel()
        return await watch, outcomes

    longest, outcomes = run(everything())
    assert {type(outcome) for outcome in outcomes} == {ReceiverResponse, DeliveryError}
    assert longest < 0.05


async def longest_turn() -> float:
    """Return how much of this thread's own time the loop took at most before it came back, until it is cancelled."""
    longest, before = 0.0, time.thread_time()
    try:
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            longest, before = max(longest, now - before), now
    except asyncio.CancelledError:
        return longest
