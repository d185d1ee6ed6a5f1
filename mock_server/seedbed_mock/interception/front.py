"""The front of a server with interception: one port for HTTP, for TLS and for requests to a proxy.

The first bytes of a connection decide. They are looked at without being taken, and the head of a CONNECT request is
taken without a byte of what follows it. So nothing is lost on the way to TLS, however a program cuts what it sends, and
a connection is handed over to the protocol of the server as if nothing had happened to it before.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools

from seedbed_mock.access import is_loopback
from seedbed_mock.direct_protocol import DirectProtocol
from seedbed_mock.interception.hosts import HTTP, HTTPS, Host, RefusedError
from seedbed_mock.interception.passage import PROXIED, Forwarder, Tunnel, open_tunnel
from seedbed_mock.interception.setup import ASKED_FOR
from seedbed_mock.protocol import REFUSAL

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.types import Message

    from seedbed_mock.interception.authority import HostContext
    from seedbed_mock.interception.setup import Interception
    from seedbed_mock.options import ServerOptions


_HANDSHAKE = b"\x16"
"""First byte of a TLS connection: the content type of a handshake record (RFC 8446, section 5.1)."""

_CONNECT = b"CONNECT "
_END_OF_HEAD = b"\r\n\r\n"
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_INVALID_TARGET = "a CONNECT request must name a host and a port, such as api.test:443"
_UNNAMED = "this machine"
_DISTRUST = (
    "it left",
    "UNKNOWN_CA",
    "BAD_CERTIFICATE",
    "CERTIFICATE_UNKNOWN",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_EXPIRED",
)
"""How OpenSSL names the alerts of a client that does not accept a certificate."""

_PEEKED = 4096
_MOST_ACCEPTED = 64
_PAUSE_SECONDS = 0.5
"""How long no connection is accepted when the process has no file descriptor for it."""

_SHUTDOWN_SECONDS = 1.0
"""How long a client may take to answer the end of a TLS connection."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class FrontedProtocol(DirectProtocol):
    """The protocol of a connection that a :class:`ConnectionFront` hands over.

    Args:
        front: The front.
        arguments: Arguments of uvicorn.
    """

    # Each head can name another host, and each call is counted.
    remembers_heads = False

    def __init__(self, front: ConnectionFront, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._front = front
        self._own_app = self.app
        self._is_stopping = False
        self.origin: Host | None = None
        """The intercepted host that the program called."""
        self.client_name = ""
        self.first: tuple[bytes, float] | None = None
        """What was taken from the connection before, and when it began, as time of the event loop."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Let the URLs of results begin with the address that the program called."""
        super().connection_made(transport)
        if tls := transport.get_extra_info("ssl_object"):
            self.origin = self.origin or self._front.interception.origin(tls.context.host)
        if self.origin:
            self.server = self.origin
        if self.first:
            self.take_over(*self.first)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report a program that left after the handshake, as Node does when it does not trust the authority."""
        if self.origin and self.scheme == "https" and not self.has_requested and not self._is_stopping:
            self._front.report_distrust(self.origin.name, "it left without a request", self.client_name)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Begin to end the connection."""
        self._is_stopping = True
        super().shutdown()

    def on_headers_complete(self) -> None:
        """Find out whether a request is for another host, as programs send it to a proxy."""
        self.app = self._own_app
        is_intercepted = self.origin is not None
        if not self.url.startswith(b"/") and (target := self._target()) and not self._front.is_own(target):
            is_intercepted = self._front.interception.rules.intercepts(target)
            if is_intercepted:
                self.scope["server"] = target
            else:
                self._pass_on(target)
        self._front.interception.reporter.calls += is_intercepted
        super().on_headers_complete()

    def _target(self) -> Host | None:
        """Return the host that the target of the request names, ``None`` if it names none."""
        try:
            parsed = httptools.parse_url(self.url)
            name = (parsed.host or b"").decode("ascii")
            return Host.parse(f"[{name}]" if ":" in name else name, parsed.port or HTTP) if parsed.schema else None
        except (httptools.HttpParserInvalidURLError, ValueError):
            return None

    def _pass_on(self, target: Host) -> None:
        if not self.url.lower().startswith(b"http:"):
            self.refuse_request(HTTPStatus.BAD_REQUEST, "a request to a proxy must begin with http:// or CONNECT")
        try:
            self._front.interception.rules.check_passage(target, HTTP, is_local=is_local(self.client))
        except RefusedError as error:
            self._front.interception.reporter.report(f"Refused: {error}.")
            self.refuse_request(HTTPStatus.FORBIDDEN, str(error))
        report = self._front.interception.reporter.report_passage
        self.scope["extensions"] = {**self._extensions, PROXIED: {"host": target, "report": report}}
        self.app = self._front.forwarder


def is_local(client: object) -> bool:
    """Return whether a client, as its socket names it, is on this machine; at a Unix socket it has no address."""
    return not isinstance(client, tuple) or is_loopback(client[0].partition("%")[0])


class _ConnectRequest:
    """A CONNECT request.

    Args:
        head: Its head.

    Attributes:
        target: Host that it names.
        client_name: Value of User-Agent.

    Raises:
        ValueError: It is not a valid CONNECT request.
    """

    def __init__(self, head: bytes, most_headers: int) -> None:
        self._url, self.client_name, self._left = b"", "", most_headers
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            if parser.get_method() == b"CONNECT" and self._left >= 0:
                self.target = Host.parse(self._url.decode("ascii"), 0)
                return
        except httptools.HttpParserError as error:
            raise ValueError("not HTTP") from error
        raise ValueError("not a CONNECT request")

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._left -= 1
        if name.lower() == b"user-agent":
            self.client_name = value.decode("latin-1")


class ConnectionFront:
    """Accepts connections on a socket and hands them over to the protocol of the server.

    Args:
        listener: The listening socket, which it closes.
        interception: What is intercepted, and with which certificates.
        make_protocol: Returns a protocol for a connection.
        limits: Options of the server.
    """

    def __init__(
        self,
        listener: socket.socket,
        interception: Interception,
        make_protocol: Callable[[ConnectionFront], FrontedProtocol],
        limits: ServerOptions,
    ) -> None:
        self.interception = interception
        self.forwarder = Forwarder()
        address = listener.getsockname()
        self._port = address[1] if isinstance(address, tuple) else 0
        self._listener = listener
        self._make_protocol = make_protocol
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tunnels: set[Tunnel] = set()
        listener.settimeout(0)
        self._loop.add_reader(listener, self._accept)

    def is_own(self, host: Host) -> bool:
        """Return whether a host and port are those of the server itself."""
        return host.port == self._port and self.interception.is_own(host.name)

    def report_distrust(self, host: str, reason: str, client_name: str) -> None:
        """Report that a program does not trust the certificate of a host."""
        self.interception.reporter.report_distrust(host, reason, client_name, self.interception.certificate)

    def close(self) -> None:
        """Stop listening, and close all connections that are not handed over."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()
        for task in self._tasks:
            task.cancel()
        for tunnel in self._tunnels:
            tunnel.abort()
        self._spawn(self.forwarder.close())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self) -> None:
        for _ in range(_MOST_ACCEPTED):
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._loop.remove_reader(self._listener)
                    self._loop.call_later(_PAUSE_SECONDS, self._accept_again)
                return
            connection.settimeout(0)
            self._spawn(self._serve(connection))

    def _accept_again(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    # One connection

    async def _serve(self, connection: socket.socket) -> None:
        """Hand a connection over; one that ends before is closed."""
        try:
            async with asyncio.timeout(self._limits.keep_alive):
                first = await self._peek(connection)
            if first[:1] == _CONNECT[:1]:
                await self._serve_proxy(connection)
            elif first:
                await self._hand_over(connection, first, self.interception.entry)
        except OSError:
            pass  # the client left, or sent nothing in time
        finally:
            # A transport that took the connection over has detached this object from it.
            connection.close()

    async def _peek(self, connection: socket.socket) -> bytes:
        """Return the next bytes of a connection when there are some, and leave them in it."""
        while True:
            try:
                return connection.recv(_PEEKED, socket.MSG_PEEK)
            except BlockingIOError:
                readable = self._loop.create_future()
                self._loop.add_reader(connection, _finish, readable)
                try:
                    await readable
                finally:
                    self._loop.remove_reader(connection)

    async def _serve_proxy(self, connection: socket.socket) -> None:
        """Answer a CONNECT request, and hand over what is not one."""
        started, protocol = self._loop.time(), self._make_protocol(self)
        head = await self._take_head(connection)
        protocol.first = head, started
        try:
            request = _ConnectRequest(head, self._limits.max_headers)
        except ValueError:
            if head.startswith(_CONNECT):
                protocol.connect_refusal = HTTPStatus.BAD_REQUEST, _INVALID_TARGET
            await self._start(connection, protocol)
            return
        target, reporter = request.target, self.interception.reporter
        try:
            if target in self.interception.rules.intercepted:
                await self._loop.sock_sendall(connection, _ESTABLISHED)
                async with asyncio.timeout(self._limits.header_timeout):
                    first = await self._peek(connection)
                context = self.interception.context(target.name)
                await self._hand_over(connection, first, context, target, request.client_name)
                return
            client = connection.getpeername()
            self.interception.rules.check_passage(target, HTTPS, is_local=is_local(client))
            tunnel = await open_tunnel(target)
        except RefusedError as error:
            reporter.report(f"Refused: {error}.")
            protocol.connect_refusal = HTTPStatus.FORBIDDEN, str(error)
            await self._start(connection, protocol)
            return
        reporter.report_passage(target)
        await self._join(connection, tunnel)

    async def _take_head(self, connection: socket.socket) -> bytes:
        """Take the head of a CONNECT request, or the beginning of anything else, and not a byte more."""
        head = bytearray()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.header_timeout):
                while len(head) <= self._limits.max_header_bytes and _CONNECT.startswith(head[: len(_CONNECT)]):
                    piece = await self._peek(connection)
                    # The end of the head may begin in what was taken before.
                    overlap = min(len(head), len(_END_OF_HEAD) - 1)
                    end = (head[len(head) - overlap :] + piece).find(_END_OF_HEAD)
                    taken = connection.recv(end - overlap + len(_END_OF_HEAD) if end >= 0 else len(piece))
                    head += taken
                    if end >= 0 or not taken:
                        break
        return bytes(head)

    async def _hand_over(
        self,
        connection: socket.socket,
        first: bytes,
        context: HostContext,
        origin: Host | None = None,
        client_name: str = "",
    ) -> None:
        """Hand over a connection that begins with TLS or HTTP."""
        protocol = self._make_protocol(self)
        protocol.origin, protocol.client_name = origin, client_name
        if first[:1] != _HANDSHAKE:
            await self._start(connection, protocol)
            return
        asked_for = [context.host] if context.host else []
        ASKED_FOR.set(asked_for)
        try:
            await self._start(connection, protocol, context)
        except OSError as error:
            host = asked_for[-1] if asked_for else ""
            reason = getattr(error, "reason", None) or ("it left" if isinstance(error, ConnectionResetError) else "")
            if reason.endswith(_DISTRUST):
                reason = reason.rpartition("ALERT_")[2].replace("_", " ").lower()
                self.report_distrust(host or _UNNAMED, reason, client_name)
            await self._record(protocol, host, reason or "it was not complete in time")

    async def _record(self, protocol: FrontedProtocol, host: str, reason: str) -> None:
        """Record a failed handshake in the journal, as a request that the protocol refuses."""
        refusal = {"status": HTTPStatus.BAD_REQUEST, "problem": f"the TLS handshake failed ({reason})"}
        scope: Any = {"type": "http", "method": "", "path": "", "headers": []}
        scope["extensions"] = {REFUSAL: {**refusal, "method": "", "target": host}}

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(_: Message) -> None:
            pass  # nobody is there to read it

        app: Any = protocol.app
        await app(scope, receive, send)

    async def _start(
        self, connection: socket.socket, protocol: asyncio.Protocol, context: HostContext | None = None
    ) -> None:
        """Give a connection to a protocol, after the handshake if there is a context."""
        # An object of its own for the transport, which closes it.
        own = socket.socket(connection.family, connection.type, connection.proto, connection.detach())
        seconds: dict[str, float] = {}
        if context:
            seconds = {"ssl_handshake_timeout": self._limits.header_timeout, "ssl_shutdown_timeout": _SHUTDOWN_SECONDS}
        await self._loop.connect_accepted_socket(lambda: protocol, own, ssl=context, **seconds)

    async def _join(self, connection: socket.socket, tunnel: Tunnel) -> None:
        """Join a connection and a tunnel."""
        self._tunnels.add(tunnel)
        tunnel.on_end = lambda: self._tunnels.discard(tunnel)
        try:
            await self._loop.sock_sendall(connection, _ESTABLISHED)
            await self._start(connection, Tunnel(tunnel))
        except BaseException:
            tunnel.abort()
            raise


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
