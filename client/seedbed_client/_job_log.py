"""The job log: a file that remembers which task was created under which key, so that nobody pays for a key twice.

A job is written as ``submitting`` before its request is sent, and with the ID of its task as soon as that is known. A
lock for each key tells a submission that is under way from one that was interrupted: the system releases the lock of a
process that ends. A job that is found as ``submitting`` without a lock may have been charged, so it is in doubt.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from seedbed_schemas import job_api
from seedbed_schemas.files import check_writable
from seedbed_schemas.profile import default_profile
from seedbed_schemas.validation import for_display

from seedbed_client import errors
from seedbed_client._actions import Pause
from seedbed_client._operations import Wait, create_task, id_of
from seedbed_client.models import Submission, SubmissionState, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seedbed_client._actions import ClientOperation
    from seedbed_client._operations import Context, TaskRequest


JobStatus = Literal["new", "submitting", "submitted", "saved", "failed"]

_APPLICATION: Final = int.from_bytes(b"SJob", "big")
"""Application ID in the header of the file, by which job logs are recognised."""

_VERSION: Final = 1
_TABLES: Final = f"""
CREATE TABLE jobs (key TEXT PRIMARY KEY NOT NULL, document BLOB NOT NULL);
CREATE TABLE notes (name TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION}
"""
_PUT: Final = "INSERT INTO jobs VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET document = excluded.document"

_IN_MEMORY: Final = ":memory:"

_BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another process that is writing to the file, which takes milliseconds."""

_LOCK_PAUSE: Final = 0.05
"""Seconds between two attempts to lock a key."""

_MAX_KEY_LENGTH: Final = 1000

_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked; try again later",
    sqlite3.SQLITE_READONLY: "make the file and its directory writable",
    sqlite3.SQLITE_CANTOPEN: "make the file and its directory readable and writable",
    sqlite3.SQLITE_FULL: "free some disk space",
    sqlite3.SQLITE_IOERR: "check the disk: it may be full, or a limit of the size of files may apply",
    sqlite3.SQLITE_CORRUPT: "restore the file from a backup, or pass another path",
    sqlite3.SQLITE_NOTADB: "pass another path",
}
_FOREIGN: Final = frozenset({sqlite3.SQLITE_NOTADB})


class LoggedJob(msgspec.Struct):
    """A job of a job log.

    Attributes:
        key: Key of the job.
        service: Base URL of the service.
        model: Model that makes the image.
        input: Input of the model.
        prompt: Prompt, as the user gave it.
        status: ``new`` before it is submitted, ``submitting`` while it is or if that was interrupted, ``submitted``
            once its task is known; ``seedbed generate`` adds ``saved`` and ``failed``.
        task_id: ID of the task, once it is known.
        files: Files in which the images are saved.
        error: What prevented the image, empty if nothing did.
    """

    key: str
    service: str
    model: str
    input: dict[str, Any]
    prompt: str = ""
    status: JobStatus = "new"
    task_id: str = ""
    files: list[str] = []
    error: str = ""


class JobLog:
    """A file with jobs and their tasks, by key. ``seedbed generate --resume`` and ``generate_once()`` use it.

    Threads and processes may share a file. Every change is on the disk when its call returns. The file is an SQLite
    database, which is created with the first job; beside it, lock files appear while jobs are submitted.

    Args:
        path: Path of the file. Without one, the jobs are kept in memory.

    Raises:
        JobLogError: The file cannot be used. Its methods raise this, too.
    """

    def __init__(self, path: Path | str | None) -> None:
        if path is not None and "\0" in str(path):
            raise errors.JobLogError(f"invalid path {str(path)!r}; pass a path without NUL characters")
        # SQLite gives names such as ":memory:" and "file:x" a special meaning, but no absolute path.
        self.path = None if path is None else Path(path).absolute()
        self._lock, self._is_checked, self._memory = threading.Lock(), False, None
        self._key_locks: dict[str, threading.Lock] = {}
        if self.path is None:
            self._memory = sqlite3.connect(_IN_MEMORY, isolation_level=None, check_same_thread=False)
            weakref.finalize(self, self._memory.close)
            _prepare(self._memory)
        with self._database():
            pass

    def get(self, key: str) -> LoggedJob | None:
        """Return the job of a key, or ``None``."""
        with self._database() as database:
            row = database.execute("SELECT document FROM jobs WHERE key = ?", (checked_key(key),)).fetchone()
            return self._decoded(row[0]) if row else None

    def jobs(self) -> list[LoggedJob]:
        """Return all jobs, in the order in which they were added."""
        with self._database() as database:
            return [self._decoded(row[0]) for row in database.execute("SELECT document FROM jobs ORDER BY rowid")]

    def settle(self, key: str, task_id: str) -> None:
        """Record which task a submission in doubt created, as you found out.

        Raises:
            ConfigurationError: No submission of this key is in doubt.
        """
        with self.lock(key).held():
            job = self.get(key)
            if job is None or job.status != "submitting":
                raise errors.ConfigurationError(f"no submission of the key {key!r} is in doubt; nothing to settle")
            job.status, job.task_id = "submitted", id_of(task_id)
            self.put(job)

    def forget(self, key: str) -> None:
        """Remove a job, so that its key can be submitted again. A task that was created for it stays charged."""
        with self.lock(key).held(), self._changes() as database:
            database.execute("DELETE FROM jobs WHERE key = ?", (key,))

    def put(self, *jobs: LoggedJob, output: str | None = None) -> None:
        """Add jobs or replace those with the same keys.

        Args:
            jobs: The jobs.
            output: Pattern of file names to remember for a later run.

        Raises:
            ConfigurationError: A key is invalid, or a job has a value that the log cannot keep.
        """
        documents = [(checked_key(job.key), _encoded(job)) for job in jobs]
        with self._changes() as database:
            database.executemany(_PUT, documents)
            if output is not None:
                database.execute("INSERT OR REPLACE INTO notes VALUES ('output', ?)", (output,))

    @property
    def output(self) -> str | None:
        """Pattern of file names, if one was given."""
        with self._database() as database:
            row = database.execute("SELECT value FROM notes WHERE name = 'output'").fetchone()
            return str(row[0]) if row else None

    def lock(self, key: str) -> FileLock:
        """Return the lock that whoever submits a key holds."""
        digest = hashlib.sha256(checked_key(key).encode()).hexdigest()[:16]
        if self.path is None:
            return FileLock(self._key_locks.setdefault(digest, threading.Lock()))
        return FileLock(self.path.with_name(f"{self.path.name}.{digest}.lock"))

    @contextlib.contextmanager
    def _database(self, *, create: bool = False) -> Iterator[sqlite3.Connection]:
        """Open the file while the block runs: no connection is shared by threads or inherited by a fork."""
        if self._memory is not None:
            with self._lock:
                yield self._memory
            return
        with self._errors(), contextlib.closing(self._connect(self.path or Path(), create=create)) as database:
            yield database

    def _connect(self, path: Path, *, create: bool) -> sqlite3.Connection:
        """Return a connection to the file. An empty one is created, or stands in its place, if it does not exist."""
        check_writable(path)
        if path.exists() and not path.is_file():
            raise errors.JobLogError(f"{path} is not a regular file; pass another path", is_foreign=True)
        place = path if create or path.exists() else _IN_MEMORY
        database = sqlite3.connect(place, timeout=_BUSY_TIMEOUT, isolation_level=None)
        try:
            # EXTRA also waits until the removal of the journal is on the disk, which is what ends a transaction.
            database.execute("PRAGMA synchronous = EXTRA")
            if not _is_empty(database):
                self._check(database)
            elif create or place == _IN_MEMORY:
                _prepare(database)
            else:
                # A process may have been killed while it created the file.
                database.close()
                database = sqlite3.connect(_IN_MEMORY, isolation_level=None)
                _prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def _changes(self) -> Iterator[sqlite3.Connection]:
        """Change the file in one transaction, which is on the disk at the end of the block."""
        with self._database(create=True) as database:
            database.execute("BEGIN IMMEDIATE")
            with database:
                yield database

    def _check(self, database: sqlite3.Connection) -> None:
        application, version = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != _APPLICATION:
            raise errors.JobLogError(
                f"{self.path} is not a progress file (it is another database); pass another path", is_foreign=True
            )
        if version != _VERSION:
            raise errors.JobLogError(
                f"{self.path} was written by a newer version of Seedbed; update Seedbed, or pass another path",
                is_foreign=True,
            )
        if not self._is_checked:
            # A damaged file could hide a job that was paid for. Once is enough: it is read from end to end.
            (problem,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if problem != "ok":
                problem = " ".join(problem.split())
                raise errors.JobLogError(f"{self.path} is damaged ({problem}); {_ADVICE[sqlite3.SQLITE_CORRUPT]}")
            self._is_checked = True

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise the errors of the system and of SQLite as those of this package."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            advice = _ADVICE.get(code, "pass another path")
            what = "is not a progress file" if code in _FOREIGN else "cannot be used as a job log"
            raise errors.JobLogError(f"{self.path} {what} ({error}); {advice}", is_foreign=code in _FOREIGN) from error
        except OSError as error:
            raise errors.JobLogError(
                f"{self.path} cannot be used as a job log: {error.strerror}; pass another path"
            ) from error

    def _decoded(self, document: bytes) -> LoggedJob:
        try:
            return msgspec.json.decode(document, type=LoggedJob)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            advice = _ADVICE[sqlite3.SQLITE_CORRUPT]
            raise errors.JobLogError(f"{self.path} has a damaged job ({error}); {advice}") from error


def _encoded(job: LoggedJob) -> bytes:
    try:
        return msgspec.json.encode(job)
    except (ValueError, OverflowError) as error:  # half a character, or a number that is too long
        raise errors.ConfigurationError(
            f"the input of the key {job.key!r} cannot be written to a job log ({error}); change it"
        ) from error


def _is_empty(database: sqlite3.Connection) -> bool:
    return not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _prepare(database: sqlite3.Connection) -> None:
    """Create the tables, unless another process has."""
    database.execute("BEGIN EXCLUSIVE")
    with database:
        if _is_empty(database):
            for statement in _TABLES.split(";"):
                database.execute(statement)


class FileLock:
    """A lock that other threads and processes see, and that the system releases if this process ends.

    Args:
        place: Path of the lock file, or a lock of this process in its place.
    """

    def __init__(self, place: Path | threading.Lock) -> None:
        from filelock import FileLock as SystemLock  # slow to import

        self._path = place if isinstance(place, Path) else None
        # A soft lock is a file that exists: one of a process that was killed would refuse later ones.
        self._lock = (
            SystemLock(place, blocking=False, fallback_to_soft=False, thread_local=False)
            if isinstance(place, Path)
            else place
        )

    def acquire(self) -> bool:
        """Acquire the lock, and return whether it was free.

        Raises:
            JobLogError: The lock file cannot be written.
        """
        from filelock import Timeout  # as above

        try:
            return bool(self._lock.acquire(blocking=False))
        except Timeout:
            return False
        except OSError as error:
            raise errors.JobLogError(f"the lock file {self._path} cannot be written: {error.strerror}") from error

    def release(self) -> None:
        """Release the lock and remove its file."""
        if self._path:
            # On POSIX, filelock leaves the file in place. It may only be removed while it is locked: a process that has
            # opened it in the meantime then notices the removal, and does not mistake its lock for a valid one. On
            # Windows, an open file cannot be removed; there, filelock removes it after the release.
            with contextlib.suppress(OSError):
                self._path.unlink()
        self._lock.release()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock while the block runs.

        Raises:
            JobLogError: Another process holds it.
        """
        if not self.acquire():
            raise errors.JobLogError(f"another process holds {self._path}; try again when it has ended")
        try:
            yield
        finally:
            self.release()


def checked_key(key: str) -> str:
    """Return the key of a job.

    Raises:
        ConfigurationError: It cannot be a key.
    """
    is_text = isinstance(key, str) and 0 < len(key) <= _MAX_KEY_LENGTH
    if is_text and key.encode("utf-8", "replace").decode() == key:
        return key
    raise errors.ConfigurationError(
        f"invalid key {for_display(str(key))!r}; give a text of 1 to {_MAX_KEY_LENGTH} characters"
    )


class LoggedSubmission:
    """A submission under a key: what the log says of it, and the tracker that writes to the log.

    Args:
        context: Context of the client.
        task: The task to create.
        key: Key of the job.
        log: The job log, or the path of one.

    Raises:
        ConfigurationError: The key is invalid, or there is no log.
        JobLogError: The log cannot be used.
    """

    def __init__(self, context: Context, task: TaskRequest, key: str, log: JobLog | Path | str) -> None:
        if not isinstance(log, JobLog | Path | str) or log == "":
            raise errors.ConfigurationError(f"invalid job log {log!r}; pass a JobLog or the path of its file")
        self._context, self._task = context, task
        self._log = log if isinstance(log, JobLog) else JobLog(log)
        self._job = LoggedJob(checked_key(key), context.endpoint.base_url, task.model, {})
        self.tracker = errors.SubmissionTracker(task.model, on_change=self._record)

    def run(self, *, deadline: float = float("inf")) -> ClientOperation[str]:
        """Return the task of the key, which is created unless the log has it.

        Args:
            deadline: Time by the clock of the client after which the request is not repeated.

        Raises:
            JobConflictError: The key belongs to another request.
            SubmissionInDoubtError: It is not known whether the task was created.
            JobLogError: The log cannot be used, or another process submits the key for too long.
        """
        body = json.loads(self._task.body(self._context.contracts))  # first: an invalid request leaves no trace
        self._job.input = body.get(job_api().fields.input, {})
        _encoded(self._job)
        lock = self._log.lock(self._job.key)
        while not lock.acquire():
            if self._context.clock() >= deadline:
                raise errors.JobLogError(f"another process is submitting the key {self._job.key!r}; try again later")
            yield Pause(_LOCK_PAUSE)
        try:
            return self._find() or (yield from self._create(deadline))
        finally:
            lock.release()

    def _find(self) -> str:
        """Return the ID of the task that the log has, or an empty text for a new job."""
        mine, earlier = self._job, self._log.get(self._job.key)
        if earlier is None or earlier.status == "new":
            mine.prompt = earlier.prompt if earlier else str(mine.input.get(default_profile().caption or "", ""))
            return ""
        if (earlier.service, earlier.model, earlier.input) != (mine.service, mine.model, mine.input):
            raise errors.JobConflictError(
                f"the key {mine.key!r} belongs to another request, of {earlier.model} at {earlier.service}; use a new "
                "key for each request"
            )
        if not earlier.task_id:
            self.tracker.current = Submission(SubmissionState.IN_DOUBT, None, mine.model, mine.input)
            raise errors.SubmissionInDoubtError(mine.key, "an earlier submission was interrupted")
        self.tracker.current = Submission(SubmissionState.CREATED, earlier.task_id, mine.model, mine.input)
        return earlier.task_id

    def _create(self, deadline: float) -> ClientOperation[str]:
        try:
            return (yield from create_task(self._context, self._task, self.tracker, deadline=deadline))
        except errors.SubmissionUnknownError as error:
            raise errors.SubmissionInDoubtError(self._job.key, str(error.__cause__ or error)) from error
        finally:
            if self._job.status == "submitting" and not self.tracker.current.may_be_charged:
                # A hook of the user has prevented the request after it was recorded.
                with contextlib.suppress(errors.JobLogError):
                    self._put("new")

    def _record(self, submission: Submission) -> None:
        if submission.state is SubmissionState.CREATED:
            self._put("submitted", submission.task_id or "")
        else:
            self._put("submitting" if submission.may_be_charged else "new")
        if self._context.on_submission:
            self._context.on_submission(submission)

    def _put(self, status: JobStatus, task_id: str = "") -> None:
        self._job.status, self._job.task_id = status, task_id
        self._log.put(self._job)


def generate_once(
    context: Context,
    submission: LoggedSubmission,
    *,
    timeout: float | None,
    on_update: Callable[[Task], object] | None,
) -> ClientOperation[Task]:
    """Return the task of a key once it has succeeded; the timeout covers its creation, too."""
    limit, began = context.polling.limit(timeout), context.clock()
    task_id = yield from submission.run(deadline=began + limit)
    return (yield from Wait(context, Task(task_id), limit, on_update, None, began).run())
