"""What can go wrong, as a tree.

* SeedreamError
  + ApiError: the service answered with a code other than success
    - AuthenticationError, InsufficientCreditsError, NotFoundError, ValidationError, RateLimitError, MaintenanceError,
      ServerError, FeatureDisabledError
    - GenerationFailedError: the task ended without a result
  + InvalidResponseError: something answered, but not in the form of the service
    - DownloadError: what is at the URL of a result is no whole image
  + SubmissionUnknownError: nobody can tell whether the task was made, and paid for
  + WaitTimeoutError: the task had not ended in time
  + CallbackError: a request to the receiver of callbacks is none of the service
    - SignatureMismatchError, Stale, InvalidCallbackError
  + ConfigurationError: the client cannot be made or used like this

Where nothing answered at all, the error is httpx2's own.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import seedbed_schemas

if TYPE_CHECKING:
    from typing import Self

    from seedbed_schemas import Contract

    from seedbed_client.models import Task

    ERRORS: dict[int, type[ApiError]]
    """The class of each documented code."""


class SeedreamError(Exception):
    """Any of the errors of this package; each can be copied, and sent to another process."""

    def __reduce__(self) -> tuple[object, ...]:
        # Python's own way would make it anew from its sentence alone.
        return _again, (type(self), self.args), self.__dict__


def _again(cls: type[SeedreamError], args: tuple[object, ...]) -> SeedreamError:
    return cls.__new__(cls, *args)


class ConfigurationError(SeedreamError, ValueError):
    """The client cannot be made or used like this."""


class ApiError(SeedreamError):
    """The service answered with a code other than success.

    Attributes:
        code: The code, from the body of the answer.
        message: The words that came with it.
        retry_after: Seconds for which the service asks to be left alone, where it says so.
    """

    def __init__(self, code: int, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retry_after = retry_after


class AuthenticationError(ApiError):
    """The key is missing or wrong."""


class InsufficientCreditsError(ApiError):
    """The balance does not cover the task."""


class NotFoundError(ApiError):
    """There is no such path or task."""


class ValidationError(ApiError):
    """A parameter breaks a rule of the contract."""


class RateLimitError(ApiError):
    """Too many calls in too short a time."""


class MaintenanceError(ApiError):
    """The service is down for maintenance."""


class ServerError(ApiError):
    """The service failed unexpectedly."""


class GenerationFailedError(ApiError):
    """The task could not be generated: it ended without a result, and cost nothing.

    Attributes:
        task: Its record; ``None`` where the service told so in place of one.
    """

    task: Task | None = None

    @classmethod
    def of(cls, task: Task) -> Self:
        """Return the error of a task that ended so."""
        error = cls(
            code_of("generation_failed"), f"{task.task_id} failed with {task.fail_code or 'no code'}: {task.fail_msg}"
        )
        error.task = task
        return error

    @property
    def fail_code(self) -> str:
        """Kind of failure, as the record has it."""
        return self.task.fail_code if self.task else ""

    @property
    def fail_msg(self) -> str:
        """Failure in words, as the record has it."""
        return self.task.fail_msg if self.task else self.message


class FeatureDisabledError(ApiError):
    """The feature is switched off for now."""


class InvalidResponseError(SeedreamError):
    """Something answered, but not in the form of the service: a proxy, perhaps.

    Attributes:
        http_status: HTTP status of the answer.
        retry_after: Seconds for which whoever answered asks to be left alone, where it says so.
    """

    def __init__(self, http_status: int, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(f"the answer (HTTP {http_status}) is not one of the service: {reason}")
        self.http_status = http_status
        self.retry_after = retry_after


class DownloadError(InvalidResponseError):
    """What is at the URL of a result is no whole image."""


class SubmissionUnknownError(SeedreamError):
    """Nobody can tell whether the task was made, and paid for: asking again might pay twice.

    The connection broke after the request was sent, or the answer tells neither yes nor no. Why is in ``__cause__``.
    """


class WaitTimeoutError(SeedreamError):
    """The task had not ended in time; it goes on all the same, and can be waited for again.

    Attributes:
        task: The task as it was seen last.
    """

    def __init__(self, task: Task, seconds: float) -> None:
        super().__init__(f"{task.task_id} had not ended after {seconds:g} seconds; it goes on, and can be waited for")
        self.task = task

    @property
    def task_id(self) -> str:
        """Name of the task."""
        return self.task.task_id


class CallbackError(SeedreamError):
    """A request to the receiver of callbacks is none of the service, or none to act on."""


class SignatureMismatchError(CallbackError):
    """A callback is not signed with the signing key."""


class StaleCallbackError(CallbackError):
    """A callback was signed too long ago, or in the future: a replay, or a clock that is wrong."""


class InvalidCallbackError(CallbackError):
    """A callback is not in the form of the service."""


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
"""The class of each code, by the name that contracts give the code."""


def _class_of(name: str, description: str) -> type[ApiError]:
    """Return the class of a code; a code that no class is written for gets a new one, named after it."""
    title = "".join(part.title() for part in name.split("_")).removesuffix("Error") + "Error"
    return _CLASSES.get(name) or type(title, (ApiError,), {"__doc__": description})


@cache
def errors_of(contract: Contract) -> dict[int, type[ApiError]]:
    """Return the class of each code that a contract documents, success aside."""
    success = code_of("success")
    return {code.number: _class_of(code.name, code.description) for code in contract.codes if code.number != success}


@cache
def code_of(name: str) -> int:
    """Return the code of that name, such as ``rate_limited``."""
    return seedbed_schemas.default_contract().code_named(name).number


def __getattr__(name: str) -> dict[int, type[ApiError]]:
    # Made when asked for: reading the contract takes longer than importing the package does.
    if name == "ERRORS":
        return errors_of(seedbed_schemas.default_contract())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
