"""How a request passes through ASGI: its body is read, its handlers run, its response is sent and recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import msgspec
from msgspec.structs import replace
from starlette.requests import ClientDisconnect

from seedbed_mock.access import CalledPlace, place_of
from seedbed_mock.clock import real_monotonic
from seedbed_mock.faults.connection import ClientConnection, ConnectionEffect, sleep_by_clock
from seedbed_mock.faults.effects import APPLIED_HEADER, Delay, ResponseReplacedError
from seedbed_mock.journal import LARGEST_TEXT, JournalEntry, KeptHeaders, truncated
from seedbed_mock.request_body import decode_body, read_body
from seedbed_mock.responses import ServiceError
from seedbed_mock.state import RequestContext

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from starlette.types import Receive, Scope, Send

    from seedbed_mock.faults.engine import ActiveRule
    from seedbed_mock.handlers import Handler
    from seedbed_mock.responses import ApiResponse, ResponseWriter
    from seedbed_mock.state import Service

    Outcome = tuple[ApiResponse, ActiveRule | None]


_NO_PARAMETERS: Final[Mapping[str, str]] = {}

_HEAD: Final = "_seedbed_head"


class _RequestHead(msgspec.Struct, gc=False):
    """What the head of a request says. It stays in the scope, which the protocol reuses for an equal head.

    Attributes:
        method: The method.
        target: Path and query.
        headers: The headers, with names in lower case.
        kept_headers: The headers as the journal keeps them.
        query: Query parameters.
        path: Path parameters.
        place: Where the request reached the server.
    """

    method: str
    target: str
    headers: Mapping[bytes, bytes]
    kept_headers: KeptHeaders
    query: Mapping[str, str]
    path: Mapping[str, str]
    place: CalledPlace

    # The headers hold the key, and a traceback may show what a frame holds.
    def __repr__(self) -> str:
        return f"_RequestHead({self.method})"


class OperationEndpoint:
    """An operation of the service as an ASGI application.

    Args:
        service: The service.
        operation: Name of the operation.
        handlers: Its handlers, in the order in which they run.
        writer: Writer of its responses.
    """

    def __init__(self, service: Service, operation: str, handlers: tuple[Handler, ...], writer: ResponseWriter) -> None:
        self._service = service
        self._operation = operation
        self._handlers = handlers
        self._writer = writer
        self._called_names = service.options.called_hosts
        self._own_names = service.options.own_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request."""
        try:
            body = await read_body(receive)
        except ClientDisconnect:
            return
        response, fault = await self.handle(scope, body)
        await self.send(response, fault, scope, receive, send)

    async def handle(self, scope: Scope, body: bytes | None) -> Outcome:
        """Return the response to a request, and the fault that changes how it is sent.

        Args:
            scope: ASGI scope of the request.
            body: Its body, ``None`` if it is too large.
        """
        try:
            outcome = await self._handle(scope, body)
        except Exception as error:
            self._service.report(error, scope["path"])
            outcome = self._writer.error(ServiceError("internal_error")), None
        if body is None:
            # The rest of the body may still arrive, and would be taken for the next request.
            outcome[0].headers["connection"] = "close"
        return outcome

    async def send(
        self, response: ApiResponse, fault: ActiveRule | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Send a response with a fault."""
        if fault is not None:
            effect, connection = fault.rule.effect, ClientConnection.of(scope, receive, send)
            if isinstance(effect, ConnectionEffect):
                await effect.send(response, connection)
                return
            if isinstance(effect, Delay):
                has_left = await sleep_by_clock(self._service.clock, effect.draw(fault.random), connection.receive)
                if has_left:
                    return
        await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _handle(self, scope: Scope, body: bytes | None) -> Outcome:
        started, service = real_monotonic(), self._service
        head: _RequestHead = scope.get(_HEAD) or self._read_head(scope)
        context = self._context_of(head, body)
        handle = self._handlers[0]
        try:
            for handle in self._handlers:
                if (pending := handle(service, context)) is not None:
                    await pending
            response = self._writer.success(context.data, context.envelope)
        except ServiceError as error:
            response = self._writer.error(error)
            context.refused_by, context.reason = handle.__name__, self._writer.reason(error)
        except ResponseReplacedError as replaced:
            response = replaced.effect.respond(self._writer)
            context.refused_by = handle.__name__
        matched, fault = context.fault, None
        if matched:
            fault = context.settle_fault()
            if not fault and service.fleet:
                await service.fleet.give_back(matched)
        if rule := str(fault.rule) if fault else context.task_fault:
            response.headers[APPLIED_HEADER] = rule
        self._journal(head, context, response, (real_monotonic() - started) * 1000)
        return response, fault

    def _read_head(self, scope: Scope) -> _RequestHead:
        """Return what the head of a request says, and keep it in the scope."""
        query, path, sent = scope["query_string"].decode("latin-1"), scope["path"], scope["headers"]
        headers = dict(sent)
        if len(headers) < len(sent):
            headers |= _joined(sent, self._service.key_headers)
        head = scope[_HEAD] = _RequestHead(
            method=scope["method"],
            target=f"{path}?{query}" if query else path,
            headers=headers,
            kept_headers=self._service.kept_headers(sent),
            query=query_parameters(query) if query else _NO_PARAMETERS,
            path=scope.get("path_params", _NO_PARAMETERS),
            place=place_of(scope, headers.get(b"host", b""), self._called_names, self._own_names),
        )
        return head

    def _context_of(self, head: _RequestHead, body: bytes | None) -> RequestContext:
        problem, place, service = "", head.place, self._service
        if body and (encoding := head.headers.get(b"content-encoding")):
            try:
                body = decode_body(body, encoding)
            except ValueError as error:
                problem = str(error)
        return RequestContext(
            headers=head.headers,
            query=head.query,
            path=head.path,
            operation=self._operation,
            body=body,
            body_problem=problem,
            base_url=place.url,
            server=place.server,
            names_server=place.is_named,
            space=service.spaces.default,
            now=service.now(),
        )

    def _journal(self, head: _RequestHead, context: RequestContext, response: ApiResponse, duration: float) -> None:
        journal, body = context.space.journal, context.body or b""
        # Python makes a dictionary for a call with more than 15 keywords, which takes ten times as long.
        entry = JournalEntry(
            number=journal.next_number(),
            at=context.now,
            kind="call",
            operation=self._operation,
            account=context.account.name if context.account else "",
            method=head.method,
            target=head.target,
            headers=head.kept_headers,
            request=body if len(body) <= LARGEST_TEXT else truncated(body),
            code=response.code,
            status=response.status_code,
            case=response.case,
            answer=response.body if len(response.body) <= LARGEST_TEXT else truncated(response.body),
            task_id=context.task_id,
            duration=duration,
        )
        if context.refused_by or context.fault:
            entry = replace(
                entry,
                violations=context.violations,
                fault=context.fault.describe() if context.fault else "",
                handler=context.refused_by,
                reason=context.reason,
            )
        journal.add(entry)


def query_parameters(query: str) -> dict[str, str]:
    """Return the parameters of a query; the last of several equal names counts."""
    # A single one without escapes, as recordInfo has, needs no parser.
    if "&" not in query and "%" not in query and "+" not in query:
        name, _, value = query.partition("=")
        return {name: value}
    return dict(parse_qsl(query, keep_blank_values=True))


def _joined(headers: Iterable[tuple[bytes, bytes]], names: Collection[bytes]) -> dict[bytes, bytes]:
    """Return the values of the headers with these names as lists, so that a right key hides no wrong one."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in names:  # RFC 9110, section 5.3: headers with one name are one list
            found[name] = b", ".join((found[name], value)) if name in found else value
    return found
