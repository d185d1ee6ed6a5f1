"""The control API as an OpenAPI document, made from its table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from seedbed_schemas import __version__

from seedbed_mock.control.schemas import NoInput, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from msgspec import Struct

    from seedbed_mock.control.api import ControlOperation


_REF = "#/components/schemas/{name}"


def document(operations: Iterable[ControlOperation], root: str, own_path: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of some operations below a path, and of itself.

    Args:
        operations: The operations.
        root: Path below which they are.
        own_path: Path of the document below the root.
    """
    operations = tuple(operations)
    types = {kind for each in operations for kind in (each.answer, each.body, each.query)} - {NoInput} | {Problem}
    ordered = sorted(types, key=lambda kind: kind.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(f"{root}{each.path}", {})[each.method.lower()] = _operation(each, components)
    paths[f"{root}{own_path}"] = {"get": _OF_ITSELF}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Seedbed's control API", "version": __version__, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {"Problem": _content("Not done.", Problem)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "With --control-token."}},
        },
    }


_OF_ITSELF = {
    "operationId": "openapi",
    "summary": "Describe the control API, as OpenAPI.",
    "responses": {
        "200": {"description": "Done.", "content": {"application/json": {"schema": {"type": "object"}}}},
        "4XX": {"$ref": "#/components/responses/Problem"},
    },
}


def _operation(operation: ControlOperation, components: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.run.__name__,
        "summary": (operation.run.__doc__ or "").strip(),
        "parameters": [*_path_parameters(operation), *_query_parameters(operation, components)],
        "responses": {
            "200": _content("Done.", operation.answer),
            "4XX": {"$ref": "#/components/responses/Problem"},
        },
    }
    if operation.body is not NoInput:
        described["requestBody"] = _content("", operation.body) | {"required": _has_required(operation, components)}
        del described["requestBody"]["description"]
    return described


def _path_parameters(operation: ControlOperation) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", operation.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(operation: ControlOperation, components: Mapping[str, Any]) -> list[dict[str, Any]]:
    properties: dict[str, Any] = components.get(operation.query.__name__, {}).get("properties", {})
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def _has_required(operation: ControlOperation, components: Mapping[str, Any]) -> bool:
    return bool(components[operation.body.__name__].get("required"))


def _content(description: str, kind: type[Struct]) -> dict[str, Any]:
    schema = {"$ref": _REF.format(name=kind.__name__)}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
