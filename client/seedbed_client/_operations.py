"""The operations of the service: what is sent, how responses are interpreted, and how a wait proceeds.

Each operation is a generator of actions, which a runner performs; see :mod:`seedbed_client._actions`.
"""

from __future__ import annotations

import contextlib
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol

import httpx2
import msgspec
import seedbed_schemas
from seedbed_schemas import job_api
from seedbed_schemas.validation import for_display

from seedbed_client import errors
from seedbed_client._actions import AwaitCallback, HttpRequest, Pause
from seedbed_client._polling import NEVER_SENT, has_no_effect, is_temporary
from seedbed_client._responses import data_of
from seedbed_client.errors import SubmissionTracker
from seedbed_client.models import Task, task_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from seedbed_schemas import Contract

    from seedbed_client._actions import ClientOperation
    from seedbed_client._callback_inbox import CallbackInbox
    from seedbed_client._config import KeyAuth, ServiceEndpoint
    from seedbed_client._polling import PollingSchedule, Retries
    from seedbed_client.models import Submission


_JSON: Final = {"Content-Type": "application/json"}

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header name, as RFC 9110 defines it."""

_MIN_TIMEOUT, _MAX_TIMEOUT = 0.001, 86_400
_MAX_TASK_ID_LENGTH: Final = 1000
"""In characters; the IDs of the service have about 30."""

_MIN_FETCH_SECONDS: Final = 0.05
"""Shortest timeout of a fetch: the last fetch of a wait may have almost no time left."""

_NO_TASK_CREATED: Final = (
    errors.FeatureDisabledError,
    errors.GenerationFailedError,
    errors.InsufficientCreditsError,
    errors.MaintenanceError,
    errors.ValidationError,
)
"""Errors that mean that no task was created, even with a code of 500 or more."""


class Context(msgspec.Struct, frozen=True):
    """The configuration of a client, on which its operations depend.

    Attributes:
        endpoint: The service and the key.
        contracts: Contracts of models in addition to the shipped ones.
        retries: When to repeat failed requests.
        polling: When to fetch a task that is waited for.
        timeout: Seconds that one HTTP request may take.
        clock: Returns the time, in seconds.
        on_submission: Called with what is known of a task that is created.
    """

    endpoint: ServiceEndpoint
    contracts: tuple[Contract, ...]
    retries: Retries
    polling: PollingSchedule
    timeout: float
    clock: Callable[[], float]
    on_submission: Callable[[Submission], object] | None = None

    def __post_init__(self) -> None:
        errors.checked_number("timeout", self.timeout, _MIN_TIMEOUT, _MAX_TIMEOUT, unit="seconds")

    def tracker(self, task: TaskRequest) -> SubmissionTracker:
        """Return a tracker for a task that will be created."""
        return SubmissionTracker(task.model, on_change=self.on_submission)

    def contract(self, model: str = "") -> Contract:
        """Return the contract that documents how to send a request.

        It is that of the model. For other models, and for requests that name none, it is the first one that the caller
        has given: the contracts of one service agree on the header of the key.
        """
        known = {contract.model: contract for contract in self.contracts}
        return known.get(model) or _shipped(model) or next(iter(self.contracts), seedbed_schemas.default_contract())

    def auth(self, model: str = "") -> KeyAuth:
        """Return the authentication of a request."""
        return self.endpoint.auth(self.contract(model))

    def url(self, path: str) -> str:
        """Return the URL of a path of the service."""
        return self.endpoint.base_url + path

    def data(self, response: httpx2.Response) -> Any:
        """Return the data of a successful response; see :func:`seedbed_client._responses.data_of` for the errors."""
        return data_of(response, self.contracts)


class TaskRequest(msgspec.Struct, frozen=True):
    """A task to create.

    Attributes:
        model: Model that makes the image.
        input: Input of the model.
        callback_url: URL to which the service POSTs the finished task.
        headers: Headers in addition to those of every request.
        validate: Whether to check the request against the contract of the model, and to fill in its defaults.
    """

    model: str
    input: Mapping[str, Any]
    callback_url: str | None = None
    headers: Mapping[str, str] | None = None
    validate: bool = True

    def __repr__(self) -> str:
        # Tracebacks show reprs, and headers may hold secrets.
        return f"TaskRequest({self.model!r})"

    def body(self, contracts: Iterable[Contract] = ()) -> bytes:
        """Return the body of the request.

        Args:
            contracts: Contracts of models in addition to the shipped ones.

        Raises:
            ConfigurationError: There is no contract for the model.
            ValidationError: The request breaks the contract.
        """
        fields = job_api().fields
        contract = contract_of(self.model, contracts) if self.validate else None
        with _json_errors():
            values = contract.with_defaults(self.input) if contract else self.input
            body: dict[str, Any] = {fields.model: self.model, fields.input: values}
            if self.callback_url is not None:
                body[fields.callback] = self.callback_url
            if contract and fields.callback not in body and requires_callback(contract):
                raise _invalid(f"the contract requires {fields.callback}; pass callback_url")
            if contract and not values and fields.input not in contract.part("request")["properties"]:
                del body[fields.input]
            if contract and not contract.request.accepts(body):
                problems = "; ".join(violation.message for violation in contract.request.violations(body))
                raise _invalid(problems)
            # ASCII carries even a prompt with lone surrogates, so that the service can refuse it.
            return json.dumps(body, allow_nan=False).encode()

    def extra_headers(self) -> Mapping[str, str]:
        """Return the headers in addition to those of every request.

        Raises:
            ConfigurationError: A header is malformed.
        """
        for name, value in (self.headers or {}).items():
            # The value may be a secret, so the error does not show it.
            if not (_HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable()):
                raise errors.ConfigurationError(f"invalid header {name!r}; use visible ASCII characters")
        return self.headers or {}


def text_to_image(
    prompt: str, aspect_ratio: str, quality: str, callback_url: str | None, headers: Mapping[str, str] | None
) -> TaskRequest:
    """Return a task of the shipped model."""
    values = {"prompt": prompt, "aspect_ratio": aspect_ratio, "quality": quality}
    return TaskRequest(seedbed_schemas.default_contract().model, values, callback_url, headers)


def contract_of(model: str, contracts: Iterable[Contract] = ()) -> Contract:
    """Return the contract of a model.

    Raises:
        ConfigurationError: There is no such contract.
    """
    known = {contract.model: contract for contract in (*seedbed_schemas.shipped_contracts(), *contracts)}
    if model not in known:
        names = ", ".join(sorted(known))
        raise errors.ConfigurationError(
            f"no contract for the model {model!r}; known models: {names}. Derive a contract with seedbed derive and "
            "pass it in contracts=, or pass validate=False"
        )
    return known[model]


def _shipped(model: str) -> Contract | None:
    return next((each for each in seedbed_schemas.shipped_contracts() if each.model == model), None)


def requires_callback(contract: Contract) -> bool:
    """Return whether each request must have a callback URL."""
    return job_api().fields.callback in contract.part("request").get("required", ())


@contextlib.contextmanager
def _json_errors() -> Iterator[None]:
    """Refuse values that JSON cannot represent, whether the validator or the encoder meets them first."""
    try:
        yield
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _invalid(f"the request cannot be encoded as JSON ({error})") from error


def _invalid(problem: str) -> errors.ValidationError:
    return errors.ValidationError(errors.code_of("validation_error"), f"Validation failed: {problem}.")


def create_task(
    context: Context, task: TaskRequest, tracker: SubmissionTracker, *, deadline: float = float("inf")
) -> ClientOperation[str]:
    """Create a task and return its ID.

    A task costs credits, so the request is repeated only if the failed one cannot have created a task.

    Args:
        context: Context of the client.
        task: The task.
        tracker: Learns what is known of the task.
        deadline: Time by the clock of the client after which the request is not repeated.
    """
    body = task.body(context.contracts)  # first, so that an invalid request fails without an attempt
    retries = context.retries.until(deadline)
    return (yield from retries.run(lambda: _create_once(context, task, tracker, body), has_no_effect))


def _create_once(context: Context, task: TaskRequest, tracker: SubmissionTracker, body: bytes) -> ClientOperation[str]:
    operation, headers = context.contract(task.model).operation, {**task.extra_headers(), **_JSON}
    request = HttpRequest(
        operation.method,
        context.url(operation.path),
        context.auth(task.model),
        headers,
        content=body,
        on_send=lambda: tracker.sending(task.input),
    )
    try:
        response = yield request
        task_id = _task_id(context.data(response), response)
    except NEVER_SENT:
        tracker.refused()
        raise
    except Exception as error:
        # A server that failed may have created the task before.
        if isinstance(error, errors.ApiError) and (
            error.code < errors.code_of("server_error") or isinstance(error, _NO_TASK_CREATED)
        ):
            tracker.refused()
        if not tracker.current.may_be_charged:
            raise
        reason = str(error) or type(error).__name__
        raise errors.SubmissionUnknownError(
            f"it is not known whether the task was created and charged: {reason}"
        ) from error
    tracker.created(task_id)
    return task_id


def _task_id(data: Any, response: httpx2.Response) -> str:
    values = [data.get(name) for name in _task_id_fields()] if isinstance(data, dict) else []
    task_id = next((value for value in values if isinstance(value, str) and value), None)
    if task_id is None:
        raise errors.InvalidResponseError(response.status_code, "it has no task ID")
    return task_id


@cache
def _task_id_fields() -> tuple[str, ...]:
    """Return the fields in which a new task's ID may be given, over all dialects."""
    from seedbed_schemas.dialect import dialects  # read with the first response that needs it

    return tuple(dict.fromkeys(name for dialect in dialects().values() for name in dialect.created))


def fetch(context: Context, task_id: str, timeout: float | None = None) -> ClientOperation[Task]:
    """Fetch a task once and return it."""
    operation = job_api().record_info
    url, auth, query = context.url(operation.path), context.auth(), {operation.query: task_id}
    response = yield HttpRequest(operation.method, url, auth, params=query, timeout=timeout)
    data = context.data(response)
    try:
        return task_of(data if isinstance(data, dict) else {})
    except ValueError as error:
        raise errors.InvalidResponseError(response.status_code, str(error)) from error


def get_task(context: Context, task_id: str) -> ClientOperation[Task]:
    """Fetch a task, with retries, and return it."""
    return (yield from context.retries.run(lambda: fetch(context, task_id), is_temporary))


def get_credits(context: Context) -> ClientOperation[float]:
    """Return the balance, in credits."""

    def fetch_balance() -> ClientOperation[float]:
        operation = job_api().credit
        response = yield HttpRequest(operation.method, context.url(operation.path), context.auth())
        balance = context.data(response)
        if not isinstance(balance, int | float) or isinstance(balance, bool):
            raise errors.InvalidResponseError(response.status_code, "its balance is not a number")
        return float(balance)

    return (yield from context.retries.run(fetch_balance, is_temporary))


def download_url(context: Context, url: str) -> ClientOperation[str]:
    """Return a temporary public URL of a result."""

    def fetch_url() -> ClientOperation[str]:
        operation, auth = job_api().download_url, context.auth()
        body = json.dumps({operation.field: url}).encode()
        response = yield HttpRequest(operation.method, context.url(operation.path), auth, _JSON, content=body)
        found = context.data(response)
        if not isinstance(found, str) or not found:
            raise errors.InvalidResponseError(response.status_code, "it has no URL")
        return found

    # A POST, but it changes nothing on the server, so it may be repeated.
    return (yield from context.retries.run(fetch_url, is_temporary))


class Wait(msgspec.Struct):
    """A wait for a task, in progress. Times are by the clock of the client.

    Attributes:
        context: Context of the client.
        task: The task, as it was last fetched.
        timeout: Seconds after which to stop waiting.
        on_update: Called with the task after each fetch.
        inbox: Inbox in which the callback arrives; ``None`` to poll.
        began: Time at which the wait began.
        last_error: Error of the last fetch.
        has_fetched: Whether a first fetch was attempted.
        refused_since: Time since which all fetches were refused, ``None`` after one that was not.
        min_pause: Shortest next pause, in seconds, as ``Retry-After`` of the last response asks.
    """

    context: Context
    task: Task
    timeout: float
    on_update: Callable[[Task], object] | None
    inbox: CallbackInbox | None
    began: float
    last_error: Exception | None = None
    has_fetched: bool = False
    refused_since: float | None = None
    min_pause: float = 0

    def run(self) -> ClientOperation[Task]:
        """Return the task once it has succeeded.

        Raises:
            GenerationFailedError: The task failed.
            WaitTimeoutError: The time is over.
        """
        # A task that the caller passes is fetched at least once: it may be out of date.
        while not (self.task.succeeded and self.has_fetched):
            yield from self._next_fetch()
            if self.task.failed:
                raise errors.GenerationFailedError.of(self.task)
        return self.task

    def next_change(self) -> ClientOperation[Task | None]:
        """Return the task when its state changes, and ``None`` after it has finished."""
        if self.has_fetched and (self.task.succeeded or self.task.failed):
            return None
        before, is_first = self.task.state, not self.has_fetched
        while True:
            yield from self._next_fetch()
            if self.last_error is None and (is_first or self.task.state is not before):
                return self.task

    def _next_fetch(self) -> ClientOperation[None]:
        if self.has_fetched:
            yield from self._pause()
        self.has_fetched = True
        left = max(self.timeout - self._elapsed(), _MIN_FETCH_SECONDS)
        self.last_error, self.min_pause = None, 0
        try:
            self.task = yield from fetch(self.context, self.task.task_id, min(left, self.context.timeout))
        except (httpx2.RequestError, errors.SeedreamError) as error:
            if not self._may_continue(error):
                raise
            self.last_error = error
            self.min_pause = getattr(error, "retry_after", None) or 0
            return
        self.refused_since = None
        if self.on_update:
            self.on_update(self.task)

    def _may_continue(self, error: Exception) -> bool:
        """Return whether to keep waiting after an error: the task is paid for, so losing it is worse than waiting."""
        if isinstance(error, errors.AuthenticationError):
            return False
        if is_temporary(error) or not isinstance(error, errors.ApiError | errors.InvalidResponseError):
            return is_temporary(error)
        # A new task may be unknown for a moment, which one dialect reports with the code of a validation error. Other
        # refusals make no sense for a task that exists, so they may pass, too.
        if self.refused_since is None:
            self.refused_since = self.context.clock()
        return self.context.clock() - self.refused_since < self.context.polling.grace

    def _pause(self) -> ClientOperation[None]:
        elapsed = self._elapsed()
        if elapsed >= self.timeout:
            raise errors.WaitTimeoutError(self.task, self.timeout) from self.last_error
        left, polling = self.timeout - elapsed, self.context.polling
        if self.inbox is None:
            yield Pause(min(max(polling.pause(elapsed), self.min_pause), left))
            return
        seconds = min(max(polling.callback_pause(), self.min_pause), left)
        if (yield AwaitCallback(self.inbox, self.task.task_id, seconds)):
            # A callback may be ahead of the record, or forged. The record decides, and is polled from now on.
            self.inbox = None

    def _elapsed(self) -> float:
        return self.context.clock() - self.began


class HasTaskId(Protocol):
    """A task or its handle."""

    @property
    def task_id(self) -> str:
        """ID of the task."""
        ...


def id_of(task: HasTaskId | str) -> str:
    """Return the ID of a task, which may be given as the task, its handle or the ID itself.

    Raises:
        ConfigurationError: It cannot be an ID.
    """
    task_id = getattr(task, "task_id", task)
    if isinstance(task_id, str) and 0 < len(task_id) <= _MAX_TASK_ID_LENGTH and task_id.isprintable():
        return task_id
    raise errors.ConfigurationError(
        f"invalid task ID {for_display(str(task_id))!r}; use one that create_task() returned"
    )


def start_wait(
    context: Context,
    task: HasTaskId | str,
    *,
    timeout: float | None,
    on_update: Callable[[Task], object] | None = None,
    inbox: CallbackInbox | None = None,
) -> Wait:
    """Return a wait for a task that begins now."""
    known = task if isinstance(task, Task) else Task(id_of(task))
    return Wait(context, known, context.polling.limit(timeout), on_update, inbox, context.clock())


def generate(
    context: Context,
    task: TaskRequest,
    tracker: SubmissionTracker,
    *,
    timeout: float | None,
    on_update: Callable[[Task], object] | None,
) -> ClientOperation[Task]:
    """Create a task and return it once it has succeeded; the timeout covers both."""
    # Checked before anything is sent: an invalid timeout must not cost credits.
    limit, began = context.polling.limit(timeout), context.clock()
    task_id = yield from create_task(context, task, tracker, deadline=began + limit)
    return (yield from Wait(context, Task(task_id), limit, on_update, None, began).run())
