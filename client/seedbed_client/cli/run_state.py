"""What became of the jobs of a run, kept in a file so that a later run goes on from there and pays for nothing twice.

A job is noted as asked for before its request leaves, and its task's name as soon as it is known. A job found as asked
for and without a name may have been paid for: nobody can tell, so it is not asked for again.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from seedbed_schemas.files import check_writable, write_whole

from seedbed_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator


JobStatus = Literal["new", "asked", "made", "saved", "failed"]

_VERSION: Final = 1


class Job(msgspec.Struct):
    """An image to make.

    Attributes:
        prompt: What it shows.
        input: What the model is asked.
        stage: How far it has come.
        task_id: Name of its task, once that is known.
        files: Where its images are.
        error: Why there is none.
    """

    prompt: str
    input: dict[str, Any]
    stage: JobStatus = "new"
    task_id: str = ""
    files: list[str] = []
    error: str = ""


class _Content(msgspec.Struct):
    service: str
    model: str
    jobs: list[Job]
    output: str | None = None
    version: int = _VERSION


class RunState:
    """The jobs of a run, in order.

    Args:
        service: Base URL of the service.
        model: What makes the images.
        jobs: What is to be made.
        path: Where they are kept; nowhere where there is none.
        output: Pattern of the names of their images, where one was given.
    """

    def __init__(self, service: str, model: str, jobs: list[Job], path: Path | None, output: str | None = None) -> None:
        self._content, self._path = _Content(service, model, jobs, output), path

    @property
    def output(self) -> str | None:
        """Pattern of the names of the images, where one was given, now or when the run began."""
        return self._content.output

    @property
    def jobs(self) -> list[Job]:
        """The jobs."""
        return self._content.jobs

    @classmethod
    def open(cls, service: str, model: str, jobs: list[Job], path: Path | None, output: str | None = None) -> RunState:
        """Return the ledger of these jobs, as an earlier run has left it where there was one.

        Raises:
            ConfigurationError: The file is no ledger, or one of another run.
            OSError: The file cannot be read or written.
        """
        if path is None or not path.exists():
            ledger = cls(service, model, jobs, path, output)
            ledger._check()
            return ledger
        kept = _read(path)
        if (kept.service, kept.model) != (service, model):
            raise ConfigurationError(
                f"{path} is of a run against {kept.service} with {kept.model}, not {service} with {model}."
            )
        if jobs and [job.input for job in jobs] != [job.input for job in kept.jobs]:
            raise ConfigurationError(
                f"{path} is of a run with other prompts or options: give the same, or none to go on with those."
            )
        return cls(service, model, kept.jobs, path, output or kept.output)

    def note(self, job: Job, stage: JobStatus, **changes: Any) -> None:
        """Note how far a job has come, on disk before this returns.

        Raises:
            OSError: The file cannot be written.
        """
        job.stage = stage
        for name, value in changes.items():
            setattr(job, name, value)
        self._write()

    def _check(self) -> None:
        if not self.jobs:
            raise ConfigurationError("Give a PROMPT, several of them, or --from FILE (- for standard input).")
        if self._path:
            check_writable(self._path)

    def _write(self) -> None:
        if self._path:
            write_whole(self._path, msgspec.json.format(msgspec.json.encode(self._content)) + b"\n")


def _read(path: Path) -> _Content:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_Content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not the file of a run: {error}.") from error
    if content.version != _VERSION:
        raise ConfigurationError(f"{path} is of another version of this command.")
    return content


@contextlib.contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Keep other runs from using a progress file while the block runs.

    Args:
        path: The progress file; without one, there is nothing to lock.

    Raises:
        ConfigurationError: Another run is using the file.
        OSError: The lock file cannot be written.
    """
    if path is None:
        yield
        return
    from filelock import FileLock, Timeout  # noqa: PLC0415 (costs as much as asyncio; only --resume needs it)

    check_writable(path)
    lock_path = Path(f"{path}.lock")
    # A soft lock outlives a process that is killed, and so would refuse every later run.
    lock = FileLock(lock_path, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(f"{path} is in use by another run; wait until that run ends.") from error
    try:
        yield
    finally:
        # On POSIX, filelock leaves the file in place. It may only be removed while it is locked: a run that has opened
        # it meanwhile notices the removal and does not take its lock for a valid one. Windows refuses to remove an open
        # file; there, filelock removes it after the release.
        with contextlib.suppress(OSError):
            lock_path.unlink()
        lock.release()
