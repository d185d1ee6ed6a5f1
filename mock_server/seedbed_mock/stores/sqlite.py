"""The store in an SQLite file, which several servers can use at the same time.

Calls that change it run in a thread of their own. The event loop reads single rows by itself, which takes microseconds.
"""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from seedbed_mock.settings import exact_credits, given_back
from seedbed_mock.stores.group_commit import GroupCommit
from seedbed_mock.stores.sqlite_file import open_database, open_reader
from seedbed_mock.stores.store import LARGEST_NUMBER, UNFINISHED_SHARE, NameTakenError, OverdrawnError, ends_soon
from seedbed_mock.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_mock.accounts import Account


_LATEST: Final = 1000
"""Of how many tasks the newest is the one that was created last: the clocks of several servers can differ."""

_AT_ONCE: Final = 500
"""Number of tasks that are read together when all of an account are changed."""

_MOST_DELETED: Final = 64
"""How many tasks a transaction deletes more than it creates at most, when a file has more than are to be kept."""

_INSERT = """
INSERT INTO tasks (ends, callback_due, refund_due, document, task_id, space, account, created)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE = "UPDATE tasks SET ends = ?, callback_due = ?, refund_due = ?, document = ? WHERE task_id = ?"
_FIND = "SELECT document FROM tasks WHERE task_id = ?"
_BALANCE = """
SELECT (SELECT amount FROM balances WHERE space = owner.space AND account = owner.account),
    (SELECT min(refund_due) FROM tasks
     WHERE space = owner.space AND account = owner.account AND refund_due IS NOT NULL)
FROM (SELECT ? AS space, ? AS account) AS owner
"""
_DUE_REFUNDS = "SELECT document FROM tasks WHERE space = ? AND account = ? AND refund_due <= ?"
_SET_BALANCE = """
INSERT INTO balances (amount, space, account) VALUES (?, ?, ?)
ON CONFLICT (space, account) DO UPDATE SET amount = excluded.amount
"""
_DELETE_BALANCE = "DELETE FROM balances WHERE space = ? AND account = ?"
_TASKS_OF_ACCOUNT = """
SELECT rowid, document FROM tasks WHERE space = ? AND account = ? AND rowid > ? ORDER BY rowid LIMIT ?
"""
_DUE_CALLBACKS = "SELECT document FROM tasks WHERE callback_due <= ? ORDER BY callback_due, task_id LIMIT ?"
_NEXT_DUE = "SELECT min(callback_due) FROM tasks WHERE callback_due IS NOT NULL"
_NEWEST = "SELECT max(created) FROM (SELECT created FROM tasks ORDER BY rowid DESC LIMIT ?)"
_TOTALS = "SELECT tasks, searched FROM totals"
_SET_TOTALS = "UPDATE totals SET tasks = ?, searched = ?"
_MARK_ENDED = """
UPDATE tasks SET passed = 2 WHERE rowid IN (
    SELECT rowid FROM tasks WHERE passed = 1 AND callback_due IS NULL AND ends <= ? LIMIT ?
)
"""
_ENDED = "SELECT rowid, ends, callback_due FROM tasks WHERE passed = 2 ORDER BY rowid LIMIT ?"
_NOT_SEARCHED = "SELECT rowid, ends, callback_due FROM tasks WHERE rowid > ? ORDER BY rowid LIMIT ?"
_MARK_PASSED = "UPDATE tasks SET passed = 1 WHERE rowid = ?"
_OWING = """
SELECT document FROM tasks WHERE rowid IN (SELECT value FROM json_each(?)) AND refund_due IS NOT NULL
"""
_DELETE_CHOSEN = "DELETE FROM tasks WHERE rowid IN (SELECT value FROM json_each(?))"
_NOTE = "SELECT value FROM notes WHERE name = ?"
_OLDEST = "SELECT rowid FROM tasks ORDER BY rowid LIMIT ?"
_PAGE = "SELECT rowid, document FROM tasks WHERE rowid < ? ORDER BY rowid DESC LIMIT ?"
_PAGE_OF_SPACE = "SELECT rowid, document FROM tasks WHERE rowid < ? AND space = ? ORDER BY rowid DESC LIMIT ?"


class _Book(msgspec.Struct):
    """What an account has, in one transaction.

    Attributes:
        amount: Its balance in credits.
        refund_due: When its next refund is due, ``None`` if there is none.
        is_changed: Whether the balance is to be written.
    """

    amount: Decimal
    refund_due: int | None
    is_changed: bool = False


class SqliteStore:
    """A store in an SQLite file; the oldest tasks that have ended are deleted.

    Nothing is cached beyond a transaction, because another process can change the file at any time.

    Args:
        path: Path of the file, which is created if it does not exist.
        keep: Number of tasks that are kept at least; there can be more if too few of them have ended.

    Raises:
        StoreError: The file cannot be used.
    """

    is_shared = True

    def __init__(self, path: Path | str, keep: int) -> None:
        self._keep = keep
        self._path = Path(path)
        self._database = open_database(self._path)
        self._reader = open_reader(self._path)
        self._writer = GroupCommit(self._database, self._begin, self._finish)
        self._begin()

    async def open(self) -> None:
        self._writer.start()

    async def close(self) -> None:
        self._reader.close()
        await self._writer.close()

    def abandon(self) -> None:
        self._reader.close()
        self._writer.abandon()

    async def _read(self, query: str, *values: Any) -> Any:
        """Return the first row of a query that reads few rows, ``None`` without one."""
        try:
            return self._reader.execute(query, values).fetchone()
        except sqlite3.OperationalError:
            # It is locked as a whole, which is rare, so that reading it may take a while.
            return await self._writer.read(lambda: self._row(query, *values))

    # What the calls of one transaction have in common

    def _begin(self) -> None:
        self._books: dict[tuple[str, str], _Book] = {}
        self._totals: tuple[int, int] | None = None
        self._created, self._latest = 0, 0

    def _finish(self) -> None:
        if self._created:
            self._delete_excess()
        for owner, book in self._books.items():
            if book.is_changed:
                self._database.execute(_SET_BALANCE, (str(book.amount), *owner))
        if self._totals is not None:
            self._database.execute(_SET_TOTALS, self._totals)

    def _totals_now(self) -> tuple[int, int]:
        """Return the number of tasks, and the number of the last one that the search for finished ones has seen."""
        if self._totals is None:
            tasks, searched = self._row(_TOTALS)
            self._totals = tasks, searched
        return self._totals

    def _book(self, account: Account, now: int) -> _Book:
        """Return what an account has, with all refunds that are due."""
        owner = (account.space, account.name)
        book = self._books.get(owner)
        if book is None:
            amount, due = self._row(_BALANCE, *owner)
            book = self._books[owner] = _Book(account.opening if amount is None else Decimal(amount), due)
        if book.refund_due is not None and book.refund_due <= now:
            for task in self._tasks(_DUE_REFUNDS, *owner, now):
                self._update(replace(task, is_refunded=True))
                book.amount = given_back(book.amount, task.price)
            book.is_changed = True
            book.refund_due = self._row(_BALANCE, *owner)[1]
        return book

    # Balances

    async def balance(self, account: Account, now: int) -> Decimal:
        amount, due = await self._read(_BALANCE, account.space, account.name)
        if due is None or due > now:
            return account.opening if amount is None else Decimal(amount)
        return await self._writer.change(lambda: self._book(account, now).amount)

    async def deposit(self, account: Account, amount: Decimal, now: int) -> Decimal:
        def deposit() -> Decimal:
            book = self._book(account, now)
            book.amount, book.is_changed = exact_credits(book.amount + amount), True
            return book.amount

        return await self._writer.change(deposit)

    async def charge(self, account: Account, price: Decimal, now: int) -> None:
        def charge() -> None:
            book = self._book(account, now)
            if book.amount < price:
                raise OverdrawnError(book.amount)
            book.amount, book.is_changed = book.amount - price, True

        await self._writer.change(charge)

    async def forget(self, account: Account) -> None:
        def forget() -> None:
            self._books.pop((account.space, account.name), None)
            self._database.execute(_DELETE_BALANCE, (account.space, account.name))

        await self._writer.change(forget)

    # Tasks

    async def create(self, task: Task, account: Account) -> None:
        await self._writer.change(partial(self._create, task, account))

    def _create(self, task: Task, account: Account) -> None:
        book = self._book(account, task.created)
        if book.amount < task.price:
            # Nothing may be changed before an error.
            raise NameTakenError(task.task_id) if self._row(_FIND, task.task_id) else OverdrawnError(book.amount)
        values = (*_changing_columns(task), task.task_id, task.space, task.account, task.created)
        try:
            number = self._database.execute(_INSERT, values).lastrowid
        except sqlite3.IntegrityError as error:
            raise NameTakenError(task.task_id) from error
        assert number is not None  # of an insertion
        tasks, searched = self._totals_now()
        # After a reset, numbers begin anew.
        self._totals = tasks + 1, min(searched, number - 1)
        self._created, self._latest = self._created + 1, max(self._latest, task.created)
        book.amount, book.is_changed = book.amount - task.price, True
        self._note_refund(task)

    def _note_refund(self, task: Task) -> None:
        book = self._books.get((task.space, task.account))
        if book and task.owes_refund and task.ends is not None:
            book.refund_due = task.ends if book.refund_due is None else min(book.refund_due, task.ends)

    async def find(self, task_id: str) -> Task | None:
        row = await self._read(_FIND, task_id)
        return _decode(row[0]) if row else None

    async def page(self, space: str | None = None, *, before: int | None = None, limit: int) -> list[tuple[int, Task]]:
        end = LARGEST_NUMBER if before is None else before
        query, values = (_PAGE, (end, limit)) if space is None else (_PAGE_OF_SPACE, (end, space, limit))
        rows = await self._writer.read(lambda: self._database.execute(query, values).fetchall())
        return [(number, _decode(document)) for number, document in rows]

    async def change(self, task_id: str, change: Callable[[Task], Task]) -> Task | None:
        def change_task() -> Task | None:
            row = self._row(_FIND, task_id)
            if row is None:
                return None
            task = _decode(row[0])
            changed = change(task)
            if changed is not task:
                self._update(changed)
                self._note_refund(changed)
            return changed

        return await self._writer.change(change_task)

    def _update(self, task: Task) -> None:
        self._database.execute(_UPDATE, (*_changing_columns(task), task.task_id))

    async def claim(self, now: int, until: int, *, limit: int) -> list[Task]:
        # Usually nothing is due, and reading needs no transaction.
        due = await self.next_due()
        if due is None or due > now:
            return []

        def claim() -> list[Task]:
            waiting = self._tasks(_DUE_CALLBACKS, now, limit)
            claimed = [replace(task, callback=task.callback.claimed(until)) for task in waiting if task.callback]
            for task in claimed:
                self._update(task)
            return claimed

        return await self._writer.change(claim)

    async def next_due(self) -> int | None:
        due: int | None = (await self._read(_NEXT_DUE))[0]
        return due

    async def count(self) -> int:
        return int((await self._read(_TOTALS))[0])

    async def newest(self) -> int:
        return int((await self._read(_NEWEST, _LATEST))[0] or 0)

    async def reset(self, space: str | None = None, account: str | None = None) -> None:
        def reset() -> None:
            # What was collected in the transaction so far is written first, so that it is deleted, too.
            self._finish()
            self._begin()
            if space is not None and account is not None:
                self._database.execute(_DELETE_BALANCE, (space, account))
                last = 0
                while rows := self._database.execute(_TASKS_OF_ACCOUNT, (space, account, last, _AT_ONCE)).fetchall():
                    last = rows[-1][0]
                    for _, document in rows:
                        self._update(replace(_decode(document), is_written_off=True))
                return
            tasks, searched = self._totals_now()
            if space is None:
                deleted = self._database.execute("DELETE FROM tasks").rowcount
                self._database.execute("DELETE FROM balances")
            else:
                deleted = self._database.execute("DELETE FROM tasks WHERE space = ?", (space,)).rowcount
                self._database.execute("DELETE FROM balances WHERE space = ?", (space,))
            self._totals = tasks - deleted, searched

        await self._writer.change(reset)

    # Notes

    async def note(self, name: str, value: bytes | None = None) -> bytes | None:
        if value is not None:
            await self._writer.change(
                lambda: self._database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value)).rowcount
            )
        row = await self._read(_NOTE, name)
        return row[0] if row else None

    async def note_once(self, name: str, value: bytes) -> bytes:
        await self._writer.change(
            lambda: self._database.execute("INSERT OR IGNORE INTO notes VALUES (?, ?)", (name, value)).rowcount
        )
        noted = await self.note(name)
        return value if noted is None else noted

    # Deletion

    def _delete_excess(self) -> None:
        tasks, _ = self._totals_now()
        most = self._created + _MOST_DELETED
        if (excess := min(tasks - self._keep, most)) <= 0:
            return
        surplus = tasks - self._keep * UNFINISHED_SHARE
        self._delete(self._finished(self._latest, excess, waits=surplus <= 0))
        if (surplus := min(self._totals_now()[0] - self._keep * UNFINISHED_SHARE, most)) > 0:
            self._delete([number for (number,) in self._database.execute(_OLDEST, (surplus,))])

    def _finished(self, now: int, limit: int, *, waits: bool) -> list[int]:
        """Return the numbers of the oldest tasks that have ended and whose callbacks are done.

        Args:
            now: The time in Unix milliseconds.
            limit: Largest number of tasks.
            waits: Whether tasks may be waited for that end soon.
        """
        most = limit + _MOST_DELETED
        self._database.execute(_MARK_ENDED, (now, most))
        ended = self._database.execute(_ENDED, (most,)).fetchall()
        found, _ = self._sift(ended, now, limit, waits=False)
        if len(found) < limit:
            tasks, searched = self._totals_now()
            rows = self._database.execute(_NOT_SEARCHED, (searched, most)).fetchall()
            more, seen = self._sift(rows, now, limit - len(found), waits=waits)
            found += more
            self._totals = tasks, seen or searched
        return found

    def _sift(
        self, rows: list[tuple[int, int | None, int | None]], now: int, limit: int, *, waits: bool
    ) -> tuple[list[int], int]:
        """Return the numbers of tasks that are finished, up to a limit, and the last number; mark those before it."""
        found: list[int] = []
        last = 0
        for number, ends, callback_due in rows:
            if len(found) == limit:
                break
            if ends is not None and ends <= now and callback_due is None:
                found.append(number)
            elif waits and ends_soon(self._keep, ends, callback_due, now):
                break
            else:
                self._database.execute(_MARK_PASSED, (number,))
            last = number
        return found, last

    def _delete(self, numbers: list[int]) -> None:
        chosen = (str(numbers),)
        # A refund that is not booked yet would be lost with the task.
        for task in self._tasks(_OWING, *chosen):
            self._give_back(task)
        deleted = self._database.execute(_DELETE_CHOSEN, chosen).rowcount
        tasks, searched = self._totals_now()
        self._totals = tasks - deleted, searched

    def _give_back(self, task: Task) -> None:
        owner = (task.space, task.account)
        book = self._books.get(owner)
        if book is None or not book.is_changed:
            amount, due = self._row(_BALANCE, *owner)
            # Without a balance, it was reset, or its account is gone.
            if amount is None:
                return
            book = self._books[owner] = _Book(Decimal(amount), due)
        book.amount, book.is_changed = given_back(book.amount, task.price), True

    def _tasks(self, query: str, *values: Any) -> list[Task]:
        return [_decode(document) for (document,) in self._database.execute(query, values)]

    def _row(self, query: str, *values: Any) -> Any:
        return self._database.execute(query, values).fetchone()


def _changing_columns(task: Task) -> tuple[int | None, int | None, int | None, str]:
    """Return the values of the columns that a change of the task can affect."""
    ends, due = task.ends, task.callback.due if task.callback else None
    return ends, due, ends if task.owes_refund else None, _encode(task).decode()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Task).decode
"""Fields that only a newer version writes are ignored, and fields that an older version did not write get defaults."""
