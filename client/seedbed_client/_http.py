"""What the blocking and the asynchronous runner share: deadlines, HTTP clients, proxies and reading responses.

httpx2 bounds each read of a response. A server that sends a byte now and then can stretch a response without end, so a
deadline bounds the response as a whole.
"""

from __future__ import annotations

import ipaddress
import os
import threading
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import httpx2
from seedbed_schemas import __version__

from seedbed_client._polling import monotonic
from seedbed_client.errors import InvalidResponseError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping

    from anyio.lowlevel import EventLoopToken

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
        self._ends = monotonic() + seconds

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self._ends - monotonic()

    def extend(self, size: int) -> None:
        """Allow for that many bytes of a file: a large file may take longer, as long as data keeps arriving."""
        self._ends += size / _MIN_BYTES_PER_SECOND

    def trace(self, event: str, _: object) -> None:
        """Receive an event of the request, as the ``trace`` extension of httpx2."""
        if self._restarts_when_sent and event.endswith("send_request_headers.started"):
            self._ends = monotonic() + self._seconds

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


class _ClientTable(Generic[C]):
    """The HTTP clients of a runner: for each scope, one for ``http`` and one for ``https``, made when first used.

    An ``https`` client loads the trusted certificates, which takes about 20 ms; calls to the mock server do without.

    Args:
        make: Returns an HTTP client for a scheme, ``http`` or ``https``.
        given: A client of the user that is used instead. It is not closed here.
    """

    def __init__(self, make: Callable[[str], C], given: C | None = None) -> None:
        self._make, self._given, self._lock = make, given, threading.Lock()
        # The process ID is part of the scope: after a fork, the connections belong to the parent process.
        self._scopes: dict[tuple[int, object], dict[str, C]] = {}
        self._is_closed = False

    def _find(self, url: str, scope: object = None) -> C:
        """Return the client for a URL.

        Raises:
            RuntimeError: The clients were closed.
        """
        if self._given is not None:
            return self._given
        scheme = "http" if url.lower().startswith("http://") else "https"
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the client is closed; make a new one")
            clients = self._scopes.setdefault((os.getpid(), scope), {})
            if scheme not in clients:
                clients[scheme] = self._make(scheme)
            return clients[scheme]

    def _take(self, scope: object = None) -> list[C]:
        """Return the clients of a scope of this process, for closing."""
        with self._lock:
            return list(self._scopes.pop((os.getpid(), scope), {}).values())


class HttpClients(_ClientTable[httpx2.Client]):
    """The HTTP clients of a blocking runner, which threads share."""

    def for_url(self, url: str) -> httpx2.Client:
        """Return the client for a URL.

        Raises:
            RuntimeError: The clients were closed.
        """
        return self._find(url)

    def close(self) -> None:
        """Close the clients, and make no more."""
        self._is_closed = True
        for client in self._take():
            client.close()


class AsyncHttpClients(_ClientTable[httpx2.AsyncClient]):
    """The HTTP clients of an asynchronous runner: connections belong to the event loop that opened them."""

    def __init__(self, make: Callable[[str], httpx2.AsyncClient], given: httpx2.AsyncClient | None = None) -> None:
        super().__init__(make, given)
        self._closers: dict[tuple[int, EventLoopToken], AsyncGenerator[None]] = {}

    async def for_url(self, url: str) -> httpx2.AsyncClient:
        """Return the client for a URL in the running event loop.

        Raises:
            RuntimeError: The clients were closed.
        """
        if self._given is not None:
            return self._given
        from anyio.lowlevel import current_token  # slow to import, and blocking programs do not need it

        token = current_token()
        client = self._find(url, token)
        if (os.getpid(), token) not in self._closers:
            self._forget_closed_loops()
            # An event loop that ends runs the rest of each asynchronous generator, which closes the connections. This
            # is the only such hook that asyncio, uvloop and trio have in common.
            closer = self._closers[os.getpid(), token] = self._close_at_end(token)
            await anext(closer)
        return client

    async def close(self) -> None:
        """Close the clients of the running event loop, and make no more. Other loops close theirs when they end."""
        from anyio import NoEventLoopError  # as above
        from anyio.lowlevel import current_token  # as above

        self._is_closed = True
        # A coroutine that its loop left behind ends without a loop.
        with suppress(NoEventLoopError):
            token = current_token()
            # Not in the generator: an error there would hide the one that the caller is handling.
            for client in self._take(token):
                await client.aclose()
            if closer := self._closers.get((os.getpid(), token)):
                await closer.aclose()
        self._forget_closed_loops()

    async def _close_at_end(self, token: EventLoopToken) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._closers.pop((os.getpid(), token), None)
            for client in self._take(token):
                await client.aclose()

    def _forget_closed_loops(self) -> None:
        # A loop of asyncio that was closed without asyncio.run() or a Runner does not end its generators.
        for process, token in tuple(self._closers):
            is_closed = getattr(token.native_token, "is_closed", None)
            if process != os.getpid() or (is_closed and is_closed()):
                self._closers.pop((process, token), None)
                self._scopes.pop((process, token), None)


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
