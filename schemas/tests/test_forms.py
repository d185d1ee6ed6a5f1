"""Every form of a page gives the same contract, and unknown statements are reported."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml12
from seedbed_schemas import Contract, Schema
from seedbed_schemas.derive import PageError, derive_page
from seedbed_schemas.job_api import job_api

PAGES = Path(__file__).parent / "pages" / "collage"
NAMES = sorted(path.name for path in PAGES.iterdir())
TABLES = (PAGES / "tables.en.md").read_text(encoding="utf-8")
OPENAPI = (PAGES / "openapi.en.md").read_text(encoding="utf-8")
ANSWER = (PAGES / "answer.json").read_text(encoding="utf-8")
REQUIRED = "required:\n                - model\n                - input\n"
SCHEME = "type: apiKey, in: header, name: X-Meadow, x-scheme: Token"
LOOP = OPENAPI.replace("x-meadow-ignored: true", "$ref: '#/components/x'").replace(
    "components:\n", "components:\n  x: {$ref: '#/components/x'}\n"
)


def stated(contract: dict[str, Any]) -> dict[str, Any]:
    return {clause.id: clause.value for clause in Contract(contract).clauses()}


def text_of(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def yaml_of(page: str) -> str:
    return page.split("```yaml\n")[1].partition("```")[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_form_gives_the_same_contract(name: str) -> None:
    derivation = derive_page(text_of(name))
    assert stated(derivation.contract) == stated(derive_page(TABLES).contract)
    assert derivation.notes == ("input.layers maxItems 5", "input.caption maxLength 80")
    assert derivation.unrecognized == ()


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".md") and "openapi" not in name])
def test_every_place_of_a_clause_exists_in_the_page(name: str) -> None:
    page = text_of(name)
    for clause in Contract(derive_page(page).contract).clauses():
        assert clause.place
        assert any(line.strip("# `") == clause.place["heading"].strip("`") for line in page.splitlines())
        assert all(part in page for part in clause.place.values())


@pytest.mark.parametrize("name", ["openapi.en.md", "openapi.zh.md", "answer.json"])
def test_every_pointer_of_a_clause_leads_to_its_value(name: str) -> None:
    page = text_of(name)
    document = json.loads(page) if name.endswith("json") else yaml12.parse_yaml(yaml_of(page))
    for clause in Contract(derive_page(page).contract).clauses():
        found: Any = document
        for step in clause.place["pointer"].split("/")[1:]:
            found = found[int(step) if isinstance(found, list) else step.replace("~1", "/").replace("~0", "~")]
        assert found is not None
        if clause.kind in {"type", "maxLength", "minimum"}:
            assert found == clause.value


def test_the_pitfalls_of_the_pages_are_read_correctly() -> None:
    clauses = stated(derive_page(OPENAPI).contract)
    assert clauses["input.copies/enum"] == ["1", "2", "4"]
    assert clauses["input/required/copies"] is True
    assert clauses["input.copies/default"] == "1"
    assert clauses["input.picture/deprecated"] is True
    assert clauses["input.pictures/maxItems"] == 3
    assert (clauses["input.strength/minimum"], clauses["input.strength/maximum"]) == (0, 1)
    assert clauses["input.layers[]/required/name"] is True
    assert clauses["input.frame.width/minimum"] == 1
    assert not any("x-meadow" in clause or "meadow-" in clause for clause in clauses)


def test_a_limit_in_prose_is_a_note_rather_than_a_rule() -> None:
    contract = derive_page(TABLES).contract
    caption = contract["$defs"]["request"]["properties"]["input"]["properties"]["caption"]
    assert "maxLength" not in caption
    assert caption["x-notes"][0]["value"] == 80
    assert caption["x-notes"][0]["x-place"]["row"] == "caption"


def test_a_limit_in_prose_that_repeats_a_rule_is_ignored() -> None:
    page = TABLES.replace("What it shows.", "What it shows (max 40 characters).")
    assert derive_page(page).notes == derive_page(TABLES).notes


def test_a_limit_in_prose_that_contradicts_a_rule_is_a_note() -> None:
    assert "input.words maxLength 30" in derive_page(TABLES.replace("What it shows.", "At most 30 characters.")).notes


@pytest.mark.parametrize(
    ("found", "put", "statement"),
    [
        ("**Maximum length:** `40`", "**Mood:** `40`", "'Mood' of 'words' under 'input object properties'"),
        ("## Try it\n", "## Try it\n\n**Price:** 3 sheep\n", "'Price' under 'Try it'"),
        ("Body (application/json)", "Body (multipart/form-data)", "the media type 'multipart/form-data'"),
        ("## Try it\n", "## Try it\n\n| Sheep |\n| --- |\n| 3 |\n", "the column 'Sheep' of the table under 'Try it'"),
        ("Required range:** 0 <= x <= 1", "Required range:** low", "'Required range' of 'strength' under"),
    ],
)
def test_an_unknown_statement_of_a_markdown_page_is_reported(found: str, put: str, statement: str) -> None:
    assert found in TABLES
    (reported,) = derive_page(TABLES.replace(found, put)).unrecognized
    assert reported.startswith(statement)


@pytest.mark.parametrize(
    ("found", "put", "statement"),
    [
        ("maxLength: 40", "maxLength: 40\n                      readings: 3", "'readings' at '/paths/"),
        ("required: [words, copies]", "required: [words, copies, mood]", "required 'mood' at '/paths/"),
        ("default: 0.5", "default: much", "the default much at '/paths/"),
        ("parameters: []", "parameters: [{name: mood, in: query}]", "the parameter at '/paths/"),
        (
            "components:\n",
            "  /v9/other:\n    post:\n      requestBody:\n        content: {application/json: {schema: {}}}\n"
            "      responses: {}\ncomponents:\n",
            "the operation POST /v9/other",
        ),
    ],
)
def test_an_unknown_statement_of_an_openapi_page_is_reported(found: str, put: str, statement: str) -> None:
    assert found in OPENAPI
    (reported,) = derive_page(OPENAPI.replace(found, put, 1)).unrecognized
    assert reported.startswith(statement)


@pytest.mark.parametrize(
    ("found", "put", "clause", "value"),
    [
        (REQUIRED, "required: [model]\n", "request/required/input", None),
        ("enum: [200, 422, 499]", "enum: [200, 422, 433, 499]", "code/433", 433),
        ("- **422**: not valid", "- **422**: not valid\n            - **433**: more", "code/433", 433),
        ("      security:\n        - Meadow: []\n", "", "operation/header", "X-Meadow"),
        (SCHEME, "type: http, scheme: bearer", "operation/scheme", "Bearer"),
        (SCHEME, "type: http, scheme: bearer", "operation/header", "Authorization"),
        ("url: https://api.example.com/", "url: https://api.example.com/deep/", "operation/path", "/deep/v9/collage"),
        ("msg: {type: string}", "msg: {type: string, nullable: true}", "answer/msg/type", ["string", "null"]),
        ("{type: integer, m", "{type: integer, exclusiveMinimum: true, m", "input.frame.width/exclusiveMinimum", 1),
        ("minimum: 0\n", "exclusiveMinimum: false\n", "input.strength/exclusiveMinimum", None),
        ("type: array\n                      items: {", "items: {", "input.pictures/type", "array"),
        ("type: object\n      required: [width]", "required: [width]", "input.frame/type", "object"),
        ("default: 0.5", "default: null", "input.strength/default", None),
        ("minItems: 1", "minItems: 1\n                      uniqueItems: true", "input.pictures/uniqueItems", True),
    ],
)  # fmt: skip
def test_an_openapi_page_may_state_a_fact_in_another_way(found: str, put: str, clause: str, value: Any) -> None:
    assert found in OPENAPI
    assert stated(derive_page(OPENAPI.replace(found, put, 1)).contract).get(clause) == value


def test_yaml_tags_and_fences_in_other_languages_are_ignored() -> None:
    tagged = OPENAPI.replace("format: uri", "format: !kind uri")
    assert stated(derive_page(tagged).contract) == stated(derive_page(OPENAPI).contract)
    fenced = TABLES.replace("## Try it\n", '## Try it\n\n```json\n{"words": "it\'s no shell"}\n```\n')
    assert stated(derive_page(fenced).contract) == stated(derive_page(TABLES).contract)


def test_an_unknown_word_in_the_brackets_of_a_bullet_is_reported() -> None:
    page = text_of("bullets.en.md").replace("(integer, required)", "(integer, required, mossy)")
    assert derive_page(page).unrecognized == ("'mossy' of 'width' under 'Body (application/json)'",)


def test_the_schema_of_the_response_may_be_empty() -> None:
    head, _, rest = OPENAPI.partition("              schema:\n                allOf:")
    page = head + "              schema: {}\n" + rest[rest.index("      security:") :]
    contract = derive_page(page).contract
    assert contract["$defs"]["answer"] == {}
    assert [row["code"] for row in contract["x-codes"]] == [200]


def test_the_key_may_be_documented_only_as_a_header_parameter() -> None:
    page = OPENAPI.replace("      security:\n        - Meadow: []\n", "").replace(
        "    Meadow: {type: apiKey, in: header, name: X-Meadow, x-scheme: Token}", "    {}"
    )
    with pytest.raises(PageError, match="which header carries the key"):
        derive_page(page)
    page = page.replace("parameters: []", "parameters: [{name: X-Key, in: header, example: Token abc}]")
    operation = Contract(derive_page(page).contract).operation
    assert (operation.header, operation.scheme) == ("X-Key", "Token")


def test_the_server_may_be_documented_only_in_an_example_call() -> None:
    page = OPENAPI.replace("servers:\n  - url: https://api.example.com/\n", "")
    assert Contract(derive_page(page).contract).operation.server == job_api().server
    call = "```bash\ncurl https://else.example.com/v9/collage\n```\n"
    assert Contract(derive_page(page + call).contract).operation.server == "https://else.example.com"
    assert Contract(derive_page(yaml_of(page)).contract).operation.server == job_api().server


def test_codes_may_be_listed_in_a_separate_table() -> None:
    codes = "\n## Codes\n\n| Status code | Description |\n| --- | --- |\n| 433 | a new one |\n| other | none |\n"
    derivation = derive_page(TABLES + codes)
    assert stated(derivation.contract)["code/433"] == 433
    assert derivation.unrecognized == ()


def test_a_page_may_be_an_openapi_document() -> None:
    contract = derive_page(OPENAPI).contract
    alone = yaml_of(OPENAPI)
    for text in (alone, json.dumps(yaml12.parse_yaml(alone))):
        assert stated(derive_page(text).contract) == stated(contract)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("", "The page is empty."),
        (" \n\t ", "The page is empty."),
        ("\0\1\2", "The page is not text."),
        ("{", "not valid JSON"),
        (ANSWER[:-30], "not valid JSON"),
        ('{"a": NaN}', "not valid JSON"),
        ('{"a":' * 40_000, "not valid JSON"),
        ('{"code": 404, "msg": "no such model", "data": null}', "no such model"),
        ('{"code": 200}', "no reason"),
        ('{"code": 200, "data": {"model": "meadow/3", "openapi": null}}', "meadow/3"),
        ('{"openapi": "3.1.0"}', "'model'"),
        ('{"openapi": "3.1.0", "paths": []}', "'model'"),
        ('{"openapi": "3.1.0", "paths": {"/a": {"post": {"requestBody": {"$ref": "else.json"}}}}}', "'else.json'"),
        ("openapi: [", "not valid YAML"),
        ("openapi: &a [1]\npaths: *a", "YAML alias 'a'"),
        (OPENAPI.replace("type: boolean", "type: verity"), "the unknown type verity"),
        (OPENAPI.replace("{type: string}", "12", 1), "no schema at"),
        (OPENAPI.replace("maxLength: 40", "maxLength: many"), "does not result in a valid contract"),
        (OPENAPI.replace("maximum: 1\n", "maximum: 1e999\n"), "The page"),
        (OPENAPI.replace("default: 0.5", "default: .inf"), "a value that JSON cannot represent"),
        (OPENAPI.replace("enum:\n                    - meadow/2-collage", "x: 0"), "one option for the field 'model'"),
        (OPENAPI.replace("type: apiKey, in: header", "type: apiKey, in: query"), "which header carries the key"),
        (TABLES.replace("| `words` | `string` |", "| `words` |"), "'words'"),
        (TABLES.replace("| `words` |", "|  |"), "nothing in column 'Parameter'"),
        (TABLES.replace("Request parameters", "A").replace("Body", "B"), "no section '请求参数' or 'Request para"),
        (TABLES.replace("`X-Meadow: Token abc`", "a token"), "shows the header to send"),
        (OPENAPI.replace("enum: [200, 422, 499]", "x: 0").replace("'200':", "2XX:").replace("**:", ""), "codes"),
        (OPENAPI.replace("type: integer, minimum: 1", "$ref: '#/components/schemas/Frame'"), "refers to itself"),
        (LOOP, "refers to itself"),
        (TABLES.replace("`array<object>`", "`array<sheep>`"), "the type 'sheep'"),
        (TABLES.replace("`string<uri>`", ""), "nothing in column 'Type'"),
        (TABLES.replace("| Yes | - | What it shows.", "| Perhaps | - | What it shows."), "'Perhaps'"),
        (TABLES.replace("| Parameter | Type |", "| Parameter | Sort |"), "no column '类型' or 'Type'"),
        (TABLES.replace("`true`", "`maybe`"), "'maybe'"),
        ("# A page\n\nAbout sheep.\n", "no section"),
    ],
)  # fmt: skip
def test_an_invalid_page_is_rejected_with_one_sentence(page: str, message: str) -> None:
    with pytest.raises(PageError) as error:
        derive_page(page)
    assert message in str(error.value)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_exponentially_nested_references_are_rejected() -> None:
    layers = "".join(
        f"    L{n}: {{allOf: [{{$ref: '#/components/schemas/L{n + 1}'}}, {{$ref: '#/components/schemas/L{n + 1}'}}]}}\n"
        for n in range(40)
    )
    page = OPENAPI.replace(
        "    Frame:\n", f"{layers}    L40: {{}}\n    Frame:\n      $ref: '#/components/schemas/L0'\n    Old:\n"
    )
    with pytest.raises(PageError, match="more than"):
        derive_page(page)


ALTERNATIVES = """oneOf:
                        - {type: string, enum: [small, large], description: A word., x-order: 1}
                        - {$ref: '#/components/schemas/Frame'}"""


def test_alternatives_are_kept_and_validated() -> None:
    page = OPENAPI.replace("$ref: '#/components/schemas/Frame'", ALTERNATIVES, 1)
    assert page != OPENAPI
    derivation = derive_page(page)
    contract = Contract(derivation.contract)
    assert derivation.unrecognized == ()
    assert contract.input_fields["frame"]["oneOf"] == [
        {"type": "string", "enum": ["small", "large"]},
        {"type": "object", "required": ["width"], "properties": {"width": {"type": "integer", "minimum": 1}}},
    ]
    for frame, accepted in (("small", True), ({"width": 2}, True), ("round", False), ({"width": 0}, False)):
        request = {"model": contract.model, "input": {"words": "a", "copies": "1", "frame": frame}}
        assert contract.request.accepts(request) is accepted
        assert [each.clause for each in contract.request.violations(request)] == (
            [] if accepted else ["input.frame/oneOf"]
        )
    assert stated(derivation.contract)["input.frame/oneOf"]


def test_a_closed_object_is_kept_and_validated() -> None:
    closed = "required: [words, copies]"
    page = OPENAPI.replace(closed, f"additionalProperties: false\n                  {closed}", 1)
    contract = Contract(derive_page(page).contract)
    assert derive_page(page).unrecognized == ()
    request = {"model": contract.model, "input": {"words": "a", "copies": "1", "mood": 3}}
    (violation,) = contract.request.violations(request)
    assert (violation.clause, violation.message) == (
        "input/additionalProperties",
        "input must not have the fields mood",
    )
    assert not contract.request.accepts(request)
    open_page = OPENAPI.replace(closed, f"additionalProperties: true\n                  {closed}", 1)
    assert derive_page(open_page).contract["$defs"] == derive_page(OPENAPI).contract["$defs"]


@pytest.mark.parametrize(("value", "is_multiple"), [(0.3, True), (0.7, True), (0.35, False), (1, True)])
def test_steps_of_a_decimal_fraction_are_exact(value: float, is_multiple: bool) -> None:  # noqa: FBT001
    schema = Schema({"multipleOf": 0.1}, name="value")
    assert schema.accepts(value) is is_multiple
    assert (schema.violations(value) == []) is is_multiple
