"""The interface of all stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from seedbed_mock.accounts import Account
    from seedbed_mock.tasks import Task


UNFINISHED_SHARE = 10
"""Tasks that have not ended are deleted only if there are more than ten times ``keep``."""

PATIENT_KEEP: Final = 1000
"""From this ``keep`` on, the search for finished tasks waits for one that ends soon, since passing it costs more."""

PATIENCE_MILLISECONDS: Final = 10_000
"""What is soon. As long as a task is waited for, the finished ones after it are kept as well."""

LARGEST_NUMBER = 2**63 - 1
"""Largest number that a task can have."""


class OverdrawnError(Exception):
    """The balance does not cover the price.

    Args:
        balance: Balance of the account in credits.
    """

    def __init__(self, balance: Decimal) -> None:
        super().__init__(f"{balance} credits")
        self.balance = balance


class NameTakenError(Exception):
    """A task with this ID exists already."""


class RateExceededError(Exception):
    """The account has created too many tasks recently, as far as a store counts this itself."""


class StoreUnavailableError(Exception):
    """The store cannot be used at the moment; the message is one sentence that says why. Nothing was changed."""


class StoreError(ValueError):
    """The file of a store cannot be used; the message is one sentence that says why."""


def ends_soon(keep: int, ends: int | None, callback_due: int | None, now: int) -> bool:
    """Return whether the search for finished tasks waits for a task.

    Args:
        keep: Number of tasks that are kept at least.
        ends: When the task ends, ``None`` if that is not known.
        callback_due: When its callback is due, ``None`` if it has none that is.
        now: The time in Unix milliseconds.
    """
    last = now + PATIENCE_MILLISECONDS
    return keep >= PATIENT_KEEP and ends is not None and ends <= last and (callback_due is None or callback_due <= last)


class Store(Protocol):
    """A store of tasks and balances. Every method is atomic.

    The methods are awaited, so that a store can wait for a disk or for another machine without stopping the server. A
    method that has returned has happened for good, as far as the store keeps anything. One that is cancelled has
    happened as a whole or not at all, and what it takes for itself, as a claim does, is free again later.

    Times are Unix milliseconds. The price of a failed task is refunded by the first method that reads the balance after
    the end of the task, so that no background work is needed. A price that was paid before a reset of the balance is
    not refunded.

    Attributes:
        is_shared: Whether other processes can change the content.
    """

    is_shared: bool

    async def open(self) -> None:
        """Begin to use the store in the event loop that runs; it is called once, before all other methods.

        Raises:
            StoreError: The store cannot be used.
        """
        ...

    async def balance(self, account: Account, now: int) -> Decimal:
        """Return the balance of an account; a new account has its initial balance."""
        ...

    async def deposit(self, account: Account, amount: Decimal, now: int) -> Decimal:
        """Add an amount to a balance and return the new balance.

        Raises:
            SettingsError: The balance would exceed the limit of an account.
        """
        ...

    async def charge(self, account: Account, price: Decimal, now: int) -> None:
        """Subtract a price from a balance.

        Raises:
            OverdrawnError: The balance does not cover the price.
        """
        ...

    async def create(self, task: Task, account: Account) -> None:
        """Add a task and subtract its price from the balance of the account.

        Raises:
            OverdrawnError: The balance does not cover the price.
            NameTakenError: A task with this ID exists already.
        """
        ...

    async def find(self, task_id: str) -> Task | None:
        """Return the task with this ID, or ``None``."""
        ...

    async def page(self, space: str | None = None, *, before: int | None = None, limit: int) -> list[tuple[int, Task]]:
        """Return tasks of one space or of all with their numbers, newest first, without a walk over other tasks.

        Args:
            space: Name of the space.
            before: Number of a task; only older ones are returned.
            limit: Largest number of tasks.
        """
        ...

    async def change(self, task_id: str, change: Callable[[Task], Task]) -> Task | None:
        """Replace a task by the result of a function.

        Args:
            task_id: ID of the task.
            change: Returns the new task; if it raises, the task stays as it is. It depends on nothing but the task and
                has no effect of its own: a store calls it again if another server changes the task meanwhile, and may
                call it in another thread.

        Returns:
            The new task; ``None`` if there is no task with this ID.
        """
        ...

    async def claim(self, now: int, until: int, *, limit: int) -> list[Task]:
        """Return tasks whose callbacks are due, and set these due later, so that no other server claims them meanwhile.

        Args:
            now: Current time.
            until: Time at which the callbacks are due again if they are not delivered before.
            limit: Largest number of tasks.
        """
        ...

    async def next_due(self) -> int | None:
        """Return the time at which the next callback is due, ``None`` if there is none."""
        ...

    async def count(self) -> int:
        """Return the number of tasks in the store."""
        ...

    async def newest(self) -> int:
        """Return the creation time of the newest task, 0 if there is none."""
        ...

    async def reset(self, space: str | None = None, account: str | None = None) -> None:
        """Delete everything except notes.

        Args:
            space: Delete only the content of this space.
            account: Reset only the balance of this account of the space; its tasks stay.
        """
        ...

    async def forget(self, account: Account) -> None:
        """Delete the balance of an account; if the account is used again, it has its initial balance."""
        ...

    async def note(self, name: str, value: bytes | None = None) -> bytes | None:
        """Return a value that the server keeps for itself, after setting it if a value is given."""
        ...

    async def note_once(self, name: str, value: bytes) -> bytes:
        """Return a value that the server keeps for itself, after setting it if it has none."""
        ...

    async def close(self) -> None:
        """Release all resources, after what was begun is done. It can be called again."""
        ...

    def abandon(self) -> None:
        """Release all resources of a store that no event loop uses, such as that of a server that did not start."""
        ...
