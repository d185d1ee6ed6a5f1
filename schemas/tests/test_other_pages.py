"""Pages that create no task are rejected with the reason; malformed pages of a model with the line and the mistake."""

import json
from pathlib import Path
from typing import Any

import pytest
from seedbed_mock.cli import main
from seedbed_schemas.derive import PageError, derive_page

PAGES = Path(__file__).parent / "pages"
TABLES = (PAGES / "layouts" / "tables-dotted.zh.md").read_text(encoding="utf-8")
BOLD = (PAGES / "layouts" / "bold-bullets.zh.md").read_text(encoding="utf-8")


def openapi_page(
    path: str, body: Any, answer: Any, *, media: str = "application/json", method: str = "post", example: Any = None
) -> str:
    """Return a page with one operation, as the vendor's documentation has it."""
    content = {"schema": answer} if example is None else {"schema": answer, "example": example}
    operation = {
        "requestBody": {"content": {media: {"schema": {"type": "object", "properties": body}}}},
        "responses": {"200": {"description": "", "content": {"application/json": content}}},
        "security": [{"Key": []}],
    }
    document = {
        "openapi": "3.0.1",
        "paths": {path: {method: operation}},
        "components": {"securitySchemes": {"Key": {"type": "bearer", "scheme": "bearer"}}},
    }
    return f"# A page\n\n## OpenAPI Specification\n\n```yaml\n{json.dumps(document, indent=1)}\n```\n"


def fields(**types: str) -> dict[str, Any]:
    return {name: {"type": json_type} for name, json_type in types.items()}


MODEL = {"model": {"type": "string", "enum": ["meadow/talk"]}}
CHOICES = {"type": "object", "properties": fields(id="string", choices="array", usage="object")}
UPLOADED = {"type": "object", "properties": {**fields(code="integer", msg="string"), "data": {"type": "object"}}}
CHAT = """# Meadow talk

**Endpoint**: `POST /meadow/v1/chat/completions`

## Request parameters

| Parameter | Type | Required | Description |
|---|---|---|---|
| model | string | Yes | Always `meadow/talk`. |
| messages | messages[] | Yes | What was said. |

## Response

| Field | Type | Description |
|---|---|---|
| choices | array | What is said. |
"""
OTHERS = {
    "chat in Markdown": (CHAT, "POST /meadow/v1/chat/completions", "its answer names no task (no field 'taskId')"),
    "chat in OpenAPI": (
        openapi_page("/meadow/v1/chat/completions", {**MODEL, **fields(messages="array")}, CHOICES),
        "POST /meadow/v1/chat/completions",
        "its answer names no task",
    ),
    "a stream": (
        openapi_page("/v1/stream", {**MODEL, **fields(messages="array")}, {}),
        "POST /v1/stream",
        "its answer names no task",
    ),
    "responses": (
        openapi_page("/v1/responses", {**MODEL, "input": {"oneOf": [{"type": "string"}, {"type": "array"}]}}, {}),
        "POST /v1/responses",
        "its answer names no task",
    ),
    "an example without a task": (
        openapi_page("/v1/x", {**MODEL, **fields(input="object")}, {}, example={"output": []}),
        "POST /v1/x",
        "its answer names no task",
    ),
    "an unknown type of a chat page": (
        openapi_page("/v1/y", {**MODEL, "tools": {"type": "tools"}}, CHOICES),
        "POST /v1/y",
        "its answer names no task",
    ),
    "file upload": (
        openapi_page("/v1/upload", fields(file="string"), UPLOADED, media="multipart/form-data"),
        "no operation",
        "the field 'model'",
    ),
    "a record": (
        "# Details\n\n**Endpoint:** `GET /api/v1/jobs/recordInfo`\n\n## Query\n\n`taskId`\n",
        "GET /api/v1/jobs/recordInfo",
        "creates no task",
    ),
    "a record with a request": (
        BOLD.replace(
            "```\nPOST /api/v1/jobs/createTask\n```", "`/api/v1/jobs/recordInfo`\n\n**请求方法**: GET"
        ).replace("createTask", "x"),
        "GET /api/v1/jobs/recordInfo",
        "creates no task",
    ),
    "credits": (
        "# Credits\n\n```bash\ncurl https://api.example.com/api/v1/chat/credit\n```\n",
        "no request",
        "no section",
    ),
    "a request without a model": (
        BOLD.replace("**model**", "**modell**"),
        "POST /api/v1/jobs/createTask",
        "its request has no field 'model'",
    ),
    "a price list": ("# Prices\n\n| Model | Credits |\n|---|---|\n| meadow/1 | 4 |\n", "no request", "no section"),
    "a guide": (
        "# Start\n\n### Create Task\n\n```bash\nPOST https://api.example.com/api/v1/jobs/createTask\n```\n",
        "no request",
        "no section",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_page_that_creates_no_task_is_rejected_with_the_reason(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, operation, reason = OTHERS[name]
    source = tmp_path / "page.md"
    source.write_text(page, encoding="utf-8")
    assert main(["derive", str(source)]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("\n") == 2
    assert operation in errors
    assert reason in errors


def line_of(page: str, text: str) -> int:
    return page[: page.index(text)].count("\n") + 1


@pytest.mark.parametrize(
    ("page", "found", "put", "expected"),
    [
        (TABLES, "| input.seed | integer |", "| input.seed | sheep |", "expected one of array, boolean, integer"),
        (
            TABLES,
            "| input.seed | integer | 否 |",
            "| input.seed | integer | 也许 |",
            "is not one of '是' or 'Yes'",
        ),
        (TABLES, "| input.seed | integer |", "| input.seed | |", "nothing in column '类型'"),
        (
            TABLES,
            "| input.seed | integer | 否 | 随机",
            "| input.seed | enum<integer> | 否 | 随机",
            "line '可用选项'",
        ),
        (TABLES, "默认值：`true`", "默认值：`maybe`", "not of type boolean"),
        (TABLES, "最大长度：5000", "最大长度：many", "which is not a number"),
        (BOLD, "*   **类型**: `integer`", "*   **类型**: `sheep`", "the type 'sheep'"),
        (BOLD, "**最大数组长度**: `3`", "**最大数组长度**: 多", "which is not a number"),
    ],
)
def test_a_malformed_statement_is_rejected_with_its_line(page: str, found: str, put: str, expected: str) -> None:
    changed = page.replace(found, put)
    assert changed != page
    with pytest.raises(PageError) as error:
        derive_page(changed)
    message = str(error.value)
    line = int(message.partition("(line ")[2].partition(")")[0])
    assert expected in message
    # The line is that of the field; its statements follow within the lines of its bullets.
    assert 0 <= line_of(changed, put) - line <= 4


def test_further_operations_of_a_page_are_left_out() -> None:
    readme = (PAGES / "layouts" / "readme.en.md").read_text(encoding="utf-8")
    answer = derive_page(readme).contract["$defs"]["answer"]["properties"]
    assert set(answer["data"]["properties"]) == {"taskId"}
    assert 418 not in [row["code"] for row in derive_page(readme).contract["x-codes"]]


def test_the_request_decides_if_the_answer_states_only_its_envelope() -> None:
    small = (PAGES / "tables.zh.md").read_text(encoding="utf-8")
    assert derive_page(small).contract["title"] == "meadow/1-sketch"
    with pytest.raises(PageError, match="names no task"):
        derive_page(small.replace("| `msg` |", "| `choices` |"))
