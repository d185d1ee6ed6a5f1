# Generated from _async_transport.py by client/generate_sync.py: do not edit.
"""An httpx2 transport whose reads end with the deadline of the current request.

httpx2's own transport does not accept a network backend, so this one uses the connection pool of httpcore2 directly.
Only the public interfaces of both libraries are used.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.request import getproxies

import httpcore2
import httpx2

from seedbed_client._http import ON_SEND, environment_proxy, read_timeout

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator


_MAX_CONNECTIONS: Final = 100
_MAX_IDLE_CONNECTIONS: Final = 20
"""The limits that httpx2 uses by default."""

_IDLE_SECONDS: Final = 4.0
"""How long a connection is kept for the next request. Many servers, such as uvicorn and Node.js, close it after 5 s; a
request that is sent at that moment is lost, and nobody knows whether it arrived."""


class DeadlineTransport(httpx2.BaseTransport):
    """A blocking transport that honours the current deadline.

    Args:
        scheme: Scheme of the URLs, ``http`` or ``https``.
        trust_env: Whether to use the proxies and certificates that environment variables name.
    """

    def __init__(self, scheme: str, *, trust_env: bool) -> None:
        self._ssl_context = httpx2.create_ssl_context(trust_env=trust_env) if scheme == "https" else None
        self._proxies = getproxies() if trust_env else {}
        self._pools: dict[str, httpcore2.ConnectionPool] = {}

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return the response, whose body is read later."""
        url = request.url
        core_request = httpcore2.Request(
            request.method,
            httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=_RequestBody(request),
            extensions=request.extensions,
        )
        with _httpx2_errors():
            response = self._pool_for(url).handle_request(core_request)
        return httpx2.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )

    def close(self) -> None:
        """Close all connections."""
        for pool in tuple(self._pools.values()):
            pool.close()

    def _pool_for(self, url: httpx2.URL) -> httpcore2.ConnectionPool:
        proxy = environment_proxy(url, self._proxies)
        # Threads that share a client may get here at the same time. setdefault keeps the first pool; a second one has
        # no connections yet.
        return self._pools.get(proxy) or self._pools.setdefault(proxy, self._make_pool(proxy))

    def _make_pool(self, proxy_url: str) -> httpcore2.ConnectionPool:
        proxy = None
        if proxy_url:
            parsed = httpx2.Proxy(proxy_url)  # takes user and password out of the URL
            proxy = httpcore2.Proxy(str(parsed.url), auth=parsed.raw_auth)
        # httpcore2 declares a stand-in for backends whose library is missing, and pyright takes that for the type.
        backend = DeadlineBackend(httpcore2.SyncBackend())  # pyright: ignore[reportArgumentType]
        return httpcore2.ConnectionPool(
            ssl_context=self._ssl_context,
            proxy=proxy,
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_MAX_IDLE_CONNECTIONS,
            keepalive_expiry=_IDLE_SECONDS,
            network_backend=backend,
        )


class DeadlineBackend(httpcore2.NetworkBackend):
    """A network backend whose streams honour the current deadline.

    Args:
        backend: The backend that opens the connections.
    """

    def __init__(self, backend: httpcore2.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Open a connection."""
        try:
            stream = self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        except UnicodeError as error:
            # The resolver of Python raises it for a name with an empty label or one of more than 63 characters.
            raise httpcore2.ConnectError(f"invalid host name {host!r}") from error
        return _DeadlineStream(stream)

    def sleep(self, seconds: float) -> None:
        """Pause between attempts to connect."""
        self._backend.sleep(seconds)


class _DeadlineStream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, read_timeout(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _RequestBody(httpx2.ByteStream):
    """The body of a request. A server cannot act on the headers alone, so the request counts as sent with its body."""

    def __init__(self, request: httpx2.Request) -> None:
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        if on_send := self._request.extensions.get(ON_SEND):
            on_send()
        yield from cast("httpx2.ByteStream", self._request.stream)


class _Body(httpx2.ByteStream):
    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _httpx2_errors():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


@contextmanager
def _httpx2_errors() -> Iterator[None]:
    """Raise the errors of httpcore2 as those of httpx2, which have the same names."""
    try:
        yield
    except (
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.ProxyError,
        httpcore2.TimeoutException,
        httpcore2.UnsupportedProtocol,
    ) as error:
        raise getattr(httpx2, type(error).__name__)(str(error)) from error
