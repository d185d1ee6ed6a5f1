"""Spaces: test runs side by side on one server, each with its own accounts, tasks, chances and journal."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from seedbed_mock.accounts import fingerprint, open_account, open_accounts
from seedbed_mock.journal import Journal, Room

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_mock.accounts import Account
    from seedbed_mock.settings import Settings

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

    def __init__(self, name: str, settings: Settings, room: Room) -> None:
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
        self._room = Room()
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
