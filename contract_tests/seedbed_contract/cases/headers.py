"""Ways to send a key that a service must not take, or need not."""

from __future__ import annotations

import base64
import string
from typing import TYPE_CHECKING, Final

from seedbed_schemas import Contract, default_contract

from seedbed_contract.cases.kinds import KeyHeader

if TYPE_CHECKING:
    from collections.abc import Iterator

_ODD: Final = "~"
"""A character that stands in hardly any key, so that no neighbour of a good key is one, too."""
_NEXT: Final = str.maketrans(
    string.ascii_lowercase + string.ascii_uppercase + string.digits,
    "".join(part[1:] + part[0] for part in (string.ascii_lowercase, string.ascii_uppercase, string.digits)),
)


def wrong_keys(key: str, *, contract: Contract | None = None) -> tuple[KeyHeader, ...]:
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


def _refused(key: str, header: str, scheme: str) -> Iterator[KeyHeader]:
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
    yield KeyHeader("no key", (), "refuse")
    yield from (KeyHeader(name, ((header, value),), "refuse") for name, value in values.items())


def _either(key: str, header: str, scheme: str) -> Iterator[KeyHeader]:
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
    yield from (KeyHeader(name, ((header, value),), "either") for name, value in values.items())
    yield KeyHeader("the header twice", ((header, right), (header, right)), "either")
    yield KeyHeader("the header twice, the first wrong", ((header, wrong), (header, right)), "either")
    yield KeyHeader("the header twice, the last wrong", ((header, right), (header, wrong)), "either")
    yield KeyHeader("the key in another header", (("X-API-Key", key),), "either")


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
