"""Raw request bodies, down to the bytes: broken JSON, odd encodings, and different spellings of a valid request.

A body is expected to be refused if even the most lenient parser finds no valid request in it, and to be accepted if
RFC 8259 and RFC 9110 make it equal to a valid request. Where they and the page leave a choice, either is right.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import Contract, default_contract

from seedbed_contract.cases.case_types import Expected, Headers, RawBodyCase, cached_by_contract, encode
from seedbed_contract.cases.requests import is_free_text, request_schema, spellings
from seedbed_contract.generation.locations import locations, set_at, smallest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Body = tuple[str, bytes]

JSON_HEADERS: Final[Headers] = (("Content-Type", "application/json"),)
"""The headers of an ordinary body."""

# Deep enough to overflow the stack of a recursive parser; large enough to exceed the body limit of a web framework.
_DEEP: Final = 100_000
_LONG: Final = 5_000
_LARGE: Final = 2_000_000
_UNKNOWN_FIELD: Final = "unknown_field"
_MARK: Final = "mark-to-replace"
"""A value that is replaced in the JSON text by bytes that :mod:`json` does not write."""

_NO_REQUEST: Final = {
    "an empty body": b"",
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
    "bytes that are not UTF-8": b"\xff\xfe\xfd",
    # Without the time, which gzip writes into its header, the data is the same in every run.
    "gzip data": gzip.compress(b"{}", mtime=0),
    "NaN": b"NaN",
    "an object with a number that is too large": b'{"a": 1e400}',
    "an object with a very long number": b'{"a": ' + b"1" * _LONG + b"}",
}
_LARGE_BODIES: Final = {"an object of 2 MB": b'{"a": "' + b"x" * _LARGE + b'"}'}
_DEEP_BODIES: Final = {
    "deep open arrays": b"[" * _DEEP,
    "deep arrays": b"[" * _DEEP + b"]" * _DEEP,
    "deep objects": b'{"a": ' * _DEEP + b"1" + b"}" * _DEEP,
}

_STRICT_JSON: Final = "practice/strict-json"
_ODD_TEXT: Final = "practice/odd-texts"
_ODD_NUMBER: Final = "practice/odd-numbers"
_DEEP_NESTING: Final = "practice/deep-nesting"
_LARGE_BODY: Final = "practice/large-bodies"
_REPEATED_NAMES: Final = "practice/repeated-names"
_UNKNOWN_FIELDS: Final = "practice/unknown-fields"
_MEDIA_TYPE: Final = "practice/media-type"
_ODD_HEADERS: Final = "practice/odd-headers"

# The practices of the values: a text or a null is a field that the service does not know, the others are odd JSON.
_UNKNOWN_VALUES: Final = {
    _UNKNOWN_FIELDS: {"a text": b'"a"', "null": b"null"},
    _STRICT_JSON: {
        "NaN": b"NaN",
        "Infinity": b"-Infinity",
        "a number that starts with 0": b"01",
        "a number with a plus": b"+1",
        "a hexadecimal number": b"0x1",
        "single quotes": b"'a'",
        "undefined": b"undefined",
    },
    _ODD_NUMBER: {"a number that is too large": b"1e400", "a very long number": b"1" * _LONG},
    _DEEP_NESTING: {"a deep array": b"[" * _DEEP + b"]" * _DEEP},
    _LARGE_BODY: {"a text of 2 MB": b'"' + b"x" * _LARGE + b'"'},
}
_ODD_TEXTS: Final = {
    _STRICT_JSON: {
        "a byte that is not UTF-8": b"a\xff",
        "UTF-8 of a surrogate": b"a\xed\xa0\x80",
        "overlong UTF-8": b"a\xc0\xaf",
        "a raw control character": b"a\x01b",
        "a raw line break": b"a\nb",
        "an escape that JSON does not have": rb"a\x41",
    },
    _ODD_TEXT: {
        "no characters": b"",
        "an escaped NUL": rb"a\u0000b",
        "an escaped lone surrogate": rb"a\ud800",
        "a space": b" ",
        "surrogates in reverse": rb"a\udc00\ud800",
        "a byte order mark": "\N{ZERO WIDTH NO-BREAK SPACE}a".encode(),
        "line breaks": rb"\r\n",
        "an ideographic space": "\u3000".encode(),
    },
}

# RFC 9110, section 8.3.1: case and quotes do not matter. RFC 8259, section 11: no parameter changes the meaning.
_SAME_TYPES: Final = (
    *("application/json; charset=utf-8", "application/json;charset=UTF-8", 'application/json; charset="utf-8"'),
    *("Application/JSON", "APPLICATION/JSON; CHARSET=utf-8"),
)
_OTHER_TYPES: Final = {
    _MEDIA_TYPE: ("text/plain", "multipart/form-data; boundary=a", "application/xml", "application/octet-stream"),
    # curl adds the type of a form to every body, so services that are called by hand accept it.
    _ODD_HEADERS: (
        *(
            "application/x-www-form-urlencoded",
            "text/json",
            "application/vnd.api+json",
            "application/json; charset=utf-16",
            "json",
            "",
        ),
        *("application/json; charset=nonsense", "application/json ; charset=utf-8", "application/json, text/plain"),
    ),
}


@cached_by_contract
def raw(contract: Contract | None = None) -> tuple[RawBodyCase, ...]:
    """Return raw request bodies with their headers and with what a service has to do with them.

    Args:
        contract: The contract that decides what a valid request is, by default that of the built-in model.
    """
    contract = contract or default_contract()
    whole = smallest(request_schema(contract))
    good = encode(whole)
    key_end, size = good.index(b":"), len(good)
    cuts = sorted({1, key_end, key_end + 1, size // 4, size // 2, size * 3 // 4, size - 1})
    wrapped = (("a request in an array", b"[" + good + b"]"), ("a request as text", encode(good.decode())))
    return (
        *_cases("refuse", _NO_REQUEST.items()),
        *_cases("refuse", _DEEP_BODIES.items(), _DEEP_NESTING),
        *_cases("refuse", _LARGE_BODIES.items(), _LARGE_BODY),
        *_cases("refuse", ((f"a request cut after {length} bytes", good[:length]) for length in cuts)),
        *_cases("refuse", wrapped),
        *_cases("accept", spellings(contract)),
        *(RawBodyCase(f"sent as {kind}", good, (("Content-Type", kind),), "accept") for kind in _SAME_TYPES),
        *(
            RawBodyCase(f"sent as {kind!r}", good, (("Content-Type", kind),), "either", practice)
            for practice, kinds in _OTHER_TYPES.items()
            for kind in kinds
        ),
        *_oddly_encoded(good),
        *_cases("either", _with_repeated_fields(contract, whole), _REPEATED_NAMES),
        *_with_odd_values(contract, whole),
    )


def _cases(expected: Expected, bodies: Iterable[Body], practice: str = "") -> Iterator[RawBodyCase]:
    return (RawBodyCase(name, body, JSON_HEADERS, expected, practice) for name, body in bodies)


def _oddly_encoded(good: bytes) -> Iterator[RawBodyCase]:
    """Yield a valid request with odd headers, in odd encodings, and with something before, after or in it."""
    gzip_headers = (*JSON_HEADERS, ("Content-Encoding", "gzip"))
    other_type = (("Content-Type", "text/plain"), *JSON_HEADERS)
    yield RawBodyCase("sent with its type twice", good, JSON_HEADERS * 2, "either", _ODD_HEADERS)
    yield RawBodyCase("sent with two types", good, other_type, "either", _ODD_HEADERS)
    yield RawBodyCase("sent without a type", good, (), "either", _ODD_HEADERS)
    yield RawBodyCase("sent with gzip", gzip.compress(good, mtime=0), gzip_headers, "either", _ODD_HEADERS)
    yield RawBodyCase("sent uncompressed as gzip", good, gzip_headers, "either", _ODD_HEADERS)
    unknown = (*JSON_HEADERS, ("Content-Encoding", "nonsense"))
    yield RawBodyCase("sent in an unknown encoding", good, unknown, "either", _ODD_HEADERS)
    yield from _cases("either", [("a byte order mark before", b"\xef\xbb\xbf" + good)], _ODD_TEXT)
    encodings = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
    bodies = {
        **{f"a request in {encoding.upper()}": good.decode().encode(encoding) for encoding in encodings},
        "a byte that is not UTF-8 before": b"\xff" + good,
        "a no-break space before": "\N{NO-BREAK SPACE}".encode() + good,
        "a NUL after": good + b"\0",
        "words after": good + b"x",
        "an extra closing brace": good + b"}",
        "a request twice": good + good,
        "a request and an object": good + b"{}",
        "a trailing comma": good[:-1] + b",}",
        "a comment": good[:-1] + b"/* a */}",
        "a comment line": b"// a\n" + good,
        "single quotes in place of double quotes": good.replace(b'"', b"'"),
    }
    # RFC 8259, section 8.1, requires UTF-8; a parser that guesses the encoding takes what is not JSON.
    yield from _cases("either", bodies.items(), _STRICT_JSON)


def _with_repeated_fields(contract: Contract, whole: Any) -> Iterator[Body]:
    """Yield requests with a field twice: the same value again, and a wrong value first or last."""
    good = encode(whole)
    for name, value in whole.items():
        field, wrong = _member(name, value), _member(name, None)
        yield f"{name} twice", b"{" + field + b", " + good[1:]
        yield f"{name} twice, the first wrong", b"{" + wrong + b", " + good[1:]
        yield f"{name} twice, the last wrong", good[:-1] + b", " + wrong + b"}"
    schema = request_schema(contract)
    for path, node in locations(schema):
        if len(path) > 1 and node.required and not node.is_items and isinstance(path[-1], str):
            marked = encode(set_at(whole, schema, (*path[:-1], _UNKNOWN_FIELD), _MARK))
            again = _member(path[-1], smallest(node.schema))
            yield f"{node.path} twice", marked.replace(_member(_UNKNOWN_FIELD, _MARK), again)


def _member(name: str, value: Any) -> bytes:
    """Return a field of an object as JSON, without the braces."""
    return encode({name: value})[1:-1]


def _with_odd_values(contract: Contract, whole: Any) -> Iterator[RawBodyCase]:
    """Yield requests with unknown fields, odd texts in free fields, and floats in integer fields."""
    schema = request_schema(contract)
    for path, node in locations(schema):
        # A contract that forbids unknown fields decides the cases of their values, so nothing is left open.
        is_open = node.schema.get("additionalProperties", True) is not False
        if is_open and node.schema.get("type") == "object" and (not path or path[0] in whole):
            marked = encode(set_at(whole, schema, (*path, _UNKNOWN_FIELD), _MARK))
            yield from _replaced(f"{node.id} with an unknown field of", marked, encode(_MARK), _UNKNOWN_VALUES)
    for path, node in locations(schema):
        if is_free_text(node.schema):
            yield from _replaced(
                f"{node.path} of", encode(set_at(whole, schema, path, _MARK)), _MARK.encode(), _ODD_TEXTS
            )
    # 1.0 is an integer to JSON Schema, but not to many parsers.
    integers = [(path, node) for path, node in locations(schema) if node.schema.get("type") == "integer"]
    for path, node in integers:
        body = encode(set_at(whole, schema, path, float(smallest(node.schema))))
        yield from _cases("either", [(f"{node.path} with a decimal point", body)], _ODD_NUMBER)


def _replaced(name: str, body: bytes, mark: bytes, values: Mapping[str, Mapping[str, bytes]]) -> Iterator[RawBodyCase]:
    """Yield a body with each value in place of a mark; the values are grouped by practice."""
    for practice, described in values.items():
        bodies = ((f"{name} {description}", body.replace(mark, value)) for description, value in described.items())
        yield from _cases("either", bodies, practice)
