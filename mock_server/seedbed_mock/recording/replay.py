"""The replay of recordings: a server that answers as the recorded service did, with nothing leaving the machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

import msgspec
from seedbed_schemas import job_api
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, Response

from seedbed_mock import handlers
from seedbed_mock.callbacks.sender import DeliveryError, send_callback
from seedbed_mock.callbacks.targets import AllowList, TargetRefusedError, UnknownTargetError, resolve
from seedbed_mock.clock import real_monotonic
from seedbed_mock.faults.connection import ClientConnection, ConnectionEffect, sleep_by_clock
from seedbed_mock.faults.effects import APPLIED_HEADER, Delay, ResponseReplacedError
from seedbed_mock.journal import CALLBACK, UNMATCHED, JournalEntry, truncated
from seedbed_mock.recording.archive import HarExchange, RecordingError, load_recordings
from seedbed_mock.recording.script import (
    RECORDED,
    Playback,
    Script,
    content_of,
    created_id,
    creation_key,
    localised,
    parsed,
)
from seedbed_mock.recording.transit import SentBody, context_of, operation_of
from seedbed_mock.recording.upstream import end_to_end
from seedbed_mock.request_body import LARGEST_BODY
from seedbed_mock.responses import ApiResponse, ServiceError
from seedbed_mock.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from starlette.types import Message, Receive, Scope, Send

    from seedbed_mock.faults.engine import ActiveRule
    from seedbed_mock.responses import ResponseWriter
    from seedbed_mock.state import RequestContext, Service

    Respond = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]


_log = logging.getLogger("seedbed")

_NOT_FOUND: Final = 404
_NOT_REPLAYED: Final = frozenset({b"content-length", b"content-encoding", b"date", b"server", b"alt-svc"})
_NOT_SENT: Final = frozenset({b"host", b"content-length", b"user-agent", b"accept", b"accept-encoding"})


def open_replay(folder: Path, service: Service, writer: ResponseWriter, respond: Respond) -> Replay:
    """Return the replay of the recordings in a directory.

    Args:
        folder: Directory with HAR files.
        service: Holds the journal, the clock and the options.
        writer: Writes the responses of the server itself.
        respond: The mock service, for what is not recorded.

    Raises:
        SettingsError: The directory holds no recording that can be replayed.
    """
    paths = {model.contract.operation.path for model in service.catalogue.models.values()}
    try:
        exchanges = load_recordings(folder)
    except RecordingError as error:
        raise SettingsError(str(error)) from error
    for problem, number in Counter(each.error for each in exchanges if each.status and each.error).items():
        _log.warning("Not replayed: %d of the recorded responses (%s).", number, problem)
    return Replay(service, writer, respond, lambda: Script(exchanges, paths))


class Replay:
    """An ASGI application that answers from recordings.

    Attributes:
        title: Name of the server in the dashboard.
        passes_date: Whether responses have the Date of another server.

    Args:
        service: Holds the journal, the clock and the options.
        writer: Writes the responses of the server itself.
        respond: The mock service, for what is not recorded.
        read: Returns the recording from its start.
    """

    title = "Seedbed replay"
    passes_date = False

    def __init__(self, service: Service, writer: ResponseWriter, respond: Respond, read: Callable[[], Script]) -> None:
        self._service = service
        self._writer = writer
        self._respond = respond
        self._read = read
        self._speed = service.options.replay_speed
        self._deliveries = set[asyncio.Task[None]]()
        self._begin()

    def _begin(self) -> None:
        self._script = self._read()
        self._began_at = self._service.started_at
        self._playbacks: dict[str, tuple[float, Playback]] = {}
        self._last: dict[tuple[str, str, bytes], HarExchange] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request as it was answered before, or leave it to the mock service."""
        if self._began_at != self._service.started_at:
            # The server was reset.
            self._begin()
        started = real_monotonic()
        try:
            sent = await SentBody.read(receive, LARGEST_BODY)
        except ClientDisconnect:
            return
        context = context_of(self._service, scope, operation_of(self._service, scope["method"], scope["path"]), sent)
        try:
            handlers.refuse_web_pages(self._service, context)
        except ServiceError as error:
            await self._writer.error(error)(scope, receive, send)
            return
        image = self._script.images.get(scope["path"])
        if scope["path"].startswith(RECORDED):
            await self._image(image)(scope, receive, send)
            return
        find = self._find(scope, context, sent)
        if find is None and not self._service.options.replay_strict:
            await self._respond(scope, _again(sent, receive), send)
            return
        response = self._answer(scope, context, find)
        if not sent.is_complete:
            # The rest of the body may still arrive, and would be taken for the next request.
            response.headers["connection"] = "close"
        fault = context.settle_fault()
        self._journal(scope, context, response, (real_monotonic() - started) * 1000)
        await self._send(response, fault, ClientConnection.of(scope, receive, send))

    async def _send(self, response: ApiResponse, fault: ActiveRule | None, connection: ClientConnection) -> None:
        """Send a response as a fault lets it through."""
        effect = fault.rule.effect if fault else None
        if fault:
            response.headers[APPLIED_HEADER] = str(fault.rule)
        if isinstance(effect, ConnectionEffect):
            await effect.send(response, connection)
            return
        if fault and isinstance(effect, Delay):
            has_left = await sleep_by_clock(self._service.clock, effect.draw(fault.random), connection.receive)
            if has_left:
                return
        await response(connection.scope, connection.receive, connection.send)

    def _find(self, scope: Scope, context: RequestContext, sent: SentBody) -> Callable[[], HarExchange | bytes] | None:
        """Return a function that takes what was recorded of a request, ``None`` if nothing was, or no more."""
        query = scope["query_string"].decode("latin-1")
        if context.operation == "createTask":
            with contextlib.suppress(ServiceError):
                handlers.parse_request(self._service, context)
            recorded = self._script.creations.get(creation_key(context.request), deque())
            return (lambda: self._create(context, recorded.popleft())) if recorded else None
        if context.operation == "recordInfo":
            context.task_id = context.query.get(self._service.shared.record_info.query, "")
            if context.task_id in self._script.tasks:
                created, playback = self._playback(context.task_id)
                return lambda: playback.fetch((self._service.clock.now() - created) * 1000 * self._speed)
        key = (scope["method"], f"{scope['path']}?{query}" if query else scope["path"], sent.head)
        recorded = self._script.others.get(key, deque())

        def take() -> HarExchange:
            if recorded:
                self._last[key] = recorded.popleft()
            # A balance, for example, is asked for any number of times.
            return self._last[key]

        return take if recorded or key in self._last else None

    def _answer(
        self, scope: Scope, context: RequestContext, find: Callable[[], HarExchange | bytes] | None
    ) -> ApiResponse:
        """Return the response of a fault, or what was recorded, which stays for the next request otherwise."""
        service, space = self._service, context.space
        try:
            # Any key is accepted, since a recording has none. One of the mock server may name a space, or give a rule.
            handlers.authenticate(service, context)
        except ServiceError:
            context.space = space
        try:
            if context.operation:
                handlers.apply_fault(service, context)
        except ResponseReplacedError as replaced:
            return replaced.effect.respond(self._writer)
        except ServiceError as error:
            return self._writer.error(error)
        return self._unknown(scope) if find is None else self._recorded(find(), context)

    def _playback(self, task_id: str) -> tuple[float, Playback]:
        if task_id not in self._playbacks:
            self._playbacks[task_id] = self._service.clock.now(), Playback(self._script.tasks[task_id])
        return self._playbacks[task_id]

    def _create(self, context: RequestContext, recorded: HarExchange) -> HarExchange:
        context.task_id = created_id(recorded)
        if context.task_id in self._script.tasks:
            created, _ = self._playback(context.task_id)
            url = context.request.get(self._service.shared.fields.callback)
            if isinstance(url, str) and url:
                for callback in self._script.tasks[context.task_id].callbacks:
                    delivery = asyncio.create_task(self._deliver(context, callback, url, created))
                    self._deliveries.add(delivery)
                    delivery.add_done_callback(self._deliveries.discard)
        return recorded

    def _recorded(self, found: HarExchange | bytes, context: RequestContext) -> ApiResponse:
        base = self._service.url_for_clients(context.base_url)
        if isinstance(found, bytes):
            content = localised(found, base, self._script.images)
            return ApiResponse(_code(content) or 0, "done", content, 200, self._service.dialect.media_type)
        content = localised(content_of(found), base, self._script.images)
        code, success = _code(content) or 0, self._service.dialect.cases["done"].number(self._service.catalogue.codes)
        response = ApiResponse(code, "done" if code == success else "replayed", content, found.status)
        kept = [each for each in end_to_end(found.response_headers) if each[0].lower() not in _NOT_REPLAYED]
        own = [each for each in response.raw_headers if each[0] != b"content-type"]
        kept = [(name.lower(), value) for name, value in kept if not name.lower().startswith(b"x-seedbed")]
        response.raw_headers = [*own, *kept]
        return response

    def _unknown(self, scope: Scope) -> ApiResponse:
        what = f"Nothing more is recorded for {scope['method']} {scope['path']}"
        text = f"{what}; record it with seedbed proxy --record, or omit --replay-strict."
        body = {"code": _NOT_FOUND, "msg": text, "data": None}
        return ApiResponse(_NOT_FOUND, "not_recorded", msgspec.json.encode(body), _NOT_FOUND)

    def _image(self, image: HarExchange | None) -> Response:
        if image is None:
            return self._writer.file_error("result_unknown")
        media_type = image.media_type or "application/octet-stream"
        if image.body_file:
            return FileResponse(image.body_file, media_type=media_type)
        return Response(image.response, media_type=media_type)

    def _journal(self, scope: Scope, context: RequestContext, response: ApiResponse, duration: float) -> None:
        query, journal = scope["query_string"].decode("latin-1"), context.space.journal
        is_known = bool(context.operation) and response.case != "not_recorded"
        body = parsed(response.body) if response.case != "done" and is_known and not context.fault else None
        journal.add(
            JournalEntry(
                number=journal.next_number(),
                at=context.now,
                kind="call" if is_known else UNMATCHED,
                operation=context.operation if is_known else UNMATCHED,
                account=context.caller.name,
                method=scope["method"],
                target=f"{scope['path']}?{query}" if query else scope["path"],
                headers=self._service.kept_headers(scope["headers"]),
                request=truncated(context.body or b""),
                code=response.code,
                status=response.status_code,
                case=response.case,
                answer=truncated(response.body),
                task_id=context.task_id,
                duration=duration,
                fault=context.fault.describe() if context.fault else "",
                reason=str(body.get("msg", "")) if isinstance(body, dict) else "",
                hint="" if is_known else "The recording has no response to this request.",
            )
        )

    # Callbacks

    async def _deliver(self, context: RequestContext, callback: HarExchange, url: str, created: float) -> None:
        """Send a recorded callback at its time to the receiver of today, which must be on this machine."""
        offset = callback.started - self._script.tasks[context.task_id].created
        await self._wait_until(created + offset / 1000 / self._speed)
        body = localised(callback.request, self._service.url_for_clients(context.base_url), self._script.images)
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in end_to_end(callback.request_headers)
            if name.lower() not in _NOT_SENT
        }
        status, error, started, timeout = None, "", real_monotonic(), job_api().callback.timeout
        try:
            async with asyncio.timeout(timeout):
                # Without an allow-list: only this machine.
                status = (await send_callback(await resolve(url, AllowList()), body, headers)).status
        except TimeoutError:
            error = f"The receiver did not respond within {timeout:g} seconds."
        except (TargetRefusedError, UnknownTargetError, DeliveryError) as problem:
            error = str(problem)
        journal = context.space.journal
        journal.add(
            JournalEntry(
                number=journal.next_number(),
                at=self._service.now(),
                kind=CALLBACK,
                operation=CALLBACK,
                account=context.caller.name,
                target=url,
                request=truncated(body),
                status=status,
                answer=error.encode(),
                task_id=context.task_id,
                attempt=1,
                duration=(real_monotonic() - started) * 1000,
            )
        )

    async def _wait_until(self, moment: float) -> None:
        """Wait for a time of the clock, which a test may advance."""
        clock, loop, advanced = self._service.clock, asyncio.get_running_loop(), asyncio.Event()

        def on_advance(_: float) -> None:
            loop.call_soon_threadsafe(advanced.set)

        unwatch = clock.watch(on_advance)
        try:
            while (left := moment - clock.now()) > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left / clock.speed if clock.speed else None):
                        await advanced.wait()
                advanced.clear()
        finally:
            unwatch()

    async def close(self) -> None:
        """Drop the callbacks that are not due yet."""
        deliveries = tuple(self._deliveries)
        for delivery in deliveries:
            delivery.cancel()
        await asyncio.gather(*deliveries, return_exceptions=True)


def _code(content: bytes) -> int | None:
    body = parsed(content)
    code = body.get("code") if isinstance(body, dict) else None
    return code if isinstance(code, int) else None


def _again(sent: SentBody, receive: Receive) -> Receive:
    """Return a receive channel that gives the body that was read once more."""
    head: list[Message] = [{"type": "http.request", "body": sent.head, "more_body": not sent.is_complete}]

    async def receive_again() -> Message:
        return head.pop() if head else await receive()

    return receive_again
