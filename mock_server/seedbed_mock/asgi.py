"""How a call comes in from HTTP and its answer goes out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect

from seedbed_mock.faults.connection import ClientConnection, ConnectionEffect, sleep_by_clock
from seedbed_mock.faults.effects import APPLIED_HEADER, Delay, ResponseReplacedError
from seedbed_mock.handlers import read_body
from seedbed_mock.journal import JournalEntry, truncated
from seedbed_mock.responses import ServiceError
from seedbed_mock.settings import base_url
from seedbed_mock.state import RequestContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from seedbed_mock.faults.engine import ActiveRule
    from seedbed_mock.handlers import Handler
    from seedbed_mock.responses import ApiResponse, ResponseWriter
    from seedbed_mock.state import Service


_log = logging.getLogger("seedbed")
_NO_PARAMETERS: Final[Mapping[str, str]] = {}


class OperationEndpoint:
    """An operation as an ASGI application: reads the request, takes the steps, sends the answer, and writes it down."""

    def __init__(self, service: Service, operation: str, steps: tuple[Handler, ...], answers: ResponseWriter) -> None:
        self._service = service
        self._operation = operation
        self._steps = steps
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 (ASGI says what)
        try:
            body = await read_body(receive)
        except ClientDisconnect:
            return
        fault = None
        try:
            answer, fault = self._handle(scope, body)
        except Exception as error:
            _log.exception("Seedbed itself failed at %s", scope["path"])
            self._service.errors.append(error)
            answer = self._answers.error(ServiceError("internal_error"))
        if body is None:
            # What is left of it may still be on its way, and must not be taken for the next request.
            answer.headers["connection"] = "close"
        if fault is None or not await self._spoil(fault, answer, ClientConnection.of(scope, receive, send)):
            await answer(scope, receive, send)

    def _handle(self, scope: Scope, body: bytes | None) -> tuple[ApiResponse, ActiveRule | None]:
        call = RequestContext(
            headers=dict(scope["headers"]),
            query=_query(scope["query_string"]),
            path=scope.get("path_params", _NO_PARAMETERS),
            operation=self._operation,
            body=body,
            base_url=_base_url(scope),
            space=self._service.spaces.default,
            now=self._service.now(),
        )
        answer = self._answer(call)
        if applied := str(call.fault.rule) if call.fault else call.applied:
            answer.headers[APPLIED_HEADER] = applied
        self._write_down(scope, call, answer)
        return answer, call.fault

    async def _spoil(self, fault: ActiveRule, answer: ApiResponse, wire: ClientConnection) -> bool:
        """Let a fault of the connection or of time have its way; tell whether there is nothing left to answer."""
        effect = fault.rule.effect
        if isinstance(effect, ConnectionEffect):
            await effect.send(answer, wire)
            return True
        if isinstance(effect, Delay):
            return await sleep_by_clock(self._service.clock, effect.draw(fault.random), wire.receive)
        return False

    def _answer(self, call: RequestContext) -> ApiResponse:
        try:
            for step in self._steps:
                step(self._service, call)
        except ServiceError as refusal:
            return self._answers.error(refusal)
        except ResponseReplacedError as fault:
            return fault.effect.respond(self._answers)
        return self._answers.success(call.data)

    def _write_down(self, scope: Scope, call: RequestContext, answer: ApiResponse) -> None:
        query, journal = scope["query_string"], call.space.journal
        journal.add(
            JournalEntry(
                number=journal.next_number(),
                at=call.now,
                kind="call",
                operation=self._operation,
                account=call.account.name if call.account else "",
                method=scope["method"],
                target=f"{scope['path']}?{query.decode('latin-1')}" if query else scope["path"],
                request=truncated(call.body or b""),
                code=answer.code,
                status=answer.status_code,
                case=answer.case,
                answer=truncated(answer.body),
                violations=call.violations,
                fault=call.fault.describe() if call.fault else "",
                task_id=call.task_id,
            )
        )


def _query(query: bytes) -> dict[str, str]:
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {}


def _base_url(scope: Scope) -> str:
    """Return where this server was reached, by its own socket: the Host header is the client's word alone."""
    host, port = scope["server"]
    return base_url(host, port)
