"""Servers that are not the service: they hang, speak another protocol, never end, close early or redirect."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Final

_REFUSAL: Final = b'{"code":422,"msg":"recordInfo is null","data":null}'
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_RESPONSE: Final = _HEAD + b"Content-Length: %d\r\n\r\n" % len(_REFUSAL) + _REFUSAL
_BUFFER: Final = 1 << 16

Behaviour = Callable[[socket.socket, threading.Event], None]


def hangs(_: socket.socket, stopped: threading.Event) -> None:
    stopped.wait()


def does_not_speak_http(connection: socket.socket, _: threading.Event) -> None:
    connection.recv(_BUFFER)
    connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")


def sends_a_gigabyte(connection: socket.socket, _: threading.Event) -> None:
    connection.recv(_BUFFER)
    connection.sendall(_HEAD + b"Content-Length: 1000000000\r\n\r\n")
    while True:
        connection.sendall(bytes(_BUFFER))


def never_ends_its_response(connection: socket.socket, stopped: threading.Event) -> None:
    connection.recv(_BUFFER)
    connection.sendall(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while not stopped.wait(0.2):
        connection.sendall(b"5\r\nhello\r\n")


def redirects(connection: socket.socket, _: threading.Event) -> None:
    connection.recv(_BUFFER)
    connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")


def returns_html(connection: socket.socket, _: threading.Event) -> None:
    connection.recv(_BUFFER)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p>!")


class ClosesSometimes:
    """Closes the connection at every third call, after the first twenty."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, connection: socket.socket, _: threading.Event) -> None:
        while connection.recv(_BUFFER):
            self._calls += 1
            if self._calls > 20 and self._calls % 3 == 0:
                return
            connection.sendall(_RESPONSE)


@contextlib.contextmanager
def target(behaviour: Behaviour) -> Iterator[str]:
    """Serve a behaviour on loopback and yield its URL."""
    stopped, connections, threads = threading.Event(), list[socket.socket](), list[threading.Thread]()
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            behaviour(connection, stopped)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connections.append(listener.accept()[0])
                threads.append(threading.Thread(target=serve, args=(connections[-1],)))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stopped.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
