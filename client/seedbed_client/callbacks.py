"""Callbacks: verifying their signature, reading them, and receiving them as an ASGI application.

The signature covers the ID of the task and a timestamp. The ID is in ``data.taskId``; the vendor's own sample reads
``data.task_id``, which does not exist, and so signs or verifies the word ``undefined``. The rest of the body is not
covered by the signature, so fetch the task before you act on what a callback says.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import inspect
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec
from seedbed_schemas import job_api
from seedbed_schemas.messages import Envelope

from seedbed_client._callback_inbox import CallbackInbox, RecentIds
from seedbed_client._config import Secret
from seedbed_client.errors import InvalidCallbackError, SignatureMismatchError, StaleCallbackError
from seedbed_client.models import Task, task_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

TOLERANCE: Final = 300.0
"""Seconds by which a signature may be old or ahead: clocks differ, and deliveries are retried."""

MAX_CALLBACK_BYTES: Final = 1024 * 1024
"""Largest callback that is accepted; a callback has a few thousand bytes."""

_RULES: Final = job_api().callback
_SAMPLES_MISTAKE: Final = "undefined"
_OK, _MALFORMED, _NOT_SIGNED, _ONLY_POST, _TOO_LARGE = 200, 400, 401, 405, 413


class Callback(msgspec.Struct, frozen=True):
    """A callback, which the service sends when a task has finished.

    Attributes:
        code: Code of the outcome.
        message: Message of the outcome.
        task: The task.
    """

    code: int
    message: str
    task: Task


def parse_callback(body: bytes) -> Callback:
    """Read a callback. Anyone can send one: use :func:`verify_callback` to check where it is from.

    Raises:
        InvalidCallbackError: The body does not have the form that the service documents.
    """
    try:
        envelope = msgspec.json.decode(body, type=Envelope)
        record = envelope.data if isinstance(envelope.data, dict) else {}
        return Callback(envelope.code, envelope.msg or "", task_of(record))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidCallbackError(f"invalid callback: {error}") from error


def verify_callback(
    headers: Mapping[str, str],
    body: bytes,
    signing_key: str | bytes,
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> Callback:
    """Return a callback if it was signed recently with the signing key.

    Args:
        headers: Headers of the request, in any case.
        body: Body of the request, unchanged.
        signing_key: Signing key of the account.
        tolerance: Seconds by which the signature may be old or ahead.
        now: Unix time in seconds; by default the current time.

    Raises:
        InvalidCallbackError: The body does not have the form that the service documents.
        SignatureMismatchError: The signature is missing or made with another key.
        StaleCallbackError: The signature is too old, or from the future.
    """
    key, signing_key = signing_secret(signing_key), ""  # tracebacks may show the arguments
    values = {name.lower(): value for name, value in headers.items()}
    signature = values.get(_RULES.signature_header.lower(), "")
    timestamp = values.get(_RULES.timestamp_header.lower(), "")
    callback = parse_callback(body)
    _check_signature(signature, timestamp, callback.task.task_id, key)
    age = (time.time() if now is None else now) - int(timestamp)
    if abs(age) > tolerance:
        when = f"{age:.0f} s ago" if age > 0 else f"{-age:.0f} s in the future"
        raise StaleCallbackError(f"the callback was signed {when}; at most {tolerance:g} s are tolerated")
    return callback


def _check_signature(signature: str, timestamp: str, task_id: str, key: Secret) -> None:
    if not key:
        # With an empty key, anyone can compute the signature.
        raise ValueError("the signing key must not be empty")
    if not signature or not re.fullmatch(r"[0-9]{1,12}", timestamp):
        headers = f"{_RULES.signature_header} and {_RULES.timestamp_header}"
        raise SignatureMismatchError(f"the callback is not signed; expected the headers {headers}")
    if _is_signature(signature, key, task_id, timestamp):
        return
    if _is_signature(signature, key, _SAMPLES_MISTAKE, timestamp):
        raise SignatureMismatchError(
            f"the signature covers {_SAMPLES_MISTAKE!r} instead of the taskId, and so would hold for any task; the "
            "sender reads data.task_id, as the vendor's sample does"
        )
    raise SignatureMismatchError("the callback is not signed with the signing key")


def _is_signature(signature: str, key: Secret, task_id: str, timestamp: str) -> bool:
    signed = f"{task_id}.{timestamp}".encode("utf-8", "replace")
    expected = base64.b64encode(hmac.digest(key.reveal().encode("latin-1"), signed, hashlib.sha256))
    # Comparing in constant time reveals nothing about the expected signature.
    return hmac.compare_digest(signature.encode("utf-8", "replace"), expected)


def signing_secret(key: str | bytes) -> Secret:
    """Return a signing key as a secret. A key of bytes need not be valid text; Latin-1 represents any bytes."""
    return Secret((key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key).decode("latin-1"))


class _TooLargeError(Exception):
    """The body of a request is too large."""


class CallbackReceiver:
    """An ASGI application that receives callbacks and handles each of them once.

    It responds with 200 to a callback that it has accepted, and to later deliveries of the same one. An exception in
    ``handle`` is passed on. The server then responds with 500, so that the service sends the callback again.

    Args:
        handle: Function or coroutine function that is called with each callback. Without one, use
            ``wait_for_callback``.
        signing_key: Signing key of the account. Without one, callbacks from anyone are accepted.
        tolerance: Seconds by which a signature may be old or ahead.
        clock: Returns the Unix time in seconds; by default the current time.

    Raises:
        ValueError: The signing key is empty.
    """

    def __init__(
        self,
        handle: Callable[[Callback], object] | None = None,
        *,
        signing_key: str | bytes | None = None,
        tolerance: float = TOLERANCE,
        clock: Callable[[], float] | None = None,
    ) -> None:
        key, signing_key = None if signing_key is None else signing_secret(signing_key), None
        if key is not None and not key:
            raise ValueError("the signing key must not be empty; omit it if the account has none")
        self.inbox = CallbackInbox()
        """Notifies those who wait for a callback."""
        self._handle, self._tolerance, self._clock = handle, tolerance, clock
        self._key = key
        self._handled, self._lock = RecentIds(), threading.Lock()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle a request, as ASGI defines it."""
        if scope["type"] != "http":
            raise NotImplementedError(
                f"unsupported ASGI scope {scope['type']!r}; a callback receiver accepts HTTP only"
            )
        if scope["method"] != "POST":
            await _respond(send, _ONLY_POST, "Use POST.")
            return
        try:
            # ASGI has headers in bytes; Latin-1 represents any of them.
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            callback = self._read(headers, await _body(receive))
        except _TooLargeError:
            await _respond(send, _TOO_LARGE, f"The body is larger than {MAX_CALLBACK_BYTES} bytes.")
        except InvalidCallbackError:
            await _respond(send, _MALFORMED, "The body is not a callback.")
        except (SignatureMismatchError, StaleCallbackError):
            await _respond(send, _NOT_SIGNED, "The signature is missing, wrong or too old.")
        else:
            await self._handle_once(callback)
            await _respond(send, _OK, "Received.")

    def _read(self, headers: Mapping[str, str], body: bytes) -> Callback:
        if self._key is None:
            return parse_callback(body)
        now = self._clock() if self._clock else None
        return verify_callback(headers, body, self._key.reveal().encode("latin-1"), tolerance=self._tolerance, now=now)

    async def _handle_once(self, callback: Callback) -> None:
        task_id = callback.task.task_id
        # Marked before it is handled: deliveries of one callback may overlap.
        with self._lock:
            if not self._handled.add(task_id):
                return
        try:
            result = self._handle(callback) if self._handle else None
            if inspect.isawaitable(result):
                await result
        except BaseException:
            # Not handled: the service sends the callback again, and it is handled then.
            with self._lock:
                self._handled.remove(task_id)
            raise
        self.inbox.put(task_id)


async def _body(receive: Receive) -> bytes:
    body, has_more = bytearray(), True
    while has_more:
        message = await receive()
        body += message.get("body", b"")
        has_more = message.get("more_body", False)
        if len(body) > MAX_CALLBACK_BYTES:  # anyone can send a body, so it is not read to its end
            raise _TooLargeError
    return bytes(body)


async def _respond(send: Send, status: int, text: str) -> None:
    content = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
