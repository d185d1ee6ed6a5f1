"""Any contract, written as a page of any form and derived again, is the same contract."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml12
from hypothesis import given, settings
from hypothesis import strategies as st
from seedbed_schemas import Contract
from seedbed_schemas.derive import derive_page, write_contract
from seedbed_schemas.derive.facts import CodeFact, Field, OperationFacts, PageFacts, Place, RuleFact
from seedbed_schemas.openapi import openapi_document, schema_data

SOMEWHERE = Place("Somewhere")
REQUIRED = RuleFact(value=True, place=SOMEWHERE)
ZH = {
    "method": "请求方法", "path": "请求路径", "request": "请求参数", "answer": "响应", "name": "参数名", "type": "类型",
    "required": "必填", "default": "默认值", "description": "说明", "yes": "是", "no": "否", "inside": "对象属性",
    "options": "可用选项", "codes": "状态码说明", "deprecated": "已弃用", "optional": "可选",
    "minLength": "最小长度", "maxLength": "最大长度", "minimum": "最小值", "maximum": "最大值",
    "minItems": "最小项数", "maxItems": "最大项数",
}  # fmt: skip
EN = {
    "method": "Request method", "path": "Request path", "request": "Request parameters", "answer": "Response",
    "name": "Parameter", "type": "Type", "required": "Required", "default": "Default", "description": "Description",
    "yes": "Yes", "no": "No", "inside": "object properties", "options": "Available options", "codes": "Status codes",
    "deprecated": "Deprecated", "optional": "Optional", "minLength": "Minimum length", "maxLength": "Maximum length",
    "minimum": "Minimum", "maximum": "Maximum", "minItems": "Minimum items", "maxItems": "Maximum items",
}  # fmt: skip
Words = dict[str, str]

# --- contracts -------------------------------------------------------------------------------------------------------

texts = st.from_regex(r"[a-z0-9][A-Za-z0-9:./_-]{0,8}", fullmatch=True).filter(
    lambda text: text not in {"none", "null", "n/a"}
)
numbers = st.integers(-9_999, 9_999)
fractions = st.integers(-99, 99).map(lambda number: number / 4)
sizes = st.integers(0, 9_999)
SCALARS: dict[str, tuple[st.SearchStrategy[Any], tuple[str, ...]]] = {
    "string": (texts, ("minLength", "maxLength")),
    "integer": (numbers, ("minimum", "maximum")),
    "number": (fractions, ("minimum", "maximum")),
    "boolean": (st.booleans(), ()),
}


def rules(stated: dict[str, Any]) -> dict[str, RuleFact]:
    return {keyword: RuleFact(value, SOMEWHERE) for keyword, value in stated.items()}


def ascending(values: st.SearchStrategy[int]) -> st.SearchStrategy[list[int]]:
    """Return a strategy for a lower and an upper bound."""
    return st.lists(values, min_size=2, max_size=2).map(sorted)


@st.composite
def scalars(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(sorted(SCALARS)))
    values, limits = SCALARS[kind]
    stated: dict[str, Any] = {"type": kind}
    bounds = draw(ascending(sizes if kind == "string" else numbers))
    stated |= {limit: bound for limit, bound in zip(limits, bounds, strict=False) if draw(st.booleans())}
    if kind == "string" and draw(st.booleans()):
        stated["format"] = draw(st.sampled_from(["uri", "date-time"]))
    elif kind != "boolean" and draw(st.booleans()):
        stated["enum"] = draw(st.lists(values, min_size=1, max_size=4, unique=True))
    if draw(st.booleans()):
        stated["default"] = draw(values)
    return stated


@st.composite
def fields(draw: st.DrawFn, names: Iterator[str], depth: int, *, flags: bool) -> Field:
    required = RuleFact(draw(st.booleans()), SOMEWHERE) if flags else None
    field = Field(next(names), required=required)
    shape = draw(st.sampled_from(["scalar", "scalar", "object", "array", "objects"] if depth else ["scalar"]))
    stated: dict[str, Any] = draw(scalars()) if shape == "scalar" else {}
    inside = tuple(
        draw(fields(names, depth - 1, flags=flags)) for _ in range(draw(st.integers(1, 2)) if "ob" in shape else 0)
    )
    items: Field | None = None
    if shape in {"array", "objects"}:
        stated = {"type": "array", **dict(zip(("minItems", "maxItems"), draw(ascending(sizes)), strict=True))}
        of_items = draw(scalars()) if shape == "array" else {"type": "object"}
        of_items.pop("default", None)
        items = Field("", rules(of_items), fields=inside)
    elif shape == "object":
        stated = {"type": "object"}
    if draw(st.booleans()):
        stated["deprecated"] = True
    return replace(field, rules=rules(stated), fields=() if items else inside, items=items)


@st.composite
def pages(draw: st.DrawFn) -> PageFacts:
    names = (f"f_{number}" for number in range(1_000))
    codes = draw(st.lists(st.integers(200, 999), min_size=1, max_size=5, unique=True))
    model = Field("model", rules({"type": "string", "enum": ["meadow/1"], "default": "meadow/1"}), REQUIRED)
    request = [draw(fields(names, 2, flags=True)) for _ in range(draw(st.integers(0, 3)))]
    response = [draw(fields(names, 2, flags=False)) for _ in range(draw(st.integers(0, 2)))]
    code = Field("code", rules({"type": "integer", "enum": codes}))
    task = Field("data", rules({"type": "object"}), fields=(Field("taskId", rules({"type": "string"})),))
    return PageFacts(
        operation=OperationFacts(
            *(RuleFact(value, SOMEWHERE) for value in ("POST", "/v1/a", "https://a.test", "X-Key", "Token"))
        ),
        request=Field("", rules({"type": "object"}), fields=(model, *request)),
        answer=Field("", rules({"type": "object"}), fields=(code, task, *response)),
        codes=tuple(CodeFact(number, SOMEWHERE) for number in codes),
    )


# --- pages of Markdown -----------------------------------------------------------------------------------------------


def written_type(field: Field) -> str:
    if field.items:
        return f"array<{written_type(field.items)}>"
    kind, form = str(field.rules["type"].value), field.rules.get("format")
    if "enum" in field.rules:
        return f"enum<{kind}>"
    return f"{kind}<{form.value}>" if form else kind


def bare(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def labels(field: Field, words: Words) -> Iterator[str]:
    """Yield the labelled lines of a field except type, required and default."""
    for keyword, rule in ((field.items.rules if field.items else {}) | field.rules).items():
        if keyword in {"type", "format", "default"}:
            continue
        if keyword == "enum":
            yield f"**{words['options']}:** " + ", ".join(f"`{bare(value)}`" for value in rule.value)
        else:
            yield f"**{words[keyword]}:** `{bare(rule.value)}`"


def columns(field: Field, words: Words) -> Iterator[tuple[str, str]]:
    yield "type", f"`{written_type(field)}`"
    if field.required:
        yield "required", words["yes"] if field.required.value else words["no"]
    if "default" in field.rules:
        yield "default", f"`{bare(field.rules['default'].value)}`"


def inside(field: Field) -> tuple[Field, ...]:
    return field.items.fields if field.items else field.fields


def table(fields: tuple[Field, ...], words: Words, codes: list[str]) -> str:
    concepts = ("type", "default", *(["required"] if fields[0].required else []))
    head = [words["name"], *(words[concept] for concept in concepts), words["description"]]
    rows = [head, ["---"] * len(head)]
    for field in fields:
        stated = dict(columns(field, words))
        lines = [*labels(field, words), *(codes if field.name == "code" else [])]
        rows.append([f"`{field.name}`", *(stated.get(concept, "-") for concept in concepts), "<br>".join(lines)])
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n\n"
    inner = [field for field in fields if inside(field)]
    return text + "".join(
        f"#### {field.name} {words['inside']}\n\n{table(inside(field), words, [])}" for field in inner
    )


def bullets(fields: tuple[Field, ...], words: Words, codes: list[str], indent: str = "") -> str:
    text = ""
    for field in fields:
        stated = dict(columns(field, words))
        group = [stated["type"]]
        if field.required:
            group.append(words["required"] if field.required.value else words["optional"])
        if "default" in stated:
            group.append(f"{words['default']}: {stated['default']}")
        text += f"{indent}- `{field.name}` ({', '.join(group)})\n"
        text += "".join(f"{indent}  - {line}\n" for line in labels(field, words))
        if field.name == "code":
            text += f"{indent}  - {codes[0]}\n" + "".join(f"{indent}    {line}\n" for line in codes[1:])
        text += bullets(inside(field), words, codes, indent + "  ")
    return text


def headings(fields: tuple[Field, ...], words: Words, codes: list[str], above: str = "") -> str:
    text = ""
    for field in fields:
        text += f"#### {above}{field.name}\n\n"
        text += "".join(f"- **{words[concept]}:** {value}\n" for concept, value in columns(field, words))
        text += "".join(f"- {line}\n" for line in labels(field, words))
        if field.name == "code":
            text += f"- {codes[0]}\n" + "".join(f"  {line}\n" for line in codes[1:])
        text += "\n" + headings(inside(field), words, codes, f"{above}{field.name}{'[]' if field.items else ''}.")
    return text


def markdown(facts: PageFacts, words: Words, layout: Callable[[tuple[Field, ...], Words, list[str]], str]) -> str:
    key = Field("X-Key", rules({"type": "string"}))
    codes = [f"**{words['codes']}:**", *(f"- `{code.number}`: x" for code in facts.codes)]
    path = facts.operation.path.value
    authorization = layout((key,), words, []).replace("`string`", "`string`", 1)
    return (
        f"# A model\n\n**{words['method']}:** POST\n**{words['path']}:** `{path}`\n\n"
        f"```bash\ncurl https://a.test{path}\n```\n\n## {words['request']}\n\n### Authorizations\n\n"
        f"{with_example(authorization)}\n### Body (application/json)\n\n{layout(facts.request.fields, words, codes)}"
        f"\n## {words['answer']}\n\n{layout(facts.answer.fields, words, codes)}\n"
    )


def with_example(authorization: str) -> str:
    """Add an example of the header to its description, in any layout."""
    example = "`X-Key: Token abc`"
    if authorization.startswith("|"):
        return authorization.rstrip().removesuffix("|").rstrip() + f" {example} |\n"
    return authorization.replace("(`string`)", f"(`string`) {example}").replace(
        "`string`\n", f"`string`\n- {example}\n"
    )


# --- pages of OpenAPI ------------------------------------------------------------------------------------------------


def without_places(schema: Any) -> Any:
    if isinstance(schema, list):
        return [without_places(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: without_places(value) for name, value in schema.items() if not name.startswith("x-")}


def vendor_document(contract: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document as the vendor writes it, without the places of facts."""
    request, response = (without_places(contract["$defs"][part]) for part in ("request", "answer"))
    request["properties"]["model"]["enum"] = [request["properties"]["model"].pop("const")]
    answers = {"200": {"description": "x", "content": {"application/json": {"schema": response}}}}
    call = {"requestBody": {"content": {"application/json": {"schema": request}}}, "responses": answers}
    key = {"type": "apiKey", "in": "header", "name": "X-Key", "x-scheme": "Token"}
    return {
        "openapi": "3.0.1",
        "servers": [{"url": "https://a.test"}],
        "paths": {"/v1/a": {"post": call}},
        "components": {"securitySchemes": {"key": key}},
    }


def as_yaml_page(document: dict[str, Any]) -> str:
    return f"# A model\n\n## OpenAPI Specification\n\n```yaml\n{yaml12.format_yaml(document)}\n```\n"


def as_response(document: dict[str, Any]) -> str:
    return json.dumps({"code": 200, "msg": "success", "data": {"model": "meadow/1", "openapi": document}})


# --- round trips -----------------------------------------------------------------------------------------------------


def stated(contract: dict[str, Any]) -> dict[str, Any]:
    return {clause.id: clause.value for clause in Contract(contract).clauses()}


relaxed = settings(max_examples=40)


@pytest.mark.parametrize("words", [ZH, EN], ids=["zh", "en"])
@pytest.mark.parametrize("layout", [table, bullets, headings])
@given(facts=pages())
@relaxed
def test_a_contract_written_as_markdown_is_derived_unchanged(
    facts: PageFacts, words: Words, layout: Callable[[tuple[Field, ...], Words, list[str]], str]
) -> None:
    derivation = derive_page(markdown(facts, words, layout))
    assert stated(derivation.contract) == stated(write_contract(facts))
    assert derivation.unrecognized == ()


@pytest.mark.parametrize("write", [as_yaml_page, as_response, json.dumps, yaml12.format_yaml])
@given(facts=pages())
@relaxed
def test_a_contract_written_as_openapi_is_derived_unchanged(facts: PageFacts, write: Callable[[Any], str]) -> None:
    contract = write_contract(facts)
    derivation = derive_page(write(vendor_document(contract)))
    expected = stated(contract) | {"code/200": 200}
    assert stated(derivation.contract) == expected
    assert derivation.unrecognized == ()


@given(facts=pages(), status=st.sampled_from(["envelope", "mirror"]))
@relaxed
def test_a_contract_written_as_our_openapi_is_derived_with_its_places(facts: PageFacts, status: Any) -> None:
    contract = write_contract(facts)
    document = openapi_document(Contract(contract), http_status=status)
    assert derive_page(as_yaml_page(document)).contract == contract
    assert derive_page(json.dumps({"code": 200, "data": schema_data(Contract(contract))})).contract == contract
