"""HTTP/1.1 with direct responses: what most requests need, without a task and ASGI messages for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from seedbed_mock.direct import AwaitedResult, KnownHead, ended, whole
from seedbed_mock.protocol import LimitedProtocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from http import HTTPStatus

    from starlette.types import Receive, Scope, Send
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from seedbed_mock.direct import DirectOperation, Outcome
    from seedbed_mock.responses import ApiResponse


_MOST_DIRECT = 16
"""How many requests get their responses directly before other connections have their turn."""

_LARGEST_DIRECT = 16384
"""In bytes: a larger body goes the usual way, where it is limited."""


class DirectProtocol(LimitedProtocol):
    """The protocol with two shorter ways for requests to operations.

    - A request gets its response directly, without a task and ASGI messages, which take as long as the operation
      itself. A large request, or one that needs anything else, goes the usual way.
    - A head that is equal, byte by byte, to the one of the request before it is not parsed again.
    """

    _direct: DirectOperation | None = None
    _direct_body = b""
    _direct_calls = 0
    _responded: tuple[DirectOperation, Scope, bytes] | None = None
    _known: KnownHead | None = None
    _default_headers: list[tuple[bytes, bytes]] | None = None
    _default_head = b""
    remembers_heads = True
    """Whether a head that comes again means the same again."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        app: Any = self.app
        self._direct_app: Any = app if hasattr(app, "endpoint_at") else None

    def shutdown(self) -> None:
        """Close the connection when the request that has begun has its response."""
        self._leave_direct()
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Respond to a request whose head is known, or parse what the client sent."""
        self._direct_calls = 0
        if self._is_refused or self._unparsed or not self._respond_to_known(data):
            super().data_received(data)

    def _end_piece(self, piece: bytes) -> None:
        if not self._is_in_request and self._responded and self._piece_starts_request and self.remembers_heads:
            self._known = KnownHead.of(*self._responded, piece)
        super()._end_piece(piece)

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._responded = None

    def _start_request(self) -> None:
        if not self._find_direct():
            super()._start_request()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._direct and len(self._direct_body) + len(body) > _LARGEST_DIRECT:
            self._leave_direct()
        if self._direct:
            self._direct_body += body
        else:
            super().on_body(body)

    def _end_request(self) -> None:
        if self._direct:
            self._respond_directly(self._direct)
        else:
            super()._end_request()

    def _refuse(self, status: HTTPStatus, problem: str) -> None:
        self._leave_direct()
        super()._refuse(status, problem)

    # Direct responses

    def _find_direct(self) -> bool:
        """Find out whether the request can get its response directly."""
        path, _, query = self.url.partition(b"?")
        parser = self.parser
        if (
            not self._may_respond_directly()
            or self.expect_100_continue
            or self._direct_calls >= _MOST_DIRECT
            or b"#" in query
            or parser.get_http_version() != "1.1"
            or not parser.should_keep_alive()
        ):
            return False
        method = parser.get_method().decode("ascii")
        name = path.decode("latin-1")
        self._direct = self._direct_app.endpoint_at(method, name)
        if self._direct is None:
            return False
        scope: Any = self.scope
        scope["method"], scope["path"], scope["raw_path"], scope["query_string"] = method, name, path, query
        self._direct_calls += 1
        return True

    def _may_respond_directly(self) -> bool:
        """Whether no earlier response is missing, and the client reads them."""
        is_free = self.cycle is None or self.cycle.response_complete
        return is_free and not self.flow.write_paused and self.app is self._direct_app

    def _leave_direct(self) -> None:
        """Let a request go the usual way after all, before it is complete."""
        if self._direct:
            body, self._direct, self._direct_body = self._direct_body, None, b""
            super()._start_request()
            if body:
                super().on_body(body)

    def _respond_to_known(self, data: bytes) -> bool:
        """Respond to a request whose head is known; return whether it is one, and whole."""
        known = self._known
        if (
            known is None
            or len(data) != known.size
            or self._is_in_request
            or not data.startswith(known.head)
            or not self._may_respond_directly()
            # A reset or another application may have replaced the operation.
            or self._direct_app.endpoint_at(known.scope["method"], known.scope["path"]) is not known.operation
        ):
            return False
        self._idle_since = None
        self._respond(known.operation, known.scope, data[known.length :])
        return True

    def _respond_directly(self, operation: DirectOperation) -> None:
        body, self._direct, self._direct_body = self._direct_body, None, b""
        scope: Any = self.scope
        self._respond(operation, scope, body)
        self._responded = operation, scope, body

    def _respond(self, operation: DirectOperation, scope: Scope, body: bytes) -> None:
        handling = operation.handle(scope, body)
        try:
            awaited = handling.send(None)
        except StopIteration as end:
            response, fault = end.value
            if fault is None and response.has_plain_headers:
                self._write(response)
                self.server_state.total_requests += 1
                self._start_idle_time()
            else:
                self._start_sending(operation, scope, ended(end.value))
        else:
            self._wait(operation, scope, handling, awaited)

    def _wait(
        self, operation: DirectOperation, scope: Scope, handling: Coroutine[Any, Any, Outcome], awaited: Any
    ) -> None:
        """Let later requests wait until an operation has its result."""
        if not isinstance(awaited, AwaitedResult):
            self._start_sending(operation, scope, whole(handling, awaited))
            return
        self.cycle = cycle = self._cycle_of(scope, self.transport, self.on_response_complete)

        def resume(_: object) -> None:
            try:
                awaited = handling.send(None)
            except StopIteration as end:
                self._end_waiting(cycle, operation, end.value)
            else:
                self._start_asgi_task(cycle, self._sender(operation, whole(handling, awaited)))

        awaited._asyncio_future_blocking = False
        awaited.add_done_callback(resume)

    def _end_waiting(self, cycle: RequestResponseCycle, operation: DirectOperation, outcome: Outcome) -> None:
        response, fault = outcome
        if cycle.disconnected or self.transport.is_closing():
            return
        if fault is None and response.has_plain_headers and cycle.keep_alive and not self.flow.write_paused:
            self._write(response)
            cycle.response_started = cycle.response_complete = True
            self.on_response_complete()
        else:
            self._start_asgi_task(cycle, self._sender(operation, ended(outcome)))

    def _write(self, response: ApiResponse) -> None:
        if self._default_headers is not self.server_state.default_headers:
            self._default_headers = self.server_state.default_headers
            self._default_head = b"".join(b"%b: %b\r\n" % header for header in self._default_headers)
        self.transport.write(
            b"%b%b%b%b" % (STATUS_LINE[response.status_code], self._default_head, response.plain_head, response.body)
        )

    def _start_sending(self, operation: DirectOperation, scope: Scope, outcome: Awaitable[Outcome]) -> None:
        """Send a response the usual way, which a fault needs and a response that is not ready."""
        self.cycle = self._cycle_of(scope, self.transport, self.on_response_complete)
        self._start_asgi_task(self.cycle, self._sender(operation, outcome))

    @staticmethod
    def _sender(operation: DirectOperation, outcome: Awaitable[Outcome]) -> Any:  # uvicorn has types of its own
        """Return an application that sends a response."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await operation.send(*await outcome, scope, receive, send)

        return app
