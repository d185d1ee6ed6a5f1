"""The live part of a page: one stream of server-sent events, with what has changed on the page since the last one."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from seedbed_mock.clock import real_monotonic
from seedbed_mock.stores.store import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import Receive, Send


MOST_STREAMS: Final = 32
"""Number of pages that one server updates; each costs it some time."""

_SECONDS: Final = 0.1
"""How often a page is updated at most, however much happens."""

_QUIET_SECONDS: Final = 0.3
"""How often a page is rendered while no call arrives: time moves tasks on, and other programs turn the clock."""

_HEARTBEAT_SECONDS: Final = 10.0
"""How often something is sent at least, so that both sides notice a broken connection."""


class LiveStreams:
    """The streams of one server."""

    def __init__(self) -> None:
        self._stopped = set[asyncio.Event]()
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether the server updates no more pages."""
        return self._is_closed or len(self._stopped) >= MOST_STREAMS

    def close(self) -> None:
        """End all streams, in the event loop of the server."""
        self._is_closed = True
        for each in self._stopped:
            each.set()

    async def run(
        self,
        render: Callable[[], Awaitable[Mapping[str, str]]],
        newest: Callable[[], int],
        receive: Receive,
        send: Send,
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        """Send the parts of a page that change, until the page is closed or the server stops.

        Nothing is queued: while a browser is slow, the next event waits, and then has the newest state.

        Args:
            render: Returns the HTML of each part by the ID of its element.
            newest: Returns a number that grows with each call.
            receive: Receives the end of the connection.
            send: Sends the response.
            headers: Further headers of the response.
        """
        stopped = asyncio.Event()
        self._stopped.add(stopped)

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            stopped.set()

        watcher = asyncio.create_task(watch())
        try:
            start = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), *headers]
            await send({"type": "http.response.start", "status": 200, "headers": start})
            await self._send_changes(render, newest, send, stopped)
            with contextlib.suppress(OSError):
                await send({"type": "http.response.body", "body": b""})
        finally:
            watcher.cancel()
            self._stopped.discard(stopped)

    async def _send_changes(
        self,
        render: Callable[[], Awaitable[Mapping[str, str]]],
        newest: Callable[[], int],
        send: Send,
        stopped: asyncio.Event,
    ) -> None:
        sent: dict[str, str] = {}
        rendered_at = sent_at = number = 0.0
        while not stopped.is_set():
            now, latest = real_monotonic(), newest()
            if latest != number or now - rendered_at >= _QUIET_SECONDS:
                number, rendered_at = latest, now
                with contextlib.suppress(StoreUnavailableError):
                    parts = await render()
                    changed = {name: html for name, html in parts.items() if sent.get(name) != html}
                    if changed:
                        sent |= changed
                        sent_at = now
                        await send({"type": "http.response.body", "body": _event(changed), "more_body": True})
            if now - sent_at >= _HEARTBEAT_SECONDS:
                sent_at = now
                await send({"type": "http.response.body", "body": b": still here\n\n", "more_body": True})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS):
                    await stopped.wait()


def _event(parts: Mapping[str, str]) -> bytes:
    """Return an event that replaces the content of some elements; what is the same in them stays as it is."""
    text = "".join(
        f'<hx-partial hx-target="#{name}" hx-swap="innerMorph">{html}</hx-partial>' for name, html in parts.items()
    )
    return "".join(f"data: {line}\n" for line in text.splitlines()).encode(errors="replace") + b"\n"
