"""Values that a careless service may accept although a schema forbids them.

Every function yields candidates with a description. Some candidates may be valid after all, so the caller validates
each one.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

from seedbed_contract.generation.locations import (
    LETTER,
    allowed_types,
    array_of_length,
    examples,
    has_alternatives,
    smallest,
    variants,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    Described = tuple[str, Any]
    Schema = Mapping[str, Any]

SCRIPTS: Final = {"": LETTER, "Chinese ": "山", "emoji ": "🌄"}
"""A character of each width: one, three and four bytes of UTF-8, the last of two UTF-16 units."""

LONGEST: Final = 1_000_000
"""The longest text or array that is generated; few services read a larger body."""

_UNKNOWN_FIELD: Final = "unknown_field"
_COMBINATIONS: Final = 8
_FULL_WIDTH: Final = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_SEPARATORS: Final = ("：", "/", "x", "-", "_", ",", " ", "")
_COMMON_GUESSES: Final = (
    *("auto", "default", "none", "undefined", "low", "medium", "standard", "ultra", "2K", "4K", "square", "5:4"),
    *("no/such-model", "*"),
)
_OTHER_TYPES: Final[tuple[Described, ...]] = (
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

WRONG_FORMATS: Final = (
    *("", "not a uri", "/callback", "//example.com/callback", "example.com/callback", "callback", "?a=b", "#done"),
    *("www.example.com", "http", "./callback", "not-a-date", "2026-13-01", "2026-02-30", "@example.com", "a@"),
    *("256.1.1.1", "1.2.3", "::g", "00000000-0000-4000-8000", "25:00:00", "-", "a b", "["),
)
"""Texts that violate some format. A lenient parser may take none of them for a URL with a scheme and a host."""


def wrong(schema: Schema, others: Sequence[Any] = ()) -> Iterator[Described]:
    """Yield values that may be wrong for a schema, those next to its limits first.

    Args:
        schema: The schema.
        others: Values that are allowed elsewhere in the request.
    """
    for keyword, propose in _BY_KEYWORD.items():
        if keyword in schema:
            yield from propose(schema)
    if "enum" in schema:
        yield from near_enum(schema["enum"], others)
    if has_alternatives(schema):
        yield from (described for variant in variants(schema) for described in wrong(variant, others))
    if "enum" in schema or "const" in schema:
        yield "the empty text", ""
        yield from ((f"the word {word!r}", word) for word in _COMMON_GUESSES)
    if allowed_types(schema) != ["object"] or "type" in schema or has_alternatives(schema):
        yield from of_other_types(schema)


def near_enum(allowed: Sequence[Any], others: Sequence[Any]) -> Iterator[Described]:
    """Yield values near the options of an enum, and other ways to miss them.

    Args:
        allowed: The options.
        others: Values that are allowed elsewhere in the request.
    """
    for value in allowed:
        yield from near(value)
        yield from neighbours(value) if isinstance(value, str) else ()
    if isinstance(allowed[0], str):
        for mark in re.findall(r"[^A-Za-z0-9]", allowed[0])[:1]:
            for other in _SEPARATORS:
                yield f"{allowed[0]!r} with {other!r} for {mark!r}", allowed[0].replace(mark, other)
    yield "all options joined by commas", ",".join(map(str, allowed))
    yield from ((f"the value {value!r} of another field", value) for value in others)
    yield from ((f"the index {index} as text", str(index)) for index in range(len(allowed) + 1))


def near(value: Any) -> Iterator[Described]:
    """Yield values near an allowed one."""
    if isinstance(value, str):
        yield from near_text(value)
        return
    yield f"{value!r} as text", str(value)
    yield f"{value!r} in an array", [value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield f"one more than {value!r}", value + 1
        yield f"one less than {value!r}", value - 1
        yield f"the negative of {value!r}", -value
        yield f"{value!r} and a half", value + 0.5


def near_text(value: str) -> Iterator[Described]:
    """Yield a text as callers misspell it: in another case, with spaces, in quotes, cut short."""
    text, half = repr(value), len(value) // 2
    yield f"{text} in upper case", value.upper()
    yield f"{text} in lower case", value.lower()
    yield f"{text} with a first capital", value.capitalize()
    yield f"a space before {text}", f" {value}"
    yield f"a space after {text}", f"{value} "
    yield f"a space in {text}", f"{value[:half]} {value[half:]}"
    yield f"a line break after {text}", f"{value}\n"
    yield f"a NUL after {text}", f"{value}\0"
    yield f"{text} in full-width characters", value.translate(_FULL_WIDTH)
    yield f"{text} without its last character", value[:-1]
    yield f"{text} without its first character", value[1:]
    yield f"{text} with one more character", f"{value}0"
    yield f"{text} with a character before it", f"0{value}"
    yield f"{text} in quotes", f'"{value}"'
    yield f"{text} in an array", [value]


def neighbours(value: str) -> Iterator[Described]:
    """Yield a text with each of its numbers raised by one, and with its parts reversed."""
    for match in re.finditer(r"\d+", value):
        changed = f"{value[: match.start()]}{int(match[0]) + 1}{value[match.end() :]}"
        yield f"the neighbour {changed!r} of {value!r}", changed
    parts = re.split(r"([^A-Za-z0-9]+)", value)
    yield f"the parts of {value!r} in reverse", "".join(reversed(parts))
    yield f"the first part of {value!r}", parts[0]


def of_other_types(schema: Schema) -> Iterator[Described]:
    """Yield values of other types, among them a valid value in the wrong container."""
    for description, value in _OTHER_TYPES:
        # Any text may be a valid string, and those that are not were proposed before.
        if allowed_types(schema) != ["string"] or not isinstance(value, str):
            yield description, value
    good = smallest(schema)
    yield "a valid value in an array", [good]
    yield "a valid value in an object", {"value": good}
    if not isinstance(good, str):
        yield "a valid value as JSON text", json.dumps(good)
    if isinstance(good, list) and good:
        yield "an item without its array", good[0]
        yield "an object in place of the array", {"0": good[0]}


def too_long(schema: Schema) -> Iterator[Described]:
    """Yield texts above ``maxLength`` in every script."""
    most: int = schema["maxLength"]
    # The nearest lengths first, so that the first finding shows a limit that is off by one.
    for length in dict.fromkeys((most + 1, most + 2, most + 100, math.ceil(most * 1.5), most * 2, most * 4)):
        for script, letter in SCRIPTS.items() if length <= LONGEST else ():
            yield f"of {length} {script}characters", letter * length
    if most < LONGEST:
        # A service that trims, or that normalises to NFC, counts fewer characters in these.
        pairs = most // 2 + 1
        yield f"of {most + 1} characters, the last a space", LETTER * most + " "
        yield f"of {pairs * 2} characters, every second an accent", "e\N{COMBINING ACUTE ACCENT}" * pairs


def too_short(schema: Schema) -> Iterator[Described]:
    """Yield texts below ``minLength`` in every script."""
    for length in dict.fromkeys((schema["minLength"] - 1, 0)):
        for script, letter in SCRIPTS.items():
            yield f"of {length} {script}characters", letter * max(length, 0)


def out_of_bounds(schema: Schema) -> Iterator[Described]:
    """Yield numbers at and beyond each bound."""
    for keyword, outwards in _OUTWARDS.items():
        for distance in (0, 0.5, 1, 2, 100, 10**9) if keyword in schema else ():
            number = _as_integer(schema[keyword] + outwards * distance)
            yield f"of {number}", number


def between_multiples(schema: Schema) -> Iterator[Described]:
    """Yield numbers next to a valid multiple."""
    step, good = schema["multipleOf"], smallest(schema)
    for number in map(_as_integer, (good + 1, good - 1, good + step / 2, good + step / 4)):
        yield f"of {number}", number


def wrong_counts(schema: Schema) -> Iterator[Described]:
    """Yield arrays with too many items, and with too few."""
    most, least = schema.get("maxItems", 0), schema.get("minItems", 0)
    for count in dict.fromkeys((most + 1, most + 2, most * 2, most * 10, least - 1, 0)):
        if count <= LONGEST:
            yield f"of {count} items", array_of_length(schema, max(count, 0))


def repeated_items(schema: Schema) -> Iterator[Described]:
    """Yield arrays that repeat one item."""
    for item in itertools.islice(examples(schema.get("items", {})), 1):
        for count in range(2, max(schema.get("minItems", 0), 2) + 1):
            yield f"of the same item {count} times", [item] * count


def unknown_fields(schema: Schema) -> Iterator[Described]:
    """Yield objects with a field that a schema does not name, in several spellings of its own fields."""
    good, fields = smallest(schema), schema.get("properties", {})
    if isinstance(good, dict):
        for name in (
            _UNKNOWN_FIELD,
            *(changed for field in fields for changed in (field.upper(), f"{field}s", f"_{field}")),
        ):
            yield f"with an unknown field {name!r}", {**good, name: LETTER}


def differing_fields(schema: Schema) -> Iterator[Described]:
    """Yield objects with no field, with one and with several of those that a schema names."""
    fields = schema.get("properties", {})
    yield "with no field", {}
    for count in (1, 2, len(fields)):
        for names in itertools.islice(itertools.combinations(fields, count), _COMBINATIONS):
            yield f"with only {' and '.join(names)}", {name: smallest(fields[name]) for name in names}


def _as_integer(number: float) -> float:
    """Return 3 for 3.0, which JSON Schema treats alike and a parser may not."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


_OUTWARDS: Final = {"minimum": -1, "maximum": 1, "exclusiveMinimum": -1, "exclusiveMaximum": 1}

_BY_KEYWORD: Final[dict[str, Callable[[Schema], Iterable[Described]]]] = {
    "maxLength": too_long,
    "minLength": too_short,
    **dict.fromkeys(_OUTWARDS, out_of_bounds),
    "multipleOf": between_multiples,
    "maxItems": wrong_counts,
    "minItems": wrong_counts,
    "uniqueItems": repeated_items,
    "format": lambda _: ((f"the text {text!r}", text) for text in WRONG_FORMATS),
    "pattern": lambda schema: near(smallest(schema)),
    # Without neighbours: another version number may name another model of the same service.
    "const": lambda schema: near(schema["const"]),
    "additionalProperties": unknown_fields,
    "properties": lambda schema: differing_fields(schema) if has_alternatives(schema) else (),
}
