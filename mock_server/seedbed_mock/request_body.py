"""The bodies of requests: how they are read, decoded and parsed, each within limits that are checked first."""

from __future__ import annotations

import codecs
import re
import zlib
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import msgspec
from seedbed_schemas.validation import for_display
from starlette.requests import ClientDisconnect

from seedbed_mock.responses import ServiceError

if TYPE_CHECKING:
    from starlette.types import Receive


LARGEST_BODY: Final = 1024 * 1024
"""In bytes; the longest valid request has some 40 KiB."""

# Parameters of zlib: 16 more for a gzip header.
_WINDOWS: Final = {"gzip": zlib.MAX_WBITS + 16, "x-gzip": zlib.MAX_WBITS + 16, "deflate": zlib.MAX_WBITS}

# Many clients read no response before they have sent the whole body, so a body that is too large is read and dropped.
_DRAINED_BODY = 16 * LARGEST_BODY

_DEEPEST_NESTING = 64
_MOST_VALUES = 4096
"""More than a hundred times what a valid request has; a body of 1 MiB could have 500,000 values."""

_MOST_DIGITS = 100
"""In one number: converting thousands of digits takes time that grows with their square."""

_SMALL_BODY = 4096
"""In bytes: up to this size, any body is parsed at once."""

_LONG_NUMBER = re.compile(rb"[0-9.]{%d}" % (_MOST_DIGITS + 1))
_NESTING = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - _NESTING.keys())


async def read_body(receive: Receive) -> bytes | None:
    """Return the body of a request, or ``None`` if it is larger than ``LARGEST_BODY``.

    Raises:
        ClientDisconnect: The client disconnected before it had sent the whole body.
    """
    body, size = bytearray(), 0
    while (message := await receive())["type"] != "http.disconnect":
        chunk, has_more = message.get("body", b""), message.get("more_body", False)
        if not (has_more or size):
            return chunk if len(chunk) <= LARGEST_BODY else None
        size += len(chunk)
        if size <= LARGEST_BODY:
            body += chunk
        if not has_more or size > _DRAINED_BODY:
            return bytes(body) if size <= LARGEST_BODY else None
    raise ClientDisconnect


def decode_body(body: bytes, encoding: bytes) -> bytes | None:
    """Return a body without its content encoding, ``None`` if it is larger than ``LARGEST_BODY`` then.

    Raises:
        ValueError: The encoding is unknown, or the body does not have it.
    """
    name = encoding.decode("latin-1").strip().lower()
    if name in {"", "identity"}:
        return body
    if name not in _WINDOWS:
        raise ValueError(f"the encoding {for_display(name)} is not supported; send gzip, deflate or none")
    decoder = zlib.decompressobj(_WINDOWS[name])
    try:
        # Not more than this is decoded, however much it would become.
        content = decoder.decompress(body, LARGEST_BODY + 1)
    except zlib.error as error:
        raise ValueError(f"the body is not valid {name}") from error
    if len(content) > LARGEST_BODY:
        return None
    if not decoder.eof:
        raise ValueError(f"the body is not whole {name}; its end is missing")
    return content


def parse_json(body: bytes | None) -> tuple[Any, str]:
    """Return a body as a value and as text. The last of several equal keys of an object counts.

    Raises:
        ServiceError: The body is too large, empty, not JSON, nested too deeply, or has too many values.
    """
    if body is None:
        raise ServiceError("body_malformed", problem=f"the body is larger than {LARGEST_BODY} bytes")
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body.strip():
        raise ServiceError("body_malformed", problem="the body is empty; send a JSON object")
    # Counting is cheap, and spares nearly every body the closer look.
    if len(body) > _SMALL_BODY or body.count(b"[") + body.count(b"{") > _DEEPEST_NESTING:
        _check_structure(body)
    try:
        return msgspec.json.decode(body), body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ServiceError("body_malformed", problem=f"the body is not JSON ({error})") from error


def _check_structure(body: bytes) -> None:
    """Refuse a body that would take long to parse or validate, in a time far shorter than that of parsing it."""
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    too_many = ServiceError("body_malformed", problem=f"the body has more than {_MOST_VALUES} values")
    # A value has at most two strings, its name included, and each has two quotes.
    if unescaped.count(b'"') > 4 * _MOST_VALUES:
        raise too_many
    outside_strings = b"".join(unescaped.split(b'"')[::2])
    brackets = outside_strings.translate(None, _NO_BRACKETS)[: 2 * _MOST_VALUES]
    if max(accumulate(map(_NESTING.__getitem__, brackets)), default=0) > _DEEPEST_NESTING:
        raise ServiceError("body_malformed", problem=f"the body is nested deeper than {_DEEPEST_NESTING} levels")
    if sum(map(outside_strings.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise too_many
    if _LONG_NUMBER.search(outside_strings):
        problem = f"the body is not JSON (a number has more than {_MOST_DIGITS} digits)"
        raise ServiceError("body_malformed", problem=problem)
