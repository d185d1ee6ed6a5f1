"""The words of a refusal: what a value would have to be, by JSON Schema keyword."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN_CHARACTERS = 60

_TYPES: Final = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}


def shown(value: Any) -> str:
    """Return a value as a message may show it: on one line, printable, and short however long it is."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(text[:_SHOWN_CHARACTERS] + ("..." if len(text) > _SHOWN_CHARACTERS else ""))


def printable(text: str) -> str:
    """Return a text with the characters that a terminal would act on, or not show, written as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def type_name(value: Any) -> str:
    """Return the JSON name of the value's type."""
    return _TYPES[type(value)]


def describe(keyword: str, expected: Any, value: Any) -> str:
    """Return what follows the field's name in a refusal, such as ``must have at most 3 items, not 4``."""
    words = _WORDS.get(keyword)
    return words(expected, value) if words else f"breaks the rule {keyword}: {shown(expected)}"


def _listed(values: Any) -> str:
    return ", ".join(map(shown, values))


def _types(expected: Any) -> str:
    return expected if isinstance(expected, str) else " or ".join(expected)


_WORDS: Final[dict[str, Callable[[Any, Any], str]]] = {
    "type": lambda expected, value: f"must be of type {_types(expected)}, not {type_name(value)}",
    "enum": lambda expected, value: f"must be one of {_listed(expected)}, not {shown(value)}",
    "const": lambda expected, value: f"must be {shown(expected)}, not {shown(value)}",
    "format": lambda expected, value: f"must be a valid {expected.upper()}, not '{shown(value)}'",
    "minLength": lambda expected, value: f"must have at least {expected} characters, not {len(value)}",
    "maxLength": lambda expected, value: f"must have at most {expected} characters, not {len(value)}",
    "minItems": lambda expected, value: f"must have at least {expected} items, not {len(value)}",
    "maxItems": lambda expected, value: f"must have at most {expected} items, not {len(value)}",
    "minimum": lambda expected, value: f"must be at least {expected}, not {shown(value)}",
    "maximum": lambda expected, value: f"must be at most {expected}, not {shown(value)}",
}
