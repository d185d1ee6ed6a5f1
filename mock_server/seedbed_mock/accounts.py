"""Accounts: who a key belongs to, what it may still spend, and how often it may ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from seedbed_mock.limits import SlidingWindow

if TYPE_CHECKING:
    from decimal import Decimal

    from seedbed_mock.settings import Settings


@dataclass(slots=True, eq=False)
class Account:
    """One account.

    Attributes:
        balance: Credits left.
        window: Limit on its new tasks, ``None`` for none.
    """

    balance: Decimal
    window: SlidingWindow | None


def open_accounts(settings: Settings) -> dict[str, Account]:
    """Return a fresh account for each key."""
    rate = settings.rate
    return {key: Account(settings.balance, SlidingWindow(rate) if rate else None) for key in settings.keys}
