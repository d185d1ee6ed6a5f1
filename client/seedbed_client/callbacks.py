"""Callbacks: are they of the service, are they fresh, and what do they say.

The signature is made over the task's name and a timestamp. The name stands in ``data.taskId``: the vendor's own sample
reads ``data.task_id``, which is not there, and so signs, or checks, the word ``undefined``. The body is not covered, so
look at the task's record before acting on what a callback says.
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

from seedbed_client._callback_inbox import CallbackInbox, Recent
from seedbed_client._config import Secret
from seedbed_client.errors import InvalidCallbackError, SignatureMismatchError, StaleCallbackError
from seedbed_client.models import Task, task_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

TOLERANCE: Final = 300.0
"""Seconds by which a signature may be old, or ahead: clocks differ, and deliveries are tried again."""

_RULES: Final = job_api().callback
_SAMPLES_WORD: Final = "undefined"


class Callback(msgspec.Struct, frozen=True):
    """What the service tells when a task has ended.

    Attributes:
        code: The code of its end.
        message: Its end in words.
        task: Its record.
    """

    code: int
    message: str
    task: Task


def parse_callback(body: bytes) -> Callback:
    """Read a callback; it may be of anybody, see :func:`verify_callback`.

    Raises:
        InvalidCallbackError: It is not in the form of the service.
    """
    try:
        envelope = msgspec.json.decode(body, type=Envelope)
        record = envelope.data if isinstance(envelope.data, dict) else {}
        return Callback(envelope.code, envelope.msg or "", task_of(record))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidCallbackError(f"the callback cannot be read: {error}") from error


def verify_callback(
    headers: Mapping[str, str],
    body: bytes,
    signing_key: str | bytes,
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> Callback:
    """Return a callback that is signed with the signing key, and was so just now.

    Args:
        headers: Headers of the request, in any case.
        body: Its body, as it came.
        signing_key: The key of the account with which the service signs.
        tolerance: Seconds by which the signature may be old, or ahead.
        now: What time it is, in Unix seconds; the time of day where there is none.

    Raises:
        InvalidCallbackError: It is not in the form of the service.
        SignatureMismatchError: It is not signed, or with another key.
        StaleCallbackError: It was signed too long ago, or in the future.
    """
    key, signing_key = signing_secret(signing_key), ""  # so that no traceback shows it
    found = {name.lower(): value for name, value in headers.items()}
    signature = found.get(_RULES.signature_header.lower(), "")
    timestamp = found.get(_RULES.timestamp_header.lower(), "")
    callback = parse_callback(body)
    _check_signature(signature, timestamp, callback.task.task_id, key)
    age = (time.time() if now is None else now) - int(timestamp)
    if abs(age) > tolerance:
        when = f"{age:.0f} seconds ago" if age > 0 else f"{-age:.0f} seconds ahead of this clock"
        raise StaleCallbackError(f"the callback was signed {when}, more than the {tolerance:g} that are tolerated")
    return callback


def _check_signature(signature: str, timestamp: str, task_id: str, key: Secret) -> None:
    if not key:
        raise ValueError("Give the signing key: with none, anybody's signature would do.")
    if not signature or not re.fullmatch(r"[0-9]{1,12}", timestamp):
        raise SignatureMismatchError(f"the callback is not signed: it needs {_RULES.signature_header} and a timestamp")
    if _is_signature(signature, key, task_id, timestamp):
        return
    if _is_signature(signature, key, _SAMPLES_WORD, timestamp):
        raise SignatureMismatchError(
            f"the callback is signed over {_SAMPLES_WORD!r} in place of its taskId, which would hold for any task: its "
            "sender reads data.task_id, as the vendor's own sample does"
        )
    raise SignatureMismatchError("the callback is not signed with the signing key")


def _is_signature(signature: str, key: Secret, task_id: str, timestamp: str) -> bool:
    signed = f"{task_id}.{timestamp}".encode("utf-8", "replace")
    expected = base64.b64encode(hmac.digest(key.tell().encode("latin-1"), signed, hashlib.sha256))
    return hmac.compare_digest(signature.encode("utf-8", "replace"), expected)


def signing_secret(key: str | bytes) -> Secret:
    """Return a signing key as a secret; one of bytes may be any bytes."""
    return Secret((key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key).decode("latin-1"))


LARGEST_CALLBACK: Final = 1024 * 1024
"""In bytes; a callback has some thousands."""

_OK, _MALFORMED, _NOT_SIGNED, _ONLY_POST, _TOO_LARGE = 200, 400, 401, 405, 413


class _TooLargeError(Exception):
    """A body has more bytes than are taken."""


class CallbackReceiver:
    """Takes callbacks of the service, each once.

    It answers 200 to what it took, also to a callback that it has taken before, for the service may send it twice. What
    ``handle`` raises is passed on, which the server above makes a 500 of, so that the service tries again.

    Args:
        handle: Called with each callback, a function or one to await; it may also be left to ``wait_for_callback``.
        signing_key: Key of the account with which the service signs; without one, anybody's callback is taken.
        tolerance: Seconds by which a signature may be old, or ahead.
        clock: What time it is, in Unix seconds; the time of day where there is none.
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
            raise ValueError("A signing key has at least one character; leave it out where the account has none.")
        self.mailbox = CallbackInbox()
        """Tells those who wait."""
        self._handle, self._tolerance, self._clock = handle, tolerance, clock
        self._key = key
        self._taken, self._lock = Recent(), threading.Lock()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            raise NotImplementedError(f"A receiver of callbacks speaks HTTP, not {scope['type']}.")
        if scope["method"] != "POST":
            await _answer(send, _ONLY_POST, "Callbacks are POSTed.")
            return
        try:
            callback = self._read(_headers(scope), await _body(receive))
        except _TooLargeError:
            await _answer(send, _TOO_LARGE, f"A callback has at most {LARGEST_CALLBACK} bytes.")
        except InvalidCallbackError:
            await _answer(send, _MALFORMED, "This is no callback.")
        except (SignatureMismatchError, StaleCallbackError):
            await _answer(send, _NOT_SIGNED, "This callback is not signed, or not signed just now.")
        else:
            await self._take(callback)
            await _answer(send, _OK, "Thank you.")

    def _read(self, headers: Mapping[str, str], body: bytes) -> Callback:
        if self._key is None:
            return parse_callback(body)
        now = self._clock() if self._clock else None
        return verify_callback(headers, body, self._key.tell().encode("latin-1"), tolerance=self._tolerance, now=now)

    async def _take(self, callback: Callback) -> None:
        """Have a callback handled, unless it was; one whose handling failed is handled when it comes again."""
        task_id = callback.task.task_id
        with self._lock:
            if not self._taken.add(task_id):
                return
        try:
            result = self._handle(callback) if self._handle else None
            if inspect.isawaitable(result):
                await result
        except BaseException:
            with self._lock:
                self._taken.remove(task_id)
            raise
        self.mailbox.put(task_id)


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def _body(receive: Receive) -> bytes:
    body, has_more = bytearray(), True
    while has_more:
        message = await receive()
        body += message.get("body", b"")
        has_more = message.get("more_body", False)
        if len(body) > LARGEST_CALLBACK:
            raise _TooLargeError
    return bytes(body)


async def _answer(send: Send, status: int, sentence: str) -> None:
    content = sentence.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
