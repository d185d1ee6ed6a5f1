"""Fixtures of the mock server's tests: receivers of callbacks on real sockets, and ways to send requests."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import h11
import httpx2
import pytest
from jsonschema import Draft202012Validator
from seedbed_mock import MockServer
from seedbed_schemas import default_contract
from seedbed_schemas.openapi import example_of
from tests.redis_process import RedisProcess, redis_running

# A project of its own, with its own settings; test_outside_project.py runs it.
collect_ignore = ["outside_project"]

ROOT = "/__seedbed"
CONTRACT = default_contract()
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
_PROBLEM = {"$ref": "#/components/schemas/Problem"}


Behaviour = bytes | Callable[[socket.socket], None]


@dataclass
class Received:
    """A request as it was received, with header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A server on loopback whose n-th connection gets the n-th behaviour, and all further ones the last.

    Bytes are sent as the response to a whole request, after which the receiver waits for the client to close. A
    function is called with the socket.
    """

    behaviours: tuple[Behaviour, ...]
    tls: ssl.SSLContext | None = None
    requests: list[Received] = field(default_factory=list)
    came: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    left: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self.listener.getsockname()[1]
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self.listener.accept()[0]
                behaviour = self.behaviours[min(len(self._threads), len(self.behaviours)) - 1]
                self._connections.append(connection)
                self._threads.append(threading.Thread(target=self._meet, args=(connection, behaviour)))
                self._threads[-1].start()

    def _meet(self, connection: socket.socket, behaviour: Behaviour) -> None:
        self.came.release()
        with contextlib.suppress(OSError, h11.RemoteProtocolError), connection:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                self._connections.append(connection)
            with connection:
                if isinstance(connection, ssl.SSLSocket):
                    connection.do_handshake()
                self._answer(connection, behaviour)
        self.left.release()

    def _answer(self, connection: socket.socket, behaviour: Behaviour) -> None:
        if not isinstance(behaviour, bytes):
            behaviour(connection)
            return
        self.requests.append(read_request(connection))
        connection.sendall(behaviour)
        while connection.recv(65536):
            pass

    def close(self) -> None:
        for opened in (self.listener, *self._connections):
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self._threads:
            thread.join()


def read_request(connection: socket.socket) -> Received:
    http, body, request = h11.Connection(h11.SERVER), b"", None
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(connection.recv(65536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif request and isinstance(event, h11.EndOfMessage):
            headers = {name.decode(): value.decode() for name, value in request.headers}
            return Received(request.method.decode(), request.target.decode(), headers, body)
        else:
            raise ConnectionAbortedError


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    """Start receivers: ``receive(b"HTTP/1.1 200 OK...", tls=None)``."""
    with contextlib.ExitStack() as stack:

        def start(*behaviours: Behaviour, tls: ssl.SSLContext | None = None) -> Receiver:
            receiver = Receiver(behaviours, tls)
            stack.callback(receiver.close)
            return receiver

        yield start


@pytest.fixture(scope="session")
def http() -> Iterator[httpx2.Client]:
    with httpx2.Client(trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def check_documented(seedbed: MockServer, http: httpx2.Client) -> Callable[[str, str, int, Any], None]:
    """Return a function that checks a response of the control API against its OpenAPI document."""
    document = http.get(f"{seedbed.url}{ROOT}/openapi.json").json()

    def check(method: str, path: str, status: int, content: object) -> None:
        responses = _operation(document, method, path).get("responses", {})
        response = responses.get(str(status)) or responses.get(f"{status // 100}XX") or {}
        named = response["content"]["application/json"]["schema"] if "content" in response else _PROBLEM
        Draft202012Validator({**named, "components": document["components"]}).validate(content)

    return check


def _operation(document: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """Return the description of an operation, empty for an unknown one."""
    for template, methods in document["paths"].items():
        wanted, found = template.split("/"), path.split("/")
        is_like = all(one.startswith("{") or one == other for one, other in zip(wanted, found, strict=False))
        if len(wanted) == len(found) and is_like:
            described: dict[str, Any] = methods.get(method.lower(), {})
            return described
    return {}


@pytest.fixture
def control(
    seedbed: MockServer, http: httpx2.Client, check_documented: Callable[[str, str, int, Any], None]
) -> Callable[..., tuple[int, Any]]:
    """Return a function that calls the control API and returns the HTTP status and the content."""

    def send(
        method: str,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> tuple[int, Any]:
        content: dict[str, Any] = {"content": raw} if raw is not None else {"json": body} if body is not None else {}
        response = http.request(method, f"{seedbed.url}{ROOT}{path}", params=query, headers=headers, **content)
        assert response.headers["content-type"] == "application/json"
        found = response.json()
        check_documented(method, ROOT + path, response.status_code, found)
        assert response.status_code < 400 or _is_sentence(found["error"])
        return response.status_code, found

    return send


def _is_sentence(refusal: str) -> bool:
    return refusal.endswith(".") and refusal.isprintable() and refusal[0] == refusal[0].upper()


@pytest.fixture
def create(seedbed: MockServer, http: httpx2.Client) -> Callable[..., str]:
    def create_task(*, space: str = "", key: str = "", **more: object) -> str:
        headers = {"Authorization": f"Bearer {key or seedbed.key}"} | ({"X-Seedbed-Space": space} if space else {})
        url = seedbed.url + CONTRACT.operation.path
        task_id: str = http.post(url, json={**GOOD, **more}, headers=headers).json()["data"]["taskId"]
        return task_id

    return create_task


@pytest.fixture
def account(seedbed: MockServer, control: Callable[..., tuple[int, Any]]) -> str:
    """Return the fingerprint of the first key."""
    assert seedbed.key
    name: str = control("GET", "/accounts")[1]["accounts"][0]["account"]
    return name


@pytest.fixture
def call(seedbed: MockServer, http: httpx2.Client) -> Callable[..., dict[str, Any]]:
    """Return a function that sends a request to the service, with a JSON value or raw bytes as its body."""

    def send(method: str, path: str, body: object = None, *, key: str = "", **headers: str) -> dict[str, Any]:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {key or seedbed.key}"} | {n.replace("_", "-"): v for n, v in headers.items()}
        response: dict[str, Any] = http.request(method, seedbed.url + path, content=raw, headers=sent).json()
        return response

    return send


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A Redis server for all tests of a process; each takes fleets of its own."""
    with redis_running(tmp_path_factory.mktemp("redis")) as server:
        yield server
