"""Callbacks through the proxy: the service sends them to the proxy, which records them and passes them on.

The signature of a callback covers the task ID and the time, not the URL, so that it stays valid at the caller's.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from seedbed_schemas import job_api
from starlette.requests import ClientDisconnect

from seedbed_mock.callbacks.sender import DeliveryError, send_callback
from seedbed_mock.callbacks.targets import AllowList, TargetRefusedError, UnknownTargetError, resolve
from seedbed_mock.clock import real_monotonic, real_time
from seedbed_mock.journal import CALLBACK, JournalEntry, truncated
from seedbed_mock.recording.archive import HarExchange, Redactor
from seedbed_mock.recording.differences import DifferenceLog, Seen
from seedbed_mock.recording.transit import SentBody
from seedbed_mock.recording.upstream import end_to_end
from seedbed_mock.responses import ApiResponse

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import Receive, Scope, Send

    from seedbed_mock.journal import Headers
    from seedbed_mock.recording.recorder import Recorder
    from seedbed_mock.state import RequestContext, Service


CALLBACK_PATH: Final = "/seedbed-callback/"
"""Path below which the proxy receives callbacks; what follows cannot be guessed."""

_MOST_CALLBACKS = 10_000
_LARGEST_CALLBACK = 1024 * 1024
_BAD_GATEWAY = 502
_NOT_SENT = frozenset({b"host", b"content-length", b"user-agent", b"accept", b"accept-encoding"})


class _Awaited(NamedTuple):
    url: str
    attempts: int = 0


class CallbackForwarder:
    """Receives callbacks in place of the callers of the proxy.

    Args:
        service: Holds the journal.
        public_url: URL at which the upstream service reaches the proxy; ``None`` for the address that was called.
        allowed: Hosts and networks that may get callbacks besides this machine.
        differences: Compares callbacks with the contract.
        recorder: Writes the recording, ``None`` for none.

    Raises:
        SettingsError: An entry of the allow-list is invalid.
    """

    def __init__(
        self,
        service: Service,
        public_url: str | None,
        allowed: Collection[str],
        differences: DifferenceLog,
        recorder: Recorder | None,
    ) -> None:
        self._service = service
        self._public_url = public_url
        self._allowed = AllowList.parse(allowed)
        self._differences = differences
        self._recorder = recorder
        self._awaited: dict[str, _Awaited] = {}

    def owns(self, path: str) -> bool:
        """Return whether a path is one at which callbacks arrive."""
        return path.startswith(CALLBACK_PATH)

    def rewrite(self, context: RequestContext, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
        """Return the headers and the body of a creation with a callback URL at the proxy.

        Nothing but the URL changes. A body that is compressed or not clear stays as it is.
        """
        request, field = context.request, self._service.shared.fields.callback
        url = request.get(field) if isinstance(request, dict) else None
        if not isinstance(url, str) or not url or b"content-encoding" in context.headers:
            return headers, body
        token = secrets.token_urlsafe(24)
        changed = _with_text(body, field, url, f"{self._public_url or context.base_url}{CALLBACK_PATH}{token}")
        if changed is None:
            return headers, body
        self._awaited[token] = _Awaited(url)
        if len(self._awaited) > _MOST_CALLBACKS:
            self._awaited.pop(next(iter(self._awaited)))
        length = str(len(changed)).encode()
        return tuple((name, length if name.lower() == b"content-length" else value) for name, value in headers), changed

    async def receive(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a callback on, and answer with the status of its receiver."""
        try:
            sent = await SentBody.read(receive, _LARGEST_CALLBACK)
        except ClientDisconnect:
            return
        token = scope["path"].removeprefix(CALLBACK_PATH)
        awaited = self._awaited.get(token)
        if awaited is None or scope["method"] != "POST" or not sent.is_complete:
            await _response(404, "This proxy awaits no such callback.")(scope, receive, send)
            return
        awaited = self._awaited[token] = awaited._replace(attempts=awaited.attempts + 1)
        began, started = real_time() * 1000, real_monotonic()
        headers = tuple(each for each in end_to_end(scope["headers"]) if each[0].lower() not in _NOT_SENT)
        status, error = await self._forward(awaited.url, sent.head, headers)
        text = error or f"The receiver answered HTTP {status}."
        await _response(status or _BAD_GATEWAY, text)(scope, receive, send)
        self._note(
            HarExchange(
                started=began,
                duration=(real_monotonic() - started) * 1000,
                method="POST",
                url=awaited.url,
                request_headers=tuple(map(tuple, scope["headers"])),
                request=sent.head,
                status=status or 0,
                error=error,
                operation=CALLBACK,
                task_id=_task_id(sent.head),
            ),
            awaited.attempts,
        )

    async def _forward(self, url: str, body: bytes, headers: Headers) -> tuple[int | None, str]:
        """Return the HTTP status of the receiver, or why there is none."""
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        timeout = job_api().callback.timeout
        try:
            async with asyncio.timeout(timeout):
                response = await send_callback(await resolve(url, self._allowed), body, sent)
        except TimeoutError:
            return None, f"The receiver did not respond within {timeout:g} seconds."
        except (TargetRefusedError, UnknownTargetError, DeliveryError) as error:
            return None, str(error)
        return response.status, ""

    def _note(self, exchange: HarExchange, attempt: int) -> None:
        self._differences.check(Seen(operation=CALLBACK, body=exchange.request))
        redactor = Redactor(exchange.request_headers)
        exchange = redactor.exchange(exchange)
        journal = self._service.spaces.default.journal
        journal.add(
            JournalEntry(
                number=journal.next_number(),
                at=self._service.now(),
                kind=CALLBACK,
                operation=CALLBACK,
                target=exchange.url,
                request=truncated(exchange.request),
                status=exchange.status or None,
                answer=exchange.error.encode(),
                task_id=exchange.task_id,
                attempt=attempt,
            )
        )
        if self._recorder:
            self._recorder.add(exchange)


def _with_text(body: bytes, field: str, before: str, after: str) -> bytes | None:
    """Return a JSON object with another text in a field at its top, and no other change; ``None`` if that fails."""
    try:
        # Each field as the bytes that were sent.
        parts = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        written = bytes(parts[field])
        changed = body.replace(written, msgspec.json.encode(after))
        expected: Any = {**msgspec.json.decode(body), field: after}
        # The same text may stand elsewhere, for example in the prompt.
        is_clear = body.count(written) == 1 and msgspec.json.decode(written) == before
        return changed if is_clear and msgspec.json.decode(changed) == expected else msgspec.json.encode(expected)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        return None


def _task_id(body: bytes) -> str:
    try:
        data = msgspec.json.decode(body)["data"]["taskId"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return ""
    return data if isinstance(data, str) else ""


def _response(status: int, text: str) -> ApiResponse:
    body = msgspec.json.encode({"code": status, "msg": text, "data": None})
    return ApiResponse(status, "callback", body, status)
