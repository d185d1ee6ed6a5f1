"""What passes: connections of a program to hosts for which the mock server does not stand in."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from seedbed_mock.interception.hosts import RefusedError, is_public
from seedbed_mock.settings import base_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import httpx2
    from starlette.types import Receive, Scope, Send

    from seedbed_mock.interception.hosts import Host


PROXIED: Final = "seedbed.proxied"
"""ASGI extension of a request that a program sent to the mock server as its proxy: ``{"host": ..., "report": ...}``.

``host`` is another host, and ``report`` a function that reports that the request passes.
"""

_CONNECT_SECONDS = 10
_READ_SECONDS = 300

_HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    }
)
"""Headers that belong to one connection (RFC 9110, section 7.6.1)."""


async def public_addresses(host: Host) -> list[str]:
    """Return the addresses of a host, all of them on the internet.

    Raises:
        RefusedError: The host is not found, or leads to this machine or a private network.
    """
    # Not the method of the event loop: uvloop's uses threads for which the end of the server would wait.
    look_up = partial(socket.getaddrinfo, host.name, host.port, type=socket.SOCK_STREAM)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            found = await asyncio.get_running_loop().run_in_executor(None, look_up)
    except (OSError, UnicodeError) as error:
        raise RefusedError(f"{host.name} is not intercepted, and its address was not found") from error
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    # All of them: a name that leads here as well as to the internet would be a way in.
    if private := next((each for each in addresses if not is_public(each)), None):
        raise RefusedError(
            f"{host.name} is not intercepted, and leads to {private} on this machine or a private network; name the"
            " host in NO_PROXY to connect to it directly"
        )
    return addresses


async def open_tunnel(host: Host) -> Tunnel:
    """Connect to a host on the internet, and return the end of the tunnel there.

    Raises:
        RefusedError: The host is not found, leads to a private network, or does not accept the connection.
    """
    loop, reason = asyncio.get_running_loop(), "it has no address"
    for address in await public_addresses(host):
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                # The address that was checked: a second look-up could give another one.
                _, tunnel = await loop.create_connection(Tunnel, address, host.port)
        except OSError as error:
            reason = getattr(error, "strerror", None) or "it does not respond"
        else:
            return tunnel
    raise RefusedError(f"{host.name} is not intercepted, and cannot be reached: {reason}")


class Tunnel(asyncio.Protocol):
    """One end of a tunnel: what it receives is sent at the other end, as fast as that end reads."""

    def __init__(self, other: Tunnel | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.other = other
        self.on_end: Callable[[], None] = lambda: None
        if other:
            other.other = self

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of a stream
        """Start; the end that is made first reads nothing until there is another end."""
        self.transport = transport
        if self.other is None:
            transport.pause_reading()
        elif self.other.transport is None or self.other.transport.is_closing():
            transport.close()
        else:
            self.other.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Pass data on."""
        if self.other and self.other.transport:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Pass the end of the data on; the other direction stays open."""
        if self.other and self.other.transport and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        """Let the other end read no more."""
        if self.other and self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """Let the other end read on."""
        if self.other and self.other.transport:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other end after what it still has to send."""
        self.on_end()
        if self.other and self.other.transport:
            self.other.transport.abort() if exc else self.other.transport.close()

    def abort(self) -> None:
        """Close both ends at once."""
        for end in (self, self.other):
            if end and end.transport:
                end.transport.abort()


class Forwarder:
    """An ASGI application that sends requests on to other hosts over plain HTTP, and their responses back."""

    def __init__(self) -> None:
        self._client: httpx2.AsyncClient | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request."""
        host: Host = scope["extensions"][PROXIED]["host"]
        try:
            address = (await public_addresses(host))[0]
        except RefusedError as error:
            await _respond(send, HTTPStatus.FORBIDDEN, f"{error}.")
            return
        scope["extensions"][PROXIED]["report"](host)
        try:
            await self._forward(scope, receive, send, base_url(address, host.port))
        except OSError as error:
            await _respond(send, HTTPStatus.BAD_GATEWAY, f"{host} cannot be reached: {error}.")

    async def _forward(self, scope: Scope, receive: Receive, send: Send, base: str) -> None:
        import httpx2  # imported late: most programs send no such request

        if self._client is None:
            timeout = httpx2.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
            # No request here uses TLS, and by default the certificates of all authorities would be loaded.
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._client = httpx2.AsyncClient(timeout=timeout, verify=tls, trust_env=False)
        query = scope["query_string"]
        # The address that was checked, with the Host header of the program.
        url = f"{base}{scope['raw_path'].decode('ascii')}{'?' if query else ''}{query.decode('latin-1')}"
        headers = [(name, value) for name, value in scope["headers"] if name not in _HOP_BY_HOP]
        names = {name for name, _ in scope["headers"]}
        has_body = b"content-length" in names or b"transfer-encoding" in names
        request = httpx2.Request(scope["method"], url, headers=headers, content=_chunks(receive) if has_body else None)
        try:
            response = await self._client.send(request, stream=True)
        except httpx2.TransportError as error:
            raise OSError(str(error) or type(error).__name__) from error
        async with contextlib.aclosing(response):
            fields = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in _HOP_BY_HOP]
            await send({"type": "http.response.start", "status": response.status_code, "headers": fields})
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def close(self) -> None:
        """Close all connections."""
        if self._client:
            await self._client.aclose()


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    message = await receive()
    while message["type"] == "http.request":
        yield message.get("body", b"")
        if not message.get("more_body"):
            return
        message = await receive()
    raise OSError("the program closed the connection")


async def _respond(send: Send, status: HTTPStatus, sentence: str) -> None:
    body = f"Seedbed: {sentence}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
