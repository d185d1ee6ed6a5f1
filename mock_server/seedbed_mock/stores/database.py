"""The file of a store in SQLite: whether it may be used, and the tables in it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

from seedbed_mock.stores.store import StoreError

if TYPE_CHECKING:
    from pathlib import Path

_APPLICATION = int.from_bytes(b"Seed", "big")
"""What SQLite writes into the head of the file, so that it is known for one of ours."""

_VERSION = 1
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
