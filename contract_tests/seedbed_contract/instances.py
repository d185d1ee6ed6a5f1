"""Instances of a schema, built from its keywords."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypothesis.strategies import SearchStrategy

    Schema = Mapping[str, Any]

_SHORT = 40
_LARGEST = 2**53

characters: Final = st.characters(exclude_categories=["Cs"])
"""Characters that UTF-8 can say, those beyond the Basic Multilingual Plane among them."""

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
    "{}://{}.example{}".format,
    st.sampled_from(["http", "https"]),
    st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True),
    st.from_regex(r"(/[A-Za-z0-9._~%-]{0,10}){0,3}", fullmatch=True).map(lambda path: path.replace("%", "%25")),
)
"""URIs that a service may be told to call."""


def instances(schema: Schema) -> SearchStrategy[Any]:
    """Return instances of a schema.

    Raises:
        ValueError: The schema uses a type or format for which there is no strategy.
    """
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] not in _BY_TYPE:
        raise ValueError(f"there is no strategy for the type {schema['type']!r}")
    return _BY_TYPE[schema["type"]](schema)


def strings(schema: Schema) -> SearchStrategy[str]:
    """Return strings of any allowed length, the longest and the shortest among them."""
    if "format" in schema:
        if schema["format"] not in _BY_FORMAT:
            raise ValueError(f"there is no strategy for the format {schema['format']!r}")
        return _BY_FORMAT[schema["format"]]
    least, most = schema.get("minLength", 0), schema.get("maxLength", _SHORT)
    short = st.text(characters, min_size=least, max_size=max(least, min(most, _SHORT)))
    # One character many times over is as long as any other text, and much quicker to draw and to shrink.
    return short | characters.map(lambda character: character * most)


def _numbers(schema: Schema) -> SearchStrategy[float]:
    least, most = schema.get("minimum", -_LARGEST), schema.get("maximum", _LARGEST)
    return st.floats(least, most, allow_nan=False, allow_infinity=False)


def _integers(schema: Schema) -> SearchStrategy[int]:
    return st.integers(schema.get("minimum", -_LARGEST), schema.get("maximum", _LARGEST))


def _arrays(schema: Schema) -> SearchStrategy[list[Any]]:
    items = instances(schema["items"]) if "items" in schema else json_values
    least = schema.get("minItems", 0)
    return st.lists(items, min_size=least, max_size=schema.get("maxItems", least + 3))


def _objects(schema: Schema) -> SearchStrategy[dict[str, Any]]:
    """Return objects with their required fields, some of the others, and some that the schema does not name."""
    properties, required = schema.get("properties", {}), schema.get("required", ())
    named = st.fixed_dictionaries(
        {name: instances(properties[name]) for name in required},
        optional={name: instances(inside) for name, inside in properties.items() if name not in required},
    )
    names = st.text(characters, max_size=8).filter(lambda name: name not in properties)
    return st.builds(lambda known, more: {**known, **more}, named, st.dictionaries(names, json_values, max_size=2))


_BY_FORMAT: Final = {"uri": uris}

_BY_TYPE: Final[dict[str, Callable[[Schema], SearchStrategy[Any]]]] = {
    "string": strings,
    "integer": _integers,
    "number": _numbers,
    "boolean": lambda _: st.booleans(),
    "array": _arrays,
    "object": _objects,
}
