"""The connection to the upstream service of the proxy: requests and responses as streams, errors as sentences.

Certificates are verified, redirects are not followed, no request is repeated, and every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpcore2

from seedbed_mock.settings import SettingsError, base_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable

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


class UpstreamError(Exception):
    """The upstream service gave no response, or not the whole of one; the message is one sentence.

    Args:
        message: What happened.
        was_sent: Whether the request, or a part of it, may have reached the service.
    """

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.was_sent = was_sent


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
        response: Response of httpcore2.
        host: Name of the service for messages.

    Attributes:
        status: HTTP status.
        headers: Its headers, without those that are about one connection only.
    """

    def __init__(self, response: httpcore2.Response, host: str) -> None:
        self.status = response.status
        self.headers = end_to_end(response.headers)
        self._response = response
        self._host = host

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, with its content encoding.

        Raises:
            UpstreamError: The body ends early.
        """
        try:
            with _sentences(self._host):
                async for chunk in self._response.aiter_stream():
                    yield chunk
        finally:
            await self._response.aclose()


class Upstream:
    """A service to which requests are passed on.

    Args:
        url: Its base URL, as :func:`parse_upstream` returns it.
        timeout: Seconds within which a response has to begin, and each further part of it has to arrive.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.url = url
        parts = urlsplit(url)
        self.host = parts.netloc
        self._prefix = parts.path.encode()
        self._origin = (parts.scheme.encode(), (parts.hostname or "").encode("idna"), parts.port)
        self._timeout = timeout
        self._pool: httpcore2.AsyncConnectionPool | None = None

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
        scheme, host, port = self._origin
        kept = [(name, value) for name, value in end_to_end(headers) if name.lower() not in {b"host", b"expect"}]
        if not isinstance(content, bytes) and not any(name.lower() == b"content-length" for name, _ in kept):
            kept.append((b"transfer-encoding", b"chunked"))
        waits = {"connect": _CONNECT_SECONDS, "pool": _CONNECT_SECONDS, "read": self._timeout, "write": self._timeout}
        request = httpcore2.Request(
            method,
            httpcore2.URL(scheme=scheme, host=host, port=port, target=self._prefix + target),
            headers=[(b"host", self.host.encode("idna")), *kept],
            content=content,
            extensions={"timeout": waits},
        )
        if self._pool is None:
            self._pool = self._make_pool()
        with _sentences(self.host):
            async with asyncio.timeout(self._timeout + _CONNECT_SECONDS):
                return UpstreamResponse(await self._pool.handle_async_request(request), self.host)

    def _make_pool(self) -> httpcore2.AsyncConnectionPool:
        return httpcore2.AsyncConnectionPool(
            ssl_context=ssl.create_default_context() if self._origin[0] == b"https" else None,
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_MAX_CONNECTIONS,
            keepalive_expiry=_IDLE_SECONDS,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            with contextlib.suppress(Exception):
                await self._pool.aclose()


@contextlib.contextmanager
def _sentences(host: str) -> Any:
    """Raise the errors of the network as sentences that name the service."""
    try:
        yield
    except (httpcore2.ConnectError, httpcore2.ConnectTimeout, httpcore2.PoolTimeout) as error:
        raise UpstreamError(_connect_problem(host, error), was_sent=False) from error
    except (httpcore2.TimeoutException, TimeoutError) as error:
        raise UpstreamError(f"{host} did not send what was expected in time") from error
    except httpcore2.RemoteProtocolError as error:
        raise UpstreamError(f"{host} sent no complete HTTP response ({_plain(error)})") from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        reason = _plain(error) or "connection reset"
        raise UpstreamError(f"{host} broke the connection ({reason})") from error


def _connect_problem(host: str, error: Exception) -> str:
    if isinstance(error, httpcore2.TimeoutException):
        return f"{host} could not be reached in {_CONNECT_SECONDS:g} seconds"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate of {host} is not accepted ({cause.verify_message.rstrip('.')})"
    if cause is not None:
        return f"the TLS handshake with {host} failed ({_plain(cause)})"
    return f"{host} could not be reached ({_plain(error) or 'connection refused'})"


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200]
