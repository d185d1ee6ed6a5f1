"""A receiver of callbacks, on this machine, that tells what came and answers as it is told."""

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
_LARGEST_BODY: Final = 1 << 20
_LONGEST_LINE: Final = 1 << 10
_PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Received:
    """A request that came in.

    Attributes:
        method: HTTP method.
        target: Path and query.
        headers: Headers by name in lower case.
        body: Its bytes, as far as they are of reasonable length.
        time: When it came, in Unix seconds.
        status: How it was answered.
        seen: What was found at that moment, before it was answered.
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
    """A server for the time of a ``with`` block.

    Attributes:
        host: Name or address by which the target reaches this machine.
        statuses: How the first requests to a path are answered, by path; all others with 200.
        look: Called with the path of each request before it is answered; what it returns is kept.
    """

    host: str = "127.0.0.1"
    statuses: dict[str, list[int]] = field(default_factory=dict)
    look: Callable[[str, bytes], Any] = lambda _path, _body: None
    received: list[Received] = field(default_factory=list)

    def __enter__(self) -> Self:
        own = self.host in {"127.0.0.1", "localhost", "::1"}
        self._came = threading.Condition()
        self._server = _ReceiverServer(("127.0.0.1" if own else "", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str) -> str:
        """Return the URL of a path of this receiver."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self._server.server_address[1]}{path}"

    def at(self, path: str) -> list[Received]:
        """Return what came to a path, whatever its query, in order."""
        return [received for received in list(self.received) if received.target.partition("?")[0] == path]

    def wait(self, seconds: float) -> None:
        """Wait until the next request came, at most so long."""
        with self._came:
            self._came.wait(seconds)

    def take(self, method: str, target: str, headers: dict[str, str], body: bytes) -> int:
        """Keep a request and return the HTTP status to answer it with."""
        path, came = target.partition("?")[0], time.time()
        seen = self.look(path, body)
        with self._came:
            due = self.statuses.get(path, [])
            status = due.pop(0) if due else OK
            self.received.append(Received(method, target, headers, body, came, status, seen))
            self._came.notify_all()
        return status


class _ReceiverServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a caller that leaves early is its own affair."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE

    def _take(self) -> None:
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        body = b"".join(self._chunks()) if chunked else self._read(self.headers.get("Content-Length", "0"), 10)
        headers = {name.lower(): value for name, value in self.headers.items()}
        status = cast("_ReceiverServer", self.server).receiver.take(self.command, self.path, headers, body)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _chunks(self) -> Iterator[bytes]:
        room = _LARGEST_BODY
        while room > 0 and (chunk := self._read(self.rfile.readline(_LONGEST_LINE).decode("latin-1"), 16)):
            room -= len(chunk)
            self.rfile.readline(_LONGEST_LINE)
            yield chunk

    def _read(self, length: str, base: int) -> bytes:
        try:
            return self.rfile.read(min(max(int(length.partition(";")[0].strip(), base), 0), _LARGEST_BODY))
        except ValueError:
            return b""

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _take  # noqa: N815 (named by http.server)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (named by http.server)
        """Say nothing."""


_ERROR: Final = 500
_MARK_BITS: Final = 64


@dataclass
class CallbackAddresses:
    """Gives out addresses of a receiver.

    Attributes:
        receiver: Where they are, ``None`` where the target cannot reach this machine.
        failing: Paths whose first callback is answered with an error.
        given: All paths that were told.
        refused: Paths that were told in calls which were refused.
    """

    receiver: Receiver | None = None
    failing: set[str] = field(default_factory=set)
    assigned: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _mark: str = field(default_factory=lambda: f"{random.SystemRandom().getrandbits(_MARK_BITS):016x}")

    def assign(self, request: Any, suffix: str = "", *, fails_first: bool = False) -> tuple[Any, str]:
        """Return a request that asks for a callback, and the path where to await it; empty where there is no receiver.

        Args:
            request: The request.
            suffix: What stands behind the path.
            fails_first: Whether the first callback is answered with an error.
        """
        if self.receiver is None:
            return request, ""
        target = f"/{self._mark}/{next(self._numbers)}{suffix}"
        path = target.partition("?")[0]
        self.assigned.add(path)
        if fails_first:
            self.failing.add(path)
            self.receiver.statuses[path] = [_ERROR]
        return {**request, job_api().fields.callback: self.receiver.url(target)}, path

    def received_at(self, path: str) -> list[Received]:
        """Return what came to a path."""
        return self.receiver.at(path) if self.receiver and path else []
