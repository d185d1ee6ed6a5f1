"""A small valid instance of a schema, for people to read and to paste."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEXT: Final = "A hill at dawn"
_MOST_ITEMS: Final = 8
"""A longer example serves nobody, even where the contract asks for more items."""
_OF_FORMAT: Final = {"uri": "https://example.com/done"}


def example_of(schema: Mapping[str, Any], *, whole: bool = False) -> Any:
    """Return an instance that keeps the rules of a contract.

    Args:
        schema: The rules; a ``pattern`` is not followed, nor a ``minItems`` beyond reason.
        whole: Whether to give every field that is not deprecated, rather than those alone that are required.
    """
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return _of_type(kind[0] if isinstance(kind, list) else kind, schema, whole=whole)


def _of_type(kind: str, schema: Mapping[str, Any], *, whole: bool) -> Any:
    if kind == "object":
        fields: dict[str, Any] = schema.get("properties", {})
        names = [name for name, field in fields.items() if not field.get("deprecated")] if whole else fields
        required = schema.get("required", ())
        return {name: example_of(fields[name], whole=whole) for name in names if whole or name in required}
    if kind == "array":
        return [example_of(schema.get("items", {}), whole=whole)] * min(schema.get("minItems", int(whole)), _MOST_ITEMS)
    if kind in {"integer", "number"}:
        return _number(schema)
    return {"boolean": True, "null": None}.get(kind, _text(schema))


def _number(schema: Mapping[str, Any]) -> int | float:
    above: int | float = schema.get("exclusiveMinimum", min(0, schema.get("maximum", 1) - 1)) + 1
    least: int | float = schema.get("minimum", above)
    step: int | float = schema.get("multipleOf", least or 1)
    return least + -least % step


def _text(schema: Mapping[str, Any]) -> str:
    text = _OF_FORMAT.get(schema.get("format", ""), _TEXT)
    least: int = schema.get("minLength", 0)
    return text.ljust(least, ".")[: schema.get("maxLength")]
