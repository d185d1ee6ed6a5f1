"""Values that are nearly an allowed one, as a careless comparison would take them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Named = tuple[str, Any]

_FULL_WIDTH: Final = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_SEPARATORS: Final = ("：", "/", "x", "-", "_", ",", " ", "")
_USUAL_OTHERS: Final = (
    *("auto", "default", "none", "undefined", "low", "medium", "standard", "ultra", "2K", "4K", "square", "5:4"),
    *("no/such-model", "*"),
)


def near(value: Any) -> Iterator[Named]:
    """Yield values near an allowed one, each with what is special of it."""
    yield from near_text(value) if isinstance(value, str) else _near_number(value)


def near_any(allowed: Sequence[Any], others: Sequence[Any]) -> Iterator[Named]:
    """Yield values near any of the allowed ones; some may be allowed themselves.

    Args:
        allowed: The allowed values.
        others: Values that are allowed elsewhere in the request.
    """
    for value in allowed:
        yield from near(value)
        yield from _neighbours(value) if isinstance(value, str) else ()
    yield from _with_other_marks(allowed[0]) if isinstance(allowed[0], str) else ()
    yield "all values in one", ",".join(map(str, allowed))
    yield from ((f"the value {value!r} of another field", value) for value in others)
    yield from ((f"the index {index} as text", str(index)) for index in range(len(allowed) + 1))


def usual_others() -> Iterator[Named]:
    """Yield what callers try where they do not know the allowed values."""
    yield "the empty text", ""
    yield from ((f"the word {word!r}", word) for word in _USUAL_OTHERS)


def near_text(value: str) -> Iterator[Named]:
    """Yield texts near a text, in the ways in which callers miss it."""
    shown, half = repr(value), len(value) // 2
    yield f"{shown} in capitals", value.upper()
    yield f"{shown} in small letters", value.lower()
    yield f"{shown} with a first capital", value.capitalize()
    yield f"a space before {shown}", f" {value}"
    yield f"a space after {shown}", f"{value} "
    yield f"a space in {shown}", f"{value[:half]} {value[half:]}"
    yield f"a line break after {shown}", f"{value}\n"
    yield f"a NUL after {shown}", f"{value}\0"
    yield f"{shown} in full-width characters", value.translate(_FULL_WIDTH)
    yield f"{shown} without its last character", value[:-1]
    yield f"{shown} without its first character", value[1:]
    yield f"{shown} with one more character", f"{value}0"
    yield f"{shown} with a character before it", f"0{value}"
    yield f"{shown} in quotes", f'"{value}"'
    yield f"{shown} in an array", [value]


def _neighbours(value: str) -> Iterator[Named]:
    """Yield a text that has numbers in it with the next one in the place of each, and with its parts swapped."""
    for match in re.finditer(r"\d+", value):
        changed = f"{value[: match.start()]}{int(match[0]) + 1}{value[match.end() :]}"
        yield f"the neighbour {changed!r} of {value!r}", changed
    parts = re.split(r"([^A-Za-z0-9]+)", value)
    yield f"the parts of {value!r} in reverse", "".join(reversed(parts))
    yield f"the first part of {value!r}", parts[0]


def _with_other_marks(value: str) -> Iterator[Named]:
    for mark in re.findall(r"[^A-Za-z0-9]", value)[:1]:
        yield from ((f"{value!r} with {other!r} for {mark!r}", value.replace(mark, other)) for other in _SEPARATORS)


def _near_number(value: Any) -> Iterator[Named]:
    yield f"{value!r} as text", str(value)
    yield f"{value!r} in an array", [value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield f"one more than {value!r}", value + 1
        yield f"one less than {value!r}", value - 1
        yield f"the negative of {value!r}", -value
        yield f"{value!r} and a half", value + 0.5
