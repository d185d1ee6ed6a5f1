"""Requests made from the contract: such as keep it, and such as break one clause of it each.

Every drawn request is put before jsonschema before it is handed out, so that a fault of a strategy never passes for
one of the service.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from seedbed_schemas import default_contract

from seedbed_contract.instances import instances, json_values
from seedbed_contract.malformed import malformed_bodies
from seedbed_contract.rules import ABSENT, Rule, rules_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypothesis.strategies import DrawFn
    from seedbed_schemas import Contract

__all__ = ["BrokenRequest", "breakable_clauses", "broken_requests", "json_values", "malformed_bodies", "requests"]


@dataclass(frozen=True, slots=True)
class BrokenRequest:
    """A request that breaks one clause.

    Attributes:
        clause: Id of the clause, such as ``input.prompt/maxLength``.
        request: The request, as a value that JSON can say.
    """

    clause: str
    request: Any

    @property
    def body(self) -> bytes:
        """The request as the bytes of a body."""
        return json.dumps(self.request).encode()


@st.composite
def requests(draw: DrawFn, *, contract: Contract | None = None) -> Any:
    """Requests that keep the contract, by default that of the shipped model.

    Fields that the contract does not name are among them, for it does not forbid any.
    """
    contract = contract or default_contract()
    request = draw(instances(contract.part("request")))
    _expect(contract, request, broken=())
    return request


@st.composite
def broken_requests(
    draw: DrawFn, *, contract: Contract | None = None, clauses: Iterable[str] | None = None
) -> BrokenRequest:
    """Requests that break exactly one clause, and say which.

    A value of another type than it should have may break the clauses on its value too; the clause on its type is the
    one that is named.

    Args:
        draw: Given by Hypothesis.
        contract: The contract to break, by default that of the shipped model.
        clauses: Clauses to break, by default all of :func:`breakable_clauses`.

    Raises:
        KeyError: The contract has no such clause.
    """
    contract = contract or default_contract()
    rules = _rules(contract)
    rule = draw(st.sampled_from([rules[clause] for clause in (rules if clauses is None else clauses)]))
    request = copy.deepcopy(draw(instances(contract.part("request"))))
    broken = _put(draw, request, contract.part("request"), rule.path, draw(rule.values))
    _expect(contract, broken, broken=(rule.clause,))
    return BrokenRequest(rule.clause, broken)


def breakable_clauses(contract: Contract | None = None) -> tuple[str, ...]:
    """Return the ids of the clauses that a request can break."""
    return tuple(_rules(contract or default_contract()))


def _rules(contract: Contract) -> dict[str, Rule]:
    return {rule.clause: rule for rule in rules_of(contract.part("request"), name="request")}


def _put(draw: DrawFn, value: Any, schema: Any, path: tuple[str, ...], replacement: Any) -> Any:
    """Return the value with what stands at the path replaced, or left out."""
    if not path:
        return replacement
    name, *rest = path
    if not rest and replacement is ABSENT:
        value.pop(name, None)
        return value
    inside = schema["properties"][name]
    present = value[name] if name in value else draw(instances(inside))
    value[name] = _put(draw, present, inside, tuple(rest), replacement)
    return value


def _expect(contract: Contract, request: Any, *, broken: tuple[str, ...]) -> None:
    violations = contract.request.violations(request)
    fields = {violation.field for violation in violations}
    if tuple(violation.clause for violation in violations[:1]) != broken or len(fields) > 1:
        raise AssertionError(f"a strategy made {request!r}, which breaks {violations} and not just {broken}")
