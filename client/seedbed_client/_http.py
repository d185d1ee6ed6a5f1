"""What the blocking and the asynchronous runner share: deadlines, HTTP clients, proxies and reading responses.

httpx2 bounds each read of a response. A server that sends a byte now and then can stretch a response without end, so a
deadline bounds the response as a whole.
"""

from __future__ import annotations

import ipaddress
import os
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import httpx2
from seedbed_schemas import __version__

from seedbed_client.errors import InvalidResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from seedbed_client._actions import HttpRequest

C = TypeVar("C")

HEADERS: Final = {"User-Agent": f"seedbed-client/{__version__}"}
"""Headers of every request: some firewalls reject clients that do not identify themselves."""

ON_SEND: Final = "seedbed.on_send"
"""The extension of a request whose value is called before the first byte of the body may leave."""

_MIN_BYTES_PER_SECOND: Final = 4096
"""Slowest download of a file that is tolerated."""

_MIN_READ_SECONDS: Final = 0.001
"""Shortest timeout of a read: with 0, a socket does not wait at all and raises another error than a timeout."""


class Deadline:
    """The time by which a response must be complete.

    Args:
        seconds: Seconds that the response may take, from now.
        restarts_when_sent: Whether the time starts again when the request is sent. A response may have cost credits, so
            it is not discarded because its request had to wait for a free connection.
    """

    def __init__(self, seconds: float, *, restarts_when_sent: bool) -> None:
        self._seconds, self._restarts_when_sent = seconds, restarts_when_sent
        self._ends = time.monotonic() + seconds

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self._ends - time.monotonic()

    def extend(self, size: int) -> None:
        """Allow for that many bytes of a file: a large file may take longer, as long as data keeps arriving."""
        self._ends += size / _MIN_BYTES_PER_SECOND

    def trace(self, event: str, _: object) -> None:
        """Receive an event of the request, as the ``trace`` extension of httpx2."""
        if self._restarts_when_sent and event.endswith("send_request_headers.started"):
            self._ends = time.monotonic() + self._seconds

    async def atrace(self, event: str, info: object) -> None:
        """Receive an event of the request, as the ``trace`` extension of an asynchronous client."""
        self.trace(event, info)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply the deadline to all reads of this task or thread while the block runs."""
        token = _current_deadline.set(self)
        try:
            yield
        finally:
            _current_deadline.reset(token)


# Connections outlive requests, so each read looks up the deadline that applies to it.
_current_deadline: ContextVar[Deadline | None] = ContextVar("deadline of the current request", default=None)


def read_timeout(timeout: float | None) -> float | None:
    """Return the timeout of a read, shortened to the time that is left until the current deadline."""
    deadline = _current_deadline.get()
    if deadline is None:
        return timeout
    left = max(deadline.seconds_left, _MIN_READ_SECONDS)
    return left if timeout is None else min(timeout, left)


class HttpClients(Generic[C]):
    """The HTTP clients of a runner: one for ``http`` and one for ``https``, made when they are first used.

    An ``https`` client loads the trusted certificates, which takes about 20 ms; calls to the mock server do without.

    Args:
        make: Returns an HTTP client for a scheme, ``http`` or ``https``.
        given: A client of the user that is used instead. It is not closed here.
    """

    def __init__(self, make: Callable[[str], C], given: C | None = None) -> None:
        self._make, self._given, self._lock = make, given, threading.Lock()
        # The process ID is part of the key: after a fork, the connections belong to the parent process.
        self._clients: dict[tuple[int, str], C] = {}
        self._is_closed = False

    def for_url(self, url: str) -> C:
        """Return the client for a URL.

        Raises:
            RuntimeError: The clients were closed.
        """
        if self._given is not None:
            return self._given
        key = os.getpid(), "http" if url.lower().startswith("http://") else "https"
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the client is closed; make a new one")
            if key not in self._clients:
                self._clients[key] = self._make(key[1])
            return self._clients[key]

    def take_all(self) -> list[C]:
        """Return the clients that were made in this process, for closing, and make no more."""
        with self._lock:
            self._is_closed = True
            return [self._clients.pop(key) for key in tuple(self._clients) if key[0] == os.getpid()]


class ResponseReader:
    """Reads a response part by part, up to a size and a deadline.

    Args:
        request: The request.
        response: The response, before its body is read.
        deadline: The deadline of the response.
    """

    def __init__(self, request: HttpRequest, response: httpx2.Response, deadline: Deadline) -> None:
        self._request, self._response, self._deadline = request, response, deadline
        self._size, self._body = 0, bytearray()
        self._sink = request.sink or self._body.extend
        if request.on_response:
            request.on_response(response)

    def feed(self, part: bytes) -> None:
        """Take the next part of the body.

        Raises:
            httpx2.ReadTimeout: The deadline has passed.
            InvalidResponseError: The body is too large.
        """
        self._size += len(part)
        if self._size > self._request.max_bytes:
            reason = f"the body is larger than {self._request.max_bytes} bytes"
            raise InvalidResponseError(self._response.status_code, reason)
        if self._request.sink:
            self._deadline.extend(len(part))
        # Reads are bounded already, except for those of an HTTP client that the user has given.
        if self._deadline.seconds_left < 0:
            raise httpx2.ReadTimeout("the response takes too long", request=self._response.request)
        self._sink(part)

    def result(self) -> httpx2.Response:
        """Return the response with the body that was read."""
        # A response without its request: the request holds the API key.
        kept = {"Retry-After", "Content-Type"}
        headers = {name: self._response.headers[name] for name in kept if name in self._response.headers}
        return httpx2.Response(self._response.status_code, headers=headers, content=bytes(self._body))


def environment_proxy(url: httpx2.URL, proxies: Mapping[str, str]) -> str:
    """Return the URL of the proxy for a URL, or an empty string.

    Args:
        url: URL of a request.
        proxies: Proxies by scheme, as ``urllib.request.getproxies`` returns them; ``no`` lists the exceptions.
    """
    proxy = proxies.get(url.scheme) or proxies.get("all") or ""
    if not proxy or any(_is_exempt(url, entry.strip().lower()) for entry in proxies.get("no", "").split(",")):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_exempt(url: httpx2.URL, entry: str) -> bool:
    """Return whether an entry of ``NO_PROXY`` matches a URL; httpx2 reads the entries in the same way."""
    scheme, _, host = entry.rpartition("://")
    if host == "*":
        return True
    if not host or scheme not in {"", "all", url.scheme}:
        return False
    try:
        network = ipaddress.ip_network(host.replace("[", "").replace("]", ""), strict=False)
        return ipaddress.ip_address(url.host) in network
    except ValueError:  # one of them is a name
        domain = host.removeprefix("*")
        return url.host.endswith(domain if domain.startswith(".") else f".{domain}") or url.host == domain
