"""The clauses of a contract: every testable statement, each with a stable id and its place in the page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_UNTESTABLE: Final = frozenset({"description", "examples", "properties", "required", "items"})
"""Keywords that state no rule of their own: words, and what is walked into."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One testable statement of the page.

    Attributes:
        id: Stable name, such as ``input.prompt/maxLength``; a refusal names its rule by the same id.
        kind: The JSON Schema keyword; or ``option`` for one value of an enum, ``code``, ``operation``.
        value: What is stated.
        place: Where the page says so, in the page's own words.
    """

    id: str
    kind: str
    value: Any
    place: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the clause as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Node:
    """One field of a part of the contract, with its rules.

    Attributes:
        prefix: What stands before ids of this part: nothing for the request, ``answer/`` for the answer.
        path: Dotted path, empty for the whole part; ``[]`` stands for the items of an array.
        root: Name of the part.
        schema: The rules.
    """

    prefix: str
    path: str
    root: str
    schema: Mapping[str, Any]

    @property
    def id(self) -> str:
        """What the ids of the clauses of this field begin with."""
        return f"{self.prefix}{self.path}" if self.path else self.root

    def inside(self) -> Iterator[Node]:
        """Yield this field and every field inside, in the order of the page."""
        yield self
        for name, schema in self.schema.get("properties", {}).items():
            path = f"{self.path}.{name}" if self.path else name
            yield from Node(self.prefix, path, self.root, schema).inside()
        if "items" in self.schema:
            yield from Node(self.prefix, f"{self.path}[]", self.root, self.schema["items"]).inside()


def nodes(document: Mapping[str, Any], part: str) -> Iterator[Node]:
    """Yield the fields of the contract's ``request`` or ``answer``, the whole first."""
    prefix = "" if part == "request" else f"{part}/"
    yield from Node(prefix, "", part, document["$defs"][part]).inside()


def clauses(document: Mapping[str, Any]) -> Iterator[Clause]:
    """Yield the clauses of a contract document in the order of the page."""
    places = document["x-operation"].get("x-places", {})
    for name, value in document["x-operation"].items():
        if not name.startswith("x-"):
            yield Clause(f"operation/{name}", "operation", value, places.get(name, {}))
    for node in nodes(document, "request"):
        yield from _of_node(node)
    for row in document["x-codes"]:
        yield Clause(f"code/{row['code']}", "code", row["code"], row.get("x-place", {}))
    codes = {row["code"] for row in document["x-codes"]}
    for node in nodes(document, "answer"):
        # An option of the answer's `code` that is in the code table is said already, as a clause of the table.
        yield from (clause for clause in _of_node(node) if clause.kind != "option" or clause.value not in codes)


def _of_node(node: Node) -> Iterator[Clause]:
    places = node.schema.get("x-places", {})
    for keyword, value in node.schema.items():
        if keyword not in _UNTESTABLE and not keyword.startswith("x-"):
            yield Clause(f"{node.id}/{keyword}", keyword, value, places.get(keyword, {}))
    for value in node.schema.get("enum", ()):
        yield Clause(f"{node.id}/enum/{value}", "option", value, places.get("enum", {}))
    for name in node.schema.get("required", ()):
        places = node.schema.get("properties", {}).get(name, {}).get("x-places", {})
        yield Clause(f"{node.id}/required/{name}", "required", value=True, place=places.get("required", {}))
