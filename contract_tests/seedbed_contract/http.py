"""A request, what came back, and how that is read."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import httpx2
from seedbed_schemas import job_api

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from seedbed_schemas import Contract


Headers = tuple[tuple[str, str], ...]

NOT_JSON: Final = object()
"""Stands for the content of a body that is no JSON text."""


@dataclass(frozen=True, slots=True)
class TargetRequest:
    """A request as it is to be sent.

    Attributes:
        operation: Name of the operation, such as ``createTask``.
        method: HTTP method.
        target: Path and query.
        headers: Headers in order, a name as often as it is to be sent.
        body: Bytes of the body, ``None`` where there is none.
    """

    operation: str
    method: str
    target: str
    headers: Headers = field(default=(), repr=False)
    body: bytes | None = None


@dataclass(frozen=True)
class TargetResponse:
    """An HTTP answer.

    Attributes:
        status: HTTP status.
        headers: Headers in order, names in lower case.
        body: Bytes of the body, as far as they were read.
        is_whole: Whether all of the body was read.
    """

    status: int
    headers: Headers
    body: bytes
    is_whole: bool = True

    def header(self, name: str) -> str:
        """Return a header, empty where there is none."""
        return next((value for known, value in self.headers if known == name.lower()), "")

    @property
    def media_type(self) -> str:
        """The media type without its parameters, in lower case."""
        return self.header("content-type").partition(";")[0].strip().lower()

    @cached_property
    def json(self) -> Any:
        """The content, or :data:`NOT_JSON`; what only a lenient parser takes, such as NaN, is none."""
        return parse_json(self.body) if self.is_whole else NOT_JSON

    @property
    def code(self) -> int | None:
        """The outcome; a number written as text is taken for one, so that a report can go on."""
        code = self.json.get("code") if isinstance(self.json, dict) else None
        if isinstance(code, str) and code.isascii() and code.isdigit():
            return int(code)
        if isinstance(code, float) and code.is_integer():
            return int(code)  # to JSON Schema, 200.0 is an integer
        return code if isinstance(code, int) and not isinstance(code, bool) else None

    @property
    def data(self) -> Any:
        """What is given back, ``None`` where nothing is."""
        return self.json.get("data") if isinstance(self.json, dict) else None

    @property
    def task_id(self) -> str:
        """The name of the task that is given back, empty where none is."""
        task_id = self.data.get("taskId") if isinstance(self.data, dict) else None
        return str(task_id) if isinstance(task_id, str | int) and not isinstance(task_id, bool) else ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what came of it.

    Attributes:
        ask: The request.
        answer: The answer, ``None`` where there was none.
        problem: Why there was none, a phrase.
        started: When it was sent, in Unix seconds.
        ended: When the answer had been read, in Unix seconds.
    """

    request: TargetRequest
    response: TargetResponse | None
    problem: str = ""
    started: float = 0.0
    ended: float = 0.0

    @property
    def code(self) -> int | None:
        """The outcome, ``None`` where it cannot be told."""
        return self.response.code if self.response else None

    @property
    def data(self) -> Any:
        """What was given back, ``None`` where nothing was."""
        return self.response.data if self.response else None

    @property
    def task_id(self) -> str:
        """The name of the task that was given back, empty where none was."""
        return self.response.task_id if self.response else ""


def parse_json(body: bytes | str) -> Any:
    """Return the value of a JSON text by the letter of RFC 8259, or :data:`NOT_JSON`."""
    try:
        text = body.decode("utf-8") if isinstance(body, bytes) else body
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NOT_JSON


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


JSON_BODY: Headers = (("Content-Type", "application/json"),)


@dataclass(frozen=True, slots=True)
class RequestBuilder:
    """Makes requests.

    Attributes:
        contract: How they are made.
        authorization: Headers that carry the key.
        extra: Headers that every request has beside.
    """

    contract: Contract
    authorization: Headers
    extra: Headers = ()

    def with_key(self, key: str) -> RequestBuilder:
        """Return what makes requests with another key."""
        return RequestBuilder(self.contract, bearer(self.contract, key), self.extra)

    def with_authorization(self, headers: Headers) -> RequestBuilder:
        """Return what makes requests with other headers in place of the key."""
        return RequestBuilder(self.contract, headers, self.extra)

    def with_extra(self, headers: Headers) -> RequestBuilder:
        """Return what makes requests with further headers."""
        return RequestBuilder(self.contract, self.authorization, (*self.extra, *headers))

    def create(self, body: Any, headers: Headers = JSON_BODY, *, method: str = "") -> TargetRequest:
        """Return a request for a task; the body is bytes, or a value that JSON can say."""
        operation = self.contract.operation
        content = body if isinstance(body, bytes) else to_json(body)
        return self._ask("createTask", method or operation.method, operation.path, content, headers)

    def record(self, task_id: str | Sequence[str] | None) -> TargetRequest:
        """Return a look at a task; ``None`` names none, several name several."""
        names = [] if task_id is None else [task_id] if isinstance(task_id, str) else task_id
        operation = job_api().record_info
        query = urlencode([(operation.query, name) for name in names])
        return self._ask("recordInfo", operation.method, f"{operation.path}?{query}" if query else operation.path)

    def credit(self) -> TargetRequest:
        """Return the question for the balance."""
        return self._ask("credit", job_api().credit.method, job_api().credit.path)

    def models(self) -> TargetRequest:
        """Return the question for the list of models."""
        return self._ask("models", job_api().models.method, job_api().models.path)

    def model_schema(self, model: str) -> TargetRequest:
        """Return the question for the schema of a model."""
        operation = job_api().model_schema
        return self._ask("modelSchema", operation.method, operation.path.replace("{model}", model))

    def download_url(self, url: Any) -> TargetRequest:
        """Return the question for the URL of a download."""
        operation = job_api().download_url
        return self._ask("downloadUrl", operation.method, operation.path, to_json({operation.field: url}), JSON_BODY)

    def path(self, path: str) -> TargetRequest:
        """Return a question for a path that the service does not document."""
        return self._ask("path", "GET", path)

    def _ask(
        self, name: str, method: str, target: str, body: bytes | None = None, headers: Headers = ()
    ) -> TargetRequest:
        return TargetRequest(name, method, target, (*self.authorization, *headers, *self.extra), body)


def bearer(contract: Contract, key: str) -> Headers:
    """Return the headers that carry a key."""
    return ((contract.operation.header, f"{contract.operation.scheme} {key}"),)


def to_json(request: Any) -> bytes:
    """Return a request as the bytes of a body."""
    return json.dumps(request).encode()


PATIENCE: Final = 10.0
"""Seconds that one answer may take."""
LARGEST_ANSWER: Final = 8 << 20
"""Bytes of an answer that are read; no answer of the service comes near."""
_CONNECTIONS: Final = 64
_IDLE: Final = 1.0
"""Seconds after which an idle connection is not used again: servers close them, and that is no fault."""


class OutOfTimeError(Exception):
    """The time of a run is over."""


class HttpTransport:
    """Sends requests to one server until a deadline.

    Args:
        base_url: Where the server is.
        seconds: How long requests may be sent.
    """

    def __init__(self, base_url: str, seconds: float) -> None:
        self.base_url = base_url
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self.sent = 0
        self.on_sent: Callable[[], object] = lambda: None
        self._count = threading.Lock()
        limits = httpx2.Limits(max_connections=_CONNECTIONS, keepalive_expiry=_IDLE)
        is_secure = base_url.startswith("https:")
        self._client = httpx2.Client(trust_env=False, limits=limits, verify=is_secure, headers=_BARE)
        # A connection of its own for what may not be sent twice, so that no idle one can break under it.
        self._fresh = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=0)
        self._once = httpx2.Client(trust_env=False, limits=self._fresh, verify=is_secure, headers=_BARE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._once.close()

    @property
    def seconds_left(self) -> float:
        """How long requests may still be sent."""
        return self.deadline - time.monotonic()

    def send(self, ask: TargetRequest, *, once: bool = False) -> Exchange:
        """Send a request and return what came of it.

        Args:
            ask: The request.
            once: Whether it may cost something; what may not is sent again where it was not answered.

        Raises:
            OutOfTimeError: The time is over.
        """
        exchange = self._send(ask, self._once if once else self._client)
        if exchange.response is None and not once and not exchange.problem.startswith("no answer within"):
            return self._send(ask, self._once)
        return exchange

    def fetch(self, url: str, most: int) -> Exchange:
        """Return what is at a URL, wherever that is, without any key.

        Raises:
            OutOfTimeError: The time is over.
        """
        with httpx2.Client(trust_env=False, verify=url.startswith("https:"), headers=_BARE) as client:
            return self._exchange(client, TargetRequest("result", "GET", url), url, most)

    def _send(self, ask: TargetRequest, client: httpx2.Client) -> Exchange:
        return self._exchange(client, ask, self.base_url + ask.target, LARGEST_ANSWER)

    def _exchange(self, client: httpx2.Client, ask: TargetRequest, url: str, most: int) -> Exchange:
        patience = min(PATIENCE, self.seconds_left)
        if patience <= 0:
            raise OutOfTimeError
        with self._count:
            self.sent += 1
            self.on_sent()
        started, limit = time.time(), time.monotonic() + patience
        try:
            answer = _read(client, ask, url, limit, most)
        except httpx2.TimeoutException as error:
            if patience < PATIENCE:
                raise OutOfTimeError from error
            return Exchange(ask, None, f"no answer within {patience:.0f} seconds", started, time.time())
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, ValueError) as error:
            return Exchange(ask, None, str(error) or type(error).__name__, started, time.time())
        return Exchange(ask, answer, "", started, time.time())


_BARE: Final = {"Accept": "*/*", "User-Agent": "seedbed-check", "Accept-Encoding": "identity"}


def _read(client: httpx2.Client, ask: TargetRequest, url: str, limit: float, most: int) -> TargetResponse:
    left = max(limit - time.monotonic(), 0.001)
    headers = [(name.encode(), value.encode()) for name, value in ask.headers]
    request = client.build_request(ask.method, url, headers=headers, content=ask.body, timeout=left)
    response = client.send(request, stream=True)
    try:
        parts, size = [], 0
        for chunk in response.iter_raw():
            parts.append(chunk)
            size += len(chunk)
            if size > most:
                break
            if time.monotonic() > limit:
                raise httpx2.ReadTimeout("the answer did not end")
        names = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers.raw)
        return TargetResponse(response.status_code, names, b"".join(parts)[:most], is_whole=size <= most)
    finally:
        response.close()
