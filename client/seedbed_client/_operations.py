"""What is sent: the bodies of requests, held to the contract of their model."""

from __future__ import annotations

import contextlib
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import httpx2
import msgspec
import seedbed_schemas
from seedbed_schemas import job_api
from seedbed_schemas.validation import for_display

from seedbed_client._flow import AwaitCallback, HttpRequest, Pause
from seedbed_client._polling import NEVER_SENT, has_no_effect, passes
from seedbed_client._responses import data_of
from seedbed_client.errors import (
    ApiError,
    ConfigurationError,
    FeatureDisabledError,
    GenerationFailedError,
    InsufficientCreditsError,
    InvalidResponseError,
    MaintenanceError,
    NotFoundError,
    SeedreamError,
    SubmissionUnknownError,
    ValidationError,
    WaitTimeoutError,
    code_of,
)
from seedbed_client.models import Task, task_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from seedbed_schemas import Contract

    from seedbed_client._callback_inbox import CallbackInbox
    from seedbed_client._config import ServiceEndpoint
    from seedbed_client._flow import ClientOperation
    from seedbed_client._polling import PollingSchedule, Retries


_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What RFC 9110 lets a header be named."""


class Submission(msgspec.Struct, frozen=True):
    """A task to be asked for.

    Attributes:
        model: What makes its image.
        input: What it is asked.
        callback_url: Where the service shall POST the finished task.
        headers: Headers beside those of every request.
        validate: Whether the contract of the model is held to first, and fills in its defaults.
    """

    model: str
    input: Mapping[str, Any]
    callback_url: str | None = None
    headers: Mapping[str, str] | None = None
    validate: bool = True

    def __repr__(self) -> str:
        return f"Submission({self.model!r})"  # headers may hold what is secret

    def body(self, contracts: Iterable[Contract] = ()) -> bytes:
        """Return the body of the request.

        Args:
            contracts: Contracts of models beside the shipped ones.

        Raises:
            ConfigurationError: There is no contract of the model.
            ValidationError: The request breaks it.
        """
        fields = job_api().fields
        contract = contract_of(self.model, contracts) if self.validate else None
        filled = {**_defaults(contract), **self.input} if contract else dict(self.input)
        body: dict[str, Any] = {fields.model: self.model, fields.input: filled}
        if self.callback_url is not None:
            body[fields.callback] = self.callback_url
        if contract:
            _hold(contract, body)
        # Written in ASCII, for then even a prompt that is no proper Unicode travels, and the service can say no to it.
        with _json_alone():
            return json.dumps(body, allow_nan=False).encode()

    def own_headers(self) -> Mapping[str, str]:
        """Return the headers beside those of every request.

        Raises:
            ConfigurationError: One of them cannot be sent.
        """
        for name, value in (self.headers or {}).items():
            if not (_TOKEN.fullmatch(name) and value.isascii() and value.isprintable()):
                raise ConfigurationError(
                    f"The header {name!r} cannot be sent: headers are of visible ASCII characters."
                )
        return self.headers or {}


def text_to_image(
    prompt: str,
    aspect_ratio: str,
    quality: str,
    callback_url: str | None,
    headers: Mapping[str, str] | None,
) -> Submission:
    """Return a task of the shipped model."""
    values = {"prompt": prompt, "aspect_ratio": aspect_ratio, "quality": quality}
    return Submission(seedbed_schemas.default_contract().model, values, callback_url, headers)


def contract_of(model: str, contracts: Iterable[Contract] = ()) -> Contract:
    """Return the contract of a model.

    Raises:
        ConfigurationError: There is none.
    """
    known = {contract.model: contract for contract in (*seedbed_schemas.shipped_contracts(), *contracts)}
    if model not in known:
        names = ", ".join(sorted(known))
        raise ConfigurationError(
            f"There is no contract of {model!r}, only of {names}: derive one with seedbed derive and give it as one of "
            "contracts=, or say validate=False."
        )
    return known[model]


def _defaults(contract: Contract) -> dict[str, Any]:
    return {name: schema["default"] for name, schema in contract.input_fields.items() if "default" in schema}


def _hold(contract: Contract, body: dict[str, Any]) -> None:
    with _json_alone():
        broken = [] if contract.request.accepts(body) else contract.request.violations(body)
    if broken:
        raise _refusal("; ".join(violation.message for violation in broken))


@contextlib.contextmanager
def _json_alone() -> Iterator[None]:
    """Refuse what is no JSON, and so has no form to be judged by, or sent in."""
    try:
        yield
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _refusal(f"the request cannot be written as JSON ({error})") from error


def _refusal(problem: str) -> ValidationError:
    return ValidationError(code_of("validation_error"), f"Validation failed: {problem}.")


_JSON: Final = {"Content-Type": "application/json"}
_REFUSALS: Final = (
    FeatureDisabledError,
    GenerationFailedError,
    InsufficientCreditsError,
    MaintenanceError,
    ValidationError,
)
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

    endpoint: ServiceEndpoint
    contracts: tuple[Contract, ...]
    retries: Retries
    rhythm: PollingSchedule
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


def create_task(context: Context, submission: Submission, *, deadline: float = float("inf")) -> ClientOperation[str]:
    """Ask for a task and return its name; asks again only where nothing can have been made, for it costs money."""
    body = submission.body(context.contracts)
    retries = context.retries.until(deadline)
    return (yield from retries.run(lambda: _create_once(context, submission, body), has_no_effect))


def _create_once(context: Context, submission: Submission, body: bytes) -> ClientOperation[str]:
    operation, auth = seedbed_schemas.default_contract().operation, context.endpoint.auth
    headers = {**submission.own_headers(), **_JSON}
    call = HttpRequest(operation.method, context.url(operation.path), auth, headers, content=body)
    try:
        response = yield call
        return _named(context.data(response), response)
    except NEVER_SENT:
        raise
    except (httpx2.RequestError, InvalidResponseError) as error:
        raise _unknown(error) from error
    except ApiError as error:
        if error.code < code_of("server_error") or isinstance(error, _REFUSALS):
            raise
        raise _unknown(error) from error


def _named(data: Any, response: httpx2.Response) -> str:
    names = [data.get(name) for name in _names()] if isinstance(data, dict) else []
    task_id = next((name for name in names if isinstance(name, str) and name), None)
    if task_id is None:
        raise InvalidResponseError(response.status_code, "it does not name the task")
    return task_id


@cache
def _names() -> tuple[str, ...]:
    """Return under which names a new task's name is given back, in whichever dialect."""
    from seedbed_schemas.dialect import dialects  # noqa: PLC0415 (read with the first answer that needs it)

    return tuple(dict.fromkeys(name for dialect in dialects().values() for name in dialect.created))


def _unknown(error: Exception) -> SubmissionUnknownError:
    reason = str(error) or type(error).__name__
    return SubmissionUnknownError(f"it is not known whether the task was made, and paid for: {reason}")


def fetch(context: Context, task_id: str, timeout: float | None = None) -> ClientOperation[Task]:
    """Return the task as it is now, having asked once."""
    operation = job_api().record_info
    url, auth, query = context.url(operation.path), context.endpoint.auth, {operation.query: _checked(task_id)}
    response = yield HttpRequest(operation.method, url, auth, params=query, timeout=timeout)
    data = context.data(response)
    try:
        return task_of(data if isinstance(data, dict) else {})
    except ValueError as error:
        raise InvalidResponseError(response.status_code, str(error)) from error


def _checked(task_id: str) -> str:
    if isinstance(task_id, str) and 0 < len(task_id) <= _LONGEST_NAME and task_id.isprintable():
        return task_id
    raise ConfigurationError(f"{for_display(str(task_id))!r} is not the name of a task: createTask gives one back.")


def get_task(context: Context, task_id: str) -> ClientOperation[Task]:
    """Return the task as it is now."""
    return (yield from context.retries.run(lambda: fetch(context, task_id), passes))


def get_credits(context: Context) -> ClientOperation[float]:
    """Return the balance, in credits."""
    return (yield from context.retries.run(lambda: _credits_once(context), passes))


def _credits_once(context: Context) -> ClientOperation[float]:
    operation = job_api().credit
    response = yield HttpRequest(operation.method, context.url(operation.path), context.endpoint.auth)
    balance = context.data(response)
    if not isinstance(balance, int | float) or isinstance(balance, bool):
        raise InvalidResponseError(response.status_code, "its balance cannot be read")
    return float(balance)


def download_url(context: Context, url: str) -> ClientOperation[str]:
    """Return a URL at which a result can be had for some minutes; asking changes nothing, so it may be repeated."""
    return (yield from context.retries.run(lambda: _download_url_once(context, url), passes))


def _download_url_once(context: Context, url: str) -> ClientOperation[str]:
    operation, auth = job_api().download_url, context.endpoint.auth
    body = json.dumps({operation.field: url}).encode()
    response = yield HttpRequest(operation.method, context.url(operation.path), auth, _JSON, content=body)
    found = context.data(response)
    if not isinstance(found, str) or not found:
        raise InvalidResponseError(response.status_code, "it gives no URL")
    return found


_SHORTEST = 0.05
"""Seconds that the last look of a wait is given at least."""


class Wait(msgspec.Struct):
    """A wait that is under way.

    Attributes:
        context: What the client knows.
        task: The task as it was seen last.
        timeout: Seconds after which it is given up.
        on_update: Called with the task after each look.
        mailbox: Where callbacks come, if one waits for those.
        began: When it began, by the client's clock.
        trouble: Why the last look failed.
        looked: When one first looked, by the client's clock.
        least: For how long whoever answered asks to be left alone, in seconds.
    """

    context: Context
    task: Task
    timeout: float
    on_update: Callable[[Task], object] | None
    mailbox: CallbackInbox | None
    began: float
    trouble: Exception | None = None
    looked: float | None = None
    least: float = 0

    def run(self) -> ClientOperation[Task]:
        """Return the task once it has succeeded."""
        while not (self.task.succeeded and self.looked is not None):
            yield from self._next_look()
            if self.task.failed:
                raise GenerationFailedError.of(self.task)
        return self.task

    def next_change(self) -> ClientOperation[Task | None]:
        """Return the task when its state is another, and nothing once it has ended."""
        if self.looked is not None and (self.task.succeeded or self.task.failed):
            return None
        before, is_first = self.task.state, self.looked is None
        while True:
            yield from self._next_look()
            if self.trouble is None and (is_first or self.task.state is not before):
                return self.task

    def _next_look(self) -> ClientOperation[None]:
        if self.looked is None:
            self.looked = self.context.clock()
        else:
            yield from self._pause(self.least)
        self.least = yield from self._look()

    def _look(self) -> ClientOperation[float]:
        """Look once, and return for how long whoever answered asks to be left alone, in seconds."""
        left = max(self.timeout - self._elapsed(), _SHORTEST)
        try:
            self.task = yield from fetch(self.context, self.task.task_id, min(left, self.context.timeout))
        except (httpx2.RequestError, SeedreamError) as error:
            if not self._is_outlasted(error):
                error.add_note(f"The task is {self.task.task_id}")
                raise
            self.trouble = error
            return getattr(error, "retry_after", None) or 0
        self.trouble = None
        if self.on_update:
            self.on_update(self.task)
        return 0

    def _is_outlasted(self, error: Exception) -> bool:
        """Tell whether to look again all the same: the task is paid for, so waiting on is better than losing it."""
        # One dialect says so of an unknown task with the code of a request that breaks a rule.
        is_unknown = isinstance(error, NotFoundError | ValidationError)
        if is_unknown and self.looked is not None:
            return self.context.clock() - self.looked < self.context.rhythm.grace
        return passes(error)

    def _pause(self, least: float) -> ClientOperation[None]:
        elapsed = self._elapsed()
        if elapsed >= self.timeout:
            raise WaitTimeoutError(self.task, self.timeout) from self.trouble
        left, rhythm = self.timeout - elapsed, self.context.rhythm
        if self.mailbox is None:
            yield Pause(min(max(rhythm.pause(elapsed), least), left))
            return
        seconds = min(max(rhythm.patient_pause(), least), left)
        if (yield AwaitCallback(self.mailbox, self.task.task_id, seconds)):
            # A callback may be ahead of the record, or lie: the record decides, and is looked at as without one.
            self.mailbox = None

    def _elapsed(self) -> float:
        return self.context.clock() - self.began


def begin(
    context: Context,
    task: Task | str,
    *,
    timeout: float | None,
    on_update: Callable[[Task], object] | None = None,
    mailbox: CallbackInbox | None = None,
) -> Wait:
    """Return the wait for a task that begins now."""
    known = task if isinstance(task, Task) else Task(task)
    return Wait(context, known, context.rhythm.patience(timeout), on_update, mailbox, context.clock())


def generate(
    context: Context, submission: Submission, *, timeout: float | None, on_update: Callable[[Task], object] | None
) -> ClientOperation[Task]:
    """Ask for a task and return it once it has succeeded, all within one time."""
    patience, began = context.rhythm.patience(timeout), context.clock()
    task_id = yield from create_task(context, submission, deadline=began + patience)
    return (yield from Wait(context, Task(task_id), patience, on_update, None, began).run())
