"""Accounts: who a key belongs to, how often it may ask, and with what its callbacks are signed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seedbed_mock.limits import SlidingWindow
from seedbed_mock.quantities import exact_credits

if TYPE_CHECKING:
    from decimal import Decimal

    from seedbed_mock.quantities import Rate
    from seedbed_mock.settings import KeySettings, Settings


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """One account, which belongs to one key in one space.

    Attributes:
        name: Fingerprint of its key; the key itself is kept nowhere.
        space: The space that it is in.
        opening: Balance that it starts with.
        creations: Limit on its new tasks, ``None`` for none.
        queries: Limit on its queries of recordInfo, ``None`` for none.
        signing_key: With what its callbacks are signed, empty where they are not.
    """

    name: str
    space: str
    opening: Decimal
    creations: SlidingWindow | None
    queries: SlidingWindow | None
    signing_key: bytes

    def __repr__(self) -> str:
        return f"Account({self.name}, {self.space})"


def fingerprint(key: str) -> str:
    """Return by what a key is called where people look: enough to tell keys apart, too little to use one."""
    return "key-" + hashlib.sha256(key.encode()).hexdigest()[:12]


def open_accounts(settings: Settings, space: str) -> dict[str, Account]:
    """Return a fresh account for each key."""
    return {each.key: open_account(each, settings, space) for each in settings.accounts}


def open_account(chosen: KeySettings, settings: Settings, space: str) -> Account:
    """Return the fresh account of one key."""
    return Account(
        name=fingerprint(chosen.key),
        space=space,
        opening=exact_credits(settings.credits) if chosen.credits is None else chosen.credits,
        creations=_window(settings.rate if chosen.rate == "default" else chosen.rate),
        queries=_window(settings.poll_rate),
        signing_key=chosen.signing_key.encode(),
    )


def _window(rate: Rate | None) -> SlidingWindow | None:
    return SlidingWindow(rate) if rate else None
