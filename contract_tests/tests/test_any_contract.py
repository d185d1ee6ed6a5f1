"""The strategies follow the contract, whichever it is: here one that uses every keyword they know."""

import json

import pytest
from hypothesis import given
from seedbed_contract import BrokenRequest, breakable_clauses, broken_requests, requests
from seedbed_contract.instances import instances
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
        "links": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string", "format": "uri"}},
        "anything": {"type": "array"},
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


@given(request=requests(contract=CONTRACT))
def test_requests_keep_any_contract(request: object) -> None:
    assert CONTRACT.request.violations(request) == []
    assert json.loads(json.dumps(request)) == request


@pytest.mark.parametrize("clause", breakable_clauses(CONTRACT))
def test_each_clause_of_any_contract_can_be_broken(clause: str) -> None:
    @given(broken=broken_requests(contract=CONTRACT, clauses=[clause]))
    def check(broken: BrokenRequest) -> None:
        assert not CONTRACT.request.accepts(broken.request)

    check()


def test_the_clauses_follow_the_contract() -> None:
    assert {"input.seed/minimum", "input.links/maxItems", "input.place/required/x", "input.copies/enum"} <= set(
        breakable_clauses(CONTRACT)
    )
    assert "input.prompt/maxLength" not in breakable_clauses(CONTRACT)


@pytest.mark.parametrize("schema", [{"type": "colour"}, {"type": "string", "format": "colour"}])
def test_a_schema_for_which_there_is_no_strategy_is_refused(schema: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="colour"):
        instances(schema)
