"""HTTP/1.1 on one connection: uvicorn's protocol with limits on what a client may send, and on how slowly."""

from __future__ import annotations

import asyncio
import logging
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NoReturn

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from seedbed_mock.faults.connection import NO_LINGER, TRANSPORT

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_mock.options import ServerOptions


REFUSAL: Final = "seedbed.refusal"
"""ASGI extension of a request that the protocol refuses: its status, problem, method and target.

Such a request has an empty method and path, so that it matches no endpoint.
"""

_PIECE = 4096
"""In bytes: how much is parsed before the limits are checked again. It can hold a hundred pipelined requests."""

_LINGER_SECONDS = 1.0
"""How long a refused client may read the response. Closing at once would reset the connection and drop it."""


class _RefusedError(Exception):
    """Stops the parser; the reason is in the protocol, since the parser hides the exceptions of its callbacks."""


class LimitedConfig(uvicorn.Config):
    """The configuration of uvicorn with the limits of the protocol.

    Args:
        limits: Options of the server.
        arguments: Arguments of uvicorn.
    """

    def __init__(self, limits: ServerOptions, **arguments: Any) -> None:
        self.limits = limits
        super().__init__(**arguments)

    def configure_logging(self) -> None:
        """Do nothing: uvicorn would change the levels and the handlers of loggers that other servers share."""


class LimitedProtocol(HttpToolsProtocol):
    """HTTP/1.1 for the mock server.

    It differs from uvicorn's protocol in these ways:

    - It limits the size, the number and the time of headers, the time of a request, and the number of pipelined
      requests. It does not read from a client that does not read its responses, and gives it up in the end.
    - It passes refusals to the application, which responds in the envelope of the service and records them.
    - It lends its transport to faults that break the connection.
    - When the client leaves, it ends every request of the connection. uvicorn ends only the last one, so that a request
      with pipelined ones behind it would never end.
    - It ignores an offer to switch to another protocol (RFC 9110, section 7.8). The parser would drop the body of such
      a request, and Java's HTTP client and curl make one for HTTP/2.
    """

    # uvicorn does not document the names used here; a test checks that they exist.
    config: LimitedConfig
    _earlier: tuple[RequestResponseCycle, ...] = ()
    _is_in_request = False
    _is_in_head = False
    _piece_starts_request = False
    _is_refused = False
    _offers_upgrade = False
    _head_size = 0
    _started = 0.0
    _stalled = 0.0
    _unparsed = b""
    connect_refusal: tuple[HTTPStatus, str] = (
        HTTPStatus.NOT_IMPLEMENTED,
        "the mock server is not a proxy; send no CONNECT requests",
    )
    """Status of the response to a CONNECT request, and the problem with it."""
    _refusal: tuple[HTTPStatus, str] | None = None
    _deadline: asyncio.Handle | None = None
    _deadline_at = 0.0
    _idle_since: float | None = None
    has_requested = False
    """Whether a whole head of a request has come."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.logger = _logger
        self.access_log = False
        self._limits = self.config.limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Start the time in which the first request must come."""
        super().connection_made(transport)
        self.flow = _FlowControl(transport, self._may_read)
        self._extensions: dict[str, dict[object, object]] = {TRANSPORT: {"transport": transport}}
        # uvicorn starts this time only after the first request.
        self._start_idle_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all requests of the connection."""
        for cycle in self._earlier:
            if not cycle.response_complete:
                _disconnect(cycle)
        if self._deadline:
            self._deadline.cancel()
        self._unset_keepalive_if_required()
        self._unparsed = b""
        super().connection_lost(exc)

    # Receiving

    def take_over(self, data: bytes, started: float) -> None:
        """Take what the client sent before the connection was handed to this protocol.

        Args:
            data: What it sent.
            started: When it began to send, as time of the event loop.
        """
        self.data_received(data)
        if self._is_in_head and not self._is_refused:
            self._started = started
            self._arm(started + self._limits.header_timeout)

    def data_received(self, data: bytes) -> None:
        """Parse what the client sent, as far as there is room for requests."""
        self._idle_since = None
        if self._is_refused:
            return
        if self._unparsed:
            self._unparsed += data
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        position = 0
        while position < len(data) and not self._is_refused:
            if len(self.pipeline) >= self._limits.max_pipelined:
                # Parsed when responses are sent; see on_response_complete.
                self._unparsed = data[position:]
                self.flow.pause_reading()
                return
            piece = data[position : position + _PIECE]
            position += len(piece)
            self._piece_starts_request = not self._is_in_request
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as stop:
                data, position = self._head_without_upgrade() + piece[stop.args[0] :] + data[position:], 0
            except httptools.HttpParserError:
                self._refuse(*(self._refusal or (HTTPStatus.BAD_REQUEST, "the request is not valid HTTP/1.1")))
            else:
                self._end_piece(piece)
        if self._is_in_head:
            self._arm(self._started + self._limits.header_timeout)
        elif self._is_in_request:
            self._arm(self._started + self._limits.request_timeout)

    def _end_piece(self, piece: bytes) -> None:
        if self._is_in_head:
            self._head_size += len(piece)
            if self._head_size <= self._limits.max_header_bytes:
                return
            problem = f"the headers are larger than {self._limits.max_header_bytes} bytes"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, problem)

    def _head_without_upgrade(self) -> bytes:
        """Return the head of the request that was just parsed, without its offer, for a new parser."""
        version, method = self.parser.get_http_version(), self.parser.get_method()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as in uvicorn
        lines = [b"%s %s HTTP/%s" % (method, self.url, version.encode())]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Start the time of a request."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions
        self._is_in_request, self._is_in_head, self._offers_upgrade = True, True, False
        self._head_size, self._started = 0, self.loop.time()

    def on_headers_complete(self) -> None:
        """Start the request, unless it is refused or offers another protocol."""
        if len(self.headers) > self._limits.max_headers:
            problem = f"the request has more than {self._limits.max_headers} headers"
            self.refuse_request(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, problem)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self.refuse_request(*self.connect_refusal)
            self._offers_upgrade = True
            return
        self._is_in_head, self.has_requested = False, True
        self._start_request()

    def _start_request(self) -> None:
        previous = self.cycle
        super().on_headers_complete()
        if previous is not None and not previous.response_complete:
            self._earlier = (*(each for each in self._earlier if not each.response_complete), previous)

    def on_message_complete(self) -> None:
        """End the body, unless the request starts again without its offer."""
        if self._offers_upgrade:
            return
        self._is_in_request = False
        self._end_request()

    def _end_request(self) -> None:
        super().on_message_complete()

    # Sending

    def _start_idle_time(self) -> None:
        """Start the time in which the next request must come. The timer outlives requests, as most come before."""
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it has been idle for long enough."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def on_response_complete(self) -> None:
        """Go on with what the client sent meanwhile."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._start_idle_time()
        if self._unparsed and len(self.pipeline) < self._limits.max_pipelined:
            data, self._unparsed = self._unparsed, b""
            self._parse(data)
            self.flow.resume_reading()

    def _may_read(self) -> bool:
        return not self._unparsed and len(self.pipeline) < self._limits.max_pipelined

    def pause_writing(self) -> None:
        """Start the time in which the client must read something."""
        super().pause_writing()
        self._stalled = self.loop.time()
        self._arm(self._stalled + self._limits.request_timeout)

    # Deadlines

    def _arm(self, when: float) -> None:
        """Check the deadlines at a time, or before. The timer outlives requests, since most of them need none."""
        # Not compared with when() of the handle: for a time that has passed, uvloop returns one without it.
        if self._deadline is None or self._deadline_at > when:
            if self._deadline:
                self._deadline.cancel()
            self._deadline, self._deadline_at = self.loop.call_at(when, self._check_deadlines), when

    def _check_deadlines(self) -> None:
        self._deadline, now, limits = None, self.loop.time(), self._limits
        if self.flow.write_paused:
            if now >= self._stalled + limits.request_timeout:
                # Reset: the end of the connection would wait behind what the client does not read.
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
                self.transport.abort()
            else:
                self._arm(self._stalled + limits.request_timeout)
        elif self._is_refused or not self._is_in_request:
            return
        elif self.flow.read_paused or self._unparsed:
            # The client cannot send while this end does not read.
            self._started = now
            self._arm(now + limits.header_timeout)
        elif self._is_in_head and now >= self._started + limits.header_timeout:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT, f"the headers were not complete after {limits.header_timeout:g} seconds"
            )
        elif now >= self._started + limits.request_timeout:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT, f"the body was not complete after {limits.request_timeout:g} seconds"
            )
        else:
            self._arm(self._started + (limits.header_timeout if self._is_in_head else limits.request_timeout))

    # Refusing

    def refuse_request(self, status: HTTPStatus, problem: str) -> NoReturn:
        """Refuse the request whose headers are being read."""
        self._refusal = status, problem
        raise _RefusedError

    def _refuse(self, status: HTTPStatus, problem: str) -> None:
        """Respond to a request that cannot be passed on, after the responses to earlier ones, and close."""
        unfinished = self.cycle if self._is_in_request and not self._is_in_head else None
        target = self.url.decode("latin-1") if self._is_in_request else ""
        method = self.parser.get_method().decode() if target else ""
        self._is_refused, self._unparsed = True, b""
        if unfinished:
            if unfinished.response_complete:
                self._linger()
                return
            if unfinished.response_started:
                self.transport.abort()
                return
            _disconnect(unfinished)
            if self.pipeline and self.pipeline[0][0] is unfinished:
                self.pipeline.popleft()
        scope: Any = self.scope or {"type": "http", "asgi": {"version": self.asgi_version, "spec_version": "2.3"}}
        refusal = {"status": status, "problem": problem, "method": method, "target": target}
        scope = {**scope, "server": self.server, "client": self.client, "scheme": self.scheme, "headers": []}
        scope |= {"method": "", "path": "", "raw_path": b"", "query_string": b"", "http_version": "1.1"}
        scope |= {"root_path": self.root_path, "extensions": {REFUSAL: refusal}}
        previous = next((each for each in (self.cycle, *self._earlier) if _is_pending(each)), None)
        transport: Any = _LingeringTransport(self.transport, self._linger)
        cycle = self._cycle_of(scope, transport, lambda: None)
        cycle.keep_alive = False
        app: Any = self.app
        if previous is None:
            self._start_asgi_task(cycle, app)
        else:
            self._earlier = (*self._earlier, previous)
            self.pipeline.appendleft((cycle, app))
        self.cycle = cycle

    def _cycle_of(self, scope: Any, transport: Any, on_response: Callable[[], None]) -> RequestResponseCycle:
        """Return a request whose body is complete."""
        # A copy, since the next request may have the same head.
        own_scope: Any = dict(scope)
        cycle = RequestResponseCycle(
            scope=own_scope,
            transport=transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=on_response,
        )
        cycle.more_body = False
        return cycle

    def _linger(self) -> None:
        """Close the connection when the client has had time to read the response."""
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        # Reading on notices a client that leaves; what it still sends is dropped.
        self.flow.resume_reading()
        if self._deadline:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)


class _FlowControl(FlowControl):
    """Flow control that resumes reading only while there is room for more requests."""

    def __init__(self, transport: asyncio.Transport, may_read: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._may_read = may_read

    def resume_reading(self) -> None:
        if self._may_read() and not self._transport.is_closing():
            super().resume_reading()


class _LingeringTransport:
    """The transport of a refused client, which is not closed at once."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close


def _is_pending(cycle: RequestResponseCycle | None) -> bool:
    return cycle is not None and not (cycle.response_complete or cycle.disconnected)


def _disconnect(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()


def _is_error(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


# A logger of its own, below the one of the mock server. uvicorn would log an error for each request that the end of the
# server interrupts, and a warning for each invalid one, which is in the journal.
_logger = logging.Logger("seedbed.http", logging.ERROR)
_logger.parent = logging.getLogger("seedbed")
_logger.addFilter(_is_error)
