"""Read HAR files (HTTP Archive 1.2 and 1.3) as browsers and proxies write them."""

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


_VERSIONS: Final = ("1.2", "1.3")
_COMPRESSED: Final = {
    b"PK": "a zip archive",
    b"\x1f\x8b": "compressed with gzip",
    b"x\x9c": "compressed",
    b"x\xda": "compressed",
}
_EXPORT: Final = "Export the traffic again as HAR 1.2, with content"
_SWITCHING_PROTOCOLS, _NOT_MODIFIED = 101, 304
_REDIRECTS: Final = range(300, 400)
_FROM_CACHE: Final = ("_fromCache", "_servedFromCache")
_MAX_MILLISECONDS: Final = 1e12


class HarError(ValueError):
    """A file is not a HAR file; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class RecordedExchange:
    """One exchange in a HAR file.

    Attributes:
        index: Index of the exchange in the file, starting at 0.
        method: HTTP method in upper case.
        url: URL without user name, password and fragment.
        path: Path of the URL, not decoded.
        query: Names and values of the query, decoded, in order.
        request_headers: Headers of the request, in order.
        request_body: Body of the request; ``None`` if there is none, or if it was not recorded.
        status: HTTP status; 0 if there was no response.
        response_headers: Headers of the response, in order, with lower-case names.
        response_body: Body of the response, decompressed; ``None`` if it was not recorded.
        started: Time when the request was sent, in Unix seconds; 0 if it was not recorded.
        seconds: Duration until the response had arrived.
        skipped: Why the exchange shows nothing about the service, a phrase; empty if it does.
    """

    index: int
    method: str
    url: str
    path: str
    query: tuple[tuple[str, str], ...]
    request_headers: Headers = field(repr=False)
    request_body: bytes | None
    status: int
    response_headers: Headers = field(repr=False)
    response_body: bytes | None
    started: float
    seconds: float
    skipped: str = ""

    @property
    def ended(self) -> float:
        """Time when the response had arrived, in Unix seconds."""
        return self.started + self.seconds

    def values(self, name: str) -> list[str]:
        """Return the values of a query parameter, in order."""
        return [value for known, value in self.query if known == name]


# The file


def read_har(content: bytes) -> list[RecordedExchange]:
    """Return all exchanges of a HAR file, in the order of the file.

    Args:
        content: Bytes of the file.

    Raises:
        HarError: The file is not HAR 1.2 or 1.3.
    """
    if not content.strip():
        raise HarError(f"The file is empty. {_EXPORT}.")
    for start, compression in _COMPRESSED.items():
        if content.startswith(start):
            raise HarError(f"The file is {compression}. Decompress it first.")
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise HarError(f"The file is not HAR: it is not JSON in UTF-8. {_EXPORT}.") from error
    log = document.get("log") if isinstance(document, dict) else None
    if not isinstance(log, dict):
        raise HarError(f"The file is not HAR: it has no log. {_EXPORT}.")
    version = log.get("version") or "1.1"  # the specification says what a missing version means
    if version not in _VERSIONS:
        raise HarError(f"The file is HAR {for_display(version)}, which lacks data that the checks need. {_EXPORT}.")
    entries = log.get("entries")
    if not isinstance(entries, list):
        raise HarError(f"The file is not HAR: its log has no list of entries. {_EXPORT}.")
    return [_read_entry(index, entry) for index, entry in enumerate(entries)]


def _read_entry(index: int, entry: Any) -> RecordedExchange:
    place = f"entry {index + 1} of the log"
    request, response = _part(entry, "request", place), _part(entry, "response", place)
    url, method = _text(request, "url", place), _text(request, "method", place).upper()
    status = response.get("status")
    if not isinstance(status, int) or isinstance(status, bool):
        raise HarError(f"The file is not HAR: the response of {place} has no status. {_EXPORT}.")
    status = max(status, 0)  # Playwright writes -1 if there was no response
    response_headers = tuple((name.lower(), value) for name, value in _headers(response))
    started, seconds = _times(entry)
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    return RecordedExchange(
        index=index,
        method=method,
        url=parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl(),
        path=parts.path or "/",
        query=tuple(parse_qsl(parts.query, keep_blank_values=True)),
        request_headers=_headers(request),
        request_body=_request_body(request),
        status=status,
        response_headers=response_headers,
        response_body=_response_body(response, header(response_headers, "content-encoding").strip().lower()),
        started=started,
        seconds=seconds,
        skipped=_reason_to_skip(entry, method, parts.scheme, status),
    )


def _part(entry: Any, name: str, place: str) -> Mapping[str, Any]:
    part = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(part, dict):
        raise HarError(f"The file is not HAR: {place} has no {name}. {_EXPORT}.")
    return part


def _text(request: Mapping[str, Any], name: str, place: str) -> str:
    text = request.get(name)
    if not isinstance(text, str) or not text:
        raise HarError(f"The file is not HAR: the request of {place} has no {name}. {_EXPORT}.")
    return text


def _times(entry: Mapping[str, Any]) -> tuple[float, float]:
    """Return the start of an exchange in Unix seconds, and its duration in seconds; each is 0 if it is unknown."""
    try:
        moment = datetime.fromisoformat(entry["startedDateTime"])
        started = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        started = 0.0
    duration = entry.get("time")
    # The comparison also excludes NaN, which is not less than anything.
    if isinstance(duration, int | float) and abs(duration) < _MAX_MILLISECONDS:
        return started, max(float(duration), 0.0) / 1000
    return started, 0.0


def _reason_to_skip(entry: Mapping[str, Any], method: str, scheme: str, status: int) -> str:
    """Return why an exchange shows nothing about a service; an empty text if it does."""
    is_socket = entry.get("_resourceType") == "websocket" or "_webSocketMessages" in entry
    is_cached = status == _NOT_MODIFIED or any(entry.get(name) for name in _FROM_CACHE)
    reasons = (
        (is_socket or scheme in {"ws", "wss"} or status == _SWITCHING_PROTOCOLS, "it is a WebSocket"),
        (scheme not in {"http", "https"}, "it did not use HTTP"),
        (method in {"OPTIONS", "CONNECT"}, "it was sent by the browser or the proxy, not by the caller"),
        (status == 0, "no response was recorded, for example because the request was cancelled"),
        (is_cached, "the response came from a cache"),
        (status in _REDIRECTS, "it was redirected"),
    )
    return next((reason for applies, reason in reasons if applies), "")


# Headers and keys

MISSING_KEY: Final = "key-that-the-recorder-left-out"
"""Placeholder for a key that was not recorded, so that a curl command has a place for one."""
_MIN_KEY: Final = 8
"""Length of a key; a shorter one could occur in any text by chance."""
_REDACTED: Final = re.compile(
    r"redact|sanit|remov|filter|hidden|mask|secret|censor|your|\*\*|••|xxx|\.\.\.|…|^[<\[{$].*[>\]}]?$|^$",
    re.IGNORECASE,
)


def header(headers: Headers, name: str) -> str:
    """Return the value of a header; an empty text if it is missing."""
    return next((value for known, value in headers if known.lower() == name.lower()), "")


def keys_of(recorded: Iterable[RecordedExchange], contract: Contract) -> dict[str, str]:
    """Return the recorded keys, the longest first, each with the shell variable that stands for it."""
    sent = (sent_key(exchange.request_headers, contract)[1] for exchange in recorded)
    keys = dict.fromkeys(key for key in sent if is_key(key))
    variables = {key: f"{KEY_VARIABLE}_{number}" if number > 1 else KEY_VARIABLE for number, key in enumerate(keys, 1)}
    # One key may be the beginning of another, whose rest would be visible if the shorter were replaced first.
    return dict(sorted(variables.items(), key=lambda entry: -len(entry[0])))


def shown_authorization(headers: Headers, contract: Contract) -> str:
    """Return the header that carries the key, with a placeholder for a redacted key."""
    scheme, key = sent_key(headers, contract)
    return f"{scheme or contract.operation.scheme} {MISSING_KEY}" if is_redacted(key) else f"{scheme} {key}".strip()


def sent_key(headers: Headers, contract: Contract) -> tuple[str, str]:
    """Return the scheme and the key of a request; each is empty if it was not sent or not recorded."""
    scheme, _, key = header(headers, contract.operation.header).strip().partition(" ")
    is_scheme = bool(key) or scheme.lower() == contract.operation.scheme.lower()
    return (scheme, key.strip()) if is_scheme else ("", scheme)


def is_key(text: str) -> bool:
    """Return whether a text is long enough for a key and not a placeholder."""
    return len(text) >= _MIN_KEY and not is_redacted(text)


def is_redacted(key: str) -> bool:
    """Return whether a key was removed by a recorder, or by the person who passed the file on."""
    return _REDACTED.search(key) is not None


def _headers(part: Mapping[str, Any]) -> Headers:
    """Return the headers of a message without HTTP/2 pseudo-headers.

    If a recorder left them out, the content of a response still gives its media type.
    """
    listed = part.get("headers")
    pairs = [pair for pair in listed if isinstance(pair, dict)] if isinstance(listed, list) else []
    named = ((pair.get("name"), pair.get("value")) for pair in pairs)
    headers = tuple(
        (name, str(value or "")) for name, value in named if isinstance(name, str) and name[:1] not in {"", ":"}
    )
    content = part.get("content")
    if headers or not isinstance(content, dict):
        return headers
    return (("content-type", str(content.get("mimeType") or "")),)


# Bodies

_FORM: Final = "application/x-www-form-urlencoded"
_GZIP: Final = b"\x1f\x8b"
_ZLIB: Final = b"\x78"
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_MAX_DECOMPRESSED: Final = 64 << 20
"""Bytes of a decompressed body; the service sends far less, but a malicious file could fill the memory."""


def _request_body(request: Mapping[str, Any]) -> bytes | None:
    """Return the body of a request; ``None`` if there is none, or if it was not recorded.

    Recorders write it as text or, in HAR 1.3, as base64; some write forms only as a list of parameters.
    """
    posted = request.get("postData")
    if not isinstance(posted, dict):
        return None
    body = _decode(posted)
    params, media_type = posted.get("params"), str(posted.get("mimeType", "")).partition(";")[0].strip().lower()
    is_form = media_type == _FORM and isinstance(params, list) and all(isinstance(pair, dict) for pair in params)
    if body or not (is_form and params):
        return body or (b"" if request.get("bodySize") == 0 and body == b"" else None)
    pairs = [(str(pair.get("name", "")), str(pair.get("value") or "")) for pair in posted["params"]]
    return urlencode(pairs).encode()


def _response_body(response: Mapping[str, Any], content_encoding: str) -> bytes | None:
    """Return the body of a response, decompressed; ``None`` if it was recorded only partly, damaged, or not at all.

    Args:
        response: The response in the HAR file.
        content_encoding: Value of its Content-Encoding header.
    """
    content = response.get("content")
    if not isinstance(content, dict):
        return None
    body, size = _decode(content), content.get("size")
    if not body:
        # Browsers write an empty text if they did not keep the body, but they do write its size.
        return b"" if body is not None and size == 0 else None
    # Some recorders decompress a body before they encode it; then it is text already.
    is_text = body.decode("utf-8", "ignore").encode() == body
    if content.get("encoding") == "base64" and content_encoding not in {"", "identity"} and not is_text:
        if not body.startswith((_GZIP, _ZLIB)):
            return None
        decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            decompressed = decompressor.decompress(body, _MAX_DECOMPRESSED)
        except zlib.error:
            return None
        return decompressed if decompressor.eof else None
    # Some recorders cut long bodies: the text then ends early and is no longer JSON.
    is_cut = isinstance(size, int) and size > len(body) and parse_json(body) is NOT_JSON
    return None if is_cut else body


def _decode(content: Mapping[str, Any]) -> bytes | None:
    """Return the bytes of a body in a HAR file; ``None`` if they are missing or unknown."""
    text, encoding = content.get("text"), content.get("encoding") or ""
    if not isinstance(text, str) or encoding not in ("", "base64"):
        return None
    try:
        if encoding:
            return base64.b64decode("".join(text.split()), validate=True)
        # mitmproxy writes bytes that are not UTF-8 as surrogate escapes. Other surrogates have no bytes.
        return text.encode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        return None
