"""Ways to send a key that a service must not take, or need not."""

from __future__ import annotations

import base64
import gzip
import json
import string
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import Contract, default_contract

from seedbed_contract.cases.accepted import is_free_text, writings
from seedbed_contract.cases.case_types import Headers, KeyHeaderCase, Meant, RawBodyCase, written
from seedbed_contract.generation.places import places, put, smallest

if TYPE_CHECKING:
    from collections.abc import Iterator


_ODD: Final = "~"
"""A character that stands in hardly any key, so that no neighbour of a good key is one, too."""
_NEXT: Final = str.maketrans(
    string.ascii_lowercase + string.ascii_uppercase + string.digits,
    "".join(part[1:] + part[0] for part in (string.ascii_lowercase, string.ascii_uppercase, string.digits)),
)


def wrong_keys(key: str, *, contract: Contract | None = None) -> tuple[KeyHeaderCase, ...]:
    """Return the ways to send a key that have to be refused, and those that a service may take or not.

    Wrong keys are made from the right one, and never are it.

    Args:
        key: The key that the service takes.
        contract: Tells the header and the scheme, by default that of the shipped model.

    Raises:
        ValueError: The key is empty, or no header can carry it.
    """
    if not key or not key.isascii() or not key.isprintable() or key != key.strip():
        raise ValueError("the key must be printable ASCII without space around; give the key that the service takes")
    operation = (contract or default_contract()).operation
    right = _value(operation.scheme, key)
    ways = (*_refused(key, operation.header, operation.scheme), *_either(key, operation.header, operation.scheme))
    by_headers = {way.headers: way for way in reversed(ways) if way.headers != ((operation.header, right),)}
    return tuple(by_headers.values())[::-1]


def _value(scheme: str, key: str) -> str:
    return f"{scheme} {key}".strip()


def _refused(key: str, header: str, scheme: str) -> Iterator[KeyHeaderCase]:
    encoded = base64.b64encode(f"{key}:".encode()).decode()
    values = {
        "an empty header": "",
        "the scheme alone": scheme,
        "the scheme twice": f"{scheme} {scheme}",
        "the key in the scheme Basic": f"Basic {key}",
        "the key as a name in the scheme Basic": f"Basic {encoded}",
        "the key in the scheme Digest": f"Digest {key}",
        "the key in the scheme Token": f"Token {key}",
        "the key without a scheme": key,
        **{name: _value(scheme, wrong) for name, wrong in _wrong(key).items() if wrong and wrong != key},
    }
    yield KeyHeaderCase("no key", (), "refuse")
    yield from (KeyHeaderCase(name, ((header, value),), "refuse") for name, value in values.items())


def _either(key: str, header: str, scheme: str) -> Iterator[KeyHeaderCase]:
    """Yield what RFC 9110 leaves open, or what lenient services take."""
    right, wrong = _value(scheme, key), _value(scheme, key.translate(_NEXT))
    values = {
        "the scheme in small letters": _value(scheme.lower(), key),
        "the scheme in capitals": _value(scheme.upper(), key),
        "two spaces after the scheme": f"{scheme}  {key}",
        "a tab after the scheme": f"{scheme}\t{key}",
        "a space before the scheme": f" {right}",
        "a space after the key": f"{right} ",
        "no space after the scheme": f"{scheme}{key}",
        "a colon after the scheme": f"{scheme}: {key}",
        "the scheme and once more": f"{scheme} {right}",
        "the key in quotes": f'{scheme} "{key}"',
        "the key and a word": f"{right} a",
        "the key and a comma": f"{right},",
        "the key and a wrong one after a comma": f"{right}, {wrong}",
    }
    yield from (KeyHeaderCase(name, ((header, value),), "either") for name, value in values.items())
    yield KeyHeaderCase("the header twice", ((header, right), (header, right)), "either")
    yield KeyHeaderCase("the header twice, the first wrong", ((header, wrong), (header, right)), "either")
    yield KeyHeaderCase("the header twice, the last wrong", ((header, right), (header, wrong)), "either")
    yield KeyHeaderCase("the key in another header", (("X-API-Key", key),), "either")


def _wrong(key: str) -> dict[str, str]:
    """Return keys that are nearly the right one, by what is wrong of them; some may be the right one or empty."""
    return {
        "another key": key.translate(_NEXT),
        "a word for a key": "undefined",
        "the key without its last character": key[:-1],
        "the key without its first character": key[1:],
        "the first half of the key": key[: len(key) // 2],
        "the first character of the key": key[:1],
        "the key and a character": f"{key}{_ODD}",
        "the key after a character": f"{_ODD}{key}",
        "the key twice": f"{key}{key}",
        "the key with another last character": key[:-1] + _ODD,
        "the key with another first character": _ODD + key[1:],
        "the key in capitals": key.upper(),
        "the key in small letters": key.lower(),
        "the key in the other case": key.swapcase(),
        "the key backwards": key[::-1],
    }


_CONTRACTS: Final = 8
JSON: Final[Headers] = (("Content-Type", "application/json"),)
"""The headers of a body as they should be."""
UNKNOWN: Final = "unknown_field"
"""A field that no contract names."""

_DEEP: Final = 100_000
_LONG: Final = 5_000
_LARGE: Final = 2_000_000
_MARK: Final = "mark-to-replace"

_NO_REQUEST: Final = {
    "nothing": b"",
    "white space": b" \r\n",
    "null": b"null",
    "true": b"true",
    "a number": b"0",
    "a text": b'"a"',
    "an empty array": b"[]",
    "an empty object": b"{}",
    "an array of an empty object": b"[{}]",
    "words": b"this is not JSON",
    "XML": b'<?xml version="1.0"?><request/>',
    "HTML": b"<!doctype html><title>a</title>",
    "a form": b"model=a&input=b",
    "an open brace": b"{",
    "a closing brace": b"}",
    "braces that do not match": b"{]",
    "a key without a value": b'{"model"}',
    "a colon without a value": b'{"model":}',
    "a comma alone": b"{,}",
    "two objects": b"{}{}",
    "a NUL": b"\x00",
    "bytes that are no UTF-8": b"\xff\xfe\xfd",
    "what gzip writes": gzip.compress(b"{}", mtime=0),
    "NaN": b"NaN",
    "an object with a number that is too large": b'{"a": 1e400}',
    "an object with a very long number": b'{"a": ' + b"1" * _LONG + b"}",
    "an object of 2 MB": b'{"a": "' + b"x" * _LARGE + b'"}',
    "deep open arrays": b"[" * _DEEP,
    "deep arrays": b"[" * _DEEP + b"]" * _DEEP,
    "deep objects": b'{"a": ' * _DEEP + b"1" + b"}" * _DEEP,
}
"""Bodies in which the most lenient parser finds no request."""

_UNKNOWN_VALUES: Final = {
    "a text": b'"a"',
    "null": b"null",
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "a number that is too large": b"1e400",
    "a very long number": b"1" * _LONG,
    "a number that starts with 0": b"01",
    "a number with a plus": b"+1",
    "a hexadecimal number": b"0x1",
    "a deep array": b"[" * _DEEP + b"]" * _DEEP,
    "a text of 2 MB": b'"' + b"x" * _LARGE + b'"',
    "single quotes": b"'a'",
    "undefined": b"undefined",
}
_ODD_TEXTS: Final = {
    "a byte that is no UTF-8": b"a\xff",
    "UTF-8 of a surrogate": b"a\xed\xa0\x80",
    "overlong UTF-8": b"a\xc0\xaf",
    "an escaped lone surrogate": rb"a\ud800",
    "surrogates in reverse": rb"a\udc00\ud800",
    "a raw control character": b"a\x01b",
    "a raw line break": b"a\nb",
    "an escaped NUL": rb"a\u0000b",
    "an escape that JSON has not": rb"a\x41",
    "a byte order mark": "\N{ZERO WIDTH NO-BREAK SPACE}a".encode(),
}
_BLANK_TEXTS: Final = {"empty": b"", "a space": b" ", "line breaks": rb"\r\n", "a wide space": "\u3000".encode()}

_SAME_TYPES: Final = (
    *("application/json; charset=utf-8", "application/json;charset=UTF-8", 'application/json; charset="utf-8"'),
    *("Application/JSON", "APPLICATION/JSON; CHARSET=utf-8"),
)
"""RFC 9110, section 8.3.1: neither case nor quotes matter. RFC 8259, section 11: no parameter changes the meaning."""
_OTHER_TYPES: Final = (
    *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "application/xml"),
    *("application/octet-stream", "text/json", "application/vnd.api+json", "application/json; charset=utf-16", "json"),
    *("application/json; charset=nonsense", "application/json ; charset=utf-8", "application/json, text/plain", ""),
)


def raw(contract: Contract | None = None) -> tuple[RawBodyCase, ...]:
    """Return bodies to send in place of a request, each with its headers and with what a service has to do.

    ``refuse`` is what the most lenient parser makes no valid request of, ``accept`` what RFC 8259 and RFC 9110 call
    the same as a valid request, ``either`` all on which they and the page are silent, or leave a choice.

    Args:
        contract: The contract to keep or break, by default that of the shipped model.
    """
    return _raw(contract or default_contract())


@lru_cache(_CONTRACTS)
def _raw(contract: Contract) -> tuple[RawBodyCase, ...]:
    schema = contract.part("request")
    whole = smallest(schema)
    good = written(whole)
    return (
        *_meant("refuse", _NO_REQUEST.items()),
        *_meant("refuse", _cut(good)),
        *_meant(
            "refuse", (("a request in an array", b"[" + good + b"]"), ("a request as text", written(good.decode())))
        ),
        *_meant("accept", writings(contract)),
        *(RawBodyCase(f"sent as {kind}", good, (("Content-Type", kind),), "accept") for kind in _SAME_TYPES),
        *(RawBodyCase(f"sent as {kind!r}", good, (("Content-Type", kind),), "either") for kind in _OTHER_TYPES),
        *_oddly_sent(good),
        *_meant("either", _around(good)),
        *_meant("either", _repeated(contract, whole)),
        *_meant("either", _with_unknown_fields(contract, whole)),
        *_meant("either", _with_odd_texts(contract, whole)),
        *_meant("either", _with_whole_floats(contract, whole)),
    )


def _meant(meant: Meant, bodies: Any) -> Iterator[RawBodyCase]:
    return (RawBodyCase(name, body, JSON, meant) for name, body in bodies)


def _cut(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the beginnings of a request: an object that is not closed is none."""
    key_end = good.index(b":")
    for length in sorted({1, key_end, key_end + 1, len(good) // 4, len(good) // 2, len(good) * 3 // 4, len(good) - 1}):
        yield f"a request cut after {length} bytes", good[:length]


def _oddly_sent(good: bytes) -> Iterator[RawBodyCase]:
    yield RawBodyCase("sent without a type", good, (), "either")
    yield RawBodyCase("sent with its type twice", good, JSON * 2, "either")
    yield RawBodyCase("sent with gzip", gzip.compress(good, mtime=0), (*JSON, ("Content-Encoding", "gzip")), "either")
    yield RawBodyCase("sent plain as gzip", good, (*JSON, ("Content-Encoding", "gzip")), "either")
    yield RawBodyCase("sent in an unknown encoding", good, (*JSON, ("Content-Encoding", "nonsense")), "either")


def _around(good: bytes) -> Iterator[tuple[str, bytes]]:
    yield "a byte order mark before", b"\xef\xbb\xbf" + good
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
        yield f"a request in {encoding.upper()}", good.decode().encode(encoding)
    yield "a byte that is no UTF-8 before", b"\xff" + good
    yield "a no-break space before", "\N{NO-BREAK SPACE}".encode() + good
    yield "a NUL after", good + b"\0"
    yield "words after", good + b"x"
    yield "a closing brace too many", good + b"}"
    yield "a request twice", good + good
    yield "a request and an object", good + b"{}"
    yield "a comma at the end", good[:-1] + b",}"
    yield "a comment", good[:-1] + b"/* a */}"
    yield "a comment line", b"// a\n" + good
    yield "single quotes for double ones", good.replace(b'"', b"'")


def _repeated(contract: Contract, whole: Any) -> Iterator[tuple[str, bytes]]:
    """Yield requests with each field of the top twice: the same again, and with a wrong one before or after."""
    good = written(whole)
    for name, value in whole.items():
        field, wrong = written({name: value})[1:-1], written({name: None})[1:-1]
        yield f"{name} twice", b"{" + field + b", " + good[1:]
        yield f"{name} twice, the first wrong", b"{" + wrong + b", " + good[1:]
        yield f"{name} twice, the last wrong", good[:-1] + b", " + wrong + b"}"
    schema = contract.part("request")
    for path, node in places(schema):
        if len(path) > 1 and node.required and not node.is_items and isinstance(path[-1], str):
            marked = written(put(whole, schema, (*path[:-1], UNKNOWN), _MARK))
            again = written({path[-1]: smallest(node.schema)})[1:-1]
            yield f"{node.path} twice", marked.replace(written({UNKNOWN: _MARK})[1:-1], again)


def _with_unknown_fields(contract: Contract, whole: Any) -> Iterator[tuple[str, bytes]]:
    schema = contract.part("request")
    for path, node in places(schema):
        if node.schema.get("type") == "object" and (not path or path[0] in whole):
            marked = written(put(whole, schema, (*path, UNKNOWN), _MARK))
            for what, value in _UNKNOWN_VALUES.items():
                yield f"{node.id} with an unknown field of {what}", marked.replace(json.dumps(_MARK).encode(), value)


def _with_odd_texts(contract: Contract, whole: Any) -> Iterator[tuple[str, bytes]]:
    """Yield requests with texts in free fields that JSON leaves open, or the page."""
    schema = contract.part("request")
    for path, node in places(schema):
        if is_free_text(node.schema):
            marked = written(put(whole, schema, path, _MARK))
            for what, text in {**_ODD_TEXTS, **_BLANK_TEXTS}.items():
                yield f"{node.path} of {what}", marked.replace(_MARK.encode(), text)


def _with_whole_floats(contract: Contract, whole: Any) -> Iterator[tuple[str, bytes]]:
    """Yield requests with 1.0 for 1: JSON Schema calls that an integer, many a parser does not."""
    schema = contract.part("request")
    for path, node in places(schema):
        if node.schema.get("type") == "integer":
            yield f"{node.path} with a point", written(put(whole, schema, path, float(smallest(node.schema))))
