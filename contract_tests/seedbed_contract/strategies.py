"""Requests, bodies and keys to draw with Hypothesis, made from a contract: good ones, and such as break one rule each.

For tests of your own, of a service that claims to keep the contract or of a client that must not break it::

    from hypothesis import given
    from seedbed_contract.strategies import Violation, violations


    @given(violation=violations(clauses=["input.prompt/maxLength"]))
    def test_a_prompt_that_is_too_long_is_refused(violation: Violation) -> None:
        assert my_service(violation.request).code == 422

What is drawn first is at a limit of the contract or another listed case
(:mod:`seedbed_contract.cases`); the rest is random. Every drawn request has been put before jsonschema, so that a fault
of a strategy never passes for one of the service.
"""

from __future__ import annotations

import copy
import string
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from seedbed_schemas import Contract, default_contract, job_api

from seedbed_contract.cases import KeyHeaderCase, RawBodyCase, RefusedCase, accepted, raw, refused, wrong_keys
from seedbed_contract.cases.accepted import is_free_text, limits
from seedbed_contract.cases.case_types import written
from seedbed_contract.cases.raw import JSON
from seedbed_contract.generation.instances import characters, instances, json_values
from seedbed_contract.generation.places import Path, get, places, put, smallest, without
from seedbed_contract.generation.violations import ABSENT, SchemaRule, of_no_type, schema_rules

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy


__all__ = [
    "BrokenRequest",
    "KeyHeaderCase",
    "RawBodyCase",
    "breakable_clauses",
    "keys",
    "raw_bodies",
    "requests",
    "violations",
]

_CONTRACTS: Final = 8
_AT_A_LIMIT: Final = 3
_LIMITS: Final = ("Length", "Items", "minimum", "maximum", "Minimum", "Maximum")
_TOKEN: Final = string.ascii_letters + string.digits + "-._~+/"
_BLANK: Final = ("", " ", "\n", "\u3000")


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
    def payload(self) -> bytes:
        """The request as the bytes of a body."""
        return written(self.request)


def requests(
    contract: Contract | None = None, *, callback: str | None = None, unstated: bool = False
) -> SearchStrategy[Any]:
    """Return a strategy for requests that keep the contract, so that a service has to accept them.

    Args:
        contract: The contract to keep, by default that of the shipped model.
        callback: A URL that the service may call; without one, no request asks for a callback.
        unstated: Whether to draw, too, what no rule forbids although the page says nothing of it, so that a service may
            refuse it: unknown fields, blank texts.
    """
    contract = contract or default_contract()
    strategy = _requests(contract, callback)
    return _unstated(strategy, contract) if unstated else strategy


def violations(
    contract: Contract | None = None, *, clauses: Collection[str] | None = None
) -> SearchStrategy[BrokenRequest]:
    """Return a strategy for requests that break exactly one clause, and say which.

    A value of another type than it should have may break the clauses on its value too; the clause on its type is the
    one that is named.

    Args:
        contract: The contract to break, by default that of the shipped model.
        clauses: Clauses to break, by default all of :func:`breakable_clauses`.

    Raises:
        KeyError: The contract has no such clause.
        ValueError: There are no clauses.
    """
    contract = contract or default_contract()
    rules = _rules(contract)
    chosen = tuple(rules) if clauses is None else tuple(clauses)
    if not chosen:
        raise ValueError("there is no clause to break; name one of breakable_clauses()")
    listed = [case for case in refused(contract) if case.clause in chosen]
    return st.one_of(
        *(st.sampled_from(cases).map(_as_violation) for cases in (_at_limits(listed), listed) if cases),
        _broken(contract, [rules[clause] for clause in chosen]),
    )


def raw_bodies(contract: Contract | None = None) -> SearchStrategy[RawBodyCase]:
    """Return a strategy for what is sent in place of a request, down to the bytes, and what a service has to do then.

    Args:
        contract: The contract to keep or break, by default that of the shipped model.
    """
    contract = contract or default_contract()
    good = written(smallest(contract.part("request")))
    cut = st.integers(0, len(good) - 1).map(lambda length: good[:length])
    spaced = st.text(" \t\r\n", max_size=9).map(str.encode)
    texts = of_no_type("object").map(written)
    return st.one_of(
        st.sampled_from(raw(contract)),
        cut.map(lambda body: RawBodyCase("a request cut short", body, JSON, "refuse")),
        texts.map(lambda body: RawBodyCase("JSON but no object", body, JSON, "refuse")),
        st.binary(max_size=60).map(lambda body: RawBodyCase("random bytes", body, JSON, "refuse")),
        st.builds(lambda a, b: RawBodyCase("a request amid white space", a + good + b, JSON, "accept"), spaced, spaced),
        st.builds(
            lambda at, byte: RawBodyCase(
                "a request with one byte changed", good[:at] + byte + good[at + 1 :], JSON, "either"
            ),
            st.integers(0, len(good) - 1),
            st.binary(min_size=1, max_size=1),
        ),
    )


def keys(key: str, *, contract: Contract | None = None) -> SearchStrategy[KeyHeaderCase]:
    """Return a strategy for ways to send a key that a service must not take, or need not.

    Args:
        key: The key that the service takes; what is drawn is made from it and never is it.
        contract: Tells the header and the scheme, by default that of the shipped model.

    Raises:
        ValueError: The key is empty, or no header can carry it.
    """
    listed = wrong_keys(key, contract=contract)
    operation = (contract or default_contract()).operation
    changed = st.builds(
        lambda at, other: key[:at] + other + key[at + 1 :],
        st.integers(0, len(key) - 1),
        st.text(_TOKEN, max_size=2),
    )
    others = (changed | st.text(_TOKEN, min_size=1, max_size=2 * len(key))).filter(lambda other: other not in {"", key})
    values = others.map(lambda other: ((operation.header, f"{operation.scheme} {other}".strip()),))
    return st.sampled_from(listed) | values.map(lambda headers: KeyHeaderCase("a wrong key", headers, "refuse"))


def breakable_clauses(contract: Contract | None = None) -> tuple[str, ...]:
    """Return the ids of the clauses that a request can break."""
    return tuple(_rules(contract or default_contract()))


@lru_cache(_CONTRACTS)
def _rules(contract: Contract) -> dict[str, SchemaRule]:
    return {rule.clause: rule for rule in schema_rules(contract.part("request"))}


@lru_cache(_CONTRACTS)
def _requests(contract: Contract, callback: str | None) -> SearchStrategy[Any]:
    listed = _listed(contract, callback)
    random = _changed(contract, listed) | _drawn(contract, callback)
    return st.one_of(
        *(st.sampled_from(cases).map(copy.deepcopy) for cases in (limits(contract), listed) if cases),
        random.map(lambda request: _valid(contract, request)),
    )


@lru_cache(_CONTRACTS)
def _listed(contract: Contract, callback: str | None) -> list[Any]:
    return [case.request for case in accepted(contract, callback=callback) if case.body is None]


def _changed(contract: Contract, listed: Sequence[Any]) -> SearchStrategy[Any]:
    """Return a strategy for listed requests with another value at one place, which is quick to draw."""
    schema = contract.part("request")
    left = {"properties", "const"}
    free = [(path, node.schema) for path, node in places(schema) if not left & node.schema.keys()]
    changes = st.one_of([_at(path, rules) for path, rules in free if path != (job_api().fields.callback,)])
    whole = st.sampled_from(listed).map(copy.deepcopy)
    changed = st.builds(lambda request, change: put(request, schema, *change), whole, changes)
    # One item of an array whose items are distinct may come out like another.
    return changed.filter(contract.request.accepts)


def _at(path: Path, schema: Mapping[str, Any]) -> SearchStrategy[tuple[Path, Any]]:
    return instances(schema).map(lambda value: (path, value))


def _drawn(contract: Contract, callback: str | None) -> SearchStrategy[Any]:
    """Return a strategy for requests that ask for a callback where they may, and else only where they must."""
    schema, name = contract.part("request"), job_api().fields.callback
    fields = schema.get("properties", {})
    if name not in fields or (callback is None and name in schema.get("required", ())):
        return instances(schema)
    uncalled = instances({**schema, "properties": {field: fields[field] for field in fields if field != name}})
    if callback is None:
        return uncalled
    called = uncalled.map(lambda request: {**request, name: callback})
    return called if name in schema.get("required", ()) else uncalled | called


def _valid(contract: Contract, request: Any) -> Any:
    if broken := contract.request.violations(request):
        raise AssertionError(f"a strategy made {request!r}, which breaks {broken}")
    return request


@st.composite
def _broken(draw: DrawFn, contract: Contract, rules: Sequence[SchemaRule]) -> BrokenRequest:
    schema = contract.part("request")
    rule = draw(st.sampled_from(rules))
    whole = copy.deepcopy(draw(st.sampled_from(_listed(contract, None))))
    value = draw(rule.values)
    broken = without(whole, schema, rule.path) if value is ABSENT else put(whole, schema, rule.path, value)
    found = contract.request.violations(broken)
    if rule.clause not in {each.clause for each in found} or len({each.field for each in found}) > 1:
        raise AssertionError(f"a strategy made {broken!r}, which breaks {found} and not just {rule.clause}")
    return BrokenRequest(rule.clause, broken)


def _as_violation(case: RefusedCase) -> BrokenRequest:
    return BrokenRequest(case.clause, copy.deepcopy(case.request))


def _at_limits(cases: Iterable[RefusedCase]) -> list[RefusedCase]:
    """Return the first few cases of each clause on a limit, which are those nearest to it."""
    by_clause: dict[str, list[RefusedCase]] = {}
    for case in cases:
        if case.clause.endswith(_LIMITS):
            by_clause.setdefault(case.clause, []).append(case)
    return [case for those in by_clause.values() for case in those[:_AT_A_LIMIT]]


@st.composite
def _unstated(draw: DrawFn, strategy: SearchStrategy[Any], contract: Contract) -> Any:
    """Add what no rule speaks of to a request: unknown fields, and blank texts."""
    request = draw(strategy)
    schema = contract.part("request")
    for path, node in places(schema):
        if not _stands(request, path):
            continue
        if node.schema.get("type") == "object":
            more = draw(_unknown_fields(tuple(node.schema.get("properties", ()))))
            request = put(request, schema, path, {**more, **get(request, path)})
        elif is_free_text(node.schema) and draw(st.booleans()):
            request = put(request, schema, path, draw(st.sampled_from(_BLANK))[: node.schema.get("maxLength")])
    return _valid(contract, request)


def _unknown_fields(known: tuple[str, ...]) -> SearchStrategy[dict[str, Any]]:
    names = st.text(characters, max_size=8).filter(lambda name: name not in known)
    return st.dictionaries(names, json_values, max_size=2)


def _stands(request: Any, path: Path) -> bool:
    try:
        get(request, path)
    except LookupError:
        return False
    return True
