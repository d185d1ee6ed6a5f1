"""Names of the files that images are saved in."""

from __future__ import annotations

import asyncio
import re
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx2
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from seedbed_schemas.files import check_writable
from seedbed_schemas.validation import printable

from seedbed_client.errors import (
    ConfigurationError,
    DownloadError,
    GenerationFailedError,
    SeedreamError,
    SubmissionUnknownError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from rich.progress import TaskID

    from seedbed_client._async_client import AsyncSeedreamClient
    from seedbed_client.cli.run_state import Job, JobStatus, RunState
    from seedbed_client.models import Task


_PLACE: Final = re.compile(r"\{(task_id|index|prompt)(?::0(\d))?\}")
_LONGEST_PROMPT: Final = 40
BY_TASK: Final = "{task_id}.jpg"


@dataclass(frozen=True, slots=True)
class Naming:
    """A pattern such as ``images/{index:03}-{prompt}.jpg``.

    Args:
        pattern: A path in which ``{task_id}``, ``{index}`` and ``{prompt}`` stand for what they name.

    Raises:
        ConfigurationError: The pattern names something else.
    """

    pattern: str

    def __post_init__(self) -> None:
        if set("{}") & set(_PLACE.sub("", self.pattern)):
            raise ConfigurationError(
                f"The name {self.pattern!r} has braces that stand for nothing: there are {{task_id}}, {{index}}, "
                "{index:03} and {prompt}."
            )

    def path(self, index: int, prompt: str, task_id: str = "task") -> Path:
        """Return the file of an image."""
        words = {"task_id": _plain(task_id), "index": str(index), "prompt": _slug(prompt)}
        return Path(_PLACE.sub(lambda place: words[place[1]].rjust(int(place[2] or 0), "0"), self.pattern))

    def check(self, prompts: Sequence[str]) -> None:
        """Find out before anything costs whether the images can be saved.

        Raises:
            ConfigurationError: Two images would have the same name.
            OSError: A file cannot be written.
        """
        paths = [self.path(index, prompt) for index, prompt in enumerate(prompts, start=1)]
        if "{task_id}" not in self.pattern and len(set(paths)) < len(paths):
            raise ConfigurationError(
                f"The name {self.pattern!r} is that of several images: put {{index}} or {{task_id}} into it."
            )
        for path in paths:
            check_writable(path)


def numbered(path: Path, number: int) -> Path:
    """Return where to save the image of that number of a task; the first is where it was asked for."""
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def _plain(task_id: str) -> str:
    """Return what is fit for a file in this folder, whatever the service put into the task's name."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", task_id)


def _slug(prompt: str) -> str:
    return re.sub(r"[\W_]+", "-", prompt)[:_LONGEST_PROMPT].strip("-") or "image"


class TaskProgress:
    """Shows tasks while a ``with`` block runs."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        text = TextColumn("{task.description}", markup=False)
        self._bar = Progress(
            SpinnerColumn(), text, TimeElapsedColumn(), console=self._console, transient=True, redirect_stdout=False
        )
        self._lines: dict[int, TaskID] = {}
        self._shown: dict[int, str] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def show(self, number: int, text: str) -> None:
        """Show how the task of that number fares, if it is not shown already."""
        if text == self._shown.get(number):
            return
        self._shown[number] = text
        if not self._console.is_terminal:
            self._console.print(printable(text), soft_wrap=True)
            return
        if number not in self._lines:
            self._lines[number] = self._bar.add_task("")
        self._bar.update(self._lines[number], description=printable(text))

    def end(self, number: int) -> None:
        """Show no more of the task of that number."""
        if line := self._lines.pop(number, None):
            self._bar.remove_task(line)


FAILED: Final = 1
UNKNOWN: Final = 3
UNFINISHED: Final = 4
_WORST_FIRST: Final = (UNKNOWN, FAILED, UNFINISHED)


_asking: ContextVar[Callable[[JobStatus], None] | None] = ContextVar("notes the job that is asked for", default=None)


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
class BatchRunner:
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
    ledger: RunState
    model: str
    naming: Naming
    timeout: float | None
    on_update: Callable[[int, str], object]
    on_end: Callable[[Outcome], object]

    async def run(self, concurrency: int) -> int:
        """Work through the jobs and return the exit code of the command."""
        turn, codes = asyncio.Semaphore(concurrency), set[int]()

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
        except SubmissionUnknownError as error:
            job.error = str(error)
        except WaitTimeoutError as error:
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
        except SubmissionUnknownError:
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
            raise DownloadError(200, f"{task.task_id} succeeded, but has no result")
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
        self.ledger.note(job, "failed" if isinstance(error, GenerationFailedError) and job.task_id else job.stage)


def _line(task: Task) -> str:
    return f"{task.task_id}: {task.record.get('state', task.state)}"


def told(error: Exception) -> str:
    """Return an error as one sentence or more, the last without its full stop."""
    if isinstance(error, httpx2.ConnectError):
        url = error.request.url
        return f"nothing answers at {url.scheme}://{url.netloc.decode()}. Start the fake with: seedbed serve"
    first = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    return ". ".join([first or type(error).__name__, *getattr(error, "__notes__", ())])
