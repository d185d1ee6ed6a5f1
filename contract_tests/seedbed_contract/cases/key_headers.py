"""Ways to send an API key: those that a service has to refuse, and those that it may accept or refuse."""

from __future__ import annotations

import base64
import string
from typing import TYPE_CHECKING, Final

from seedbed_schemas import Contract, default_contract

from seedbed_contract.cases.case_types import KeyHeaderCase

if TYPE_CHECKING:
    from collections.abc import Iterator

# Hardly any key contains it, so a key changed by it is not another valid key.
_RARE: Final = "~"
_NEXT: Final = str.maketrans(
    string.ascii_lowercase + string.ascii_uppercase + string.digits,
    "".join(part[1:] + part[0] for part in (string.ascii_lowercase, string.ascii_uppercase, string.digits)),
)


def wrong_keys(key: str, *, contract: Contract | None = None) -> tuple[KeyHeaderCase, ...]:
    """Return ways to send a key that a service has to refuse, or may refuse.

    The wrong keys are changed copies of the valid key and never equal it.

    Args:
        key: A key that the service accepts.
        contract: The contract that names the header and the scheme, by default that of the shipped model.

    Raises:
        ValueError: The key is empty, or a header cannot carry it.
    """
    if not key or not key.isascii() or not key.isprintable() or key != key.strip():
        raise ValueError(
            "the key must be printable ASCII without surrounding spaces; pass a key that the service accepts"
        )
    operation = (contract or default_contract()).operation
    cases = (*_refused(key, operation.header, operation.scheme), *_undecided(key, operation.header, operation.scheme))
    valid = ((operation.header, _credentials(operation.scheme, key)),)
    # Of several cases with the same headers, the first stays.
    by_headers = {case.headers: case for case in reversed(cases) if case.headers != valid}
    return tuple(by_headers.values())[::-1]


def _credentials(scheme: str, key: str) -> str:
    # A contract can leave out the scheme.
    return f"{scheme} {key}".strip()


def _refused(key: str, header: str, scheme: str) -> Iterator[KeyHeaderCase]:
    # Changed copies of the key, a few of which may be empty or equal to the key.
    near = {
        "another key": key.translate(_NEXT),
        "a word in place of a key": "undefined",
        "the key without its last character": key[:-1],
        "the key without its first character": key[1:],
        "the first half of the key": key[: len(key) // 2],
        "the first character of the key": key[:1],
        "the key with one more character": f"{key}{_RARE}",
        "the key with a character before it": f"{_RARE}{key}",
        "the key twice": f"{key}{key}",
        "the key with another last character": key[:-1] + _RARE,
        "the key with another first character": _RARE + key[1:],
        "the key in upper case": key.upper(),
        "the key in lower case": key.lower(),
        "the key with upper and lower case swapped": key.swapcase(),
        "the key backwards": key[::-1],
    }
    basic = base64.b64encode(f"{key}:".encode()).decode()
    values = {
        "an empty header": "",
        "the scheme alone": scheme,
        "the scheme twice": f"{scheme} {scheme}",
        "the key in the scheme Basic": f"Basic {key}",
        "the key as a name in the scheme Basic": f"Basic {basic}",
        "the key in the scheme Digest": f"Digest {key}",
        "the key in the scheme Token": f"Token {key}",
        "the key without a scheme": key,
        **{name: _credentials(scheme, wrong) for name, wrong in near.items() if wrong and wrong != key},
    }
    yield KeyHeaderCase("no key", (), "refuse")
    yield from (KeyHeaderCase(name, ((header, value),), "refuse") for name, value in values.items())


def _undecided(key: str, header: str, scheme: str) -> Iterator[KeyHeaderCase]:
    """Yield headers that RFC 9110 leaves open, or that lenient services accept."""
    right, wrong = _credentials(scheme, key), _credentials(scheme, key.translate(_NEXT))
    values = {
        "the scheme in lower case": _credentials(scheme.lower(), key),
        "the scheme in upper case": _credentials(scheme.upper(), key),
        "two spaces after the scheme": f"{scheme}  {key}",
        "a tab after the scheme": f"{scheme}\t{key}",
        "a space before the scheme": f" {right}",
        "a space after the key": f"{right} ",
        "no space after the scheme": f"{scheme}{key}",
        "a colon after the scheme": f"{scheme}: {key}",
        "the scheme before the valid header": f"{scheme} {right}",
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
