"""What can go wrong, as a tree.

* SeedreamError
  + ApiError: the service answered with a code other than success
    - Unauthorized, InsufficientCredits, NotFound, ValidationError, RateLimited,
      ServiceUnavailable, ServerError, GenerationFailed, FeatureDisabled
  + UnreadableAnswer: something answered, but not in the form of the service
  + CreationUnknown: nobody can tell whether the task was made, and paid for
  + TaskFailed: the task ended without a result
  + WaitTimeout: the task had not ended in time
  + ConfigurationError: the client cannot be made like this

Where nothing answered at all, the error is httpx2's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from seedbed_schemas import default_contract

if TYPE_CHECKING:
    from seedbed_client.models import Task


class SeedreamError(Exception):
    """Any of the errors of this package."""


class ConfigurationError(SeedreamError, ValueError):
    """The client cannot be made like this."""


class ApiError(SeedreamError):
    """The service answered with a code other than success.

    Attributes:
        code: The code, from the body of the answer.
        message: The words that came with it.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Unauthorized(ApiError):
    """The key is missing or wrong."""


class InsufficientCredits(ApiError):
    """The balance does not cover the task."""


class NotFound(ApiError):
    """There is no such path or task."""


class ValidationError(ApiError):
    """A parameter breaks a rule of the contract."""


class RateLimited(ApiError):
    """Too many calls in too short a time."""


class ServiceUnavailable(ApiError):
    """The service is down for maintenance."""


class ServerError(ApiError):
    """The service failed unexpectedly."""


class GenerationFailed(ApiError):
    """The task could not be generated."""


class FeatureDisabled(ApiError):
    """The feature is switched off for now."""


class UnreadableAnswer(SeedreamError):
    """Something answered, but not in the form of the service: a proxy, perhaps.

    Attributes:
        http_status: HTTP status of the answer.
    """

    def __init__(self, http_status: int, reason: str) -> None:
        super().__init__(f"the answer (HTTP {http_status}) is not one of the service: {reason}")
        self.http_status = http_status


class CreationUnknown(SeedreamError):
    """The connection broke after the task was asked for: it may have been made, and cost credits."""


class TaskFailed(SeedreamError):
    """The task ended without a result.

    Attributes:
        task: Its record.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(f"{task.task_id} failed with {task.fail_code}: {task.fail_msg}")
        self.task = task


class WaitTimeout(SeedreamError):
    """The task had not ended in time; it goes on all the same.

    Attributes:
        task_id: Its name.
    """

    def __init__(self, task_id: str, seconds: float) -> None:
        super().__init__(f"{task_id} had not ended after {seconds:g} seconds")
        self.task_id = task_id


def _class_of(name: str, description: str) -> type[ApiError]:
    """Return the class that is named like the code; a code that the documentation has gained gets a new one."""
    title = "".join(part.title() for part in name.split("_"))
    drawn = {cls.__name__: cls for cls in ApiError.__subclasses__()}
    return drawn.get(title) or type(title, (ApiError,), {"__doc__": description})


_CODES = default_contract().codes

SUCCESS: Final = default_contract().code_named("success").number
"""The code of an answer to a call that did what it was asked to."""

ERRORS: Final = {code.number: _class_of(code.name, code.description) for code in _CODES if code.number != SUCCESS}
"""The class of each documented code."""
