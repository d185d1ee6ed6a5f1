"""One HTTP/1.1 connection to the upstream service of the proxy, as the client: requests and responses as streams.

It uses the parser of the server instead of an HTTP client. A client with a pool takes ten times the processor time per
request, which every call through the proxy would have to wait for.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import httptools

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable

    from seedbed_mock.journal import Headers


_MOST_UNREAD: Final = 256 * 1024
"""In bytes: beyond this size of what the caller has not taken yet, the connection is not read from."""

_SLOWEST: Final = 64 * 1024
"""In bytes: how much of a body has to arrive in the time for a part of it."""

_LARGEST_HEAD: Final = 128 * 1024
"""In bytes: of a head, or of what else stands between two parts of a body."""

_NO_BODY: Final = frozenset({204, 304})
_INFORMATIONAL: Final = range(100, 200)


class UpstreamError(Exception):
    """The upstream service gave no response, or not the whole of one; the message is one sentence.

    Args:
        message: What happened.
        was_sent: Whether the request, or a part of it, may have reached the service.
    """

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.was_sent = was_sent


async def connect(host: str, port: int, tls: ssl.SSLContext | None, name: str, seconds: float) -> HttpConnection:
    """Return a new connection.

    Args:
        host: Host name or address.
        port: Port.
        tls: TLS context, ``None`` for no encryption.
        name: Name of the service for messages.
        seconds: Time for everything, the handshake included.

    Raises:
        UpstreamError: There is no connection; nothing was sent.
    """
    sock: socket.socket | None = None
    try:
        async with asyncio.timeout(seconds):
            sock = await _reach(host, port, seconds)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, connection = await asyncio.get_running_loop().create_connection(
                partial(HttpConnection, name), sock=sock, ssl=tls, server_hostname=host if tls else None
            )
            return connection
    except TimeoutError as error:
        raise UpstreamError(f"{name} could not be reached in {seconds:g} seconds", was_sent=False) from error
    except ssl.SSLCertVerificationError as error:
        problem = f"the certificate of {name} is not accepted ({error.verify_message.rstrip('.')})"
        raise UpstreamError(problem, was_sent=False) from error
    except (OSError, UnicodeError) as error:
        problem = f"{name} could not be reached ({_plain(error) or 'connection refused'})"
        if sock is not None and tls:
            reason = _plain(error) or "the service closed the connection"
            problem = f"the TLS handshake with {name} failed ({reason})"
        raise UpstreamError(problem, was_sent=False) from error


async def _reach(host: str, port: int, seconds: float) -> socket.socket:
    """Return a socket that is connected to one of the addresses of a host."""
    loop = asyncio.get_running_loop()
    # Not the method of the event loop: uvloop's uses threads for which the end of the server would wait.
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    addresses = await loop.run_in_executor(None, look_up)
    failure = OSError("it has no address")
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(0)
            # So that an address that does not respond leaves time for the others.
            async with asyncio.timeout(seconds / len(addresses)):
                await loop.sock_connect(sock, address)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):  # TimeoutError is one
                raise
            failure = error
        else:
            return sock
    raise failure


class HttpConnection(asyncio.Protocol):
    """A connection that sends one request at a time. No request is ever repeated.

    Args:
        name: Name of the service for messages.

    Attributes:
        idle_since: When the last response ended, as time of the event loop.
        status: HTTP status of the current response, 0 before its head is complete.
        headers: Its headers.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._transport: Any = None
        self._parser = httptools.HttpResponseParser(self)
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._is_idle = True
        self._may_reuse = True
        self.idle_since = 0.0
        self._begin(b"")

    def _begin(self, method: bytes) -> None:
        self._method = method
        self.status = 0
        self.headers: Headers = ()
        self._fields: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._unread = self._unparsed = 0
        self._ends_with_connection = self._is_complete = False

    @property
    def is_usable(self) -> bool:
        """Whether the connection can send another request."""
        return self._is_idle and self._may_reuse and not self._transport.is_closing()

    async def request(
        self, method: str, target: bytes, headers: Headers, content: bytes | AsyncIterable[bytes], seconds: float
    ) -> None:
        """Send a request and wait for the head of the response.

        Args:
            method: HTTP method.
            target: Path and query.
            headers: All headers; a body that is a stream without a length is sent in chunks.
            content: Body.
            seconds: Time for each part of the body, and for the response to begin.

        Raises:
            UpstreamError: The response did not come.
        """
        self._begin(method.encode("latin-1"))
        self._is_idle = False
        head = [b"%s %s HTTP/1.1\r\n" % (self._method, target)]
        head += [b"%s: %s\r\n" % field for field in headers]
        if isinstance(content, bytes):
            # In one piece, which is one system call here and one wake-up there.
            self._transport.write(b"".join((*head, b"\r\n", content)))
        else:
            self._transport.write(b"".join((*head, b"\r\n")))
            await self._send(content, seconds, is_chunked=(b"transfer-encoding", b"chunked") in headers)
        deadline = asyncio.get_running_loop().time() + seconds
        while not self.status:
            await self._wait(deadline)

    async def _send(self, content: AsyncIterable[bytes], seconds: float, *, is_chunked: bool) -> None:
        async for part in content:
            # A service may refuse a request before it has read the whole of it.
            if self.status or self._error:
                self._may_reuse = False
                return
            if part:
                self._transport.write(b"%x\r\n%s\r\n" % (len(part), part) if is_chunked else part)
            if self._writable:
                await self._until(self._writable, asyncio.get_running_loop().time() + seconds)
        if is_chunked:
            self._transport.write(b"0\r\n\r\n")

    async def chunks(self, seconds: float) -> AsyncGenerator[bytes]:
        """Yield the body as it arrives, with its content encoding.

        Args:
            seconds: Time for each 64 KiB of it, so that a body that drips comes to an end.

        Raises:
            UpstreamError: The body ends early, or drips.
        """
        loop, arrived = asyncio.get_running_loop(), 0
        deadline = loop.time() + seconds
        while self._chunks or not self._is_complete:
            if not self._chunks:
                await self._wait(deadline)
                continue
            chunk = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
            self._chunks.clear()
            if self._unread > _MOST_UNREAD:
                self._transport.resume_reading()
            self._unread = 0
            arrived += len(chunk)
            began = loop.time()
            yield chunk
            # The time that the caller takes is not the service's.
            deadline += loop.time() - began
            if arrived >= _SLOWEST:
                arrived, deadline = 0, loop.time() + seconds

    async def _wait(self, deadline: float) -> None:
        """Wait for the next part of the response."""
        if self._error:
            raise self._error
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._until(self._waiter, deadline)
        finally:
            self._waiter = None

    async def _until(self, moment: asyncio.Future[None], deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                await moment
        except TimeoutError as error:
            raise UpstreamError(f"{self._name} did not send what was expected in time") from error

    def release(self, now: float) -> bool:
        """End the exchange, and return whether another one may follow; the connection is closed if not."""
        if self._is_complete and self._may_reuse and not (self._chunks or self._transport.is_closing()):
            self.idle_since, self._is_idle = now, True
            return True
        self.close()
        return False

    def close(self) -> None:
        """Close the connection at once."""
        # Closing in order would wait for a service that does not end TLS.
        self._transport.abort()

    # Callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse what the service sent."""
        if self._is_idle:
            # A response to no request must not become the one to the next.
            self.close()
            return
        self._unparsed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("sent no complete HTTP response (it changes the protocol)")
        except httptools.HttpParserError as error:
            self._fail(f"sent no complete HTTP response ({_plain(error) or 'invalid HTTP'})")
        if self._unparsed > _LARGEST_HEAD:
            self._fail(f"sent no complete HTTP response (its headers are larger than {_LARGEST_HEAD} bytes)")

    def connection_lost(self, exc: Exception | None) -> None:
        """End what still waits."""
        if self._ends_with_connection and not exc:
            self._is_complete = True
        if exc:
            self._fail(f"broke the connection ({_plain(exc) or 'connection reset'})")
        elif not self._is_complete:
            self._fail("sent no complete HTTP response (it closed the connection)")
        _wake(self._waiter)
        self.resume_writing()

    def pause_writing(self) -> None:
        """Let the sender of a body wait."""
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Let the sender of a body go on."""
        _wake(self._writable)
        self._writable = None

    def _fail(self, problem: str) -> None:
        if not self._is_complete and not self._error:
            self._error = UpstreamError(f"{self._name} {problem}")
        self._may_reuse = False
        self._transport.abort()
        _wake(self._waiter)

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Note a response too many."""
        if self._is_complete:
            self._may_reuse = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; what follows the body is dropped."""
        if not self.status:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Let the caller have the head, unless the real one is still to come."""
        status = self._parser.get_status_code()
        self._unparsed = 0
        if self._is_complete:
            return
        if status in _INFORMATIONAL:
            self._fields.clear()
            return
        self.status, self.headers = status, tuple(self._fields)
        if self._method == b"HEAD" or status in _NO_BODY:
            # The parser does not know the method, and may wait for a body now.
            self._is_complete, self._may_reuse = True, False
        else:
            framed = {name.lower() for name, _ in self.headers} & {b"content-length", b"transfer-encoding"}
            self._ends_with_connection = not framed
        _wake(self._waiter)
        _wake(self._writable)

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body until the caller takes it."""
        self._unparsed = 0
        if self._is_complete:
            return
        self._chunks.append(body)
        was_below = self._unread <= _MOST_UNREAD
        self._unread += len(body)
        if was_below and self._unread > _MOST_UNREAD:
            self._transport.pause_reading()
        _wake(self._waiter)

    def on_message_complete(self) -> None:
        """End the response."""
        if self.status and not self._is_complete:
            self._is_complete = True
            self._may_reuse = self._may_reuse and self._parser.should_keep_alive()
            _wake(self._waiter)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter and not waiter.done():
        waiter.set_result(None)


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200]
