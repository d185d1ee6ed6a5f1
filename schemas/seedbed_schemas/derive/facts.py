"""The facts that a page states, in the form that all page readers share.

This module also parses the types, values and limits that pages write as text, such as ``array<enum<string>>``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.clauses import CODE
from seedbed_schemas.validation import for_display

if TYPE_CHECKING:
    from collections.abc import Iterator


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
"""The JSON Schema keywords of a single field, in the order in which a contract contains them."""

TYPES: Final = frozenset({"string", "integer", "number", "boolean", "object", "array", "null"})
"""The names of types; the pages use the names of JSON Schema."""


class PageError(ValueError):
    """A page cannot be derived; the message is one sentence that names what is missing or wrong."""


# --- facts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where in the page a fact is stated, in the words of the page.

    Attributes:
        heading: Text of the nearest heading above.
        row: First cell of the table row; empty outside tables.
        column: Heading of the table column; empty outside tables.
        label: Bold label before the value; empty if there is none.
        pointer: JSON Pointer into the page's OpenAPI document; empty in pages without one.
    """

    heading: str
    row: str = ""
    column: str = ""
    label: str = ""
    pointer: str = ""

    def at(self, column: str, label: str = "") -> Place:
        """Return the place of a cell in the same row, or of a labelled value in that cell."""
        return replace(self, column=column, label=label)

    def to_json(self) -> dict[str, str]:
        """Return the attributes that are not empty."""
        return {name: text for name, text in vars(self).items() if text}


@dataclass(frozen=True)
class RuleFact:
    """The value of one JSON Schema keyword and its place in the page."""

    value: Any
    place: Place


@dataclass(frozen=True)
class Note:
    """A limit that only the prose states; it is reported but is not a rule of the contract."""

    keyword: str
    value: int
    place: Place


@dataclass(frozen=True)
class Field:
    """One field of a request or response, or the whole request or response.

    Attributes:
        name: Name in the JSON; empty for the whole and for the items of an array.
        rules: The rules by JSON Schema keyword.
        required: Whether the field is required, and where the page says so; ``None`` if the page does not say.
        fields: The fields of an object.
        items: The items of an array, if the page describes them.
        notes: Limits that only the prose states.
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
    """How to send the documented request: method, path, server and authorization."""

    method: RuleFact
    path: RuleFact
    server: RuleFact
    header: RuleFact
    scheme: RuleFact


@dataclass(frozen=True)
class PageFacts:
    """Everything that a page states.

    Attributes:
        unrecognized: Statements that are neither a known fact nor prose, one phrase each.
    """

    operation: OperationFacts
    request: Field
    answer: Field
    codes: tuple[CodeFact, ...]
    unrecognized: tuple[str, ...] = ()


def codes_of_options(answer: Field) -> Iterator[CodeFact]:
    """Yield the codes that are listed as options of the response field ``code``."""
    for field_ in answer.fields:
        if field_.name == CODE and (options := field_.rules.get("enum")):
            yield from (CodeFact(number, options.place) for number in options.value if isinstance(number, int))


# --- types and values ------------------------------------------------------------------------------------------------


_TYPE: Final = re.compile(r"(?P<outer>\w+)(?:<(?P<inner>[\w<>-]+)>)?(?P<array>\[\])?")
_NUMBER: Final = re.compile(r"-?\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,9})?(?!\d)")
_MAXIMUM_EXACT_NUMBER: Final = 2**53
_PYTHON_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
    "null": type(None),
}


@dataclass(frozen=True)
class TypeSpec:
    """A type as a page writes it.

    Attributes:
        type: Its JSON name.
        format: Its format; empty if the page gives none.
        is_enum: Whether the page says that the value is one of a set.
        items: Type of the items of an array, if the page gives one.
    """

    type: str
    format: str = ""
    is_enum: bool = False
    items: TypeSpec | None = None


def parse_type(text: str, name: str) -> TypeSpec:
    """Parse a type such as ``string<uri>``, ``enum<string>``, ``array<object>`` or ``string[]``.

    Args:
        text: The type as the page writes it.
        name: Name of the field, for the error message.

    Raises:
        PageError: The type is not known.
    """
    match = _TYPE.fullmatch(text)
    outer, inner = (match["outer"], match["inner"]) if match else (text, None)
    if match and match["array"]:
        return TypeSpec("array", items=parse_type(text.removesuffix("[]"), name))
    if outer == "array" and inner:
        return TypeSpec("array", items=parse_type(inner, name))
    spec = TypeSpec(inner or "", is_enum=True) if outer == "enum" else TypeSpec(outer, inner or "")
    if spec.type not in TYPES:
        raise PageError(f"The page gives {name!r} the type {text!r}, which is not known.")
    return spec


def parse_value(text: str, spec: TypeSpec, name: str) -> Any:
    """Parse a value as pages write it: strings without quotes, everything else as JSON.

    Raises:
        PageError: The value does not have the type.
    """
    if spec.type == "string":
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not is_of_type(value, spec.type):
        raise PageError(f"The page gives {name!r} the value {text!r}, which is not of type {spec.type}.")
    return value


def parse_example(text: str, spec: TypeSpec) -> Any:
    """Parse an example, which pages write as JSON or, for strings, without quotes."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if is_of_type(value, spec.type) or spec.type != "string" else text


def parse_number(text: str, name: str, *, whole: bool = False) -> int | float:
    """Parse the number at the start of a text; a unit may follow.

    Raises:
        PageError: The text does not start with a number, the number is too large for JSON, or it has a fraction where
            ``whole`` does not allow one.
    """
    if not (match := _NUMBER.match(text)):
        raise PageError(f"The page gives {name!r} the limit {for_display(text)!r}, which is not a number.")
    number = float(match[0].replace(",", ""))
    # JSON readers that use double precision, such as JavaScript, would change a larger number.
    if abs(number) > _MAXIMUM_EXACT_NUMBER:
        raise PageError(
            f"The page gives {name!r} the limit {for_display(text)}, which is too large to be exact in JSON."
        )
    if whole and not number.is_integer():
        raise PageError(f"The page gives {name!r} the limit {text!r}, which is not of type integer.")
    return int(number) if number.is_integer() else number


def is_of_type(value: Any, json_type: str) -> bool:
    """Return whether a JSON value has a JSON type."""
    # A bool is an int in Python, but not a number in JSON.
    if isinstance(value, bool):
        return json_type == "boolean"
    return json_type in _PYTHON_TYPES and isinstance(value, _PYTHON_TYPES[json_type])
