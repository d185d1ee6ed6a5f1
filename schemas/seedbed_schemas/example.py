"""A small valid instance of a schema, for people to read and to paste."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXT = "A hill at dawn"

_BY_TYPE: Final[dict[str, Any]] = {
    "string": _TEXT,
    "integer": 1,
    "number": 1,
    "boolean": True,
    "array": [],
}


def example_of(schema: Mapping[str, Any]) -> Any:
    """Return an instance that keeps the schema, with nothing in it but what the schema requires."""
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        return {name: example_of(properties[name]) for name in schema.get("required", ())}
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    return _BY_TYPE[schema["type"]]
