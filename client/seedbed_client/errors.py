"""The errors of this package, as a tree.

* SeedreamError
  + ApiError: the service responded with a code other than success
    - AuthenticationError, InsufficientCreditsError, NotFoundError, ValidationError, RateLimitError, MaintenanceError,
      ServerError, FeatureDisabledError
    - GenerationFailedError: the task failed
  + InvalidResponseError: a response does not have the form that the service documents
    - DownloadError: the response to a download is not a complete image
  + SubmissionUnknownError: it is not known whether the task was created and charged
    - SubmissionInDoubtError: the same for the key of a job log
  + JobLogError: a job log cannot be used
    - JobConflictError: a key belongs to another request
  + WaitTimeoutError: the task is still running
  + CallbackError: the receiver refused a callback
    - SignatureMismatchError, StaleCallbackError, InvalidCallbackError
  + ConfigurationError: the client cannot be created or used in this way

A request without any response raises the error of httpx2, such as ``httpx2.ConnectError``. Whatever ends a call that
creates or awaits a task, ``submissions_of(error)`` returns what is known of the task.
"""

from __future__ import annotations

import logging
import reprlib
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Final

import seedbed_schemas

from seedbed_client.models import Submission, SubmissionState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Self

    from seedbed_schemas import Contract

    from seedbed_client.models import Task

    ERRORS: dict[int, type[ApiError]]
    """Error class of each documented code."""


_MAX_BITS: Final = 10_000
_ATTRIBUTE: Final = "seedbed_submissions"
"""Name of the attribute that holds the submissions of an exception, which may be of any class."""


class SeedreamError(Exception):
    """Base class of the errors of this package. All of them can be copied and pickled."""

    @property
    def submission(self) -> Submission | None:
        """What is known of the task that the call was to create or awaited; ``None`` for other calls."""
        return next(reversed(self.__dict__.get(_ATTRIBUTE, ())), None)

    @property
    def task_id(self) -> str | None:
        """ID of the task that the call created or awaited, if it is known."""
        return self.submission.task_id if self.submission else None

    def __reduce__(self) -> tuple[object, ...]:
        # By default, an exception is unpickled by calling its class with args, which is the message alone.
        return _restore, (type(self), self.args), self.__dict__


def _restore(cls: type[SeedreamError], args: tuple[object, ...]) -> SeedreamError:
    return cls.__new__(cls, *args)


class ConfigurationError(SeedreamError, ValueError):
    """The client cannot be created or used in this way."""


def checked_number(name: str, value: float, least: float, most: float, *, whole: bool = False, unit: str = "") -> float:
    """Return a number that a caller passed.

    Args:
        name: Name of the argument, for the message.
        value: The number.
        least: Smallest valid number.
        most: Largest valid number.
        whole: Whether the number must be whole.
        unit: What it counts, such as seconds, for the message.

    Raises:
        ConfigurationError: It is no number, or not in the range.
    """
    is_number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    with suppress(OverflowError):  # of a whole number that no float can represent
        if is_number and least <= float(value) <= most:  # false for nan, too
            return value
    kind = f"{'a whole number' if whole else 'a number'}{f' of {unit}' if unit else ''}"
    limits = f"from {least} to {most}" if most < float("inf") else f"of at least {least}"
    # Python refuses to print a number of more than 4300 digits.
    is_endless = isinstance(value, int) and value.bit_length() > _MAX_BITS
    shown = "with thousands of digits" if is_endless else reprlib.repr(value)
    raise ConfigurationError(f"invalid {name} {shown}; give {kind} {limits}")


class ApiError(SeedreamError):
    """The service responded with a code other than success.

    Attributes:
        code: Code of the response.
        message: Message of the response.
        retry_after: Seconds that the service asks to wait, if it does.
    """

    def __init__(self, code: int, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after = retry_after


class AuthenticationError(ApiError):
    """The API key is missing or wrong."""


class InsufficientCreditsError(ApiError):
    """The balance does not cover the task."""


class NotFoundError(ApiError):
    """The path or the task does not exist."""


class ValidationError(ApiError):
    """A parameter breaks the contract."""


class RateLimitError(ApiError):
    """There were too many requests in a short time."""


class MaintenanceError(ApiError):
    """The service is under maintenance."""


class ServerError(ApiError):
    """The service failed unexpectedly."""


class GenerationFailedError(ApiError):
    """The task failed. A failed task is not charged.

    Attributes:
        task: The task; ``None`` if the service responded with this code instead of a record.
    """

    task: Task | None = None

    @classmethod
    def of(cls, task: Task) -> Self:
        """Return the error of a task that failed."""
        reason = f"task {task.task_id} failed with {task.fail_code or 'no code'}: {task.fail_msg}"
        error = cls(code_of("generation_failed"), reason)
        error.task = task
        return error

    @property
    def fail_code(self) -> str:
        """Code of the failure, from the record."""
        return self.task.fail_code if self.task else ""

    @property
    def fail_msg(self) -> str:
        """Message of the failure, from the record."""
        return self.task.fail_msg if self.task else self.message


class FeatureDisabledError(ApiError):
    """The feature is temporarily disabled."""


class InvalidResponseError(SeedreamError):
    """A response does not have the form that the service documents; it may be from a proxy.

    Attributes:
        http_status: HTTP status of the response; 0 if no request was sent.
        retry_after: Seconds that the server asks to wait, if it does.
    """

    def __init__(self, http_status: int, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"unexpected response (HTTP {http_status}): {reason}" if http_status else reason)
        self.http_status = http_status
        self.retry_after = retry_after


class DownloadError(InvalidResponseError):
    """The response to a download is not a complete image."""


class SubmissionUnknownError(SeedreamError):
    """It is not known whether the task was created and charged, so the request is not repeated.

    The connection broke after the request was sent, the response does not show it, or your own hook, transport or
    authentication raised an exception. ``__cause__`` holds the reason.
    """


class SubmissionInDoubtError(SubmissionUnknownError):
    """It is not known whether the task of a key was created and charged, so the key is not submitted again.

    Find out, for example from the balance of your account. Then call ``JobLog.settle(key, task_id)``, or
    ``JobLog.forget(key)`` to submit the key again.

    Attributes:
        key: Key of the job.
        reason: Why it is not known.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(
            f"it is not known whether the task was created and charged for the key {key!r} ({reason}); check your "
            "account, then call settle(key, task_id) of the job log, or forget(key) to submit it again"
        )
        self.key = key
        self.reason = reason


class JobLogError(SeedreamError):
    """A job log cannot be used.

    Attributes:
        is_foreign: Whether the file is not a job log that this version can read.
    """

    def __init__(self, message: str, *, is_foreign: bool = False) -> None:
        super().__init__(message)
        self.is_foreign = is_foreign


class JobConflictError(JobLogError):
    """A key of a job log belongs to another request."""


class WaitTimeoutError(SeedreamError):
    """The task is still running after the timeout. It continues, and you can wait for it again.

    Attributes:
        task: The task, as it was last fetched.
    """

    def __init__(self, task: Task, seconds: float) -> None:
        super().__init__(
            f"task {task.task_id} is still running after {seconds:g} s; to continue, call wait() again or run: "
            f"seedbed task {task.task_id} --watch"
        )
        self.task = task

    @property
    def task_id(self) -> str:
        """ID of the task."""
        return self.task.task_id


class CallbackError(SeedreamError):
    """The receiver refused a callback."""


class SignatureMismatchError(CallbackError):
    """A callback is not signed with the signing key."""


class StaleCallbackError(CallbackError):
    """A callback was signed too long ago or in the future: it is a replay, or a clock is wrong."""


class InvalidCallbackError(CallbackError):
    """A callback does not have the form that the service documents."""


def submissions_of(error: BaseException | None) -> tuple[Submission, ...]:
    """Return what is known of the tasks whose creation or wait an exception ended.

    Cancellation, ``KeyboardInterrupt`` and the errors of your own hooks carry it, too. The exceptions of a group, and
    those that caused the exception or were handled when it was raised, are searched as well.

    Args:
        error: An exception that a client raised, or one that came of it.
    """
    found: list[Submission] = []
    seen, pending = set[int](), [error]
    while pending:
        each = pending.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        found += [submission for submission in each.__dict__.get(_ATTRIBUTE, ()) if submission not in found]
        pending += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        pending += [each.__cause__, each.__context__]
    return tuple(found)


class SubmissionTracker:
    """Follows the creation of a task. As a context manager, it adds what is known to any exception that leaves it.

    Args:
        model: Model that makes the image.
        task_id: ID of the task, if it exists already.
        on_change: Called with the submission at every change.
    """

    def __init__(
        self, model: str = "", task_id: str | None = None, on_change: Callable[[Submission], object] | None = None
    ) -> None:
        state = SubmissionState.CREATED if task_id else SubmissionState.NOT_CREATED
        self.current, self._on_change = Submission(state, task_id, model), on_change

    def sending(self, values: Mapping[str, Any]) -> None:
        """Note that the request is about to be sent. If the callback raises an exception, it is not sent."""
        doubtful = Submission(SubmissionState.IN_DOUBT, None, self.current.model, dict(values))
        if self._on_change:
            self._on_change(doubtful)
        self.current = doubtful

    def refused(self) -> None:
        """Note that no task was created."""
        self._change(SubmissionState.NOT_CREATED, None)

    def created(self, task_id: str) -> None:
        """Note the ID of the task."""
        self._change(SubmissionState.CREATED, task_id)

    def _change(self, state: SubmissionState, task_id: str | None) -> None:
        known = self.current
        self.current = Submission(state, task_id, known.model, known.input)
        if self._on_change and self.current != known:
            self._on_change(self.current)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, *__: object) -> None:
        if error is not None:
            self.attach_to(error)

    def attach_to(self, error: BaseException) -> None:
        """Add what is known of the task to an exception."""
        known = error.__dict__.get(_ATTRIBUTE, ())
        if self.current in known:
            return
        # Not by setattr: exceptions may be frozen, as those of trio are.
        error.__dict__[_ATTRIBUTE] = (*known, self.current)
        if not isinstance(error, SeedreamError):
            error.__dict__["task_id"] = self.current.task_id
        is_named = isinstance(error, SubmissionUnknownError) or (
            isinstance(error, SeedreamError) and str(self.current.task_id or "") in str(error)
        )
        if self.current.may_be_charged and not is_named:
            error.__dict__.setdefault("__notes__", []).append(self.current.describe())
        if self.current.model and self.current.may_be_charged and not isinstance(error, Exception):
            # Task groups and cancel scopes discard a cancellation, and with it what it carries.
            log.warning("%s ended the creation of a task. %s", type(error).__name__, self.current.describe())


log: Final = logging.getLogger("seedbed_client")
"""Reports a charge when no exception can carry it."""

_CLASSES: Final[dict[str, type[ApiError]]] = {
    "unauthorized": AuthenticationError,
    "insufficient_credits": InsufficientCreditsError,
    "not_found": NotFoundError,
    "validation_error": ValidationError,
    "rate_limited": RateLimitError,
    "service_unavailable": MaintenanceError,
    "server_error": ServerError,
    "generation_failed": GenerationFailedError,
    "feature_disabled": FeatureDisabledError,
}
"""Error class of each code, by the name of the code in contracts."""


def _class_of(name: str, description: str) -> type[ApiError]:
    """Return the error class of a code. A code that only a derived contract knows gets a new class."""
    title = "".join(part.title() for part in name.split("_")).removesuffix("Error") + "Error"
    return _CLASSES.get(name) or type(title, (ApiError,), {"__doc__": description})


@cache
def errors_of(contract: Contract) -> dict[int, type[ApiError]]:
    """Return the error class of each code that a contract documents, except for success."""
    success = code_of("success")
    return {code.number: _class_of(code.name, code.description) for code in contract.codes if code.number != success}


@cache
def code_of(name: str) -> int:
    """Return the number of a code, by its name in contracts, such as ``rate_limited``."""
    return seedbed_schemas.default_contract().code_named(name).number


def __getattr__(name: str) -> dict[int, type[ApiError]]:
    # Computed on access: reading the contract takes longer than importing the package.
    if name == "ERRORS":
        return errors_of(seedbed_schemas.default_contract())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
