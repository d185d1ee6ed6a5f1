"""Wire effects: an answer that the network, not the service, spoils.

Each is seen as such by any client on a real socket, where the server lends the connection's transport (the extension
:data:`TRANSPORT` of ASGI). Elsewhere, as in the process of a test, there is no connection to break: what would have
arrived is sent, and then :class:`BrokenWire` is raised.
"""

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
from seedbed_mock.faults.waiting import sleep_until_left, until_left

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

TRANSPORT: Final = "seedbed.transport"
"""Extension of ASGI by which a server lends the transport of the connection, as ``{"transport": ...}``."""

_LINGER_NOT = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""Value of ``SO_LINGER`` with which closing a socket drops what is unsent and resets the connection."""


class BrokenWire(ConnectionError):
    """The connection broke, where the client stands in the same process and so there was none."""


@dataclass(frozen=True, slots=True)
class Wire:
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
    def of(cls, scope: Scope, receive: Receive, send: Send) -> Wire:
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
            BrokenWire: There is no connection.
        """
        self._lent("the connection was closed").close()
        # Who returns before the connection is gone is taken for a broken application, and answered for.
        await until_left(self.receive)

    async def reset(self) -> None:
        """Reset the connection (RST); what the client's side has not taken in yet is lost, as ever.

        Raises:
            BrokenWire: There is no connection.
        """
        transport = self._lent("the connection was reset")
        if not transport.is_closing():
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            transport.abort()
        await until_left(self.receive)

    def _lent(self, sentence: str) -> asyncio.Transport:
        if self.transport is None:
            raise BrokenWire(sentence)
        return self.transport


class OnWire(Effect, frozen=True):
    """Breaks the connection on which an answer travels; the call itself is done."""

    async def send(self, answer: Response, wire: Wire) -> None:
        """Send what arrives of an answer, and return when nothing more will.

        Raises:
            BrokenWire: The connection is to break, and there is none.
        """


class Reset(OnWire, frozen=True):
    """The connection is reset: a server that crashed or was killed, a firewall or balancer that forgot the connection.

    Attributes:
        at: Before any byte of the answer, or in the middle of it, after its headers and half of its body.
    """

    name = "wire.reset"
    at: Literal["before", "middle"] = "before"

    async def send(self, answer: Response, wire: Wire) -> None:
        """Send nothing or half, and reset."""
        if self.at == "middle":
            await wire.half(answer)
        await wire.reset()


class CloseAfterHeaders(OnWire, frozen=True):
    """The headers arrive and no byte of the body: a worker that died when it began to write, behind a proxy."""

    name = "wire.close"

    async def send(self, answer: Response, wire: Wire) -> None:
        """Send the headers and close."""
        await wire.head(answer)
        await wire.close()


class CutShort(OnWire, frozen=True):
    """Half of the body arrives, and its length says more: a proxy's time-out or full buffer, a server told to stop."""

    name = "wire.cut-short"

    async def send(self, answer: Response, wire: Wire) -> None:
        """Send the headers and half of the body, and close."""
        await wire.half(answer)
        await wire.close()


class Trickle(OnWire, frozen=True):
    """The body arrives byte by byte: an overloaded service, a poor line.

    The headers come at once. No pause is long enough for a client that limits each read, so that only one which limits
    the whole call gives up.

    Attributes:
        seconds: Between one byte and the next.
    """

    name = "wire.trickle"
    seconds: Annotated[float, Meta(ge=0, le=60)] = 0.1

    async def send(self, answer: Response, wire: Wire) -> None:
        """Send the whole answer slowly; the connection is as good as ever afterwards."""
        await wire.head(answer)
        for byte in bytes(answer.body):
            if await sleep_until_left(self.seconds, wire.receive):
                return
            await wire.part(bytes([byte]))
        await wire.part(b"", more=False)


class Hang(OnWire, frozen=True):
    """Nothing is ever sent: a deadlocked worker, a packet filter that swallows the answers."""

    name = "wire.hang"

    async def send(self, answer: Response, wire: Wire) -> None:  # noqa: ARG002 (it is never sent)
        """Wait until the client leaves."""
        if wire.transport:
            wire.transport.set_protocol(_Deaf(wire.transport.get_protocol()))
        try:
            await until_left(wire.receive)
        finally:
            # A server that stops would send an error in place of the answer.
            if wire.transport:
                wire.transport.abort()


class AnswerToNothing(OnWire, frozen=True):
    """The connection is closed without a byte: a balancer with nothing behind it, a server that is being replaced."""

    name = "wire.nothing"

    async def send(self, answer: Response, wire: Wire) -> None:  # noqa: ARG002 (it is never sent)
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
