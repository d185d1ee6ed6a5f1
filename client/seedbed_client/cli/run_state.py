"""The progress of a run, kept in a file so that a later run can resume it without paying twice.

The status of a job is written before its request is sent, and the ID of its task as soon as it is known. A job that is
found as ``submitting`` may have been charged, so it is not submitted again.
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


JobStatus = Literal["new", "submitting", "submitted", "saved", "failed"]

_VERSION: Final = 1


class Job(msgspec.Struct):
    """An image to generate.

    Attributes:
        prompt: Prompt of the image.
        input: Input of the model.
        status: Status of the job.
        task_id: ID of the task, once it is known.
        files: Files in which the images are saved.
        error: Reason why there is no image.
    """

    prompt: str
    input: dict[str, Any]
    status: JobStatus = "new"
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
    """The jobs of a run and their progress.

    Args:
        service: Base URL of the service.
        model: Model that generates the images.
        jobs: Jobs of the run, in order.
        path: Progress file; without one, nothing is written.
        output: Pattern of the file names, if one was given.
    """

    def __init__(self, service: str, model: str, jobs: list[Job], path: Path | None, output: str | None = None) -> None:
        self._content, self._path = _Content(service, model, jobs, output), path

    @property
    def output(self) -> str | None:
        """Pattern of the file names, if one was given now or when the run began."""
        return self._content.output

    @property
    def model(self) -> str:
        """Model that generates the images."""
        return self._content.model

    @property
    def jobs(self) -> list[Job]:
        """Jobs of the run, in order."""
        return self._content.jobs

    @classmethod
    def open(cls, service: str, model: str, jobs: list[Job], path: Path | None, output: str | None = None) -> RunState:
        """Return the state of an earlier run if the file exists, and that of a new run otherwise.

        Raises:
            ConfigurationError: The file is not a progress file or belongs to another run, or there are no jobs.
            OSError: The file cannot be read or written.
        """
        if path is None or not path.exists():
            if not jobs:
                raise ConfigurationError(
                    "the prompt is missing; pass one or more prompts, or --from FILE (- for standard input)"
                )
            if path:
                check_writable(path)
            return cls(service, model, jobs, path, output)
        earlier = _read(path)
        if (earlier.service, earlier.model) != (service, model):
            raise ConfigurationError(
                f"{path} belongs to a run against {earlier.service} with {earlier.model}, not {service} with {model}; "
                "pass another file to --resume"
            )
        if jobs and [job.input for job in jobs] != [job.input for job in earlier.jobs]:
            raise ConfigurationError(
                f"{path} belongs to a run with other prompts or options; pass the same ones, or only --resume"
            )
        return cls(service, model, earlier.jobs, path, output or earlier.output)

    def update(self, job: Job, status: JobStatus, **changes: Any) -> None:
        """Set the status of a job and other attributes, and write the progress file before returning.

        Raises:
            OSError: The file cannot be written.
        """
        job.status = status
        for name, value in changes.items():
            setattr(job, name, value)
        if self._path:
            write_whole(self._path, msgspec.json.format(msgspec.json.encode(self._content)) + b"\n")


def _read(path: Path) -> _Content:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_Content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not a progress file ({error}); pass another file to --resume") from error
    if content.version != _VERSION:
        raise ConfigurationError(
            f"{path} belongs to another version of seedbed generate; pass another file to --resume"
        )
    return content


@contextlib.contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Keep other runs from using a progress file while the block runs.

    Args:
        path: Progress file; without one, nothing is locked.

    Raises:
        ConfigurationError: Another run is using the file.
        OSError: The lock file cannot be written.
    """
    if path is None:
        yield
        return
    from filelock import FileLock, Timeout  # slow to import, and only --resume needs it

    check_writable(path)
    lock_path = Path(f"{path}.lock")
    # A soft lock is a file that exists: one of a process that was killed would refuse later runs.
    lock = FileLock(lock_path, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(f"{path} is in use by another run; wait until that run has ended") from error
    try:
        yield
    finally:
        # On POSIX, filelock leaves the file in place. It may only be removed while it is locked: a run that has opened
        # it in the meantime then notices the removal, and does not mistake its lock for a valid one. On Windows, an
        # open file cannot be removed; there, filelock removes it after the release.
        with contextlib.suppress(OSError):
            lock_path.unlink()
        lock.release()
