"""A router of respx that answers for the paid service, by asking a fake that runs."""

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
_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "host", "content-length"}


class SeedbedRouter(respx.MockRouter):
    """Answers requests to the paid service, of httpx and of httpx2; those to the fake itself pass through.

    Args:
        url: Base URL of the fake.
        options: For ``respx.MockRouter``.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(**{"assert_all_called": False, **options})
        self._fake = urlsplit(url)
        self.route(host=self._fake.hostname, port=self._fake.port).pass_through()
        self.route(host=urlsplit(default_contract().operation.server).hostname).mock(side_effect=self._ask)

    def start(self) -> None:
        """Answer from now on."""
        super().start()
        for mocker in self._for_httpx2():
            mocker.register(self)
            mocker.start()

    def stop(self, clear: bool = True, reset: bool = True, quiet: bool = False) -> None:  # noqa: FBT001, FBT002
        """Answer no more."""
        for mocker in self._for_httpx2():
            mocker.unregister(self)
            mocker.stop()
        super().stop(clear, reset, quiet)

    def _for_httpx2(self) -> Iterator[type[Mocker]]:
        """Yield what makes respx answer httpx2, where that is installed and not chosen already."""
        try:
            import pytest_httpx2  # noqa: F401, PLC0415 (importing it is what registers its mocker)
        except ModuleNotFoundError:
            return
        if self.using != _HTTPX2:
            yield Mocker.registry[_HTTPX2]

    def _ask(self, request: httpx.Request) -> httpx.Response:
        connection = http.client.HTTPConnection(self._fake.hostname or "", self._fake.port, timeout=_TIMEOUT_SECONDS)
        headers = {name: value for name, value in request.headers.items() if name not in _OF_ONE_CONNECTION}
        try:
            connection.request(request.method, request.url.raw_path.decode("ascii"), request.content, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OF_ONE_CONNECTION]
        return httpx.Response(answer.status, headers=kept, content=content)
