"""The clauses of a schema that an instance can break, each with the values that break it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from seedbed_schemas import Schema as Judge
from seedbed_schemas.validation import FORMATS

from seedbed_contract.generation.instances import characters, instances, repeated, visible
from seedbed_contract.generation.places import Path, items, places, types
from seedbed_contract.generation.wrong_values import LONGEST, NO_FORMAT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hypothesis.strategies import SearchStrategy

    Schema = Mapping[str, Any]
    Breaker = Callable[[Schema], SearchStrategy[Any]]

ABSENT: Final = object()
"""Stands for a field that is left out."""

_SLIGHTLY = 5
_TWICE = 2
_LARGEST = 2**53
_LARGE = 2**40
_LONGEST_BAD_FORMAT = 100
_NO_SCHEME: Final = "abc/.-_?#&="


@dataclass(frozen=True, slots=True)
class SchemaRule:
    """One clause.

    Attributes:
        clause: Its id.
        path: Where in the instance it judges.
        values: What breaks it there.
    """

    clause: str
    path: Path
    values: SearchStrategy[Any]


def schema_rules(schema: Schema) -> Iterator[SchemaRule]:
    """Yield the clauses of a request's schema and of what is inside it."""
    for path, node in places(schema):
        for keyword, breaker in _BREAKERS.items():
            if keyword in node.schema and _can_be_broken_alone(keyword, node.schema):
                yield SchemaRule(f"{node.id}/{keyword}", path, breaker(node.schema))
        for missing in node.schema.get("required", ()):
            yield SchemaRule(f"{node.id}/required/{missing}", (*path, missing), st.just(ABSENT))


def _can_be_broken_alone(keyword: str, schema: Schema) -> bool:
    """Tell whether an instance can break this rule of a schema and no other."""
    if keyword == "format":
        return schema["format"] in FORMATS
    if keyword in {"minLength", "maxLength"} and ("pattern" in schema or schema.get("format") in FORMATS):
        return False
    if keyword == "maxItems" and schema[keyword] < LONGEST:
        return bool(len(items(schema, schema[keyword] + 1)) > schema[keyword])
    return keyword not in {"maxLength", "maxItems"} or bool(schema[keyword] < LONGEST)


def of_no_type(*allowed: str) -> SearchStrategy[Any]:
    """Return a strategy for values of all types but these."""
    meant = {*allowed, *(("integer", "fraction") if "number" in allowed else ())}
    return st.one_of([values for kind, values in _BY_KIND.items() if kind not in meant])


def _not_among(values: list[Any]) -> SearchStrategy[Any]:
    others = st.text(characters, max_size=20) if isinstance(values[0], str) else st.integers()
    return others.filter(lambda value: value not in values)


def _in_no_format(schema: Schema) -> SearchStrategy[str]:
    judge = Judge({"format": schema["format"]}, name="text")
    most = schema.get("maxLength", _LONGEST_BAD_FORMAT)
    listed = st.sampled_from([text for text in NO_FORMAT if not judge.accepts(text) and len(text) <= most])
    if schema["format"] != "uri":
        return listed
    # Without a colon there is no scheme, and without a scheme no reader has a URI.
    return listed | st.text(_NO_SCHEME, max_size=min(most, _SLIGHTLY * 4)).filter(lambda text: not judge.accepts(text))


def _not_matching(schema: Schema) -> SearchStrategy[str]:
    lengths = {keyword: value for keyword, value in schema.items() if keyword in {"minLength", "maxLength"}}
    judge = Judge({"pattern": schema["pattern"]}, name="text")
    return instances({**lengths, "type": "string"}).filter(lambda text: not judge.accepts(text))


def _off_the_step(schema: Schema) -> SearchStrategy[float]:
    others = {keyword: value for keyword, value in schema.items() if keyword != "multipleOf"}
    judge = Judge({"multipleOf": schema["multipleOf"]}, name="number")
    return instances(others).filter(lambda number: not judge.accepts(number))


def _repeated(schema: Schema) -> SearchStrategy[list[Any]]:
    times = max(schema.get("minItems", 0), _TWICE)
    return instances(schema.get("items", {})).map(lambda item: [item] * times)


def _too_long(schema: Schema) -> SearchStrategy[str]:
    most = schema["maxLength"]
    # A few characters over and over are as long as any other text, and much quicker to draw and to shrink.
    units = st.text(visible, min_size=1, max_size=_SLIGHTLY)
    more = st.integers(1, _SLIGHTLY) | st.integers(1, max(most, _SLIGHTLY))
    return st.builds(lambda unit, more: repeated(unit, most + more), units, more)


def _too_many(schema: Schema) -> SearchStrategy[list[Any]]:
    most = schema["maxItems"]
    inside, unique = instances(schema.get("items", {})), repr if schema.get("uniqueItems") else None
    return st.lists(inside, min_size=most + 1, max_size=most + _SLIGHTLY, unique_by=unique)


def _too_few(schema: Schema) -> SearchStrategy[list[Any]]:
    inside, unique = instances(schema.get("items", {})), repr if schema.get("uniqueItems") else None
    return st.lists(inside, max_size=schema["minItems"] - 1, unique_by=unique)


_SCALARS: Final = st.none() | st.booleans() | st.integers(-_LARGE, _LARGE) | st.text(characters, max_size=_SLIGHTLY)

_BY_KIND: Final[dict[str, SearchStrategy[Any]]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "integer": st.integers(-_LARGE, _LARGE),
    "fraction": st.integers(-_LARGE, _LARGE).map(lambda number: number + 0.5),  # 1.0 is an integer to JSON Schema
    "string": st.text(characters, max_size=_SLIGHTLY),
    "array": st.lists(_SCALARS, max_size=_TWICE) | _SCALARS.map(lambda value: [[value]]),
    "object": st.builds(lambda name, value: {name: value}, st.text(characters, max_size=_SLIGHTLY), _SCALARS),
}

_BREAKERS: Final[dict[str, Breaker]] = {
    "type": lambda schema: of_no_type(*types(schema)),
    "const": lambda schema: _not_among([schema["const"]]),
    "enum": lambda schema: _not_among(schema["enum"]),
    "format": _in_no_format,
    "pattern": _not_matching,
    "multipleOf": _off_the_step,
    "uniqueItems": _repeated,
    "exclusiveMaximum": lambda schema: st.integers(math.ceil(schema["exclusiveMaximum"]), _LARGEST),
    "exclusiveMinimum": lambda schema: st.integers(-_LARGEST, math.floor(schema["exclusiveMinimum"])),
    "maxLength": _too_long,
    "minLength": lambda schema: st.text(characters, max_size=schema["minLength"] - 1),
    "maximum": lambda schema: st.integers(math.floor(schema["maximum"]) + 1, _LARGEST),
    "minimum": lambda schema: st.integers(-_LARGEST, math.ceil(schema["minimum"]) - 1),
    "maxItems": _too_many,
    "minItems": _too_few,
}
