"""Clauses: every testable statement of a contract, with a stable ID and its place in the vendor's page.

A clause ID is the ID under which :class:`~seedbed_schemas.validation.Schema` reports a violation, so a rejected request
can be matched to the statement it breaks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


Level = Literal["error", "warning"]
"""Whether a server that breaks a statement is wrong, or lawful but not robust. The weaker level comes last."""

CODE: Final = "code"
"""The response field that contains the code."""
_NOT_RULES: Final = frozenset({"description", "examples", "properties", "required", "items"})
"""Keywords without a clause of their own: annotations, and keywords that the walk descends into."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One testable statement of the page.

    Attributes:
        id: Stable ID, such as ``input.prompt/maxLength``.
        kind: The JSON Schema keyword, or ``option`` for one value of an enum, ``code``, ``operation`` or ``behaviour``.
        value: The stated value.
        place: Where the page states it, in the words of the page.
        level: ``error``, or ``warning`` if a lawful server may differ.
    """

    id: str
    kind: str
    value: Any
    place: Mapping[str, str]
    level: Level = "error"

    def to_json(self) -> dict[str, Any]:
        """Return the clause as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Node:
    """One field of a request or a response, with its schema.

    Attributes:
        part: ``request``, ``answer`` or the name of a shared shape.
        path: Dotted path, empty for the whole part; ``[]`` stands for the items of an array.
        schema: The schema of the field.
        required: Whether the parent requires this field.
        parent: ID of the parent, empty for the whole part.
    """

    part: str
    path: str
    schema: Mapping[str, Any]
    required: bool = False
    parent: str = ""

    @property
    def id(self) -> str:
        """The prefix of the clause IDs of this field."""
        if not self.path:
            return self.part
        return self.path if self.part == "request" else f"{self.part}/{self.path}"

    @property
    def is_items(self) -> bool:
        """Whether this node describes the items of an array rather than a named field."""
        return self.path.endswith("[]")

    def children(self) -> Iterator[Node]:
        """Yield the fields of an object and the items of an array, in page order."""
        required = self.schema.get("required", ())
        for name, schema in self.schema.get("properties", {}).items():
            path = f"{self.path}.{name}" if self.path else name
            yield Node(self.part, path, schema, name in required, self.id)
        if "items" in self.schema:
            yield Node(self.part, f"{self.path}[]", self.schema["items"], required=False, parent=self.id)

    def walk(self) -> Iterator[Node]:
        """Yield this node and all its descendants, in page order."""
        yield self
        for child in self.children():
            yield from child.walk()

    def clauses(self) -> Iterator[Clause]:
        """Yield the clauses of this node, including which of its fields are required."""
        places = self.schema.get("x-places", {})
        for keyword, value in self.schema.items():
            if keyword not in _NOT_RULES and not keyword.startswith("x-"):
                yield Clause(f"{self.id}/{keyword}", keyword, value, places.get(keyword, {}))
        for value in self.schema.get("enum", ()):
            yield Clause(f"{self.id}/enum/{value}", "option", value, places.get("enum", {}))
        for name in self.schema.get("required", ()):
            # The page states for each field whether it is required, so the place belongs to the field.
            field = self.schema.get("properties", {}).get(name, {})
            place = field.get("x-places", {}).get("required", {})
            yield Clause(f"{self.id}/required/{name}", "required", value=True, place=place)


def nodes(document: Mapping[str, Any], part: str) -> Iterator[Node]:
    """Yield the nodes of the contract's ``request`` or ``answer``, starting with the whole part."""
    yield from Node(part, "", document["$defs"][part]).walk()


def clauses(document: Mapping[str, Any]) -> Iterator[Clause]:
    """Yield the clauses of a contract document, in page order."""
    yield from operation_clauses(document)
    for node in nodes(document, "request"):
        yield from node.clauses()
    yield from code_clauses(document)
    for node in nodes(document, "answer"):
        yield from without_code_options(document, node.clauses())


def operation_clauses(document: Mapping[str, Any]) -> Iterator[Clause]:
    """Yield the clauses about how to send the request: method, path, server and authorization."""
    places = document["x-operation"].get("x-places", {})
    for name, value in document["x-operation"].items():
        if not name.startswith("x-"):
            yield Clause(f"operation/{name}", "operation", value, places.get(name, {}))


def code_clauses(document: Mapping[str, Any]) -> Iterator[Clause]:
    """Yield one clause for each row of the code table."""
    for row in document["x-codes"]:
        yield Clause(f"code/{row['code']}", "code", row["code"], row.get("x-place", {}))


def without_code_options(document: Mapping[str, Any], stated: Iterable[Clause]) -> Iterator[Clause]:
    """Yield the clauses of a response field without the code options.

    The page lists each code twice, in the code table and as an option of the field ``code``. Only the row of the
    table counts as a clause.
    """
    listed = {f"answer/{CODE}/enum/{row['code']}" for row in document["x-codes"]}
    yield from (clause for clause in stated if clause.id not in listed)
