"""One exchange as a recorder kept it."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from seedbed_schemas.validation import for_display

from seedbed_contract.display import KEY_VARIABLE
from seedbed_contract.http import NOT_JSON, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from seedbed_schemas import Contract

    from seedbed_contract.http import Headers


Query = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RecordedExchange:
    """One exchange as a recorder kept it.

    Attributes:
        index: Its place in the file, from 0.
        method: HTTP method, in capitals.
        url: Where it went, without user name, password and fragment.
        path: Path of the URL, as it was sent.
        query: Names and values of the query, decoded, in order.
        request_headers: Headers of the request in order.
        request_body: Its bytes; ``None`` where there is none, or it was not recorded.
        status: HTTP status; 0 where no answer came.
        response_headers: Headers of the answer in order, names in lower case.
        response_body: Bytes of the answer, content encodings undone; ``None`` where they were not recorded.
        started: When the request was sent, in Unix seconds; 0 where that was not recorded.
        seconds: How long it took until the answer was there.
        aside: Why it says nothing of the service, a phrase; empty where it does.
    """

    index: int
    method: str
    url: str
    path: str
    query: Query
    request_headers: Headers = field(repr=False)
    request_body: bytes | None
    status: int
    response_headers: Headers = field(repr=False)
    response_body: bytes | None
    started: float
    seconds: float
    aside: str = ""

    @property
    def ended(self) -> float:
        """When the answer was there, in Unix seconds."""
        return self.started + self.seconds

    def values(self, name: str) -> list[str]:
        """Return the values of a parameter of the query, in order."""
        return [value for known, value in self.query if known == name]


def header(headers: Headers, name: str) -> str:
    """Return a header, empty where there is none."""
    return next((value for known, value in headers if known.lower() == name.lower()), "")


LEFT_OUT: Final = "key-that-the-recorder-left-out"
"""Stands where a recorder wrote no key, so that the command that is shown has a place for one."""
_SHORTEST: Final = 8
"""Characters of a key; what is shorter may stand in any text by chance."""
_TAKEN_OUT: Final = re.compile(
    r"redact|sanit|remov|filter|hidden|mask|secret|censor|your|\*\*|••|xxx|\.\.\.|…|^[<\[{$].*[>\]}]?$|^$",
    re.IGNORECASE,
)


def keys_of(recorded: Iterable[RecordedExchange], contract: Contract) -> dict[str, str]:
    """Return the keys that were kept, the longest first, each with the name of a shell variable for it."""
    sent = (sent_key(exchange.request_headers, contract)[1] for exchange in recorded)
    kept = dict.fromkeys(key for key in sent if is_kept(key))
    named = {key: f"{KEY_VARIABLE}_{number}" if number > 1 else KEY_VARIABLE for number, key in enumerate(kept, 1)}
    # One key may be the beginning of another, and would leave the rest of it to be seen.
    return dict(sorted(named.items(), key=lambda entry: -len(entry[0])))


def shown_header(headers: Headers, contract: Contract) -> str:
    """Return the header that carries the key, with a place for one where the recorder took it out."""
    scheme, key = sent_key(headers, contract)
    return f"{scheme or contract.operation.scheme} {LEFT_OUT}" if is_taken_out(key) else f"{scheme} {key}".strip()


def sent_key(headers: Headers, contract: Contract) -> tuple[str, str]:
    """Return the scheme and the key that were sent, each empty where it was not sent, or not kept."""
    scheme, _, key = header(headers, contract.operation.header).strip().partition(" ")
    is_scheme = bool(key) or scheme.lower() == contract.operation.scheme.lower()
    return (scheme, key.strip()) if is_scheme else ("", scheme)


def is_kept(key: str) -> bool:
    """Tell whether something is a key, and not too short for one, or a word that stands in its place."""
    return len(key) >= _SHORTEST and not is_taken_out(key)


def is_taken_out(key: str) -> bool:
    """Tell whether a recorder, or who passed the file on, took a key out."""
    return _TAKEN_OUT.search(key) is not None


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


_VERSIONS: Final = ("1.2", "1.3")
_PACKED: Final = {b"PK": "a zip archive", b"\x1f\x8b": "packed with gzip", b"x\x9c": "packed", b"x\xda": "packed"}
_EXPORT: Final = "Export the traffic again as HAR 1.2, with content"
_SWITCHING, _NOT_MODIFIED = 101, 304
_REDIRECTS: Final = range(300, 400)
_FROM_CACHE: Final = ("_fromCache", "_servedFromCache")


class HarError(ValueError):
    """A file is no HAR file; the message is one sentence or two that tell why and what to do."""


def read_har(content: bytes) -> list[RecordedExchange]:
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
        raise HarError(f"The file is HAR {for_display(version)}, which leaves out what is judged here. {_EXPORT}.")
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


def _recorded(index: int, entry: Any) -> RecordedExchange:
    place = f"entry {index + 1} of the log"
    request, response = _part(entry, "request", place), _part(entry, "response", place)
    url, method = _text(request, "url", place), _text(request, "method", place)
    status = _status(response, place)
    headers, answered = _headers(request), _answer_headers(response)
    parts = _split(url)
    return RecordedExchange(
        index,
        method.upper(),
        parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl(),
        parts.path or "/",
        tuple(parse_qsl(parts.query, keep_blank_values=True)),
        headers,
        of_request(request),
        status,
        answered,
        of_response(response, header(answered, "content-encoding").strip().lower()),
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
