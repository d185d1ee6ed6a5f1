"""Bodies that are no request at all: not JSON, or not the JSON that a service would take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from seedbed_contract.instances import json_values

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_DEEP = 100_000
_LONG = 5_000
_LARGE = 2_000_000

_KNOWN = (
    b"",
    b" \r\n",
    b"null",
    b"[]",
    b"{",
    b"{]",
    b"{}{}",
    b"{'a': 1}",
    b'{"a": NaN}',
    b'{"a": -Infinity}',
    b'{"a": 1e400}',
    b'{"a": ' + b"1" * _LONG + b"}",
    b'{"a": 01}',
    b'{"a": "\xff"}',
    b'{"a": "\xed\xa0\x80"}',
    b'{"a": "\\ud800"}',
    b'{"a": "\x01"}',
    b"[" * _DEEP,
    b"[" * _DEEP + b"]" * _DEEP,
    b'{"a": ' * _DEEP + b"1" + b"}" * _DEEP,
    b'{"a": "' + b"x" * _LARGE + b'"}',
    "{}".encode("utf-16"),
)


def malformed_bodies() -> SearchStrategy[bytes]:
    """Bodies that a service has to refuse, known nasty ones and random ones."""
    values = json_values.filter(lambda value: not isinstance(value, dict))
    texts = values.map(lambda value: json.dumps(value).encode())
    return st.sampled_from(_KNOWN) | st.binary(max_size=100).filter(_is_no_object) | texts


def _is_no_object(body: bytes) -> bool:
    try:
        return not isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return True
