"""OpenAPI: the document of a model's contract, with examples, and the responses that list models and their schemas."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from seedbed_schemas.job_api import job_api
from seedbed_schemas.messages import Envelope, Record, Results

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from seedbed_schemas.contract import Code, Contract
    from seedbed_schemas.validation import Schema


# --- the models operations -------------------------------------------------------------------------------------------


def models_data(contracts: Iterable[Contract]) -> dict[str, Any]:
    """Return the ``data`` of a response that lists models.

    The title, provider and task types are taken from the name of the model, such as ``maker/2-text-to-image``.
    """
    models = []
    for model in (contract.model for contract in contracts):
        provider, _, name = model.rpartition("/")
        models.append(
            {
                "model": model,
                "title": re.sub(r"[^\w.]+", " ", model).title(),
                "provider": provider or name,
                "taskType": re.findall(r"[a-z]+-to-[a-z]+", name),
                "description": f"Simulated by Seedbed from the contract of {model}.",
            }
        )
    return {"total": len(models), "models": models}


def schema_data(contract: Contract) -> dict[str, Any]:
    """Return the ``data`` of a response with a model's schema; ``seedbed derive`` turns it into the same contract."""
    return {"model": contract.model, "openapi": openapi_document(contract)}


# --- the document ----------------------------------------------------------------------------------------------------


HttpStatus = Literal["envelope", "mirror"]
"""How a response carries its code: in the body with HTTP status 200, or also as the HTTP status."""

_HTTP_STATUSES: Final = range(100, 600)
_SUCCESS_CODES: Final = range(200, 300)
_SECURITY_SCHEME: Final = "key"
_EXAMPLE_TIME: Final = 1_900_000_000_000
_EXAMPLE_IMAGE: Final = "https://example.com/image.png"


def openapi_document(contract: Contract, *, http_status: HttpStatus = "envelope") -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of one model.

    ``x-`` keys keep the place of each fact in the vendor's page, so the contract derived from the document equals the
    contract it was made from.

    Args:
        contract: The contract of the model.
        http_status: How responses carry their codes.
    """
    return _DocumentWriter(contract, http_status).document()


class _DocumentWriter:
    def __init__(self, contract: Contract, http_status: HttpStatus) -> None:
        self._contract, self._http_status, self._api = contract, http_status, job_api()
        success = [code for code in contract.codes if code.number in _SUCCESS_CODES]
        self._success = success[0].number if success else 200
        self._failures = tuple(code for code in contract.codes if code.number not in _SUCCESS_CODES)

    def document(self) -> dict[str, Any]:
        api, contract = self._api, self._contract
        paths = {contract.operation.path: {contract.operation.method.lower(): self._create_operation()}}
        for name, endpoint, shape, data in (
            ("recordInfo", api.record_info, "recordAnswer", self._record()),
            ("credit", api.credit, "creditAnswer", api.new_account_credits),
            ("models", api.models, "modelsAnswer", {"total": 0, "models": []}),
            ("modelSchema", api.model_schema, "modelSchemaAnswer", {"model": contract.model, "openapi": None}),
            ("downloadUrl", api.download_url, "downloadUrlAnswer", _EXAMPLE_IMAGE),
        ):
            text = {"type": "string", "minLength": 1}
            query = {"name": endpoint.query, "in": "query", "required": True, "schema": text}
            path = endpoint.path.replace("{model}", contract.model)
            paths.setdefault(path, {})[endpoint.method.lower()] = {
                "operationId": name,
                "summary": api.document["x-operations"][name]["description"],
                **({"parameters": [query]} if endpoint.query else {}),
                **({"requestBody": _url_body(endpoint.field)} if endpoint.field else {}),
                "responses": self._responses(shape, {"success": self._envelope(data)}),
            }
        paths[api.result.path] = {api.result.method.lower(): self._result_operation()}
        return {
            "openapi": "3.1.0",
            "info": {
                "title": contract.model,
                "version": "1",
                "description": (
                    "Written by `seedbed openapi` from the contract of this model and the part of the API that all "
                    "models share."
                ),
            },
            "servers": [{"url": contract.operation.server}],
            "security": [{_SECURITY_SCHEME: []}],
            "paths": paths,
            "components": self._components(),
        }

    def _create_operation(self) -> dict[str, Any]:
        contract = self._contract
        request, response = example_of(contract.part("request")), example_of(contract.part("answer"), whole=True)
        # A copy, because the example may be a default inside the contract.
        response = {**response, "code": self._success} if isinstance(response, dict) else response
        request_example = _success_example(contract.request, request)
        callbacks, field = {}, self._api.fields.callback
        if field in contract.part("request").get("properties", {}):
            content = _json_content(_ref("callback"), {"success": self._envelope(self._record())})
            post = {
                "operationId": "taskEnded",
                "summary": "The task has ended.",
                "security": [],
                "requestBody": {"required": True, "content": content},
                "responses": {"200": {"description": "The receiver accepted the callback."}},
            }
            callbacks = {"callbacks": {"taskEnded": {f"{{$request.body#/{field}}}": {"post": post}}}}
        return {
            "operationId": re.sub(r"\W", "", contract.operation.path.rpartition("/")[2]) or "create",
            "summary": "Create a task.",
            "x-places": contract.document["x-operation"].get("x-places", {}),
            "x-codes": contract.document["x-codes"],
            "requestBody": {"required": True, "content": _json_content(_ref("request"), request_example)},
            "responses": self._responses("answer", _success_example(contract.answer, response)),
            **callbacks,
        }

    def _result_operation(self) -> dict[str, Any]:
        """Return the operation that fetches a result image, the only one whose response is not JSON."""
        name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        image = {"schema": {"type": "string", "contentMediaType": "image/jpeg"}}
        return {
            "operationId": "result",
            "summary": self._api.document["x-operations"]["result"]["description"],
            "security": [],
            "parameters": [name],
            "responses": {
                "200": {"description": "The image.", "content": {"image/jpeg": image}},
                "404": {"description": "The image does not exist, or is no longer kept."},
            },
        }

    def _responses(self, shape: str, success: dict[str, Any]) -> dict[str, Any]:
        """Return the responses of an operation: all with status 200, or failures with the code as their status."""
        # A code such as 1001 is not a valid HTTP status, so it stays in the envelope.
        mirrored = [code for code in self._failures if self._http_status == "mirror" and code.number in _HTTP_STATUSES]
        enveloped = {code.name: _failure(code) for code in self._failures if code not in mirrored}
        schema = {"anyOf": [_ref(shape), _ref("failure")]} if enveloped else _ref(shape)
        description = "Success or failure, depending on `code`." if enveloped else "Success."
        responses = {"200": {"description": description, "content": _json_content(schema, success | enveloped)}}
        for code in mirrored:
            content = _json_content(_ref("failure"), {code.name: _failure(code)})
            responses[str(code.number)] = {"description": code.description, "content": content}
        return responses

    def _envelope(self, data: Any) -> Any:
        return msgspec.to_builtins(Envelope(code=self._success, msg="success", data=data))

    def _record(self) -> Any:
        param = example_of(self._contract.part("request"))
        results = Results([_EXAMPLE_IMAGE])
        return msgspec.to_builtins(
            Record(
                task_id="task_example",
                model=self._contract.model,
                state=self._api.states.success,
                param=msgspec.json.encode(param).decode(),
                result_json=msgspec.json.encode(results).decode(),
                cost_time=15_000,
                complete_time=_EXAMPLE_TIME + 15_000,
                create_time=_EXAMPLE_TIME,
            )
        )

    def _components(self) -> dict[str, Any]:
        operation = self._contract.operation
        # OpenAPI wants the name of the scheme in lower case; x-scheme keeps the spelling of the page.
        if operation.header == "Authorization" and operation.scheme:
            security = {"type": "http", "scheme": operation.scheme.lower(), "x-scheme": operation.scheme}
        else:
            security = {"type": "apiKey", "in": "header", "name": operation.header, "x-scheme": operation.scheme}
        codes = {"code": {"enum": [code.number for code in self._failures]}} if self._failures else {}
        schemas = {name: _with_openapi_references(schema) for name, schema in self._api.document["$defs"].items()}
        schemas["failure"] = {"allOf": [_ref("envelope")], "properties": codes}
        schemas |= {name: self._contract.part(name) for name in ("request", "answer")}
        return {"securitySchemes": {_SECURITY_SCHEME: security}, "schemas": schemas}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json_content(schema: Mapping[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "examples": {name: {"value": examples[name]} for name in examples}}}


def _url_body(field: str) -> dict[str, Any]:
    """Return the body of an operation whose only field is the URL of a result."""
    schema = {"type": "object", "required": [field], "properties": {field: {"type": "string", "format": "uri"}}}
    return {"required": True, "content": _json_content(schema, {"result": {field: _EXAMPLE_IMAGE}})}


def _failure(code: Code) -> dict[str, Any]:
    return {"code": code.number, "msg": code.description, "data": None}


def _success_example(schema: Schema, value: Any) -> dict[str, Any]:
    """Return the value as the example of a success if the schema accepts it.

    Generated examples ignore ``pattern``, and a document must not contain an invalid example.
    """
    return {"success": value} if schema.accepts(value) else {}


def _with_openapi_references(schema: Any) -> Any:
    """Return a shared schema whose references point to ``#/components/schemas``.

    A reference with keywords beside it becomes an ``allOf``, because tools for older versions of OpenAPI ignore those
    keywords.
    """
    if isinstance(schema, list):
        return [_with_openapi_references(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    others = {name: _with_openapi_references(value) for name, value in schema.items() if name != "$ref"}
    if "$ref" not in schema:
        return others
    reference = _ref(schema["$ref"].rpartition("/")[2])
    return {"allOf": [reference], **others} if others else reference


# --- examples --------------------------------------------------------------------------------------------------------


_EXAMPLE_TEXT: Final = "A hill at dawn"
_EXAMPLES_BY_FORMAT: Final = {"uri": "https://example.com/done"}
_PYTHON_TYPES: Final[dict[str, Any]] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": int | float,
    "integer": int,
    "boolean": bool,
    "null": type(None),
}
_LONGEST_EXAMPLE: Final = 10_000
_MAXIMUM_EXAMPLE_ITEMS: Final = 8
"""An example is for reading, so it stays short even if the contract requires more items."""


def example_of(schema: Mapping[str, Any], *, whole: bool = False) -> Any:
    """Return a small example of a schema.

    The example is valid unless the schema has a ``minItems`` above 8, which is ignored, or rules that few values keep.

    Args:
        schema: A JSON Schema as contracts contain it.
        whole: Whether to include all fields that are not deprecated, instead of only the required ones.
    """
    alternatives = schema.get("oneOf") or schema.get("anyOf") or ()
    for part in (*alternatives[:1], *schema.get("allOf", ())):
        schema = {**part, **schema}
    types = schema.get("type", "object" if "properties" in schema else "string")
    types = types if isinstance(types, list) else [types]
    # A page may state a default of another type, such as null for a text.
    has_default = "type" not in schema or isinstance(
        schema.get("default"), tuple(_PYTHON_TYPES[each] for each in types)
    )
    for keyword in ("const", *(["default"] if has_default else [])):
        if keyword in schema:
            return schema[keyword]
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    json_type = types[0]
    if json_type == "object":
        fields: dict[str, Any] = schema.get("properties", {})
        chosen = [
            name
            for name, field in fields.items()
            if (not field.get("deprecated") if whole else name in schema.get("required", ()))
        ]
        return {name: example_of(fields[name], whole=whole) for name in chosen}
    if json_type == "array":
        length = min(schema.get("minItems", int(whole)), _MAXIMUM_EXAMPLE_ITEMS)
        return [example_of(schema.get("items", {}), whole=whole)] * length
    return _scalar_example(json_type, schema)


def _scalar_example(json_type: str, schema: Mapping[str, Any]) -> Any:
    if json_type in {"integer", "number"}:
        above: int | float = schema.get("exclusiveMinimum", min(0, schema.get("maximum", 1) - 1)) + 1
        minimum: int | float = schema.get("minimum", above)
        step: int | float = schema.get("multipleOf", minimum or 1)
        # Rounds the minimum up to a multiple of the step.
        return minimum + -minimum % step
    if json_type in {"boolean", "null"}:
        return True if json_type == "boolean" else None
    text = _EXAMPLES_BY_FORMAT.get(schema.get("format", ""), _EXAMPLE_TEXT)
    text = text.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength")]
    return matching_text(text, schema) if "pattern" in schema else text


def matching_text(text: str, schema: Mapping[str, Any]) -> str:
    """Return a text if it matches the pattern of a schema, or else the simplest one that keeps to the schema."""
    # Few contracts have patterns, and Hypothesis takes time to load.
    from hypothesis import HealthCheck, errors, find, settings, strategies

    try:
        if re.search(schema["pattern"], text):
            return text
        all_checks = list(HealthCheck.__members__.values())
        least, most = schema.get("minLength", 0), schema.get("maxLength", _LONGEST_EXAMPLE)
        match = find(
            strategies.from_regex(schema["pattern"]),
            lambda each: least <= len(each) <= most and not each.endswith("\n"),
            settings=settings(database=None, derandomize=True, suppress_health_check=all_checks),
        )
    except (re.error, errors.HypothesisException):
        return text  # an example that breaks the pattern is better than none
    # Such as a URL, of which the pattern is only the end.
    both = f"{text}{match}"
    return both if re.search(schema["pattern"], both) and len(both) <= most else match
