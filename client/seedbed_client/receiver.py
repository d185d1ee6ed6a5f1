"""A receiver of callbacks: a plain ASGI application to mount in Starlette, FastAPI or anything else of that kind."""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any, Final

from seedbed_client.callbacks import TOLERANCE, parse_callback, signing_secret, verify_callback
from seedbed_client.errors import SignatureMismatch, Stale, UnreadableCallback
from seedbed_client.mailbox import Mailbox, Recent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from seedbed_client.callbacks import Callback

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

LARGEST_CALLBACK: Final = 1024 * 1024
"""In bytes; a callback has some thousands."""

_OK, _MALFORMED, _NOT_SIGNED, _ONLY_POST, _TOO_LARGE = 200, 400, 401, 405, 413


class _TooLarge(Exception):
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
        self.mailbox = Mailbox()
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
        except _TooLarge:
            await _answer(send, _TOO_LARGE, f"A callback has at most {LARGEST_CALLBACK} bytes.")
        except UnreadableCallback:
            await _answer(send, _MALFORMED, "This is no callback.")
        except (SignatureMismatch, Stale):
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
            raise _TooLarge
    return bytes(body)


async def _answer(send: Send, status: int, sentence: str) -> None:
    content = sentence.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
