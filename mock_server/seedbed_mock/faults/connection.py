"""Faults of the connection: effects that break it while a response is sent, and waiting that ends with it."""

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


TRANSPORT: Final = "seedbed.transport"
"""ASGI extension by which a server gives access to the transport of the connection: ``{"transport": ...}``."""

NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""Value of ``SO_LINGER`` with which closing a socket sends RST instead of FIN."""

_TICK = 0.0005
"""In seconds: half of the clock's resolution of one millisecond, and more than the error of adding many advances."""


async def wait_for_disconnect(receive: Receive) -> None:
    """Wait until the client closes the connection.

    Args:
        receive: Receive channel of a request whose body is read.
    """
    while (await receive())["type"] != "http.disconnect":
        pass


async def sleep_or_disconnect(seconds: float, receive: Receive) -> bool:
    """Sleep, and return whether the client closed the connection before the end.

    Args:
        seconds: Duration in real seconds; with 0, other tasks have their turn.
        receive: Receive channel of a request whose body is read and whose response is not complete.
    """
    try:
        async with asyncio.timeout(seconds):
            await wait_for_disconnect(receive)
    except TimeoutError:
        return False
    return True


async def sleep_by_clock(clock: Clock, seconds: float, receive: Receive) -> bool:
    """Sleep by a clock, and return whether the client closed the connection before the end.

    Args:
        clock: Clock of the server, which can be advanced meanwhile in any thread.
        seconds: Duration in seconds of the clock.
        receive: Receive channel of a request whose body is read and whose response is not complete.
    """
    loop, end = asyncio.get_running_loop(), clock.now() + seconds

    def on_clock_advanced(_: float) -> None:
        loop.call_soon_threadsafe(reschedule)

    def reschedule() -> None:
        # The client may have closed the connection since the clock was advanced, and the limit is over.
        with contextlib.suppress(RuntimeError):
            limit.reschedule(_loop_time(clock, end))

    limit = asyncio.timeout_at(_loop_time(clock, end))
    unwatch = clock.watch(on_clock_advanced)
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                async with limit:
                    await wait_for_disconnect(receive)
                return True
            # A clock that follows a frozen time does not get on while the event loop waits.
            if end - clock.now() <= _TICK:
                return False
            limit = asyncio.timeout_at(_loop_time(clock, end))
    finally:
        unwatch()


def _loop_time(clock: Clock, end: float) -> float | None:
    """Return a time of a clock as time of the event loop; ``None`` if the clock stands still before it."""
    left = end - clock.now()
    if left > _TICK and not clock.speed:
        return None
    return asyncio.get_running_loop().time() + (max(left, 0) / clock.speed if clock.speed else 0)


class BrokenConnectionError(ConnectionError):
    """A fault breaks the connection of a client in the same process, where there is no socket to close."""


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """The connection to the client of one request.

    Attributes:
        scope: ASGI scope of the request.
        receive: ASGI receive channel; the body of the request is read.
        send: ASGI send channel; nothing is sent yet.
        transport: Transport of the connection; ``None`` if the server gives no access to it.
    """

    scope: Scope
    receive: Receive
    send: Send
    transport: asyncio.Transport | None

    @classmethod
    def of(cls, scope: Scope, receive: Receive, send: Send) -> ClientConnection:
        """Return the connection of a request to an ASGI application."""
        extension = scope.get("extensions", {}).get(TRANSPORT, {})
        return cls(scope, receive, send, extension.get("transport"))

    @property
    def has_left(self) -> bool:
        """Whether the client is known to have left."""
        return self.transport is not None and self.transport.is_closing()

    async def send_head(self, response: Response) -> None:
        """Send the status and the headers of a response."""
        start = {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        await self.send(start)

    async def send_body(self, content: bytes, *, more: bool = True) -> None:
        """Send a part of the body."""
        await self.send({"type": "http.response.body", "body": content, "more_body": more})

    async def send_half(self, response: Response) -> None:
        """Send the status, the headers and the first half of the body."""
        await self.send_head(response)
        await self.send_body(bytes(response.body)[: len(response.body) // 2])

    async def close(self) -> None:
        """Close the connection (FIN) after everything is sent.

        Raises:
            BrokenConnectionError: There is no transport.
        """
        self._require_transport("closed").close()
        # An application that returns before the connection is gone makes the server send an error response.
        await wait_for_disconnect(self.receive)

    async def reset(self) -> None:
        """Reset the connection (RST), which drops what the client has not read yet.

        Raises:
            BrokenConnectionError: There is no transport.
        """
        transport = self._require_transport("reset")
        if not transport.is_closing():
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            transport.abort()
        await wait_for_disconnect(self.receive)

    def _require_transport(self, action: str) -> asyncio.Transport:
        if self.transport is None:
            raise BrokenConnectionError(f"the connection was {action} by a fault")
        return self.transport


class ConnectionEffect(Effect, frozen=True):
    """Breaks the connection while the response is sent; the call itself takes effect."""

    async def send(self, response: Response, connection: ClientConnection) -> None:
        """Send a part of a response, and return when nothing more is sent.

        Args:
            response: Complete response.
            connection: Connection to the client.

        Raises:
            BrokenConnectionError: The effect needs a transport, which in-process requests do not have.
        """
        raise NotImplementedError


class ResetConnection(ConnectionEffect, frozen=True):
    """A reset connection: a crashed or killed server, or a firewall that forgot the connection.

    Attributes:
        at: ``before`` the first byte of the response, or in the ``middle`` of its body.
    """

    name = "wire.reset"
    at: Literal["before", "middle"] = "before"

    async def send(self, response: Response, connection: ClientConnection) -> None:
        """Send nothing or the first half, and reset the connection."""
        if self.at == "middle":
            await connection.send_half(response)
        await connection.reset()


class CloseAfterHeaders(ConnectionEffect, frozen=True):
    """Headers without a body: a worker behind a proxy died when it began to write."""

    name = "wire.close"

    async def send(self, response: Response, connection: ClientConnection) -> None:
        """Send the headers and close the connection."""
        await connection.send_head(response)
        await connection.close()


class TruncatedResponse(ConnectionEffect, frozen=True):
    """Half of a body whose Content-Length is longer: a time-out of a proxy, or a stopped server."""

    name = "wire.cut-short"

    async def send(self, response: Response, connection: ClientConnection) -> None:
        """Send the headers and half of the body, and close the connection."""
        await connection.send_half(response)
        await connection.close()


class TrickledResponse(ConnectionEffect, frozen=True):
    """A body that arrives byte by byte: an overloaded service or a slow network.

    The headers arrive at once. Each pause is shorter than usual read time-outs, so only a client that limits the whole
    call gives up.

    Attributes:
        seconds: Pause between two bytes in seconds.
    """

    name = "wire.trickle"
    seconds: Annotated[float, Meta(ge=0, le=60)] = 0.1

    async def send(self, response: Response, connection: ClientConnection) -> None:
        """Send the whole response slowly; the connection stays usable."""
        await connection.send_head(response)
        for byte in bytes(response.body):
            if await sleep_or_disconnect(self.seconds, connection.receive):
                return
            await connection.send_body(bytes([byte]))
        await connection.send_body(b"", more=False)


class HangingResponse(ConnectionEffect, frozen=True):
    """No response at all on an open connection: a deadlocked worker, or a firewall that drops packets."""

    name = "wire.hang"

    async def send(self, response: Response, connection: ClientConnection) -> None:
        """Wait until the client closes the connection."""
        transport = connection.transport
        if transport:
            transport.set_protocol(_DiscardingProtocol(transport.get_protocol()))
        try:
            await wait_for_disconnect(connection.receive)
        finally:
            # A server that stops cancels this wait, and would send an error response.
            if transport:
                transport.abort()


class CloseWithoutResponse(ConnectionEffect, frozen=True):
    """A connection that is closed without a byte: a load balancer without a backend, or a server that is replaced."""

    name = "wire.nothing"

    async def send(self, response: Response, connection: ClientConnection) -> None:
        """Close the connection."""
        await connection.close()


class _DiscardingProtocol(asyncio.Protocol):
    """Discards what a client sends after a request that never gets a response.

    The protocol of the server would queue further requests and stop reading, so that it would never notice that the
    client closes the connection.
    """

    def __init__(self, server_protocol: asyncio.BaseProtocol) -> None:
        self._server_protocol = server_protocol

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_protocol.connection_lost(exc)
