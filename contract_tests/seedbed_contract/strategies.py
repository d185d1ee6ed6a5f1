"""Hypothesis strategies for requests, raw bodies and API keys, generated from a contract.

Use them to test a service that implements the contract, or a client that has to keep it::

    from hypothesis import given
    from seedbed_contract import BrokenRequest, requests, violations


    @given(request=requests())
    def test_a_valid_request_is_accepted(request: dict[str, object]) -> None:
        assert my_service(request).code == 200


    @given(broken=violations(clauses=["input.prompt/maxLength"]))
    def test_a_long_prompt_is_refused(broken: BrokenRequest) -> None:
        assert my_service(broken.request).code == 422

The strategies mix values at the limits of the contract, the other cases from :mod:`seedbed_contract.cases`, and random
values. jsonschema validates every drawn request, so a failing test never comes from a wrong strategy. A drawn request
is a fresh copy: a test can change it.
"""

from __future__ import annotations

import copy
import string
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from hypothesis import reject
from hypothesis import strategies as st
from seedbed_schemas import Contract, default_contract, job_api

from seedbed_contract.cases import KeyHeaderCase, RawBodyCase, RefusedCase, accepted, raw, refused, wrong_keys
from seedbed_contract.cases.case_types import encode
from seedbed_contract.cases.raw_bodies import JSON_HEADERS
from seedbed_contract.cases.requests import is_free_text, limits, request_schema
from seedbed_contract.generation.instances import characters, instances, json_values
from seedbed_contract.generation.locations import ABSENT, get_at, locations, remove_at, set_at, smallest
from seedbed_contract.generation.violations import IMPLIED_BY_TYPE, SchemaRule, of_other_types, schema_rules

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

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
_PER_LIMIT: Final = 3
_LIMIT_KEYWORDS: Final = ("Length", "Items", "minimum", "maximum", "Minimum", "Maximum")
_TOKEN_CHARACTERS: Final = string.ascii_letters + string.digits + "-._~+/"
_BLANK_TEXTS: Final = ("", " ", "\n", "\u3000")


@dataclass(frozen=True, slots=True)
class BrokenRequest:
    """A request that violates one clause of the contract.

    Attributes:
        clause: ID of the violated clause, such as ``input.prompt/maxLength``.
        request: The request as a JSON value. It is not always an object.
        also: Clauses that no request can keep while it violates this one. A value of a wrong type is not among the
            options of its field either, so ``input.quality/type`` has ``input.quality/enum`` here. Otherwise empty.
    """

    clause: str
    request: Any
    also: tuple[str, ...] = ()

    @property
    def payload(self) -> bytes:
        """The request body to send."""
        return encode(self.request)


def requests(
    contract: Contract | None = None, *, callback: str | None = None, unstated: bool = False
) -> SearchStrategy[Any]:
    """Return a strategy for valid requests, which a service has to accept.

    Example::

        @given(request=requests(callback="http://127.0.0.1:8000/done"))
        def test_a_request_survives_a_round_trip(request: dict[str, object]) -> None:
            assert json.loads(json.dumps(request)) == request

    Args:
        contract: The contract to keep, by default that of the built-in model.
        callback: A URL that the service may call. Without it, no request asks for a callback.
        unstated: Whether to include what no rule forbids but the page does not mention either: unknown fields and blank
            texts. A service may accept or refuse these requests.
    """
    contract = contract or default_contract()
    strategy = _requests(contract, callback)
    return _with_unstated(strategy, contract) if unstated else strategy


def violations(
    contract: Contract | None = None, *, clauses: Collection[str] | None = None
) -> SearchStrategy[BrokenRequest]:
    """Return a strategy for requests that violate exactly one clause, which a service has to refuse.

    There is one exception: a value of a wrong type is not among the options of an ``enum`` either. Where the field of a
    ``type`` clause also has an ``enum``, a ``const`` or alternatives, the request violates these, too, and
    :attr:`BrokenRequest.also` names them.

    Example::

        @given(broken=violations(clauses=["input.quality/enum", "input.quality/type"]))
        def test_a_wrong_quality_is_refused(broken: BrokenRequest) -> None:
            assert my_service(broken.request).code == 422, broken.clause

    Args:
        contract: The contract to violate, by default that of the built-in model.
        clauses: The ids of the clauses to violate, by default all of :func:`breakable_clauses`.

    Raises:
        KeyError: The contract has no such clause, or a request cannot violate it.
        ValueError: ``clauses`` is empty.
    """
    contract = contract or default_contract()
    rules = _rules(contract)
    chosen = tuple(rules) if clauses is None else tuple(clauses)
    if not chosen:
        raise ValueError("there is no clause to break; name at least one of breakable_clauses()")
    if unknown := [clause for clause in chosen if clause not in rules]:
        raise KeyError(f"unknown clause {unknown[0]!r}; breakable_clauses() lists the valid IDs")
    listed = [case for case in refused(contract) if case.clause in chosen and _is_single(case.clause, case.also)]
    # The cases of a clause begin with those nearest to its limit, where an error of one shows.
    limits_of = dict.fromkeys(case.clause for case in listed if case.clause.endswith(_LIMIT_KEYWORDS))
    nearest = [case for clause in limits_of for case in [each for each in listed if each.clause == clause][:_PER_LIMIT]]

    def as_broken(case: RefusedCase) -> BrokenRequest:
        return BrokenRequest(case.clause, copy.deepcopy(case.request), case.also)

    return st.one_of(
        *(st.sampled_from(cases).map(as_broken) for cases in (nearest, listed) if cases),
        _random_violations(contract, [rules[clause] for clause in chosen]),
    )


def raw_bodies(contract: Contract | None = None) -> SearchStrategy[RawBodyCase]:
    """Return a strategy for raw request bodies, each with what a service has to do with it.

    Example::

        @given(body=raw_bodies())
        def test_a_raw_body_is_handled(body: RawBodyCase) -> None:
            code = my_service(body.body, headers=body.headers).code
            assert code in {"accept": {200}, "refuse": {422}, "either": {200, 422}}[body.expected]

    Args:
        contract: The contract that decides what a valid request is, by default that of the built-in model.
    """
    contract = contract or default_contract()
    good = encode(smallest(request_schema(contract)))
    positions = st.integers(0, len(good) - 1)
    white_space = st.text(" \t\r\n", max_size=9).map(str.encode)

    def padded(before: bytes, after: bytes) -> RawBodyCase:
        return RawBodyCase("a request amid white space", before + good + after, JSON_HEADERS, "accept")

    def changed(at: int, byte: bytes) -> RawBodyCase:
        body = good[:at] + byte + good[at + 1 :]
        return RawBodyCase("a request with one byte changed", body, JSON_HEADERS, "either")

    def refused_as(name: str, bodies: SearchStrategy[bytes]) -> SearchStrategy[RawBodyCase]:
        return bodies.map(lambda body: RawBodyCase(name, body, JSON_HEADERS, "refuse"))

    return st.one_of(
        st.sampled_from(raw(contract)),
        refused_as("a truncated request", positions.map(lambda length: good[:length])),
        refused_as("a JSON value that is not an object", of_other_types("object").map(encode)),
        refused_as("random bytes", st.binary(max_size=60)),
        st.builds(padded, white_space, white_space),
        st.builds(changed, positions, st.binary(min_size=1, max_size=1)),
    )


def keys(key: str, *, contract: Contract | None = None) -> SearchStrategy[KeyHeaderCase]:
    """Return a strategy for headers with a wrong or oddly written API key, which a service has to refuse or may refuse.

    The drawn headers never carry the key in the way that the contract demands.

    Example::

        @given(wrong=keys("sk-test-0123456789"))
        def test_a_wrong_key_is_refused(wrong: KeyHeaderCase) -> None:
            code = my_service(headers=wrong.headers).code
            assert code in {"refuse": {401}, "either": {200, 401}}[wrong.expected]

    Args:
        key: A key that the service accepts.
        contract: The contract that names the header and the scheme, by default that of the built-in model.

    Raises:
        ValueError: The key is empty, or a header cannot carry it.
    """
    listed = wrong_keys(key, contract=contract)
    operation = (contract or default_contract()).operation
    changed = st.builds(
        lambda at, other: key[:at] + other + key[at + 1 :],
        st.integers(0, len(key) - 1),
        st.text(_TOKEN_CHARACTERS, max_size=2),
    )
    tokens = changed | st.text(_TOKEN_CHARACTERS, min_size=1, max_size=2 * len(key))
    wrong = tokens.filter(lambda token: token not in {"", key})
    headers = wrong.map(lambda token: ((operation.header, f"{operation.scheme} {token}".strip()),))
    return st.sampled_from(listed) | headers.map(lambda each: KeyHeaderCase("a wrong key", each, "refuse"))


def breakable_clauses(contract: Contract | None = None) -> tuple[str, ...]:
    """Return the IDs of the clauses that a request can violate, in the order of the contract.

    Example::

        @pytest.mark.parametrize("clause", breakable_clauses())
        def test_a_violation_is_refused(clause: str) -> None: ...

    Args:
        contract: The contract, by default that of the built-in model.
    """
    return tuple(_rules(contract or default_contract()))


# Hypothesis validates a strategy when it is first drawn from, so building one once per contract saves that time.
@lru_cache(_CONTRACTS)
def _rules(contract: Contract) -> dict[str, SchemaRule]:
    # Some limits, such as a minimum of 1 beside an exclusive one of 0, are never violated alone.
    violated = {case.clause for case in refused(contract) if _is_single(case.clause, case.also)}
    return {rule.clause: rule for rule in schema_rules(request_schema(contract)) if rule.clause in violated}


def _is_single(clause: str, also: Sequence[str]) -> bool:
    """Return whether a request violates one clause, and no other that it could keep meanwhile."""
    field, _, keyword = clause.rpartition("/")
    return not also or (keyword == "type" and {*also} <= {f"{field}/{implied}" for implied in IMPLIED_BY_TYPE})


@lru_cache(_CONTRACTS)
def _requests(contract: Contract, callback: str | None) -> SearchStrategy[Any]:
    schema, listed = request_schema(contract), _listed(contract, callback)
    changes = [
        st.tuples(st.just(path), instances(node.schema))
        for path, node in locations(schema)
        if not {"properties", "const"} & node.schema.keys() and path != (job_api().fields.callback,)
    ]
    # Listed requests with another value at one location are fast to draw.
    whole = st.sampled_from(listed).map(copy.deepcopy)
    changed = whole
    if changes:
        changed = st.builds(lambda request, change: set_at(request, schema, *change), whole, st.one_of(changes))
    # A changed item may equal another item of an array that wants unique ones.
    random = changed.filter(contract.request.accepts) | _generated(contract, callback)
    return st.one_of(
        # Branches of their own, because Hypothesis draws each branch equally often and shrinks towards the first.
        *(st.sampled_from(cases).map(copy.deepcopy) for cases in (limits(contract), listed) if cases),
        random.map(lambda request: _validated(contract, request)),
    )


@lru_cache(_CONTRACTS)
def _listed(contract: Contract, callback: str | None) -> list[Any]:
    return [case.request for case in accepted(contract, callback=callback) if case.body is None]


def _generated(contract: Contract, callback: str | None) -> SearchStrategy[Any]:
    """Return a strategy for generated requests, which ask for a callback only if a URL is given or it is required."""
    schema, name = request_schema(contract), job_api().fields.callback
    fields, required = schema.get("properties", {}), schema.get("required", ())
    if name not in fields or (callback is None and name in required):
        return instances(schema)
    others = {field: fields[field] for field in fields if field != name}
    without = instances({**schema, "properties": others, "required": [field for field in required if field != name]})
    if callback is None:
        return without
    with_callback = without.map(lambda request: {**request, name: callback})
    return (with_callback if name in required else without | with_callback).filter(contract.request.accepts)


def _validated(contract: Contract, request: Any) -> Any:
    if found := contract.request.violations(request):
        raise AssertionError(f"a strategy made the invalid request {request!r}, which violates {found}")
    return request


@st.composite
def _random_violations(draw: DrawFn, contract: Contract, rules: Sequence[SchemaRule]) -> BrokenRequest:
    schema = request_schema(contract)
    rule = draw(st.sampled_from(rules))
    # Listed requests as the rest of the request: random ones would be slow to draw and to shrink.
    whole = copy.deepcopy(draw(st.sampled_from(_listed(contract, None))))
    value = draw(rule.values)
    broken = remove_at(whole, schema, rule.path) if value is ABSENT else set_at(whole, schema, rule.path, value)
    found = [violation.clause for violation in contract.request.violations(broken)]
    also = tuple(clause for clause in found if clause != rule.clause)
    # A value that is wrong for its field may also be wrong for the alternatives of an object around it.
    if rule.clause not in found or not _is_single(rule.clause, also):
        reject()
    return BrokenRequest(rule.clause, broken, also)


@st.composite
def _with_unstated(draw: DrawFn, strategy: SearchStrategy[Any], contract: Contract) -> Any:
    """Add to a request what no rule mentions: unknown fields and blank texts."""
    request = draw(strategy)
    schema = request_schema(contract)
    for path, node in locations(schema):
        present = get_at(request, path)
        if present is ABSENT:
            continue
        changed = request
        if isinstance(present, dict) and node.schema.get("type") == "object":
            drawn = draw(st.dictionaries(st.text(characters, max_size=8), json_values, max_size=2))
            unknown = {name: value for name, value in drawn.items() if name not in node.schema.get("properties", {})}
            changed = set_at(request, schema, path, {**unknown, **present})
        elif is_free_text(node.schema) and draw(st.booleans()):
            blank = draw(st.sampled_from(_BLANK_TEXTS))[: node.schema.get("maxLength")]
            changed = set_at(request, schema, path, blank)
        # Some contracts forbid unknown fields.
        request = changed if contract.request.accepts(changed) else request
    return _validated(contract, request)
