"""Working through the jobs of a run, some at once."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import httpx2

from seedbed_client.errors import BrokenResult, GenerationFailed, SeedreamError, SubmissionUnknown, WaitTimeout
from seedbed_client.naming import numbered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from seedbed_client.async_client import AsyncSeedreamClient
    from seedbed_client.ledger import Job, Ledger, Stage
    from seedbed_client.models import Task
    from seedbed_client.naming import Naming

FAILED: Final = 1
UNKNOWN: Final = 3
UNFINISHED: Final = 4
_WORST_FIRST: Final = (UNKNOWN, FAILED, UNFINISHED)


_asking: ContextVar[Callable[[Stage], None] | None] = ContextVar("notes the job that is asked for", default=None)


async def pause(seconds: float) -> None:
    """Wait, given seconds; a job whose request is to be sent again is noted as not asked for meanwhile."""
    note = _asking.get()
    if note:
        note("new")
    await asyncio.sleep(seconds)
    if note:
        note("asked")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job.

    Attributes:
        number: Of the job, from 1.
        job: The job.
        exit_code: 0 where its images are saved.
    """

    number: int
    job: Job
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """A run.

    Attributes:
        client: Whom to ask.
        ledger: The jobs.
        model: What makes the images.
        naming: Names of the files.
        timeout: Seconds after which a task is given up.
        on_update: Told of each job's number and how it fares.
        on_end: Told of each job's outcome, in the order in which they come.
    """

    client: AsyncSeedreamClient
    ledger: Ledger
    model: str
    naming: Naming
    timeout: float | None
    on_update: Callable[[int, str], object]
    on_end: Callable[[Outcome], object]

    async def run(self, at_once: int) -> int:
        """Work through the jobs and return the exit code of the command."""
        turn, codes = asyncio.Semaphore(at_once), set[int]()

        async def work(number: int, job: Job) -> None:
            async with turn:
                outcome = Outcome(number, job, await self._work(number, job))
            codes.add(outcome.exit_code)
            self.on_end(outcome)

        try:
            async with self.client, asyncio.TaskGroup() as group:
                for number, job in enumerate(self.ledger.jobs, start=1):
                    group.create_task(work(number, job))
        except ExceptionGroup as errors:  # what ends a run, such as a disk that is full, is told once
            raise errors.exceptions[0] from None
        return next((code for code in _WORST_FIRST if code in codes), 0)

    async def _work(self, number: int, job: Job) -> int:
        try:
            if job.stage in {"new", "made"}:
                await self._ask(number, job)
                await self._save(number, job)
        except SubmissionUnknown as error:
            job.error = str(error)
        except WaitTimeout as error:
            job.error = str(error)
            return UNFINISHED
        except (SeedreamError, httpx2.HTTPError, OSError) as error:
            self._note_failure(job, error)
            return FAILED
        if job.stage == "asked":
            job.error = (
                job.error or "an earlier run ended while it was being asked for: it may have been made, and paid"
            )
            return UNKNOWN
        return FAILED if job.stage == "failed" else 0

    async def _ask(self, number: int, job: Job) -> None:
        if job.stage == "made":
            self.on_update(number, f"{job.task_id}: waited for again")
            return
        self.ledger.note(job, "asked", error="")
        asking = _asking.set(partial(self.ledger.note, job))
        try:
            task_id = await self.client.submit(model=self.model, input=job.input)
        except SubmissionUnknown:
            raise
        except (SeedreamError, httpx2.HTTPError):
            self.ledger.note(job, "new")  # a refusal, or nobody was there: nothing was made
            raise
        finally:
            _asking.reset(asking)
        self.ledger.note(job, "made", task_id=task_id)
        self.on_update(number, f"{task_id}: asked for")

    async def _save(self, number: int, job: Job) -> None:
        task = await self.client.wait(
            job.task_id, timeout=self.timeout, on_update=lambda task: self.on_update(number, _line(task))
        )
        if not task.result_urls:
            raise BrokenResult(200, f"{task.task_id} succeeded, but has no result")
        path = self.naming.path(number, job.prompt, task.task_id)
        files = [await self._fetch(url, numbered(path, place)) for place, url in enumerate(task.result_urls, start=1)]
        self.ledger.note(job, "saved", files=[str(file) for file in files], error="")

    async def _fetch(self, url: str, path: Path) -> Path:
        try:
            return await self.client.download(url, to=path)
        except OSError as error:
            error.add_note(f"The image is still at {url}")
            raise

    def _note_failure(self, job: Job, error: Exception) -> None:
        """Note what a job ended with; a task that failed stays so, and all else may be tried again."""
        job.error = told(error)
        self.ledger.note(job, "failed" if isinstance(error, GenerationFailed) and job.task_id else job.stage)


def _line(task: Task) -> str:
    return f"{task.task_id}: {task.record.get('state', task.state)}"


def told(error: Exception) -> str:
    """Return an error as one sentence or more, the last without its full stop."""
    if isinstance(error, httpx2.ConnectError):
        url = error.request.url
        return f"nothing answers at {url.scheme}://{url.netloc.decode()}. Start the fake with: seedbed serve"
    first = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    return ". ".join([first or type(error).__name__, *getattr(error, "__notes__", ())])
