"""What a run may spend: nothing is sent that could cost more than was allowed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from decimal import Decimal


class OutOfMoney(Exception):
    """A request could cost more than may be spent."""


@dataclass
class Budget:
    """Counts what tasks may have cost.

    Attributes:
        price: Credits that a task costs.
        most: Credits that may be spent, ``None`` where they cost nothing.
        made: How many tasks were made on purpose.
        wrongly_made: How many were made by requests that had to be refused.
        measured: Credits that the balance fell by, as far as it was seen.
    """

    price: Decimal
    most: Decimal | None = None
    made: int = 0
    wrongly_made: int = 0
    measured: Decimal = Decimal(0)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def spent(self) -> Decimal:
        """Credits that were spent: what was seen to be gone, or what the tasks cost, whichever is more."""
        return max(self.measured, self.price * (self.made + self.wrongly_made))

    @property
    def is_free(self) -> bool:
        """Whether tasks cost nothing."""
        return self.most is None

    def affords(self, tasks: int = 1) -> bool:
        """Tell whether so many more tasks may be made."""
        return self.most is None or self.spent + self.price * tasks <= self.most

    def reserve(self) -> None:
        """Allow for one task that is about to be asked for.

        Raises:
            OutOfMoney: It may not be made.
        """
        if not self.affords():
            raise OutOfMoney

    def reserve_for_refusal(self) -> None:
        """Allow for a request that has to be refused: one that is accepted after all costs a task.

        Where nothing may be spent, such requests are sent until the first of them was accepted.

        Raises:
            OutOfMoney: It may not be sent.
        """
        if self.spent and not self.affords():
            raise OutOfMoney

    def count_made(self) -> None:
        """Note a task that was made on purpose."""
        with self._lock:
            self.made += 1

    def count_wrongly_made(self) -> None:
        """Note a task that was made by a request that had to be refused."""
        with self._lock:
            self.wrongly_made += 1
