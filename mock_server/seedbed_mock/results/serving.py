"""A result as an answer over HTTP, whole or in part (RFC 9110 sections 13 and 14)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import Response

from seedbed_mock.responses import MOCK_HEADERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_mock.results.rendering import Rendered


_RANGE = re.compile(r"(?i:bytes)=([0-9]{0,18})-([0-9]{0,18})")
"""One range; several, or one of another unit, may be answered with the whole, which costs the least."""


def respond(rendered: Rendered, method: str, headers: Mapping[str, str]) -> Response:
    """Return the answer to a request for a result.

    Args:
        rendered: The result.
        method: GET or HEAD.
        headers: Those of the request, by name in lower case.
    """
    size = len(rendered.content)
    # To be asked for again each time: a result may go, or be another one on the next server with that address.
    fixed = {**MOCK_HEADERS, "ETag": rendered.etag, "Accept-Ranges": "bytes", "Cache-Control": "no-cache"}
    if _is_known(rendered.etag, headers.get("if-none-match", "")):
        return Response(status_code=304, headers=fixed)
    if method == "HEAD":
        return Response(headers={**fixed, "Content-Length": str(size)}, media_type="image/jpeg")
    wanted = _wanted(headers, rendered.etag, size)
    if wanted is None:
        return Response(rendered.content, headers=fixed, media_type="image/jpeg")
    if not wanted:
        return Response(status_code=416, headers={**fixed, "Content-Range": f"bytes */{size}"})
    place = f"bytes {wanted.start}-{wanted.stop - 1}/{size}"
    part = rendered.content[wanted.start : wanted.stop]
    return Response(part, 206, {**fixed, "Content-Range": place}, media_type="image/jpeg")


def _is_known(etag: str, tags: str) -> bool:
    """Tell whether the client has this content already, by the value of ``If-None-Match``."""
    return tags.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in tags.split(","))


def _wanted(headers: Mapping[str, str], etag: str, size: int) -> range | None:
    """Return which bytes are wanted: none where there are no such, ``None`` where it is the whole."""
    match = _RANGE.fullmatch(headers.get("range", ""))
    if not match or headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:
        return range(max(size - int(last), 0), size) if last else None
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)
