"""The store in memory, whose content is lost when the process ends.

No step of a call walks over tasks: what grows with them is a search in a sorted list, or is done once for each task.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from operator import attrgetter
from sys import getsizeof
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from seedbed_mock.settings import exact_credits, given_back
from seedbed_mock.stores.store import UNFINISHED_SHARE, NameTakenError, OverdrawnError, ends_soon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal

    from seedbed_mock.accounts import Account
    from seedbed_mock.tasks import Task


MOST_BYTES: Final = 128 * 1024 * 1024
"""Size of all tasks together. Usually ``keep`` is reached long before: a request has a kilobyte, but can have 1 MiB."""

_TASK_BYTES = 1000
_ATTEMPT_BYTES = 300

_DELETED_AT_ONCE = 8
"""Number of tasks that may be deleted for a new one, so that no call waits for the deletion of many."""

_STEPS_AT_ONCE = 16
"""Number of tasks that each step of that deletion may look at."""

_MOST_SEARCHED = 2000
"""Number of tasks among which a finished one is looked for before the oldest of all is deleted: some milliseconds."""

_BLOCK = 512
_SPARE_ENTRIES = 1000


# Without garbage collection: an entry is part of no cycle, and thousands of them would slow each collection down.
class _Entry(msgspec.Struct, gc=False):
    """A task in the store.

    Attributes:
        number: Its place in the order of creation.
        task: The task, ``None`` once it is deleted.
        size: Its size in bytes.
        is_passed: Whether the search for finished tasks has passed it, so that its end has to be noted.
    """

    number: int
    task: Task | None
    size: int
    is_passed: bool = False


_number_of = attrgetter("number")


class _Order:
    """Entries in the order of their creation, in blocks, so that each step costs the same however many there are."""

    def __init__(self) -> None:
        self._blocks: list[list[_Entry]] = []

    def append(self, entry: _Entry) -> None:
        """Add the newest entry."""
        if not self._blocks or len(self._blocks[-1]) >= _BLOCK:
            self._blocks.append([])
        self._blocks[-1].append(entry)

    def remove(self, entry: _Entry) -> None:
        """Remove an entry."""
        # Nearly always the oldest one.
        place = 0 if self._blocks[0][0] is entry else self._block_before(entry.number + 1)
        block = self._blocks[place]
        del block[0 if block[0] is entry else bisect_left(block, entry.number, key=_number_of)]
        if not block:
            del self._blocks[place]

    def oldest(self) -> _Entry:
        """Return the oldest entry."""
        return self._blocks[0][0]

    def newest_first(self, before: int | None = None) -> Iterator[_Entry]:
        """Yield the entries with smaller numbers, newest first; nothing may be added or removed meanwhile."""
        last = len(self._blocks) - 1 if before is None else self._block_before(before)
        for place in range(last, -1, -1):
            block = self._blocks[place]
            end = len(block) if before is None or place < last else bisect_left(block, before, key=_number_of)
            for index in range(end - 1, -1, -1):
                yield block[index]

    def _block_before(self, number: int) -> int:
        """Return the place of the last block that has a smaller number."""
        return bisect_right(self._blocks, number - 1, key=lambda block: block[0].number) - 1


class _Balance(msgspec.Struct):
    """What an account has.

    Attributes:
        amount: Its balance in credits.
        owed: A heap of the times of refunds with task IDs; an entry is checked when it is read.
        gone: Number of tasks in this heap that are deleted.
    """

    amount: Decimal
    owed: list[tuple[int, str]] = []
    gone: int = 0


class MemoryStore:
    """A store in memory; the oldest tasks that have ended are deleted.

    Its methods never suspend, so that each is atomic.

    Args:
        keep: Number of tasks that are kept at least, unless they are larger than ``MOST_BYTES``; there can be more if
            too few of them have ended.
    """

    is_shared = False

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._notes: dict[str, bytes] = {}
        self._last_number = 0
        self._clear()

    def _clear(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._order = _Order()
        self._spaces: defaultdict[str, _Order] = defaultdict(_Order)
        self._balances: defaultdict[str, dict[str, _Balance]] = defaultdict(dict)
        self._bytes = 0
        # A heap of times with task IDs. A change of a task leaves its old entry, so entries are checked when read.
        self._due_callbacks: list[tuple[int, str]] = []
        # The search for finished tasks looks at each task once in the order of creation. Those that it passes because
        # they are not finished wait in a heap for their end, and from then on in another one for their deletion.
        self._unseen: deque[_Entry] = deque()
        self._ending: list[tuple[int, int, _Entry]] = []
        self._finished: list[tuple[int, _Entry]] = []

    async def open(self) -> None:
        pass

    # Balances

    def _book(self, account: Account, now: int) -> _Balance:
        """Return what an account has, with all refunds that are due."""
        accounts = self._balances[account.space]
        book = accounts.get(account.name) or accounts.setdefault(account.name, _Balance(account.opening))
        while book.owed and book.owed[0][0] <= now:
            entry = self._entries.get(heapq.heappop(book.owed)[1])
            if entry and (task := entry.task) and task.owes_refund and task.has_ended(now):
                entry.task = replace(task, is_refunded=True)
                book.amount = given_back(book.amount, task.price)
        return book

    async def balance(self, account: Account, now: int) -> Decimal:
        return self._book(account, now).amount

    async def deposit(self, account: Account, amount: Decimal, now: int) -> Decimal:
        book = self._book(account, now)
        book.amount = exact_credits(book.amount + amount)
        return book.amount

    async def charge(self, account: Account, price: Decimal, now: int) -> None:
        self._charge(account, price, now)

    def _charge(self, account: Account, price: Decimal, now: int) -> None:
        book = self._book(account, now)
        if book.amount < price:
            raise OverdrawnError(book.amount)
        book.amount -= price

    async def forget(self, account: Account) -> None:
        self._balances[account.space].pop(account.name, None)

    # Tasks

    async def create(self, task: Task, account: Account) -> None:
        if task.task_id in self._entries:
            raise NameTakenError(task.task_id)
        # The steps that can raise come first, so that a failed call changes nothing.
        self._charge(account, task.price, task.created)
        self._last_number += 1
        entry = _Entry(self._last_number, task, size := _size_of(task))
        self._entries[task.task_id] = entry
        self._order.append(entry)
        self._spaces[task.space].append(entry)
        self._unseen.append(entry)
        self._bytes += size
        if task.callback or task.failure:
            self._schedule(task, None)
        if len(self._entries) > self._keep:
            self._delete_excess(task.created)
        while self._bytes > MOST_BYTES:
            self._delete_one(task.created)

    def _schedule(self, task: Task, previous: Task | None) -> None:
        """Note the times of a task that its previous version did not have."""
        due = task.callback.due if task.callback else None
        if due is not None and not (previous and previous.callback and previous.callback.due == due):
            heapq.heappush(self._due_callbacks, (due, task.task_id))
        refund = task.ends if task.failure and task.owes_refund else None
        if refund is not None and not (previous and previous.owes_refund and previous.ends == refund):
            # Without a balance, it was reset, or its account is gone.
            book = self._balances[task.space].get(task.account)
            heapq.heappush(book.owed if book else [], (refund, task.task_id))

    async def find(self, task_id: str) -> Task | None:
        entry = self._entries.get(task_id)
        return entry.task if entry else None

    async def page(self, space: str | None = None, *, before: int | None = None, limit: int) -> list[tuple[int, Task]]:
        order = self._order if space is None else self._spaces.get(space)
        found: list[tuple[int, Task]] = []
        for entry in order.newest_first(before) if order else ():
            if len(found) == limit:
                break
            if entry.task:
                found.append((entry.number, entry.task))
        return found

    async def change(self, task_id: str, change: Callable[[Task], Task]) -> Task | None:
        entry = self._entries.get(task_id)
        if entry is None or (task := entry.task) is None:
            return None
        changed = change(task)
        if changed is not task:
            self._replace(entry, changed)
        return changed

    def _replace(self, entry: _Entry, changed: Task) -> None:
        previous, size = entry.task, _size_of(changed)
        self._bytes += size - entry.size
        entry.task, entry.size = changed, size
        self._schedule(changed, previous)
        if entry.is_passed:
            self._note_end(entry, changed)
        self._sweep_if_due()

    async def count(self) -> int:
        return len(self._entries)

    async def newest(self) -> int:
        return max((entry.task.created for entry in self._entries.values() if entry.task), default=0)

    # Callbacks

    async def claim(self, now: int, until: int, *, limit: int) -> list[Task]:
        claimed: list[Task] = []
        while len(claimed) < limit and (due := self._next_due()) is not None and due <= now:
            entry = self._entries[heapq.heappop(self._due_callbacks)[1]]
            if (task := entry.task) and task.callback:
                claimed.append(replace(task, callback=task.callback.claimed(until)))
                self._replace(entry, claimed[-1])
        return claimed

    async def next_due(self) -> int | None:
        return self._next_due()

    def _next_due(self) -> int | None:
        while self._due_callbacks:
            due, task_id = self._due_callbacks[0]
            if self._is_due(due, task_id):
                return due
            heapq.heappop(self._due_callbacks)
        return None

    def _is_due(self, due: int, task_id: str) -> bool:
        entry = self._entries.get(task_id)
        task = entry.task if entry else None
        return task is not None and task.callback is not None and task.callback.due == due

    # Deletion

    def _delete_excess(self, now: int) -> None:
        for _ in range(min(len(self._entries) - self._keep, _DELETED_AT_ONCE)):
            if (entry := self._next_finished(now, _STEPS_AT_ONCE, waits=True)) is None:
                break
            self._delete(entry)
        if len(self._entries) > self._keep * UNFINISHED_SHARE:
            self._delete_one(now)

    def _delete_one(self, now: int) -> None:
        """Delete the oldest task that has ended, or the oldest of all if none of many has."""
        self._delete(self._next_finished(now, _MOST_SEARCHED, waits=False) or self._order.oldest())

    def _next_finished(self, now: int, steps: int, *, waits: bool) -> _Entry | None:
        """Return the oldest task that has ended and whose callback is done, ``None`` if there is none.

        Args:
            now: The time in Unix milliseconds.
            steps: How many tasks are looked at in each place, at most.
            waits: Whether tasks may be waited for that end soon.
        """
        for _ in range(min(len(self._ending), steps)):
            if self._ending[0][0] > now:
                break
            _, number, entry = heapq.heappop(self._ending)
            heapq.heappush(self._finished, (number, entry))
        for _ in range(min(len(self._finished), steps)):
            _, entry = heapq.heappop(self._finished)
            if _is_finished(entry.task, now):
                return entry
            if entry.task:
                self._note_end(entry, entry.task)
        return self._search(now, min(len(self._unseen), steps), waits=waits)

    def _search(self, now: int, steps: int, *, waits: bool) -> _Entry | None:
        """Return the first finished task among those that were not searched yet, ``None`` if there is none."""
        for _ in range(steps):
            entry = self._unseen[0]
            task = entry.task
            if task and not _is_finished(task, now):
                if waits and ends_soon(self._keep, task.ends, task.callback.due if task.callback else None, now):
                    return None
                entry.is_passed = True
                self._note_end(entry, task)
                task = None
            self._unseen.popleft()
            if task:
                return entry
        return None

    def _note_end(self, entry: _Entry, task: Task) -> None:
        if task.ends is not None and not (task.callback and task.callback.due is not None):
            heapq.heappush(self._ending, (task.ends, entry.number, entry))

    def _delete(self, entry: _Entry) -> None:
        task = entry.task
        assert task  # a deleted entry is in no order
        del self._entries[task.task_id]
        self._order.remove(entry)
        self._spaces[task.space].remove(entry)
        self._release(entry, task)

    def _release(self, entry: _Entry, task: Task) -> None:
        """Give back what a deleted task holds."""
        entry.task = None
        self._bytes -= entry.size
        book = self._balances[task.space].get(task.account) if task.failure else None
        if book and task.owes_refund and task.ends is not None:
            # A refund that is not booked yet would be lost with the task.
            book.amount = given_back(book.amount, task.price)
            book.gone += 1
            if book.gone > len(book.owed) // 2 + _SPARE_ENTRIES:
                book.owed = [each for each in book.owed if each[1] in self._entries]
                heapq.heapify(book.owed)
                book.gone = 0
        self._sweep_if_due()

    def _sweep_if_due(self) -> None:
        """Drop what is noted of deleted tasks, and what is noted twice, once that is more than half of the notes.

        Usually a note goes with its task, and nothing is ever dropped here: thousands at once would delay a call.
        """
        most = 2 * len(self._entries) + _SPARE_ENTRIES
        if max(len(self._due_callbacks), len(self._ending), len(self._finished), len(self._unseen)) > most:
            self._sweep()

    def _sweep(self) -> None:
        # At most one note of each kind stays for a task, so that the next sweep is far away.
        self._unseen = deque(entry for entry in self._unseen if entry.task)
        ending = {number: (end, number, entry) for end, number, entry in self._ending if _ends_at(entry, end)}
        self._ending = list(ending.values())
        self._finished = list({number: (number, entry) for number, entry in self._finished if entry.task}.values())
        self._due_callbacks = list({each for each in self._due_callbacks if self._is_due(*each)})
        heapq.heapify(self._ending)
        heapq.heapify(self._finished)
        heapq.heapify(self._due_callbacks)

    async def reset(self, space: str | None = None, account: str | None = None) -> None:
        if space is None:
            self._clear()
        elif account is not None:
            self._balances[space].pop(account, None)
            for entry in self._spaces.get(space, _Order()).newest_first():
                if entry.task and entry.task.account == account:
                    entry.task = replace(entry.task, is_written_off=True)
        else:
            self._balances.pop(space, None)
            for entry in self._spaces.pop(space, _Order()).newest_first():
                if task := entry.task:
                    del self._entries[task.task_id]
                    self._order.remove(entry)
                    self._release(entry, task)

    async def note(self, name: str, value: bytes | None = None) -> bytes | None:
        if value is not None:
            self._notes[name] = value
        return self._notes.get(name)

    async def note_once(self, name: str, value: bytes) -> bytes:
        return self._notes.setdefault(name, value)

    async def close(self) -> None:
        self._clear()

    def abandon(self) -> None:
        self._clear()


def _size_of(task: Task) -> int:
    # What a caller can make large: the request, which can be at most 1 MiB, and the URL in it.
    size = _TASK_BYTES + getsizeof(task.request)
    if callback := task.callback:
        size += getsizeof(callback.url) + _ATTEMPT_BYTES * len(callback.attempts)
    return size


def _ends_at(entry: _Entry, end: int) -> bool:
    return entry.task is not None and entry.task.ends == end


def _is_finished(task: Task | None, now: int) -> bool:
    return task is not None and task.has_ended(now) and not (task.callback and task.callback.due is not None)
