"""A batch of images: the names of their files, the display of their progress, and the run itself."""

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

from seedbed_client import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from rich.progress import TaskID

    from seedbed_client._async_client import AsyncSeedreamClient
    from seedbed_client.cli.run_state import Job, JobStatus, RunState
    from seedbed_client.models import Task


DEFAULT_PATTERN: Final = "{task_id}.jpg"

FAILED: Final = 1
UNKNOWN: Final = 3
UNFINISHED: Final = 4
_WORST_FIRST: Final = (UNKNOWN, FAILED, UNFINISHED)
"""Exit codes by priority: an image that may have been charged needs attention first."""

_PLACEHOLDER: Final = re.compile(r"\{(task_id|index|prompt)(?::0(\d))?\}")
_MAX_SLUG_LENGTH: Final = 40


@dataclass(frozen=True, slots=True)
class Naming:
    """Names files after a pattern such as ``images/{index:03}-{prompt}.jpg``.

    Args:
        pattern: Path with the placeholders ``{task_id}``, ``{index}`` and ``{prompt}``.

    Raises:
        ConfigurationError: The pattern has another placeholder.
    """

    pattern: str

    def __post_init__(self) -> None:
        if set("{}") & set(_PLACEHOLDER.sub("", self.pattern)):
            raise errors.ConfigurationError(
                f"unknown placeholder in {self.pattern!r}; valid placeholders: {{task_id}}, {{index}}, {{index:03}}, "
                "{prompt}"
            )

    def path(self, index: int, prompt: str, task_id: str = "task") -> Path:
        """Return the file of an image."""
        # The task ID comes from the service, which must not choose the directory.
        plain_id = re.sub(r"[^A-Za-z0-9_-]", "_", task_id)
        slug = re.sub(r"[\W_]+", "-", prompt)[:_MAX_SLUG_LENGTH].strip("-") or "image"
        values = {"task_id": plain_id, "index": str(index), "prompt": slug}
        return Path(_PLACEHOLDER.sub(lambda place: values[place[1]].rjust(int(place[2] or 0), "0"), self.pattern))

    def check(self, prompts: Sequence[str]) -> None:
        """Check that the images can be saved, before any of them is paid for.

        Raises:
            ConfigurationError: Two images would have the same name.
            OSError: A file cannot be written.
        """
        paths = [self.path(index, prompt) for index, prompt in enumerate(prompts, start=1)]
        if "{task_id}" not in self.pattern and len(set(paths)) < len(paths):
            raise errors.ConfigurationError(
                f"{self.pattern!r} gives several images the same name; add {{index}} or {{task_id}} to it"
            )
        for path in paths:
            check_writable(path)


class ProgressDisplay:
    """Shows the progress of tasks on standard error: live on a terminal, and as lines otherwise."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        text = TextColumn("{task.description}", markup=False)
        self._bar = Progress(
            SpinnerColumn(), text, TimeElapsedColumn(), console=self._console, transient=True, redirect_stdout=False
        )
        self._lines: dict[int, TaskID] = {}
        self._texts: dict[int, str] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def show(self, number: int, text: str) -> None:
        """Show the progress of a job, unless it is shown already."""
        if text == self._texts.get(number):
            return
        self._texts[number] = text
        if not self._console.is_terminal:
            self._console.print(printable(text), soft_wrap=True)
            return
        if number not in self._lines:
            self._lines[number] = self._bar.add_task("")
        self._bar.update(self._lines[number], description=printable(text))

    def finish(self, number: int) -> None:
        """Remove a job from the display."""
        if line := self._lines.pop(number, None):
            self._bar.remove_task(line)


_update_submission: ContextVar[Callable[[JobStatus], None] | None] = ContextVar(
    "updates the job that is being submitted", default=None
)


async def pause(seconds: float) -> None:
    """Sleep. A job whose request will be repeated counts as new in the meantime, since nothing was charged."""
    update = _update_submission.get()
    if update:
        update("new")
    await asyncio.sleep(seconds)
    if update:
        update("submitting")


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job.

    Attributes:
        number: Number of the job, from 1.
        job: The job.
        exit_code: 0 if its images are saved.
    """

    number: int
    job: Job
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class BatchRunner:
    """Runs the jobs of a batch.

    Attributes:
        client: Client of the service, made with :func:`pause` as its ``sleep``.
        state: Jobs and their progress.
        naming: Names of the files.
        timeout: Seconds after which to stop waiting for a task.
        on_update: Called with the number of a job and its progress.
        on_result: Called with the result of each job, in the order in which they finish.
    """

    client: AsyncSeedreamClient
    state: RunState
    naming: Naming
    timeout: float | None
    on_update: Callable[[int, str], object]
    on_result: Callable[[JobResult], object]

    async def run(self, concurrency: int) -> int:
        """Run the jobs and return the exit code of the command."""
        slots, codes = asyncio.Semaphore(concurrency), set[int]()

        async def run_one(number: int, job: Job) -> None:
            async with slots:
                result = JobResult(number, job, await self._run_job(number, job))
            codes.add(result.exit_code)
            self.on_result(result)

        try:
            async with self.client, asyncio.TaskGroup() as group:
                for number, job in enumerate(self.state.jobs, start=1):
                    group.create_task(run_one(number, job))
        except ExceptionGroup as errors:
            # A full disk ends the run, and every job fails with the same error. One of them is enough.
            raise errors.exceptions[0] from None
        return next((code for code in _WORST_FIRST if code in codes), 0)

    async def _run_job(self, number: int, job: Job) -> int:
        try:
            if job.status in {"new", "submitted"}:
                await self._submit(number, job)
                await self._save(number, job)
        except errors.SubmissionUnknownError as error:
            job.error = str(error)
        except errors.WaitTimeoutError as error:
            job.error = str(error)
            return UNFINISHED
        except (errors.SeedreamError, httpx2.HTTPError, OSError) as error:
            job.error = describe(error)
            # Only a task that has failed is final; a later run may try everything else again.
            is_final = isinstance(error, errors.GenerationFailedError) and job.task_id
            self.state.update(job, "failed" if is_final else job.status)
            return FAILED
        if job.status == "submitting":
            job.error = job.error or "an earlier run was interrupted while submitting it; it may have been charged"
            return UNKNOWN
        return FAILED if job.status == "failed" else 0

    async def _submit(self, number: int, job: Job) -> None:
        if job.status == "submitted":
            self.on_update(number, f"{job.task_id}: resumed")
            return
        self.state.update(job, "submitting", error="")
        token = _update_submission.set(partial(self.state.update, job))
        try:
            task_id = (await self.client.submit(model=self.state.model, input=job.input)).task_id
        except errors.SubmissionUnknownError:
            raise
        except (errors.SeedreamError, httpx2.HTTPError):
            self.state.update(job, "new")  # the service refused it or was not reached, so nothing was charged
            raise
        finally:
            _update_submission.reset(token)
        self.state.update(job, "submitted", task_id=task_id)
        self.on_update(number, f"{task_id}: submitted")

    async def _save(self, number: int, job: Job) -> None:
        def show(task: Task) -> None:
            self.on_update(number, f"{task.task_id}: {task.record.get('state', task.state)}")

        task = await self.client.wait(job.task_id, timeout=self.timeout, on_update=show)
        if not task.result_urls:
            raise errors.DownloadError(200, f"task {task.task_id} succeeded, but has no result")
        path, files = self.naming.path(number, job.prompt, task.task_id), []
        for place, url in enumerate(task.result_urls, start=1):
            files.append(await self._download(url, path if place == 1 else path.with_stem(f"{path.stem}-{place}")))
        self.state.update(job, "saved", files=[str(file) for file in files], error="")

    async def _download(self, url: str, path: Path) -> Path:
        try:
            return await self.client.download(url, to=path)
        except OSError as error:
            error.add_note(f"The image is still at {url}")
            raise


def describe(error: Exception) -> str:
    """Return an error as one or more sentences, without the last full stop."""
    if isinstance(error, httpx2.ConnectError):
        url = error.request.url
        server = f"{url.scheme}://{url.netloc.decode()}"
        return f"cannot connect to {server}. To start the mock server, run: seedbed serve"
    message = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    return ". ".join([message or type(error).__name__, *getattr(error, "__notes__", ())])
