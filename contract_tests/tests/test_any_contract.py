"""The strategies and cases work with any contract, here one that uses every supported keyword."""

import json

import pytest
from hypothesis import given, settings
from seedbed_contract import BrokenRequest, breakable_clauses, requests, violations
from seedbed_contract.cases import accepted, raw, refused
from seedbed_contract.generation.instances import instances
from seedbed_schemas import Contract, default_contract

INPUT = {
    "type": "object",
    "required": ["seed", "links"],
    "properties": {
        "seed": {"type": "integer", "minimum": 1, "maximum": 9},
        "strength": {"type": "number", "minimum": 0, "maximum": 1},
        "safe": {"type": "boolean"},
        "copies": {"type": "integer", "enum": [1, 2, 4]},
        "size": {"type": "string", "enum": ["1", "2"]},
        "name": {"type": "string", "minLength": 2, "maxLength": 5},
        "deep": {
            "type": "array",
            "items": {"type": "object", "required": ["a.b"], "properties": {"a.b": {"type": "string", "maxLength": 3}}},
        },
        "huge": {"type": "string", "maxLength": 10**9},
        "none": {"type": "string", "maxLength": 0},
        "few": {"type": "array", "maxItems": 2, "uniqueItems": True, "items": {"enum": ["x", "y"]}},
        "link": {"type": "string", "format": "uri", "maxLength": 40},
        "old": {"type": "string", "maxLength": 9, "deprecated": True},
        "links": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string", "format": "uri"}},
        "anything": {"type": "array"},
        "when": {"type": "string", "format": "date-time"},
        "mail": {"type": "string", "format": "email"},
        "raw": {"type": "string", "format": "binary"},
        "tag": {"type": "string", "pattern": "^[a-z]{2,4}$", "maxLength": 4},
        "step": {"type": "integer", "minimum": 64, "maximum": 512, "multipleOf": 64},
        "weight": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "count": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9},
        "half": {"type": "number", "multipleOf": 0.5},
        "maybe": {"type": ["string", "null"], "maxLength": 5},
        "set": {"type": "array", "uniqueItems": True, "items": {"type": "integer"}},
        "untyped": {"properties": {"x": {"type": "integer"}}},
        "place": {"type": "object", "required": ["x"], "properties": {"x": {"type": "number"}}},
    },
}
CONTRACT = Contract(
    {
        **default_contract().document,
        "title": "meadow/1-sketch",
        "$defs": {
            "request": {
                "type": "object",
                "required": ["model"],
                "properties": {"model": {"type": "string", "const": "meadow/1-sketch"}, "input": INPUT},
            },
            "answer": {"type": "object"},
        },
    }
)


@given(request=requests(CONTRACT))
def test_requests_keep_the_contract(request: object) -> None:
    assert CONTRACT.request.violations(request) == []
    assert json.loads(json.dumps(request)) == request


@given(request=requests(CONTRACT, unstated=True))
def test_requests_with_unstated_fields_keep_the_contract(request: object) -> None:
    assert CONTRACT.request.violations(request) == []


def test_every_clause_has_a_refused_case() -> None:
    assert {case.clause for case in refused(CONTRACT)} == set(breakable_clauses(CONTRACT))
    for case in refused(CONTRACT):
        found = CONTRACT.request.violations(case.request)
        assert case.clause in {each.clause for each in found}
        assert len({each.field for each in found}) == 1


def test_the_accepted_cases_keep_every_clause() -> None:
    kept = {clause for case in accepted(CONTRACT) for clause in case.clauses}
    assert set(breakable_clauses(CONTRACT)) <= kept
    assert all(CONTRACT.request.violations(json.loads(case.payload)) == [] for case in accepted(CONTRACT))


def test_the_raw_bodies_to_accept_are_valid_requests() -> None:
    for body in raw(CONTRACT):
        if body.expected == "accept":
            assert CONTRACT.request.violations(json.loads(body.body)) == []


@pytest.mark.parametrize("clause", breakable_clauses(CONTRACT))
def test_every_breakable_clause_can_be_violated(clause: str) -> None:
    @settings(max_examples=30)
    @given(broken=violations(CONTRACT, clauses=[clause]))
    def check(broken: BrokenRequest) -> None:
        found = CONTRACT.request.violations(broken.request)
        assert clause == broken.clause
        assert clause in {each.clause for each in found}
        assert len({each.field for each in found}) == 1

    check()


def test_the_breakable_clauses_depend_on_the_contract() -> None:
    never = {"input.raw/format", "input.tag/maxLength", "input.huge/maxLength", "input.few/maxItems"}
    assert not never & set(breakable_clauses(CONTRACT))
    assert {"input.tag/pattern", "input.step/multipleOf", "input.maybe/type", "input.set/uniqueItems"} <= set(
        breakable_clauses(CONTRACT)
    )
    assert {"input.seed/minimum", "input.links/maxItems", "input.place/required/x", "input.copies/enum"} <= set(
        breakable_clauses(CONTRACT)
    )
    assert {"input.links[]/format", "input.deep[]/required/a.b", "input.deep[].a.b/maxLength"} <= set(
        breakable_clauses(CONTRACT)
    )
    assert "input.prompt/maxLength" not in breakable_clauses(CONTRACT)


@pytest.mark.parametrize("schema", [{"type": "colour"}, {"type": "string", "format": "uri-template"}])
def test_an_unsupported_schema_is_refused(schema: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no strategy"):
        instances(schema)
