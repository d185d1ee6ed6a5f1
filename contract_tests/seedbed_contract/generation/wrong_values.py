"""Values that are nearly an allowed one, as a careless comparison would take them."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

from seedbed_contract.generation.places import LETTER, items, several, smallest, types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Named = tuple[str, Any]
    Schema = Mapping[str, Any]

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


SCRIPTS: Final = {"": LETTER, "Chinese ": "山", "astral ": "🌄"}
"""A character of each width: one, three and four bytes of UTF-8, the last of two UTF-16 units."""

LONGEST: Final = 1_000_000
"""No text or array is made longer: few services read a body that could hold it."""

_OTHER_TYPES: Final[tuple[Named, ...]] = (
    ("null", None),
    ("true", True),
    ("false", False),
    ("the number 0", 0),
    ("the number 1", 1),
    ("the number 1.5", 1.5),
    ("the number -1", -1),
    ("an empty array", []),
    ("an empty object", {}),
    ("an array in an array", [[]]),
    ("an array of null", [None]),
    ("a letter", LETTER),
    ("the empty text", ""),
    ("the text '1'", "1"),
    ("the text '1.5'", "1.5"),
    ("the text 'true'", "true"),
    ("the text 'null'", "null"),
    ("the text '[]'", "[]"),
    ("the text '{}'", "{}"),
)

NO_FORMAT: Final = (
    *("", "not a uri", "/callback", "//example.com/callback", "example.com/callback", "callback", "?a=b", "#done"),
    *("www.example.com", "http", "./callback", "not-a-date", "2026-13-01", "2026-02-30", "@example.com", "a@"),
    *("256.1.1.1", "1.2.3", "::g", "00000000-0000-4000-8000", "25:00:00", "-", "a b", "["),
)
"""Texts of no format: the judge of one says which it is not; none is a URI that a lenient reader would take."""


def wrong(schema: Schema, others: Sequence[Any] = ()) -> Iterator[Named]:
    """Yield values that may be wrong for a schema, each with what is special of it, those at its limits first.

    Args:
        schema: The schema.
        others: Values that are allowed elsewhere in the request.
    """
    for keyword, propose in _PROPOSALS.items():
        if keyword in schema:
            yield from propose(schema)
    if "enum" in schema:
        yield from near_any(schema["enum"], others)
    if "enum" in schema or "const" in schema:
        yield from usual_others()
    if types(schema) != ["object"] or "type" in schema:
        yield from _of_another_type(schema)


def _of_another_type(schema: Schema) -> Iterator[Named]:
    plain = (named for named in _OTHER_TYPES if types(schema) != ["string"] or not isinstance(named[1], str))
    yield from plain
    good = smallest(schema)
    yield "a good value in an array", [good]
    yield "a good value in an object", {"value": good}
    if not isinstance(good, str):
        yield "a good value as JSON text", json.dumps(good)
    if isinstance(good, list) and good:
        yield "an item without its array", good[0]
        yield "an object in place of the array", {"0": good[0]}


def _lengths(schema: Schema) -> Iterator[Named]:
    most: int = schema["maxLength"]
    # From the nearest outwards: a limit that is off by one shows at the first.
    for length in dict.fromkeys((most + 1, most + 2, most + 100, math.ceil(most * 1.5), most * 2, most * 4)):
        for script, letter in SCRIPTS.items() if length <= LONGEST else ():
            yield f"of {length} {script}characters", letter * length
    if most < LONGEST:
        yield f"of {most + 1} characters, the last a space", LETTER * most + " "
        yield (
            f"of {most // 2 * 2 + 2} characters, every second an accent",
            "e\N{COMBINING ACUTE ACCENT}" * (most // 2 + 1),
        )


def _short_lengths(schema: Schema) -> Iterator[Named]:
    for length in dict.fromkeys((schema["minLength"] - 1, 0)):
        for script, letter in SCRIPTS.items():
            yield f"of {length} {script}characters", letter * max(length, 0)


def _beyond(schema: Schema) -> Iterator[Named]:
    for keyword, outwards in _OUTWARDS.items():
        for away in (0, 0.5, 1, 2, 100, 10**9) if keyword in schema else ():
            number = schema[keyword] + outwards * away
            yield f"of {_plain(number)}", _plain(number)


def _off_the_step(schema: Schema) -> Iterator[Named]:
    step, good = schema["multipleOf"], smallest(schema)
    for number in (good + 1, good - 1, good + step / 2, good + step / 4):
        yield f"of {_plain(number)}", _plain(number)


def _counts(schema: Schema) -> Iterator[Named]:
    most, least = schema.get("maxItems", 0), schema.get("minItems", 0)
    for count in dict.fromkeys((most + 1, most + 2, most * 2, most * 10, least - 1, 0)):
        if count <= LONGEST:
            yield f"of {count} items", items(schema, max(count, 0))


def _repeated(schema: Schema) -> Iterator[Named]:
    for item in several(schema.get("items", {})):
        for count in range(2, max(schema.get("minItems", 0), 2) + 1):
            yield f"of the same item {count} times", [item] * count
        return


def _plain(number: float) -> float:
    return int(number) if isinstance(number, float) and number.is_integer() else number


_OUTWARDS: Final = {"minimum": -1, "maximum": 1, "exclusiveMinimum": -1, "exclusiveMaximum": 1}

_PROPOSALS: Final[dict[str, Callable[[Schema], Iterator[Named]]]] = {
    "maxLength": _lengths,
    "minLength": _short_lengths,
    **dict.fromkeys(_OUTWARDS, _beyond),
    "multipleOf": _off_the_step,
    "maxItems": _counts,
    "minItems": _counts,
    "uniqueItems": _repeated,
    "format": lambda _: ((f"the text {text!r}", text) for text in NO_FORMAT),
    "pattern": lambda schema: near(smallest(schema)),
    # Its neighbours are left out: another version of a model may well be another model of the same service.
    "const": lambda schema: near(schema["const"]),
}
