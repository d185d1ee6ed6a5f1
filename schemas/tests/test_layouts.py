"""Each layout in which pages list their facts gives the same contract, field by field."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from seedbed_contract import BrokenRequest, requests, violations
from seedbed_contract.checker import Options, run_checks
from seedbed_contract.target import target_of
from seedbed_mock import running
from seedbed_schemas import Contract
from seedbed_schemas.derive import derive_page
from seedbed_schemas.job_api import job_api

PAGES = Path(__file__).parent / "pages" / "layouts"
LAYOUTS = sorted(path.name.removesuffix(".md") for path in PAGES.glob("*.md"))
SLOW = "readme-message.en"
LAYOUTS += ["crlf", "byte-order-mark", "full-width"]

FACTS: dict[str, Any] = {
    "operation/method": "POST",
    "operation/path": "/api/v1/jobs/createTask",
    "operation/header": "Authorization",
    "operation/scheme": "Bearer",
    "code": [200, 401, 422, 500],
    "request/type": "object",
    "request/required": ["model", "input"],
    "model/type": "string",
    "model/const": "meadow/3-film",
    "callBackUrl/type": "string",
    "callBackUrl/format": "uri",
    "input/type": "object",
    "input/required": ["prompt", "pictures"],
    "input.prompt/type": "string",
    "input.prompt/maxLength": 5000,
    "input.size/type": "string",
    "input.size/enum": ["square", "wide", "tall"],
    "input.size/default": "square",
    "input.count/type": "string",
    "input.count/enum": ["1", "2", "4"],
    "input.count/default": "1",
    "input.strength/type": "number",
    "input.strength/minimum": 0,
    "input.strength/maximum": 1,
    "input.strength/multipleOf": 0.1,
    "input.strength/default": 0.5,
    "input.pictures/type": "array",
    "input.pictures/maxItems": 3,
    "input.pictures[]/type": "string",
    "input.pictures[]/format": "uri",
    "input.shuffle/type": "boolean",
    "input.shuffle/default": True,
    "input.seed/type": "integer",
    "answer/code/type": "integer",
    "answer/msg/type": "string",
    "answer/data/type": "object",
    "answer/data.taskId/type": "string",
}
SHOTS = {
    "input/required": ["prompt", "pictures", "shots"],
    "input.shots/type": "array",
    "input.shots[]/type": "object",
    "input.shots[]/required": ["scene", "length"],
    "input.shots[].scene/type": "string",
    "input.shots[].length/type": "number",
}
README = {
    "callBackUrl/format": None,
    "input.pictures/maxItems": None,
    "input.pictures[]/type": None,
    "input.pictures[]/format": None,
    "input.pictures/default": ["https://pictures.example.com/1.png"],
}
DIFFERENT: dict[str, dict[str, Any]] = {
    "tables-examples.zh": {
        **SHOTS,
        "input.shots/minItems": 1,
        "input.shots/maxItems": 10,
        "input.shots[].length/minimum": 0.1,
        "input.shots[].length/maximum": 15,
    },
    "plain-labels.zh": {"request/required": ["model"]},
    "readme.zh": README,
    "readme.en": README,
    "readme-message.en": {**README, **SHOTS, "answer/msg/type": None, "answer/message/type": "string"},
    "readme-tables.en": {**README, "code": [200], "input.pictures[]/type": "string", "input.pictures/default": []},
}
"""What the pages of a layout state otherwise; ``None`` for what they do not state."""


def page_of(layout: str) -> str:
    if layout in LAYOUTS[:-3]:
        return (PAGES / f"{layout}.md").read_text(encoding="utf-8")
    page = (PAGES / "headings-bullets.zh.md").read_text(encoding="utf-8")
    if layout == "crlf":
        return page.replace("\n", "\r\n")
    if layout == "byte-order-mark":
        return "\ufeff" + page
    return (
        page.replace("类型：", "类型 ：").replace("必需：** 是", "必需：**　是").replace("0 <= x <= 1", "０ <= x <= １")
    )


def expected_of(layout: str) -> dict[str, Any]:
    return {name: value for name, value in (FACTS | DIFFERENT.get(layout, {})).items() if value is not None}


def stated(contract: Contract) -> dict[str, Any]:
    """Return the facts of a contract, with the required fields of an object and the codes as lists."""
    found: dict[str, Any] = {}
    for clause in contract.clauses():
        if clause.kind in {"required", "code"}:
            name = clause.id.rpartition("/")[0]
            found.setdefault(name, []).append(clause.value if clause.kind == "code" else clause.id.rpartition("/")[2])
        elif clause.kind != "option" and not clause.id.startswith(
            ("operation/server", "answer/code/enum", "answer/type")
        ):
            found[clause.id] = clause.value
    return {name: value for name, value in found.items() if not name.startswith("answer") or "required" not in name}


def table_of(layout: str) -> dict[str, bool]:
    """Return for each fact of a layout whether it is derived right; a fact that no page states is wrong."""
    expected, found = expected_of(layout), stated(Contract(derive_page(page_of(layout)).contract))
    found.pop("model/default", None)
    return {name: expected.get(name) == found.get(name) for name in dict.fromkeys([*expected, *found])}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_fact_of_every_layout_is_derived_right(layout: str) -> None:
    assert {name for name, is_right in table_of(layout).items() if not is_right} == set()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_statement_of_every_layout_is_recognized(layout: str) -> None:
    derivation = derive_page(page_of(layout))
    assert (derivation.unrecognized, derivation.contradictions) == ((), ())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_server_is_that_of_the_page_or_the_documented_one(layout: str) -> None:
    server = Contract(derive_page(page_of(layout)).contract).operation.server
    assert server == ("https://api.example.com" if "api.example.com" in page_of(layout) else job_api().server)


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(layout, marks=pytest.mark.slow if layout == SLOW else pytest.mark.exhaustive)
        for layout in LAYOUTS[:-3]
    ],
)
def test_a_contract_of_every_layout_can_be_served_checked_and_drawn_from(layout: str) -> None:
    contract = Contract(derive_page(page_of(layout)).contract)
    with running(contracts=[contract], rate_limit="off", credits=10**6, task_seconds=0) as server:
        options = Options(contract=contract, max_examples=10)
        report = run_checks(target_of(server.url, server.key), options)
    assert [finding for finding in report.findings if finding.level == "error"] == []
    assert report.tasks

    @settings(max_examples=10, database=None)
    @given(requests(contract), violations(contract))
    def check(request: Any, broken: BrokenRequest) -> None:
        assert contract.request.accepts(request)
        assert not contract.request.accepts(broken.request)

    check()


@pytest.mark.exhaustive
def test_the_table_of_layouts_and_facts(capsys: pytest.CaptureFixture[str]) -> None:
    tables = {layout: table_of(layout) for layout in LAYOUTS}
    with capsys.disabled():
        for layout, table in tables.items():
            wrong = [name for name, is_right in table.items() if not is_right]
            print(f"\n{layout:22} {len(table) - len(wrong):3} right, {len(wrong)} wrong", *wrong, end="")
        facts = [is_right for table in tables.values() for is_right in table.values()]
        print(f"\n{len(tables)} layouts, {len(facts)} facts, {sum(facts)} right")
    assert all(facts)


VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "plain captions": (
        "tables-dotted.zh",
        {
            "## 请求参数说明": "请求参数：",
            "### Body (application/json)\n": "请求体：\n",
            "### Authorizations": "鉴权：",
            "## 响应说明\n\n**请求成功**": "响应参数：",
        },
    ),
    "bold colon captions": (
        "tables-dotted.zh",
        {
            "## 请求参数说明\n": "",
            "### Body (application/json)": "**请求体：**",
            "### Authorizations": "**鉴权：**",
            "## 响应说明\n\n**请求成功**": "**响应参数：**",
        },
    ),
    "numbered": (
        "tables-dotted.zh",
        {
            "## 请求参数说明": "## 2. 请求参数",
            "### Body (application/json)": "### 2.2 请求体参数",
            "### Authorizations": "### 2.1 鉴权说明",
            "## 响应说明": "## 三、返回参数说明",
        },
    ),
    "heads": (
        "tables-dotted.zh",
        {
            "| 参数 | 类型 | 必需 | 说明 |": "| 参数名称 | 参数类型 | 是否必须 | 参数描述 |",
            "| 参数 | 类型 | 说明 |": "| 名称 | 数据类型 | 备注 |",
        },
    ),
    "input heading": (
        "tables-inputs.zh",
        {
            "### input 对象参数": "### 输入参数 (input)",
            "### data 对象参数": "### data 对象",
        },
    ),
    "input heading2": (
        "tables-inputs.zh",
        {
            "### input 对象参数": "### `input` 字段说明",
            "### data 对象参数": "#### data 结构",
        },
    ),
    "undotted loose": (
        "tables-inputs.zh",
        {
            "### input 对象参数": "### input 参数",
            "| `input.": "| `",
            "| `data.taskId`": "| `taskId`",
        },
    ),
    "heading endpoint": (
        "tables-dotted.zh",
        {
            "**请求端点**\n```\nPOST /api/v1/jobs/createTask\n```": "## POST /api/v1/jobs/createTask",
        },
    ),
    "plain url": (
        "tables-dotted.zh",
        {
            "**请求端点**\n```\nPOST /api/v1/jobs/createTask\n```": "URL: POST https://api.example.com/api/v1/jobs/createTask",
        },
    ),
    "plain url zh": (
        "tables-dotted.zh",
        {
            "**请求端点**\n```\nPOST /api/v1/jobs/createTask\n```": "接口地址：https://api.example.com/api/v1/jobs/createTask\n请求方式：POST",
        },
    ),
    "no endpoint": (
        "tables-dotted.zh",
        {
            "**请求端点**\n```\nPOST /api/v1/jobs/createTask\n```": "",
        },
    ),
    "yes star": (
        "readme.en",
        {
            "| input | object | Yes |": "| input | object | Yes* |",
        },
    ),
    "broken marks": (
        "readme.en",
        {
            "  - `wide`: wide kind": "  - `wide**: wide kind",
            '**Default Value**: `"square"`': '**Default Value**: `"square"`\')',
        },
    ),
    "double tick": (
        "readme.en",
        {
            '**Default Value**: `"square"`': '**Default Value**: `"square"``',
        },
    ),
    "options bar": (
        "readme.en",
        {
            "- **Options**:\n  - `1`: 1 kind\n  - `2`: 2 kind\n  - `4`: 4 kind": "- **Options**: `1` | `2` | `4`",
        },
    ),
    "options plain": (
        "readme.en",
        {
            "- **Options**:\n  - `1`: 1 kind\n  - `2`: 2 kind\n  - `4`: 4 kind": "- **Options**: 1, 2, 4",
        },
    ),
    "range to": (
        "readme.en",
        {
            "0 - 1 (step: 0.1)": "`0` to `1` (step `0.1`)",
        },
    ),
    "required label": (
        "readme.en",
        {
            "- **Required**: Yes": "- **Required**: `true`",
            "- **Required**: No": "- **Required**: `false`",
        },
    ),
    "crumbs": (
        "bold-bullets.zh",
        {
            "**input.prompt**": "**`input.prompt`**",
        },
    ),
    "bold with required": (
        "bold-bullets.zh",
        {
            "**input.prompt**": "**input.prompt** (必填)",
        },
    ),
    "stars": (
        "bold-bullets.zh",
        {
            "**input.prompt**": "**input.prompt***",
        },
    ),
    "fullwidth paren": (
        "type-lines.zh",
        {
            "`string` (required)": "`string`（必填）",
        },
    ),
    "upper types": (
        "tables-dotted.zh",
        {
            "| string |": "| String |",
            "| boolean |": "| Boolean |",
            "| number |": "| Float |",
        },
    ),
    "zh types": (
        "tables-dotted.zh",
        {
            "| string |": "| 字符串 |",
            "| boolean |": "| 布尔值 |",
            "| integer |": "| 整数 |",
            "| object |": "| 对象 |",
        },
    ),
    "blank lines in bullets": (
        "bold-bullets.zh",
        {
            "*   **类型**": "\n*   **类型**",
        },
    ),
    "dash bullets": (
        "bold-bullets.zh",
        {
            "*   ": "- ",
        },
    ),
    "tabs": (
        "bold-bullets.zh",
        {
            "*   ": "*\t",
        },
    ),
    "tilde fence": (
        "bold-bullets.zh",
        {
            "```": "~~~",
        },
    ),
    "trailing cell": (
        "tables-dotted.zh",
        {
            "| input.seed | integer | 否 | 随机种子。 |": "| input.seed | integer | 否 | 随机种子。",
        },
    ),
    "section sep": (
        "headings-labels.zh",
        {
            "#### input.prompt": "---\n\n#### input.prompt",
        },
    ),
    "nbsp": (
        "tables-dotted.zh",
        {
            "| input.seed |": "|\xa0input.seed\xa0|",
        },
    ),
    "zero width": (
        "tables-dotted.zh",
        {
            "| input.seed |": "| \u200binput.seed |",
        },
    ),
}
"""Other spellings of a layout: the layout, and what is written in place of what."""


AUTHORIZATION = ["- **Authorization**: `Bearer YOUR_API_KEY`", "Authorization: Bearer <your-key>"]
AUTHORIZATION += ["**Authorization:** Bearer YOUR_KEY (必需)", "* Authorization：Bearer KEY，放在请求头中。"]


@pytest.mark.parametrize("line", AUTHORIZATION)
def test_one_line_may_state_how_to_send_the_key(line: str) -> None:
    page = page_of("tables-dotted.zh")
    section = page[page.index("### Authorizations") : page.index("### Body")]
    derivation = derive_page(page.replace(section, f"{line}\n\n"))
    assert stated(Contract(derivation.contract)) == stated(Contract(derive_page(page).contract))
    assert derivation.unrecognized == ()


def test_a_line_about_keys_in_prose_states_no_scheme() -> None:
    page = page_of("tables-dotted.zh")
    section = page[page.index("### Authorizations") : page.index("### Body")]
    derivation = derive_page(page.replace(section, "**Authorization**: none is needed at all\n\n"))
    assert Contract(derivation.contract).operation.scheme == "Bearer"  # as the example call shows


@pytest.mark.parametrize("name", VARIANTS)
def test_another_spelling_gives_the_same_facts(name: str) -> None:
    layout, changes = VARIANTS[name]
    page = page_of(layout)
    for found, put in changes.items():
        assert found in page
        page = page.replace(found, put)
    derivation = derive_page(page)
    facts = stated(Contract(derivation.contract))
    facts.pop("model/default", None)
    assert facts == expected_of(layout)
    assert derivation.unrecognized == ()
