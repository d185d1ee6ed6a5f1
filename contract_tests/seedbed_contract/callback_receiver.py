"""A local HTTP server that receives callbacks, and the addresses that requests name for them."""

from __future__ import annotations

import itertools
import random
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, cast

from seedbed_schemas import job_api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self


OK: Final = 200
NO_CONTENT: Final = 204
_REDIRECT: Final = 307
_ERROR: Final = 500
_MAX_BODY: Final = 1 << 20
_MAX_LINE: Final = 1 << 10
_TIMEOUT: Final = 10.0
_RUN_ID_BITS: Final = 64
_MOST_CALLBACKS: Final = 20


@dataclass(frozen=True, slots=True)
class Received:
    """A request that arrived.

    Attributes:
        method: HTTP method.
        target: Path and query.
        headers: Headers by lower-case name.
        body: The body, up to a limit.
        time: Time of arrival in Unix seconds.
        status: HTTP status of the response.
        seen: Return value of :attr:`Receiver.on_request`.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    time: float
    status: int
    seen: Any = None


@dataclass
class Receiver:
    """An HTTP server on a free port. Use it as a context manager.

    Attributes:
        host: Host name or address of this machine, as the target sees it.
        statuses: By path, the HTTP statuses of the first responses; all others are 200.
        locations: By path, where a redirect leads.
        on_request: Called with the path and the body of each request before the response is sent.
        received: All requests, in order.
    """

    host: str = "127.0.0.1"
    statuses: dict[str, list[int]] = field(default_factory=dict)
    locations: dict[str, str] = field(default_factory=dict)
    on_request: Callable[[str, bytes], Any] = lambda _path, _body: None
    received: list[Received] = field(default_factory=list)

    def __enter__(self) -> Self:
        # Other machines can reach the port only if the target has to.
        is_loopback = self.host in {"127.0.0.1", "localhost", "::1"}
        self._lock = threading.Lock()
        self._server = _ReceiverServer(("127.0.0.1" if is_loopback else "", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self._server.server_address[1]}{path}"

    def received_at(self, path: str) -> list[Received]:
        """Return the requests to a path with any query, in order."""
        return [received for received in list(self.received) if received.target.partition("?")[0] == path]

    def handle(self, method: str, target: str, headers: dict[str, str], body: bytes) -> int:
        """Store a request and return the HTTP status of the response."""
        path, arrived = target.partition("?")[0], time.time()
        seen = self.on_request(path, body)
        with self._lock:
            planned = self.statuses.get(path, [])
            status = planned.pop(0) if planned else OK
            self.received.append(Received(method, target, headers, body, arrived, status, seen))
        return status


class _ReceiverServer(ThreadingHTTPServer):
    # A caller that keeps its connection open must not keep the run from ending.
    daemon_threads = True
    # All callbacks of a run may arrive at once; the default queue of five would refuse some.
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error: a caller may disconnect early."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _TIMEOUT

    def _handle(self) -> None:
        is_chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        body = b"" if is_chunked else self._read(self.headers.get("Content-Length", "0"), 10)
        # http.server does not decode the chunked transfer coding.
        while is_chunked and len(body) < _MAX_BODY:
            chunk = self._read(self.rfile.readline(_MAX_LINE).decode("latin-1"), 16)
            if not chunk:
                break
            body += chunk
            self.rfile.readline(_MAX_LINE)
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver = cast("_ReceiverServer", self.server).receiver
        status = receiver.handle(self.command, self.path, headers, body)
        self.send_response(status)
        if status == _REDIRECT:
            self.send_header("Location", receiver.locations.get(self.path.partition("?")[0], "/"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _read(self, length: str, base: int) -> bytes:
        try:
            return self.rfile.read(min(max(int(length.partition(";")[0].strip(), base), 0), _MAX_BODY))
        except ValueError:
            return b""

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle  # noqa: N815 (named by http.server)

    def log_message(self, *args: Any, **options: Any) -> None:
        """Write nothing to standard error."""


@dataclass
class CallbackAddresses:
    """Assigns a path of a receiver to each request that asks for a callback.

    Attributes:
        receiver: The receiver; ``None`` if the target cannot reach this machine.
        failing: Paths whose first callback gets an error response.
        assigned: All paths that were assigned.
        refused: Paths whose request was refused, so that no callback may arrive there.
        moved: Paths to which a redirect leads.
    """

    receiver: Receiver | None = None
    failing: set[str] = field(default_factory=set)
    assigned: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    # A port may be reused after a run: the id keeps late callbacks of one run out of the next one.
    _run_id: str = field(default_factory=lambda: f"{random.SystemRandom().getrandbits(_RUN_ID_BITS):016x}")

    def assign(self, request: Any, suffix: str = "", *, fails_first: bool = False) -> tuple[Any, str]:
        """Return a request that asks for a callback, and the path of the callback, empty without a receiver.

        Args:
            request: The request.
            suffix: Text to append to the path, such as a query.
            fails_first: Whether the first callback gets an error response.
        """
        if self.receiver is None:
            return request, ""
        target = f"/{self._run_id}/{next(self._numbers)}{suffix}"
        path = target.partition("?")[0]
        self.assigned.add(path)
        if fails_first:
            self.failing.add(path)
            self.receiver.statuses[path] = [_ERROR]
        return {**request, job_api().fields.callback: self.receiver.url(target)}, path

    def accept_without_content(self, path: str) -> None:
        """Respond to the callbacks at a path with HTTP 204, which is a success like 200."""
        if self.receiver:
            self.receiver.statuses[path] = [NO_CONTENT] * _MOST_CALLBACKS

    def redirect(self, path: str) -> None:
        """Redirect the first callback at a path to another path."""
        if self.receiver:
            moved = f"{path}-moved"
            self.moved.add(moved)
            self.receiver.statuses[path], self.receiver.locations[path] = [_REDIRECT], self.receiver.url(moved)

    def received_at(self, path: str) -> list[Received]:
        """Return the callbacks that arrived at a path, in order."""
        return self.receiver.received_at(path) if self.receiver and path else []
