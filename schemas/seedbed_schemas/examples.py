"""An example of what a schema asks for, in our own words where the contract gives none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS: Final = "A lighthouse on a cliff at dusk, seen from the sea."
_FORMATS: Final = {"uri": "https://example.com/done", "date-time": "2030-01-01T00:00:00Z"}


def example(schema: Mapping[str, Any]) -> Any:
    """Return a value that the schema is likely to accept; only a judge can tell.

    Args:
        schema: Rules of a contract, with no references.
    """
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return _of_type(kind[0] if isinstance(kind, list) else kind, schema)


def _of_type(kind: str, schema: Mapping[str, Any]) -> Any:
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: example(field) for name, field in fields.items() if not field.get("deprecated")}
    if kind == "array":
        return [example(schema.get("items", {}))] * max(1, schema.get("minItems", 1))
    if kind in {"integer", "number"}:
        return _number(schema)
    return {"boolean": True, "null": None}.get(kind, _text(schema))


def _number(schema: Mapping[str, Any]) -> int | float:
    least: int | float = schema.get("minimum", schema.get("exclusiveMinimum", min(0, schema.get("maximum", 0)) - 1) + 1)
    step: int | float = schema.get("multipleOf", 1)
    return least if least % step == 0 else least + step - least % step


def _text(schema: Mapping[str, Any]) -> str:
    words = _FORMATS.get(schema.get("format", ""), _WORDS)
    least = schema.get("minLength", 0)
    return (words * (least // len(words) + 1 if least > len(words) else 1))[: schema.get("maxLength")]
