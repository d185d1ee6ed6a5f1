"""The upstream service of the proxy: requests and responses as streams on kept connections, errors as sentences.

Certificates are verified, redirects are not followed, no request is repeated, and every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections import deque
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from seedbed_mock.recording.http_connection import HttpConnection, UpstreamError, connect
from seedbed_mock.settings import SettingsError, base_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable

    from seedbed_mock.journal import Headers


_CONNECT_SECONDS: Final = 10.0
_MAX_CONNECTIONS: Final = 500

_IDLE_SECONDS: Final = 4.0
"""How long a connection is kept for the next request. Many servers close it after 5 s; a request that is sent at that
moment is lost, and since none is repeated, its caller would get an error."""

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that are about one connection only (RFC 9110, section 7.6.1)."""

_REPLACED: Final = frozenset({b"host", b"expect"})


def parse_upstream(text: str) -> str:
    """Return the base URL of an upstream service, without a slash at its end.

    Raises:
        SettingsError: The URL is invalid, or would send keys unencrypted over a network.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    # The URL is not repeated if it may contain a password.
    if not host or parts.username is not None or parts.query or parts.fragment or not text.isprintable():
        raise SettingsError("Invalid upstream; use a URL without user, query and fragment, such as https://api.kie.ai.")
    if parts.scheme == "http" and not is_loopback(host):
        raise SettingsError(
            f"The upstream http://{host} would get keys unencrypted; use https, or an address of this machine."
        )
    if parts.scheme not in {"http", "https"}:
        raise SettingsError(f"Invalid upstream scheme {parts.scheme!r}; use https.")
    return base_url(host, port, parts.scheme, parts.path)


def is_loopback(host: str) -> bool:
    """Return whether a host of a URL is this machine, without asking a name server."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return headers without those that are about one connection only."""
    headers = tuple(headers)
    named = {
        name.strip().lower()
        for header, value in headers
        if header.lower() == b"connection"
        for name in value.split(b",")
    }
    return tuple((name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP | named)


class UpstreamResponse:
    """A response whose body is still to come.

    Args:
        connection: Connection on which it arrives.
        timeout: Seconds within which each 64 KiB of the body have to arrive.
        release: Called when the connection is not needed any more.

    Attributes:
        status: HTTP status.
        headers: Its headers, without those that are about one connection only.
    """

    def __init__(self, connection: HttpConnection, timeout: float, release: Callable[[HttpConnection], object]) -> None:
        self.status = connection.status
        self.headers = end_to_end(connection.headers)
        self._connection = connection
        self._timeout = timeout
        self._release = release

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body as it arrives, with its content encoding.

        Raises:
            UpstreamError: The body ends early.
        """
        try:
            async for chunk in self._connection.chunks(self._timeout):
                yield chunk
        finally:
            self._release(self._connection)


class Upstream:
    """A service to which requests are passed on.

    Args:
        url: Its base URL, as :func:`parse_upstream` returns it.
        timeout: Seconds within which a response has to begin, and each further 64 KiB of it have to arrive.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.url = url
        parts = urlsplit(url)
        self.host = parts.netloc
        self._prefix = parts.path.encode()
        self._host_header = b"host", self.host.encode("idna")
        self._name = (parts.hostname or "").encode("idna").decode()
        self._is_secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._is_secure else 80)
        self._tls: ssl.SSLContext | None = None
        self._timeout = timeout
        self._room = asyncio.Semaphore(_MAX_CONNECTIONS)
        self._busy = set[HttpConnection]()
        self._idle = deque[HttpConnection]()

    async def open(
        self, method: str, target: bytes, headers: Headers, content: bytes | AsyncIterable[bytes] = b""
    ) -> UpstreamResponse:
        """Send a request and return the response when its headers have arrived.

        Args:
            method: HTTP method.
            target: Path and query.
            headers: Headers; Host is replaced.
            content: Body.

        Raises:
            UpstreamError: There is no response.
        """
        kept = [(name, value) for name, value in end_to_end(headers) if name.lower() not in _REPLACED]
        if not isinstance(content, bytes) and not any(name.lower() == b"content-length" for name, _ in kept):
            kept.append((b"transfer-encoding", b"chunked"))
        connection = await self._acquire()
        try:
            await connection.request(method, self._prefix + target, (self._host_header, *kept), content, self._timeout)
        except BaseException:
            connection.close()
            self._release(connection)
            raise
        return UpstreamResponse(connection, self._timeout, self._release)

    async def _acquire(self) -> HttpConnection:
        """Return a connection that is kept from an earlier request, or a new one."""
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._room.acquire()
        except TimeoutError as error:
            problem = f"{self.host} still has {_MAX_CONNECTIONS} requests to respond to"
            raise UpstreamError(problem, was_sent=False) from error
        self._close_expired()
        try:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_usable:
                    break
            else:
                if self._is_secure and not self._tls:
                    # In a thread: reading the certificates of the system takes tens of milliseconds.
                    self._tls = await asyncio.to_thread(ssl.create_default_context)
                connection = await connect(self._name, self._port, self._tls, self.host, _CONNECT_SECONDS)
        except BaseException:
            self._room.release()
            raise
        self._busy.add(connection)
        return connection

    def _release(self, connection: HttpConnection) -> None:
        if connection not in self._busy:
            return
        self._busy.remove(connection)
        self._room.release()
        if connection.release(asyncio.get_running_loop().time()):
            self._idle.append(connection)
        self._close_expired()

    def _close_expired(self) -> None:
        # The longest idle one is the first, so that this looks at few that stay.
        earliest = asyncio.get_running_loop().time() - _IDLE_SECONDS
        while self._idle and (self._idle[0].idle_since < earliest or not self._idle[0].is_usable):
            self._idle.popleft().close()

    async def close(self) -> None:
        """Close all connections."""
        for connection in (*self._busy, *self._idle):
            connection.close()
        self._idle.clear()
        # A transport ends in the next turn of the loop, which may be the last.
        await asyncio.sleep(0)
