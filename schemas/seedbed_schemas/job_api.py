"""The part of the job API that all models share, loaded from ``contracts/job-api.json``.

It holds the other operations, the task states, the limits, and the schemas of the shared messages.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from seedbed_schemas.clauses import Clause
    from seedbed_schemas.validation import Schema


_SHAPES: Final = (
    *("envelope", "record", "results", "creditAnswer"),
    *("modelsAnswer", "modelSchemaAnswer", "downloadUrlAnswer"),
)
_NOT_CLAUSES: Final = {"$ref", "allOf", "contentMediaType", "contentSchema"}


class States(msgspec.Struct, frozen=True):
    """The states of a task.

    Attributes:
        pending: The states before the task ends, in order.
        success: The final state of a successful task.
        failure: The final state of a failed task.
    """

    pending: tuple[str, ...]
    success: str
    failure: str


class RequestFields(msgspec.Struct, frozen=True):
    """Names of the request fields that all models share.

    Attributes:
        model: Name of the model.
        input: The model's input.
        callback: URL that receives the finished task.
    """

    model: str
    input: str
    callback: str


class EndpointSpec(msgspec.Struct, frozen=True):
    """A shared operation.

    Attributes:
        method: HTTP method.
        path: Path on the server.
        query: Name of its query parameter; empty if it has none.
        field: Name of the only field of its body; empty if it has no body.
    """

    method: str
    path: str
    query: str = ""
    field: str = ""


class CallbackRules(msgspec.Struct, frozen=True):
    """How the service sends callbacks.

    Attributes:
        timestamp_header: Header with the time of the signature.
        signature_header: Header with the signature.
        timeout: How long the service waits for a response, in seconds.
        retries: Number of retries after a failed delivery.
    """

    timestamp_header: str
    signature_header: str
    timeout: float
    retries: int


class JobApi:
    """The shared part of the service.

    Args:
        document: The content of ``contracts/job-api.json``.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        states = document["x-states"]
        self.states = States(tuple(states["pending"]), states["success"], states["failure"])
        self.fields = RequestFields(**document["x-request"])
        self.server: str = document["x-server"]["url"]
        """Base URL of the service, for pages that name none."""
        self.domains: tuple[str, ...] = tuple(document["x-domains"]["names"])
        """Domains of the vendor; a program that calls a host below them reaches the real service."""
        operations = msgspec.convert(document["x-operations"], dict[str, EndpointSpec])
        self.create_task = operations["createTask"]
        self.record_info = operations["recordInfo"]
        self.credit = operations["credit"]
        self.models = operations["models"]
        self.model_schema = operations["modelSchema"]
        """``{model}`` in its path stands for the name of the model; the slash in the name is not encoded."""
        self.download_url = operations["downloadUrl"]
        self.result = operations["result"]
        """``{name}`` in its path stands for the file name of the image."""
        limits = document["x-limits"]
        self.rate: tuple[int, int] = (limits["createTask"]["requests"], limits["createTask"]["seconds"])
        """New tasks per account: how many, in how many seconds."""
        self.poll_rate: tuple[int, int] = (limits["recordInfo"]["requests"], limits["recordInfo"]["seconds"])
        """recordInfo requests per key: how many, in how many seconds."""
        self.result_seconds: int = limits["results"]["seconds"]
        """How long the service keeps a result."""
        self.download_seconds: int = limits["downloadUrl"]["seconds"]
        """How long a download URL is valid."""
        self.new_account_credits: int = limits["newAccountCredits"]["credits"]
        rules = document["x-callback"]
        self.callback = CallbackRules(
            rules["timestampHeader"], rules["signatureHeader"], rules["timeoutSeconds"], rules["retries"]
        )
        self.failures: dict[str, str] = document["x-failures"]["known"]
        """failMsg of each observed failure by failCode; the first one is the most general."""

    def shape(self, name: str) -> Schema:
        """Return the schema of a shared message, such as ``recordAnswer``."""
        from seedbed_schemas.validation import Schema  # keeps the import of the client fast

        return Schema({**self.document, "$ref": f"#/$defs/{name}"}, name=name, prefix=f"{name}/")

    def clauses(self) -> tuple[Clause, ...]:
        """Return every testable statement about the shared part: the behaviour of the service, then its messages."""
        from seedbed_schemas.clauses import Clause, Node  # as above

        stated = [
            Clause(row["id"], "behaviour", row["says"], {"source": row["source"]}, row.get("level", "error"))
            for row in self.document["x-clauses"]
        ]
        for name in _SHAPES:
            schema = self.document["$defs"][name]
            # No vendor page describes these messages, so the place of a clause is the source of the whole message.
            place = {"source": f"job-api.json, {name}: {schema['description']}"}
            stated += (
                Clause(clause.id, clause.kind, clause.value, place)
                for node in Node(name, "", schema).walk()
                for clause in node.clauses()
                if clause.kind not in _NOT_CLAUSES
            )
        return tuple(stated)


@cache
def job_api() -> JobApi:
    """Return the shared part of the service; it is loaded once."""
    path = Path(__file__).parent / "contracts" / "job-api.json"
    return JobApi(json.loads(path.read_text(encoding="utf-8")))
