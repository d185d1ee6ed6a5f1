"""The OpenAPI document of the control API, generated from its table of operations."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from seedbed_schemas import __version__

from seedbed_mock.control.schemas import EmptyRequest, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from msgspec import Struct

    from seedbed_mock.control.api import ControlOperation


_REF = "#/components/schemas/{name}"


def document(operations: Iterable[ControlOperation], root: str, own_path: str, metrics_path: str) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document that describes some operations, the metrics and itself.

    Args:
        operations: Operations to describe.
        root: Prefix of their paths.
        own_path: Path of the document below the prefix.
        metrics_path: Path of the metrics below the prefix.
    """
    operations = tuple(operations)
    types = {kind for each in operations for kind in (each.response, each.body, each.query)} - {EmptyRequest} | {
        Problem
    }
    ordered = sorted(types, key=lambda kind: kind.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(f"{root}{each.path}", {})[each.method.lower()] = _operation(each, components)
    paths[f"{root}{metrics_path}"] = {"get": _OF_METRICS}
    paths[f"{root}{own_path}"] = {"get": _OF_ITSELF}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Seedbed's control API", "version": __version__, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {"Problem": _response("The request failed.", Problem)},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "The token of --control-token."}
            },
        },
    }


_OF_ITSELF = {
    "operationId": "openapi",
    "summary": "Return this OpenAPI document.",
    "responses": {
        "200": {
            "description": "The request succeeded.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        "4XX": {"$ref": "#/components/responses/Problem"},
    },
}

_OF_METRICS = {
    "operationId": "metrics",
    "summary": "Return the metrics of the server, in the format of OpenMetrics or of Prometheus.",
    "responses": {
        "200": {
            "description": "The request succeeded.",
            "content": {
                media_type: {"schema": {"type": "string"}}
                for media_type in ("application/openmetrics-text", "text/plain")
            },
        },
        "4XX": {"$ref": "#/components/responses/Problem"},
    },
}


def _operation(operation: ControlOperation, components: Mapping[str, Any]) -> dict[str, Any]:
    path_parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    query: dict[str, Any] = components.get(operation.query.__name__, {}).get("properties", {})
    query_parameters = [{"name": name, "in": "query", "schema": schema} for name, schema in query.items()]
    described: dict[str, Any] = {
        "operationId": operation.run.__name__,
        "summary": (operation.run.__doc__ or "").strip(),
        "parameters": path_parameters + query_parameters,
        "responses": {
            "200": _response("The request succeeded.", operation.response),
            "4XX": {"$ref": "#/components/responses/Problem"},
        },
    }
    if operation.body is not EmptyRequest:
        is_required = bool(components[operation.body.__name__].get("required"))
        described["requestBody"] = {"content": _json_content(operation.body), "required": is_required}
    return described


def _response(description: str, kind: type[Struct]) -> dict[str, Any]:
    return {"description": description, "content": _json_content(kind)}


def _json_content(kind: type[Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(name=kind.__name__)}}}
