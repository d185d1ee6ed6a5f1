"""The recorder of the proxy: a HAR file of the exchanges, and copies of the result images."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from seedbed_mock.clock import real_monotonic, real_time
from seedbed_mock.recording.archive import HarExchange, HarFile, Redactor, result_urls
from seedbed_mock.recording.http_connection import UpstreamError
from seedbed_mock.recording.transit import BodyKeeper
from seedbed_mock.recording.upstream import Upstream, is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


_log = logging.getLogger("seedbed")

RESULT: Final = "result"
"""``operation`` of an exchange that fetched an image."""

_MOST_AT_ONCE = 4
_MOST_REMEMBERED = 10_000
_FETCH_SECONDS = 60.0
_LAST_SECONDS = 3.0
"""How long the proxy waits at its end for images that it still fetches."""


class Recorder:
    """Writes exchanges to a HAR file, and fetches the images that records name.

    Callers fetch results from another server than the API, so that the proxy does not see the images. It fetches each
    once, without a key, since a recording is replayed when they have expired.

    Args:
        folder: Directory of the recording.
        upstream: Base URL of the service; images are fetched by http only from this machine, for a service on it.

    Raises:
        OSError: The directory cannot be written to.
    """

    def __init__(self, folder: Path, upstream: str) -> None:
        self.folder = folder
        self._file = HarFile(folder)
        self._is_local = is_loopback(urlsplit(upstream).hostname or "")
        self._seen: dict[str, None] = {}
        self._fetches = set[asyncio.Task[None]]()
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)
        self._has_failed = False

    @property
    def path(self) -> Path:
        """The HAR file."""
        return self._file.path

    def add(self, exchange: HarExchange) -> None:
        """Write an exchange without secrets; a full disk stops the recording, not the proxy."""
        try:
            self._file.add(exchange)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                _log.error("The recording %s cannot be written: %s.", self.path, error.strerror)

    def keep_results(self, envelope: Mapping[str, Any], redactor: Redactor) -> None:
        """Fetch the images that a response with a record names, in the background."""
        for url in result_urls(envelope.get("data")):
            if url in self._seen or len(self._seen) >= _MOST_REMEMBERED:
                continue
            self._seen[url] = None
            fetch = asyncio.create_task(self._keep_result(url, redactor))
            self._fetches.add(fetch)
            fetch.add_done_callback(self._fetches.discard)

    async def _keep_result(self, url: str, redactor: Redactor) -> None:
        parts = urlsplit(url)
        is_local = self._is_local and parts.scheme == "http" and is_loopback(parts.hostname or "")
        if parts.scheme != "https" and not is_local:
            _log.warning("The image %s is not recorded: only https is fetched.", url)
            return
        began, started = real_time() * 1000, real_monotonic()
        server = Upstream(f"{parts.scheme}://{parts.netloc}", _FETCH_SECONDS)
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        # As the record has it, so that the two still belong together.
        exchange = HarExchange(started=began, method="GET", url=redactor.text(url), operation=RESULT)
        try:
            async with self._room, asyncio.timeout(_FETCH_SECONDS):
                exchange = await self._fetch(server, target, exchange)
        except (UpstreamError, TimeoutError, OSError, ValueError) as error:
            exchange = msgspec.structs.replace(exchange, error=str(error) or "the image did not arrive in time")
            _log.warning("The image %s is not recorded: %s.", url, exchange.error)
        finally:
            await server.close()
        self.add(msgspec.structs.replace(exchange, duration=(real_monotonic() - started) * 1000))

    async def _fetch(self, server: Upstream, target: str, exchange: HarExchange) -> HarExchange:
        # A look, not a fetch: a mock server as upstream would take it for one by its user.
        look = ((b"sec-fetch-site", b"same-origin"),)
        response = await server.open("GET", target.encode(), look)
        exchange = msgspec.structs.replace(exchange, status=response.status, response_headers=response.headers)
        keeper = BodyKeeper(Redactor(()), self.folder)
        async for chunk in response.chunks():
            keeper.add(chunk)
        body, body_file = keeper.finish(exchange.media_type)
        size = keeper.size if body_file else 0
        return msgspec.structs.replace(exchange, response=body, body_file=body_file, body_size=size)

    async def close(self) -> None:
        """Write what is still to come for a moment, and close the file."""
        if self._fetches:
            await asyncio.wait(tuple(self._fetches), timeout=_LAST_SECONDS)
        for fetch in tuple(self._fetches):
            fetch.cancel()
        self._file.close()
