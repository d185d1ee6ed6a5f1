"""The sliding window of a rate limit."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seedbed_mock.settings import Rate


class SlidingWindow:
    """Lets through at most ``rate.requests`` in any ``rate.seconds``; what it refuses does not count."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._passed = deque[float]()

    def admit(self, now: float) -> bool:
        """Tell whether a request at that time, in Unix seconds, is let through, and count it if so."""
        while self._passed and self._passed[0] <= now - self.rate.seconds:
            self._passed.popleft()
        if len(self._passed) >= self.rate.requests:
            return False
        self._passed.append(now)
        return True
