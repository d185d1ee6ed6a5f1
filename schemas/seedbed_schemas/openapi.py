"""A small valid instance of a schema, for people to read and to paste."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from seedbed_schemas.job_api import job_api
from seedbed_schemas.messages import Envelope, Record, Results

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from seedbed_schemas.contract import Code, Contract
    from seedbed_schemas.job_api import EndpointSpec
    from seedbed_schemas.validation import Schema


_TEXT: Final = "A hill at dawn"
_MOST_ITEMS: Final = 8
"""A longer example serves nobody, even where the contract asks for more items."""
_OF_FORMAT: Final = {"uri": "https://example.com/done"}


def example_of(schema: Mapping[str, Any], *, whole: bool = False) -> Any:
    """Return an instance that keeps the rules of a contract.

    Args:
        schema: The rules; a ``pattern`` is not followed, nor a ``minItems`` beyond reason.
        whole: Whether to give every field that is not deprecated, rather than those alone that are required.
    """
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    for keyword in ("examples", "enum"):
        if schema.get(keyword):
            return schema[keyword][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return _of_type(kind[0] if isinstance(kind, list) else kind, schema, whole=whole)


def _of_type(kind: str, schema: Mapping[str, Any], *, whole: bool) -> Any:
    if kind == "object":
        fields: dict[str, Any] = schema.get("properties", {})
        names = [name for name, field in fields.items() if not field.get("deprecated")] if whole else fields
        required = schema.get("required", ())
        return {name: example_of(fields[name], whole=whole) for name in names if whole or name in required}
    if kind == "array":
        return [example_of(schema.get("items", {}), whole=whole)] * min(schema.get("minItems", int(whole)), _MOST_ITEMS)
    if kind in {"integer", "number"}:
        return _number(schema)
    return {"boolean": True, "null": None}.get(kind, _text(schema))


def _number(schema: Mapping[str, Any]) -> int | float:
    above: int | float = schema.get("exclusiveMinimum", min(0, schema.get("maximum", 1) - 1)) + 1
    least: int | float = schema.get("minimum", above)
    step: int | float = schema.get("multipleOf", least or 1)
    return least + -least % step


def _text(schema: Mapping[str, Any]) -> str:
    text = _OF_FORMAT.get(schema.get("format", ""), _TEXT)
    least: int = schema.get("minLength", 0)
    return text.ljust(least, ".")[: schema.get("maxLength")]


def models_data(contracts: Iterable[Contract]) -> dict[str, Any]:
    """Return the ``data`` that answers the request for the list of models."""
    models = [_model(contract.model) for contract in contracts]
    return {"total": len(models), "models": models}


def schema_data(contract: Contract) -> dict[str, Any]:
    """Return the ``data`` that answers the request for a model's schema; deriving from it gives the contract back."""
    return {"model": contract.model, "openapi": openapi_document(contract)}


def _model(model: str) -> dict[str, Any]:
    """Tell of a model what its name tells, such as ``maker/2-text-to-image``."""
    provider, _, name = model.rpartition("/")
    return {
        "model": model,
        "title": re.sub(r"[^\w.]+", " ", model).title(),
        "provider": provider or name,
        "taskType": re.findall(r"[a-z]+-to-[a-z]+", name),
        "description": f"Played by Seedbed from the contract of {model}.",
    }


HttpStatus = Literal["envelope", "mirror"]
"""How an outcome travels: in the body of an answer with HTTP status 200, or as the HTTP status too."""

_HTTP: Final = range(100, 600)
_HTTP_GOOD: Final = range(200, 300)
_KEY: Final = "key"
_MOMENT: Final = 1_900_000_000_000


def openapi_document(contract: Contract, *, http_status: HttpStatus = "envelope") -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of one model.

    Facts keep the places that the contract names, under ``x-`` keys, so that a contract derived from the document is
    the contract that it was made of.

    Args:
        contract: The contract of the model.
        http_status: How an outcome travels.
    """
    return _Document(contract, http_status).whole()


class _Document:
    def __init__(self, contract: Contract, http_status: HttpStatus) -> None:
        self._contract, self._http_status, self._api = contract, http_status, job_api()
        good = [code for code in contract.codes if code.number in _HTTP_GOOD]
        self._good = good[0].number if good else 200
        self._failures = tuple(code for code in contract.codes if code.number not in _HTTP_GOOD)

    def whole(self) -> dict[str, Any]:
        api, contract = self._api, self._contract
        paths = {contract.operation.path: {contract.operation.method.lower(): self._create()}}
        for name, endpoint, shape, data in (
            ("recordInfo", api.record_info, "recordAnswer", self._record()),
            ("credit", api.credit, "creditAnswer", api.new_account_credits),
            ("models", api.models, "modelsAnswer", {"total": 0, "models": []}),
            ("modelSchema", api.model_schema, "modelSchemaAnswer", {"model": contract.model, "openapi": None}),
        ):
            path = endpoint.path.replace("{model}", contract.model)
            paths.setdefault(path, {})[endpoint.method.lower()] = self._ask(name, endpoint, shape, data)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": contract.model,
                "version": "1",
                "description": "Made by `seedbed openapi` from the contract of this model and what all models share.",
            },
            "servers": [{"url": contract.operation.server}],
            "security": [{_KEY: []}],
            "paths": paths,
            "components": {"securitySchemes": {_KEY: self._scheme()}, "schemas": self._schemas()},
        }

    def _create(self) -> dict[str, Any]:
        contract = self._contract
        asked, told = example_of(contract.part("request")), example_of(contract.part("answer"), whole=True)
        told = {**told, "code": self._good} if isinstance(told, dict) else told
        return {
            "operationId": re.sub(r"\W", "", contract.operation.path.rpartition("/")[2]) or "create",
            "summary": "Make a task.",
            "x-places": contract.document["x-operation"].get("x-places", {}),
            "x-codes": contract.document["x-codes"],
            "requestBody": {"required": True, "content": _json(_ref("request"), _judged(contract.request, asked))},
            "responses": self._responses("answer", _judged(contract.answer, told)),
            **self._callbacks(),
        }

    def _ask(self, name: str, endpoint: EndpointSpec, shape: str, data: Any) -> dict[str, Any]:
        query = {"name": endpoint.query, "in": "query", "required": True, "schema": {"type": "string", "minLength": 1}}
        return {
            "operationId": name,
            "summary": self._api.document["x-operations"][name]["description"],
            **({"parameters": [query]} if endpoint.query else {}),
            "responses": self._responses(shape, {"success": self._envelope(data)}),
        }

    def _responses(self, shape: str, good: dict[str, Any]) -> dict[str, Any]:
        """Say how each outcome is answered: all with status 200, or each with its own."""
        mirrored = [code for code in self._failures if self._http_status == "mirror" and code.number in _HTTP]
        enveloped = {code.name: _failure(code) for code in self._failures if code not in mirrored}
        schema = {"anyOf": [_ref(shape), _ref("failure")]} if enveloped else _ref(shape)
        told = {"200": {"description": "Done, or not: `code` tells.", "content": _json(schema, good | enveloped)}}
        for code in mirrored:
            content = _json(_ref("failure"), {code.name: _failure(code)})
            told[str(code.number)] = {"description": code.description, "content": content}
        return told

    def _envelope(self, data: Any) -> Any:
        return msgspec.to_builtins(Envelope(code=self._good, msg="success", data=data))

    def _callbacks(self) -> dict[str, Any]:
        field = self._api.fields.callback
        if field not in self._contract.part("request").get("properties", {}):
            return {}
        content = _json(_ref("callback"), {"success": self._envelope(self._record())})
        post = {
            "operationId": "taskEnded",
            "summary": "The task has ended.",
            "security": [],
            "requestBody": {"required": True, "content": content},
            "responses": {"200": {"description": "The receiver has taken it."}},
        }
        return {"callbacks": {"taskEnded": {f"{{$request.body#/{field}}}": {"post": post}}}}

    def _record(self) -> Any:
        param = example_of(self._contract.part("request"))
        results = Results(["https://example.com/image.png"])
        return msgspec.to_builtins(
            Record(
                task_id="task_example",
                model=self._contract.model,
                state=self._api.states.success,
                param=msgspec.json.encode(param).decode(),
                result_json=msgspec.json.encode(results).decode(),
                cost_time=15_000,
                complete_time=_MOMENT + 15_000,
                create_time=_MOMENT,
            )
        )

    def _scheme(self) -> dict[str, str]:
        operation = self._contract.operation
        if operation.header == "Authorization" and operation.scheme:
            return {"type": "http", "scheme": operation.scheme.lower(), "x-scheme": operation.scheme}
        return {"type": "apiKey", "in": "header", "name": operation.header, "x-scheme": operation.scheme}

    def _schemas(self) -> dict[str, Any]:
        shared = {name: _moved(schema) for name, schema in self._api.document["$defs"].items()}
        codes = {"code": {"enum": [code.number for code in self._failures]}} if self._failures else {}
        failure = {"allOf": [_ref("envelope")], "properties": codes}
        parts = {name: self._contract.part(name) for name in ("request", "answer")}
        return {**shared, "failure": failure, **parts}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Mapping[str, Any], examples: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "examples": {name: {"value": examples[name]} for name in examples}}}


def _failure(code: Code) -> dict[str, Any]:
    return {"code": code.number, "msg": code.description, "data": None}


def _judged(schema: Schema, value: Any) -> dict[str, Any]:
    """Return the value as the example of a success, if the schema accepts it."""
    return {"success": value} if schema.accepts(value) else {}


def _moved(schema: Any) -> Any:
    """Return a shared shape with its references to where OpenAPI keeps schemas, none with keywords beside it."""
    if isinstance(schema, list):
        return [_moved(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _moved(value) for name, value in schema.items() if name != "$ref"}
    if "$ref" not in schema:
        return moved
    reference = _ref(schema["$ref"].rpartition("/")[2])
    return {"allOf": [reference], **moved} if moved else reference
