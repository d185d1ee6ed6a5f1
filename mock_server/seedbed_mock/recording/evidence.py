"""What files show of tasks and money: journals, recordings and progress files, read without changing anything.

A journal is what the control API gives or `seedbed har export` writes. A recording is a HAR file, or a folder of them.
Those that Seedbed writes have no downloads by programs: images are on another server, and a recording has copies that
the proxy fetched itself. A progress file is the job log of `seedbed generate`.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from seedbed_mock.recording.archive import HarExchange, RecordingError, exchange_of, har_document
from seedbed_mock.recording.export import exchange_of_item

if TYPE_CHECKING:
    from collections.abc import Iterator


JobStatus = Literal["new", "submitting", "submitted", "saved", "failed"]

JOB_LOG: Final = int.from_bytes(b"SJob", "big")
"""Application ID in the header of a job log."""

JOB_LOG_VERSION: Final = 1

_OWN_CREATOR: Final = har_document([])["log"]["creator"]["name"]
_SQLITE: Final = b"SQLite format 3\0"
_LARGEST: Final = 512 * 1024 * 1024
_MIB: Final = 1024 * 1024
_JOURNAL_URL: Final = "http://journal.invalid"
_TIMEOUT: Final = 5.0


class JobRecord(msgspec.Struct, frozen=True):
    """A job of a progress file.

    Attributes:
        key: Key of the job, for `seedbed generate` the number of the image.
        model: Model that makes the image.
        input: Input of the model.
        service: Base URL of the service.
        prompt: Prompt, as the user gave it.
        status: How far it is.
        task_id: ID of the task, empty if it is not known.
        files: Files in which the images are saved.
        error: What prevented the image, empty if nothing did.
    """

    key: str
    model: str
    input: dict[str, Any]
    service: str = ""
    prompt: str = ""
    status: JobStatus = "new"
    task_id: str = ""
    files: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class MoneyTrail:
    """What one file shows.

    Attributes:
        path: The file or folder.
        exchanges: Requests and callbacks.
        jobs: Jobs of a progress file.
        has_downloads: Whether it would show that an image was fetched.
        note: What is missing, in one sentence; empty for nothing.
    """

    path: Path
    exchanges: tuple[HarExchange, ...] = ()
    jobs: tuple[JobRecord, ...] = ()
    has_downloads: bool = True
    note: str = ""


def read_trail(path: Path) -> MoneyTrail:
    """Return what a file or folder shows.

    Raises:
        RecordingError: It cannot be read, or is none of the files that show anything.
    """
    try:
        if path.is_dir():
            return _of_folder(path)
        if not path.is_file():
            reason = "it is not a regular file" if path.exists() else "there is no such file"
            raise RecordingError(f"{path} cannot be read: {reason}.")
        if (size := path.stat().st_size) > _LARGEST:
            raise RecordingError(
                f"{path} has {size // _MIB} MiB; at most {_LARGEST // _MIB} MiB are read, so export a part of it."
            )
        if not size:
            raise RecordingError(f"{path} is empty; pass a journal, a recording or a progress file.")
        with path.open("rb") as file:
            is_database = file.read(len(_SQLITE)) == _SQLITE
        return _of_database(path) if is_database else _of_json(path)
    except OSError as error:
        raise RecordingError(f"{error.filename or path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(f"{str(path)[:100]!r} is not the name of a file.") from error


def _of_folder(folder: Path) -> MoneyTrail:
    files = sorted(folder.glob("*.har"))
    if not files:
        raise RecordingError(f"{folder} contains no HAR file; pass a folder that seedbed proxy --record has written.")
    trails = [read_trail(each) for each in files]
    has_downloads = all(each.has_downloads for each in trails)
    return MoneyTrail(folder, tuple(one for each in trails for one in each.exchanges), has_downloads=has_downloads)


def _of_json(path: Path) -> MoneyTrail:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RecordingError(
            f"{path} is neither JSON nor a progress file, or it is incomplete ({' '.join(str(error).split())})."
        ) from error
    try:
        if isinstance(content, dict) and isinstance(content.get("log"), dict):
            is_own = content["log"].get("creator", {}).get("name") == _OWN_CREATOR
            entries = content["log"]["entries"]
            return MoneyTrail(path, tuple(_readable(path, entries)), has_downloads=not is_own)
        items = content["entries"] if isinstance(content, dict) else content
        exchanges = tuple(exchange_of_item(each, _JOURNAL_URL) for each in items)
        more = content.get("before") if isinstance(content, dict) else None
        note = f"{path} lacks the entries before {more}; ask the control API for them with before={more}."
        return MoneyTrail(path, exchanges, has_downloads=False, note="" if more is None else note)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise RecordingError(
            f"{path} is neither a journal, a HAR file nor a progress file ({type(error).__name__}: {error})."
        ) from error


def _readable(path: Path, entries: list[dict[str, Any]]) -> Iterator[HarExchange]:
    """Yield the exchanges of a HAR file, also those whose body is in a file that is gone."""
    for each in entries:
        try:
            yield exchange_of(each, path.parent).decoded()
        except OSError:
            content = {name: value for name, value in each["response"]["content"].items() if name != "_file"}
            yield exchange_of({**each, "response": {**each["response"], "content": content}}, path.parent).decoded()


def _of_database(path: Path) -> MoneyTrail:
    try:
        try:
            return MoneyTrail(path, jobs=_jobs(path))
        except sqlite3.OperationalError:
            # Only a writer can repair a file whose writer crashed, so a copy is repaired.
            with TemporaryDirectory() as folder:
                for suffix in ("", "-journal", "-wal"):
                    if (part := path.with_name(path.name + suffix)).exists():
                        shutil.copyfile(part, Path(folder) / part.name)
                return MoneyTrail(path, jobs=_jobs(Path(folder) / path.name, mode="rw"))
    except sqlite3.Error as error:
        raise RecordingError(f"{path} is damaged ({error}); restore it from a backup.") from error


def _jobs(path: Path, mode: str = "ro") -> tuple[JobRecord, ...]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_TIMEOUT)) as database:
        application, version = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != JOB_LOG:
            raise RecordingError(f"{path.name} is a database, but not a progress file of seedbed generate.")
        if version != JOB_LOG_VERSION:
            raise RecordingError(f"{path.name} was written by a newer version of Seedbed; update Seedbed.")
        (problem,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if problem != "ok":
            raise RecordingError(f"{path.name} is damaged ({' '.join(problem.split())}); restore it from a backup.")
        rows = database.execute("SELECT document FROM jobs ORDER BY rowid").fetchall()
    try:
        return tuple(msgspec.json.decode(row[0], type=JobRecord) for row in rows)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordingError(f"{path.name} has a damaged job ({error}); restore it from a backup.") from error
