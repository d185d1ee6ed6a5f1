"""The sliding window of a rate limit."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seedbed_mock.settings import Rate


class SlidingWindow:
    """Has room for ``rate.requests`` in any ``rate.seconds``."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._passed = deque[float]()

    def has_room(self, now: float) -> bool:
        """Tell whether one more fits at that time, in Unix seconds."""
        while self._passed and self._passed[0] <= now - self.rate.seconds:
            self._passed.popleft()
        return len(self._passed) < self.rate.requests

    def count(self, now: float) -> None:
        """Count one at that time, in Unix seconds."""
        self._passed.append(now)
