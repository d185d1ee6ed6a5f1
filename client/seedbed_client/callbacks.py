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
import logging
import re
import threading
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

import anyio
import anyio.to_thread
import msgspec
from seedbed_schemas import job_api
from seedbed_schemas.messages import Envelope

from seedbed_client._callback_inbox import CallbackInbox, CallbackQueue, RecentIds
from seedbed_client._config import Secret
from seedbed_client.errors import (
    ConfigurationError,
    InvalidCallbackError,
    SignatureMismatchError,
    StaleCallbackError,
    checked_number,
)
from seedbed_client.models import Task, task_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import Self

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

TOLERANCE: Final = 300.0
"""Seconds by which a signature may be old or ahead: clocks differ, and deliveries are retried."""

MAX_CALLBACK_BYTES: Final = 1024 * 1024
"""Largest callback that is accepted; a callback has a few thousand bytes."""

_RULES: Final = job_api().callback
_SAMPLES_MISTAKE: Final = "undefined"
_OK, _MALFORMED, _NOT_SIGNED, _ONLY_POST, _TOO_LARGE, _BUSY = 200, 400, 401, 405, 413, 503

_PATIENCE: Final = _RULES.timeout * 2 / 3
"""Seconds for which a repeated delivery waits for the first one: less than the service waits for a response."""

_RETRY_AFTER: Final = 5
_MAX_SECONDS: Final = 10**9
_MAX_QUEUE_SIZE: Final = 1_000_000
_MAX_WORKERS: Final = 1000
_MAX_TASK_ID_LENGTH: Final = 1000
"""In characters. IDs are remembered, so a longer one would use up the memory of the receiver."""

_logger: Final = logging.getLogger("seedbed_client")


class HasItems(Protocol):
    """Headers with a method ``items()``, as most libraries have them."""

    def items(self) -> Iterable[tuple[Any, Any]]:
        """Return pairs of names and values."""
        ...


CallbackHeaders: TypeAlias = HasItems | Iterable[Iterable[str | bytes]]
"""Headers of a request: a mapping, the headers of any library, a WSGI environ, or pairs of text or bytes."""


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


def parse_callback(body: bytes | str) -> Callback:
    """Read a callback. Anyone can send one: use :func:`verify_callback` to check where it is from.

    Raises:
        InvalidCallbackError: The body does not have the form that the service documents.
        TypeError: The body was parsed already.
    """
    if not isinstance(body, bytes | bytearray | memoryview | str):
        raise TypeError(
            f"the body of a callback must be bytes, not {type(body).__name__}; pass the raw request body, before it is "
            "parsed"
        )
    try:
        envelope = msgspec.json.decode(body, type=Envelope)
        record = envelope.data if isinstance(envelope.data, dict) else {}
        callback = Callback(envelope.code, envelope.msg or "", task_of(record))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidCallbackError(f"invalid callback: {error}") from error
    if len(callback.task.task_id) > _MAX_TASK_ID_LENGTH:
        raise InvalidCallbackError(f"invalid callback: its task ID is longer than {_MAX_TASK_ID_LENGTH} characters")
    return callback


def verify_callback(
    headers: CallbackHeaders,
    body: bytes | str,
    signing_key: str | bytes,
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> Callback:
    """Return a callback if it was signed recently with the signing key.

    Args:
        headers: Headers of the request: a mapping with names in any case, a WSGI environ, an ``email.message.Message``,
            the headers of a web framework, or pairs of text or bytes, as ASGI has them, or the ASGI scope.
        body: Body of the request, unchanged.
        signing_key: Signing key of the account.
        tolerance: Seconds by which the signature may be old or ahead.
        now: Unix time in seconds; by default the current time.

    Raises:
        InvalidCallbackError: The body does not have the form that the service documents.
        SignatureMismatchError: The signature is missing, ambiguous or made with another key.
        StaleCallbackError: The signature is too old, or from the future.
        ConfigurationError: The tolerance or the time is not a number.
        TypeError: The headers are of another type, or the body was parsed already.
    """
    key, signing_key = signing_secret(signing_key), ""  # tracebacks may show the arguments
    checked_number("tolerance", tolerance, 0, _MAX_SECONDS)
    time_now = checked_number("now", time.time() if now is None else now, -_MAX_SECONDS * 1000, _MAX_SECONDS * 1000)
    pairs = _header_pairs(headers)
    signature, timestamp = (_header(pairs, name) for name in (_RULES.signature_header, _RULES.timestamp_header))
    callback = parse_callback(body)
    _check_signature(signature, timestamp, callback.task.task_id, key)
    age = time_now - int(timestamp)
    if abs(age) > tolerance:
        when = f"{age:.0f} s ago" if age > 0 else f"{-age:.0f} s in the future"
        raise StaleCallbackError(f"the callback was signed {when}; at most {tolerance:g} s are tolerated")
    return callback


def _header_pairs(headers: CallbackHeaders) -> list[tuple[str, Any]]:
    """Return the headers of a request as pairs, with lower-case names."""
    if isinstance(headers, Mapping) and not isinstance(headers.get("headers", ""), str | bytes):
        headers = headers["headers"]  # an ASGI scope, or the event of a gateway
    items = getattr(headers, "items", None)
    try:
        pairs: Any = items() if callable(items) else headers
        return [(_text(name).lower(), value) for name, value in pairs]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"invalid headers of type {type(headers).__name__}; pass the headers of the request as a mapping or as "
            "pairs of names and values"
        ) from error


def _header(pairs: list[tuple[str, Any]], name: str) -> str:
    """Return the value of a header, or an empty string without one."""
    # A WSGI environ has the header X-Name as HTTP_X_NAME.
    names = {name.lower(), f"http_{name.lower().replace('-', '_')}"}
    found: set[str] = set()
    for given, value in pairs:
        if given in names:
            # Some gateways give a list of values for each header.
            found.update(_text(each).strip() for each in (value if isinstance(value, list | tuple) else [value]))
    if len(found) > 1:
        raise SignatureMismatchError(f"the callback has several headers {name} with different values")
    return found.pop() if found else ""


def _text(value: object) -> str:
    # Latin-1 represents any bytes.
    return value.decode("latin-1") if isinstance(value, bytes | bytearray) else str(value)


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

    It responds with 200 to a callback that has been handled, and to later deliveries of the same one. An exception in
    ``handle`` is passed on. The server then responds with 500, so that the service sends the callback again. A delivery
    that arrives while an earlier one is being handled waits for its outcome. If that takes longer than 10 seconds, it
    gets 503, and the service sends it again.

    With ``queue_size``, the receiver responds with 200 as soon as it has put a callback into a queue, and handles it
    later; for handlers that take longer than the 15 seconds for which the service waits. Use the receiver as an
    asynchronous context manager then, for example in the lifespan of your application: at the end it handles what is in
    the queue. The service does not repeat a callback that was acknowledged, so a failure is passed to ``on_error``.

    Args:
        handle: Function or coroutine function that is called with each callback; a function runs in a worker thread.
            Without one, use ``wait_for_callback``.
        signing_key: Signing key of the account. Without one, callbacks from anyone are accepted.
        tolerance: Seconds by which a signature may be old or ahead.
        clock: Returns the Unix time in seconds; by default the current time.
        queue_size: Number of acknowledged callbacks that may wait for their handler. While the queue is full, callbacks
            get 503 with ``Retry-After``. By default there is no queue.
        workers: Number of callbacks of the queue that are handled at the same time.
        drain_seconds: Seconds for which the end of the context waits for the queue.
        on_error: Function or coroutine function that is called with a callback of the queue and the exception of its
            handler, or a ``TimeoutError`` if it was not handled before the end. By default the error is logged.

    Raises:
        ValueError: The signing key is empty.
        ConfigurationError: A number is invalid.
    """

    def __init__(
        self,
        handle: Callable[[Callback], object] | None = None,
        *,
        signing_key: str | bytes | None = None,
        tolerance: float = TOLERANCE,
        clock: Callable[[], float] | None = None,
        queue_size: int | None = None,
        workers: int = 4,
        drain_seconds: float = 30,
        on_error: Callable[[Callback, BaseException], object] | None = None,
    ) -> None:
        key, signing_key = None if signing_key is None else signing_secret(signing_key), None
        if key is not None and not key:
            raise ValueError("the signing key must not be empty; omit it if the account has none")
        if queue_size is not None and handle is None:
            raise ConfigurationError("queue_size needs a handler; pass handle, or omit queue_size")
        checked_number("tolerance", tolerance, 0, _MAX_SECONDS)
        checked_number("workers", workers, 1, _MAX_WORKERS, whole=True)
        checked_number("drain_seconds", drain_seconds, 0, _MAX_SECONDS)
        self.inbox = CallbackInbox()
        """Notifies those who wait for a callback."""
        self._handle, self._tolerance, self._clock, self._on_error = handle, tolerance, clock, on_error
        self._key = key
        self._handled, self._lock = RecentIds(), threading.Lock()
        self._in_hand: dict[str, CallbackInbox] = {}
        self._queue: CallbackQueue[Callback] | None = None
        if queue_size is not None:
            checked_number("queue_size", queue_size, 1, _MAX_QUEUE_SIZE, whole=True)
            self._queue = CallbackQueue(queue_size, workers, drain_seconds, self._handle_claimed, self._report)

    async def __aenter__(self) -> Self:
        """Start to handle the callbacks of the queue."""
        if self._queue:
            await self._queue.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Accept no more callbacks, and handle those of the queue until the time is over."""
        if self._queue:
            await self._queue.close()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle a request, as ASGI defines it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            raise NotImplementedError(
                f"unsupported ASGI scope {scope['type']!r}; a callback receiver accepts HTTP only"
            )
        if scope["method"] != "POST":
            await _respond(send, _ONLY_POST, "Use POST.")
            return
        try:
            callback = self._read(scope["headers"], await _body(receive))
        except _TooLargeError:
            await _respond(send, _TOO_LARGE, f"The body is larger than {MAX_CALLBACK_BYTES} bytes.")
        except InvalidCallbackError:
            await _respond(send, _MALFORMED, "The body is not a callback.")
        except (SignatureMismatchError, StaleCallbackError):
            await _respond(send, _NOT_SIGNED, "The signature is missing, wrong or too old.")
        else:
            await _respond(send, *await self._accept(callback))

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start and stop with the server that runs the receiver as its only application."""
        await receive()
        async with self:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    def _read(self, headers: CallbackHeaders, body: bytes) -> Callback:
        if self._key is None:
            return parse_callback(body)
        now = self._clock() if self._clock else None
        return verify_callback(headers, body, self._key.reveal().encode("latin-1"), tolerance=self._tolerance, now=now)

    async def _accept(self, callback: Callback) -> tuple[int, str]:
        """Handle a callback, or put it into the queue, and return the status and the text of the response."""
        claim = await self._claim(callback.task.task_id)
        if claim == "handled":
            return _OK, "Received."
        if claim == "in hand":
            return _BUSY, "An earlier delivery is being handled."
        if self._queue is None:
            await self._handle_claimed(callback)
            return _OK, "Received."
        is_queued = False
        try:
            is_queued = self._queue.put(callback)
        finally:
            if not is_queued:
                self._release(callback.task.task_id, is_handled=False)
        return (_OK, "Received.") if is_queued else (_BUSY, "The queue is full or closed.")

    async def _claim(self, task_id: str) -> Literal["claimed", "handled", "in hand"]:
        """Claim a callback for this delivery; wait a while for another delivery that has claimed it."""
        mine, ends = CallbackInbox(), anyio.current_time() + _PATIENCE
        while True:
            with self._lock:
                if task_id in self._handled:
                    return "handled"
                first = self._in_hand.setdefault(task_id, mine)
            if first is mine:
                return "claimed"
            # If the first delivery has failed, this one handles the callback.
            if not await first.wait_async(task_id, max(ends - anyio.current_time(), 0)):
                return "in hand"

    def _release(self, task_id: str, *, is_handled: bool) -> None:
        with self._lock:
            if is_handled:  # only success is remembered: the service repeats what has failed
                self._handled.add(task_id)
            waiting = self._in_hand.pop(task_id)
        waiting.put(task_id)
        if is_handled:
            self.inbox.put(task_id)

    async def _handle_claimed(self, callback: Callback) -> None:
        is_handled = False
        try:
            if self._handle:
                await _call(self._handle, callback)
            is_handled = True
        finally:
            self._release(callback.task.task_id, is_handled=is_handled)

    async def _report(self, callback: Callback, error: BaseException) -> None:
        """Report an acknowledged callback that was not handled, which the service does not send again."""
        if self._on_error is None:
            message = "the callback of task %s was acknowledged, but its handler failed; fetch the task to handle it"
            _logger.error(message, callback.task.task_id, exc_info=error)
            return
        try:
            await _call(self._on_error, callback, error)
        except Exception:  # the queue goes on with the other callbacks
            _logger.exception("on_error failed for the callback of task %s", callback.task.task_id)


async def _call(function: Callable[..., object], *arguments: object) -> None:
    """Call a function or a coroutine function."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004 (an object may have an asynchronous __call__)
        result: object = function(*arguments)
    else:
        # In a thread: a slow function would keep the server from receiving anything else.
        result = await anyio.to_thread.run_sync(function, *arguments)
    if inspect.isawaitable(result):
        await result


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
    if status == _BUSY:
        headers.append((b"retry-after", str(_RETRY_AFTER).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
