"""What every store can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from seedbed_mock.accounts import Account
    from seedbed_mock.tasks import Task


SPARE_SHARE = 16
"""A sixteenth more tasks than are to be kept may gather: to forget many at once costs far less than one at a time."""

UNFINISHED_SHARE = 10
"""Tasks that have not ended are forgotten, too, where there are so many times more than are to be kept."""


class OverdrawnError(Exception):
    """The balance does not cover the price.

    Args:
        balance: What the account has, in credits.
    """

    def __init__(self, balance: Decimal) -> None:
        super().__init__(f"{balance} credits")
        self.balance = balance


class NameTakenError(Exception):
    """There is a task of that name."""


class StoreError(ValueError):
    """The file of a store cannot be used; the message is one sentence that says why."""


class Store(Protocol):
    """Keeps tasks and balances; every method is done as a whole or not at all.

    Times are Unix milliseconds. A price that is owed is given back, by any method that looks at the balance, as soon as
    its task has ended; not so one that was paid from a balance before the account opened again.

    Attributes:
        is_shared: Whether others may change what is in it.
    """

    is_shared: bool

    def balance(self, account: Account, now: int) -> Decimal:
        """Return what an account has; one that was never heard of has its opening balance."""
        ...

    def deposit(self, account: Account, amount: Decimal, now: int) -> Decimal:
        """Add to a balance and return what it is then.

        Raises:
            SettingsError: No account can have so much.
        """
        ...

    def charge(self, account: Account, price: Decimal, now: int) -> None:
        """Take a price from a balance.

        Raises:
            OverdrawnError: The balance does not cover it; nothing was done.
        """
        ...

    def create(self, task: Task, account: Account) -> None:
        """Take the price of a new task from its account and keep the task.

        Raises:
            OverdrawnError: The balance does not cover it; nothing was done.
            NameTakenError: There is a task of that name; nothing was done.
        """
        ...

    def find(self, task_id: str) -> Task | None:
        """Return the task of that name."""
        ...

    def tasks(self, space: str | None = None, *, limit: int) -> list[Task]:
        """Return the newest tasks, of one space or of all, newest first."""
        ...

    def change(self, task_id: str, changed: Callable[[Task], Task]) -> Task | None:
        """Put what a function makes of a task in its place, and return it; ``None`` where there is no such task."""
        ...

    def claim(self, now: int, until: int, *, limit: int) -> list[Task]:
        """Return tasks whose callback is due, and put these off, so that nobody else takes them meanwhile."""
        ...

    def next_due(self) -> int | None:
        """Return when the next callback is due."""
        ...

    def newest(self) -> int:
        """Return when the newest task was made, 0 where there is none."""
        ...

    def reset(self, space: str | None = None, account: str | None = None) -> None:
        """Forget all of one space or of everything but notes; with an account, just its balance, which opens again."""
        ...

    def note(self, name: str, value: bytes | None = None) -> bytes | None:
        """Return a note of the server to itself, after writing it where there is something to write."""
        ...

    def note_once(self, name: str, value: bytes) -> bytes:
        """Return a note, which is written only where there is none of that name."""
        ...

    def close(self) -> None:
        """Let go of what it holds open."""
        ...
