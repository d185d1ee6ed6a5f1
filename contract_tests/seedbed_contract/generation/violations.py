"""The clauses of a schema that a value can violate, each with a strategy for values that violate it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from seedbed_schemas import Schema as Validator
from seedbed_schemas.validation import FORMATS

from seedbed_contract.generation.instances import LARGEST, characters, instances, long_texts
from seedbed_contract.generation.locations import (
    ABSENT,
    Path,
    allowed_types,
    array_of_length,
    locations,
    variants,
)
from seedbed_contract.generation.wrong_values import LONGEST, WRONG_FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hypothesis.strategies import SearchStrategy

    Schema = Mapping[str, Any]

IMPLIED_BY_TYPE: Final = frozenset({"enum", "const", "allOf", "anyOf", "oneOf"})
"""Keywords that a value of a wrong type violates as well, wherever they state what a value is."""

_TYPES_OF_KEYWORDS: Final = {
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), ("string",)),
    **dict.fromkeys(("minItems", "maxItems", "uniqueItems"), ("array",)),
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), ("integer", "number")
    ),
    "additionalProperties": ("object",),
}
_FEW = 5
_LARGE = 2**40
_LONGEST_WRONG_FORMAT = 100
_NO_COLON: Final = "abc/.-_?#&="


@dataclass(frozen=True, slots=True)
class SchemaRule:
    """One clause of a schema.

    Attributes:
        clause: ID of the clause.
        path: The location that the clause constrains.
        values: A strategy for values that violate the clause at this location.
    """

    clause: str
    path: Path
    values: SearchStrategy[Any]


def schema_rules(schema: Schema) -> Iterator[SchemaRule]:
    """Yield the clauses of a schema and its subschemas that a value can violate."""
    for path, node in locations(schema):
        for keyword, violate in _BY_KEYWORD.items():
            if keyword in node.schema and can_be_violated_alone(keyword, node.schema):
                # A value of a wrong type breaks these keywords, too, so nothing violates the type alone.
                left_out = {keyword, *(IMPLIED_BY_TYPE if keyword == "type" else ())}
                others = Validator({name: node.schema[name] for name in node.schema.keys() - left_out}, name="value")
                yield SchemaRule(f"{node.id}/{keyword}", path, violate(node.schema).filter(others.accepts))
        for missing in node.schema.get("required", ()):
            yield SchemaRule(f"{node.id}/required/{missing}", (*path, missing), st.just(ABSENT))


def can_be_violated_alone(keyword: str, schema: Schema) -> bool:
    """Return whether a value may violate this keyword of a schema and no other."""
    if keyword in {"minLength", "minItems", "minProperties"} and not schema[keyword]:
        return False
    if keyword in _TYPES_OF_KEYWORDS and set(allowed_types(schema)).isdisjoint(_TYPES_OF_KEYWORDS[keyword]):
        return False
    if keyword == "format":
        return schema["format"] in FORMATS
    if keyword in {"minLength", "maxLength"} and ("pattern" in schema or schema.get("format") in FORMATS):
        return False
    if keyword == "maxItems" and schema[keyword] < LONGEST:
        # An array of unique items cannot be longer than there are distinct items.
        return bool(len(array_of_length(schema, schema[keyword] + 1)) > schema[keyword])
    return keyword not in {"maxLength", "maxItems"} or bool(schema[keyword] < LONGEST)


def of_other_types(*allowed: str) -> SearchStrategy[Any]:
    """Return a strategy for values of every type except the given ones."""
    excluded = {*allowed, *(("integer", "fraction") if "number" in allowed else ())}
    return st.one_of([values for kind, values in _BY_TYPE.items() if kind not in excluded])


def none_of(allowed: list[Any]) -> SearchStrategy[Any]:
    """Return a strategy for values that are not among the allowed ones."""
    others = st.integers() if isinstance(allowed[0], int | float) else st.text(characters, max_size=20)
    return others.filter(lambda value: value not in allowed)


def wrong_format(schema: Schema) -> SearchStrategy[str]:
    """Return a strategy for texts that even a lenient parser does not take for the format of a schema."""
    validator = Validator({"format": schema["format"]}, name="text")
    most = schema.get("maxLength", _LONGEST_WRONG_FORMAT)
    listed = st.sampled_from([text for text in WRONG_FORMATS if not validator.accepts(text) and len(text) <= most])
    if schema["format"] != "uri":
        return listed
    # A URI needs a scheme, and a scheme ends with a colon, so even a lenient parser takes none of these.
    random = st.text(_NO_COLON, max_size=min(most, _FEW * 4))
    return listed | random.filter(lambda text: not validator.accepts(text))


def wrong_pattern(schema: Schema) -> SearchStrategy[str]:
    """Return a strategy for texts of an allowed length and format that do not match the pattern of a schema."""
    lengths = {keyword: value for keyword, value in schema.items() if keyword in {"minLength", "maxLength", "format"}}
    validator = Validator({"pattern": schema["pattern"]}, name="text")
    return instances({**lengths, "type": "string"}).filter(lambda text: not validator.accepts(text))


def between_multiples(schema: Schema) -> SearchStrategy[float]:
    """Return a strategy for numbers within the bounds of a schema that are not multiples."""
    others = {keyword: value for keyword, value in schema.items() if keyword != "multipleOf"}
    validator = Validator({"multipleOf": schema["multipleOf"]}, name="number")
    return instances(others).filter(lambda number: not validator.accepts(number))


def repeated_items(schema: Schema) -> SearchStrategy[list[Any]]:
    """Return a strategy for arrays that repeat one item."""
    count = max(schema.get("minItems", 0), 2)
    return instances(schema.get("items", {})).map(lambda item: [item] * count)


def unlike_alternatives(schema: Schema) -> SearchStrategy[Any]:
    """Return a strategy for values that break ``allOf``, ``anyOf`` or ``oneOf``, some of them nearly valid."""
    valid = Validator(dict(schema), name="value")
    plain = {name: value for name, value in schema.items() if name not in IMPLIED_BY_TYPE}
    near = [rule.values for variant in variants(schema) for rule in schema_rules(variant) if not rule.path]
    several = [instances(plain)] if "type" in plain else []
    return st.one_of([*near, *several, *_BY_TYPE.values()]).filter(lambda value: not valid.accepts(value))


def with_unknown_fields(schema: Schema) -> SearchStrategy[dict[str, Any]]:
    """Return a strategy for objects with one more field than a schema names."""
    names = st.text(characters, min_size=1, max_size=8).filter(lambda name: name not in schema.get("properties", {}))
    return st.builds(lambda whole, name, value: {**whole, name: value}, instances(schema), names, _SCALARS)


def too_long(schema: Schema) -> SearchStrategy[str]:
    """Return a strategy for texts above ``maxLength``."""
    most = schema["maxLength"]
    # Half of the texts are just above the limit, where a wrong comparison shows.
    excess = st.integers(1, _FEW) | st.integers(1, max(most, _FEW))
    return long_texts(excess.map(lambda more: most + more))


def wrong_count(schema: Schema, least: int, most: int) -> SearchStrategy[list[Any]]:
    """Return a strategy for arrays of the given lengths, whose items are valid."""
    # By repr, because items may be lists or objects, which cannot be hashed.
    unique = repr if schema.get("uniqueItems") else None
    items = instances(schema.get("items", {}))
    return st.lists(items, min_size=max(least, 0), max_size=max(most, 0), unique_by=unique)


def _multiples_of(schema: Schema, least: int, most: int) -> SearchStrategy[float]:
    """Return a strategy for numbers in a range that break no ``multipleOf`` of a schema."""
    step = schema.get("multipleOf", 1)
    factors = st.integers(math.ceil(least / step), math.floor(most / step))
    return factors.map(lambda factor: factor * step)


_SCALARS: Final = st.none() | st.booleans() | st.integers(-_LARGE, _LARGE) | st.text(characters, max_size=_FEW)

_BY_TYPE: Final[dict[str, SearchStrategy[Any]]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "integer": st.integers(-_LARGE, _LARGE),
    "fraction": st.integers(-_LARGE, _LARGE).map(lambda number: number + 0.5),  # JSON Schema takes 1.0 for an integer
    "string": st.text(characters, max_size=_FEW),
    "array": st.lists(_SCALARS, max_size=2) | _SCALARS.map(lambda value: [[value]]),
    "object": st.builds(lambda name, value: {name: value}, st.text(characters, max_size=_FEW), _SCALARS),
}

_BY_KEYWORD: Final[dict[str, Callable[[Schema], SearchStrategy[Any]]]] = {
    "type": lambda schema: of_other_types(*allowed_types(schema)),
    "const": lambda schema: none_of([schema["const"]]),
    "enum": lambda schema: none_of(schema["enum"]),
    **dict.fromkeys(("allOf", "anyOf", "oneOf"), unlike_alternatives),
    "additionalProperties": with_unknown_fields,
    "format": wrong_format,
    "pattern": wrong_pattern,
    "multipleOf": between_multiples,
    "uniqueItems": repeated_items,
    "exclusiveMaximum": lambda schema: _multiples_of(schema, math.ceil(schema["exclusiveMaximum"]), LARGEST),
    "exclusiveMinimum": lambda schema: _multiples_of(schema, -LARGEST, math.floor(schema["exclusiveMinimum"])),
    "maxLength": too_long,
    "minLength": lambda schema: st.text(characters, max_size=max(schema["minLength"] - 1, 0)),
    "maximum": lambda schema: _multiples_of(schema, math.floor(schema["maximum"]) + 1, LARGEST),
    "minimum": lambda schema: _multiples_of(schema, -LARGEST, math.ceil(schema["minimum"]) - 1),
    "maxItems": lambda schema: wrong_count(schema, schema["maxItems"] + 1, schema["maxItems"] + _FEW),
    "minItems": lambda schema: wrong_count(schema, 0, schema["minItems"] - 1),
}
