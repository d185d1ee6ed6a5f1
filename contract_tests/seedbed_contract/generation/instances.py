"""Instances of a schema, built from its keywords."""

from __future__ import annotations

import math
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from seedbed_schemas import Schema as Judge
from seedbed_schemas.validation import FORMATS

from seedbed_contract.generation.places import types
from seedbed_contract.generation.wrong_values import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypothesis.strategies import SearchStrategy

    Schema = Mapping[str, Any]

_SHORT = 40
_UNIT = 5
_LARGEST = 2**53

characters: Final = st.characters(exclude_categories=["Cs"])
"""Characters that UTF-8 can say, those beyond the Basic Multilingual Plane among them."""

# Whole blocks, for Hypothesis tests each character against each interval: all letters of all scripts would be hundreds.
_BLOCKS: Final = (
    *((0x21, 0x7E), (0xC0, 0x17F), (0x5D0, 0x5EA), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3)),
    *((0x1F300, 0x1F5FF), (0x20000, 0x2A6DF)),
)
visible: Final = st.one_of([st.characters(min_codepoint=first, max_codepoint=last) for first, last in _BLOCKS])
"""Characters that no service takes for nothing: letters and signs of many scripts."""

_printed: Final = visible | st.characters(min_codepoint=0x300, max_codepoint=0x36F) | st.sampled_from(" \n")

json_values: Final[SearchStrategy[Any]] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-_LARGEST, _LARGEST)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(characters, max_size=_SHORT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(characters, max_size=8), inner, max_size=3),
    max_leaves=5,
)
"""Anything that JSON can say."""

uris: Final = st.builds(
    "{}://{}.invalid{}".format,
    st.sampled_from(["http", "https"]),
    st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True),
    st.from_regex(r"(/[A-Za-z0-9._~%-]{0,10}){0,3}", fullmatch=True).map(lambda path: path.replace("%", "%25")),
)
"""URIs that a service may be told to call."""


def instances(schema: Schema) -> SearchStrategy[Any]:
    """Return instances of a schema, with nothing in them that the schema does not speak of.

    Raises:
        ValueError: The schema uses a type or format for which there is no strategy.
    """
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = types(schema)
    if unknown := {kind for kind in kinds if kind not in _BY_TYPE}:
        raise ValueError(f"there is no strategy for the type {min(unknown)!r}")
    return st.one_of([_BY_TYPE[kind](schema) for kind in kinds])


def strings(schema: Schema) -> SearchStrategy[str]:
    """Return strings of any allowed length, the longest and the shortest among them."""
    judge = Judge({**schema, "type": "string"}, name="text")
    if schema.get("format") in FORMATS:
        if schema["format"] not in _BY_FORMAT:
            raise ValueError(f"there is no strategy for the format {schema['format']!r}")
        return _BY_FORMAT[schema["format"]].filter(judge.accepts)
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], alphabet=characters).filter(judge.accepts)
    least, most = schema.get("minLength", 0), schema.get("maxLength", max(schema.get("minLength", 0), _SHORT))
    least, most = max(least, min(1, most)), max(least, min(most, LONGEST))
    # A few characters over and over are as long as any other text, and much quicker to draw and to shrink.
    units = st.text(visible, min_size=1, max_size=_UNIT)
    texts = st.builds(repeated, units, st.integers(least, most))
    if least > _SHORT or most == 0:
        return texts
    short = st.text(_printed, min_size=least, max_size=min(most, _SHORT))
    # What trims a text would take a blank one for none, on which no schema says anything.
    return short.filter(lambda text: len(text.strip()) >= least) | texts


def repeated(unit: str, length: int) -> str:
    """Return a text of that length that is one unit over and over."""
    return (unit * (length // len(unit) + 1))[:length]


def _numbers(schema: Schema) -> SearchStrategy[float]:
    if "multipleOf" in schema:
        return _multiples(schema)
    least = schema.get("minimum", schema.get("exclusiveMinimum", -_LARGEST))
    most = schema.get("maximum", schema.get("exclusiveMaximum", _LARGEST))
    return st.floats(
        least,
        most,
        allow_nan=False,
        allow_infinity=False,
        exclude_min="exclusiveMinimum" in schema,
        exclude_max="exclusiveMaximum" in schema,
    )


def _integers(schema: Schema) -> SearchStrategy[int]:
    if "multipleOf" in schema:
        return _multiples(schema).map(int)
    least, most = _bounds(schema)
    return st.integers(math.ceil(least), math.floor(most))


def _multiples(schema: Schema) -> SearchStrategy[float]:
    step = schema["multipleOf"]
    least, most = _bounds(schema)
    return st.integers(math.ceil(least / step), math.floor(most / step)).map(lambda times: times * step)


def _bounds(schema: Schema) -> tuple[float, float]:
    """Return the least and the most whole number that a schema allows."""
    least = schema.get("minimum", schema.get("exclusiveMinimum", -_LARGEST) + ("exclusiveMinimum" in schema))
    most = schema.get("maximum", schema.get("exclusiveMaximum", _LARGEST) - ("exclusiveMaximum" in schema))
    return least, most


def _arrays(schema: Schema) -> SearchStrategy[list[Any]]:
    items = instances(schema["items"]) if "items" in schema else json_values
    least = max(schema.get("minItems", 0), min(1, schema.get("maxItems", 1)))
    unique = repr if schema.get("uniqueItems") else None
    return st.lists(items, min_size=least, max_size=schema.get("maxItems", least + 3), unique_by=unique)


def _objects(schema: Schema) -> SearchStrategy[dict[str, Any]]:
    properties, required = schema.get("properties", {}), schema.get("required", ())
    return st.fixed_dictionaries(
        {name: instances(properties.get(name, {})) for name in required},
        optional={name: instances(inside) for name, inside in properties.items() if name not in required},
    )


_BY_FORMAT: Final[dict[str, SearchStrategy[str]]] = {
    "uri": uris,
    "email": st.emails(),
    "uuid": st.uuids().map(str),
    "date": st.dates().map(str),
    "date-time": st.datetimes(timezones=st.just(UTC)).map(lambda time: time.isoformat()),
    "ipv4": st.ip_addresses(v=4).map(str),
    "ipv6": st.ip_addresses(v=6).map(str),
    "hostname": st.from_regex(r"[a-z][a-z0-9]{0,10}(\.[a-z][a-z0-9]{0,10}){0,2}", fullmatch=True),
}

_BY_TYPE: Final[dict[str, Callable[[Schema], SearchStrategy[Any]]]] = {
    "string": strings,
    "integer": _integers,
    "number": _numbers,
    "boolean": lambda _: st.booleans(),
    "null": lambda _: st.none(),
    "array": _arrays,
    "object": _objects,
}
