"""What changed between two contracts, clause by clause, and whom each change breaks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.clauses import beyond_codes, nodes, of_codes, of_operation

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
    """What a change does to those who go on as before."""

    BREAKING = "breaking"
    COMPATIBLE = "compatible"


@dataclass(frozen=True, slots=True)
class Difference:
    """One clause that differs.

    Attributes:
        id: Id of the clause, or of the field where the whole field came or went.
        change: Whether it is new, gone or different.
        old: Its value before, ``None`` where it is new.
        new: Its value now, ``None`` where it is gone.
        callers: What it does to those who go on to send what the old contract allows and to read what it promises.
        answerers: What it does to those who go on to take and to answer as the old contract says.
    """

    id: str
    change: Change
    old: Any
    new: Any
    callers: Impact
    answerers: Impact


_WIDER_ABOVE: Final = frozenset({"maxLength", "maxItems", "maximum", "exclusiveMaximum"})
_WIDER_BELOW: Final = frozenset({"minLength", "minItems", "minimum", "exclusiveMinimum"})
_ALLOWING: Final = frozenset({"option", "code"})
"""Clauses that allow something; the others, but for those that follow, forbid something."""
_HARMLESS: Final = frozenset({"deprecated"})
_FOR_ALL: Final = frozenset({"operation", "default"})
"""Clauses whose every change is felt on both sides."""

_BOTH_BREAK: Final = (Impact.BREAKING, Impact.BREAKING)
_EFFECTS: Final = {
    # What may be asked: a caller is hurt where less is allowed, who answers where more is.
    ("request", "narrower"): (Impact.BREAKING, Impact.COMPATIBLE),
    ("request", "wider"): (Impact.COMPATIBLE, Impact.BREAKING),
    # What may be answered: the other way round.
    ("answer", "narrower"): (Impact.COMPATIBLE, Impact.BREAKING),
    ("answer", "wider"): (Impact.BREAKING, Impact.COMPATIBLE),
}
_FIELD_EFFECTS: Final = {
    ("request", Change.ADDED, False): (Impact.COMPATIBLE, Impact.BREAKING),
    ("request", Change.ADDED, True): _BOTH_BREAK,
    ("request", Change.REMOVED, False): (Impact.BREAKING, Impact.COMPATIBLE),
    ("request", Change.REMOVED, True): (Impact.BREAKING, Impact.COMPATIBLE),
    # A caller reads over a field that it does not know.
    ("answer", Change.ADDED, False): (Impact.COMPATIBLE, Impact.COMPATIBLE),
    ("answer", Change.ADDED, True): (Impact.COMPATIBLE, Impact.BREAKING),
    ("answer", Change.REMOVED, False): (Impact.BREAKING, Impact.COMPATIBLE),
    ("answer", Change.REMOVED, True): (Impact.BREAKING, Impact.COMPATIBLE),
}


def drift(old: Contract, new: Contract) -> tuple[Difference, ...]:
    """Return what differs between two contracts; words, examples, order and places never do.

    Args:
        old: The contract that callers and those who answer keep today.
        new: The contract that they would have to keep.
    """
    return (
        *_clauses("request", of_operation(old.document), of_operation(new.document)),
        *_part("request", old, new),
        *_clauses("answer", of_codes(old.document), of_codes(new.document)),
        *_part("answer", old, new),
    )


def _part(part: str, old: Contract, new: Contract) -> Iterator[Difference]:
    before, after = ({node.id: node for node in nodes(each.document, part)} for each in (old, new))
    for node in before.values():
        if node.id not in after and node.parent in after:
            yield _field(node, Change.REMOVED)
    for node in after.values():
        if node.id not in before and node.parent in before:
            yield _field(node, Change.ADDED)
    for id_ in (id_ for id_ in before if id_ in after):
        shared = {child.path for child in before[id_].children()} & {child.path for child in after[id_].children()}
        yield from _clauses(part, _own(old, before[id_], shared), _own(new, after[id_], shared))


def _own(contract: Contract, node: Node, shared: set[str]) -> Iterator[Clause]:
    """Yield the clauses of a field; whether one is required that came or went, its own difference says."""
    one_sided = {
        f"{node.id}/required/{child.path.rpartition('.')[2]}" for child in node.children() if child.path not in shared
    }
    yield from (clause for clause in beyond_codes(contract.document, node.clauses()) if clause.id not in one_sided)


def _clauses(part: str, old: Iterable[Clause], new: Iterable[Clause]) -> Iterator[Difference]:
    before, after = ({clause.id: clause for clause in stated} for stated in (old, new))
    if {clause.kind for clause in before.values()} ^ {clause.kind for clause in after.values()} >= {"enum"}:
        # Where a whole set of options came or went, the set says so.
        before, after = ({id_: each for id_, each in side.items() if each.kind != "option"} for side in (before, after))
    for id_, clause in before.items():
        if id_ not in after:
            yield _difference(part, clause, Change.REMOVED, clause.value, None)
        elif clause.kind != "enum" and clause.value != after[id_].value:
            yield _difference(part, clause, Change.CHANGED, clause.value, after[id_].value)
    for id_, clause in after.items():
        if id_ not in before:
            yield _difference(part, clause, Change.ADDED, None, clause.value)


def _field(node: Node, change: Change) -> Difference:
    kind = node.schema.get("type")
    old, new = (kind, None) if change is Change.REMOVED else (None, kind)
    if node.is_items:
        direction = "narrower" if change is Change.ADDED else "wider"
        return Difference(node.id, change, old, new, *_EFFECTS[node.part, direction])
    return Difference(node.id, change, old, new, *_FIELD_EFFECTS[node.part, change, node.required])


def _difference(part: str, clause: Clause, change: Change, old: Any, new: Any) -> Difference:
    if clause.kind in _HARMLESS:
        effects = (Impact.COMPATIBLE, Impact.COMPATIBLE)
    else:
        effects = _EFFECTS.get((part, _direction(clause.kind, change, old, new)), _BOTH_BREAK)
    return Difference(clause.id, change, old, new, *effects)


def _direction(kind: str, change: Change, old: Any, new: Any) -> str:
    """Tell whether the change allows more or less, or, empty, neither of the two."""
    if kind in _FOR_ALL:
        return ""
    if change is not Change.CHANGED:
        return "wider" if (change is Change.ADDED) == (kind in _ALLOWING) else "narrower"
    if kind in _INSIDE:
        return _INSIDE[kind](old, new)
    if kind not in _WIDER_ABOVE | _WIDER_BELOW:
        return ""
    return "wider" if (new > old) == (kind in _WIDER_ABOVE) else "narrower"


def _of_types(old: Any, new: Any) -> str:
    before, after = (_allowed(kinds) for kinds in (old, new))
    return "wider" if before < after else "narrower" if after < before else ""


def _allowed(kinds: str | list[str]) -> set[str]:
    """Return the types that are allowed; an integer is a number."""
    allowed = {kinds} if isinstance(kinds, str) else set(kinds)
    return allowed | ({"integer"} if "number" in allowed else set())


def _of_steps(old: Any, new: Any) -> str:
    """Tell whether the multiples of one step are among those of the other."""
    ratio = Fraction(str(old)) / Fraction(str(new))
    return "wider" if ratio.denominator == 1 else "narrower" if ratio.numerator == 1 else ""


_INSIDE: Final = {"type": _of_types, "multipleOf": _of_steps}
"""Keywords whose values can be one inside the other."""
