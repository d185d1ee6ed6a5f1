"""The one clock of a server: the time of day, a faster one, or one that stands still until it is turned."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable


LARGEST_ADVANCE = 10 * 365 * 86_400
"""In seconds; what lasts longer is a mistake of the caller."""


class Clock(Protocol):
    """Tells the time to everything that depends on it, and can be turned forward."""

    speed: float
    """How many of its seconds pass in a real one, 0 where it stands still by itself."""

    def now(self) -> float:
        """Return the time in Unix seconds."""
        ...

    def advance(self, seconds: float) -> None:
        """Turn the time forward.

        Raises:
            ValueError: No clock of a server runs backwards.
        """
        ...

    def watch(self, turned: Callable[[float], None]) -> Callable[[], None]:
        """Have a function told by how many seconds the clock is turned, until the one that is returned is called."""
        ...


class Reading(msgspec.Struct, frozen=True):
    """What a clock showed, from which another can go on after the process has ended.

    Attributes:
        wall: When it was read, by the system's time, in Unix seconds.
        shown: What it showed, in Unix seconds.
        speed: How fast it ran.
    """

    wall: float
    shown: float
    speed: float

    def now(self) -> float:
        """Return what the clock would show by now, in Unix seconds."""
        return self.shown + max(time.time() - self.wall, 0) * self.speed


class RealClock:
    """The time of day at the start, moved on by a counter that no correction of the system's time turns back.

    Args:
        speed: How many of its seconds pass in a real one; 0 for a clock that stands still until it is turned.
        start: First time that it shows, in Unix seconds; the time of day where there is none.
    """

    def __init__(self, speed: float = 1, start: float | None = None) -> None:
        self.speed = speed
        self._begun = time.monotonic()
        # In whole milliseconds, as all that is written down, so that a clock that stands still shows what was written.
        self._shown = round(time.time() if start is None else start, 3)
        self._watchers: list[Callable[[float], None]] = []

    def now(self) -> float:
        """Return the time in Unix seconds."""
        return self._shown + (time.monotonic() - self._begun) * self.speed

    def advance(self, seconds: float) -> None:
        """Turn the time forward.

        Raises:
            ValueError: The seconds are negative, or more than ten years.
        """
        if not 0 <= seconds <= LARGEST_ADVANCE:
            raise ValueError(f"a clock moves forward only, by at most {LARGEST_ADVANCE} seconds, not by {seconds:g}")
        self._shown += seconds
        for turned in tuple(self._watchers):
            turned(seconds)

    def watch(self, turned: Callable[[float], None]) -> Callable[[], None]:
        """Have a function told by how many seconds the clock is turned, until the one that is returned is called."""
        self._watchers.append(turned)
        return lambda: self._watchers.remove(turned)

    def reading(self) -> Reading:
        """Return what it shows now, for another clock to go on from."""
        return Reading(time.time(), self.now(), self.speed)


class ManualClock(RealClock):
    """A clock that stands still until it is turned.

    Args:
        start: First time that it shows, in Unix seconds.
    """

    def __init__(self, start: float = 1_765_166_238.0) -> None:
        super().__init__(speed=0, start=start)
