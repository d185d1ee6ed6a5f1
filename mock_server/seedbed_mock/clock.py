"""The clock of a server: real time, faster or slower time, or time that stands still until it is advanced."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable


LARGEST_ADVANCE: Final = 10 * 365 * 86_400
"""Ten years, in seconds: more is a mistake of the caller, such as milliseconds for seconds."""


class Clock(Protocol):
    """The clock of a server.

    Attributes:
        speed: Seconds of the clock in one real second; 0 for a clock that stands still.
    """

    speed: float

    def now(self) -> float:
        """Return the time in Unix seconds."""
        ...

    def advance(self, seconds: float) -> None:
        """Advance the time.

        Raises:
            ValueError: The clock cannot advance by this number of seconds.
        """
        ...

    def watch(self, on_advance: Callable[[float], None]) -> Callable[[], None]:
        """Call a function with the seconds of every advance; return a function that ends this."""
        ...


class Reading(msgspec.Struct, frozen=True):
    """A reading of a clock, from which the clock of a later process continues.

    Attributes:
        wall: Time of the system at the reading, in Unix seconds.
        shown: Time of the clock at the reading, in Unix seconds.
        speed: Speed of the clock.
    """

    wall: float
    shown: float
    speed: float

    def now(self) -> float:
        """Return the time that the clock would show now, in Unix seconds."""
        return self.shown + max(time.time() - self.wall, 0) * self.speed


class RealClock:
    """A clock that runs by itself; changes of the system time do not affect it.

    Args:
        speed: Seconds of the clock in one real second; 0 for a clock that stands still.
        start: Time at the start, in Unix seconds; the system's time by default.
    """

    def __init__(self, speed: float = 1, start: float | None = None) -> None:
        self.speed = speed
        self._started = time.monotonic()
        # In whole milliseconds, like all stored times, so that a clock that stands still shows exactly these.
        self._shown = round(time.time() if start is None else start, 3)
        self._watchers: list[Callable[[float], None]] = []

    def now(self) -> float:
        """Return the time in Unix seconds."""
        return self._shown + (time.monotonic() - self._started) * self.speed

    def advance(self, seconds: float) -> None:
        """Advance the time.

        Raises:
            ValueError: The number of seconds is negative or above ``LARGEST_ADVANCE``.
        """
        if not 0 <= seconds <= LARGEST_ADVANCE:
            raise ValueError(f"a clock advances by 0 to {LARGEST_ADVANCE} seconds, not by {seconds:g}")
        self._shown += seconds
        # A copy, since a watcher may end its watch when it is called.
        for on_advance in tuple(self._watchers):
            on_advance(seconds)

    def watch(self, on_advance: Callable[[float], None]) -> Callable[[], None]:
        """Call a function with the seconds of every advance; return a function that ends this."""
        self._watchers.append(on_advance)
        return lambda: self._watchers.remove(on_advance)

    def reading(self) -> Reading:
        """Return the present reading."""
        return Reading(time.time(), self.now(), self.speed)


class ManualClock(RealClock):
    """A clock that stands still until it is advanced.

    Args:
        start: Time at the start, in Unix seconds.
    """

    def __init__(self, start: float = 1_765_166_238.0) -> None:
        super().__init__(speed=0, start=start)
