"""Read the bodies in HAR files, which each recorder writes in its own way.

The specification knows text and base64. Recorders also write lists of chunks, hex digits, files beside the HAR file,
texts that they call base64, and bodies that are still compressed.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import sys
import zlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from seedbed_contract.http import NOT_JSON, parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType


GZIP: Final = b"\x1f\x8b"
MAX_BODY: Final = 64 << 20
"""Bytes of a decompressed body; the service sends far less, but a malicious file could fill the memory."""
MAX_HAR: Final = 512 << 20
"""Bytes of a decompressed HAR file, and of all decompressed bodies of one file together."""

NOT_KEPT: Final = "the recorder did not keep the {} body"
NOT_READ: Final = "the {} body is there, but in a form that is not read here"
NO_LIBRARY: Final = "the {{}} body is compressed with {}; install seedbed[har] to read it"
_KEPT_PARTLY: Final = "the recorder kept only a part of the {} body"

_FORM: Final = "application/x-www-form-urlencoded"
_ZLIB: Final = b"\x78"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
ZSTD_MODULE: Final = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_RAW_DEFLATE: Final = -zlib.MAX_WBITS
_TEXT_LABELS: Final = ("", "utf-8", "utf8", "text", "plain", "identity")
_FROM_URL_SAFE: Final = str.maketrans("-_", "+/")
_AS_SENT: Final = ("", "identity")


class UnreadBodyError(ValueError):
    """A body is in the file, or beside it, but in a form that is not read here.

    Args:
        problem: Why it is not read, with ``{}`` in place of ``request`` or ``response``.
    """

    def __init__(self, problem: str = NOT_READ) -> None:
        super().__init__(problem)
        self.problem = problem


class BodyReader:
    """Reads the bodies of one HAR file.

    Args:
        attached: Returns the content of a file that stands for a body, ``None`` for an unknown file.
    """

    def __init__(self, attached: Callable[[str], bytes | None]) -> None:
        self._attached = attached
        self._room = MAX_HAR

    def request_body(self, request: Mapping[str, Any], content_encoding: str) -> tuple[bytes | None, str]:
        """Return the body of a request, and why it is unknown; ``None`` and an empty text if there is none.

        Args:
            request: The request in the HAR file.
            content_encoding: Value of its Content-Encoding header.
        """
        posted = request.get("postData")
        if not isinstance(posted, dict):
            return None, ""
        try:
            # A caller that compresses a body without saying so has sent these bytes.
            body = self._decode(posted, content_encoding or "identity")
        except UnreadBodyError as error:
            return None, error.problem.format("request")
        params, media_type = posted.get("params"), str(posted.get("mimeType", "")).partition(";")[0].strip().lower()
        is_form = media_type == _FORM and isinstance(params, list) and all(isinstance(pair, dict) for pair in params)
        if not body and is_form and params:
            # Some recorders write forms only as a list of parameters.
            pairs = [(str(pair.get("name", "")), str(pair.get("value") or "")) for pair in posted["params"]]
            return urlencode(pairs).encode(), ""
        if body or (body == b"" and request.get("bodySize") == 0):
            return body, ""
        return None, NOT_KEPT.format("request")

    def response_body(self, response: Mapping[str, Any], content_encoding: str) -> tuple[bytes | None, str]:
        """Return the body of a response, and why it is unknown.

        Args:
            response: The response in the HAR file.
            content_encoding: Value of its Content-Encoding header.
        """
        content = response.get("content")
        if not isinstance(content, dict):
            return None, NOT_KEPT.format("response")
        try:
            body = self._decode(content, content_encoding)
        except UnreadBodyError as error:
            return None, error.problem.format("response")
        size = content.get("size")
        if not body:
            # Browsers write an empty text if they did not keep the body, but they do write its size.
            return (b"", "") if body == b"" and size == 0 else (None, NOT_KEPT.format("response"))
        # The text of a body that was cut ends early and is no longer JSON.
        is_cut = isinstance(size, int) and size > len(body) and parse_json(body) is NOT_JSON
        return (None, _KEPT_PARTLY.format("response")) if is_cut else (body, "")

    def _decode(self, content: Mapping[str, Any], content_encoding: str) -> bytes | None:
        """Return the bytes of a body, decompressed; ``None`` if they are missing.

        Raises:
            UnreadBodyError: They are there, but cannot be read.
        """
        text, file = content.get("text"), content.get("_file") or content.get("_sha1")
        if isinstance(file, str) and not text:
            # Playwright writes bodies into files of their own.
            body = self._attached(file)
        else:
            body = _bytes_of(text, content, content_encoding) if isinstance(text, str) else None
        return None if body is None else self._without_compression(body, content_encoding)

    def _without_compression(self, body: bytes, content_encoding: str) -> bytes:
        applied = [each.strip() for each in content_encoding.split(",")] if content_encoding else [_encoding_of(body)]
        for encoding in (each for each in reversed(applied) if each not in _AS_SENT):
            # Some recorders decompress a body before they encode it; then it is text already. Only brotli, which has no
            # magic number, may look like text.
            is_text = body.decode("utf-8", "ignore").encode() == body
            if is_text and (encoding != "br" or parse_json(body) is not NOT_JSON):
                return body
            content = _decoded(body, encoding, min(MAX_BODY, self._room))
            if content is None and is_text:
                return body
            if content is None:
                raise UnreadBodyError
            self._room -= len(content)
            body = content
        return body


def _encoding_of(body: bytes) -> str:
    """Return the encoding of a body without a header that names it, or an empty text."""
    return "gzip" if body.startswith(GZIP) else "zstd" if body.startswith(_ZSTD) else ""


def _decoded(body: bytes, encoding: str, limit: int) -> bytes | None:
    """Return a body without a content encoding; ``None`` if it is damaged or too large, or the encoding unknown.

    Raises:
        UnreadBodyError: The library that reads the encoding is not installed.
    """
    if limit <= 0:  # which the decompressors take for no limit
        return None
    if encoding not in {"br", "zstd"}:
        return decompressed(body, limit, is_raw=encoding == "deflate")
    if encoding == "br":
        library = _library("brotli", "brotli")
        decompressor, error = library.Decompressor(), library.error
        with contextlib.suppress(error):
            content: bytes = decompressor.process(body, output_buffer_limit=limit)
            return content if decompressor.is_finished() and len(content) <= limit else None
        return None
    library = _library(ZSTD_MODULE, "zstd")
    reader = library.ZstdDecompressor()
    with contextlib.suppress(library.ZstdError):
        content = reader.decompress(body, limit)
        return content if reader.eof else None
    return None


def _library(module: str, encoding: str) -> ModuleType:
    try:
        return importlib.import_module(module)  # optional, and needed by few recordings
    except ImportError as error:
        raise UnreadBodyError(NO_LIBRARY.format(encoding)) from error


def _bytes_of(text: str, content: Mapping[str, Any], content_encoding: str) -> bytes:
    """Return the bytes that the text of a body stands for, still compressed.

    Raises:
        UnreadBodyError: The text is in an unknown form.
    """
    label = str(content.get("encoding") or "").strip().lower()
    is_hex = bool(content.get("_isBinary"))
    chunks = parse_json(text) if text.startswith("[") and (is_hex or content_encoding not in _AS_SENT) else None
    try:
        # Polly.JS writes a compressed body as a list of its chunks, which older versions write as hex digits.
        if isinstance(chunks, list) and chunks and all(isinstance(chunk, str) for chunk in chunks):
            return b"".join(map(_from_base64 if label == "base64" else bytes.fromhex, chunks))
        if is_hex and label != "base64":
            return bytes.fromhex(text)
        if label == "base64":
            return _from_base64(text)
        if label in _TEXT_LABELS:
            return _from_text(text)
    except ValueError as error:
        # Firefox and k6 call texts base64 that they did not encode.
        if parse_json(text) is NOT_JSON and not text.lstrip().startswith("<"):
            raise UnreadBodyError from error
        return _from_text(text)
    raise UnreadBodyError


def _from_text(text: str) -> bytes:
    try:
        # mitmproxy writes bytes that are not UTF-8 as surrogate escapes. Other surrogates have no bytes.
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UnreadBodyError from error


def _from_base64(text: str) -> bytes:
    """Return the bytes of a base64 text, with or without padding, in either alphabet."""
    plain = "".join(text.split()).translate(_FROM_URL_SAFE).rstrip("=")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def decompressed(body: bytes, limit: int, *, is_raw: bool = False) -> bytes | None:
    """Return a body without gzip or deflate; ``None`` if it is damaged, too large, or compressed in another way.

    Args:
        body: The body.
        limit: Largest number of bytes to return.
        is_raw: Whether the body may be deflate data without a header, as some servers send it.
    """
    kinds = [_GZIP_OR_ZLIB] if body.startswith((GZIP, _ZLIB)) else []
    for window_bits in [*kinds, _RAW_DEFLATE] if is_raw else kinds:
        decompressor = zlib.decompressobj(window_bits)
        with contextlib.suppress(zlib.error):
            content = decompressor.decompress(body, limit)
            if decompressor.eof:
                return content
    return None
