"""Read HAR 1.2, the file in which browsers and proxies keep the traffic that they saw."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from seedbed_schemas.refusals import shown

from seedbed_contract.traffic import bodies
from seedbed_contract.traffic.recorded import Recorded, header

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_contract.exchange import Headers

_VERSIONS: Final = ("1.2", "1.3")
_PACKED: Final = {b"PK": "a zip archive", b"\x1f\x8b": "packed with gzip", b"x\x9c": "packed", b"x\xda": "packed"}
_EXPORT: Final = "Export the traffic again as HAR 1.2, with content"
_SWITCHING, _NOT_MODIFIED = 101, 304
_REDIRECTS: Final = range(300, 400)
_FROM_CACHE: Final = ("_fromCache", "_servedFromCache")


class HarError(ValueError):
    """A file is no HAR file; the message is one sentence or two that tell why and what to do."""


def read_har(content: bytes) -> list[Recorded]:
    """Return the exchanges of a HAR file, in the order of the file.

    Args:
        content: The bytes of the file.

    Returns:
        Every exchange, those too that say nothing of a service, each with the reason.

    Raises:
        HarError: It is no HAR 1.2; the message tells what is wrong with it.
    """
    log = _log(_parsed(content))
    version = log.get("version") or "1.1"  # what no version means is in the specification
    if version not in _VERSIONS:
        raise HarError(f"The file is HAR {shown(version)}, which leaves out what is judged here. {_EXPORT}.")
    entries = log.get("entries")
    if not isinstance(entries, list):
        raise HarError(f"The file is no HAR: its log has no list of entries. {_EXPORT}.")
    return [_recorded(index, entry) for index, entry in enumerate(entries)]


def _parsed(content: bytes) -> Any:
    if not content.strip():
        raise HarError(f"The file is empty. {_EXPORT}.")
    packed = next((name for start, name in _PACKED.items() if content.startswith(start)), "")
    if packed:
        raise HarError(f"The file is {packed}: unpack it first.")
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise HarError(f"The file is no HAR: it is not JSON in UTF-8. {_EXPORT}.") from error


def _log(document: Any) -> Mapping[str, Any]:
    log = document.get("log") if isinstance(document, dict) else None
    if not isinstance(log, dict):
        raise HarError(f"The file is no HAR: it has no log. {_EXPORT}.")
    return log


def _recorded(index: int, entry: Any) -> Recorded:
    place = f"entry {index + 1} of the log"
    request, response = _part(entry, "request", place), _part(entry, "response", place)
    url, method = _text(request, "url", place), _text(request, "method", place)
    status = _status(response, place)
    headers, answered = _headers(request), _answer_headers(response)
    parts = _split(url)
    return Recorded(
        index,
        method.upper(),
        parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl(),
        parts.path or "/",
        tuple(parse_qsl(parts.query, keep_blank_values=True)),
        headers,
        bodies.of_request(request),
        status,
        answered,
        bodies.of_response(response, header(answered, "content-encoding").strip().lower()),
        _moment(entry.get("startedDateTime")),
        max(_number(entry.get("time")), 0.0) / 1000,
        _aside(entry, method.upper(), parts.scheme, status),
    )


def _part(entry: Any, name: str, place: str) -> Mapping[str, Any]:
    part = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(part, dict):
        raise HarError(f"The file is no HAR: {place} has no {name}. {_EXPORT}.")
    return part


def _text(request: Mapping[str, Any], name: str, place: str) -> str:
    text = request.get(name)
    if not isinstance(text, str) or not text:
        raise HarError(f"The file is no HAR: the request of {place} has no {name}. {_EXPORT}.")
    return text


def _status(response: Mapping[str, Any], place: str) -> int:
    status = response.get("status")
    if not isinstance(status, int) or isinstance(status, bool):
        raise HarError(f"The file is no HAR: the response of {place} has no status. {_EXPORT}.")
    return max(status, 0)  # Playwright writes -1 where no answer came


def _headers(part: Mapping[str, Any]) -> Headers:
    """Return headers without those that HTTP/2 makes of the first line; where they were left out, none."""
    listed = part.get("headers")
    pairs = [pair for pair in listed if isinstance(pair, dict)] if isinstance(listed, list) else []
    named = ((pair.get("name"), pair.get("value")) for pair in pairs)
    return tuple(
        (name, str(value or "")) for name, value in named if isinstance(name, str) and name[:1] not in {"", ":"}
    )


def _answer_headers(response: Mapping[str, Any]) -> Headers:
    headers = tuple((name.lower(), value) for name, value in _headers(response))
    content = response.get("content")
    if headers or not isinstance(content, dict):
        return headers
    return (("content-type", str(content.get("mimeType") or "")),)


def _split(url: str) -> Any:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _moment(text: Any) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return 0.0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e12 else 0.0  # noqa: PLR2004 (no NaN either)


def _aside(entry: Mapping[str, Any], method: str, scheme: str, status: int) -> str:
    """Return why an exchange says nothing of a service, empty where it does."""
    is_socket = entry.get("_resourceType") == "websocket" or "_webSocketMessages" in entry
    if is_socket or scheme in {"ws", "wss"} or status == _SWITCHING:
        return "it is a WebSocket"
    if scheme not in {"http", "https"}:
        return "it did not go over HTTP"
    if method in {"OPTIONS", "CONNECT"}:
        return "the recorder asked, and not the caller"
    if status == 0:
        return "no answer was recorded, as where a request was given up"
    if status == _NOT_MODIFIED or any(entry.get(name) for name in _FROM_CACHE):
        return "it was answered from a cache"
    return "it was redirected" if status in _REDIRECTS else ""
