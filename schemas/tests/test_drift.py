"""Drift: the differences between two contracts, and whether each breaks clients or servers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml12
from seedbed_schemas import Contract, default_contract
from seedbed_schemas.derive import derive_page
from seedbed_schemas.drift import Change, Difference, Impact, drift

PAGES = Path(__file__).parent / "pages"
BREAKS, WORKS = Impact.BREAKING, Impact.COMPATIBLE
Edit = Callable[[dict[str, Any]], object]


def contract_of(name: str) -> Contract:
    return Contract(derive_page((PAGES / name).read_text(encoding="utf-8")).contract)


def edited(edit: Edit) -> Contract:
    document = json.loads(json.dumps(contract_of("collage/openapi.en.md").document))
    edit(document)
    return Contract(document)


def fields(contract: dict[str, Any]) -> Any:
    return contract["$defs"]["request"]["properties"]["input"]["properties"]


def answer(contract: dict[str, Any]) -> Any:
    return contract["$defs"]["answer"]


def code(contract: dict[str, Any]) -> Any:
    return answer(contract)["properties"]["code"]


@pytest.mark.parametrize("name", ["tables.en.md", "bullets.zh.md", "headings.en.md", "openapi.zh.md", "answer.json"])
def test_wording_order_layout_and_language_do_not_count_as_drift(name: str) -> None:
    assert drift(contract_of("collage/tables.zh.md"), contract_of(f"collage/{name}")) == ()


def test_descriptions_examples_and_order_do_not_count_as_drift() -> None:
    def edit(contract: dict[str, Any]) -> None:
        fields(contract)["words"] |= {"description": "Else.", "examples": ["else"]}
        fields(contract)["copies"]["enum"].reverse()
        contract["x-codes"].reverse()
        contract["$defs"]["request"]["required"].reverse()

    assert drift(edited(lambda _: None), edited(edit)) == ()


@pytest.mark.parametrize(
    ("edit", "change", "clause", "clients", "servers"),
    [
        (lambda c: fields(c).update(mood={"type": "string"}), "added", "input.mood", WORKS, BREAKS),
        (lambda c: fields(c).pop("strength"), "removed", "input.strength", BREAKS, WORKS),
        (lambda c: fields(c).pop("frame"), "removed", "input.frame", BREAKS, WORKS),
        (lambda c: fields(c)["words"].update(maxLength=50), "changed", "input.words/maxLength", WORKS, BREAKS),
        (lambda c: fields(c)["words"].update(maxLength=30), "changed", "input.words/maxLength", BREAKS, WORKS),
        (lambda c: fields(c)["words"].pop("maxLength"), "removed", "input.words/maxLength", WORKS, BREAKS),
        (lambda c: fields(c)["words"].update(minLength=3), "added", "input.words/minLength", BREAKS, WORKS),
        (lambda c: fields(c)["pictures"].update(minItems=0), "changed", "input.pictures/minItems", WORKS, BREAKS),
        (lambda c: fields(c)["pictures"].update(minItems=2), "changed", "input.pictures/minItems", BREAKS, WORKS),
        (lambda c: fields(c)["pictures"].pop("items"), "removed", "input.pictures[]", WORKS, BREAKS),
        (lambda c: fields(c)["frame"].update(items={}), "added", "input.frame[]", BREAKS, WORKS),
        (lambda c: fields(c)["strength"].update(type="string"), "changed", "input.strength/type", BREAKS, BREAKS),
        (lambda c: fields(c)["strength"].update(default=1), "changed", "input.strength/default", BREAKS, BREAKS),
        (lambda c: fields(c)["copies"]["enum"].append("8"), "added", "input.copies/enum/8", WORKS, BREAKS),
        (lambda c: fields(c)["copies"]["enum"].pop(), "removed", "input.copies/enum/4", BREAKS, WORKS),
        (lambda c: fields(c)["copies"].pop("enum"), "removed", "input.copies/enum", WORKS, BREAKS),
        (lambda c: fields(c)["words"].update(enum=["a"]), "added", "input.words/enum", BREAKS, WORKS),
        (lambda c: fields(c)["words"].update(deprecated=True), "added", "input.words/deprecated", WORKS, WORKS),
        (lambda c: c["$defs"]["request"]["required"].pop(), "removed", "request/required/input", WORKS, BREAKS),
        (lambda c: (c["x-codes"].pop(), code(c)["enum"].pop()), "removed", "code/499", WORKS, BREAKS),
        (lambda c: c["x-operation"].update(path="/v10"), "changed", "operation/path", BREAKS, BREAKS),
        (lambda c: answer(c).update(required=["msg"]), "added", "answer/required/msg", WORKS, BREAKS),
        (lambda c: answer(c)["properties"].pop("msg"), "removed", "answer/msg", BREAKS, WORKS),
        (lambda c: answer(c)["properties"].update(mood={}), "added", "answer/mood", WORKS, WORKS),
        (lambda c: answer(c)["properties"]["msg"].update(maxLength=9), "added", "answer/msg/maxLength", WORKS, BREAKS),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_one_change_is_one_difference(edit: Edit, change: str, clause: str, clients: Impact, servers: Impact) -> None:
    (difference,) = drift(edited(lambda _: None), edited(edit))
    assert (difference.change, difference.id) == (change, clause)
    assert (difference.clients, difference.servers) == (clients, servers)


@pytest.mark.parametrize(("part", "clause", "clients"), [("request", "mood", BREAKS), ("answer", "answer/mood", WORKS)])
def test_a_new_required_field_is_one_difference(part: str, clause: str, clients: Impact) -> None:
    def edit(contract: dict[str, Any]) -> None:
        contract["$defs"][part]["properties"]["mood"] = {"type": "string"}
        contract["$defs"][part].setdefault("required", []).append("mood")

    expected = Difference(clause, Change.ADDED, None, "string", clients, BREAKS)
    assert drift(edited(lambda _: None), edited(edit)) == (expected,)


def newer_page() -> str:
    """Return the newer form of the shipped model's page: an OpenAPI page with four changes."""
    contract = json.loads(json.dumps(default_contract().document))
    request, response = contract["$defs"]["request"], contract["$defs"]["answer"]
    request["required"] = [contract["$defs"]["request"]["required"][0]]
    request["properties"]["input"]["properties"]["nsfw_checker"] = {"type": "boolean", "default": False}
    response["properties"]["code"]["enum"].append(433)
    response["properties"]["data"]["required"] = ["taskId"]
    operation = contract["x-operation"]
    body = {"required": True, "content": {"application/json": {"schema": request}}}
    good = {"description": "Fine", "content": {"application/json": {"schema": response}}}
    call = {"requestBody": body, "responses": {"200": good}, "security": [{"key": []}]}
    document = {
        "openapi": "3.0.1",
        "servers": [{"url": operation["server"]}],
        "paths": {operation["path"]: {"post": call}},
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }
    return f"# A newer page\n\n## OpenAPI Specification\n\n```yaml\n{yaml12.format_yaml(document)}\n```\n"


def test_the_newer_page_differs_in_exactly_four_clauses() -> None:
    differences = drift(default_contract(), Contract(derive_page(newer_page()).contract))
    assert {(difference.change.value, difference.id) for difference in differences} == {
        ("added", "input.nsfw_checker"),
        ("added", "code/433"),
        ("removed", "request/required/input"),
        ("added", "answer/data/required/taskId"),
    }
    assert len(differences) == 4
