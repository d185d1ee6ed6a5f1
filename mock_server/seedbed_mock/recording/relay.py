"""The relay of the proxy: each request goes to the upstream service and its response to the caller, byte for byte.

On the way, a fault rule may change the response, and a limit may refuse the request. Afterwards both sides are compared
with the contract, and the exchange is noted in the journal, in the bill and in the recording, without its secrets.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.requests import ClientDisconnect

from seedbed_mock import handlers
from seedbed_mock.bill import request_key
from seedbed_mock.clock import real_monotonic, real_time
from seedbed_mock.faults.connection import BrokenConnectionError, ClientConnection, ConnectionEffect, sleep_by_clock
from seedbed_mock.faults.effects import APPLIED_HEADER, Delay, ResponseEffect, ResponseReplacedError
from seedbed_mock.journal import UNMATCHED, JournalEntry, truncated
from seedbed_mock.recording.archive import HarExchange, Redactor
from seedbed_mock.recording.codings import decoded_body, encoding_of, problem_of_encoding
from seedbed_mock.recording.differences import DifferenceLog, Seen, case_of_message
from seedbed_mock.recording.http_connection import UpstreamError
from seedbed_mock.recording.spending import FREE, is_ambiguous, may_be_paid
from seedbed_mock.recording.transit import BodyKeeper, SentBody, context_of, operation_of
from seedbed_mock.request_body import LARGEST_BODY
from seedbed_mock.responses import ApiResponse, ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from seedbed_mock.faults.effects import Effect
    from seedbed_mock.journal import Headers
    from seedbed_mock.recording.forwarding import CallbackForwarder
    from seedbed_mock.recording.recorder import Recorder
    from seedbed_mock.recording.spending import CreditLimit, Expense
    from seedbed_mock.recording.upstream import Upstream, UpstreamResponse
    from seedbed_mock.responses import ResponseWriter
    from seedbed_mock.state import RequestContext, Service


_log = logging.getLogger("seedbed")

_BAD_GATEWAY: Final = 502
_LARGEST_BROKEN = 8 * 1024 * 1024
"""In bytes: up to this size, a response is read before a fault breaks it."""

_MOST_PROBLEMS = 100
_OWN_HEADERS = b"x-seedbed"
_NO_BODY = frozenset({204, 304})


def problem_of_effect(effect: Effect) -> str:
    """Return why an effect makes no sense in a proxy, empty if it does."""
    if isinstance(effect, ResponseEffect | ConnectionEffect | Delay):
        return ""
    return (
        f"{effect.name} changes tasks of the mock server, and a proxy has none; use a code, delay, or an effect whose "
        "name begins with answer. or wire."
    )


@dataclass(slots=True, kw_only=True, repr=False)
class Call:
    """A request on its way through the proxy, and what became of it.

    Attributes:
        scope: ASGI scope.
        operation: Name of the operation, empty for an unknown one.
        context: What the handlers of the mock server need to know of it.
        redactor: Removes its secrets.
        sent: Its body.
        has_key: Whether it has a key.
        cases: Cases of the dialect that explain why it must be refused.
        expense: What it may cost.
        status: HTTP status of the response, 0 without one.
        response_headers: Headers of the response.
        kept: Body of the response.
        own: Response of the proxy itself, ``None`` if the request was passed on.
        error: What went wrong with the upstream service.
        was_sent: Whether the upstream service may have got the request.
        is_complete: Whether the whole response arrived.
        began: When it arrived, in Unix milliseconds of real time.
        started: When it arrived, by the monotonic clock.
    """

    scope: Scope
    operation: str
    context: RequestContext
    redactor: Redactor
    sent: SentBody
    has_key: bool
    kept: BodyKeeper
    cases: tuple[str, ...] = ()
    expense: Expense = FREE
    status: int = 0
    response_headers: Headers = ()
    own: ApiResponse | None = None
    error: str = ""
    was_sent: bool = False
    is_complete: bool = False
    began: float = field(default_factory=lambda: real_time() * 1000)
    started: float = field(default_factory=real_monotonic)

    @property
    def target(self) -> str:
        """Path and query."""
        query: str = self.scope["query_string"].decode("latin-1")
        path: bytes = self.scope.get("raw_path") or self.scope["path"].encode()
        return path.decode("latin-1") + (f"?{query}" if query else "")


class Relay:
    """An ASGI application that passes requests on.

    Attributes:
        title: Name of the server in the dashboard.
        passes_date: Whether responses have the Date of another server.

    Args:
        service: Holds the journal, the fault rules and the bill.
        writer: Writes the responses of the proxy itself.
        upstream: Where requests go.
        limit: What may be spent.
        differences: Compares both sides with the contract.
        callbacks: Receives the callbacks in place of the callers, ``None`` if the service cannot reach the proxy.
        recorder: Writes the recording, ``None`` for none.
    """

    title = "Seedbed proxy"
    passes_date = True

    def __init__(
        self,
        service: Service,
        writer: ResponseWriter,
        *,
        upstream: Upstream,
        limit: CreditLimit,
        differences: DifferenceLog,
        callbacks: CallbackForwarder | None,
        recorder: Recorder | None,
    ) -> None:
        self._service = service
        self._writer = writer
        self._upstream = upstream
        self._limit = limit
        self._differences = differences
        self._callbacks = callbacks
        self._recorder = recorder
        self._problems = set[str]()
        self._codes = service.catalogue.codes
        self._success = service.dialect.cases["done"].number(self._codes)
        failures = {service.dialect.cases[name].number(self._codes) for name in ("internal_error", "generation_failed")}
        self._refusals = {code.number for code in self._codes.values()} - failures - {self._success}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its response back."""
        if self._callbacks and self._callbacks.owns(scope["path"]):
            await self._callbacks.receive(scope, receive, send)
            return
        try:
            sent = await SentBody.read(receive, LARGEST_BODY)
        except ClientDisconnect:
            return
        call = self._open(scope, sent)
        try:
            await self._answer(call, ClientConnection.of(scope, receive, send))
        finally:
            self._finish(call)

    def _open(self, scope: Scope, sent: SentBody) -> Call:
        service = self._service
        context = context_of(service, scope, operation_of(service, scope["method"], scope["path"]), sent)
        redactor = Redactor(scope["headers"], [header for header, _ in service.credentials])
        return Call(
            scope=scope,
            operation=context.operation,
            context=context,
            redactor=redactor,
            sent=sent,
            has_key=any(header in context.headers for header, _ in service.credentials),
            kept=BodyKeeper(redactor, self._recorder.folder if self._recorder else None),
        )

    async def _answer(self, call: Call, connection: ClientConnection) -> None:
        own = self._own_response(call)
        call.context.settle_fault()
        fault = call.context.fault
        if fault and isinstance(effect := fault.rule.effect, Delay):
            has_left = await sleep_by_clock(self._service.clock, effect.draw(fault.random), connection.receive)
            if has_left:
                return
        if own is None:
            await self._pass_on(call, connection)
            return
        if fault:
            own.headers[APPLIED_HEADER] = str(fault.rule)
        if not call.sent.is_complete:
            # The rest of the body may still arrive, and would be taken for the next request.
            own.headers["connection"] = "close"
        await self._send_own(call, own, connection)

    def _own_response(self, call: Call) -> ApiResponse | None:
        """Return the response of the proxy itself, ``None`` if the request is to be passed on."""
        service, context = self._service, call.context
        try:
            handlers.refuse_web_pages(service, context)
            if call.operation:
                handlers.apply_fault(service, context)
        except ResponseReplacedError as replaced:
            return replaced.effect.respond(self._writer)
        except ServiceError as error:
            return self._writer.error(error)
        model = self._inspect(call)
        if is_ambiguous(context.text, service.shared.fields.model):
            model = None
        call.expense = self._limit.reserve(call.operation, call.scope["method"], model)
        if call.expense.problem:
            code = service.dialect.cases["credits_insufficient"].number(self._codes)
            return self._writer.for_code(code, f"Refused by seedbed proxy: {call.expense.problem}.")
        return None

    def _inspect(self, call: Call) -> Any:
        """Compare a request with the contract, and return the model that it requests."""
        service, context, dialect = self._service, call.context, self._service.dialect
        if call.operation == "recordInfo" and not context.query.get(service.shared.record_info.query):
            call.cases = ("task_id_missing",)
        if call.operation != "createTask":
            return None
        try:
            handlers.parse_request(service, context)
        except ServiceError:
            call.cases = ("body_malformed",)
        request, models = context.request, service.catalogue.models
        model = request.get(service.shared.fields.model) if isinstance(request, dict) else None
        if isinstance(model, str) and model not in models:
            call.cases = ("model_unknown",)
        elif not call.cases:
            contract = models[model].contract if isinstance(model, str) else service.catalogue.shipped.contract
            schema = contract.request
            if not schema.accepts(request) and not schema.accepts(dialect.meant(request, contract)):
                violations = schema.violations(request)
                context.violations = tuple(each.clause for each in violations)
                call.cases = tuple(dict.fromkeys(dialect.case_of_violation(each.keyword) for each in violations))
        if not call.has_key:
            call.cases = ("key_refused", *call.cases)
        return model

    async def _pass_on(self, call: Call, connection: ClientConnection) -> None:
        scope = call.scope
        headers: Headers = tuple(
            (name, value) for name, value in scope["headers"] if not name.lower().startswith(_OWN_HEADERS)
        )
        content: Any = call.sent.content()
        if self._callbacks and call.operation == "createTask" and isinstance(content, bytes):
            headers, content = self._callbacks.rewrite(call.context, headers, content)
        call.was_sent = True
        try:
            response = await self._upstream.open(scope["method"], call.target.encode("latin-1"), headers, content)
        except ClientDisconnect:
            call.error = "the client left before it had sent the whole request"
            return
        except UpstreamError as error:
            call.error, call.was_sent = str(error), error.was_sent
            await self._send_own(call, self._bad_gateway(error), connection)
            return
        call.status, call.response_headers = response.status, response.headers
        fault = call.context.fault
        if fault and isinstance(effect := fault.rule.effect, ConnectionEffect):
            await self._send_broken(call, response, effect, connection)
        else:
            await self._send_back(call, response, connection)

    def _bad_gateway(self, error: UpstreamError) -> ApiResponse:
        text = f"seedbed proxy: {error}."
        body = msgspec.json.encode({"code": _BAD_GATEWAY, "msg": text, "data": None})
        return ApiResponse(_BAD_GATEWAY, "bad_gateway", body, _BAD_GATEWAY)

    async def _send_own(self, call: Call, response: ApiResponse, connection: ClientConnection) -> None:
        call.own = response
        await response(connection.scope, connection.receive, connection.send)

    async def _send_back(self, call: Call, response: UpstreamResponse, connection: ClientConnection) -> None:
        await connection.send({"type": "http.response.start", "status": response.status, "headers": _head(response)})
        try:
            async with contextlib.aclosing(response.chunks()) as chunks:
                async for chunk in chunks:
                    call.kept.add(chunk)
                    await connection.send_body(chunk)
                    # What a creation has cost is read for the bill even if nobody waits for it.
                    if connection.has_left and not (call.operation == "createTask" and call.kept.is_whole):
                        call.error = "the client left before it had the whole response"
                        return
        except UpstreamError as error:
            call.error = str(error)
            # As the service does it: a caller must not take a part of a body for the whole.
            with contextlib.suppress(BrokenConnectionError):
                await connection.close()
            return
        call.is_complete = True
        await connection.send_body(b"", more=False)

    async def _send_broken(
        self, call: Call, response: UpstreamResponse, effect: ConnectionEffect, connection: ClientConnection
    ) -> None:
        """Read the response, so that its outcome is known, and send it as a fault of the connection breaks it."""
        content = bytearray()
        try:
            async for chunk in response.chunks():
                call.kept.add(chunk)
                content += chunk[: _LARGEST_BROKEN - len(content)]
            call.is_complete = True
        except UpstreamError as error:
            call.error = str(error)
        whole = ApiResponse(0, "fault", bytes(content), response.status)
        head = [(name, value) for name, value in _head(response) if name.lower() != b"content-length"]
        whole.raw_headers = [*head, (b"content-length", str(len(content)).encode())]
        with contextlib.suppress(BrokenConnectionError):
            await effect.send(whole, connection)

    # Afterwards

    def _finish(self, call: Call) -> None:
        """Note what became of a request. Nothing here can change the response any more."""
        headers = {name.lower(): value for name, value in call.response_headers}
        body, body_file = call.kept.finish(headers.get(b"content-type", b"").decode("latin-1").partition(";")[0])
        duration = (real_monotonic() - call.started) * 1000
        content = None
        if call.is_complete and call.kept.is_whole and not body_file:
            content = self._decoded(call, body)
        envelope = _envelope(content)
        try:
            self._settle(call, envelope)
            if call.own is None and content is not None and call.operation:
                self._compare(call, content)
            if content is None and not encoding_of(call.response_headers):
                content = body
            self._journal(call, content or b"", envelope, duration)
            if self._recorder and (call.own is None or call.own.case == "bad_gateway"):
                self._record(self._recorder, call, body, body_file, duration)
                if call.operation == "recordInfo":
                    self._recorder.keep_results(envelope, call.redactor)
        except Exception as error:
            self._service.report(error, call.scope["path"])

    def _decoded(self, call: Call, body: bytes) -> bytes | None:
        """Return a body without its content encoding, ``None`` if it cannot be decoded."""
        encoding = encoding_of(call.response_headers)
        content = decoded_body(body, encoding)
        if content is None:
            self._warn(f"the response cannot be read: {problem_of_encoding(encoding)}")
        return content

    def _warn(self, problem: str) -> None:
        """Log once that an exchange cannot be read. Few problems are remembered: a service can make up any number."""
        if problem not in self._problems and len(self._problems) < _MOST_PROBLEMS:
            self._problems.add(problem)
            _log.warning("An exchange is neither checked nor recorded as a whole: %s.", problem)

    def _settle(self, call: Call, envelope: Mapping[str, Any]) -> None:
        """Note what the request has cost."""
        code, data, service = envelope.get("code"), envelope.get("data"), self._service
        if call.operation == "createTask":
            is_refused = code != self._success and case_of_message(envelope.get("msg"), code, self._codes) not in {
                "",
                "internal_error",
            }
            is_paid = call.was_sent and may_be_paid(
                call.status,
                code if isinstance(code, int) else None,
                is_complete=call.is_complete,
                is_known_refusal=is_refused,
                success=self._success,
                refusals=self._refusals,
            )
            self._limit.settle(call.expense, is_paid=is_paid)
            fields = data if isinstance(data, dict) else {}
            task_id = next((fields[name] for name in service.dialect.created if fields.get(name)), "")
            if isinstance(task_id, str) and task_id:
                call.context.task_id = task_id
                self._note_task(call, task_id)
            elif is_paid and call.expense.price:
                service.ledger.note_loss(call.expense.price)
        else:
            self._limit.settle(call.expense, is_paid=False)
        if call.operation == "recordInfo":
            call.context.task_id = call.context.query.get(service.shared.record_info.query, "")
            if isinstance(data, dict) and data.get("state") == service.shared.states.failure:
                service.ledger.note_outcome(call.context.task_id, is_free=True)

    def _note_task(self, call: Call, task_id: str) -> None:
        context, fields = call.context, self._service.shared.fields
        request = context.request if isinstance(context.request, dict) else {}
        model = str(request.get(fields.model, ""))
        known = self._service.catalogue.models.get(model)
        images = max(known.profile.images, 1) if known else 1
        key = request_key(context.caller.name, model, request.get(fields.input))
        ledger = self._service.ledger
        ledger.note_task(task_id, context.space.name, key, call.expense.price, images, is_free=False)
        # Results are on another server, so that the proxy does not see who fetches them.
        ledger.note_fetch(task_id)

    def _compare(self, call: Call, content: bytes) -> None:
        media_type = next((value for name, value in call.response_headers if name.lower() == b"content-type"), b"")
        self._differences.check(
            Seen(
                operation=call.operation,
                request=call.context.request,
                cases=call.cases,
                task_id=call.context.query.get(self._service.shared.record_info.query, ""),
                status=call.status,
                media_type=media_type.decode("latin-1"),
                body=call.redactor.body(content),
            )
        )

    def _journal(self, call: Call, body: bytes, envelope: Mapping[str, Any], duration: float) -> None:
        context, own, code = call.context, call.own, envelope.get("code")
        journal, is_done = context.space.journal, own is None and code == self._success
        message = _envelope(own.body).get("msg") if own else envelope.get("msg")
        case = own.case if own else case_of_message(message, code, self._codes)
        # What a fault says has no cause, and the error of the upstream service is the hint.
        reason = "" if is_done or context.fault or call.error else str(message or "")
        journal.add(
            JournalEntry(
                number=journal.next_number(),
                at=context.now,
                kind="call" if call.operation else UNMATCHED,
                operation=call.operation or UNMATCHED,
                account=context.caller.name if call.has_key else "",
                method=call.scope["method"],
                target=call.redactor.url(call.target),
                duration=duration,
                headers=self._service.kept_headers(call.scope["headers"]),
                request=truncated(call.redactor.body(call.sent.head if context.body is None else context.body)),
                code=own.code if own else code if isinstance(code, int) else None,
                status=own.status_code if own else call.status or None,
                case="done" if is_done else case,
                reason=call.redactor.text(reason),
                answer=truncated(own.body if own else call.redactor.body(body)),
                violations=context.violations,
                fault=context.fault.describe() if context.fault else "",
                task_id=context.task_id,
                hint=call.redactor.text(call.error),
            )
        )

    def _record(self, recorder: Recorder, call: Call, body: bytes, body_file: str, duration: float) -> None:
        exchange = HarExchange(
            started=call.began,
            duration=duration,
            method=call.scope["method"],
            url=self._upstream.url + call.target,
            request_headers=tuple(map(tuple, call.scope["headers"])),
            request=call.sent.head,
            status=call.status,
            response_headers=call.response_headers,
            response=b"" if body_file else body,
            body_file=body_file,
            body_size=call.kept.size if body_file else 0,
            error=call.error,
            operation=call.operation,
            task_id=call.context.task_id,
        )
        exchange = exchange.decoded(recorder.folder)
        if exchange.error != call.error:
            self._warn(exchange.error)
        recorder.add(call.redactor.exchange(exchange))
        if body_file and not exchange.body_file:
            (recorder.folder / body_file).unlink()

    async def close(self) -> None:
        """Finish the recording and close all connections."""
        if self._recorder:
            await self._recorder.close()
        await self._upstream.close()


def _head(response: UpstreamResponse) -> list[tuple[bytes, bytes]]:
    # A body that HTTP does not allow is not sent, and uvicorn would miss it.
    dropped = {b"content-length"} if response.status in _NO_BODY else set[bytes]()
    return [(name, value) for name, value in response.headers if name.lower() not in dropped]


def _envelope(content: bytes | None) -> Mapping[str, Any]:
    """Return the JSON object of a response, empty if it is none."""
    if not content:
        return {}
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = msgspec.json.decode(content)
        if isinstance(found, dict):
            return found
    return {}
