"""What a page says, apart from how it says it: every reader yields these facts and the writer takes nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


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
    """

    heading: str
    row: str = ""
    column: str = ""
    label: str = ""

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
class Field:
    """One field of the request or of the answer.

    Attributes:
        name: Name on the wire.
        rules: JSON Schema keyword to rule; always has ``type``.
        required: Whether and where the page says that the field must be there; ``None`` where it says nothing.
        fields: Fields inside, for an object.
    """

    name: str
    rules: dict[str, Rule]
    required: Rule | None = None
    fields: tuple[Field, ...] = ()


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


@dataclass(frozen=True)
class PageFacts:
    """Everything that a page states."""

    operation: Operation
    request: tuple[Field, ...]
    answer: tuple[Field, ...]
    codes: tuple[Code, ...]
