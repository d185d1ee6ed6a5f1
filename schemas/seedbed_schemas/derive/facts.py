"""The types as pages write them, such as ``string<uri>`` or ``array<enum<string>>``, and values of these types."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.clauses import CODE
from seedbed_schemas.validation import for_display

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        raise PageError(f"The page gives {name!r} the limit {for_display(text)!r}, which is no number.")
    number = float(match[0].replace(",", ""))
    if abs(number) > _LARGEST_EXACT:
        raise PageError(
            f"The page gives {name!r} the limit {for_display(text)}, which is larger than JSON can say exactly."
        )
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


KEYWORDS: Final = (
    "type",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "uniqueItems",
    "enum",
    "examples",
    "default",
    "const",
    "deprecated",
)
"""The JSON Schema keywords that are facts of one field, in the order in which a contract writes them."""

TYPES: Final = frozenset({"string", "integer", "number", "boolean", "object", "array", "null"})
"""The names of types, which the pages share with JSON Schema."""


class PageError(ValueError):
    """The page cannot be read; the message is one sentence that names what was missed."""


@dataclass(frozen=True)
class Place:
    """Where in the page a fact stands, in the page's own words.

    Attributes:
        heading: Text of the nearest heading above.
        row: First cell of the table row, empty outside tables.
        column: Heading of the table column, empty outside tables.
        label: Bold label before the value, empty where there is none.
        pointer: JSON Pointer into the page's OpenAPI document, empty in pages without one.
    """

    heading: str
    row: str = ""
    column: str = ""
    label: str = ""
    pointer: str = ""

    def at(self, column: str, label: str = "") -> Place:
        """Return the place of one cell, or of one labelled value in it, in the same row."""
        return replace(self, column=column, label=label)

    def as_json(self) -> dict[str, str]:
        """Return the parts that are not empty."""
        return {name: text for name, text in vars(self).items() if text}


@dataclass(frozen=True)
class RuleFact:
    """One JSON Schema keyword with its value and its place in the page."""

    value: Any
    place: Place


@dataclass(frozen=True)
class Note:
    """A limit that stands only in the prose: worth telling, and no rule."""

    keyword: str
    value: int
    place: Place


@dataclass(frozen=True)
class Field:
    """One field of the request or of the answer, or the whole of either.

    Attributes:
        name: Name on the wire, empty for the whole and for the items of an array.
        rules: JSON Schema keyword to rule.
        required: Whether and where the page says that the field must be there; ``None`` where it says nothing.
        fields: Fields inside, for an object.
        items: What each item must be, for an array whose items the page describes.
        notes: Limits that stand only in the prose.
    """

    name: str
    rules: dict[str, RuleFact] = field(default_factory=dict)
    required: RuleFact | None = None
    fields: tuple[Field, ...] = ()
    items: Field | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class CodeFact:
    """One row of the page's code table."""

    number: int
    place: Place


@dataclass(frozen=True)
class OperationFacts:
    """The request that the page documents: its method, path and server, and how it is authorized."""

    method: RuleFact
    path: RuleFact
    server: RuleFact
    header: RuleFact
    scheme: RuleFact


def codes_of_options(answer: Field) -> Iterator[CodeFact]:
    """Yield the codes that the options of an answer's code name."""
    for field_ in answer.fields:
        if field_.name == CODE and (options := field_.rules.get("enum")):
            yield from (CodeFact(number, options.place) for number in options.value if isinstance(number, int))


@dataclass(frozen=True)
class PageFacts:
    """Everything that a page states.

    Attributes:
        unread: What the page says that was understood as neither fact nor prose, a phrase each.
    """

    operation: OperationFacts
    request: Field
    answer: Field
    codes: tuple[CodeFact, ...]
    unread: tuple[str, ...] = ()
