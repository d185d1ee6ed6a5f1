"""Accounts and spaces: each key has an account in each space, with its balance, its limits and a journal."""

from __future__ import annotations

import contextlib
import hashlib
import re
from bisect import bisect_left
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from itertools import chain
from random import Random
from typing import TYPE_CHECKING, Final

from seedbed_mock.journal import Journal, JournalBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from decimal import Decimal

    from seedbed_mock.journal import JournalEntry
    from seedbed_mock.options import ServerOptions
    from seedbed_mock.settings import KeySettings, Rate


DEFAULT_SPACE: Final = "default"
"""Name of the space of requests that name none."""

SPACE_NAME: Final = r"[A-Za-z0-9._-]{1,64}"
"""Pattern of a space's name."""

# Clients choose these names freely, so that without a bound they could fill the memory.
MOST_SPACES: Final = 1000
_MOST_IMPLICIT_ACCOUNTS = 100


class SlidingWindow:
    """The requests of an account that count towards a rate limit.

    Args:
        rate: The limit.
    """

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._length = round(rate.seconds * 1000)
        self._counted = deque[int]()

    def has_room(self, now: int) -> bool:
        """Return whether the limit allows one more request at this time, in Unix milliseconds."""
        while self._counted and self._counted[0] <= now - self._length:
            self._counted.popleft()
        return len(self._counted) < self.rate.requests

    def count(self, now: int) -> None:
        """Count a request at this time, in Unix milliseconds."""
        self._counted.append(now)

    def discount(self, now: int) -> None:
        """Count one request less at this time, in Unix milliseconds."""
        # It may be out of the window meanwhile.
        with contextlib.suppress(ValueError):
            self._counted.remove(now)


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """The account of one key in one space.

    Attributes:
        name: Fingerprint of the key; the key itself is not stored.
        space: Name of the space.
        opening: Initial balance in credits.
        creations: Limit on new tasks, ``None`` for no limit.
        queries: Limit on recordInfo requests, ``None`` for no limit.
        signing_key: Key that signs callbacks, empty for unsigned callbacks.
    """

    name: str
    space: str
    opening: Decimal
    creations: SlidingWindow | None
    queries: SlidingWindow | None
    signing_key: bytes

    # Without the signing key, since a traceback may show it.
    def __repr__(self) -> str:
        return f"Account({self.name}, {self.space})"

    @classmethod
    def open(cls, chosen: KeySettings, options: ServerOptions, space: str) -> Account:
        """Return the new account of a key in a space."""
        creation_limit = options.creation_limit if chosen.rate == "default" else chosen.rate
        return cls(
            name=fingerprint(chosen.key),
            space=space,
            opening=options.opening_balance if chosen.credits is None else chosen.credits,
            creations=SlidingWindow(creation_limit) if creation_limit else None,
            queries=SlidingWindow(options.poll_limit) if options.poll_limit else None,
            signing_key=chosen.signing_key.encode(),
        )


def fingerprint(key: str) -> str:
    """Return the public name of a key: long enough to distinguish keys, too short to recover one."""
    return "key-" + hashlib.sha256(key.encode()).hexdigest()[:12]


class Space:
    """A part of the server with its own accounts, tasks and journal, such as for one of several parallel tests.

    Args:
        name: Its name.
        number: Its place in the order in which the spaces came into being; 0 for the default one.
        options: Options of the server.
        budget: Size limit that the journals of all spaces share.
        on_closed: Called with an implicit account that gives way to newer ones.
        make_journal: Returns its journal.

    Attributes:
        accounts: The accounts by key.
        journal: The latest requests and callbacks.
        random: Source of random numbers.
    """

    def __init__(
        self,
        name: str,
        number: int,
        options: ServerOptions,
        budget: JournalBudget,
        *,
        on_closed: Callable[[Account], None],
        make_journal: Callable[[JournalBudget, str], Journal] = Journal,
    ) -> None:
        self.name = name
        self.number = number
        self.accounts = {each.key: Account.open(each, options, name) for each in options.accounts}
        self.journal = make_journal(budget, name)
        # One source for each space, so that parallel tests do not change what the others draw.
        self.random = Random(f"{options.seed}/{name}")  # noqa: S311 (reproducible on purpose)
        self._options = options
        self._on_closed = on_closed
        self._implicit: OrderedDict[str, Account] = OrderedDict()
        self._by_name = {account.name: account for account in self.accounts.values()}

    def implicit_account(self, key: str) -> Account:
        """Return the account of a key that was not configured; it has the options of the first configured key."""
        account = self._implicit.get(key)
        if account is None:
            first = Account.open(self._options.accounts[0], self._options, self.name)
            account = self._implicit[key] = replace(first, name=fingerprint(key))
            self._by_name[account.name] = account
            if len(self._implicit) > _MOST_IMPLICIT_ACCOUNTS:
                _, oldest = self._implicit.popitem(last=False)
                del self._by_name[oldest.name]
                self._on_closed(oldest)
        else:
            self._implicit.move_to_end(key)
        return account

    def account(self, name: str) -> Account | None:
        """Return the account with this fingerprint."""
        return self._by_name.get(name)


class Spaces:
    """All spaces. Beyond a bound, the least recently used one is deleted.

    Args:
        options: Options of the server.
        on_evicted: Called with the name of a space that is deleted.
        on_closed: Called with an implicit account that is deleted.
        make_journal: Returns the journal of a space, which is part of the budget.

    Attributes:
        budget: What the journals of all spaces share.
        default: The space of requests that name none.
    """

    def __init__(
        self,
        options: ServerOptions,
        on_evicted: Callable[[str], None],
        on_closed: Callable[[Account], None],
        make_journal: Callable[[JournalBudget, str], Journal] = Journal,
    ) -> None:
        self._make_journal = make_journal
        self._options = options
        self._on_evicted = on_evicted
        self._on_closed = on_closed
        self.budget = JournalBudget()
        self._named: OrderedDict[str, Space] = OrderedDict()
        # Numbers and spaces in the order in which they came into being: the order above changes with each use.
        self._last_number = 0
        self._numbers: list[int] = []
        self._numbered: dict[int, Space] = {}
        self.default = self._new_space(DEFAULT_SPACE, 0)

    def _new_space(self, name: str, number: int) -> Space:
        journal, on_closed = self._make_journal, self._on_closed
        return Space(name, number, self._options, self.budget, on_closed=on_closed, make_journal=journal)

    def named(self, name: str) -> Space:
        """Return the space of this name; a new one is created.

        Raises:
            ValueError: The name is invalid.
        """
        if name == DEFAULT_SPACE:
            return self.default
        if space := self._named.get(name):
            self._named.move_to_end(name)
            return space
        if not re.fullmatch(SPACE_NAME, name):
            raise ValueError("a space has 1 to 64 letters, digits, dots, hyphens and underscores")
        self._last_number = number = self._last_number + 1
        space = self._new_space(name, number)
        self._named[name] = self._numbered[number] = space
        self._numbers.append(number)
        if len(self._named) > MOST_SPACES:
            evicted = next(iter(self._named))
            self._remove(evicted)
            self._on_evicted(evicted)
        return space

    def _remove(self, name: str) -> None:
        removed = self._named.pop(name)
        removed.journal.clear()
        del self._numbered[removed.number]
        del self._numbers[bisect_left(self._numbers, removed.number)]

    def split(self, key: str) -> tuple[str | None, str]:
        """Split a key of the form ``SPACE:KEY``; return the name of the space, ``None`` without one, and the key."""
        name, colon, rest = key.partition(":")
        # A configured key may contain a colon itself.
        if colon and key not in self.default.accounts and rest in self.default.accounts:
            return name, rest
        return None, key

    def existing(self, name: str) -> Space:
        """Return the space of this name if there is one, otherwise the default one."""
        return self._named.get(name, self.default)

    def all(self) -> list[Space]:
        """Return all spaces, the default one first."""
        return [self.default, *self._named.values()]

    def journal(
        self, space: str | None = None, before: int | None = None
    ) -> Iterator[tuple[int, tuple[Journal, JournalEntry | None]]]:
        """Yield the entries of a space or of all with their numbers and journals, newest first.

        Args:
            space: Name of the space.
            before: Only entries with smaller numbers. Those from this number on cost nothing.
        """
        if space is None:
            return self.budget.newest_first(before)
        found = self.existing(space)
        return found.journal.newest_first(before) if found.name == space else iter(())

    def numbered_accounts(self, space: str | None = None, after: int = -1) -> Iterator[tuple[int, Account]]:
        """Yield the configured accounts of a space or of all, each with the number of its place in this order.

        Args:
            space: Name of the space.
            after: Only accounts with larger numbers. The others cost nothing.
        """
        in_space = len(self._options.accounts)
        number, place = divmod(after + 1, in_space)
        later: Iterable[Space] = (self._numbered[each] for each in self._numbers[bisect_left(self._numbers, number) :])
        if space is not None:
            later = [each for each in (self.existing(space),) if each.name == space and each.number >= number]
        elif not number:
            later = chain([self.default], later)
        for each in later:
            for index in range(place if each.number == number else 0, in_space):
                yield each.number * in_space + index, each.accounts[self._options.accounts[index].key]

    def reset(self, name: str | None = None) -> None:
        """Replace one space, or all, by new ones."""
        for each in [each for each in self._named if name in (None, each)]:
            self._remove(each)
        if name in (None, DEFAULT_SPACE):
            self.default.journal.clear()
            self.default = self._new_space(DEFAULT_SPACE, 0)
