"""Hypothesis strategies for valid instances of a JSON Schema.

hypothesis-jsonschema does not work with current Hypothesis, and it knows nothing of limits that are worth trying, so
the strategies are built here from the keywords of the schema.
"""

from __future__ import annotations

import itertools
import math
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from seedbed_schemas import Schema as Validator
from seedbed_schemas.validation import FORMATS

from seedbed_contract.generation.locations import allowed_types, examples, has_alternatives, variants
from seedbed_contract.generation.wrong_values import LONGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypothesis.strategies import SearchStrategy

    Schema = Mapping[str, Any]

_SHORT: Final = 40
_UNIT: Final = 5
_LISTED: Final = 8
LARGEST: Final = 2**53
"""Beyond it, a parser that reads numbers as IEEE 754 doubles rounds integers (RFC 8259, section 6)."""

characters: Final = st.characters(exclude_categories=["Cs"])
"""Characters that UTF-8 can encode, including those beyond the Basic Multilingual Plane."""

# A few whole blocks: Hypothesis tests each character against each interval, and the letters of all scripts would be
# hundreds of intervals.
_BLOCKS: Final = (
    *((0x21, 0x7E), (0xC0, 0x17F), (0x5D0, 0x5EA), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3)),
    *((0x1F300, 0x1F5FF), (0x20000, 0x2A6DF)),
)
visible: Final = st.one_of([st.characters(min_codepoint=first, max_codepoint=last) for first, last in _BLOCKS])
"""Letters and signs of many scripts, which no service trims or treats as blank."""

_printed: Final = visible | st.characters(min_codepoint=0x300, max_codepoint=0x36F) | st.sampled_from(" \n")

json_values: Final[SearchStrategy[Any]] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-LARGEST, LARGEST)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(characters, max_size=_SHORT),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(characters, max_size=8), inner, max_size=3),
    max_leaves=5,
)
"""Any JSON value."""

uris: Final = st.builds(
    "{}://{}.invalid{}".format,
    st.sampled_from(["http", "https"]),
    st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True),
    # A percent sign has to start an escape.
    st.from_regex(r"(/[A-Za-z0-9._~%-]{0,10}){0,3}", fullmatch=True).map(lambda path: path.replace("%", "%25")),
)
"""URLs that a service may accept; the domain ``.invalid`` never resolves (RFC 2606)."""


def instances(schema: Schema) -> SearchStrategy[Any]:
    """Return a strategy for valid instances that have only the fields the schema names.

    Raises:
        ValueError: The schema uses a type or format for which there is no strategy.
    """
    if not has_alternatives(schema) and (unknown := {name for name in allowed_types(schema) if name not in _BY_TYPE}):
        raise ValueError(f"there is no strategy for the type {min(unknown)!r}")
    validator = Validator(dict(schema), name="value")
    if has_alternatives(schema):
        made = st.one_of([instances(variant) for variant in variants(schema)])
    elif "const" in schema:
        return st.just(schema["const"])
    elif "enum" in schema:
        return st.sampled_from([value for value in schema["enum"] if validator.accepts(value)])
    else:
        made = st.one_of([_BY_TYPE[name](schema) for name in allowed_types(schema)])
    # The strategies do not know every keyword, such as minProperties.
    return made.filter(validator.accepts)


def long_texts(lengths: SearchStrategy[int]) -> SearchStrategy[str]:
    """Return a strategy for texts of the given lengths that repeat a few characters."""
    # Such a text is as long as any other, and Hypothesis draws and shrinks it much faster.
    units = st.text(visible, min_size=1, max_size=_UNIT)
    return st.builds(lambda unit, length: (unit * (length // len(unit) + 1))[:length], units, lengths)


def strings(schema: Schema) -> SearchStrategy[str]:
    """Return a strategy for strings of every allowed length, including the shortest and the longest."""
    if schema.get("format") in FORMATS:
        if schema["format"] not in _BY_FORMAT:
            raise ValueError(f"there is no strategy for the format {schema['format']!r}")
        # Few random texts of a format also match a pattern.
        listed = list(itertools.islice(examples({**schema, "type": "string"}), _LISTED)) if "pattern" in schema else []
        return st.sampled_from(listed) if listed else _BY_FORMAT[schema["format"]]
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], alphabet=characters)
    least, most = schema.get("minLength", 0), schema.get("maxLength", max(schema.get("minLength", 0), _SHORT))
    least, most = max(least, min(1, most)), max(least, min(most, LONGEST))
    texts = long_texts(st.integers(least, most))
    if least > _SHORT or most == 0:
        return texts
    short = st.text(_printed, min_size=least, max_size=min(most, _SHORT))
    # A service may trim texts, and no schema says what a blank one counts as.
    return short.filter(lambda text: len(text.strip()) >= least) | texts


def numbers(schema: Schema) -> SearchStrategy[float]:
    """Return a strategy for finite numbers within the bounds of a schema."""
    if "multipleOf" in schema:
        return _multiples(schema)
    return st.floats(
        float(schema.get("minimum", schema.get("exclusiveMinimum", -LARGEST))),
        float(schema.get("maximum", schema.get("exclusiveMaximum", LARGEST))),
        allow_nan=False,
        allow_infinity=False,
        exclude_min="exclusiveMinimum" in schema,
        exclude_max="exclusiveMaximum" in schema,
    )


def integers(schema: Schema) -> SearchStrategy[int]:
    """Return a strategy for integers within the bounds of a schema."""
    if "multipleOf" in schema:
        return _multiples(schema).map(int)
    least, most = _whole_bounds(schema)
    return st.integers(math.ceil(least), math.floor(most))


def _multiples(schema: Schema) -> SearchStrategy[float]:
    step = schema["multipleOf"]
    least, most = _whole_bounds(schema)
    return st.integers(math.ceil(least / step), math.floor(most / step)).map(lambda factor: factor * step)


def _whole_bounds(schema: Schema) -> tuple[float, float]:
    """Return the bounds between which every whole number is valid."""
    least = schema.get("minimum", schema.get("exclusiveMinimum", -LARGEST) + ("exclusiveMinimum" in schema))
    most = schema.get("maximum", schema.get("exclusiveMaximum", LARGEST) - ("exclusiveMaximum" in schema))
    return least, most


def arrays(schema: Schema) -> SearchStrategy[list[Any]]:
    """Return a strategy for arrays, not empty ones if the schema allows items."""
    items = instances(schema["items"]) if "items" in schema else json_values
    least = max(schema.get("minItems", 0), min(1, schema.get("maxItems", 1)))
    # By repr, because items may be lists or objects, which cannot be hashed.
    unique = repr if schema.get("uniqueItems") else None
    return st.lists(items, min_size=least, max_size=schema.get("maxItems", least + 3), unique_by=unique)


def objects(schema: Schema) -> SearchStrategy[dict[str, Any]]:
    """Return a strategy for objects with all required fields and some of the optional ones."""
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
    # RFC 3339 demands an offset, which a naive time does not have.
    "date-time": st.datetimes(timezones=st.just(UTC)).map(lambda time: time.isoformat()),
    "ipv4": st.ip_addresses(v=4).map(str),
    "ipv6": st.ip_addresses(v=6).map(str),
    "hostname": st.from_regex(r"[a-z][a-z0-9]{0,10}(\.[a-z][a-z0-9]{0,10}){0,2}", fullmatch=True),
}

_BY_TYPE: Final[dict[str, Callable[[Schema], SearchStrategy[Any]]]] = {
    "string": strings,
    "integer": integers,
    "number": numbers,
    "boolean": lambda _: st.booleans(),
    "null": lambda _: st.none(),
    "array": arrays,
    "object": objects,
}
