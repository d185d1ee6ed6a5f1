"""The store in memory, which ends with the process."""

from __future__ import annotations

import heapq
from collections import defaultdict
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING

from msgspec.structs import replace

from seedbed_mock.settings import exact_credits, given_back
from seedbed_mock.stores.store import SPARE_SHARE, UNFINISHED_SHARE, NameTakenError, OverdrawnError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from seedbed_mock.accounts import Account
    from seedbed_mock.tasks import Task


_Due = list[tuple[int, str]]
"""A heap of moments, each with the name of the task that it matters to; some of them no longer do."""


class MemoryStore:
    """Tasks in memory, the oldest that have ended making room.

    Args:
        keep: How many tasks are kept at least; more only where too few of them have ended.
    """

    is_shared = False

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._spare = keep // SPARE_SHARE
        self._uncounted = 0
        self._notes: dict[str, bytes] = {}
        self._clear()

    def _clear(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._balances: dict[tuple[str, str], Decimal] = {}
        self._callbacks: _Due = []
        self._owed: defaultdict[tuple[str, str], _Due] = defaultdict(list)

    def balance(self, account: Account, now: int) -> Decimal:
        owner = (account.space, account.name)
        balance = self._balances.get(owner, account.opening)
        if owed := self._owed.get(owner):
            while owed and owed[0][0] <= now:
                balance = given_back(balance, self._paid_back(heapq.heappop(owed)[1], now))
            self._balances[owner] = balance
        return balance

    def _paid_back(self, task_id: str, now: int) -> Decimal:
        task = self._tasks.get(task_id)
        if task is None or not task.owes_refund or not task.has_ended(now):
            return Decimal()
        self._tasks[task_id] = replace(task, is_refunded=True)
        return task.price

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
        self.charge(account, task.price, task.created)
        self._keep_task(task)
        if self._uncounted >= self._spare:
            self._make_room(task.created)
        self._uncounted = 0 if self._uncounted >= self._spare else self._uncounted + 1

    def _keep_task(self, task: Task, before: Task | None = None) -> None:
        self._tasks[task.task_id] = task
        if _is_new(_due, task, before):
            heapq.heappush(self._callbacks, (_due(task) or 0, task.task_id))
        if _is_new(_owed, task, before):
            heapq.heappush(self._owed[task.space, task.account], (task.ends or 0, task.task_id))

    def find(self, task_id: str) -> Task | None:
        return self._tasks.get(task_id)

    def tasks(self, space: str | None = None, *, limit: int) -> list[Task]:
        newest_first = reversed(self._tasks.values())
        return list(islice((task for task in newest_first if space in (None, task.space)), limit))

    def change(self, task_id: str, changed: Callable[[Task], Task]) -> Task | None:
        task = self._tasks.get(task_id)
        if task is None:
            return None
        after = changed(task)
        if after is not task:
            self._keep_task(after, task)
        return after

    def claim(self, now: int, until: int, *, limit: int) -> list[Task]:
        claimed: list[Task] = []
        while len(claimed) < limit and (due := self.next_due()) is not None and due <= now:
            task = self._tasks[heapq.heappop(self._callbacks)[1]]
            if task.callback:
                mine = replace(task, callback=task.callback.claimed(until))
                self._keep_task(mine, task)
                claimed.append(mine)
        return claimed

    def next_due(self) -> int | None:
        while self._callbacks and not self._is_due(*self._callbacks[0]):
            heapq.heappop(self._callbacks)
        return self._callbacks[0][0] if self._callbacks else None

    def _is_due(self, due: int, task_id: str) -> bool:
        task = self._tasks.get(task_id)
        return task is not None and _due(task) == due

    def newest(self) -> int:
        return max((task.created for task in self._tasks.values()), default=0)

    def reset(self, space: str | None = None, account: str | None = None) -> None:
        if space is None:
            self._clear()
        elif account is not None:
            self._balances.pop((space, account), None)
            self._write_off(space, account)
        else:
            for task in [task for task in self._tasks.values() if task.space == space]:
                self._forget(task)
            for owner in [owner for owner in {**self._balances, **self._owed} if owner[0] == space]:
                self._balances.pop(owner, None)
                self._owed.pop(owner, None)

    def _write_off(self, space: str, account: str) -> None:
        for task in self._tasks.values():
            if (task.space, task.account) == (space, account):
                self._tasks[task.task_id] = replace(task, is_written_off=True)

    def note(self, name: str, value: bytes | None = None) -> bytes | None:
        if value is not None:
            self._notes[name] = value
        return self._notes.get(name)

    def note_once(self, name: str, value: bytes) -> bytes:
        return self._notes.setdefault(name, value)

    def close(self) -> None:
        self._clear()

    def _make_room(self, now: int) -> None:
        excess = len(self._tasks) - self._keep
        spare = (task for task in self._tasks.values() if task.has_ended(now) and _due(task) is None)
        self._forget_all(islice(spare, max(excess, 0)))
        excess = len(self._tasks) - self._keep * UNFINISHED_SHARE
        self._forget_all(islice(self._tasks.values(), max(excess, 0)))

    def _forget_all(self, tasks: Iterable[Task]) -> None:
        for task in list(tasks):
            self._forget(task)

    def _forget(self, task: Task) -> None:
        if task.owes_refund and task.ends is not None:
            owner = (task.space, task.account)
            if owner in self._balances:
                self._balances[owner] = given_back(self._balances[owner], task.price)
        del self._tasks[task.task_id]


def _due(task: Task) -> int | None:
    """Return when its callback is due."""
    return task.callback.due if task.callback else None


def _owed(task: Task) -> int | None:
    """Return when its price is to be given back."""
    return task.ends if task.owes_refund else None


def _is_new(moment: Callable[[Task], int | None], task: Task, before: Task | None) -> bool:
    """Tell whether a task has a moment that it did not have before."""
    known = moment(task)
    return known is not None and (before is None or moment(before) != known)
