"""What limits a run: the budget of credits, the rate at which it may call, and the calls that count against a rate."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_contract.http import Exchange


_UNLIMITED_TASKS: Final = 10_000
"""Number of tasks that may be created if neither a price nor a balance limits them."""
_CALLS_KEPT: Final = 1000


class BudgetExceededError(Exception):
    """A request could cost more than the budget allows."""


@dataclass
class Budget:
    """Counts tasks and their cost, and remembers the balance of the account.

    Attributes:
        price: Credits that a task costs.
        limit: Credits that the run may spend; ``None`` if tasks cost nothing.
        created: Number of tasks that were created by valid requests.
        wrongly_created: Number of tasks that were created by requests that the target should have refused.
        first_balance: Balance at the start; ``None`` if the target does not report it.
        last_balance: Balance that was reported last.
        balance_exchange: Exchange that reported the last balance.
        is_exhausted: Whether the target refused a task because the balance does not cover it.
    """

    price: Decimal
    limit: Decimal | None = None
    created: int = 0
    wrongly_created: int = 0
    first_balance: Decimal | None = None
    last_balance: Decimal | None = None
    balance_exchange: Exchange | None = None
    is_exhausted: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_free(self) -> bool:
        """Whether tasks cost nothing."""
        return self.limit is None

    @property
    def tasks(self) -> int:
        """Number of tasks that were created, rightly or wrongly."""
        return self.created + self.wrongly_created

    @property
    def charged(self) -> Decimal:
        """Credits that the account lost, or the price of all tasks if the balance is unknown."""
        if self.first_balance is None or self.last_balance is None:
            return self.price * self.tasks
        return self.first_balance - self.last_balance

    @property
    def spent(self) -> Decimal:
        """Credits that the run has spent at most."""
        # A target may charge late, so the price of the tasks counts even while the balance has not changed.
        return max(self.charged, self.price * self.tasks)

    @property
    def remaining_tasks(self) -> int:
        """Number of tasks that the limit and the balance still allow."""
        if self.is_exhausted:
            return 0
        bounds = [_UNLIMITED_TASKS]
        if self.price and self.last_balance is not None:
            bounds.append(int(max(self.last_balance, Decimal(0)) / self.price))
        if self.price and self.limit is not None:
            bounds.append(int(max(self.limit - self.spent, Decimal(0)) / self.price))
        return min(bounds)

    def record_balance(self, balance: Decimal, exchange: Exchange) -> None:
        """Remember a balance and the exchange that reported it."""
        self.first_balance = balance if self.first_balance is None else self.first_balance
        self.last_balance, self.balance_exchange = balance, exchange

    def reserve(self) -> None:
        """Check that the budget covers one more task, before the task is requested.

        Raises:
            BudgetExceededError: The budget does not cover it.
        """
        # A target that charges more than the price is believed: its next task may cost as much.
        highest_price = max(self.price, self.charged / self.created) if self.created else self.price
        if self.limit is not None and self.spent + highest_price > self.limit:
            raise BudgetExceededError

    def reserve_for_refusal(self) -> None:
        """Check that the budget allows a request that the target should refuse.

        Such a request costs a task if the target accepts it. With a budget of zero, requests are sent until the
        target has accepted one.

        Raises:
            BudgetExceededError: The budget does not allow it.
        """
        if self.spent:
            self.reserve()

    def count(self, *, wrongly: bool = False) -> None:
        """Count a task, created by a valid request or ``wrongly`` by an invalid one."""
        with self._lock:
            self.created += not wrongly
            self.wrongly_created += wrongly


class Throttle:
    """Limits calls to a number per time window.

    Args:
        calls: Number of calls in a window.
        seconds: Length of the window in seconds.
        clock: Returns the current time in seconds.
        wait: Waits for a number of seconds.
    """

    def __init__(self, calls: int, seconds: float, clock: Callable[[], float], wait: Callable[[float], object]) -> None:
        self._calls, self._seconds = calls, seconds
        self._clock, self._wait = clock, wait
        self._recent: deque[float] = deque(maxlen=calls)
        self._lock = threading.Lock()

    def acquire(self) -> None:
        """Wait until one more call is allowed."""
        # The lock is held while waiting, so that concurrent callers queue up.
        with self._lock:
            if len(self._recent) == self._calls:
                self._wait(max(self._recent[0] + self._seconds - self._clock(), 0.0))
            self._recent.append(self._clock())


@dataclass(eq=False)
class CountedCall:
    """A call that a target may count against a rate.

    Attributes:
        ended: When its response had arrived, in seconds of the clock: infinite before, and minus infinite for a call
            that the target has refused for the rate, and so does not count.
    """

    ended: float = math.inf


class RateLog:
    """Remembers the latest calls, so that a refusal for the rate can be compared with them.

    A call counts from its start: a target may have counted it long before its response is read here.

    Args:
        clock: Returns the current time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._calls: deque[CountedCall] = deque(maxlen=_CALLS_KEPT)

    def begin(self) -> CountedCall:
        """Return a call that begins now; give it to :meth:`end` once there is a response."""
        call = CountedCall()
        self._calls.append(call)
        return call

    def end(self, call: CountedCall, *, is_refused: bool) -> None:
        """Note that a call has its response, and whether the target has refused it for the rate."""
        call.ended = -math.inf if is_refused else self.clock()

    def count_since(self, moment: float) -> int:
        """Return the number of calls that the target may have accepted after a moment of the clock."""
        return sum(call.ended > moment for call in list(self._calls))
