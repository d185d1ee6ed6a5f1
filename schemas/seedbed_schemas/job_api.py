"""What the models of the job API share: operations, states, limits and the shapes of ``contracts/job-api.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from seedbed_schemas.schema import Schema


@dataclass(frozen=True, slots=True)
class States:
    """The life of a task.

    Attributes:
        pending: The states before the end, in order.
        success: The good end.
        failure: The bad end.
    """

    pending: tuple[str, ...]
    success: str
    failure: str


@dataclass(frozen=True, slots=True)
class RequestFields:
    """Names of the fields that the request of every model has.

    Attributes:
        model: Names the model.
        input: What the model is asked.
        callback: Where the finished task is POSTed.
    """

    model: str
    input: str
    callback: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A shared operation.

    Attributes:
        method: HTTP method.
        path: Path on the server.
        query: Name of its query parameter, empty where it has none.
    """

    method: str
    path: str
    query: str = ""


class JobApi:
    """The shared part of the service."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        states, operations = document["x-states"], document["x-operations"]
        self.states = States(tuple(states["pending"]), states["success"], states["failure"])
        self.fields = RequestFields(**document["x-request"])
        self.record_info = _endpoint(operations["recordInfo"])
        self.credit = _endpoint(operations["credit"])
        self.models = _endpoint(operations["models"])
        self.model_schema = _endpoint(operations["modelSchema"])
        """Its path has ``{model}`` where the name of the model goes, slash and all."""
        limits = document["x-limits"]
        self.rate: tuple[int, int] = (limits["createTask"]["requests"], limits["createTask"]["seconds"])
        """New tasks that an account may make, and in how many seconds."""
        self.new_account_credits: int = limits["newAccountCredits"]["credits"]

    def shape(self, name: str) -> Schema:
        """Return the judge of one of the shared shapes, such as ``recordAnswer``."""
        return Schema({**self.document, "$ref": f"#/$defs/{name}"}, name=name)


def _endpoint(operation: dict[str, str]) -> Endpoint:
    return Endpoint(operation["method"], operation["path"], operation.get("query", ""))


@cache
def job_api() -> JobApi:
    """Return the shared part of the service, loaded once."""
    path = Path(__file__).parent / "contracts" / "job-api.json"
    return JobApi(json.loads(path.read_text(encoding="utf-8")))
