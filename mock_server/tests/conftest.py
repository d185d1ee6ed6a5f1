"""Receivers of callbacks on real sockets, as badly behaved as a test wants them."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import h11
import pytest

Behaviour = bytes | Callable[[socket.socket], None]


@dataclass
class Received:
    """A request as it stood on the wire; names of headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A server on loopback whose n-th connection meets the n-th behaviour, and all further ones the last.

    Bytes are sent as the answer to a whole request, after which the receiver waits for the caller to leave. A function
    is given the bare socket.
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
