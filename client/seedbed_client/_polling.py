"""How often one looks at a task, and for how long."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, TypeVar

import httpx2
import msgspec

from seedbed_client._flow import Pause
from seedbed_client.errors import (
    ApiError,
    ConfigurationError,
    InvalidResponseError,
    MaintenanceError,
    RateLimitError,
    code_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenacity import RetryCallState

    from seedbed_client._flow import ClientOperation


class PollingStep(msgspec.Struct, frozen=True):
    """A part of a wait.

    Attributes:
        begins: After how many seconds of waiting it begins.
        least: Fewest seconds between two looks.
        most: Most seconds between two looks; drawn from between, so that many who wait do not look all at once.
    """

    begins: float
    least: float
    most: float


class PollingSchedule(msgspec.Struct, frozen=True):
    """How often one looks at a task, by default as the service advises: 2 to 3 s, then 5 to 10, then 15 to 30.

    Attributes:
        steps: The parts of a wait, in order; the first begins at 0.
        timeout: Seconds after which a task is given up, which the service's advice puts at 15 minutes.
        grace: Seconds for which a task may be unknown to the service, as new ones are for a moment.
    """

    steps: tuple[PollingStep, ...] = (PollingStep(0, 2, 3), PollingStep(30, 5, 10), PollingStep(120, 15, 30))
    timeout: float = 900
    grace: float = 60

    def patience(self, timeout: float | None) -> float:
        """Return after how many seconds to give up where that many are asked for.

        Raises:
            ConfigurationError: It is no time.
        """
        patience = self.timeout if timeout is None else timeout
        if not patience >= 0:
            raise ConfigurationError(f"The time to wait for a task is 0 seconds or more, not {patience}.")
        return patience

    def pause(self, elapsed: float, draw: Callable[[float, float], float] = random.uniform) -> float:
        """Return how long to wait before the next look, in seconds, after so many seconds of waiting."""
        step = [step for step in self.steps if step.begins <= elapsed][-1]
        return draw(step.least, step.most)

    def patient_pause(self, draw: Callable[[float, float], float] = random.uniform) -> float:
        """Return how long to wait for a callback before looking whether it was lost, in seconds."""
        return draw(self.steps[-1].least, self.steps[-1].most)


DEFAULT_SCHEDULE: Final = PollingSchedule()


T = TypeVar("T")

NEVER_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
"""What happens before a request is on its way, so that it cannot have had an effect."""

MAX_RETRIES: Final = 4

_NOT_TO_BE_MENDED: Final = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.TooManyRedirects)


def has_no_effect(error: BaseException) -> bool:
    """Tell whether a call that ended so was certainly not carried out, and may be carried out later."""
    return isinstance(error, (*NEVER_SENT, RateLimitError, MaintenanceError))


def passes(error: BaseException) -> bool:
    """Tell whether what a call ended with may go away by itself."""
    if isinstance(error, ApiError):
        return has_no_effect(error) or error.code >= code_of("server_error")
    if isinstance(error, InvalidResponseError):
        return error.http_status >= code_of("server_error") or error.http_status in _STATUS_THAT_LIES
    return isinstance(error, httpx2.RequestError) and not isinstance(error, _NOT_TO_BE_MENDED)


_STATUS_THAT_LIES: Final = frozenset({200, 403, 408, 429})
"""HTTP statuses of answers that are none of the service and yet pass: half an answer, a guard at the door."""


class Retries(msgspec.Struct, frozen=True):
    """How often a call is made again, and after how long: twice as long each time, with a random part.

    Attributes:
        most: How often at most.
        first: Seconds before the first time.
        first_refused: Seconds before the first time after the service asked for fewer calls, or is being maintained.
        longest: Most seconds between two times; a ``Retry-After`` beyond it is not waited for.
        clock: What tells the time, in seconds.
        deadline: When to have ended, by that clock.
    """

    most: int
    clock: Callable[[], float]
    deadline: float = float("inf")
    first: float = 0.5
    first_refused: float = 2
    longest: float = 60

    def until(self, deadline: float) -> Retries:
        """Return the same with a time to have ended."""
        return Retries(self.most, self.clock, deadline, self.first, self.first_refused, self.longest)

    def run(self, make: Callable[[], ClientOperation[T]], again: Callable[[BaseException], bool]) -> ClientOperation[T]:
        """Run a flow, and run it again where it ends with an error that allows for that.

        Args:
            make: Returns the flow.
            again: Tells whether an error allows for it.
        """
        from tenacity import Retrying, retry_if_exception  # noqa: PLC0415 (not loaded with the package, which imports swiftly)

        pauses: list[float] = []
        for attempt in Retrying(
            sleep=pauses.append, wait=self._wait, stop=self._stop, retry=retry_if_exception(again), reraise=True
        ):
            while pauses:
                yield Pause(pauses.pop())
            with attempt:
                return (yield from make())
        raise AssertionError  # pragma: no cover (tenacity raises the last error)

    def _wait(self, state: RetryCallState) -> float:
        from tenacity import wait_exponential_jitter  # noqa: PLC0415 (as above)

        error = state.outcome.exception() if state.outcome else None
        first = self.first_refused if isinstance(error, RateLimitError | MaintenanceError) else self.first
        drawn = wait_exponential_jitter(multiplier=first, max=self.longest, jitter=first / 2)(state)
        return max(drawn, getattr(error, "retry_after", None) or 0)

    def _stop(self, state: RetryCallState) -> bool:
        is_too_late = self.clock() + state.upcoming_sleep >= self.deadline
        return state.attempt_number > self.most or state.upcoming_sleep > self.longest * 2 or is_too_late
