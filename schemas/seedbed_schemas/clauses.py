"""The clauses of a contract: every testable statement, each with a stable id and its place in the page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


CODE: Final = "code"
"""The field of an answer that carries the code."""
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
        part: ``request`` or ``answer``.
        path: Dotted path, empty for the whole part; ``[]`` stands for the items of an array.
        schema: The rules.
        required: Whether what is around it must have it.
        parent: Id of what is around it, empty for the whole part.
    """

    part: str
    path: str
    schema: Mapping[str, Any]
    required: bool = False
    parent: str = ""

    @property
    def id(self) -> str:
        """What the ids of the clauses of this field begin with."""
        if not self.path:
            return self.part
        return self.path if self.part == "request" else f"{self.part}/{self.path}"

    @property
    def is_items(self) -> bool:
        """Whether this is no field, but what every item of an array must be."""
        return self.path.endswith("[]")

    def children(self) -> Iterator[Node]:
        """Yield the fields inside, or the items, in the order of the page."""
        required = self.schema.get("required", ())
        for name, schema in self.schema.get("properties", {}).items():
            path = f"{self.path}.{name}" if self.path else name
            yield Node(self.part, path, schema, name in required, self.id)
        if "items" in self.schema:
            yield Node(self.part, f"{self.path}[]", self.schema["items"], required=False, parent=self.id)

    def inside(self) -> Iterator[Node]:
        """Yield this field and every field inside, in the order of the page."""
        yield self
        for child in self.children():
            yield from child.inside()

    def clauses(self) -> Iterator[Clause]:
        """Yield what the contract states of this field itself, and which fields it requires inside."""
        places = self.schema.get("x-places", {})
        for keyword, value in self.schema.items():
            if keyword not in _UNTESTABLE and not keyword.startswith("x-"):
                yield Clause(f"{self.id}/{keyword}", keyword, value, places.get(keyword, {}))
        for value in self.schema.get("enum", ()):
            yield Clause(f"{self.id}/enum/{value}", "option", value, places.get("enum", {}))
        for name in self.schema.get("required", ()):
            field = self.schema.get("properties", {}).get(name, {})
            place = field.get("x-places", {}).get("required", {})
            yield Clause(f"{self.id}/required/{name}", "required", value=True, place=place)


def nodes(document: Mapping[str, Any], part: str) -> Iterator[Node]:
    """Yield the fields of the contract's ``request`` or ``answer``, the whole first."""
    yield from Node(part, "", document["$defs"][part]).inside()


def clauses(document: Mapping[str, Any]) -> Iterator[Clause]:
    """Yield the clauses of a contract document in the order of the page."""
    yield from of_operation(document)
    for node in nodes(document, "request"):
        yield from node.clauses()
    yield from of_codes(document)
    for node in nodes(document, "answer"):
        yield from beyond_codes(document, node.clauses())


def of_operation(document: Mapping[str, Any]) -> Iterator[Clause]:
    """Yield how the request is made."""
    places = document["x-operation"].get("x-places", {})
    for name, value in document["x-operation"].items():
        if not name.startswith("x-"):
            yield Clause(f"operation/{name}", "operation", value, places.get(name, {}))


def of_codes(document: Mapping[str, Any]) -> Iterator[Clause]:
    """Yield the code table."""
    for row in document["x-codes"]:
        yield Clause(f"code/{row['code']}", "code", row["code"], row.get("x-place", {}))


def beyond_codes(document: Mapping[str, Any], stated: Iterable[Clause]) -> Iterator[Clause]:
    """Yield the clauses of an answer's field without those that the code table states already."""
    said = {f"answer/{CODE}/enum/{row['code']}" for row in document["x-codes"]}
    yield from (clause for clause in stated if clause.id not in said)
