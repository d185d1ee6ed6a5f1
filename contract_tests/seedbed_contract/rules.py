"""The clauses of a schema that an instance can break, each with the values that break it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from seedbed_schemas import Schema as Judge
from seedbed_schemas.schema import FORMATS

from seedbed_contract.instances import characters, instances, json_values, types

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
_LONGEST_BAD_FORMAT = 100
_BAD_FORMATS = ("", "%", "not one", "//no.scheme/x", "1http://x", "http://a b", "http://[", "1.2.3.4.5", "@", "{")


@dataclass(frozen=True, slots=True)
class Rule:
    """One clause.

    Attributes:
        clause: Its id.
        path: Where in the instance it judges.
        values: What breaks it there.
    """

    clause: str
    path: tuple[str, ...]
    values: SearchStrategy[Any]


def rules_of(schema: Schema, *, name: str, path: tuple[str, ...] = ()) -> Iterator[Rule]:
    """Yield the clauses of a schema and of what is inside it.

    Args:
        schema: The schema.
        name: What the whole instance is called in clause ids.
        path: Where the schema stands in the whole.
    """
    field = ".".join(path) or name
    for keyword, breaker in _BREAKERS.items():
        if keyword in schema and _can_be_broken_alone(keyword, schema):
            yield Rule(f"{field}/{keyword}", path, breaker(schema))
    for missing in schema.get("required", ()):
        yield Rule(f"{field}/required/{missing}", (*path, missing), st.just(ABSENT))
    for property_name, inside in schema.get("properties", {}).items():
        yield from rules_of(inside, name=name, path=(*path, property_name))


def _can_be_broken_alone(keyword: str, schema: Schema) -> bool:
    """Tell whether an instance can break this rule of a schema and no other: beside a pattern a length seldom can."""
    if keyword == "format":
        return schema["format"] in FORMATS
    return not (keyword in {"minLength", "maxLength"} and "pattern" in schema)


def _of_another_type(schema: Schema) -> SearchStrategy[Any]:
    allowed = tuple(python for kind in types(schema["type"]) for python in _PYTHON_TYPES[kind])
    return json_values.filter(lambda value: not isinstance(value, allowed) or _is_boolean_as_number(value, allowed))


def _is_boolean_as_number(value: Any, allowed: tuple[type, ...]) -> bool:
    return isinstance(value, bool) and bool not in allowed


def _not_among(values: list[Any]) -> SearchStrategy[Any]:
    kind = type(values[0])
    others = st.text(characters, max_size=20) if kind is str else st.integers()
    return others.filter(lambda value: value not in values)


def _in_no_format(schema: Schema) -> SearchStrategy[str]:
    judge = Judge({"format": schema["format"]}, name="text")
    most = schema.get("maxLength", _LONGEST_BAD_FORMAT)
    return st.sampled_from([text for text in _BAD_FORMATS if not judge.accepts(text) and len(text) <= most])


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
    return instances(schema["items"]).map(lambda item: [item] * times)


def _too_long(schema: Schema) -> SearchStrategy[str]:
    most = schema["maxLength"]
    return st.builds(lambda char, more: char * (most + more), characters, st.integers(1, _SLIGHTLY))


def _too_many(schema: Schema) -> SearchStrategy[list[Any]]:
    most = schema["maxItems"]
    return st.lists(instances(schema["items"]), min_size=most + 1, max_size=most + _SLIGHTLY)


_PYTHON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int, float),  # a float without a fraction is an integer to JSON Schema
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}

_BREAKERS: Final[dict[str, Breaker]] = {
    "type": _of_another_type,
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
    "minItems": lambda schema: st.lists(instances(schema["items"]), max_size=schema["minItems"] - 1),
}
