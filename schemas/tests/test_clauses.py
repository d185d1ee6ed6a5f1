"""Clauses: stable ids for every testable statement of a contract; violations use the same ids."""

import pytest
from seedbed_schemas import Contract, default_contract

CONTRACT = default_contract()


def contract_with(name: str, schema: dict[str, object]) -> Contract:
    """Return a contract whose input has one field of that schema."""
    return Contract(
        {
            "title": "meadow/1",
            "x-operation": {"method": "POST", "path": "/a", "server": "https://a.test", "header": "H", "scheme": "S"},
            "x-codes": [{"code": 200, "name": "success", "description": "It worked."}],
            "$defs": {
                "request": {
                    "type": "object",
                    "properties": {
                        "model": {"type": "string", "const": "meadow/1"},
                        "input": {"type": "object", "required": [name], "properties": {name: schema}},
                    },
                },
                "answer": {},
            },
        }
    )


@pytest.mark.parametrize(
    "clause",
    [
        "operation/path",
        "request/type",
        "request/required/model",
        "model/const",
        "callBackUrl/format",
        "input/required/prompt",
        "input.prompt/type",
        "input.prompt/maxLength",
        "input.aspect_ratio/enum",
        "input.aspect_ratio/enum/16:9",
        "input.aspect_ratio/default",
        "code/422",
        "answer/data.taskId/type",
    ],
)
def test_a_statement_of_the_page_has_a_stable_id(clause: str) -> None:
    assert clause in {each.id for each in CONTRACT.clauses()}


def test_ids_are_distinct_and_the_order_does_not_change() -> None:
    ids = [clause.id for clause in CONTRACT.clauses()]
    assert len(ids) == len(set(ids))
    assert ids == [clause.id for clause in Contract.load().clauses()]


def test_a_code_is_one_clause_although_the_page_lists_it_twice() -> None:
    ids = {clause.id for clause in CONTRACT.clauses()}
    assert "answer/code/enum" in ids
    assert "answer/code/enum/422" not in ids


def test_a_clause_as_json_has_its_value_and_place() -> None:
    (clause,) = (each for each in CONTRACT.clauses() if each.id == "input.prompt/maxLength")
    encoded = clause.to_json()
    assert (encoded["kind"], encoded["value"]) == ("maxLength", clause.value)
    assert encoded["place"]["row"] == "prompt"


@pytest.mark.parametrize(
    ("schema", "value", "clause"),
    [
        ({"type": "string", "maxLength": 2}, "abc", "input.x/maxLength"),
        ({"enum": ["a"]}, "b", "input.x/enum"),
        ({"type": "array", "maxItems": 1}, [1, 2], "input.x/maxItems"),
        ({"type": "array", "items": {"type": "integer", "minimum": 1}}, [1, 0], "input.x[]/minimum"),
        (
            {"type": "array", "items": {"type": "object", "properties": {"y": {"type": "string"}}}},
            [{"y": 1}],
            "input.x[].y/type",
        ),
        ({"type": "array", "items": {"type": "array", "items": {"type": "null"}}}, [[1]], "input.x[][]/type"),
        ({"type": "object", "required": ["y"], "properties": {"y": {}}}, {}, "input.x/required/y"),
    ],
)
def test_a_violation_has_the_id_of_the_clause_it_breaks(schema: dict[str, object], value: object, clause: str) -> None:
    contract = contract_with("x", schema)
    (violation,) = contract.request.violations({"model": "meadow/1", "input": {"x": value}})
    assert violation.clause == clause
    assert clause in {each.id for each in contract.clauses()}


@pytest.mark.parametrize(
    ("answer", "clause"),
    [({"code": "200"}, "answer/code/type"), ({"data": {"taskId": 1}}, "answer/data.taskId/type"), ([], "answer/type")],
)
def test_an_invalid_response_breaks_a_clause_of_the_response(answer: object, clause: str) -> None:
    assert clause in {violation.clause for violation in CONTRACT.answer.violations(answer)}
    assert clause in {each.id for each in CONTRACT.clauses()}
