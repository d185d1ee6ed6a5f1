"""What a server shows: one fake after another, each with settings of its own, while the address stays."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send


class Stage:
    """An ASGI application that plays another, which can be changed while the server runs.

    Args:
        app: The first fake to play.
    """

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 (ASGI says what)
        await self.app(scope, receive, send)

    def open(self) -> None:
        """Begin, in the event loop of the server: what a server before this one left undelivered goes out."""
        self._loop = asyncio.get_running_loop()
        self.app.state.courier.wake()

    def show(self, app: Starlette) -> None:
        """Play another fake from now on; for a thread beside that of the server, and done when it returns.

        Raises:
            RuntimeError: The server has ended.
        """
        if self._loop is None or self._loop.is_closed():
            raise RuntimeError("the server has ended; play within the block of running()")
        asyncio.run_coroutine_threadsafe(self._change(app), self._loop).result()

    async def _change(self, app: Starlette) -> None:
        before, self.app = self.app, app
        await _end(before)
        app.state.courier.wake()

    async def close(self) -> None:
        """End: what is not delivered is kept for who goes on."""
        await _end(self.app)


async def _end(app: Starlette) -> None:
    await app.state.courier.close()
    app.state.service.store.close()
