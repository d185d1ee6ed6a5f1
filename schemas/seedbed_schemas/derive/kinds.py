"""The types as pages write them, such as ``string<uri>`` or ``array<enum<string>>``, and values of these types."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from seedbed_schemas.derive.facts import TYPES, PageError
from seedbed_schemas.refusals import shown

_WRITTEN: Final = re.compile(r"(?P<outer>\w+)(?:<(?P<inner>[\w<>-]+)>)?(?P<array>\[\])?")
_NUMBER: Final = re.compile(r"-?\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,9})?(?!\d)")
_LARGEST_EXACT: Final = 2**53


@dataclass(frozen=True)
class Kind:
    """A type as a page writes it.

    Attributes:
        type: Its JSON name.
        format: Its format, empty where the page names none.
        one_of: Whether the page says that the value is one of a set.
        items: What each item is, for an array that says so.
    """

    type: str
    format: str = ""
    one_of: bool = False
    items: Kind | None = None


def read_kind(written: str, name: str) -> Kind:
    """Read the type of the field of that name.

    Raises:
        PageError: The type is not known.
    """
    match = _WRITTEN.fullmatch(written)
    outer, inner = (match["outer"], match["inner"]) if match else (written, None)
    if match and match["array"]:
        return Kind("array", items=read_kind(written.removesuffix("[]"), name))
    if outer == "array" and inner:
        return Kind("array", items=read_kind(inner, name))
    kind = Kind(inner or "", one_of=True) if outer == "enum" else Kind(outer, inner or "")
    if kind.type not in TYPES:
        raise PageError(f"The page gives {name!r} the type {written!r}, which is not known.")
    return kind


def read_value(text: str, kind: Kind, name: str) -> Any:
    """Read a value as a page writes it: strings bare, everything else as JSON.

    Raises:
        PageError: The value is not of the type.
    """
    if kind.type == "string":
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not is_of(value, kind.type):
        raise PageError(f"The page gives {name!r} the value {text!r}, which is not of type {kind.type}.")
    return value


def read_number(text: str, name: str, *, whole: bool = False) -> int | float:
    """Read the number with which a text begins; a unit may follow.

    Raises:
        PageError: There is none, or it is huge, or has a fraction where it must be whole.
    """
    if not (match := _NUMBER.match(text)):
        raise PageError(f"The page gives {name!r} the limit {shown(text)!r}, which is no number.")
    number = float(match[0].replace(",", ""))
    if abs(number) > _LARGEST_EXACT:
        raise PageError(f"The page gives {name!r} the limit {shown(text)}, which is larger than JSON can say exactly.")
    if whole and not number.is_integer():
        raise PageError(f"The page gives {name!r} the limit {text!r}, which is not of type integer.")
    return int(number) if number.is_integer() else number


def is_of(value: Any, kind: str) -> bool:
    """Tell whether a JSON value is of the type of that name."""
    if isinstance(value, bool):
        return kind == "boolean"
    python: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "object": dict,
        "array": list,
        "null": type(None),
    }
    return kind in python and isinstance(value, python[kind])
