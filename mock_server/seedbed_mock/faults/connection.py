"""Waiting while a request is under way: it holds nobody up, and ends when the client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from msgspec import Meta

from seedbed_mock.faults.effects import Effect

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from seedbed_mock.clock import Clock


_TICK = 0.0005
"""In seconds: half of the millisecond to which a clock is read, and more than what its turns add up wrongly."""


async def until_left(receive: Receive) -> None:
    """Wait until the client leaves; what it sends before that is dropped.

    Args:
        receive: That of a request whose body was read.
    """
    while (await receive())["type"] != "http.disconnect":
        pass


async def sleep_until_left(seconds: float, receive: Receive) -> bool:
    """Wait so long, or until the client leaves, and tell whether it did.

    Args:
        seconds: How long at most; others get their turn even where it is 0.
        receive: That of a request whose body was read, and whose answer is not all sent.
    """
    try:
        async with asyncio.timeout(seconds):
            await until_left(receive)
    except TimeoutError:
        return False
    return True


async def sleep_by_clock(clock: Clock, seconds: float, receive: Receive) -> bool:
    """Wait so long by a clock, or until the client leaves, and tell whether it did.

    Args:
        clock: Whose seconds they are; it may be turned meanwhile, from any thread.
        seconds: How long at most.
        receive: That of a request whose body was read, and whose answer is not all sent.
    """
    loop, ends = asyncio.get_running_loop(), clock.now() + seconds

    def turned(_: float) -> None:
        loop.call_soon_threadsafe(wake)

    def wake() -> None:
        if not limit.expired():
            limit.reschedule(_when(clock, ends))

    limit = asyncio.timeout_at(_when(clock, ends))
    unwatch = clock.watch(turned)
    try:
        async with limit:
            await until_left(receive)
    except TimeoutError:
        return False
    finally:
        unwatch()
    return True


def _when(clock: Clock, ends: float) -> float | None:
    """Return when a moment of a clock comes, by the event loop; ``None`` while the clock stands still before it."""
    left = ends - clock.now()
    if left > _TICK and not clock.speed:
        return None
    return asyncio.get_running_loop().time() + (max(left, 0) / clock.speed if clock.speed else 0)


TRANSPORT: Final = "seedbed.transport"
"""Extension of ASGI by which a server lends the transport of the connection, as ``{"transport": ...}``."""

_LINGER_NOT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""Value of ``SO_LINGER`` with which closing a socket drops what is unsent and resets the connection."""


class BrokenConnectionError(ConnectionError):
    """The connection broke, where the client stands in the same process and so there was none."""


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """A request's way back to its client.

    Attributes:
        scope: As ASGI has it.
        receive: As ASGI has it; the body is read.
        send: As ASGI has it; nothing is sent.
        transport: Of the connection; ``None`` where the server lends none.
    """

    scope: Scope
    receive: Receive
    send: Send
    transport: asyncio.Transport | None

    @classmethod
    def of(cls, scope: Scope, receive: Receive, send: Send) -> ClientConnection:
        """Return that of a request to an ASGI application."""
        lent = scope.get("extensions", {}).get(TRANSPORT, {})
        return cls(scope, receive, send, lent.get("transport"))

    async def head(self, answer: Response) -> None:
        """Send the status and the headers of an answer."""
        start = {"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
        await self.send(start)

    async def part(self, content: bytes, *, more: bool = True) -> None:
        """Send a part of the body."""
        await self.send({"type": "http.response.body", "body": content, "more_body": more})

    async def half(self, answer: Response) -> None:
        """Send the status, the headers and half of the body."""
        await self.head(answer)
        await self.part(bytes(answer.body)[: len(answer.body) // 2])

    async def close(self) -> None:
        """Close the connection (FIN) after what was sent.

        Raises:
            BrokenConnectionError: There is no connection.
        """
        self._lent("the connection was closed").close()
        # Who returns before the connection is gone is taken for a broken application, and answered for.
        await until_left(self.receive)

    async def reset(self) -> None:
        """Reset the connection (RST); what the client's side has not taken in yet is lost, as ever.

        Raises:
            BrokenConnectionError: There is no connection.
        """
        transport = self._lent("the connection was reset")
        if not transport.is_closing():
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            transport.abort()
        await until_left(self.receive)

    def _lent(self, sentence: str) -> asyncio.Transport:
        if self.transport is None:
            raise BrokenConnectionError(sentence)
        return self.transport


class ConnectionEffect(Effect, frozen=True):
    """Breaks the connection on which an answer travels; the call itself is done."""

    async def send(self, answer: Response, wire: ClientConnection) -> None:
        """Send what arrives of an answer, and return when nothing more will.

        Raises:
            BrokenConnectionError: The connection is to break, and there is none.
        """


class ResetConnection(ConnectionEffect, frozen=True):
    """The connection is reset: a server that crashed or was killed, a firewall or balancer that forgot the connection.

    Attributes:
        at: Before any byte of the answer, or in the middle of it, after its headers and half of its body.
    """

    name = "wire.reset"
    at: Literal["before", "middle"] = "before"

    async def send(self, answer: Response, wire: ClientConnection) -> None:
        """Send nothing or half, and reset."""
        if self.at == "middle":
            await wire.half(answer)
        await wire.reset()


class CloseAfterHeaders(ConnectionEffect, frozen=True):
    """The headers arrive and no byte of the body: a worker that died when it began to write, behind a proxy."""

    name = "wire.close"

    async def send(self, answer: Response, wire: ClientConnection) -> None:
        """Send the headers and close."""
        await wire.head(answer)
        await wire.close()


class TruncatedResponse(ConnectionEffect, frozen=True):
    """Half of the body arrives, and its length says more: a proxy's time-out or full buffer, a server told to stop."""

    name = "wire.cut-short"

    async def send(self, answer: Response, wire: ClientConnection) -> None:
        """Send the headers and half of the body, and close."""
        await wire.half(answer)
        await wire.close()


class TrickledResponse(ConnectionEffect, frozen=True):
    """The body arrives byte by byte: an overloaded service, a poor line.

    The headers come at once. No pause is long enough for a client that limits each read, so that only one which limits
    the whole call gives up.

    Attributes:
        seconds: Between one byte and the next.
    """

    name = "wire.trickle"
    seconds: Annotated[float, Meta(ge=0, le=60)] = 0.1

    async def send(self, answer: Response, wire: ClientConnection) -> None:
        """Send the whole answer slowly; the connection is as good as ever afterwards."""
        await wire.head(answer)
        for byte in bytes(answer.body):
            if await sleep_until_left(self.seconds, wire.receive):
                return
            await wire.part(bytes([byte]))
        await wire.part(b"", more=False)


class HangingResponse(ConnectionEffect, frozen=True):
    """Nothing is ever sent: a deadlocked worker, a packet filter that swallows the answers."""

    name = "wire.hang"

    async def send(self, answer: Response, wire: ClientConnection) -> None:  # noqa: ARG002 (it is never sent)
        """Wait until the client leaves."""
        if wire.transport:
            wire.transport.set_protocol(_Deaf(wire.transport.get_protocol()))
        try:
            await until_left(wire.receive)
        finally:
            # A server that stops would send an error in place of the answer.
            if wire.transport:
                wire.transport.abort()


class UnrequestedResponse(ConnectionEffect, frozen=True):
    """The connection is closed without a byte: a balancer with nothing behind it, a server that is being replaced."""

    name = "wire.nothing"

    async def send(self, answer: Response, wire: ClientConnection) -> None:  # noqa: ARG002 (it is never sent)
        """Close."""
        await wire.close()


class _Deaf(asyncio.Protocol):
    """Drops what a client sends after a request that is never answered.

    The server would keep further requests for later and stop reading, and so never learn that the client left.
    """

    def __init__(self, server: asyncio.BaseProtocol) -> None:
        self._server = server

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connection_lost(exc)
