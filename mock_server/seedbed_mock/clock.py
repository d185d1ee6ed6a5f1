"""The one clock of a server: real, or turned by hand in tests."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time to everything that depends on it."""

    def now(self) -> float:
        """Return the time in Unix seconds."""
        ...


class RealClock:
    """The time of day at the start, moved on by a counter that no correction of the system's time turns back."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Return the time in Unix seconds."""
        return self._offset + time.monotonic()


class ManualClock:
    """A clock that stands still until it is advanced.

    Args:
        start: First time that it shows, in Unix seconds.
    """

    def __init__(self, start: float = 1_765_166_238.0) -> None:
        self._now = start

    def now(self) -> float:
        """Return the time in Unix seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the time on.

        Raises:
            ValueError: The seconds are negative: no clock of a server runs backwards.
        """
        if seconds < 0:
            raise ValueError(f"a clock moves forward only, not by {seconds} seconds")
        self._now += seconds
