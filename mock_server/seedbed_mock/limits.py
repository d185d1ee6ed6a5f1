"""The sliding window of a rate limit."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seedbed_mock.quantities import Rate


class SlidingWindow:
    """Has room for ``rate.requests`` in any ``rate.seconds``."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._length = round(rate.seconds * 1000)
        self._passed = deque[int]()

    def has_room(self, now: int) -> bool:
        """Tell whether one more fits at that time, in Unix milliseconds."""
        while self._passed and self._passed[0] <= now - self._length:
            self._passed.popleft()
        return len(self._passed) < self.rate.requests

    def count(self, now: int) -> None:
        """Count one at that time, in Unix milliseconds."""
        self._passed.append(now)
