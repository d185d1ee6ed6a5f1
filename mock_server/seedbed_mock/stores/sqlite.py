"""The store in an SQLite file, which several servers can use at the same time.

A file is opened only if it is a sound database of Seedbed; any other file is left unchanged.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from seedbed_mock.clock import real_monotonic
from seedbed_mock.settings import exact_credits, given_back
from seedbed_mock.stores.store import (
    LARGEST_NUMBER,
    SPARE_SHARE,
    UNFINISHED_SHARE,
    NameTakenError,
    OverdrawnError,
    StoreError,
    StoreUnavailableError,
)
from seedbed_mock.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from seedbed_mock.accounts import Account


_APPLICATION = int.from_bytes(b"Seed", "big")
"""Application ID in the header of the file, by which files of Seedbed are recognised."""

_VERSION = 2
"""Version of the tables, which is in the header as well."""

_BUSY_TIMEOUT = 5.0
"""In seconds: how long a server waits for the transaction of another one on the same file."""

_SERVING_BUSY_MILLISECONDS = 200
"""How long one call waits for the transaction of another server, which takes some milliseconds."""

_RETRY_SECONDS = 0.01
"""Pause between two attempts of a statement for which SQLite itself does not wait."""

_LOG_PAGES = 4000
"""Length of the write-ahead log at which it is written back. That waits for the disk, so it should be rare."""

_CACHE_KIB = 16_000

# The rowid gives the order of creation, which pages and deletions use. Only what queries need is a column; the rest is
# in the document, so that a new field of a task needs no other table. Amounts are text, since SQLite would round
# decimals.
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

_SPACES = "CREATE INDEX IF NOT EXISTS spaces ON tasks (space)"
"""For the pages of one space. It is no part of the tables, since existing files need it as well."""


class _DatabaseUnavailableError(StoreUnavailableError, sqlite3.OperationalError):
    """The database is locked by another program, or cannot be written."""


class _Database(sqlite3.Connection):
    """A connection that does not block the server when another program locks the file or the disk is full."""

    _is_serving = False
    _waits = False

    def begin_service(self) -> None:
        """Wait only shortly for locks from now on, and raise ``StoreUnavailableError`` instead of SQLite's errors."""
        self._is_serving = True
        self._set_waiting(is_on=True)

    def _set_waiting(self, *, is_on: bool) -> None:
        if self._waits is not is_on:
            self._waits = is_on
            super().execute(f"PRAGMA busy_timeout = {_SERVING_BUSY_MILLISECONDS if is_on else 0}")

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement."""
        try:
            cursor = super().execute(sql, parameters)
        except sqlite3.OperationalError as error:
            if not self._is_serving:
                raise
            # The next calls do not wait: one after the other, they would stop the server together.
            self._set_waiting(is_on=False)
            raise _DatabaseUnavailableError(f"The database cannot be used now: {error}.") from error
        if self._is_serving and not self._waits:
            self._set_waiting(is_on=True)
        return cursor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> Literal[False]:
        try:
            return super().__exit__(kind, error, traceback)
        except sqlite3.OperationalError as failure:
            if not self._is_serving:
                raise
            raise _DatabaseUnavailableError(f"The database cannot be used now: {failure}.") from failure


def open_database(path: Path) -> sqlite3.Connection:
    """Return a connection to a database file of Seedbed, which is created if it is missing or empty.

    Args:
        path: Path of the file.

    Raises:
        StoreError: The file cannot be used; it is unchanged.
    """
    # SQLite gives names such as ":memory:" and "file:x" a special meaning, but no absolute path.
    file = path.absolute()
    try:
        _check_path(file)
        if file.exists() and file.stat().st_size:
            _check_stable_content(file)
        database = sqlite3.connect(
            file, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, factory=_Database
        )
        try:
            _prepare(database)
        except BaseException:
            database.close()
            raise
        else:
            database.begin_service()
            return database
    except OSError as error:
        raise StoreError(f"The database {path} cannot be used: {error.strerror}.") from error
    except (sqlite3.Error, UnicodeError) as error:
        raise StoreError(f"The database {path} cannot be used: {error}.") from error


def _check_path(file: Path) -> None:
    if "\0" in str(file):
        raise StoreError("The path of the database must not contain a NUL character.")
    if file.is_dir():
        raise StoreError(f"The database {file} is a directory; give a file, such as {file / 'seedbed.db'}.")
    if not file.parent.is_dir():
        raise StoreError(f"The directory {file.parent} of the database does not exist; create it first.")
    if file.exists() and not file.is_file():
        raise StoreError(f"The database {file} is not a regular file; give a regular or a new file.")


def _check_stable_content(file: Path) -> None:
    """Check a file, and again if another process changed it meanwhile.

    The check holds no lock, so it can see one half of the pages that a server which is creating the file has written.
    """
    end = real_monotonic() + _BUSY_TIMEOUT
    while True:
        before = _state_of(file)
        try:
            _check_content(file)
            break
        except sqlite3.DatabaseError:
            after = _state_of(file)
            is_being_written = after.has_journal or after != before
            if not is_being_written or real_monotonic() > end:
                raise
        time.sleep(_RETRY_SECONDS)


class _FileState(NamedTuple):
    size: int
    modified: int
    has_journal: bool


def _state_of(file: Path) -> _FileState:
    status = file.stat()
    return _FileState(status.st_size, status.st_mtime_ns, _beside(file, "-journal").exists())


def _check_content(file: Path) -> None:
    """Check that a file is a sound database of Seedbed."""
    # Not with open(): closing a file ends all POSIX locks of the process on it, those of SQLite included.
    with closing(_read_only(file, is_complete=True)) as database:
        application, version = _number(database, "application_id"), _number(database, "user_version")
    if application != _APPLICATION:
        raise StoreError(f"The database {file} belongs to another program; give a new file.")
    if version > _VERSION:
        raise StoreError(
            f"The database {file} was created by a newer version of Seedbed; update Seedbed or give another file."
        )
    if _beside(file, "-journal").exists():
        return  # Another server is creating the tables or was killed meanwhile; SQLite handles both cases.
    wal = _beside(file, "-wal")
    is_complete = not (wal.exists() and wal.stat().st_size)
    with closing(_read_only(file, is_complete=is_complete)) as database:
        size = _number(database, "page_count") * _number(database, "page_size")
        is_sound = database.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
    # SQLite reads the missing part of a truncated last page as zeros, so quick_check does not find it.
    if not is_sound or (is_complete and file.stat().st_size < size):
        raise StoreError(f"The database {file} is damaged; give another file or delete this one.")


def _read_only(file: Path, *, is_complete: bool) -> sqlite3.Connection:
    """Return a read-only connection.

    Args:
        file: Database file.
        is_complete: Whether the write-ahead log is empty, so that SQLite need not create files beside the database.
    """
    more = "&immutable=1" if is_complete else ""
    return sqlite3.connect(f"{file.as_uri()}?mode=ro{more}", uri=True, timeout=_BUSY_TIMEOUT)


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _number(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _prepare(database: sqlite3.Connection) -> None:
    """Create the tables if they are missing, and set what applies to this connection."""
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    database.execute("BEGIN IMMEDIATE")
    with database:
        if not _number(database, "user_version"):
            for statement in _TABLES.split(";"):
                database.execute(statement)
        database.execute(_SPACES)
    end = real_monotonic() + _BUSY_TIMEOUT
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # The busy timeout does not apply to this statement.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or real_monotonic() > end:
                raise
        time.sleep(_RETRY_SECONDS)
    database.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    # NORMAL does not wait for the disk at each change, which would cost most of the speed. Changes survive a killed
    # process; a power failure can lose the last ones but leaves the file sound.
    database.execute("PRAGMA synchronous = NORMAL")


_INSERT = """
INSERT INTO tasks (ends, callback_due, refund_due, document, task_id, space, account, created)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPDATE = "UPDATE tasks SET ends = ?, callback_due = ?, refund_due = ?, document = ? WHERE task_id = ?"
_BALANCE = """
SELECT (SELECT amount FROM balances WHERE space = ?1 AND account = ?2),
    EXISTS (SELECT 1 FROM tasks WHERE space = ?1 AND account = ?2 AND refund_due <= ?3)
"""
_DUE_REFUNDS = "SELECT document FROM tasks WHERE space = ? AND account = ? AND refund_due <= ?"
_INSERT_BALANCE = "INSERT INTO balances (amount, space, account) VALUES (?, ?, ?)"
_UPDATE_BALANCE = "UPDATE balances SET amount = ? WHERE space = ? AND account = ?"
_DELETE_BALANCE = "DELETE FROM balances WHERE space = ? AND account = ?"
_TASKS_OF_ACCOUNT = "SELECT document FROM tasks WHERE space = ? AND account = ?"
_DUE_CALLBACKS = "SELECT document FROM tasks WHERE callback_due <= ? ORDER BY callback_due, task_id LIMIT ?"
_REFUNDABLE = "SELECT document FROM tasks WHERE refund_due IS NOT NULL"
_DELETE = "DELETE FROM tasks"
_FINISHED = "SELECT rowid FROM tasks WHERE ends <= ? AND callback_due IS NULL ORDER BY rowid LIMIT ?"
_OLDEST = "SELECT rowid FROM tasks ORDER BY rowid LIMIT ?"
_PAGE = "SELECT rowid, document FROM tasks WHERE rowid < ? ORDER BY rowid DESC LIMIT ?"
_PAGE_OF_SPACE = "SELECT rowid, document FROM tasks WHERE rowid < ? AND space = ? ORDER BY rowid DESC LIMIT ?"


class SqliteStore:
    """A store in an SQLite file; the oldest tasks that have ended are deleted.

    Nothing is cached, because another process can change the file at any time.

    Args:
        path: Path of the file, which is created if it does not exist.
        keep: Number of tasks that are kept at least; there can be more if too few of them have ended.

    Raises:
        StoreError: The file cannot be used.
    """

    is_shared = True

    def __init__(self, path: Path | str, keep: int) -> None:
        self._keep = keep
        self._deletion_interval = keep // SPARE_SHARE
        self._created_since_deletion = 0
        self._database = open_database(Path(path))

    async def open(self) -> None:
        pass

    def _transaction(self) -> sqlite3.Connection:
        """Begin a transaction and return a context manager that ends it."""
        # IMMEDIATE takes the write lock before the first read, so that no other process writes in between.
        self._database.execute("BEGIN IMMEDIATE")
        return self._database

    async def balance(self, account: Account, now: int) -> Decimal:
        # Usually no refund is due, and reading needs no write lock.
        balance, is_owed_refunds = self._balance(account, now)
        if not is_owed_refunds:
            return balance
        with self._transaction():
            balance = self._balance_with_refunds(account, now)
            self._set_balance(account, balance)
        return balance

    def _balance(self, account: Account, now: int) -> tuple[Decimal, bool]:
        """Return the stored balance, and whether refunds are due."""
        amount, owed = self._database.execute(_BALANCE, (account.space, account.name, now)).fetchone()
        return account.opening if amount is None else Decimal(amount), bool(owed)

    def _balance_with_refunds(self, account: Account, now: int) -> Decimal:
        """Mark the tasks whose refund is due as refunded, and return the balance with these refunds."""
        balance, is_owed_refunds = self._balance(account, now)
        for task in self._tasks(_DUE_REFUNDS, account.space, account.name, now) if is_owed_refunds else ():
            self._update(replace(task, is_refunded=True))
            balance = given_back(balance, task.price)
        return balance

    def _set_balance(self, account: Account, amount: Decimal) -> None:
        values = (str(amount), account.space, account.name)
        if not self._database.execute(_UPDATE_BALANCE, values).rowcount:
            self._database.execute(_INSERT_BALANCE, values)

    async def deposit(self, account: Account, amount: Decimal, now: int) -> Decimal:
        with self._transaction():
            balance = exact_credits(self._balance_with_refunds(account, now) + amount)
            self._set_balance(account, balance)
        return balance

    async def charge(self, account: Account, price: Decimal, now: int) -> None:
        with self._transaction():
            balance = self._balance_with_refunds(account, now)
            if balance < price:
                raise OverdrawnError(balance)
            self._set_balance(account, balance - price)

    async def create(self, task: Task, account: Account) -> None:
        with self._transaction():
            balance = self._balance_with_refunds(account, task.created)
            try:
                self._database.execute(
                    _INSERT, (*_changing_columns(task), task.task_id, task.space, task.account, task.created)
                )
            except sqlite3.IntegrityError as error:
                raise NameTakenError(task.task_id) from error
            if balance < task.price:
                raise OverdrawnError(balance)
            self._set_balance(account, balance - task.price)
            if self._created_since_deletion >= self._deletion_interval:
                self._delete_excess(task.created)
        self._created_since_deletion = (
            0 if self._created_since_deletion >= self._deletion_interval else self._created_since_deletion + 1
        )

    def _update(self, task: Task) -> None:
        self._database.execute(_UPDATE, (*_changing_columns(task), task.task_id))

    async def find(self, task_id: str) -> Task | None:
        return self._find(task_id)

    def _find(self, task_id: str) -> Task | None:
        document = self._value("SELECT document FROM tasks WHERE task_id = ?", task_id)
        return None if document is None else _decode(document)

    async def page(self, space: str | None = None, *, before: int | None = None, limit: int) -> list[tuple[int, Task]]:
        end = LARGEST_NUMBER if before is None else before
        query, values = (_PAGE, (end, limit)) if space is None else (_PAGE_OF_SPACE, (end, space, limit))
        return [(number, _decode(document)) for number, document in self._database.execute(query, values)]

    async def change(self, task_id: str, change: Callable[[Task], Task]) -> Task | None:
        with self._transaction():
            task = self._find(task_id)
            if task is None:
                return None
            changed = change(task)
            if changed is not task:
                self._update(changed)
        return changed

    async def claim(self, now: int, until: int, *, limit: int) -> list[Task]:
        # Usually nothing is due, and reading needs no write lock.
        due = await self.next_due()
        if due is None or due > now:
            return []
        with self._transaction():
            waiting = self._tasks(_DUE_CALLBACKS, now, limit)
            claimed = [replace(task, callback=task.callback.claimed(until)) for task in waiting if task.callback]
            for task in claimed:
                self._update(task)
        return claimed

    async def next_due(self) -> int | None:
        due: int | None = self._value("SELECT min(callback_due) FROM tasks WHERE callback_due IS NOT NULL")
        return due

    async def count(self) -> int:
        return int(self._value("SELECT count(*) FROM tasks") or 0)

    async def newest(self) -> int:
        return int(self._value("SELECT max(created) FROM tasks") or 0)

    async def reset(self, space: str | None = None, account: str | None = None) -> None:
        with self._transaction() as database:
            if space is None:
                database.execute(_DELETE)
                database.execute("DELETE FROM balances")
            elif account is not None:
                database.execute(_DELETE_BALANCE, (space, account))
                for task in self._tasks(_TASKS_OF_ACCOUNT, space, account):
                    self._update(replace(task, is_written_off=True))
            else:
                database.execute(f"{_DELETE} WHERE space = ?", (space,))
                database.execute("DELETE FROM balances WHERE space = ?", (space,))

    async def forget(self, account: Account) -> None:
        with self._transaction() as database:
            database.execute(_DELETE_BALANCE, (account.space, account.name))

    async def note(self, name: str, value: bytes | None = None) -> bytes | None:
        if value is not None:
            self._database.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))
        noted: bytes | None = self._value("SELECT value FROM notes WHERE name = ?", name)
        return noted

    async def note_once(self, name: str, value: bytes) -> bytes:
        self._database.execute("INSERT OR IGNORE INTO notes VALUES (?, ?)", (name, value))
        return await self.note(name) or value

    async def close(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        # The last connection that closes writes the log back and deletes it.
        self._database.close()

    def _delete_excess(self, now: int) -> None:
        count = self._value("SELECT count(*) FROM tasks") or 0
        if (excess := count - self._keep) > 0:
            left = count - self._delete(_FINISHED, now, excess)
            self._delete(_OLDEST, max(left - self._keep * UNFINISHED_SHARE, 0))

    def _delete(self, selection: str, *values: int) -> int:
        """Delete the tasks whose rowids a query selects, and return their number."""
        # A refund that is not booked yet would be lost with the task.
        for task in self._tasks(f"{_REFUNDABLE} AND rowid IN ({selection})", *values):
            owner = (task.space, task.account)
            amount = self._value("SELECT amount FROM balances WHERE space = ? AND account = ?", *owner)
            if amount is not None:
                self._database.execute(_UPDATE_BALANCE, (str(given_back(Decimal(amount), task.price)), *owner))
        return self._database.execute(f"{_DELETE} WHERE rowid IN ({selection})", values).rowcount

    def _tasks(self, query: str, *values: Any) -> list[Task]:
        return [_decode(document) for (document,) in self._database.execute(query, values)]

    def _value(self, query: str, *values: Any) -> Any:
        row = self._database.execute(query, values).fetchone()
        return row and row[0]


def _changing_columns(task: Task) -> tuple[int | None, int | None, int | None, str]:
    """Return the values of the columns that a change of the task can affect."""
    ends, due = task.ends, task.callback.due if task.callback else None
    return ends, due, ends if task.owes_refund else None, _encode(task).decode()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Task).decode
"""Fields that only a newer version writes are ignored, and fields that an older version did not write get defaults."""
