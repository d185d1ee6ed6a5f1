"""What the models of the job API share: operations, states, limits and the shapes of ``contracts/job-api.json``."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_schemas.clauses import Clause
    from seedbed_schemas.validation import Schema


_SHAPES = (
    *("envelope", "record", "results", "creditAnswer"),
    *("modelsAnswer", "modelSchemaAnswer", "downloadUrlAnswer"),
)
_WITHOUT_RULE = {"$ref", "allOf", "contentMediaType", "contentSchema"}


class States(msgspec.Struct, frozen=True):
    """The life of a task.

    Attributes:
        pending: The states before the end, in order.
        success: The good end.
        failure: The bad end.
    """

    pending: tuple[str, ...]
    success: str
    failure: str


class RequestFields(msgspec.Struct, frozen=True):
    """Names of the fields that the request of every model has.

    Attributes:
        model: Names the model.
        input: What the model is asked.
        callback: Where the finished task is POSTed.
    """

    model: str
    input: str
    callback: str


class EndpointSpec(msgspec.Struct, frozen=True):
    """A shared operation.

    Attributes:
        method: HTTP method.
        path: Path on the server.
        query: Name of its query parameter, empty where it has none.
        field: Name of the one field of its body, empty where it has none.
    """

    method: str
    path: str
    query: str = ""
    field: str = ""


class CallbackRules(msgspec.Struct, frozen=True):
    """How a callback travels.

    Attributes:
        timestamp_header: Header with the time of the signature.
        signature_header: Header with the signature.
        timeout: How long an answer is waited for, in seconds.
        retries: How often a delivery that failed is tried again.
    """

    timestamp_header: str
    signature_header: str
    timeout: float
    retries: int


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
        self.download_url = _endpoint(operations["downloadUrl"])
        limits = document["x-limits"]
        self.rate: tuple[int, int] = (limits["createTask"]["requests"], limits["createTask"]["seconds"])
        """New tasks that an account may make, and in how many seconds."""
        self.poll_rate: tuple[int, int] = (limits["recordInfo"]["requests"], limits["recordInfo"]["seconds"])
        """Queries that a key may make, and in how many seconds."""
        self.result_seconds: int = limits["results"]["seconds"]
        """How long a result is kept."""
        self.download_seconds: int = limits["downloadUrl"]["seconds"]
        """How long the URL of a download holds."""
        self.new_account_credits: int = limits["newAccountCredits"]["credits"]
        rules = document["x-callback"]
        self.callback = CallbackRules(
            rules["timestampHeader"], rules["signatureHeader"], rules["timeoutSeconds"], rules["retries"]
        )
        self.failures: dict[str, str] = document["x-failures"]["known"]
        """Words of the failures that were seen, by failCode; the first is the one that says least."""

    def shape(self, name: str) -> Schema:
        """Return the judge of one of the shared shapes, such as ``recordAnswer``."""
        from seedbed_schemas.validation import Schema  # noqa: PLC0415 (who judges nothing does not load it)

        return Schema({**self.document, "$ref": f"#/$defs/{name}"}, name=name, prefix=f"{name}/")

    def clauses(self) -> tuple[Clause, ...]:
        """Return every testable statement that all models share: how the service behaves, and the shapes of answers."""
        return (*map(_behaviour, self.document["x-clauses"]), *self._clauses_of_shapes())

    def _clauses_of_shapes(self) -> Iterator[Clause]:
        from seedbed_schemas.clauses import Clause, Node  # noqa: PLC0415 (as above)

        for name in _SHAPES:
            shape = self.document["$defs"][name]
            place = {"source": f"job-api.json, {name}: {shape['description']}"}
            for node in Node(name, "", shape).inside():
                stated = (clause for clause in node.clauses() if clause.kind not in _WITHOUT_RULE)
                yield from (Clause(clause.id, clause.kind, clause.value, place) for clause in stated)


def _behaviour(clause: dict[str, str]) -> Clause:
    from seedbed_schemas.clauses import Clause  # noqa: PLC0415 (as above)

    return Clause(clause["id"], "behaviour", clause["says"], {"source": clause["source"]})


def _endpoint(operation: dict[str, str]) -> EndpointSpec:
    return EndpointSpec(operation["method"], operation["path"], operation.get("query", ""), operation.get("field", ""))


@cache
def job_api() -> JobApi:
    """Return the shared part of the service, loaded once."""
    path = Path(__file__).parent / "contracts" / "job-api.json"
    return JobApi(json.loads(path.read_text(encoding="utf-8")))
