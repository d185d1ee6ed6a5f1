"""When to fetch a task that is waited for, and when to repeat a request that failed."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, TypeVar

import httpx2
import msgspec

from seedbed_client import errors
from seedbed_client._actions import Pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

    from seedbed_client._actions import ClientOperation

T = TypeVar("T")

_INFINITY: Final = float("inf")
_MAX_SECONDS: Final = 10**9
_MAX_RETRIES: Final = 1000


def monotonic(read: Callable[[], float] = time.monotonic) -> float:
    """Return the seconds of a clock that never goes back, even in a test that freezes the time of the module."""
    # freezegun replaces the attributes of modules, but not a default: a frozen deadline would never pass.
    return read()


class PollingStep(msgspec.Struct, frozen=True):
    """A phase of a wait. Each pause is drawn at random, so that many clients do not fetch at the same time.

    Attributes:
        begins: Seconds of waiting after which the phase begins.
        least: Shortest pause between two fetches, in seconds.
        most: Longest pause between two fetches, in seconds.

    Raises:
        ConfigurationError: A number is invalid.
    """

    begins: float
    least: float
    most: float

    def __post_init__(self) -> None:
        errors.checked_number("begins", self.begins, 0, _MAX_SECONDS, unit="seconds")
        errors.checked_number("least", self.least, 0, _MAX_SECONDS, unit="seconds")
        errors.checked_number("most", self.most, self.least, _MAX_SECONDS, unit="seconds")


class PollingSchedule(msgspec.Struct, frozen=True):
    """When to fetch a task that is waited for.

    The defaults follow the documentation of the service: every 2 to 3 s at first, then every 5 to 10 s, then every 15
    to 30 s, for up to 15 minutes.

    Attributes:
        steps: Phases of the wait, in order; the first begins at 0.
        timeout: Seconds after which to stop waiting.
        grace: Seconds for which fetches may be refused, as those of new tasks are for a moment.

    Raises:
        ConfigurationError: A number is invalid, or the steps are not in order.
    """

    steps: tuple[PollingStep, ...] = (PollingStep(0, 2, 3), PollingStep(30, 5, 10), PollingStep(120, 15, 30))
    timeout: float = 900
    grace: float = 60

    def __post_init__(self) -> None:
        errors.checked_number("timeout", self.timeout, 0, _INFINITY, unit="seconds")
        errors.checked_number("grace", self.grace, 0, _INFINITY, unit="seconds")
        begins = [step.begins for step in self.steps]
        if not begins or begins[0] != 0 or begins != sorted(begins):
            raise errors.ConfigurationError(
                f"invalid steps that begin at {begins}; give steps in order, the first at 0"
            )

    def limit(self, timeout: float | None) -> float:
        """Return the seconds to wait in all: the timeout, or that of the schedule.

        Raises:
            ConfigurationError: The timeout is negative or not a number.
        """
        limit = self.timeout if timeout is None else timeout
        return errors.checked_number("timeout", limit, 0, _INFINITY, unit="seconds")

    def pause(self, elapsed: float, draw: Callable[[float, float], float] = random.uniform) -> float:
        """Return the seconds to pause before the next fetch.

        Args:
            elapsed: Seconds since the wait began.
            draw: Draws a number from a range.
        """
        step = [step for step in self.steps if step.begins <= elapsed][-1]
        return draw(step.least, step.most)

    def callback_pause(self, draw: Callable[[float, float], float] = random.uniform) -> float:
        """Return the seconds to wait for a callback before fetching the task, in case the callback was lost."""
        return draw(self.steps[-1].least, self.steps[-1].most)


DEFAULT_SCHEDULE: Final = PollingSchedule()

MAX_RETRIES: Final = 4

NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
"""Errors that occur before a request is sent, so that it cannot have had an effect."""

_PERMANENT: Final = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.TooManyRedirects)

_TEMPORARY_STATUSES: Final = frozenset({200, 403, 408, 429})
"""Statuses of invalid responses that may pass: a truncated body, or the page of a firewall or a proxy."""


def has_no_effect(error: BaseException) -> bool:
    """Return whether a request that ended with an error had no effect and may succeed later."""
    return isinstance(error, (*NEVER_SENT, errors.RateLimitError, errors.MaintenanceError))


def is_temporary(error: BaseException) -> bool:
    """Return whether a request that ended with an error may succeed later."""
    if isinstance(error, errors.ApiError):
        return has_no_effect(error) or error.code >= errors.code_of("server_error")
    if isinstance(error, errors.InvalidResponseError):
        return error.http_status >= errors.code_of("server_error") or error.http_status in _TEMPORARY_STATUSES
    return isinstance(error, httpx2.RequestError) and not isinstance(error, _PERMANENT)


class Retries(msgspec.Struct, frozen=True):
    """When to repeat a request that failed: after pauses that double each time, with a random part.

    Attributes:
        most: Largest number of repetitions.
        clock: Returns the time, in seconds.
        deadline: Time by the clock after which nothing is repeated.
        is_local: Whether the service runs on this machine.
        first: First pause, in seconds.
        first_throttled: First pause after a rate limit or during maintenance, in seconds.
        longest: Longest pause, in seconds.
        first_refused: First pause after a local service refused the connection, in seconds.
        longest_refused: Longest pause after a local service refused the connection, in seconds.

    Raises:
        ConfigurationError: The number of repetitions is invalid.
    """

    most: int
    clock: Callable[[], float]
    deadline: float = _INFINITY
    is_local: bool = False
    first: float = 0.5
    first_throttled: float = 2
    longest: float = 60
    first_refused: float = 0.05
    longest_refused: float = 0.5

    def __post_init__(self) -> None:
        errors.checked_number("max_retries", self.most, 0, _MAX_RETRIES, whole=True)

    def until(self, deadline: float) -> Retries:
        """Return the same with a deadline."""
        return msgspec.structs.replace(self, deadline=deadline)

    def run(
        self, start: Callable[[], ClientOperation[T]], may_retry: Callable[[BaseException], bool]
    ) -> ClientOperation[T]:
        """Run an operation, and run it again after an error that allows it.

        Args:
            start: Returns the operation.
            may_retry: Returns whether an error allows another attempt.
        """
        # Loaded with the first call: importing the client stays fast.
        from tenacity import Retrying, retry_if_exception  # see above

        # tenacity blocks when it sleeps. This collects the pause instead and leaves it to the runner.
        pauses: list[float] = []
        for attempt in Retrying(
            sleep=pauses.append, wait=self._wait, stop=self._stop, retry=retry_if_exception(may_retry), reraise=True
        ):
            while pauses:
                yield Pause(pauses.pop())
            with attempt:
                return (yield from start())
        raise AssertionError  # pragma: no cover (tenacity raises the last error)

    def _wait(self, state: RetryCallState) -> float:
        from tenacity import wait_exponential_jitter  # as above

        error = state.outcome.exception() if state.outcome else None
        first = (
            self.first_throttled if isinstance(error, errors.RateLimitError | errors.MaintenanceError) else self.first
        )
        longest = self.longest
        if self.is_local and isinstance(error, httpx2.ConnectError):
            # Nothing listens there: only a server that is just starting is worth a pause.
            first, longest = self.first_refused, self.longest_refused
        drawn = wait_exponential_jitter(multiplier=first, max=longest, jitter=first / 2)(state)
        return max(drawn, getattr(error, "retry_after", None) or 0)

    def _stop(self, state: RetryCallState) -> bool:
        is_too_late = self.clock() + state.upcoming_sleep >= self.deadline
        # A Retry-After far beyond the longest pause is reported to the caller rather than waited for.
        return state.attempt_number > self.most or state.upcoming_sleep > self.longest * 2 or is_too_late
