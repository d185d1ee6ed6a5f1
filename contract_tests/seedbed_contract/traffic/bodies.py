"""The bodies in a HAR file: which bytes stood where a recorder wrote text, and where nobody can tell."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from seedbed_contract.exchange import NOT_JSON, parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORM: Final = "application/x-www-form-urlencoded"
_GZIP: Final = b"\x1f\x8b"
_EITHER_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_LARGEST: Final = 64 << 20
"""Bytes of an unpacked body; more is none that a service sends, but one that is to fill a memory."""


def of_request(request: Mapping[str, Any]) -> bytes | None:
    """Return the body of a request, ``None`` where there is none or it was left out.

    Recorders write it as text; some as base64 (HAR 1.3), and forms as their parameters alone.
    """
    posted = request.get("postData")
    if not isinstance(posted, dict):
        return None
    body = _bytes_of(posted)
    if body or not _is_form(posted):
        return body or (b"" if request.get("bodySize") == 0 and body == b"" else None)
    pairs = [(str(pair.get("name", "")), str(pair.get("value") or "")) for pair in posted["params"]]
    return urlencode(pairs).encode()


def of_response(response: Mapping[str, Any], content_encoding: str) -> bytes | None:
    """Return the body of an answer, ``None`` where it was left out, or stands there cut or still packed.

    Args:
        response: The answer in the HAR file.
        content_encoding: Its header of that name.
    """
    content = response.get("content")
    if not isinstance(content, dict):
        return None
    body = _bytes_of(content)
    if not body:
        # Browsers write an empty text, or none, where they kept no body; its size then tells that there was one.
        return b"" if body is not None and content.get("size") == 0 else None
    if content.get("encoding") == "base64" and content_encoding not in {"", "identity"} and not _is_text(body):
        return _unpacked(body)
    return None if _is_cut(body, content) else body


def _bytes_of(content: Mapping[str, Any]) -> bytes | None:
    text, encoding = content.get("text"), content.get("encoding") or ""
    if not isinstance(text, str) or encoding not in ("", "base64"):
        return None
    return _from_base64(text) if encoding else _from_text(text)


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _from_text(text: str) -> bytes | None:
    # mitmproxy keeps bytes that are no UTF-8 as these surrogates; of others nobody can tell what was sent.
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None


def _is_form(posted: Mapping[str, Any]) -> bool:
    params = posted.get("params")
    is_form = str(posted.get("mimeType", "")).partition(";")[0].strip().lower() == _FORM
    return is_form and isinstance(params, list) and bool(params) and all(isinstance(pair, dict) for pair in params)


def _is_text(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_cut(body: bytes, content: Mapping[str, Any]) -> bool:
    """Tell whether a recorder may have cut a body: it does not end as JSON, and there is said to be more of it."""
    size = content.get("size")
    return isinstance(size, int) and size > len(body) and parse_json(body) is NOT_JSON


def _unpacked(body: bytes) -> bytes | None:
    """Return what is packed in a body; of the ways to pack, the standard library knows these two."""
    if not body.startswith((_GZIP, b"\x78")):
        return None
    unpacking = zlib.decompressobj(_EITHER_GZIP_OR_ZLIB)
    try:
        unpacked = unpacking.decompress(body, _LARGEST)
    except zlib.error:
        return None
    return unpacked if unpacking.eof else None
