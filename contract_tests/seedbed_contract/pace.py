"""The documented rates, kept by whoever must not exceed them."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Pace:
    """Lets so many calls pass in so many seconds.

    Args:
        calls: How many.
        seconds: In how many seconds.
        clock: Tells the time, in seconds.
        wait: Waits, given seconds.
    """

    def __init__(self, calls: int, seconds: float, clock: Callable[[], float], wait: Callable[[float], object]) -> None:
        self._calls, self._seconds = calls, seconds
        self._clock, self._wait = clock, wait
        self._passed: deque[float] = deque(maxlen=calls)
        self._lock = threading.Lock()

    def keep(self) -> None:
        """Wait until one more call may pass."""
        with self._lock:
            if len(self._passed) == self._calls:
                self._wait(max(self._passed[0] + self._seconds - self._clock(), 0.0))
            self._passed.append(self._clock())
