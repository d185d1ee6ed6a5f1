"""A respx router that sends requests for the paid service to a running mock server.

Each request goes through the transport of the caller's own library to the socket of the server, so that a caller sees
the exceptions and time-outs that it would see without the router.
"""

from __future__ import annotations

import ssl
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from seedbed_schemas import default_contract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator
    from types import ModuleType

    from respx.models import ResolvedRoute


try:
    import httpx
    import respx
    from respx.mocks import Mocker
    from respx.models import PassThrough
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("respx_router needs respx: pip install 'seedbed[respx]'", name=error.name) from error


_HTTPX2: Final = "httpcore2"
"""Name of the mocker of httpx2 in the registry of respx."""

_CALLER: Final = "seedbed.caller"
"""Extension of a request on its way through the router: the library of its caller, and whether that waits for it."""

# respx replaces methods of httpcore, which the transport below calls as well.
_is_forwarding: ContextVar[bool] = ContextVar("_is_forwarding", default=False)


class SeedbedRouter(respx.MockRouter):
    """A router for httpx and httpx2; requests to the mock server itself pass through.

    Args:
        url: Base URL of the mock server.
        options: Options of ``respx.MockRouter``.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(**{"assert_all_called": False, **options})
        self._server = httpx.URL(url)
        self._of_httpx2 = _RouterOfHttpx2(self)
        self.route(host=self._server.host, port=self._server.port).pass_through()
        self.route(host=urlsplit(default_contract().operation.server).hostname).mock(side_effect=self._forward)

    def start(self) -> None:
        """Start to intercept requests."""
        super().start()
        for mocker in self._httpx2_mockers():
            # respx looks a request up in what is registered, and needs no more of it than handler and async_handler.
            mocker.register(self._of_httpx2)  # type: ignore[arg-type]
            mocker.start()

    def stop(self, clear: bool = True, reset: bool = True, quiet: bool = False) -> None:  # noqa: FBT001, FBT002 (respx's)
        """Stop intercepting requests."""
        for mocker in self._httpx2_mockers():
            mocker.unregister(self._of_httpx2)  # type: ignore[arg-type]
            mocker.stop()
        super().stop(clear, reset, quiet)

    def _httpx2_mockers(self) -> Iterator[type[Mocker]]:
        """Yield the mocker of httpx2 if it is installed, unless respx uses it already."""
        try:
            import pytest_httpx2  # noqa: F401 (the import registers its mocker with respx)
        except ModuleNotFoundError:
            return
        if self.using != _HTTPX2:
            yield Mocker.registry[_HTTPX2]

    def resolve(self, request: httpx.Request) -> ResolvedRoute:
        """Find the response to a request of a blocking client."""
        _leave_alone_if_forwarding(request)
        request.extensions.setdefault(_CALLER, (self._library, False))
        return super().resolve(request)

    async def aresolve(self, request: httpx.Request) -> ResolvedRoute:
        """Find the response to a request of an async client."""
        _leave_alone_if_forwarding(request)
        request.extensions.setdefault(_CALLER, (self._library, True))
        return await super().aresolve(request)

    @property
    def _library(self) -> ModuleType:
        return _httpx2() if self.using == _HTTPX2 else httpx

    def _forward(self, request: httpx.Request) -> httpx.Response | Awaitable[httpx.Response]:
        library, is_async = request.extensions.pop(_CALLER)
        # The URL stays as it is from its path on, with its percent-encoding.
        url = self._server.copy_with(raw_path=request.url.raw_path)
        # httpx writes the Host header from the URL if there is none.
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"host"]
        sent = library.Request(
            request.method, str(url), headers=headers, content=request.content, extensions=dict(request.extensions)
        )
        return _send_async(library, sent, request) if is_async else _send(library, sent, request)


class _RouterOfHttpx2:
    """A router as the mocker of httpx2 sees it.

    Args:
        router: The router.
    """

    def __init__(self, router: SeedbedRouter) -> None:
        self._router = router

    def handler(self, request: httpx.Request) -> httpx.Response:
        """Return the response to a request of a blocking client."""
        request.extensions[_CALLER] = (_httpx2(), False)
        return self._router.handler(request)

    async def async_handler(self, request: httpx.Request) -> httpx.Response:
        """Return the response to a request of an async client."""
        request.extensions[_CALLER] = (_httpx2(), True)
        return await self._router.async_handler(request)


def _httpx2() -> ModuleType:
    # Imported late: a program with httpx alone need not load it.
    import httpx2  # see above

    return httpx2


def _leave_alone_if_forwarding(request: httpx.Request) -> None:
    if _is_forwarding.get():
        raise PassThrough("A request to the mock server", request=request, origin=respx.Route())


def _send(library: ModuleType, sent: Any, request: httpx.Request) -> httpx.Response:
    transport = library.HTTPTransport(**_options_of_transport(library))
    token = _is_forwarding.set(True)
    try:
        response = transport.handle_request(sent)
    finally:
        _is_forwarding.reset(token)
    return _Streamed(response).response_to(request)


async def _send_async(library: ModuleType, sent: Any, request: httpx.Request) -> httpx.Response:
    transport = library.AsyncHTTPTransport(**_options_of_transport(library))
    token = _is_forwarding.set(True)
    try:
        response = await transport.handle_async_request(sent)
    finally:
        _is_forwarding.reset(token)
    return _Streamed(response).response_to(request)


@cache
def _options_of_transport(library: ModuleType) -> dict[str, Any]:
    """Return the options of a transport for one request, whose connection is closed with its response.

    A connection that is kept would belong to one event loop, and nothing would close it at the end of that.
    """
    # No request needs TLS, but by default a transport loads the certificates of all authorities, which takes 20 ms.
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return {"verify": tls, "trust_env": False, "limits": library.Limits(max_keepalive_connections=0)}


class _Streamed(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A response body that passes through as it arrives; at its end, the recorded call has it as well.

    Args:
        response: The response of the library's transport.
    """

    def __init__(self, response: Any) -> None:
        self._response = response
        self._received: list[bytes] = []
        self._is_complete = False

    def response_to(self, request: httpx.Request) -> httpx.Response:
        """Return the response in the form that respx passes on and records."""
        self._recorded = httpx.Response(
            self._response.status_code,
            headers=self._response.headers.raw,
            stream=self,
            extensions=self._response.extensions,
            request=request,
        )
        return self._recorded

    def __iter__(self) -> Iterator[bytes]:
        if self._is_complete:
            yield from self._received
            return
        for chunk in self._response.stream:
            self._received.append(chunk)
            yield chunk
        self._is_complete = True
        # With the mocker of httpx, the recorded response is the one that the caller reads.
        if not self._recorded.is_stream_consumed:
            self._recorded.read()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._is_complete:
            for chunk in self._received:
                yield chunk
            return
        async for chunk in self._response.stream:
            self._received.append(chunk)
            yield chunk
        self._is_complete = True
        if not self._recorded.is_stream_consumed:
            await self._recorded.aread()

    def close(self) -> None:
        """Close the connection."""
        self._response.stream.close()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._response.stream.aclose()
