"""Pages with a mistake or an unusual spelling: derived, or rejected with one sentence, but never misread silently."""

import contextlib
import json
import os
import random
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from markdown_it import MarkdownIt
from seedbed_mock.cli import main
from seedbed_schemas import Contract
from seedbed_schemas.contract import ContractError
from seedbed_schemas.derive import PageError, derive_page
from seedbed_schemas.drift import Impact, drift

PAGES = Path(__file__).parent / "pages"
OPENAPI = (PAGES / "collage" / "openapi.en.md").read_text(encoding="utf-8")
TABLES = (PAGES / "tables.zh.md").read_text(encoding="utf-8")
SCHEME = "type: apiKey, in: header, name: X-Meadow, x-scheme: Token"


def test_a_security_type_of_bearer_is_accepted() -> None:
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
def test_a_page_with_one_mistake_is_rejected_with_one_sentence(found: str, put: str) -> None:
    assert found in OPENAPI
    with pytest.raises(PageError) as error:
        derive_page(OPENAPI.replace(found, put, 1))
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("put", "words"),
    [("maxLength: -5", "input.words"), ("pattern: '^(a|b'", "input.words"), ("minLength: 50\n", "input.words")],
)
def test_an_invalid_rule_is_rejected_with_the_name_of_its_field(put: str, words: str) -> None:
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
def test_an_invalid_keyword_is_reported(found: str, put: str) -> None:
    assert found in OPENAPI
    assert derive_page(OPENAPI.replace(found, put, 1)).unrecognized != ()


def test_properties_that_are_not_an_object_are_rejected() -> None:
    with pytest.raises(PageError, match="properties"):
        derive_page(OPENAPI.replace("properties:\n        width: {type: integer, minimum: 1}", "properties: [width]"))


def test_options_of_a_string_field_are_strings_even_without_quotes() -> None:
    page = OPENAPI.replace("enum: [1, '2', 4]", "enum: [1, 2.5, 4]")
    copies = Contract(derive_page(page).contract).input_fields["copies"]
    assert copies["enum"] == ["1", "2.5", "4"]


def test_a_fence_may_contain_an_openapi_document_in_json() -> None:
    answer = json.loads((PAGES / "collage" / "answer.json").read_text(encoding="utf-8"))
    page = f"# OpenAPI Specification\n\n```json\n{json.dumps(answer['data']['openapi'], indent=1)}\n```\n"
    assert Contract(derive_page(page).contract).model == "meadow/2-collage"


def test_a_code_may_be_listed_only_as_an_option() -> None:
    page = TABLES.replace("`422`, `499`<br>", "`422`, `499`, `433`<br>")
    assert [code.number for code in Contract(derive_page(page).contract).codes] == [200, 422, 499, 433]


def test_the_options_are_the_code_table_if_there_is_no_other() -> None:
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
    ("old", "new", "impacts"),
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
def test_the_impact_of_a_change_depends_on_what_it_allows(
    old: dict[str, Any], new: dict[str, Any], impacts: tuple[Impact, Impact]
) -> None:
    (difference,) = drift(contract_with(**old), contract_with(**new))
    assert (difference.clients, difference.servers) == impacts


def test_a_contract_file_with_an_invalid_pattern_is_rejected(tmp_path: Path) -> None:
    document = derive_page(OPENAPI).contract
    document["$defs"]["request"]["properties"]["input"]["properties"]["words"]["pattern"] = "^(a|b"
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ContractError, match="pattern"):
        Contract.load(file)


def test_a_link_is_followed_and_its_target_keeps_its_mode(tmp_path: Path) -> None:
    target, link = tmp_path / "contract.json", tmp_path / "link.json"
    target.write_text("old", encoding="utf-8")
    target.chmod(0o640)
    link.symlink_to(target)
    assert main(["derive", str(PAGES / "tables.zh.md"), "-o", str(link)]) == 0
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8").startswith("{")
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_pipe_is_written_to_rather_than_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert main(["derive", str(PAGES / "tables.zh.md"), "-o", str(pipe)]) == 0
        assert os.read(reader, 10).startswith(b"{")
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_an_error_is_short_even_if_the_page_is_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(TABLES.replace("`enum<integer>` | 否", f"`{'x' * 50_000}` | 否"), encoding="utf-8")
    assert main(["derive", str(page)]) == 2
    assert len(capsys.readouterr().err) < 1000


def damaged(page: str, other: str, draw: random.Random) -> str:
    """Return a page with a random mistake: a part is lost, repeated, mixed, shuffled or replaced."""
    lines, others = page.split("\n"), other.split("\n")
    at = draw.randrange(len(lines))
    match draw.randrange(6):
        case 0:
            return page[: draw.randrange(len(page))]
        case 1:
            return "\n".join(lines[:at] + lines[at + draw.randrange(1, 5) :])
        case 2:
            return "\n".join([*lines[:at], *draw.choices(lines, k=3), *lines[at:]])
        case 3:
            return "\n".join(lines[:at] + others[draw.randrange(len(others)) :])
        case 4:
            draw.shuffle(lines)
            return "\n".join(lines)
    for _ in range(8):
        at = draw.randrange(len(page))
        page = page[:at] + draw.choice("`*|:：-（）()<>[]{}\\\"' 。，0a#\n") + page[at + 1 :]
    return page


@pytest.mark.parametrize("count", [40, pytest.param(10_000, marks=pytest.mark.exhaustive)])
def test_a_damaged_page_is_derived_or_rejected_with_one_sentence(count: int) -> None:
    pages = [path.read_text(encoding="utf-8") for path in sorted(PAGES.rglob("*.md"))]
    draw = random.Random(count)  # noqa: S311 - a repeatable test
    for _ in range(count):
        page = damaged(draw.choice(pages), draw.choice(pages), draw)
        message = "."
        try:
            Contract(derive_page(page).contract)
        except PageError as error:
            message = str(error)
        assert message.endswith(".")
        assert "\n" not in message


ROWS = "| input.seed | integer | 否 | 随机种子。 |\n"
DOTTED = (PAGES / "layouts" / "tables-dotted.zh.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("found", "put", "message"),
    [
        (ROWS, ROWS + "".join(f"| f{number} | string | 否 | x |\n" for number in range(10**6)), "longer than"),
        ("input.seed", "input." + "a." * 5_000 + "seed", "nested in more than"),
        ("input.seed", "input." + "a." * 30 + "seed", "nested in more than"),
        ("| integer |", "| " + "array<" * 5_000 + " |", "is not known"),
        ("Bearer YOUR_API_KEY", "[" * 5_000, ""),
        ("## 响应说明", "".join("  " * depth + f"* **a{depth}**\n" for depth in range(300)) + "\n## 响应说明", ""),
        ("## 响应说明", ">" * 20_000 + "\n\n## 响应说明", ""),
        ("## 响应说明", "<table>" * 20_000 + "\n\n## 响应说明", ""),
        ("## 响应说明", "```\n" + "{\"a\":" * 20_000 + "\n```\n\n## 响应说明", ""),
        ("随机种子。", "可用选项：" * 5_000, ""),
        ("随机种子。", "最多 1 到 " * 5_000, ""),
        ("随机种子。", "9" * 50_000, ""),
        ("https://api.example.com", "https://[api", ""),
        ("https://api.example.com", "https://api：x.com", ""),
    ],
)  # fmt: skip
def test_a_huge_or_deep_page_is_derived_or_rejected_with_one_sentence(found: str, put: str, message: str) -> None:
    assert found in DOTTED
    page = DOTTED.replace(found, put)
    if message:
        with pytest.raises(PageError, match=message):
            derive_page(page)
    else:
        with contextlib.suppress(PageError):
            Contract(derive_page(page).contract)


HOSTILE = {
    "brackets": "[",
    "pairs of brackets": "[]",
    "images": "![",
    "links": "[a](",
    "backticks": "`",
    "code": "` a",
    "emphasis": "*a",
    "strong emphasis": "**a ",
    "mixed emphasis": "a**b_c*",
    "bars": "|",
    "rows": "|a|b|\n",
    "quotes": ">",
    "lines of quotes": ">\n",
    "items": "- a\n",
    "items on one line": "- ",
    "numbers": "1. ",
    "definitions": "[a]: b\n",
    "open definitions": "[a]: <",
    "definitions over lines": "[a\n",
    "tags": "<a ",
    "comments": "<!--",
    "instructions": "x<?",
    "data sections": "x<![CDATA[",
    "tables": "<table><tr><td>",
    "cells": "<td>a",
    "attributes": '<td a="',
    "entities": "&#1;",
    "escapes": "\\",
    "headings": "# a\n",
    "headings with marks": "# a #",
    "lines": "a\n",
    "underlines": "a\n=\n",
    "fences": "~~~\n",
    "fences of backticks": "```\na\n",
    "fences that are text": "``` `\n",
    "breaks": "<br>",
    "labels": "**a:** b\n",
    "blanks": "a" + " " * 4000 + "\n",
}
LEADS = ("", "# ", "x ", "| a | b |\n|---|---|\n| x | ", "<table><tr><td>", "<div>\n```\n\n", "- ```\n- ", "[a]: x '")
"""What stands before, so that the same marks are read in another place."""


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_a_page_of_marks_is_refused_before_it_is_parsed(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = Mock()
    monkeypatch.setattr(MarkdownIt, "parse", parse)
    for lead in LEADS:
        page = lead + unit * (2**20 // len(unit))
        with pytest.raises(PageError, match=r"^The page (has more|is longer) than [0-9]+ [^\n]*\.$"):
            derive_page(page)
    parse.assert_not_called()


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_the_work_grows_no_faster_than_the_page(unit: str) -> None:
    """The work is counted in calls of functions, which do not depend on the speed of the machine."""

    def calls_for(size: int) -> int:
        count, page = [0], "x " + unit * (size // len(unit))
        sys.setprofile(lambda _frame, event, _argument: count.__setitem__(0, count[0] + (event == "call")))
        try:
            with contextlib.suppress(PageError):
                derive_page(page)
        finally:
            sys.setprofile(None)
        return count[0]

    calls_for(10)  # what is loaded once does not count
    assert calls_for(3000) < 2.6 * calls_for(1500) + 1000


@pytest.mark.parametrize(
    "page",
    [
        "# a" + " #" * 5000,
        "# a\n" * 3000 + "x",
        "\n" * 100_000 + "openapi",
        "```\n" + "\n" * 100_000 + "x\n```",
        "```\n" + "@-" * 100_000 + "\n```",
        "```json\n" + '{"a":' * 50_000 + "\n```",
        "# " + "1." * 3000 + "x",
        "# " + "1. " * 2000 + "x",
        "<table><tr><td><table>x",
        "<table><td>x<table><b>y</table>",
    ],
    ids=lambda page: repr(page[:12]),
)
def test_a_page_that_a_pattern_could_try_for_long_is_rejected_with_one_sentence(page: str) -> None:
    with pytest.raises(PageError, match=r"^[^\n]*\.$"):
        derive_page(page)


def test_a_page_far_larger_than_the_known_ones_is_derived() -> None:
    rows = "".join(
        f"| input.f{number} | string | 否 | 说明 [链接](https://a.example/{number})。 |\n" for number in range(600)
    )
    page = DOTTED.replace(ROWS, ROWS + rows) + "\n```text\n" + "[{}] " * 100_000 + "\n```\n"
    assert len(Contract(derive_page(page).contract).input_fields) > 600
