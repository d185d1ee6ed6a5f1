"""The requests of every operation, as they are sent to one target."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from seedbed_schemas import job_api

from seedbed_contract.exchange import Ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedbed_schemas import Contract

    from seedbed_contract.exchange import Headers

JSON_BODY: Headers = (("Content-Type", "application/json"),)


@dataclass(frozen=True, slots=True)
class Asks:
    """Makes requests.

    Attributes:
        contract: How they are made.
        authorization: Headers that carry the key.
        extra: Headers that every request has beside.
    """

    contract: Contract
    authorization: Headers
    extra: Headers = ()

    def with_key(self, key: str) -> Asks:
        """Return what makes requests with another key."""
        return Asks(self.contract, bearer(self.contract, key), self.extra)

    def with_authorization(self, headers: Headers) -> Asks:
        """Return what makes requests with other headers in place of the key."""
        return Asks(self.contract, headers, self.extra)

    def with_extra(self, headers: Headers) -> Asks:
        """Return what makes requests with further headers."""
        return Asks(self.contract, self.authorization, (*self.extra, *headers))

    def create(self, body: Any, headers: Headers = JSON_BODY, *, method: str = "") -> Ask:
        """Return a request for a task; the body is bytes, or a value that JSON can say."""
        operation = self.contract.operation
        content = body if isinstance(body, bytes) else written(body)
        return self._ask("createTask", method or operation.method, operation.path, content, headers)

    def record(self, task_id: str | Sequence[str] | None) -> Ask:
        """Return a look at a task; ``None`` names none, several name several."""
        names = [] if task_id is None else [task_id] if isinstance(task_id, str) else task_id
        operation = job_api().record_info
        query = urlencode([(operation.query, name) for name in names])
        return self._ask("recordInfo", operation.method, f"{operation.path}?{query}" if query else operation.path)

    def credit(self) -> Ask:
        """Return the question for the balance."""
        return self._ask("credit", job_api().credit.method, job_api().credit.path)

    def models(self) -> Ask:
        """Return the question for the list of models."""
        return self._ask("models", job_api().models.method, job_api().models.path)

    def model_schema(self, model: str) -> Ask:
        """Return the question for the schema of a model."""
        operation = job_api().model_schema
        return self._ask("modelSchema", operation.method, operation.path.replace("{model}", model))

    def download_url(self, url: Any) -> Ask:
        """Return the question for the URL of a download."""
        operation = job_api().download_url
        return self._ask("downloadUrl", operation.method, operation.path, written({operation.field: url}), JSON_BODY)

    def path(self, path: str) -> Ask:
        """Return a question for a path that the service does not document."""
        return self._ask("path", "GET", path)

    def _ask(self, name: str, method: str, target: str, body: bytes | None = None, headers: Headers = ()) -> Ask:
        return Ask(name, method, target, (*self.authorization, *headers, *self.extra), body)


def bearer(contract: Contract, key: str) -> Headers:
    """Return the headers that carry a key."""
    return ((contract.operation.header, f"{contract.operation.scheme} {key}"),)


def written(request: Any) -> bytes:
    """Return a request as the bytes of a body."""
    return json.dumps(request).encode()
