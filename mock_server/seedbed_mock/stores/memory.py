"""The store in memory, whose content is lost when the process ends."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING

from msgspec.structs import replace

from seedbed_mock.settings import exact_credits, given_back
from seedbed_mock.stores.store import SPARE_SHARE, UNFINISHED_SHARE, NameTakenError, OverdrawnError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from decimal import Decimal

    from seedbed_mock.accounts import Account
    from seedbed_mock.tasks import Task


_Schedule = list[tuple[int, str]]
"""A heap of times with task IDs. A change of a task leaves its old entry, so entries are checked when they are read."""


class MemoryStore:
    """A store in memory; the oldest tasks that have ended are deleted.

    Args:
        keep: Number of tasks that are kept at least; there can be more if too few of them have ended.
    """

    is_shared = False

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._deletion_interval = keep // SPARE_SHARE
        self._created_since_deletion = 0
        self._notes: dict[str, bytes] = {}
        self._clear()

    def _clear(self) -> None:
        self._tasks: dict[str, Task] = {}
        # Numbers and IDs of the tasks of each space, and of all tasks under None, in the order of their creation: a
        # dictionary cannot be read from the middle.
        self._order: defaultdict[str | None, list[tuple[int, str]]] = defaultdict(list)
        self._last_number = 0
        self._balances: dict[tuple[str, str], Decimal] = {}
        # Heaps, because a search among all tasks would slow down every call of a busy server.
        self._due_callbacks: _Schedule = []
        self._owed_refunds: defaultdict[tuple[str, str], _Schedule] = defaultdict(list)

    def balance(self, account: Account, now: int) -> Decimal:
        owner = (account.space, account.name)
        balance = self._balances.get(owner, account.opening)
        if owed := self._owed_refunds.get(owner):
            while owed and owed[0][0] <= now:
                task = self._tasks.get(heapq.heappop(owed)[1])
                if task and task.owes_refund and task.has_ended(now):
                    self._tasks[task.task_id] = replace(task, is_refunded=True)
                    balance = given_back(balance, task.price)
            self._balances[owner] = balance
        return balance

    def deposit(self, account: Account, amount: Decimal, now: int) -> Decimal:
        balance = exact_credits(self.balance(account, now) + amount)
        self._balances[account.space, account.name] = balance
        return balance

    def charge(self, account: Account, price: Decimal, now: int) -> None:
        balance = self.balance(account, now)
        if balance < price:
            raise OverdrawnError(balance)
        self._balances[account.space, account.name] = balance - price

    def create(self, task: Task, account: Account) -> None:
        if task.task_id in self._tasks:
            raise NameTakenError(task.task_id)
        # The steps that can raise come first, so that a failed call changes nothing.
        self.charge(account, task.price, task.created)
        self._put(task)
        self._last_number += 1
        for listed in (None, task.space):
            self._order[listed].append((self._last_number, task.task_id))
        if self._created_since_deletion >= self._deletion_interval:
            self._delete_excess(task.created)
        self._created_since_deletion = (
            0 if self._created_since_deletion >= self._deletion_interval else self._created_since_deletion + 1
        )

    def _put(self, task: Task, previous: Task | None = None) -> None:
        # A dictionary keeps the place of a replaced item, so that tasks stay in the order of their creation.
        self._tasks[task.task_id] = task
        if _has_new_time(_callback_due, task, previous):
            heapq.heappush(self._due_callbacks, (_callback_due(task) or 0, task.task_id))
        if _has_new_time(_refund_due, task, previous):
            heapq.heappush(self._owed_refunds[task.space, task.account], (_refund_due(task) or 0, task.task_id))

    def find(self, task_id: str) -> Task | None:
        return self._tasks.get(task_id)

    def page(self, space: str | None = None, *, before: int | None = None, limit: int) -> list[tuple[int, Task]]:
        order = self._order.get(space, [])
        end = len(order) if before is None else bisect_left(order, (before,))
        return [(number, self._tasks[task_id]) for number, task_id in reversed(order[max(end - limit, 0) : end])]

    def change(self, task_id: str, change: Callable[[Task], Task]) -> Task | None:
        task = self._tasks.get(task_id)
        if task is None:
            return None
        changed = change(task)
        if changed is not task:
            self._put(changed, task)
        return changed

    def claim(self, now: int, until: int, *, limit: int) -> list[Task]:
        claimed: list[Task] = []
        while len(claimed) < limit and (due := self.next_due()) is not None and due <= now:
            task = self._tasks[heapq.heappop(self._due_callbacks)[1]]
            if task.callback:
                claimed.append(replace(task, callback=task.callback.claimed(until)))
                self._put(claimed[-1], task)
        return claimed

    def next_due(self) -> int | None:
        while self._due_callbacks:
            due, task_id = self._due_callbacks[0]
            task = self._tasks.get(task_id)
            if task and _callback_due(task) == due:
                return due
            heapq.heappop(self._due_callbacks)
        return None

    def newest(self) -> int:
        return max((task.created for task in self._tasks.values()), default=0)

    def reset(self, space: str | None = None, account: str | None = None) -> None:
        if space is None:
            self._clear()
        elif account is not None:
            self._balances.pop((space, account), None)
            for task in self._tasks.values():
                if (task.space, task.account) == (space, account):
                    self._tasks[task.task_id] = replace(task, is_written_off=True)
        else:
            self._delete(task for task in self._tasks.values() if task.space == space)
            for owner in [owner for owner in {**self._balances, **self._owed_refunds} if owner[0] == space]:
                self._balances.pop(owner, None)
                self._owed_refunds.pop(owner, None)

    def forget(self, account: Account) -> None:
        self._balances.pop((account.space, account.name), None)
        self._owed_refunds.pop((account.space, account.name), None)

    def note(self, name: str, value: bytes | None = None) -> bytes | None:
        if value is not None:
            self._notes[name] = value
        return self._notes.get(name)

    def note_once(self, name: str, value: bytes) -> bytes:
        return self._notes.setdefault(name, value)

    def close(self) -> None:
        self._clear()

    def _delete_excess(self, now: int) -> None:
        excess = len(self._tasks) - self._keep
        finished = (task for task in self._tasks.values() if task.has_ended(now) and _callback_due(task) is None)
        self._delete(islice(finished, max(excess, 0)))
        excess = len(self._tasks) - self._keep * UNFINISHED_SHARE
        self._delete(islice(self._tasks.values(), max(excess, 0)))

    def _delete(self, tasks: Iterable[Task]) -> None:
        spaces = set[str | None]()
        for task in list(tasks):
            spaces |= {None, task.space}
            # A refund that is not booked yet would be lost with the task.
            owner = (task.space, task.account)
            if _refund_due(task) is not None and owner in self._balances:
                self._balances[owner] = given_back(self._balances[owner], task.price)
            del self._tasks[task.task_id]
        for space in spaces:
            kept = [each for each in self._order.pop(space) if each[1] in self._tasks]
            if kept:
                self._order[space] = kept


def _callback_due(task: Task) -> int | None:
    return task.callback.due if task.callback else None


def _refund_due(task: Task) -> int | None:
    return task.ends if task.owes_refund else None


def _has_new_time(time_of: Callable[[Task], int | None], task: Task, previous: Task | None) -> bool:
    """Return whether a task has a time that its previous version did not have."""
    time = time_of(task)
    return time is not None and (previous is None or time_of(previous) != time)
