"""HTTP requests to a target, their responses, and the transport that sends them until a deadline."""

from __future__ import annotations

import json
import math
import threading
import time
import zlib
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import httpx2
from seedbed_schemas import job_api, local

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from seedbed_schemas import Contract


Headers = tuple[tuple[str, str], ...]

NOT_JSON: Final = object()
"""Parsed value of a body that is not valid JSON."""
JSON_BODY: Headers = (("Content-Type", "application/json"),)
RESPONSE_TIMEOUT: Final = 10.0
"""Seconds in which a whole response must arrive."""
MAX_RESPONSE: Final = 8 << 20
"""Bytes that are read of a response; responses of the service are far smaller."""
_CONNECTIONS: Final = 64
_POLLS_KEPT: Final = 1000
_KEEPALIVE: Final = 1.0
"""Seconds for which an idle connection is reused: servers close such connections, which is not a defect."""
_CLIENT_HEADERS: Final = {"Accept": "*/*", "User-Agent": "seedbed-check", "Accept-Encoding": "identity"}
_NO_RESPONSE: Final = "no response within"


@dataclass(frozen=True, slots=True)
class TargetRequest:
    """A request to send.

    Attributes:
        operation: Name of the operation, such as ``createTask``.
        method: HTTP method.
        target: Path and query.
        headers: Headers in order; a name may occur several times.
        body: The body; ``None`` if there is none.
    """

    operation: str
    method: str
    target: str
    headers: Headers = field(default=(), repr=False)
    body: bytes | None = None


@dataclass(frozen=True)
class TargetResponse:
    """A response.

    Attributes:
        status: HTTP status.
        headers: Headers in order, with lower-case names.
        body: The body, or the part of it that was read.
        is_whole: Whether the whole body was read.
    """

    status: int
    headers: Headers
    body: bytes
    is_whole: bool = True

    def header(self, name: str) -> str:
        """Return the value of a header; an empty text if it is missing."""
        return next((value for known, value in self.headers if known == name.lower()), "")

    @property
    def media_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self.header("content-type").partition(";")[0].strip().lower()

    @cached_property
    def json(self) -> Any:
        """The parsed body, or :data:`NOT_JSON`."""
        return parse_json(self.body) if self.is_whole else NOT_JSON

    @property
    def code(self) -> int | None:
        """The code in the body; ``None`` if there is none.

        A code that is written as a string counts, too, so that the checks can continue after reporting it.
        """
        code = self.json.get("code") if isinstance(self.json, dict) else None
        if isinstance(code, str) and code.isascii() and code.isdigit():
            return int(code)
        if isinstance(code, float) and code.is_integer():
            return int(code)  # to JSON Schema, 200.0 is an integer
        return code if isinstance(code, int) and not isinstance(code, bool) else None

    @property
    def data(self) -> Any:
        """The data in the body; ``None`` if there is none."""
        return self.json.get("data") if isinstance(self.json, dict) else None

    @property
    def task_id(self) -> str:
        """The task ID in the data; empty if there is none."""
        task_id = self.data.get("taskId") if isinstance(self.data, dict) else None
        return str(task_id) if isinstance(task_id, str | int) and not isinstance(task_id, bool) else ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its response.

    Attributes:
        request: The request.
        response: The response; ``None`` if there was none.
        problem: Why there was no response, a phrase.
        started: Time when the request was sent, in Unix seconds.
        ended: Time when the response had been read, in Unix seconds.
    """

    request: TargetRequest
    response: TargetResponse | None
    problem: str = ""
    started: float = 0.0
    ended: float = 0.0

    @property
    def code(self) -> int | None:
        """The code of the response; ``None`` if there is none."""
        return self.response.code if self.response else None

    @property
    def data(self) -> Any:
        """The data of the response; ``None`` if there is none."""
        return self.response.data if self.response else None

    @property
    def task_id(self) -> str:
        """The task ID of the response; empty if there is none."""
        return self.response.task_id if self.response else ""


def parse_json(body: bytes | str) -> Any:
    """Return the value of a JSON text, or :data:`NOT_JSON` if RFC 8259 does not allow the text."""
    try:
        text = body.decode("utf-8") if isinstance(body, bytes) else body
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return NOT_JSON


def _refuse_constant(constant: str) -> Any:
    # Python's parser accepts NaN and Infinity, which are not JSON.
    raise ValueError(constant)


def to_json(request: Any) -> bytes:
    """Return a request as the bytes of a body."""
    return json.dumps(request).encode()


def bearer(contract: Contract, key: str) -> Headers:
    """Return the headers that carry a key."""
    # A contract can leave out the scheme.
    return ((contract.operation.header, f"{contract.operation.scheme} {key}".strip()),)


@dataclass(frozen=True, slots=True)
class RequestBuilder:
    """Builds requests.

    Attributes:
        contract: Contract that names paths and methods.
        authorization: Headers that carry the key.
        extra: Further headers of every request.
    """

    contract: Contract
    authorization: Headers
    extra: Headers = ()

    def with_key(self, key: str) -> RequestBuilder:
        """Return a builder with another key."""
        return RequestBuilder(self.contract, bearer(self.contract, key), self.extra)

    def with_authorization(self, headers: Headers) -> RequestBuilder:
        """Return a builder with other headers in place of the key."""
        return RequestBuilder(self.contract, headers, self.extra)

    def with_extra(self, headers: Headers) -> RequestBuilder:
        """Return a builder that adds headers, or replaces those with the same names that were added before."""
        names = {name for name, _ in headers}
        kept = [header for header in self.extra if header[0] not in names]
        return RequestBuilder(self.contract, self.authorization, (*kept, *headers))

    def create(self, body: Any, headers: Headers = JSON_BODY, *, method: str = "") -> TargetRequest:
        """Return a createTask request with a body of bytes, or of a value to serialize as JSON."""
        operation = self.contract.operation
        content = body if isinstance(body, bytes) else to_json(body)
        return self._build("createTask", method or operation.method, operation.path, content, headers)

    def record(self, task_id: str | Sequence[str] | None) -> TargetRequest:
        """Return a recordInfo request for a task ID, for several of them, or for none."""
        task_ids = [] if task_id is None else [task_id] if isinstance(task_id, str) else task_id
        operation = job_api().record_info
        query = urlencode([(operation.query, one) for one in task_ids])
        return self._build("recordInfo", operation.method, f"{operation.path}?{query}" if query else operation.path)

    def credit(self) -> TargetRequest:
        """Return a request for the balance."""
        return self._build("credit", job_api().credit.method, job_api().credit.path)

    def models(self) -> TargetRequest:
        """Return a request for the list of models."""
        return self._build("models", job_api().models.method, job_api().models.path)

    def model_schema(self, model: str) -> TargetRequest:
        """Return a request for the schema of a model."""
        operation = job_api().model_schema
        return self._build("modelSchema", operation.method, operation.path.replace("{model}", model))

    def download_url(self, url: Any) -> TargetRequest:
        """Return a request for the download URL of a result."""
        operation = job_api().download_url
        return self._build("downloadUrl", operation.method, operation.path, to_json({operation.field: url}), JSON_BODY)

    def control(self, method: str, path: str, body: Any = None) -> TargetRequest:
        """Return a request to the control API of the mock server, for the space of the builder."""
        content = None if body is None else to_json(body)
        headers = self.extra if body is None else (*JSON_BODY, *self.extra)
        return TargetRequest("control", method, f"{local.CONTROL_ROOT}/{path}", headers, content)

    def path(self, path: str) -> TargetRequest:
        """Return a GET request for a path that the service does not document."""
        return self._build("path", "GET", path)

    def call(self, method: str, target: str) -> TargetRequest:
        """Return a request without a body that no documented operation is, such as one with another method."""
        return self._build("call", method, target)

    def _build(
        self, operation: str, method: str, target: str, body: bytes | None = None, headers: Headers = ()
    ) -> TargetRequest:
        return TargetRequest(operation, method, target, (*self.authorization, *headers, *self.extra), body)


@dataclass(eq=False)
class Poll:
    """A call of recordInfo with any key, with its times by the monotonic clock.

    Attributes:
        started: Time when it was sent.
        ended: Time when its response had arrived; infinite before.
        exchange: The exchange, once there is a response.
    """

    started: float = field(default_factory=time.monotonic)
    ended: float = math.inf
    exchange: Exchange | None = None


class OutOfTimeError(Exception):
    """The time limit of a run passed."""


class HttpTransport:
    """Sends requests to one server until a deadline. Use it as a context manager.

    Args:
        base_url: Base URL of the server.
        seconds: Seconds for which requests may be sent.
    """

    def __init__(self, base_url: str, seconds: float) -> None:
        self.base_url = base_url
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self.sent = 0
        self.polls: deque[Poll] = deque(maxlen=_POLLS_KEPT)
        """The last calls of recordInfo."""
        self.on_sent: Callable[[], object] = lambda: None
        self._count_lock = threading.Lock()
        is_secure = base_url.startswith("https:")  # without TLS, loading the certificates would only take time
        self._client = httpx2.Client(
            trust_env=False,
            limits=httpx2.Limits(max_connections=_CONNECTIONS, keepalive_expiry=_KEEPALIVE),
            verify=is_secure,
            headers=_CLIENT_HEADERS,
        )
        # Requests that must not be repeated use a new connection each, since an idle one may be closed meanwhile.
        self._once_client = httpx2.Client(
            trust_env=False,
            limits=httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=0),
            verify=is_secure,
            headers=_CLIENT_HEADERS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._once_client.close()

    @property
    def seconds_left(self) -> float:
        """Seconds for which requests may still be sent."""
        return self.deadline - time.monotonic()

    def send(self, request: TargetRequest, *, once: bool = False) -> Exchange:
        """Send a request and return the exchange.

        Args:
            request: Request to send.
            once: Whether the request may cost credits. Other requests are repeated after a connection error.

        Raises:
            OutOfTimeError: The time limit of the run passed.
        """
        if request.target.partition("?")[0] != job_api().record_info.path:
            return self._send(request, once=once)
        # Appended before it is sent, because the target may count it before calls that are already under way.
        self.polls.append(poll := Poll())
        poll.exchange = self._send(request, once=once)
        poll.ended = time.monotonic()
        return poll.exchange

    def _send(self, request: TargetRequest, *, once: bool) -> Exchange:
        url = self.base_url + request.target
        exchange = self._exchange(self._once_client if once else self._client, request, url, MAX_RESPONSE)
        if exchange.response is None and not once and not exchange.problem.startswith(_NO_RESPONSE):
            return self._exchange(self._once_client, request, url, MAX_RESPONSE)
        return exchange

    def fetch(self, url: str, max_bytes: int) -> Exchange:
        """Fetch any URL without a key.

        Raises:
            OutOfTimeError: The time limit of the run passed.
        """
        with httpx2.Client(trust_env=False, verify=url.startswith("https:"), headers=_CLIENT_HEADERS) as client:
            return self._exchange(client, TargetRequest("result", "GET", url), url, max_bytes)

    def _exchange(self, client: httpx2.Client, request: TargetRequest, url: str, max_bytes: int) -> Exchange:
        timeout = min(RESPONSE_TIMEOUT, self.seconds_left)
        if timeout <= 0:
            raise OutOfTimeError
        with self._count_lock:
            self.sent += 1
            self.on_sent()
        started, limit = time.time(), time.monotonic() + timeout
        try:
            response = _read(client, request, url, limit, max_bytes)
        except httpx2.TimeoutException as error:
            if timeout < RESPONSE_TIMEOUT:
                raise OutOfTimeError from error
            return Exchange(request, None, f"{_NO_RESPONSE} {timeout:.0f} seconds", started, time.time())
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, ValueError) as error:
            if self.seconds_left <= 0:  # a run that is stopped closes its connections
                raise OutOfTimeError from error
            return Exchange(request, None, str(error) or type(error).__name__, started, time.time())
        return Exchange(request, response, "", started, time.time())


def _read(client: httpx2.Client, request: TargetRequest, url: str, limit: float, max_bytes: int) -> TargetResponse:
    # httpx2 encodes text headers as ASCII, but a check may send any character.
    headers = [(name.encode(), value.encode()) for name, value in request.headers]
    timeout = max(limit - time.monotonic(), 0.001)
    # httpx2 sends a body of unknown length in chunks.
    is_chunked = any(name.lower() == b"transfer-encoding" for name, _ in headers)
    content = iter([request.body or b""]) if is_chunked else request.body
    built = client.build_request(request.method, url, headers=headers, content=content, timeout=timeout)
    response = client.send(built, stream=True)
    try:
        parts, size = [], 0
        for chunk in response.iter_raw():
            parts.append(chunk)
            size += len(chunk)
            if size > max_bytes:
                break
            # The timeout of httpx2 starts again with every chunk, so a slow server could hold the run for ever.
            if time.monotonic() > limit:
                raise httpx2.ReadTimeout("the response did not end")
        names = tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers.raw)
        body = b"".join(parts)[:max_bytes]
        # The requests do not accept it, but RFC 9110, section 12.5.3, lets a server compress all the same.
        body = _decompressed(body, response.headers.get("content-encoding", ""), max_bytes)
        return TargetResponse(response.status_code, names, body, is_whole=size <= max_bytes)
    finally:
        response.close()


def _decompressed(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return the content of a body; one that is not compressed as its header says stays as it is."""
    window = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
    if (bits := window.get(encoding.strip().lower())) is None:
        return body
    try:
        return zlib.decompressobj(bits).decompress(body, max_bytes)
    except zlib.error:
        return body
