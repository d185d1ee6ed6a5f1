"""The file of an SQLite store: its tables, and the checks before it is opened.

A file is opened only if it is a sound database of Seedbed; any other file is left unchanged.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from seedbed_mock.clock import real_monotonic
from seedbed_mock.stores.store import StoreError

if TYPE_CHECKING:
    from pathlib import Path


_APPLICATION = int.from_bytes(b"Seed", "big")
"""Application ID in the header of the file, by which files of Seedbed are recognised."""

_VERSION = 3
"""Version of the tables, which is in the header as well."""

_BUSY_TIMEOUT = 5.0
"""In seconds: how long a server waits for the transaction of another one on the same file."""

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
PRAGMA user_version = 2
"""

_SPACES = "CREATE INDEX IF NOT EXISTS spaces ON tasks (space)"
"""For the pages of one space. It is no part of the tables, since existing files need it as well."""

# For the deletion of old tasks: their number, and how far the search for finished ones has come. A task that it passes
# because it has not ended is marked with 1, and with 2 once it has ended, so that no search looks at it again and
# again. The marks cost the other tasks nothing.
_UPGRADE = """
ALTER TABLE tasks ADD COLUMN passed INTEGER;
CREATE INDEX ending ON tasks (ends) WHERE passed = 1 AND callback_due IS NULL;
CREATE INDEX finished ON tasks (passed) WHERE passed = 2;
CREATE TABLE totals (tasks INTEGER NOT NULL, searched INTEGER NOT NULL);
INSERT INTO totals SELECT count(*), 0 FROM tasks;
PRAGMA user_version = 3
"""
"""What version 3 has in addition to version 2, of which there are files."""


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
        database = _connect(file)
        try:
            _prepare(database)
        except BaseException:
            database.close()
            raise
        else:
            return database
    except OSError as error:
        raise StoreError(f"The database {path} cannot be used: {error.strerror}.") from error
    except (sqlite3.Error, UnicodeError) as error:
        raise StoreError(f"The database {path} cannot be used: {error}.") from error


def open_reader(path: Path) -> sqlite3.Connection:
    """Return a further connection to a database that is open, which only reads and never waits."""
    database = _connect(path.absolute())
    database.execute("PRAGMA query_only = 1")
    database.execute("PRAGMA busy_timeout = 0")
    return database


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)


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
        version = _number(database, "user_version")
        for statement in ("" if version else _TABLES).split(";") + ("" if version == _VERSION else _UPGRADE).split(";"):
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
