"""Drift: what differs between two contracts, clause by clause, and whether clients or servers break."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.clauses import code_clauses, nodes, operation_clauses, without_code_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seedbed_schemas.clauses import Clause, Node
    from seedbed_schemas.contract import Contract


class Change(StrEnum):
    """How a clause differs."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class Impact(StrEnum):
    """Whether existing code keeps working after a change."""

    BREAKING = "breaking"
    COMPATIBLE = "compatible"


@dataclass(frozen=True, slots=True)
class Difference:
    """One clause that differs.

    Attributes:
        id: ID of the clause, or of the field if the whole field was added or removed.
        change: How it differs.
        old: Its old value; ``None`` if it was added.
        new: Its new value; ``None`` if it was removed.
        clients: Impact on clients that were written for the old contract.
        servers: Impact on servers that were written for the old contract.
    """

    id: str
    change: Change
    old: Any
    new: Any
    clients: Impact
    servers: Impact


_UPPER_BOUNDS: Final = frozenset({"maxLength", "maxItems", "maximum", "exclusiveMaximum"})
_LOWER_BOUNDS: Final = frozenset({"minLength", "minItems", "minimum", "exclusiveMinimum"})
_PERMISSIONS: Final = frozenset({"option", "code"})
"""Clauses that permit a value. Most other clauses are restrictions."""
_HARMLESS: Final = frozenset({"deprecated"})
_ALWAYS_BREAKING: Final = frozenset({"operation", "default"})
"""Clauses of which every change breaks both sides."""

_BOTH_BREAK: Final = (Impact.BREAKING, Impact.BREAKING)
_CLAUSE_IMPACTS: Final = {
    # A request: a client breaks if fewer requests are valid, a server if more requests are valid.
    ("request", "narrower"): (Impact.BREAKING, Impact.COMPATIBLE),
    ("request", "wider"): (Impact.COMPATIBLE, Impact.BREAKING),
    # A response: the other way round, because here the server writes and the client reads.
    ("answer", "narrower"): (Impact.COMPATIBLE, Impact.BREAKING),
    ("answer", "wider"): (Impact.BREAKING, Impact.COMPATIBLE),
}
"""Impact on clients and on servers by part and direction."""
_FIELD_IMPACTS: Final = {
    ("request", Change.ADDED, False): (Impact.COMPATIBLE, Impact.BREAKING),
    ("request", Change.ADDED, True): _BOTH_BREAK,
    ("request", Change.REMOVED, False): (Impact.BREAKING, Impact.COMPATIBLE),
    ("request", Change.REMOVED, True): (Impact.BREAKING, Impact.COMPATIBLE),
    # Clients ignore fields that they do not know.
    ("answer", Change.ADDED, False): (Impact.COMPATIBLE, Impact.COMPATIBLE),
    ("answer", Change.ADDED, True): (Impact.COMPATIBLE, Impact.BREAKING),
    ("answer", Change.REMOVED, False): (Impact.BREAKING, Impact.COMPATIBLE),
    ("answer", Change.REMOVED, True): (Impact.BREAKING, Impact.COMPATIBLE),
}
"""Impact on clients and on servers by part, change, and whether the field is required."""


def drift(old: Contract, new: Contract) -> tuple[Difference, ...]:
    """Return the differences between two contracts.

    Descriptions, examples, order and places are ignored.

    Args:
        old: The contract that clients and servers implement today.
        new: The contract that they would have to implement.
    """
    return (
        *_compare_clauses("request", operation_clauses(old.document), operation_clauses(new.document)),
        *_compare_part("request", old, new),
        *_compare_clauses("answer", code_clauses(old.document), code_clauses(new.document)),
        *_compare_part("answer", old, new),
    )


def _compare_part(part: str, old: Contract, new: Contract) -> Iterator[Difference]:
    before, after = ({node.id: node for node in nodes(each.document, part)} for each in (old, new))
    # A field is reported only if its parent exists on both sides; otherwise the report of the parent covers it.
    for node in before.values():
        if node.id not in after and node.parent in after:
            yield _field_difference(node, Change.REMOVED)
    for node in after.values():
        if node.id not in before and node.parent in before:
            yield _field_difference(node, Change.ADDED)
    for id_ in (id_ for id_ in before if id_ in after):
        shared = {child.path for child in before[id_].children()} & {child.path for child in after[id_].children()}
        yield from _compare_clauses(part, _clauses_of(old, before[id_], shared), _clauses_of(new, after[id_], shared))


def _clauses_of(contract: Contract, node: Node, shared: set[str]) -> Iterator[Clause]:
    """Yield the clauses of a field, without ``required`` clauses about children that only one side has.

    The difference that reports such a child already considers whether it is required.
    """
    one_sided = {
        f"{node.id}/required/{child.path.rpartition('.')[2]}" for child in node.children() if child.path not in shared
    }
    for clause in without_code_options(contract.document, node.clauses()):
        if clause.id not in one_sided:
            yield clause


def _compare_clauses(part: str, old: Iterable[Clause], new: Iterable[Clause]) -> Iterator[Difference]:
    before, after = ({clause.id: clause for clause in stated} for stated in (old, new))
    if {clause.kind for clause in before.values()} ^ {clause.kind for clause in after.values()} >= {"enum"}:
        # If a whole set of options was added or removed, its enum clause says so once.
        before, after = ({id_: each for id_, each in side.items() if each.kind != "option"} for side in (before, after))
    for id_, clause in before.items():
        if id_ not in after:
            yield _clause_difference(part, clause, Change.REMOVED, clause.value, None)
        elif clause.kind != "enum" and clause.value != after[id_].value:
            yield _clause_difference(part, clause, Change.CHANGED, clause.value, after[id_].value)
    for id_, clause in after.items():
        if id_ not in before:
            yield _clause_difference(part, clause, Change.ADDED, None, clause.value)


def _field_difference(node: Node, change: Change) -> Difference:
    json_type = node.schema.get("type")
    old, new = (json_type, None) if change is Change.REMOVED else (None, json_type)
    if node.is_items:
        direction = "narrower" if change is Change.ADDED else "wider"
        return Difference(node.id, change, old, new, *_CLAUSE_IMPACTS[node.part, direction])
    return Difference(node.id, change, old, new, *_FIELD_IMPACTS[node.part, change, node.required])


def _clause_difference(part: str, clause: Clause, change: Change, old: Any, new: Any) -> Difference:
    if clause.kind in _HARMLESS:
        impacts = (Impact.COMPATIBLE, Impact.COMPATIBLE)
    else:
        impacts = _CLAUSE_IMPACTS.get((part, _direction(clause.kind, change, old, new)), _BOTH_BREAK)
    return Difference(clause.id, change, old, new, *impacts)


def _direction(kind: str, change: Change, old: Any, new: Any) -> str:
    """Return whether the new clause allows ``wider`` or ``narrower`` values; empty if neither is the case."""
    if kind in _ALWAYS_BREAKING:
        return ""
    if change is not Change.CHANGED:
        return "wider" if (change is Change.ADDED) == (kind in _PERMISSIONS) else "narrower"
    if kind == "type":
        before, after = _allowed_types(old), _allowed_types(new)
        return "wider" if before < after else "narrower" if after < before else ""
    if kind == "multipleOf":
        # Through text, because 0.1 is not exact as a binary fraction.
        ratio = Fraction(str(old)) / Fraction(str(new))
        return "wider" if ratio.denominator == 1 else "narrower" if ratio.numerator == 1 else ""
    if kind not in _UPPER_BOUNDS | _LOWER_BOUNDS:
        return ""
    return "wider" if (new > old) == (kind in _UPPER_BOUNDS) else "narrower"


def _allowed_types(types: str | list[str]) -> set[str]:
    """Return the allowed JSON types; ``number`` includes ``integer``."""
    allowed = {types} if isinstance(types, str) else set(types)
    return allowed | ({"integer"} if "number" in allowed else set())
