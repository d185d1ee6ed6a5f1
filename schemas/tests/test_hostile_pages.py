"""Pages that are wrong in one place, or as others write them: read, or refused in one sentence; nothing lost unsaid."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from seedbed_mock.cli import main
from seedbed_schemas import Contract
from seedbed_schemas.contract import ContractError
from seedbed_schemas.derive import PageError, derive_page
from seedbed_schemas.drift import Impact, drift

PAGES = Path(__file__).parent / "pages"
OPENAPI = (PAGES / "collage" / "openapi.en.md").read_text(encoding="utf-8")
TABLES = (PAGES / "tables.zh.md").read_text(encoding="utf-8")
SCHEME = "type: apiKey, in: header, name: X-Meadow, x-scheme: Token"


def test_a_scheme_that_is_called_bearer_is_one() -> None:
    contract = Contract(derive_page(OPENAPI.replace(SCHEME, "type: bearer, scheme: bearer")).contract)
    assert (contract.operation.header, contract.operation.scheme) == ("Authorization", "Bearer")


@pytest.mark.parametrize(
    ("found", "put"),
    [
        ("                    - meadow/2-collage\n", ""),
        ("type: number\n", "type: [{a: b}]\n"),
        ("type: number\n", "type: null\n"),
        ("maxLength: 40", "pattern: '^(a|b'"),
        ("maxLength: 40", "maxLength: -5"),
        ("maxLength: 40", "minLength: 9\n                      maxLength: 5"),
        ("x-meadow-ignored: true", "x-meadow-ignored: " + "[" * 500 + "]" * 500),
        ("maximum: 1\n", "maximum: .nan\n"),
    ],
    ids=["enum of nothing", "type of objects", "null type", "pattern", "negative", "contradiction", "deep", "nan"],
)
def test_a_page_that_is_wrong_in_one_place_is_refused_in_one_sentence(found: str, put: str) -> None:
    assert found in OPENAPI
    with pytest.raises(PageError) as refusal:
        derive_page(OPENAPI.replace(found, put, 1))
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("put", "words"),
    [("maxLength: -5", "input.words"), ("pattern: '^(a|b'", "input.words"), ("minLength: 50\n", "input.words")],
)
def test_a_rule_that_cannot_be_is_refused_by_the_name_of_its_field(put: str, words: str) -> None:
    indented = put.replace("\n", "\n                      maxLength: 40")
    with pytest.raises(PageError, match=words):
        derive_page(OPENAPI.replace("maxLength: 40", indented, 1))


@pytest.mark.parametrize(
    ("found", "put"),
    [
        ("required: [words, copies]", "required: words"),
        ("required: [words, copies]", "required: true"),
        ("required: [width]\n", "required: [width, 3]\n"),
        ("minItems: 1\n", "nullable: 'true'\n"),
        ("enum: [1, '2', 4]", "enum: [1.5, '2', 4, 1]"),
    ],
)
def test_a_fact_that_is_not_understood_is_told(found: str, put: str) -> None:
    assert found in OPENAPI
    assert derive_page(OPENAPI.replace(found, put, 1)).unread != ()


def test_properties_that_are_no_object_are_refused() -> None:
    with pytest.raises(PageError, match="properties"):
        derive_page(OPENAPI.replace("properties:\n        width: {type: integer, minimum: 1}", "properties: [width]"))


def test_options_of_strings_are_strings_however_they_are_written() -> None:
    page = OPENAPI.replace("enum: [1, '2', 4]", "enum: [1, 2.5, 4]")
    copies = Contract(derive_page(page).contract).input_fields["copies"]
    assert copies["enum"] == ["1", "2.5", "4"]


def test_an_openapi_document_in_the_syntax_of_json_may_stand_in_a_fence() -> None:
    answer = json.loads((PAGES / "collage" / "answer.json").read_text(encoding="utf-8"))
    page = f"# OpenAPI Specification\n\n```json\n{json.dumps(answer['data']['openapi'], indent=1)}\n```\n"
    assert Contract(derive_page(page).contract).model == "meadow/2-collage"


def test_a_code_that_only_the_options_list_is_a_code() -> None:
    page = TABLES.replace("`422`, `499`<br>", "`422`, `499`, `433`<br>")
    assert [code.number for code in Contract(derive_page(page).contract).codes] == [200, 422, 499, 433]


def test_the_options_alone_make_the_code_table() -> None:
    page = TABLES.replace("<br>**状态码说明:**<br>- `200`: 成功<br>- `422`: 验证错误<br>- `499`: 其他", "")
    assert [code.number for code in Contract(derive_page(page).contract).codes] == [200, 422, 499]


def contract_with(**rules: Any) -> Contract:
    """Return a contract whose field ``strength`` has these rules."""
    document = derive_page(OPENAPI).contract
    document["$defs"]["request"]["properties"]["input"]["properties"]["strength"] = rules
    return Contract(document)


INTEGER_OR_NULL, NUMBER_OR_NULL = {"type": ["integer", "null"]}, {"type": ["number", "null"]}
WIDER = (Impact.COMPATIBLE, Impact.BREAKING)
NARROWER = (Impact.BREAKING, Impact.COMPATIBLE)


@pytest.mark.parametrize(
    ("old", "new", "effects"),
    [
        (INTEGER_OR_NULL, {"type": "integer"}, NARROWER),
        ({"type": "integer"}, INTEGER_OR_NULL, WIDER),
        (INTEGER_OR_NULL, NUMBER_OR_NULL, WIDER),
        ({"type": "integer"}, {"type": "string"}, (Impact.BREAKING, Impact.BREAKING)),
        ({"type": "number", "multipleOf": 0.5}, {"type": "number", "multipleOf": 0.25}, WIDER),
        ({"type": "number", "multipleOf": 0.25}, {"type": "number", "multipleOf": 0.5}, NARROWER),
        ({"type": "number", "multipleOf": 2}, {"type": "number", "multipleOf": 3}, (Impact.BREAKING, Impact.BREAKING)),
    ],
)
def test_a_change_is_marked_by_what_it_allows(
    old: dict[str, Any], new: dict[str, Any], effects: tuple[Impact, Impact]
) -> None:
    (difference,) = drift(contract_with(**old), contract_with(**new))
    assert (difference.callers, difference.answerers) == effects


def test_a_contract_file_whose_pattern_is_none_is_refused(tmp_path: Path) -> None:
    document = derive_page(OPENAPI).contract
    document["$defs"]["request"]["properties"]["input"]["properties"]["words"]["pattern"] = "^(a|b"
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ContractError, match="pattern"):
        Contract.load(file)


def test_a_link_is_followed_and_the_file_behind_it_keeps_its_mode(tmp_path: Path) -> None:
    behind, link = tmp_path / "contract.json", tmp_path / "link.json"
    behind.write_text("old", encoding="utf-8")
    behind.chmod(0o640)
    link.symlink_to(behind)
    assert main(["derive", str(PAGES / "tables.zh.md"), "-o", str(link)]) == 0
    assert link.is_symlink()
    assert behind.read_text(encoding="utf-8").startswith("{")
    assert behind.stat().st_mode & 0o777 == 0o640


def test_what_is_no_regular_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert main(["derive", str(PAGES / "tables.zh.md"), "-o", str(pipe)]) == 0
        assert os.read(reader, 10).startswith(b"{")
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_refusal_is_short_however_long_the_page_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(TABLES.replace("`enum<integer>` | 否", f"`{'x' * 50_000}` | 否"), encoding="utf-8")
    assert main(["derive", str(page)]) == 2
    assert len(capsys.readouterr().err) < 1000
