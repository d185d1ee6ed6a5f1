"""Results over HTTP: conditional requests and ranges (RFC 9110 sections 13 and 14)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import Response

from seedbed_mock.responses import MOCK_HEADERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_mock.results.rendering import Rendered


# At most 18 digits, so that int() neither takes long nor raises.
_RANGE = re.compile(r"(?i:bytes)=([0-9]{0,18})-([0-9]{0,18})")
"""A single range of bytes; RFC 9110 allows the whole content as a response to any other range."""


def respond(rendered: Rendered, method: str, headers: Mapping[str, str]) -> Response:
    """Return the response to a request for a result.

    Args:
        rendered: File of the result.
        method: GET or HEAD.
        headers: Headers of the request, with names in lower case.
    """
    size = len(rendered.content)
    # A result can expire, and another server on the same address gives another one, so that caches must revalidate.
    common = {**MOCK_HEADERS, "ETag": rendered.etag, "Accept-Ranges": "bytes", "Cache-Control": "no-cache"}
    tags = headers.get("if-none-match", "")
    if tags.strip() == "*" or rendered.etag in (tag.strip().removeprefix("W/") for tag in tags.split(",")):
        return Response(status_code=304, headers=common)
    if method == "HEAD":
        return Response(headers={**common, "Content-Length": str(size)}, media_type="image/jpeg")
    part = _requested_part(headers, rendered.etag, size)
    if part is None:
        return Response(rendered.content, headers=common, media_type="image/jpeg")
    if not part:
        return Response(status_code=416, headers={**common, "Content-Range": f"bytes */{size}"})
    content_range = f"bytes {part.start}-{part.stop - 1}/{size}"
    content = rendered.content[part.start : part.stop]
    return Response(content, 206, {**common, "Content-Range": content_range}, media_type="image/jpeg")


def _requested_part(headers: Mapping[str, str], etag: str, size: int) -> range | None:
    """Return the requested bytes, empty if the range is outside of the content; ``None`` for the whole content."""
    match = _RANGE.fullmatch(headers.get("range", ""))
    if not match or headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:
        return range(max(size - int(last), 0), size) if last else None
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1, size) if last else size)
