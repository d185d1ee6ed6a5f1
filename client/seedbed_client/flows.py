"""The logic of the client, without input and output.

A flow is a generator: it yields what is to be done, a :class:`Call` or a :class:`Pause`, and is sent the response, or
thrown the transport's error. The clients, one blocking and one not, do what it says and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import httpx2
import msgspec
from seedbed_schemas import job_api
from seedbed_schemas.profile import profile_of
from seedbed_schemas.wire import Created, Envelope, Record

from seedbed_client.errors import (
    ERRORS,
    SUCCESS,
    ApiError,
    CreationUnknown,
    RateLimited,
    ServerError,
    ServiceUnavailable,
    TaskFailed,
    UnreadableAnswer,
    WaitTimeout,
    errors_of,
)
from seedbed_client.models import Task, task_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from seedbed_schemas import Contract

    from seedbed_client.config import Endpoint

T = TypeVar("T")

_PASSING = (RateLimited, ServerError, ServiceUnavailable, UnreadableAnswer, httpx2.RequestError)
"""What may go away by itself while one waits; the task is paid for, so waiting on is better than losing it."""

_NEVER_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
"""What happens before a request is on its way, so that it cannot have had an effect."""

_MOST_FAILURES = 5


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP request to be made."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] | None = None
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """A time to wait, in seconds."""

    seconds: float


Flow: TypeAlias = "Generator[Call | Pause, Any, T]"
"""A flow that ends with a T; it is sent the response to a call, and nothing after a pause."""


def poll_interval(elapsed: float) -> float:
    """Return how long to wait before the next look, in seconds, after so many seconds of waiting.

    Often at first, then more and more seldom, as the service's documentation advises.
    """
    if elapsed < 30:  # noqa: PLR2004 (the table of the advice)
        return 2.0
    return 5.0 if elapsed < 120 else 15.0  # noqa: PLR2004 (the table of the advice)


def create_task(
    endpoint: Endpoint, prompt: str, *, callback_url: str | None, options: Mapping[str, object]
) -> Flow[str]:
    """Ask for a task and return its name; never asks twice, for asking costs money."""
    contract, fields = endpoint.contract, job_api().fields
    body: dict[str, Any] = {fields.model: contract.model, fields.input: _input(contract, prompt, options)}
    if callback_url is not None:
        body[fields.callback] = callback_url
    operation, headers = contract.operation, {**_authorization(endpoint), "Content-Type": "application/json"}
    # Written in ASCII, for then even a prompt that is no proper Unicode travels, and the service can say no to it.
    call = Call(operation.method, endpoint.base_url + operation.path, headers, content=json.dumps(body).encode())
    try:
        response = yield call
        return msgspec.convert(_data(endpoint, response), Created).task_id
    except _NEVER_SENT:
        raise
    except (httpx2.RequestError, UnreadableAnswer, msgspec.ValidationError) as error:
        raise CreationUnknown(f"it is not known whether the task was made, and paid for: {error}") from error


def get_task(endpoint: Endpoint, task_id: str) -> Flow[Task]:
    """Return the task as it is now."""
    operation = job_api().record_info
    url, headers = endpoint.base_url + operation.path, _authorization(endpoint)
    response = yield Call(operation.method, url, headers, params={operation.query: task_id})
    try:
        return task_of(msgspec.convert(_data(endpoint, response), Record))
    except msgspec.DecodeError as error:
        raise UnreadableAnswer(response.status_code, f"its record cannot be read ({error})") from error


def get_credits(endpoint: Endpoint) -> Flow[float]:
    """Return the balance, in credits."""
    operation = job_api().credit
    response = yield Call(operation.method, endpoint.base_url + operation.path, _authorization(endpoint))
    try:
        return msgspec.convert(_data(endpoint, response), float)
    except msgspec.ValidationError as error:
        raise UnreadableAnswer(response.status_code, f"its balance cannot be read ({error})") from error


def wait(
    endpoint: Endpoint,
    task_id: str,
    *,
    timeout: float,
    on_update: Callable[[Task], object] | None,
    clock: Callable[[], float],
) -> Flow[Task]:
    """Return the task once it has succeeded."""
    start, failures = clock(), 0
    while True:
        try:
            task = yield from get_task(endpoint, task_id)
            failures = 0
            if _has_succeeded(task, on_update):
                return task
        except _PASSING as error:
            failures += 1
            if failures == _MOST_FAILURES:
                error.add_note(f"The task is {task_id}")
                raise
        elapsed = clock() - start
        if elapsed >= timeout:
            raise WaitTimeout(task_id, timeout)
        yield Pause(min(poll_interval(elapsed), timeout - elapsed))


def _has_succeeded(task: Task, on_update: Callable[[Task], object] | None) -> bool:
    if on_update:
        on_update(task)
    if task.failed:
        raise TaskFailed(task)
    return task.succeeded


def download(url: str) -> Flow[bytes]:
    """Return a result; it is fetched without the key, which it does not need."""
    response: httpx2.Response = yield Call("GET", url)
    kind = response.headers.get("content-type", "")
    if not response.is_success or not kind.startswith("image/"):
        raise UnreadableAnswer(
            response.status_code, f"{url} gave {kind or 'nothing'} in place of an image{_told(response)}"
        )
    return response.content


def _told(response: httpx2.Response) -> str:
    """Return what an answer in place of a file says, where it is one of the service."""
    try:
        message = msgspec.json.decode(response.content, type=Envelope).msg
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return f": {message}" if message else ""


def _input(contract: Contract, prompt: str, options: Mapping[str, object]) -> dict[str, object]:
    """Return the input: the contract's defaults, and what was asked for."""
    defaults = {name: schema["default"] for name, schema in contract.input_fields.items() if "default" in schema}
    given = {name: value for name, value in options.items() if value is not None}
    caption = profile_of(contract).caption
    return {**({caption: prompt} if caption else {}), **defaults, **given}


def _authorization(endpoint: Endpoint) -> dict[str, str]:
    operation = endpoint.contract.operation
    return {operation.header: f"{operation.scheme} {endpoint.api_key}"}


def _data(endpoint: Endpoint, response: httpx2.Response) -> Any:
    """Return what an answer gives back, or raise what it says; the code tells, whatever the HTTP status is."""
    try:
        envelope = msgspec.json.decode(response.content, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableAnswer(response.status_code, str(error)) from error
    if envelope.code != SUCCESS:
        errors = ERRORS | errors_of(endpoint.contract)
        raise errors.get(envelope.code, ApiError)(envelope.code, envelope.msg or "")
    return envelope.data
