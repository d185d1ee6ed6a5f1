"""The file of a store in SQLite: whether it may be used, and the tables in it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from seedbed_mock.settings import exact_credits, given_back
from seedbed_mock.stores.store import SPARE_SHARE, UNFINISHED_SHARE, NameTakenError, OverdrawnError, StoreError
from seedbed_mock.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_mock.accounts import Account


_APPLICATION = int.from_bytes(b"Seed", "big")
"""What SQLite writes into the head of the file, so that it is known for one of ours."""

_VERSION = 2
"""Of the tables, which is in the head as well."""

_PATIENCE = 5.0
"""For how many seconds one server waits until another one on the same file has done its change."""

_PAUSE = 0.01
"""In seconds, between two attempts where SQLite does not wait by itself."""

_LOG_PAGES = 4000
"""How long the log grows before it is written back; that waits for the disk, and a long log waits less often."""

_CACHE_KIB = 16_000

# Rows are in the order in which they came about, by SQLite's own number of a row.
_TABLES = f"""
CREATE TABLE tasks (
    task_id TEXT PRIMARY KEY NOT NULL,
    space TEXT NOT NULL,
    account TEXT NOT NULL,
    created INTEGER NOT NULL,
    ends INTEGER,
    callback_due INTEGER,
    refund_due INTEGER,
    document TEXT NOT NULL
);
CREATE INDEX callbacks ON tasks (callback_due, task_id) WHERE callback_due IS NOT NULL;
CREATE INDEX refunds ON tasks (space, account, refund_due) WHERE refund_due IS NOT NULL;
CREATE TABLE balances (
    space TEXT NOT NULL,
    account TEXT NOT NULL,
    amount TEXT NOT NULL,
    PRIMARY KEY (space, account)
) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION}
"""


def open_database(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that is ours, which is made where there is none, or nothing in it.

    Raises:
        StoreError: The file cannot be used; nothing in it was changed.
    """
    # An absolute path is a file whatever its name, while ":memory:" alone would be none to SQLite.
    file = path.absolute()
    try:
        _check_place(file)
        if file.exists() and file.stat().st_size:
            _check_head(file)
            _check_pages(file)
        return _opened(file)
    except OSError as error:
        raise StoreError(f"The database {path} cannot be used: {error.strerror}.") from error
    except (sqlite3.Error, UnicodeError) as error:
        raise StoreError(f"The database {path} cannot be used: {error}.") from error


def _check_place(file: Path) -> None:
    if "\0" in str(file):
        raise StoreError("The name of a database has no NUL character in it.")
    if file.is_dir():
        raise StoreError(f"The database {file} is a directory; name a file, such as {file / 'seedbed.db'}.")
    if not file.parent.is_dir():
        raise StoreError(f"There is no directory {file.parent} for a database to be in; make it first.")
    if file.exists() and not file.is_file():
        raise StoreError(f"The database {file} is no regular file; name one, or a file that is not there yet.")


def _check_head(file: Path) -> None:
    # Not with open(): to close a file that this process has open elsewhere would end SQLite's locks on it.
    with closing(_read_only(file, is_complete=True)) as database:
        application, version = _number(database, "application_id"), _number(database, "user_version")
    if application != _APPLICATION:
        raise StoreError(f"The database {file} belongs to another program; name a file that is not there yet.")
    if version > _VERSION:
        raise StoreError(f"The database {file} was made by a newer Seedbed; update this one, or name another file.")


def _check_pages(file: Path) -> None:
    if _beside(file, "-journal").exists():
        return  # Somebody is making the tables, or was killed then; SQLite knows which, and what to do.
    wal = _beside(file, "-wal")
    is_complete = not (wal.exists() and wal.stat().st_size)
    with closing(_read_only(file, is_complete=is_complete)) as database:
        size = _number(database, "page_count") * _number(database, "page_size")
        is_sound = database.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
    # What is missing of the last page would be read as zeros.
    if not is_sound or (is_complete and file.stat().st_size < size):
        raise StoreError(f"The database {file} is damaged; name another file, or delete this one.")


def _read_only(file: Path, *, is_complete: bool) -> sqlite3.Connection:
    """Return a connection that changes nothing, and leaves nothing beside a file that has all of its pages in it."""
    more = "&immutable=1" if is_complete else ""
    return sqlite3.connect(f"{file.as_uri()}?mode=ro{more}", uri=True, timeout=_PATIENCE)


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _number(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _opened(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        _prepare(database)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection) -> None:
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    database.execute("BEGIN IMMEDIATE")
    with database:
        if not _number(database, "user_version"):
            for statement in _TABLES.split(";"):
                database.execute(statement)
    _log_ahead(database)
    database.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    # What a process has written is the system's to keep, even if it is killed; only a power cut could take the last
    # changes, and leaves the file sound. To wait for the disk at each change would cost most of the speed.
    database.execute("PRAGMA synchronous = NORMAL")


def _log_ahead(database: sqlite3.Connection) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Unlike any other statement, this one does not wait while somebody else is at the file.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(_PAUSE)
        else:
            return


_INSERT = """
INSERT INTO tasks (ends, callback_due, refund_due, document, task_id, space, account, created)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE = "UPDATE tasks SET ends = ?, callback_due = ?, refund_due = ?, document = ? WHERE task_id = ?"
_BALANCE = """
SELECT (SELECT amount FROM balances WHERE space = ?1 AND account = ?2),
    EXISTS (SELECT 1 FROM tasks WHERE space = ?1 AND account = ?2 AND refund_due <= ?3)
"""
_OWED = "SELECT document FROM tasks WHERE space = ? AND account = ? AND refund_due <= ?"
_OPEN_BALANCE = "INSERT INTO balances (amount, space, account) VALUES (?, ?, ?)"
_SET_BALANCE = "UPDATE balances SET amount = ? WHERE space = ? AND account = ?"
_OF_ACCOUNT = "SELECT document FROM tasks WHERE space = ? AND account = ?"
_DUE = "SELECT document FROM tasks WHERE callback_due <= ? ORDER BY callback_due, task_id LIMIT ?"
_OWING = "SELECT document FROM tasks WHERE refund_due IS NOT NULL"
_DELETE = "DELETE FROM tasks"
_OVER = "SELECT rowid FROM tasks WHERE ends <= ? AND callback_due IS NULL ORDER BY rowid LIMIT ?"
_OLDEST = "SELECT rowid FROM tasks ORDER BY rowid LIMIT ?"
_NEWEST = "SELECT document FROM tasks ORDER BY rowid DESC LIMIT ?"
_NEWEST_OF_SPACE = "SELECT document FROM tasks WHERE space = ? ORDER BY rowid DESC LIMIT ?"


class SqliteStore:
    """Tasks in an SQLite file, the oldest that have ended making room.

    Nothing of it is remembered in the process, since another one may change it at any time.

    Args:
        path: The file, which is made where there is none.
        keep: How many tasks are kept at least; more only where too few of them have ended.

    Raises:
        StoreError: The file cannot be used.
    """

    is_shared = True

    def __init__(self, path: Path | str, keep: int) -> None:
        self._keep = keep
        self._spare = keep // SPARE_SHARE
        self._uncounted = 0
        self._database = open_database(Path(path))

    def _change_all(self) -> sqlite3.Connection:
        """Return what a ``with`` statement makes one change of: all that is done in it, or nothing."""
        # To begin by reading would let another process write before this one does, by what is then no longer so.
        self._database.execute("BEGIN IMMEDIATE")
        return self._database

    def balance(self, account: Account, now: int) -> Decimal:
        balance, owed = self._balance(account, now)
        if not owed:
            return balance
        with self._change_all():
            balance = self._settled(account, now)
            self._set_balance(account, balance)
        return balance

    def _balance(self, account: Account, now: int) -> tuple[Decimal, bool]:
        """Return what an account has, and whether it is owed more."""
        amount, owed = self._database.execute(_BALANCE, (account.space, account.name, now)).fetchone()
        return account.opening if amount is None else Decimal(amount), bool(owed)

    def _settled(self, account: Account, now: int) -> Decimal:
        """Return what an account has with all that it was owed."""
        balance, owed = self._balance(account, now)
        for task in self._tasks(_OWED, account.space, account.name, now) if owed else ():
            self._update(replace(task, is_refunded=True))
            balance = given_back(balance, task.price)
        return balance

    def _set_balance(self, account: Account, amount: Decimal) -> None:
        values = (str(amount), account.space, account.name)
        if not self._database.execute(_SET_BALANCE, values).rowcount:
            self._database.execute(_OPEN_BALANCE, values)

    def deposit(self, account: Account, amount: Decimal, now: int) -> Decimal:
        with self._change_all():
            balance = exact_credits(self._settled(account, now) + amount)
            self._set_balance(account, balance)
        return balance

    def charge(self, account: Account, price: Decimal, now: int) -> None:
        with self._change_all():
            balance = self._settled(account, now)
            if balance < price:
                raise OverdrawnError(balance)
            self._set_balance(account, balance - price)

    def create(self, task: Task, account: Account) -> None:
        with self._change_all():
            balance = self._settled(account, task.created)
            self._insert(task)
            if balance < task.price:
                raise OverdrawnError(balance)
            self._set_balance(account, balance - task.price)
            if self._uncounted >= self._spare:
                self._make_room(task.created)
        self._uncounted = 0 if self._uncounted >= self._spare else self._uncounted + 1

    def _insert(self, task: Task) -> None:
        names = (task.task_id, task.space, task.account, task.created)
        try:
            self._database.execute(_INSERT, (*_changing(task), *names))
        except sqlite3.IntegrityError as error:
            raise NameTakenError(task.task_id) from error

    def _update(self, task: Task) -> None:
        self._database.execute(_UPDATE, (*_changing(task), task.task_id))

    def find(self, task_id: str) -> Task | None:
        return self._task("SELECT document FROM tasks WHERE task_id = ?", task_id)

    def tasks(self, space: str | None = None, *, limit: int) -> list[Task]:
        return self._tasks(_NEWEST, limit) if space is None else self._tasks(_NEWEST_OF_SPACE, space, limit)

    def change(self, task_id: str, changed: Callable[[Task], Task]) -> Task | None:
        with self._change_all():
            task = self.find(task_id)
            if task is None:
                return None
            after = changed(task)
            if after is not task:
                self._update(after)
        return after

    def claim(self, now: int, until: int, *, limit: int) -> list[Task]:
        due = self.next_due()
        if due is None or due > now:
            return []
        with self._change_all():
            waiting = self._tasks(_DUE, now, limit)
            claimed = [replace(task, callback=task.callback.claimed(until)) for task in waiting if task.callback]
            for task in claimed:
                self._update(task)
        return claimed

    def next_due(self) -> int | None:
        due: int | None = self._one("SELECT min(callback_due) FROM tasks WHERE callback_due IS NOT NULL")
        return due

    def newest(self) -> int:
        return int(self._one("SELECT max(created) FROM tasks") or 0)

    def reset(self, space: str | None = None, account: str | None = None) -> None:
        with self._change_all() as database:
            if space is None:
                database.execute(_DELETE)
                database.execute("DELETE FROM balances")
            elif account is not None:
                database.execute("DELETE FROM balances WHERE space = ? AND account = ?", (space, account))
                for task in self._tasks(_OF_ACCOUNT, space, account):
                    self._update(replace(task, is_written_off=True))
            else:
                database.execute(f"{_DELETE} WHERE space = ?", (space,))
                database.execute("DELETE FROM balances WHERE space = ?", (space,))

    def note(self, name: str, value: bytes | None = None) -> bytes | None:
        if value is not None:
            self._database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))
        noted: bytes | None = self._one("SELECT value FROM notes WHERE name = ?", name)
        return noted

    def note_once(self, name: str, value: bytes) -> bytes:
        self._database.execute("INSERT OR IGNORE INTO notes VALUES (?, ?)", (name, value))
        return self.note(name) or value

    def close(self) -> None:
        # SQLite writes the log back into the file when nobody else has it open.
        self._database.close()

    def _make_room(self, now: int) -> None:
        count = self._one("SELECT count(*) FROM tasks") or 0
        if (excess := count - self._keep) > 0:
            left = count - self._forget(_OVER, now, excess)
            self._forget(_OLDEST, max(left - self._keep * UNFINISHED_SHARE, 0))

    def _forget(self, which: str, *values: int) -> int:
        """Forget the tasks that a query tells, and return how many they were."""
        for task in self._tasks(f"{_OWING} AND rowid IN ({which})", *values):
            self._give_back(task)
        return self._database.execute(f"{_DELETE} WHERE rowid IN ({which})", values).rowcount

    def _give_back(self, task: Task) -> None:
        owner = (task.space, task.account)
        amount = self._one("SELECT amount FROM balances WHERE space = ? AND account = ?", *owner)
        if amount is not None:
            self._database.execute(_SET_BALANCE, (str(given_back(Decimal(amount), task.price)), *owner))

    def _tasks(self, query: str, *values: Any) -> list[Task]:
        return [_decode(document) for (document,) in self._database.execute(query, values)]

    def _task(self, query: str, name: str) -> Task | None:
        document = self._one(query, name)
        return None if document is None else _decode(document)

    def _one(self, query: str, *values: Any) -> Any:
        row = self._database.execute(query, values).fetchone()
        return row and row[0]


def _changing(task: Task) -> tuple[int | None, int | None, int | None, str]:
    """Return the columns of a task that may become others."""
    ends, due = task.ends, task.callback.due if task.callback else None
    return ends, due, ends if task.owes_refund else None, _encode(task).decode()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Task).decode
"""Fields that a newer Seedbed may write are passed over, and those that an older one did not are as by default."""
