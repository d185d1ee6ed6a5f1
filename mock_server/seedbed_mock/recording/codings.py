"""Content encodings of bodies: gzip and deflate, and with an extra also Brotli and Zstandard."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seedbed_mock.journal import Headers


_LARGEST_DECODED = 16 * 1024 * 1024
_WINDOWS = {"gzip": zlib.MAX_WBITS + 16, "x-gzip": zlib.MAX_WBITS + 16, "deflate": zlib.MAX_WBITS}
_ZLIB_METHOD = 8
_MODULES = {"br": "brotli", "zstd": "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"}
"""Modules of the content encodings that an extra reads."""


def encoding_of(headers: Headers) -> str:
    """Return the content encodings that headers name, empty if there are none."""
    found = (value.decode("latin-1").lower() for name, value in headers if name.lower() == b"content-encoding")
    applied = [each.strip() for value in found for each in value.split(",")]
    return ", ".join(each for each in applied if each not in {"", "identity"})


def problem_of_encoding(encoding: str) -> str:
    """Return why a body with these content encodings cannot be decoded."""
    for each in encoding.split(", "):
        if (module := _MODULES.get(each)) and importlib.util.find_spec(module.partition(".")[0]) is None:
            return f"it is compressed with {each}; install seedbed[har] to read it"
        if each not in _WINDOWS and not module:
            return f"its content encoding {each} is unknown"
    return f"it is damaged, or too large without its content encoding {encoding}"


def decoded_body(body: bytes, encoding: str) -> bytes | None:
    """Return a body without its content encodings; ``None`` if it cannot be decoded, or would be very large.

    A text is returned as it is, since the network views of browsers export bodies that are decoded already.
    """
    content: bytes | None = body
    for each in reversed(encoding.split(", ") if encoding else ()):
        if content is not None:
            content = _without(content, each)
    if content is None:
        with contextlib.suppress(UnicodeDecodeError):
            return body.decode().encode()
    return content


def _without(body: bytes, encoding: str) -> bytes | None:
    # The libraries raise errors of their own, and all of them mean a body that is not what it says.
    with contextlib.suppress(Exception):
        if encoding == "br":
            brotli: Any = importlib.import_module(_MODULES[encoding]).Decompressor()
            content: bytes = brotli.process(body, output_buffer_limit=_LARGEST_DECODED)
            return content if brotli.is_finished() else None
        if encoding == "zstd":
            decoder: Any = importlib.import_module(_MODULES[encoding]).ZstdDecompressor()
            content = decoder.decompress(body, _LARGEST_DECODED)
        elif encoding in _WINDOWS:
            # Some servers send deflate without the header of zlib.
            is_raw = encoding == "deflate" and body[:1] and body[0] & 0x0F != _ZLIB_METHOD
            decoder = zlib.decompressobj(-zlib.MAX_WBITS if is_raw else _WINDOWS[encoding])
            content = decoder.decompress(body, _LARGEST_DECODED)
        else:
            return None
        return content if decoder.eof else None
    return None
