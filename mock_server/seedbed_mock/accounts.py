"""The sliding window of a rate limit."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from seedbed_mock.journal import Journal, JournalBudget
from seedbed_mock.settings import exact_credits

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from seedbed_mock.settings import KeySettings, Rate, Settings


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


DEFAULT_SPACE = "default"
"""Name of the space of those who name none."""

SPACE_NAME = r"[A-Za-z0-9._-]{1,64}"
"""Form of a space's name."""

_KEPT_SPACES = 1000
_KEPT_GUESTS = 100


class Space:
    """One space.

    Args:
        name: Its name.
        settings: Of the server.
        room: What its journal shares with those of the others.

    Attributes:
        accounts: The accounts by their keys.
        journal: What happened in it.
        chance: Decides what is drawn at random in it.
    """

    def __init__(self, name: str, settings: Settings, room: JournalBudget) -> None:
        self.name = name
        self.accounts = open_accounts(settings, name)
        self.journal = Journal(room)
        self._settings = settings
        self._guests: OrderedDict[str, Account] = OrderedDict()
        self.chance = Random(f"{settings.seed}/{name}")  # noqa: S311 (drawn again alike by the same seed, on purpose)

    def guest(self, key: str) -> Account:
        """Return the account of a key that nobody was told of, which opens and signs as that of the first key does."""
        account = self._guests.get(key)
        if account is None:
            like = open_account(self._settings.accounts[0], self._settings, self.name)
            account = self._guests[key] = replace(like, name=fingerprint(key))
            if len(self._guests) > _KEPT_GUESTS:
                self._guests.popitem(last=False)
        return account

    def all_accounts(self) -> list[Account]:
        """Return the accounts of the keys that were given, then those of guests."""
        return [*self.accounts.values(), *self._guests.values()]

    def account(self, name: str) -> Account | None:
        """Return the account of that fingerprint."""
        return next((account for account in self.all_accounts() if account.name == name), None)


class Spaces:
    """All spaces; beyond a bound, the one that was not used for longest makes room.

    Args:
        settings: Of the server.
        forgotten: Called with the name of a space that had to make room.
    """

    def __init__(self, settings: Settings, forgotten: Callable[[str], None]) -> None:
        self._settings = settings
        self._forgotten = forgotten
        self._room = JournalBudget()
        self.default = self._open(DEFAULT_SPACE)
        self._others: OrderedDict[str, Space] = OrderedDict()

    def _open(self, name: str) -> Space:
        return Space(name, self._settings, self._room)

    def named(self, name: str) -> Space:
        """Return the space of that name, which is made where it is new.

        Raises:
            ValueError: No space can have that name.
        """
        if name == DEFAULT_SPACE:
            return self.default
        if space := self._others.get(name):
            self._others.move_to_end(name)
            return space
        if not re.fullmatch(SPACE_NAME, name):
            raise ValueError("the name of a space is 1 to 64 letters, digits, dots, hyphens and underscores")
        space = self._others[name] = self._open(name)
        if len(self._others) > _KEPT_SPACES:
            forgotten, space_before = self._others.popitem(last=False)
            space_before.journal.clear()
            self._forgotten(forgotten)
        return space

    def split(self, key: str) -> tuple[str | None, str]:
        """Return the name of a space that stands before a colon in a key, and the rest; ``None`` where none does."""
        name, colon, rest = key.partition(":")
        if colon and key not in self.default.accounts and rest in self.default.accounts:
            return name, rest
        return None, key

    def all(self) -> list[Space]:
        """Return all spaces that are known."""
        return [self.default, *self._others.values()]

    def reset(self, name: str | None = None) -> None:
        """Begin one space afresh, or all."""
        for space in [space for space in self.all() if name in (None, space.name)]:
            space.journal.clear()
            self._others.pop(space.name, None)
        if name in (None, DEFAULT_SPACE):
            self.default = self._open(DEFAULT_SPACE)
