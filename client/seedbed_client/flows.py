"""The logic of the client, without input and output; see :mod:`seedbed_client.steps` for how it is run."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import httpx2
import msgspec
import seedbed_schemas
from seedbed_schemas import job_api
from seedbed_schemas.refusals import shown

from seedbed_client.answers import data_of
from seedbed_client.errors import (
    ApiError,
    ConfigurationError,
    FeatureDisabled,
    GenerationFailed,
    InsufficientCredits,
    ServiceUnavailable,
    SubmissionUnknown,
    UnreadableAnswer,
    ValidationError,
    code_of,
)
from seedbed_client.models import Task, task_of
from seedbed_client.retrying import NEVER_SENT, has_no_effect, passes
from seedbed_client.steps import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_schemas import Contract

    from seedbed_client.config import Endpoint
    from seedbed_client.requests import Submission
    from seedbed_client.retrying import Retries
    from seedbed_client.rhythm import Rhythm
    from seedbed_client.steps import Flow

_JSON: Final = {"Content-Type": "application/json"}
_REFUSALS: Final = (FeatureDisabled, GenerationFailed, InsufficientCredits, ServiceUnavailable, ValidationError)
"""What says no for certain, whatever its code."""

_LONGEST_CALL: Final = 86_400
_LONGEST_NAME: Final = 1000
"""In characters; names of tasks have some tens."""


class Context(msgspec.Struct, frozen=True):
    """What a client knows, and its flows go by.

    Attributes:
        endpoint: The service.
        contracts: Contracts of models beside the shipped ones.
        retries: How often calls are made again.
        rhythm: How often one looks at a task.
        timeout: Seconds that one HTTP request may take.
        clock: What tells the time, in seconds.
    """

    endpoint: Endpoint
    contracts: tuple[Contract, ...]
    retries: Retries
    rhythm: Rhythm
    timeout: float
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        if not (isinstance(self.timeout, int | float) and 0 < self.timeout <= _LONGEST_CALL):
            raise ConfigurationError(
                f"The time of a request is more than 0 and at most {_LONGEST_CALL} seconds, not {self.timeout!r}."
            )

    def url(self, path: str) -> str:
        """Return where a path of the service is."""
        return self.endpoint.base_url + path

    def data(self, response: httpx2.Response) -> Any:
        """Return what an answer gives back."""
        return data_of(response, self.contracts)


def create_task(context: Context, submission: Submission, *, deadline: float = float("inf")) -> Flow[str]:
    """Ask for a task and return its name; asks again only where nothing can have been made, for it costs money."""
    body = submission.body(context.contracts)
    retries = context.retries.until(deadline)
    return (yield from retries.run(lambda: _create_once(context, submission, body), has_no_effect))


def _create_once(context: Context, submission: Submission, body: bytes) -> Flow[str]:
    operation, auth = seedbed_schemas.default_contract().operation, context.endpoint.auth
    headers = {**submission.own_headers(), **_JSON}
    call = Call(operation.method, context.url(operation.path), auth, headers, content=body)
    try:
        response = yield call
        return _named(context.data(response), response)
    except NEVER_SENT:
        raise
    except (httpx2.RequestError, UnreadableAnswer) as error:
        raise _unknown(error) from error
    except ApiError as error:
        if error.code < code_of("server_error") or isinstance(error, _REFUSALS):
            raise
        raise _unknown(error) from error


def _named(data: Any, response: httpx2.Response) -> str:
    names = [data.get(name) for name in _names()] if isinstance(data, dict) else []
    task_id = next((name for name in names if isinstance(name, str) and name), None)
    if task_id is None:
        raise UnreadableAnswer(response.status_code, "it does not name the task")
    return task_id


@cache
def _names() -> tuple[str, ...]:
    """Return under which names a new task's name is given back, in whichever dialect."""
    from seedbed_schemas.dialect import dialects  # noqa: PLC0415 (read with the first answer that needs it)

    return tuple(dict.fromkeys(name for dialect in dialects().values() for name in dialect.created))


def _unknown(error: Exception) -> SubmissionUnknown:
    reason = str(error) or type(error).__name__
    return SubmissionUnknown(f"it is not known whether the task was made, and paid for: {reason}")


def look(context: Context, task_id: str, timeout: float | None = None) -> Flow[Task]:
    """Return the task as it is now, having asked once."""
    operation = job_api().record_info
    url, auth, query = context.url(operation.path), context.endpoint.auth, {operation.query: _checked(task_id)}
    response = yield Call(operation.method, url, auth, params=query, timeout=timeout)
    data = context.data(response)
    try:
        return task_of(data if isinstance(data, dict) else {})
    except ValueError as error:
        raise UnreadableAnswer(response.status_code, str(error)) from error


def _checked(task_id: str) -> str:
    if isinstance(task_id, str) and 0 < len(task_id) <= _LONGEST_NAME and task_id.isprintable():
        return task_id
    raise ConfigurationError(f"{shown(str(task_id))!r} is not the name of a task: createTask gives one back.")


def get_task(context: Context, task_id: str) -> Flow[Task]:
    """Return the task as it is now."""
    return (yield from context.retries.run(lambda: look(context, task_id), passes))


def get_credits(context: Context) -> Flow[float]:
    """Return the balance, in credits."""
    return (yield from context.retries.run(lambda: _credits_once(context), passes))


def _credits_once(context: Context) -> Flow[float]:
    operation = job_api().credit
    response = yield Call(operation.method, context.url(operation.path), context.endpoint.auth)
    balance = context.data(response)
    if not isinstance(balance, int | float) or isinstance(balance, bool):
        raise UnreadableAnswer(response.status_code, "its balance cannot be read")
    return float(balance)


def download_url(context: Context, url: str) -> Flow[str]:
    """Return a URL at which a result can be had for some minutes; asking changes nothing, so it may be repeated."""
    return (yield from context.retries.run(lambda: _download_url_once(context, url), passes))


def _download_url_once(context: Context, url: str) -> Flow[str]:
    operation, auth = job_api().download_url, context.endpoint.auth
    body = json.dumps({operation.field: url}).encode()
    response = yield Call(operation.method, context.url(operation.path), auth, _JSON, content=body)
    found = context.data(response)
    if not isinstance(found, str) or not found:
        raise UnreadableAnswer(response.status_code, "it gives no URL")
    return found
