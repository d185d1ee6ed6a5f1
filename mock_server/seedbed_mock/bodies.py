"""Reading a request's body from the socket and as JSON, whatever a client may send."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import ClientDisconnect

from seedbed_mock.answers import Refusal

if TYPE_CHECKING:
    from starlette.types import Message, Receive

LARGEST_BODY = 1024 * 1024
"""In bytes; the longest request that keeps the contract is some 40 KiB."""

_DRAINED_BODY = 16 * LARGEST_BODY
"""So much of a body that is too large is read and dropped: many clients read no answer before they have sent all."""

_DEEPEST_NESTING = 64


async def read_body(receive: Receive) -> bytes | None:
    """Return the body, or ``None`` for one that is too large to take in.

    Raises:
        ClientDisconnect: The client left before it had sent all.
    """
    message = await _next(receive)
    if not message.get("more_body"):
        whole: bytes = message.get("body", b"")
        return whole if len(whole) <= LARGEST_BODY else None
    body, size = bytearray(), 0
    while True:
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= LARGEST_BODY:
            body += chunk
        if not message.get("more_body") or size > _DRAINED_BODY:
            return bytes(body) if size <= LARGEST_BODY else None
        message = await _next(receive)


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


def parse_json(body: bytes | None) -> tuple[Any, str]:
    """Return the body as a value and as the text it was.

    Of a key that stands twice in an object, the last counts.

    Raises:
        Refusal: The body is no JSON that the service would take.
    """
    if body is None:
        raise Refusal("body_malformed", problem=f"the body is larger than {LARGEST_BODY} bytes")
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body.strip():
        raise Refusal("body_malformed", problem="the body is empty; send a JSON object")
    try:
        value, text = msgspec.json.decode(body), body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal("body_malformed", problem=f"the body is not JSON ({error})") from error
    except RecursionError as error:
        raise _too_deep() from error
    # Counting brackets is cheap and clears nearly every body of the suspicion.
    if body.count(b"[") + body.count(b"{") > _DEEPEST_NESTING and _is_deeper(value, _DEEPEST_NESTING):
        raise _too_deep()
    return value, text


def _too_deep() -> Refusal:
    return Refusal("body_malformed", problem=f"the body is nested deeper than {_DEEPEST_NESTING} levels")


def _is_deeper(value: Any, levels: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if inside is None:
        return False
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inside)
