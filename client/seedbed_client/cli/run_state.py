"""The jobs of a run and their progress, kept in a job log so that a later run can resume it without paying twice."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedbed_schemas.files import check_writable

from seedbed_client._job_log import FileLock, JobLog, JobStatus, LoggedJob
from seedbed_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class RunState:
    """The jobs of a run and their progress.

    Args:
        log: Log that has the jobs.
        jobs: Jobs of the run, in order.
        output: Pattern of the file names, if one was given now or when the run began.
    """

    def __init__(self, log: JobLog, jobs: list[LoggedJob], output: str | None) -> None:
        self.log, self.jobs, self.output = log, jobs, output

    @classmethod
    def open(cls, service: str, jobs: list[LoggedJob], path: Path | None, output: str | None = None) -> RunState:
        """Return the state of an earlier run if the file exists, and that of a new run otherwise.

        Args:
            service: Base URL of the service.
            jobs: Jobs of the run, in order; none to resume those of the file.
            path: Progress file; without one, nothing is written.
            output: Pattern of the file names, if one was given.

        Raises:
            ConfigurationError: The file belongs to another run, or there are no jobs.
            JobLogError: The file cannot be used, or is not a progress file.
        """
        log = JobLog(path)
        for job in jobs:
            job.service = service
        earlier = log.jobs()
        if not earlier:
            if not jobs:
                raise ConfigurationError(
                    "the prompt is missing; pass one or more prompts, or --from FILE (- for standard input)"
                )
            log.put(*jobs, output=output)
            return cls(log, jobs, output)
        model = jobs[0].model if jobs else earlier[0].model
        for job in earlier:
            if (job.service, job.model) != (service, model):
                raise ConfigurationError(
                    f"{path} belongs to a run against {job.service} with {job.model}, not {service} with {model}; "
                    "pass another file to --resume"
                )
        if jobs and [(job.key, job.input) for job in jobs] != [(job.key, job.input) for job in earlier]:
            raise ConfigurationError(
                f"{path} belongs to a run with other prompts or options; pass the same ones, or only --resume"
            )
        return cls(log, earlier, output or log.output)

    def settle(self, assignments: Iterable[str]) -> None:
        """Record the tasks of submissions in doubt, given as ``3=TASK_ID``, where 3 is the number of the image.

        Raises:
            ConfigurationError: An assignment is malformed, or the submission is not in doubt.
        """
        for assignment in assignments:
            number, _, task_id = assignment.partition("=")
            job = self._job_in_doubt(number, "--settle")
            self.log.settle(job.key, task_id)
            self.reload(job)

    def submit_again(self, numbers: Iterable[int]) -> None:
        """Make new jobs of submissions in doubt.

        Raises:
            ConfigurationError: A submission is not in doubt.
        """
        for number in numbers:
            self.update(self._job_in_doubt(str(number), "--submit-again"), "new", error="")

    def _job_in_doubt(self, number: str, option: str) -> LoggedJob:
        job = next((job for place, job in enumerate(self.jobs, start=1) if str(place) == number), None)
        if job is None or job.status != "submitting":
            raise ConfigurationError(f"{option}: no submission of the image {number!r} is in doubt")
        return job

    def update(self, job: LoggedJob, status: JobStatus, **changes: Any) -> None:
        """Set the status of a job and other attributes, and write them before returning.

        Raises:
            JobLogError: The file cannot be written.
        """
        job.status = status
        for name, value in changes.items():
            setattr(job, name, value)
        self.log.put(job)

    def reload(self, job: LoggedJob) -> None:
        """Read a job again after its submission, which writes to the log by itself.

        Raises:
            JobLogError: The file cannot be read.
        """
        latest = self.log.get(job.key) or job
        job.status, job.task_id = latest.status, latest.task_id


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
    check_writable(path)
    lock = FileLock(Path(f"{path}.lock"))
    if not lock.acquire():
        raise ConfigurationError(f"{path} is in use by another run; wait until that run has ended")
    try:
        yield
    finally:
        lock.release()
