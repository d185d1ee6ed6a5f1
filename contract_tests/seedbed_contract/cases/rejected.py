"""One request for each clause and kind of violation."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import Contract, default_contract

from seedbed_contract.cases.case_types import RefusedCase
from seedbed_contract.generation.places import Path, places, put, smallest, without
from seedbed_contract.generation.wrong_values import wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_schemas.clauses import Node


_CONTRACTS: Final = 8
"""So many contracts' cases are kept."""
_SOME: Final = 2


def refused(contract: Contract | None = None) -> tuple[RefusedCase, ...]:
    """Return the smallest requests that break one clause each, in every way that comes to mind.

    Each is the smallest valid request with one thing wrong; jsonschema has judged it. What is at a limit of a clause
    comes before the other cases of its field.

    Args:
        contract: The contract to break, by default that of the shipped model.
    """
    return _refused(contract or default_contract())


@lru_cache(_CONTRACTS)
def _refused(contract: Contract) -> tuple[RefusedCase, ...]:
    found: dict[str, RefusedCase] = {}
    for name, request in _proposals(contract):
        clause = broken_clause(contract, request)
        if clause:
            found.setdefault(repr(request), RefusedCase(name, clause, request))
    return tuple({case.name: case for case in reversed(found.values())}.values())[::-1]


def broken_clause(contract: Contract, request: Any) -> str:
    """Return the clause that a request breaks, empty where it breaks none, or clauses of more fields than one.

    A value of another type than it should have may break the clauses on its value too; the clause on its type is the
    one that is named.
    """
    violations = contract.request.violations(request)
    if len({violation.field for violation in violations}) != 1:
        return ""
    by_keyword = {violation.keyword: violation.clause for violation in reversed(violations)}
    return by_keyword.get("type", violations[0].clause)


def _proposals(contract: Contract) -> Iterator[tuple[str, Any]]:
    schema = contract.part("request")
    whole = smallest(schema)
    for path, node in places(schema):
        label = node.path or "the request"
        for what, value in wrong(node.schema, _allowed_elsewhere(contract, node)):
            yield f"{label} {what}" if what.startswith("of ") else f"{label}: {what}", put(whole, schema, path, value)
        yield from _missing(schema, whole, path, node)


def _missing(schema: Any, whole: Any, path: Path, node: Node) -> Iterator[tuple[str, Any]]:
    for name in node.schema.get("required", ()):
        holder = put(whole, schema, path, smallest(node.schema))
        yield f"{node.path}.{name} is missing".lstrip("."), without(holder, schema, (*path, name))


def _allowed_elsewhere(contract: Contract, node: Node) -> list[Any]:
    others = [other for _, other in places(contract.part("request")) if other.path != node.path]
    return [value for other in others for value in other.schema.get("enum", ())[:_SOME]]
