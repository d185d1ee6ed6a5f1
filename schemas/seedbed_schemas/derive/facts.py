"""What a page says, apart from how it says it: every reader yields these facts and the writer takes nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.clauses import CODE

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
class Rule:
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
    rules: dict[str, Rule] = field(default_factory=dict)
    required: Rule | None = None
    fields: tuple[Field, ...] = ()
    items: Field | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Code:
    """One row of the page's code table."""

    number: int
    place: Place


@dataclass(frozen=True)
class Operation:
    """The request that the page documents: its method, path and server, and how it is authorized."""

    method: Rule
    path: Rule
    server: Rule
    header: Rule
    scheme: Rule


def codes_of_options(answer: Field) -> Iterator[Code]:
    """Yield the codes that the options of an answer's code name."""
    for field_ in answer.fields:
        if field_.name == CODE and (options := field_.rules.get("enum")):
            yield from (Code(number, options.place) for number in options.value if isinstance(number, int))


@dataclass(frozen=True)
class PageFacts:
    """Everything that a page states.

    Attributes:
        unread: What the page says that was understood as neither fact nor prose, a phrase each.
    """

    operation: Operation
    request: Field
    answer: Field
    codes: tuple[Code, ...]
    unread: tuple[str, ...] = ()
