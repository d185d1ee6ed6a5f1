"""HTTP for the independent server: one thread for each connection, and a clean shutdown."""

import contextlib
import socket
import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, Self


class HttpResponse(Protocol):
    """A response to send."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def headers(self) -> dict[str, str]: ...


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def respond(self, body: bytes) -> HttpResponse:
        raise NotImplementedError

    def handle_request(self) -> None:
        response = self.respond(self.read_body())
        # Any reason phrase is valid, and the codes of the service, such as 455, have none of their own.
        self.send_response(response.status, "As Said")
        for name, value in response.headers.items():
            self.send_header(name, value)
        if "Transfer-Encoding" not in response.headers:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body if self.command != "HEAD" else b"")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = handle_request  # noqa: N815  named by http.server

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self.read_chunks()
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def read_chunks(self) -> bytes:
        body = bytearray()
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  named by http.server
        pass


class Server(ThreadingHTTPServer):
    """An HTTP server that runs inside a ``with`` block; leaving the block closes every connection."""

    daemon_threads = False
    request_queue_size = 256

    def __init__(
        self,
        handle: Callable[[Any], HttpResponse],
        make_call: Callable[[str, str, Message, bytes], Any],
        *,
        closes: bool,
    ) -> None:
        class Handler(_Handler):
            protocol_version = "HTTP/1.0" if closes else "HTTP/1.1"

            def respond(self, body: bytes) -> HttpResponse:
                return handle(make_call(self.command, self.path, self.headers, body))

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.005})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: a caller may disconnect at any time."""
