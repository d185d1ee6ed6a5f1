"""What a run may spend, and what it has spent: nothing is sent that could cost more than was allowed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from seedbed_contract.exchange import Exchange

_ANY_NUMBER: Final = 10_000
"""How many tasks may be made where nothing is known that would bound them."""


class OutOfMoney(Exception):
    """A request could cost more than may be spent."""


@dataclass
class Budget:
    """Counts what tasks cost, and knows the balance as it was last told.

    Attributes:
        price: Credits that a task costs.
        most: Credits that may be spent, ``None`` where they cost nothing.
        made: How many tasks were made on purpose.
        wrongly_made: How many were made by requests that had to be refused.
        first: The balance at the start, ``None`` where it is not told.
        last: The balance as it was last told.
        told: The exchange that told it.
        is_used_up: Whether the target said that the balance does not cover a task.
    """

    price: Decimal
    most: Decimal | None = None
    made: int = 0
    wrongly_made: int = 0
    first: Decimal | None = None
    last: Decimal | None = None
    told: Exchange | None = None
    is_used_up: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def spent(self) -> Decimal:
        """Credits that were spent: what was seen to be gone, or what the tasks cost, whichever is more."""
        return max(self.gone, self.price * (self.made + self.wrongly_made))

    @property
    def gone(self) -> Decimal:
        """Credits that are gone, by the balance where it is told, else by what the tasks cost."""
        if self.first is None or self.last is None:
            return self.price * (self.made + self.wrongly_made)
        return self.first - self.last

    @property
    def is_free(self) -> bool:
        """Whether tasks cost nothing."""
        return self.most is None

    @property
    def room(self) -> int:
        """How many more tasks may be made, by what may be spent and by the balance."""
        bounds = [_ANY_NUMBER]
        if self.is_used_up:
            return 0
        if self.price and self.last is not None:
            bounds.append(int(max(self.last, Decimal(0)) / self.price))
        if self.price and self.most is not None:
            bounds.append(int(max(self.most - self.spent, Decimal(0)) / self.price))
        return min(bounds)

    def note(self, balance: Decimal, told: Exchange) -> None:
        """Note the balance."""
        self.first = balance if self.first is None else self.first
        self.last, self.told = balance, told

    def reserve(self) -> None:
        """Allow for one task that is about to be asked for.

        Raises:
            OutOfMoney: It may not be made.
        """
        dearest = max(self.price, self.gone / self.made) if self.made else self.price
        if self.most is not None and self.spent + dearest > self.most:
            raise OutOfMoney

    def reserve_for_refusal(self) -> None:
        """Allow for a request that has to be refused: one that is accepted after all costs a task.

        Where nothing may be spent, such requests are sent until the first of them was accepted.

        Raises:
            OutOfMoney: It may not be sent.
        """
        if self.spent:
            self.reserve()

    def count(self, *, wrongly: bool = False) -> None:
        """Note a task that was made, on purpose or by a request that had to be refused."""
        with self._lock:
            self.made += not wrongly
            self.wrongly_made += wrongly
