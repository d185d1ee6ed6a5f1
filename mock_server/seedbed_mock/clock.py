"""The clock of a server: real time, faster or slower time, or time that stands still until it is advanced.

Tests replace the time of their process: freezegun and ``unittest.mock`` replace the functions of the module ``time``,
and time-machine changes what these do. The server reads the time by functions of its own, which no test replaces, so
that only :class:`FollowingClock` shows the time of the test.
"""

from __future__ import annotations

import sys
import time
from importlib.machinery import BuiltinImporter
from importlib.util import module_from_spec
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import ModuleType


LARGEST_ADVANCE: Final = 10 * 365 * 86_400
"""Ten years, in seconds: more is a mistake of the caller, such as milliseconds for seconds."""


_FOLLOW_SECONDS = 0.02
"""How often a clock looks whether a test has changed the time."""


def _load_time() -> ModuleType:
    # A second instance of the module: the functions of the first may be replaced already when this is imported.
    spec = BuiltinImporter.find_spec("time")
    if spec is None or spec.loader is None:
        return time
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_time = _load_time()


real_monotonic: Callable[[], float] = _time.monotonic
"""Return the seconds of a clock that never goes back, whatever a test has replaced."""


def real_time() -> float:
    """Return the time of the system in Unix seconds, whatever a test has replaced."""
    seconds: float = _time.time()
    # time-machine changes the functions in C, for all instances of the module, and hands the original out.
    travel = sys.modules.get("time_machine")
    if travel and travel.escape_hatch.is_travelling():
        try:
            seconds = travel.escape_hatch.time.time()
        except ValueError:
            # Another thread has ended the travel since, so that the functions are the original ones again.
            seconds = _time.time()
    return seconds


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
        return self.shown + max(real_time() - self.wall, 0) * self.speed


class RealClock:
    """A clock that runs by itself; changes of the system time do not affect it.

    Args:
        speed: Seconds of the clock in one real second; 0 for a clock that stands still.
        start: Time at the start, in Unix seconds; the system's time by default.
    """

    def __init__(self, speed: float = 1, start: float | None = None) -> None:
        self.speed = speed
        self._started = real_monotonic()
        # In whole milliseconds, like all stored times, so that a clock that stands still shows exactly these.
        self._shown = round(real_time() if start is None else start, 3)
        self._watchers: list[Callable[[float], None]] = []

    def now(self) -> float:
        """Return the time in Unix seconds."""
        return self._shown + (real_monotonic() - self._started) * self.speed

    def advance(self, seconds: float) -> None:
        """Advance the time.

        Raises:
            ValueError: The number of seconds is negative or above ``LARGEST_ADVANCE``.
        """
        self.check_advance(seconds)
        self._shown += seconds
        self._notify(seconds)

    def check_advance(self, seconds: float) -> None:
        """Check a number of seconds to advance by.

        Raises:
            ValueError: It is negative or above ``LARGEST_ADVANCE``.
        """
        if not 0 <= seconds <= LARGEST_ADVANCE:
            raise ValueError(f"a clock advances by 0 to {LARGEST_ADVANCE} seconds, not by {seconds:g}")

    def _notify(self, seconds: float) -> None:
        # A copy, since a watcher may end its watch when it is called.
        for on_advance in tuple(self._watchers):
            on_advance(seconds)

    def watch(self, on_advance: Callable[[float], None]) -> Callable[[], None]:
        """Call a function with the seconds of every advance; return a function that ends this."""
        self._watchers.append(on_advance)
        return lambda: self._watchers.remove(on_advance)

    def reading(self) -> Reading:
        """Return the present reading."""
        return Reading(real_time(), self.now(), self.speed)


class ContinuedClock(RealClock):
    """A clock that continues where the clock of an earlier process would be now, if that is later."""

    def continue_from(self, reading: Reading) -> None:
        """Show the time that a clock with this reading would show now, unless this one is ahead of it."""
        if (shown := reading.now()) > self.now():
            self._started, self._shown = real_monotonic(), round(shown, 3)


class SharedClock(RealClock):
    """The clock of a fleet, which runs on each server and shows the same time on all."""

    def follow(self, shown: float, at: float, speed: float) -> None:
        """Show the time of the fleet.

        Args:
            shown: The time of the fleet at a moment, in Unix seconds.
            at: This moment, in seconds of ``real_monotonic()``.
            speed: The speed of the fleet's clock.
        """
        before = self.now()
        self._shown, self._started, self.speed = round(shown, 3), at, speed
        if (jump := self.now() - before) > 0:
            self._notify(jump)


class ManualClock(RealClock):
    """A clock that stands still until it is advanced.

    Args:
        start: Time at the start, in Unix seconds.
    """

    def __init__(self, start: float = 1_765_166_238.0) -> None:
        super().__init__(speed=0, start=start)


_FRAMES_OF_FREEZEGUN = 6


def _time_of_test(frames: int = _FRAMES_OF_FREEZEGUN) -> float:
    # freezegun shows the real time if the last five frames include the module threading, at which the thread of a
    # server begins.
    return _time_of_test(frames - 1) if frames else float(time.time())


class FollowingClock(RealClock):
    """A clock that shows the time of the process as a test has set it, and what it was advanced by.

    It is meant for tests that freeze the time or travel in it: ``time.time()`` is what counts.
    """

    def __init__(self) -> None:
        super().__init__()
        self._advanced = 0.0
        self._seen = (self.now(), real_monotonic())
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """Return the time in Unix seconds."""
        return _time_of_test() + self._advanced

    def advance(self, seconds: float) -> None:
        """Advance the time.

        Raises:
            ValueError: The number of seconds is negative or above ``LARGEST_ADVANCE``.
        """
        self.check_advance(seconds)
        self._advanced += seconds
        self._notify(seconds)

    def start_following(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to tell those who watch the clock when a test sets the time forward."""
        shown, at = self.now(), real_monotonic()
        jump = (shown - self._seen[0]) - (at - self._seen[1])
        self._seen = (shown, at)
        self._timer = loop.call_later(_FOLLOW_SECONDS, self.start_following, loop)
        if jump > _FOLLOW_SECONDS:
            self._notify(jump)

    def stop_following(self) -> None:
        """End this."""
        if self._timer:
            self._timer.cancel()
