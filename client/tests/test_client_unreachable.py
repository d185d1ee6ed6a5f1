"""A service that cannot be reached, or not quite: each case ends in a typed error that says what may be charged."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
import trustme
from seedbed_client import AsyncSeedreamClient, SeedreamClient, SubmissionState, SubmissionUnknownError, submissions_of

NAME = "api.seedbed.test"
CREATED = b'{"code": 200, "msg": "", "data": {"taskId": "t1"}}'
NOT_CREATED, IN_DOUBT = SubmissionState.NOT_CREATED, SubmissionState.IN_DOUBT

Respond = Callable[[socket.socket, bytes], object]


def answer(connection: socket.socket, body: bytes = CREATED, status: str = "200 OK", **headers: str) -> None:
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{''.join(lines)}\r\n"
    connection.sendall(head.encode() + body)


@contextlib.contextmanager
def serving(respond: Respond, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve connections, each with a function that gets what was received, and yield the port."""

    def serve(connection: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(OSError))
            stream = context.wrap_socket(connection, server_side=True) if context else connection
            with stream:
                while received := stream.recv(65536):
                    respond(stream, received)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(name="resolve")
def make_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the name of the service lead to this machine."""
    original = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        return original("127.0.0.1" if host in {NAME, NAME.encode()} else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def ended(call: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as error:  # noqa: PT011 (the caller looks at its type)
        call()
    return error.value


def errors_of(url: str, **options: Any) -> Iterator[Exception]:
    """Yield the errors with which a task is not created, blocking and asynchronous."""
    options = {"max_retries": 0, "timeout": 2, **options}

    def blocking() -> str:
        with SeedreamClient(url, **options) as client:
            return client.create_task("a hill")

    async def asynchronous() -> str:
        async with AsyncSeedreamClient(url, **options) as client:
            return await client.create_task("a hill")

    for call in (blocking, lambda: asyncio.run(asynchronous())):
        error = ended(call)
        assert isinstance(error, Exception)
        yield error


def check(error: BaseException, cls: type[Exception], state: SubmissionState) -> None:
    assert type(error) is cls
    (submission,) = submissions_of(error)
    assert (submission.state, submission.may_be_charged) == (state, state is IN_DOUBT)


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    for error in errors_of(f"http://{NAME}"):
        check(error, httpx2.ConnectError, NOT_CREATED)


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..b.example"])
def test_a_name_that_no_resolver_accepts(host: str) -> None:
    for error in errors_of(f"http://{host}"):
        assert "charged" not in str(error)
        (submission,) = submissions_of(error)
        assert submission.state is NOT_CREATED
        assert isinstance(error, httpx2.ConnectError)


@pytest.mark.usefixtures("resolve")
@pytest.mark.parametrize("problem", ["expired", "unknown authority", "other name"])
def test_a_certificate_that_is_not_valid(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, trusted, context = trustme.CA(), trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC) if problem == "expired" else None
    name = "other.seedbed.test" if problem == "other name" else NAME
    begin = dt.datetime(2019, 1, 1, tzinfo=dt.UTC) if past else None
    authority.issue_cert(name, not_before=begin, not_after=past).configure_cert(context)
    known = trusted if problem == "unknown authority" else authority
    with known.cert_pem.tempfile() as pem, serving(lambda stream, _: answer(stream), context) as port:
        monkeypatch.setenv("SSL_CERT_FILE", pem)
        for error in errors_of(f"https://{NAME}:{port}"):
            check(error, httpx2.ConnectError, NOT_CREATED)
            assert "certificate" in str(error).lower()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_does_not_listen(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{port}")
    for error in errors_of(f"{scheme}://{NAME}"):
        check(error, httpx2.ConnectError, NOT_CREATED)


@pytest.mark.parametrize("status", ["403 Forbidden", "407 Proxy Authentication Required", "502 Bad Gateway"])
def test_a_proxy_that_refuses(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda stream, _: answer(stream, b"<html>no</html>", status)) as port:
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{port}")
        for error in errors_of(f"https://{NAME}"):
            check(error, httpx2.ProxyError, NOT_CREATED)
        # Without TLS, the proxy gets the request itself, and a response of 502 may mean that it was passed on.
        for error in errors_of(f"http://{NAME}"):
            check(error, SubmissionUnknownError, IN_DOUBT)


def test_a_pool_without_a_free_connection() -> None:
    began, finish = threading.Event(), threading.Event()

    def respond(stream: socket.socket, _: bytes) -> None:
        began.set()
        finish.wait()
        answer(stream)

    limits = httpx2.Limits(max_connections=1)
    with serving(respond) as port, httpx2.Client(limits=limits, trust_env=False) as http:
        client = SeedreamClient(f"http://127.0.0.1:{port}", http_client=http, timeout=10)
        first = threading.Thread(target=client.create_task, args=("a lake",))
        first.start()
        began.wait()
        url = client.base_url
        check(
            ended(lambda: SeedreamClient(url, http_client=http, timeout=0.05, max_retries=0).create_task("a hill")),
            httpx2.PoolTimeout,
            NOT_CREATED,
        )
        finish.set()
        first.join()


def create_twice(url: str, between: Callable[[], object]) -> Iterator[object]:
    """Create two tasks on one client, blocking and asynchronous, and yield what the second call returns or raises."""
    with SeedreamClient(url, max_retries=0) as client:
        assert client.create_task("a hill") == "t1"
        between()
        try:
            yield client.create_task("a hill")
        except SubmissionUnknownError as error:
            yield error

    async def asynchronous() -> object:
        async with AsyncSeedreamClient(url, max_retries=0) as client:
            assert await client.create_task("a hill") == "t1"
            await asyncio.to_thread(between)
            try:
                return await client.create_task("a hill")
            except SubmissionUnknownError as error:
                return error

    yield asyncio.run(asynchronous())


def test_a_connection_that_was_closed_while_idle_is_not_used_again() -> None:
    closed = threading.Event()

    def respond(stream: socket.socket, received: bytes) -> None:
        if received.endswith(b"}"):
            answer(stream)
            stream.shutdown(socket.SHUT_RDWR)
            closed.set()

    def wait_until_closed() -> None:
        closed.wait()
        closed.clear()

    with serving(respond) as port:
        assert list(create_twice(f"http://127.0.0.1:{port}", wait_until_closed)) == ["t1", "t1"]


def test_a_connection_that_is_closed_as_the_next_request_arrives() -> None:
    used: set[socket.socket] = set()

    def respond(stream: socket.socket, received: bytes) -> None:
        if stream in used:
            stream.close()
        elif received.endswith(b"}"):
            used.add(stream)
            answer(stream)

    with serving(respond) as port:
        for error in create_twice(f"http://127.0.0.1:{port}", lambda: None):
            assert isinstance(error, SubmissionUnknownError)
            check(error, SubmissionUnknownError, IN_DOUBT)
