"""A respx router that sends requests for the paid service to a running mock server."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from seedbed_schemas import default_contract

if TYPE_CHECKING:
    from collections.abc import Iterator


try:
    import httpx
    import respx
    from respx.mocks import Mocker
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("respx_router needs respx: pip install 'seedbed[respx]'", name=error.name) from error


_TIMEOUT_SECONDS = 60
_HTTPX2 = "httpcore2"

# Headers of one connection; a proxy must not forward them (RFC 9110, section 7.6.1).
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}


class SeedbedRouter(respx.MockRouter):
    """A router for httpx and httpx2; requests to the mock server itself pass through.

    Args:
        url: Base URL of the mock server.
        options: Options of ``respx.MockRouter``.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(**{"assert_all_called": False, **options})
        self._server = urlsplit(url)
        self.route(host=self._server.hostname, port=self._server.port).pass_through()
        self.route(host=urlsplit(default_contract().operation.server).hostname).mock(side_effect=self._forward)

    def start(self) -> None:
        """Start to intercept requests."""
        super().start()
        for mocker in self._httpx2_mockers():
            mocker.register(self)
            mocker.start()

    def stop(self, clear: bool = True, reset: bool = True, quiet: bool = False) -> None:  # noqa: FBT001, FBT002 (respx's)
        """Stop intercepting requests."""
        for mocker in self._httpx2_mockers():
            mocker.unregister(self)
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

    def _forward(self, request: httpx.Request) -> httpx.Response:
        # respx would intercept httpx here, but it does not intercept http.client.
        connection = http.client.HTTPConnection(
            self._server.hostname or "", self._server.port, timeout=_TIMEOUT_SECONDS
        )
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
        try:
            connection.request(request.method, request.url.raw_path.decode("ascii"), request.content, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        received = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP]
        return httpx.Response(response.status, headers=received, content=content)
