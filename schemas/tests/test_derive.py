"""The Python API of the deriver: the text of a page in, a contract out."""

import contextlib
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from seedbed_schemas.contract import Contract
from seedbed_schemas.derive import PageError, derive, derive_page
from seedbed_schemas.job_api import job_api

ROOT = Path(__file__).parents[2]
PAGE = ROOT.parent / "shared" / "docs" / "seedream-4.5-text-to-image.zh.md"
CONTRACT = ROOT / "schemas" / "seedbed_schemas" / "contracts" / "seedream-4.5-text-to-image.json"
SMALL_PAGE = (Path(__file__).parent / "pages" / "tables.zh.md").read_text(encoding="utf-8")

vendor_page = pytest.mark.skipif(not PAGE.exists(), reason="the vendor's page is not beside this checkout")


@vendor_page
def test_the_shipped_contract_is_derived_from_the_page() -> None:
    assert derive(PAGE.read_text(encoding="utf-8")) == CONTRACT.read_text(encoding="utf-8")


@vendor_page
def test_every_statement_of_the_page_is_recognized() -> None:
    derivation = derive_page(PAGE.read_text(encoding="utf-8"))
    assert (derivation.notes, derivation.unrecognized) == ((), ())


@vendor_page
def test_a_truncated_page_gives_a_valid_contract_or_an_error() -> None:
    content = PAGE.read_bytes()
    for length in range(0, len(content), 50):
        with contextlib.suppress(PageError):
            Contract(derive_page(content[:length].decode("utf-8", "ignore")).contract)


@vendor_page
def test_every_clause_has_a_place() -> None:
    assert all(clause.place for clause in Contract.load().clauses())


@vendor_page
def test_the_example_call_of_the_page_is_valid() -> None:
    page = PAGE.read_text(encoding="utf-8")
    body = json.loads(page.split("--data '")[1].split("'\n```")[0])
    assert Contract.load().request.violations(body) == []


def places(node: object) -> list[dict[str, str]]:
    if isinstance(node, list):
        return [place for item in node for place in places(item)]
    if not isinstance(node, dict):
        return []
    own = [node["x-place"]] if "x-place" in node else list(node.get("x-places", {}).values())
    return own + [place for value in node.values() for place in places(value)]


@vendor_page
def test_every_place_in_the_contract_exists_in_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    contract_places = places(json.loads(CONTRACT.read_text(encoding="utf-8")))
    assert len(contract_places) > 40
    for place in contract_places:
        assert any(line.startswith("#") and line.endswith(place["heading"]) for line in page.splitlines())
        for part in place.values():
            assert part in page


def test_the_shipped_contract_is_valid_json_schema() -> None:
    Draft202012Validator.check_schema(json.loads(CONTRACT.read_text(encoding="utf-8")))


def test_rules_are_derived() -> None:
    contract = json.loads(derive(SMALL_PAGE))
    request = contract["$defs"]["request"]
    assert contract["title"] == "meadow/1-sketch"
    assert request["required"] == ["model", "input"]
    assert request["properties"]["model"]["const"] == "meadow/1-sketch"
    assert request["properties"]["notify"]["format"] == "uri"
    properties = request["properties"]["input"]["properties"]
    assert properties["words"]["maxLength"] == 40
    assert properties["copies"] == {
        "description": "The field `copies`.",
        "type": "integer",
        "enum": [1, 2, 4],
        "default": 1,
        "x-places": properties["copies"]["x-places"],
    }
    assert request["properties"]["input"]["required"] == ["words"]


def test_the_operation_and_the_codes_are_derived() -> None:
    contract = Contract(json.loads(derive(SMALL_PAGE)))
    assert contract.operation.path == "/v9/sketch"
    assert contract.operation.server == "https://api.example.com"
    assert (contract.operation.header, contract.operation.scheme) == ("X-Meadow", "Token")
    assert [code.number for code in contract.codes] == [200, 422, 499]
    assert contract.codes[2].name == "code_499"


@pytest.mark.parametrize(
    "line", ["| 参数名 | 类型 | 必填 | 默认值 | 说明 |\n", "| :--- | :--- | :--- | :--- | :--- |\n"]
)
def test_a_table_without_its_header_is_not_read_as_prose(line: str) -> None:
    start, heading, table = SMALL_PAGE.partition("#### input 对象属性\n")
    with pytest.raises(PageError, match="'input'"):
        derive(start + heading + table.replace(line, "", 1))


@pytest.mark.parametrize("limit", ["-5", "9" * 400, "9" * 16, "999999999999,999,999", "many"])
def test_an_invalid_limit_is_rejected(limit: str) -> None:
    with pytest.raises(PageError):
        derive(SMALL_PAGE.replace("`40`", f"`{limit}`"))


def test_prose_of_the_vendor_is_not_copied() -> None:
    assert "A hill with sheep" not in derive(SMALL_PAGE)


CODES = "`200`, `422`, `499`<br>**状态码说明:**<br>- `200`: 成功<br>- `422`: 验证错误<br>- `499`: 其他"

REPLACEMENTS = {
    "Body (application/json)": "Wunschzettel",
    "#### input 对象属性": "#### X 对象属性",
    "`40`<br>": "`4.5`<br>",
    "| 参数名 | 类型 | 说明 |": "| 参数名 | 类型 | 价格 |",
    "| 是 | - | 输入。 |": "| 也许 | - | 输入。 |",
}


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("Body (application/json)", "'请求参数'"),
        ("## 响应", "'响应'"),
        ("**请求方法:** POST", "'请求方法'"),
        ("**请求路径:** `/v9/sketch`", "'请求路径'"),
        ("### Authorizations", "'Authorizations'"),
        ("`X-Meadow: Token abc`", "the header to send"),
        ("**可用选项:** `1`, `2`, `4`", "'可用选项'"),
        ("#### input 对象属性", "'X'"),
        (CODES, "has no line"),
        ("`enum<integer>` | 否", "'copies'"),
        ("`string<uri>`", "'类型'"),
        ("`words`", "'参数名'"),
        ("| 参数名 | 类型 | 必填 | 默认值 | 说明 |", "fields of the request body"),
        ("`40`", "'words'"),
        ("`40`<br>", "not of type integer"),
        ("| 参数名 | 类型 | 说明 |", "no column"),
        ("| 是 | - | 输入。 |", "'必填'"),
    ],
)
def test_a_missing_part_is_named_in_the_error(removed: str, message: str) -> None:
    assert removed in SMALL_PAGE
    page = SMALL_PAGE.replace("## 请求参数\n", "") if removed.startswith("Body") else SMALL_PAGE
    with pytest.raises(PageError) as error:
        derive(page.replace(removed, REPLACEMENTS.get(removed, "")))
    assert message in str(error.value)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_a_page_without_an_example_call_has_the_documented_server() -> None:
    contract = Contract(json.loads(derive(SMALL_PAGE.replace("curl https://api.example.com/v9/sketch", ""))))
    assert contract.operation.server == job_api().server
    assert contract.operation.path == "/v9/sketch"


def test_the_model_may_be_named_by_its_default_alone() -> None:
    assert (
        json.loads(derive(SMALL_PAGE.replace("<br>**可用选项:** `meadow/1-sketch`", "")))["title"] == "meadow/1-sketch"
    )
