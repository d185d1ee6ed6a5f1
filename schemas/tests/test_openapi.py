"""The OpenAPI document of a contract: valid, complete, with valid examples, and derivable to the same contract."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml12
from openapi_spec_validator import validate
from seedbed_schemas import Contract, Schema, default_contract, job_api
from seedbed_schemas.derive import derive_page
from seedbed_schemas.openapi import HttpStatus, example_of, models_data, openapi_document, schema_data

COLLAGE = Path(__file__).parent / "pages" / "collage" / "tables.en.md"
CONTRACTS = [default_contract(), Contract(derive_page(COLLAGE.read_text(encoding="utf-8")).contract)]
STATUSES: list[HttpStatus] = ["envelope", "mirror"]

each_contract = pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.model)
each_status = pytest.mark.parametrize("status", STATUSES)


def as_page(document: dict[str, Any]) -> str:
    return f"# A model\n\n## OpenAPI Specification\n\n```yaml\n{yaml12.format_yaml(document)}\n```\n"


def as_response(contract: Contract) -> str:
    return json.dumps({"code": 200, "msg": "success", "data": schema_data(contract)})


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the operations that answer with JSON: all but that of the result images."""
    paths = {path: item for path, item in document["paths"].items() if path != job_api().result.path}
    return [(path, operation) for path, item in paths.items() for operation in item.values()]


@each_contract
@each_status
def test_the_document_is_valid(contract: Contract, status: HttpStatus) -> None:
    validate(openapi_document(contract, http_status=status))


@each_contract
@each_status
def test_the_same_contract_is_derived_from_the_document(contract: Contract, status: HttpStatus) -> None:
    document = openapi_document(contract, http_status=status)
    for page in (as_page(document), json.dumps(document)):
        derivation = derive_page(page)
        assert derivation.contract == contract.document
        assert derivation.unrecognized == ()


@each_contract
def test_the_same_contract_is_derived_from_a_schema_response(contract: Contract) -> None:
    assert derive_page(as_response(contract)).contract == contract.document


@each_contract
def test_the_document_has_every_operation(contract: Contract) -> None:
    api = job_api()
    paths = openapi_document(contract)["paths"]
    shared = [api.record_info, api.credit, api.models, api.download_url, api.result]
    assert set(paths) == {
        contract.operation.path,
        *(endpoint.path for endpoint in shared),
        api.model_schema.path.replace("{model}", contract.model),
    }


def test_the_callback_is_documented_if_the_request_has_its_field() -> None:
    with_field, without = (openapi_document(contract) for contract in CONTRACTS)
    (expression,) = with_field["paths"][CONTRACTS[0].operation.path]["post"]["callbacks"]["taskEnded"]
    assert expression == "{$request.body#/callBackUrl}"
    assert "callbacks" not in without["paths"][CONTRACTS[1].operation.path]["post"]


@each_contract
@each_status
def test_every_example_is_valid(contract: Contract, status: HttpStatus) -> None:
    document = openapi_document(contract, http_status=status)
    contents = [
        body["content"]["application/json"]
        for _, operation in operations(document)
        for body in (*operation["responses"].values(), operation.get("requestBody"))
        if body
    ]
    checked = 0
    for content in contents:
        for example in content["examples"].values():
            assert Schema({**content["schema"], "components": document["components"]}, name="example").accepts(
                example["value"]
            )
            checked += 1
    assert checked > len(contents) // 2


@each_contract
def test_every_code_is_documented_in_both_http_status_modes(contract: Contract) -> None:
    codes = {code.number for code in contract.codes}
    for _, operation in operations(openapi_document(contract, http_status="mirror")):
        assert {int(status) for status in operation["responses"]} == codes
    for _, operation in operations(openapi_document(contract)):
        (response,) = operation["responses"].values()
        examples = response["content"]["application/json"]["examples"].values()
        assert {each["value"]["code"] for each in examples} == codes


def test_a_contract_without_failures_or_response_gives_a_valid_document() -> None:
    bare = json.loads(json.dumps(CONTRACTS[1].document))
    bare["x-codes"] = bare["x-codes"][:1]
    bare["$defs"]["answer"] = {}
    validate(openapi_document(Contract(bare)))
    assert derive_page(as_response(Contract(bare))).contract == bare


def test_the_list_of_models_is_taken_from_their_names() -> None:
    data = models_data(CONTRACTS)
    assert data["total"] == 2
    assert data["models"][0] | {"description": ""} == {
        "model": "seedream/4.5-text-to-image",
        "title": "Seedream 4.5 Text To Image",
        "provider": "seedream",
        "taskType": ["text-to-image"],
        "description": "",
    }
    assert job_api().shape("modelsAnswer").violations({"code": 200, "msg": "success", "data": data}) == []
    assert models_data([])["models"] == []


@each_contract
def test_a_schema_response_matches_the_shared_shape(contract: Contract) -> None:
    response = {"code": 200, "msg": "success", "data": schema_data(contract)}
    assert job_api().shape("modelSchemaAnswer").violations(response) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 200},
        {"type": "string", "maxLength": 3},
        {"type": "string", "format": "uri"},
        {"type": "integer", "minimum": 3},
        {"type": "integer", "maximum": -3},
        {"type": "number", "exclusiveMinimum": 3},
        {"type": "integer", "minimum": 5, "multipleOf": 4},
        {"type": "array", "minItems": 2, "items": {"type": "boolean"}},
        {"type": ["string", "null"]},
        {"type": "null"},
        {"properties": {"a": {"type": "string"}, "old": {"type": "integer", "deprecated": True}}},
        {"enum": [4, 5]},
        {"type": "string", "examples": ["a"]},
        {"const": None},
        {},
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_an_example_is_valid_for_its_schema(schema: dict[str, Any], whole: bool) -> None:  # noqa: FBT001
    assert Schema(schema, name="schema").violations(example_of(schema, whole=whole)) == []


@each_contract
def test_the_download_url_and_the_images_are_described(contract: Contract) -> None:
    api, paths = job_api(), openapi_document(contract)["paths"]
    body = paths[api.download_url.path]["post"]["requestBody"]["content"]["application/json"]
    assert Schema(body["schema"], name="body").accepts({"url": "https://example.com/1.jpg"})
    assert not Schema(body["schema"], name="body").accepts({})
    image = paths[api.result.path]["get"]
    assert image["security"] == []
    assert list(image["responses"]["200"]["content"]) == ["image/jpeg"]


def test_a_contract_with_alternatives_and_closed_objects_is_written_and_read_unchanged() -> None:
    document = json.loads(json.dumps(CONTRACTS[1].document))
    fields = document["$defs"]["request"]["properties"]["input"]
    fields["additionalProperties"] = False
    fields["properties"]["shape"] = {
        "description": "The field `shape`.",
        "anyOf": [{"type": "string", "minLength": 2}, {"type": "array", "items": {"type": "integer"}}],
    }
    contract = Contract(document)
    validate(openapi_document(contract))
    assert stripped(derive_page(as_response(contract)).contract) == stripped(document)


def stripped(value: Any) -> Any:
    """Return a contract without its places, which a new fact gets from the document."""
    if isinstance(value, list):
        return [stripped(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: stripped(each) for name, each in value.items() if name != "x-places"}
