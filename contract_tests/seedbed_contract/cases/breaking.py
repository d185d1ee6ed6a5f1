"""Values that are wrong, or may be, for what a schema says: the judge decides which of them are, and why."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from seedbed_contract.cases.near import near, near_any, usual_others
from seedbed_contract.cases.places import LETTER, items, several, smallest, types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Schema = Mapping[str, Any]
    Named = tuple[str, Any]

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
