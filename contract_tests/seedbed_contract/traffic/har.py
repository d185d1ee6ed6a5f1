"""Read HAR files (HTTP Archive) as browsers, proxies and test tools write them."""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

from seedbed_schemas.validation import for_display

from seedbed_contract.display import KEY_VARIABLE
from seedbed_contract.traffic.bodies import GZIP, MAX_BODY, MAX_HAR, BodyReader, decompressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from seedbed_schemas import Contract

    from seedbed_contract.http import Headers


_VERSION: Final = re.compile(r"1(\.\d{1,3})*")
_COMPRESSED: Final = {
    b"PK": "a zip archive",
    b"\x1f\x8b": "compressed with gzip",
    b"x\x9c": "compressed",
    b"x\xda": "compressed",
}
_ZIP: Final = b"PK\x03\x04"
_EXPORT: Final = "Export the traffic again as HAR 1.2, with content"
NO_RESPONSE: Final = "no response was recorded, for example because the request was cancelled"
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
        request_body: Body of the request, decompressed; ``None`` if there is none, or if it is unknown.
        status: HTTP status; 0 if there was no response.
        response_headers: Headers of the response, in order, with lower-case names.
        response_body: Body of the response, decompressed; ``None`` if it is unknown.
        started: Time when the request was sent, in Unix seconds; 0 if it was not recorded.
        seconds: Duration until the response had arrived.
        skipped: Why the exchange shows nothing about the service, a phrase; empty if it does.
        request_problem: Why the body of the request is unknown, a phrase; empty if it is known, or there is none.
        response_problem: Why the response is unknown, a phrase; empty if it is known.
        source: Name of the file.
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
    request_problem: str = ""
    response_problem: str = ""
    source: str = ""

    @property
    def ended(self) -> float:
        """Time when the response had arrived, in Unix seconds."""
        return self.started + self.seconds

    def values(self, name: str) -> list[str]:
        """Return the values of a query parameter, in order."""
        return [value for known, value in self.query if known == name]


# The file


def load_har(path: Path) -> list[RecordedExchange]:
    """Return all exchanges of a HAR file, or of a zip archive with a HAR file and the bodies in files of their own.

    Args:
        path: The file, beside which its bodies may be; ``-`` for standard input.

    Raises:
        HarError: The file is not HAR.
        OSError: The file cannot be read.
    """
    name, is_standard_input = path.name, path == Path("-")
    content = sys.stdin.buffer.read() if is_standard_input else path.read_bytes()
    if content.startswith(_ZIP):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return _read_archive(archive, name)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError) as error:
            raise HarError(f"The file is a zip archive that cannot be read. {_EXPORT}.") from error
    if content.startswith(GZIP):
        content = decompressed(content, MAX_HAR)
        if content is None:
            raise HarError(f"The file is compressed, and damaged or larger than {MAX_HAR >> 20} MiB. {_EXPORT}.")
    if is_standard_input:
        return read_har(content, name="standard input")
    return read_har(content, lambda attached: _file_beside(path, attached), name=name)


def _read_archive(archive: zipfile.ZipFile, name: str) -> list[RecordedExchange]:
    inside = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".har")]
    if not inside:
        raise HarError(f"The file is a zip archive without a HAR file. {_EXPORT}.")
    place = inside[0].filename.rpartition("/")[0]

    def read(entry: str, limit: int) -> bytes | None:
        # A file may be larger than the archive says.
        with archive.open(entry) as file:
            content = file.read(limit + 1)
        return content if len(content) <= limit else None

    def attached(file: str) -> bytes | None:
        entry = f"{place}/{file}" if place else file
        return read(entry, MAX_BODY) if entry in archive.namelist() else None

    content = read(inside[0].filename, MAX_HAR)
    if content is None:
        raise HarError(f"The HAR file in the archive is larger than {MAX_HAR >> 20} MiB. {_EXPORT}.")
    return read_har(content, attached, name=name)


def _file_beside(path: Path, name: str) -> bytes | None:
    """Return the content of a file beside a HAR file or below it; ``None`` for any other file."""
    folder = path.resolve().parent
    file = (folder / name).resolve()  # follows links, which may lead elsewhere
    if not (file.is_relative_to(folder) and file.is_file() and file.stat().st_size <= MAX_BODY):
        return None
    return file.read_bytes()


def read_har(
    content: bytes, attached: Callable[[str], bytes | None] = lambda _: None, *, name: str = ""
) -> list[RecordedExchange]:
    """Return all exchanges of a HAR file, in the order of the file.

    Args:
        content: Bytes of the file.
        attached: Returns the content of a file that an entry names in place of a body, ``None`` for an unknown file.
        name: Name of the file.

    Raises:
        HarError: The file is not HAR.
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
    if isinstance(version, bool) or not (
        isinstance(version, str | int | float) and _VERSION.fullmatch(str(version).strip())
    ):
        raise HarError(f"The file is HAR {for_display(version)}, and only HAR 1 is known. {_EXPORT}.")
    entries = log.get("entries")
    if not isinstance(entries, list):
        raise HarError(f"The file is not HAR: its log has no list of entries. {_EXPORT}.")
    bodies = BodyReader(attached)
    return [_read_entry(index, entry, bodies, name) for index, entry in enumerate(entries)]


def _read_entry(index: int, entry: Any, bodies: BodyReader, source: str) -> RecordedExchange:
    place = f"entry {index + 1} of the log"
    request, response = _part(entry, "request", place), _part(entry, "response", place)
    url, method = _text(request, "url", place), _text(request, "method", place).upper()
    status = response.get("status")
    if not isinstance(status, int) or isinstance(status, bool):
        raise HarError(f"The file is not HAR: the response of {place} has no status. {_EXPORT}.")
    status = max(status, 0)  # Playwright writes -1 if there was no response
    response_headers = tuple((name.lower(), value) for name, value in _headers(response))
    request_encoding, response_encoding = (
        header(_headers(message), "content-encoding").strip().lower() for message in (request, response)
    )
    request_body, request_problem = bodies.request_body(request, request_encoding)
    response_body, response_problem = bodies.response_body(response, response_encoding)
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
        request_body=request_body,
        status=status,
        response_headers=response_headers,
        response_body=response_body,
        started=started,
        seconds=seconds,
        skipped=_reason_to_skip(entry, method, parts.scheme, status),
        request_problem=request_problem,
        response_problem=response_problem if status else NO_RESPONSE,
        source=source,
    )


def _part(entry: Any, name: str, place: str) -> Mapping[str, Any]:
    part = entry.get(name) if isinstance(entry, dict) else None
    if name == "response" and part is None and isinstance(entry, dict):
        return {"status": 0}  # recorders write null, or nothing, if there was no response
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
        (status == 0, NO_RESPONSE),
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
