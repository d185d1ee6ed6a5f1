"""Recordings as HAR 1.2 files, without keys and cookies.

An :class:`HarExchange` is a request and its response as they were on the wire. A :class:`Redactor` removes secrets from
one before it is written. A :class:`HarFile` is complete after each entry, so that a recording survives a crash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
import re
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit, urlunsplit

import msgspec
from seedbed_schemas import __version__

from seedbed_mock.accounts import fingerprint
from seedbed_mock.recording.codings import decoded_body, encoding_of, problem_of_encoding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from seedbed_mock.journal import Headers


LARGEST_INLINE: Final = 64 * 1024
"""In bytes: a larger body is written to a file beside the HAR file."""

LARGEST_BODY: Final = 256 * 1024 * 1024
"""In bytes: a body is recorded up to this size."""

_SECRET_HEADERS = frozenset({b"authorization", b"proxy-authorization", b"x-api-key", b"api-key"})
_COOKIES = frozenset({b"cookie", b"set-cookie"})
_SECRET_PARAMETERS = frozenset(
    {"key", "apikey", "api_key", "api-key", "token", "access_token", "auth", "authorization"}
)
_ENCODED_HEADERS = frozenset({b"content-encoding", b"content-length"})
_FINGERPRINT = re.compile(r"key-[0-9a-f]{12}")
_SHORTEST_SECRET = 4
_REMOVED = b"[removed]"
_END = b"]}}\n"


class HarExchange(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its response.

    Attributes:
        started: When the request arrived, in Unix milliseconds.
        duration: Time until the end of the response, in milliseconds.
        method: HTTP method.
        url: Whole URL.
        request_headers: Headers of the request.
        request: Body of the request.
        status: HTTP status, 0 without a response.
        response_headers: Headers of the response.
        response: Body of the response, with its content encoding.
        body_file: File that holds the body of the response, relative to the HAR file; empty if ``response`` does.
        body_size: Size of that file.
        error: Why there was no response, or no whole one; empty if there was.
        operation: Name of the operation, ``callback`` for a callback, ``result`` for an image.
        task_id: ID of the task, empty if there is none.
    """

    started: float
    method: str
    url: str
    duration: float = 0
    request_headers: Headers = ()
    request: bytes = b""
    status: int = 0
    response_headers: Headers = ()
    response: bytes = b""
    body_file: str = ""
    body_size: int = 0
    error: str = ""
    operation: str = ""
    task_id: str = ""

    def header(self, name: bytes) -> bytes:
        """Return a header of the response, empty if there is none."""
        return next((value for each, value in self.response_headers if each.lower() == name), b"")

    @property
    def media_type(self) -> str:
        """Media type of the response, without parameters."""
        return self.header(b"content-type").decode("latin-1").partition(";")[0].strip().lower()

    def decoded(self, folder: Path = Path()) -> HarExchange:
        """Return the exchange with bodies without content encodings.

        A body that cannot be decoded is left out, and ``error`` says so: it may hold a secret, and the URLs of results.

        Args:
            folder: Directory of the file with the body.
        """
        changes: dict[str, Any] = {}
        for part, headers in (("request", self.request_headers), ("response", self.response_headers)):
            encoding = encoding_of(headers)
            if not encoding or (part == "response" and not (self.response or self.body_file)):
                continue
            body: bytes = getattr(self, part)
            if part == "response" and self.body_file:
                body = (folder / self.body_file).read_bytes()
                changes |= {"body_file": "", "body_size": 0}
            content = decoded_body(body, encoding)
            if content is None:
                changes["error"] = self.error or f"the {part} cannot be read: {problem_of_encoding(encoding)}"
            kept = tuple(each for each in headers if each[0].lower() not in _ENCODED_HEADERS)
            changes |= {part: content or b"", f"{part}_headers": kept}
        return msgspec.structs.replace(self, **changes) if changes else self


class Redactor:
    """Removes the secrets of one request from all that is kept of its exchange.

    Args:
        headers: Headers of the request, which hold the secrets.
        credentials: Names of further headers with a secret, in lower case.
        others: Secrets that are known from elsewhere.
    """

    def __init__(self, headers: Headers, credentials: Iterable[bytes] = (), others: Iterable[str] = ()) -> None:
        self._names = _SECRET_HEADERS.union(credentials)
        secrets = set(others)
        for name, value in headers:
            if name.lower() in self._names:
                text = value.decode("latin-1").strip()
                secrets |= {text, text.rpartition(" ")[2]}
            elif name.lower() in _COOKIES:
                secrets |= {part.partition("=")[2].strip() for part in value.decode("latin-1").split(";")}
        # Removing a shorter one would change texts that merely contain it, such as numbers.
        secrets = {each for each in secrets if len(each) >= _SHORTEST_SECRET}
        self._replacements = _replacements(frozenset(secrets))

    def body(self, content: bytes) -> bytes:
        """Return a body in which the secrets are replaced by fingerprints, in whatever form they are written."""
        for form, name in self._replacements:
            if form in content:
                content = content.replace(form, name)
        return content

    @property
    def longest(self) -> int:
        """Length of the longest form of a secret; a stream is searched with an overlap of this length."""
        return max((len(form) for form, _ in self._replacements), default=0)

    def text(self, content: str) -> str:
        """Return a text in which the secrets are replaced by fingerprints."""
        return self.body(content.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def url(self, url: str) -> str:
        """Return a URL without secrets, also without those that its query gives by name."""
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        if any(name.lower() in _SECRET_PARAMETERS for name, _ in query):
            hidden = _REMOVED.decode()
            query = [(name, hidden if name.lower() in _SECRET_PARAMETERS else value) for name, value in query]
            parts = parts._replace(query=urlencode(query))
        # A URL may hold a user name and a password.
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        return self.text(urlunsplit(parts))

    def headers(self, headers: Headers) -> Headers:
        """Return headers with fingerprints in place of keys, and without cookies."""
        kept = []
        for name, value in headers:
            if name.lower() in _COOKIES:
                continue
            if name.lower() in self._names:
                scheme, _, secret = value.decode("latin-1").strip().rpartition(" ")
                scheme = scheme if scheme.isalpha() else ""
                # The journal has fingerprints already. "removed" is what tools look for in place of a key.
                shown = secret if _FINGERPRINT.fullmatch(secret) else fingerprint(secret)
                kept.append((name, f"{scheme} {shown}-removed".strip().encode("latin-1")))
            else:
                kept.append((name, self.body(value)))
        return tuple(kept)

    def exchange(self, exchange: HarExchange) -> HarExchange:
        """Return an exchange without content encodings, in which secrets would not be found, and without secrets."""
        exchange = exchange.decoded()
        return msgspec.structs.replace(
            exchange,
            url=self.url(exchange.url),
            request_headers=self.headers(exchange.request_headers),
            request=self.body(exchange.request),
            response_headers=self.headers(exchange.response_headers),
            response=self.body(exchange.response),
            error=self.text(exchange.error),
        )


# Each request of a client has the same secrets, and all their forms take longer to make than to look for.
@lru_cache(64)
def _replacements(secrets: frozenset[str]) -> tuple[tuple[bytes, bytes], ...]:
    """Return the forms of secrets, each with what replaces it."""
    # Longest first, so that no rest of one stays when another is a part of it.
    return tuple(
        (form, fingerprint(secret).encode())
        for secret in sorted(secrets, key=len, reverse=True)
        for form in sorted(secret_forms(secret), key=len, reverse=True)
    )


def secret_forms(secret: str) -> set[bytes]:
    """Return the forms in which a message may contain a secret: as it is, escaped for JSON or URLs, and in base64."""
    forms = set[bytes]()
    # A header is read as Latin-1, whatever its sender has written.
    for raw in {secret.encode("utf-8", "surrogateescape"), secret.encode("latin-1", "replace")}:
        text = raw.decode("utf-8", "replace")
        forms |= {raw, json.dumps(text)[1:-1].encode(), quote(raw, safe="").encode(), quote_plus(raw).encode()}
        for shift in range(3):
            # What of the base64 does not depend on the bytes before and after the secret.
            encoded = base64.b64encode(b"\0" * shift + raw)
            first, last = (0, 2, 3)[shift], len(encoded) - (0, 3, 2)[(shift + len(raw)) % 3]
            if last - first >= 2 * _SHORTEST_SECRET:
                inner = encoded[first:last]
                forms |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return forms


def har_document(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a HAR 1.2 document of entries."""
    return {
        "log": {
            "version": "1.2",
            "creator": {"name": "Seedbed", "version": __version__},
            "entries": list(entries),
        }
    }


def har_entry(exchange: HarExchange) -> dict[str, Any]:
    """Return an exchange without secrets as an entry of a HAR file."""
    request: dict[str, Any] = {
        "method": exchange.method,
        "url": exchange.url,
        "httpVersion": "HTTP/1.1",
        "cookies": [],
        "headers": _pairs(exchange.request_headers),
        "queryString": [
            {"name": name, "value": value}
            for name, value in parse_qsl(urlsplit(exchange.url).query, keep_blank_values=True)
        ],
        "headersSize": -1,
        "bodySize": len(exchange.request),
    }
    if exchange.request:
        types = (value.decode("latin-1") for name, value in exchange.request_headers if name.lower() == b"content-type")
        request["postData"] = {"mimeType": next(types, "application/octet-stream"), **_text(exchange.request)}
    content: dict[str, Any] = {
        "size": exchange.body_size or len(exchange.response),
        "mimeType": exchange.header(b"content-type").decode("latin-1") or "x-unknown",
    }
    content |= {"_file": exchange.body_file} if exchange.body_file else _text(exchange.response)
    entry = {
        "startedDateTime": datetime.fromtimestamp(exchange.started / 1000, UTC).isoformat(timespec="milliseconds"),
        "time": round(exchange.duration, 3),
        "request": request,
        "response": {
            "status": exchange.status,
            "statusText": _phrase(exchange.status),
            "httpVersion": "HTTP/1.1",
            "cookies": [],
            "headers": _pairs(exchange.response_headers),
            "content": content,
            "redirectURL": exchange.header(b"location").decode("latin-1"),
            "headersSize": -1,
            "bodySize": exchange.body_size or len(exchange.response),
        },
        "cache": {},
        "timings": {"send": 0, "wait": round(exchange.duration, 3), "receive": 0},
        "_operation": exchange.operation,
        "_taskId": exchange.task_id,
    }
    return entry | ({"_error": exchange.error} if exchange.error else {})


def _pairs(headers: Headers) -> list[dict[str, str]]:
    return [{"name": name.decode("latin-1"), "value": value.decode("latin-1")} for name, value in headers]


def _text(body: bytes) -> dict[str, str]:
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"text": base64.b64encode(body).decode(), "encoding": "base64"}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


class HarFile:
    """A HAR file that grows by entries, and is complete after each.

    Args:
        folder: Directory of the recording; it is created.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Recordings are of a paid service: other users of the machine need not read them.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        self.path = folder / f"seedbed-{stamp}.har"
        self._file = self.path.open("xb")
        self._file.write(json.dumps(har_document([])).encode().removesuffix(_END.strip()) + _END)
        self._file.flush()
        self._is_empty = True

    def add(self, exchange: HarExchange) -> None:
        """Add an exchange without secrets.

        Raises:
            OSError: The file cannot be written.
        """
        exchange = exchange.decoded(self.folder)
        body = exchange.response
        if len(body) > LARGEST_INLINE and not exchange.body_file:
            name = self.keep_body(body, exchange.media_type)
            exchange = msgspec.structs.replace(exchange, response=b"", body_file=name, body_size=len(body))
        entry = json.dumps(har_entry(exchange), ensure_ascii=False).encode("utf-8", "backslashreplace")
        self._file.seek(-len(_END), 2)
        self._file.write((b"\n" if self._is_empty else b",\n") + entry + _END)
        self._file.flush()
        self._is_empty = False

    def keep_body(self, body: bytes, media_type: str) -> str:
        """Write a body to a file beside the HAR file, and return its name."""
        name = hashlib.sha256(body).hexdigest()[:32] + (mimetypes.guess_extension(media_type) or ".bin")
        path = self.folder / name
        if not path.exists():
            path.write_bytes(body)
        return name

    def close(self) -> None:
        """Close the file; a recording without entries is deleted."""
        self._file.close()
        if self._is_empty:
            self.path.unlink(missing_ok=True)


class RecordingError(ValueError):
    """A recording cannot be read; the message is one sentence."""


def load_recordings(folder: Path) -> list[HarExchange]:
    """Return the exchanges of all HAR files of a directory, in the order in which they happened.

    Raises:
        RecordingError: There is no HAR file, or one cannot be read.
    """
    if not folder.is_dir():
        raise RecordingError(f"{folder} is not a directory; make a recording with seedbed proxy --record {folder}.")
    files = sorted(folder.glob("*.har"))
    if not files:
        raise RecordingError(f"{folder} contains no HAR file; make one with seedbed proxy --record {folder}.")
    return sorted((each.decoded(folder) for path in files for each in _read(path)), key=lambda each: each.started)


def _read(path: Path) -> Iterator[HarExchange]:
    try:
        entries = json.loads(path.read_bytes())["log"]["entries"]
        for entry in entries:
            yield exchange_of(entry, path.parent)
    except OSError as error:
        raise RecordingError(f"{error.filename}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordingError(
            f"{path} is not a HAR file that can be replayed ({type(error).__name__}: {error})."
        ) from error


def exchange_of(entry: dict[str, Any], folder: Path) -> HarExchange:
    """Return the exchange of an entry; bodies in files stay there, in a directory.

    Raises:
        OSError: A file cannot be read.
        ValueError: The entry is invalid.
        KeyError: The entry lacks a part.
    """
    request, response = entry["request"], entry["response"]
    content = response.get("content", {})
    # Only a name: a recording must not read other files of this machine.
    file = folder / Path(content["_file"]).name if content.get("_file") else None
    return HarExchange(
        started=datetime.fromisoformat(entry["startedDateTime"]).timestamp() * 1000,
        duration=float(entry.get("time") or 0),
        method=request["method"],
        url=request["url"],
        request_headers=_headers(request),
        request=_bytes(request.get("postData") or {}),
        status=int(response["status"]),
        response_headers=_headers(response),
        response=_bytes(content),
        body_file=str(file) if file else "",
        body_size=file.stat().st_size if file else 0,
        error=str(entry.get("_error", "")),
        operation=str(entry.get("_operation", "")),
        task_id=str(entry.get("_taskId", "")),
    )


def _headers(part: dict[str, Any]) -> Headers:
    return tuple(
        (each["name"].encode("latin-1", "replace"), str(each["value"]).encode("latin-1", "replace"))
        for each in part.get("headers", ())
        if not each["name"].startswith(":")
    )


def _bytes(part: dict[str, Any]) -> bytes:
    text = part.get("text") or ""
    return base64.b64decode(text) if part.get("encoding") == "base64" else text.encode("utf-8", "surrogateescape")


def result_urls(record: Any) -> list[str]:
    """Return the result URLs of a record; empty if it has none, or is no record."""
    text = record.get("resultJson") if isinstance(record, dict) else None
    if not isinstance(text, str) or not text:
        return []
    try:
        results = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return []
    urls = results.get("resultUrls") if isinstance(results, dict) else None
    return [url for url in urls if isinstance(url, str) and url] if isinstance(urls, list) else []
