"""Ways to send an API key: those that a service has to refuse, and those that it may accept or refuse."""

from __future__ import annotations

import base64
import string
from typing import TYPE_CHECKING, Final

from seedbed_schemas import Contract, default_contract

from seedbed_contract.cases.case_types import KeyHeaderCase

if TYPE_CHECKING:
    from collections.abc import Callable

# Hardly any key contains it, so a key changed by it is not another valid key.
_RARE: Final = "~"
_NEXT: Final = str.maketrans(
    string.ascii_lowercase + string.ascii_uppercase + string.digits,
    "".join(part[1:] + part[0] for part in (string.ascii_lowercase, string.ascii_uppercase, string.digits)),
)

# Some of them leave a short key empty or equal; these are not sent.
_CHANGED_COPIES: Final[dict[str, Callable[[str], str]]] = {
    "another key": lambda key: key.translate(_NEXT),
    "a word in place of a key": lambda _: "undefined",
    "the key without its last character": lambda key: key[:-1],
    "the key without its first character": lambda key: key[1:],
    "the first half of the key": lambda key: key[: len(key) // 2],
    "the first character of the key": lambda key: key[:1],
    "the key with one more character": lambda key: f"{key}{_RARE}",
    "the key with a character before it": lambda key: f"{_RARE}{key}",
    "the key twice": lambda key: f"{key}{key}",
    "the key with another last character": lambda key: key[:-1] + _RARE,
    "the key with another first character": lambda key: _RARE + key[1:],
    "the key in upper case": str.upper,
    "the key in lower case": str.lower,
    "the key with upper and lower case swapped": str.swapcase,
    "the key backwards": lambda key: key[::-1],
}
_REFUSED: Final = {
    "an empty header": "",
    "the scheme alone": "{scheme}",
    "the scheme twice": "{scheme} {scheme}",
    "the key in the scheme Basic": "Basic {key}",
    "the key as a name in the scheme Basic": "Basic {basic}",
    "the key in the scheme Digest": "Digest {key}",
    "the key in the scheme Token": "Token {key}",
    "the key without a scheme": "{key}",
}
# RFC 9110 leaves these open, or lenient services accept them. The headers of the first practice are right to RFC 9110,
# so a service should accept them; those of the second are malformed, so it should refuse them.
KEY_SPELLING: Final = "practice/key-spelling"
STRICT_KEY: Final = "practice/strict-key"
ONE_KEY: Final = "practice/one-key"
_ODD_KEYS: Final = "practice/odd-keys"
_UNDECIDED: Final = {
    KEY_SPELLING: {
        "the scheme in lower case": "{lower}",
        "the scheme in upper case": "{upper}",
        "two spaces after the scheme": "{scheme}  {key}",
    },
    _ODD_KEYS: {
        "a tab after the scheme": "{scheme}\t{key}",
        "a space before the scheme": " {right}",
        "a space after the key": "{right} ",
    },
    STRICT_KEY: {
        "no space after the scheme": "{scheme}{key}",
        "a colon after the scheme": "{scheme}: {key}",
        "the scheme before the valid header": "{scheme} {right}",
        "the key in quotes": '{scheme} "{key}"',
        "the key and a word": "{right} a",
        "the key and a comma": "{right},",
        "the key and a wrong one after a comma": "{right}, {wrong}",
    },
}


def wrong_keys(key: str, *, contract: Contract | None = None) -> tuple[KeyHeaderCase, ...]:
    """Return ways to send a key that a service has to refuse, or may refuse.

    The wrong keys are changed copies of the valid key and never equal it.

    Args:
        key: A key that the service accepts.
        contract: The contract that names the header and the scheme, by default that of the built-in model.

    Raises:
        ValueError: The key is empty, or a header cannot carry it.
    """
    if not key or not key.isascii() or not key.isprintable() or key != key.strip():
        raise ValueError(
            "the key must be printable ASCII without surrounding spaces; pass a key that the service accepts"
        )
    operation = (contract or default_contract()).operation
    header, scheme = operation.header, operation.scheme
    right, wrong = _credentials(scheme, key), _credentials(scheme, key.translate(_NEXT))
    basic = base64.b64encode(f"{key}:".encode()).decode()
    words = {"scheme": scheme, "key": key, "basic": basic, "right": right, "wrong": wrong}
    words |= {"lower": _credentials(scheme.lower(), key), "upper": _credentials(scheme.upper(), key)}
    copies = {name: change(key) for name, change in _CHANGED_COPIES.items()}
    refused = {name: template.format_map(words).strip() for name, template in _REFUSED.items()}
    refused |= {name: _credentials(scheme, copy) for name, copy in copies.items() if copy and copy != key}
    # The name of a scheme has no case (RFC 9110, section 11.1), but a key has.
    spellings = {_credentials(spelling, key) for spelling in (scheme, "Basic", "Digest", "Token", scheme.lower())}
    same = {spelling for spelling in spellings if spelling.lower() == right.lower()}
    cases = (
        KeyHeaderCase("no key", (), "refuse"),
        *(
            KeyHeaderCase(name, ((header, value),), "either" if value in same else "refuse")
            for name, value in refused.items()
        ),
        *(
            KeyHeaderCase(name, ((header, template.format_map(words)),), "either", practice)
            for practice, templates in _UNDECIDED.items()
            for name, template in templates.items()
        ),
        KeyHeaderCase("the header twice", ((header, right), (header, right)), "either", _ODD_KEYS),
        KeyHeaderCase("the header twice, the first wrong", ((header, wrong), (header, right)), "either", ONE_KEY),
        KeyHeaderCase("the header twice, the last wrong", ((header, right), (header, wrong)), "either", ONE_KEY),
        KeyHeaderCase("the key in another header", (("X-API-Key", key),), "either", _ODD_KEYS),
    )
    # Of several cases with the same headers, the first stays.
    by_headers = {case.headers: case for case in reversed(cases) if case.headers != ((header, right),)}
    return tuple(by_headers.values())[::-1]


def _credentials(scheme: str, key: str) -> str:
    # A contract can leave out the scheme.
    return f"{scheme} {key}".strip()
