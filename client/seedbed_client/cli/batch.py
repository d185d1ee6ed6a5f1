"""A batch of images: the names of their files, the display of their progress, and the run itself."""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import httpx2
from rich.console import Console
from rich.constrain import Constrain
from rich.progress import Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text
from seedbed_schemas.commands import ExitCode, is_json
from seedbed_schemas.files import check_writable
from seedbed_schemas.validation import printable

from seedbed_client import errors
from seedbed_client._downloads import image_suffixes
from seedbed_client.models import TaskState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

    from rich.console import RenderableType

    from seedbed_client._async_client import AsyncSeedreamClient
    from seedbed_client._job_log import JobStatus, LoggedJob
    from seedbed_client.cli.run_state import RunState
    from seedbed_client.models import Task


DEFAULT_PATTERN: Final = "{task_id}.jpg"

_WORST_FIRST: Final = (ExitCode.IN_DOUBT, ExitCode.NEGATIVE, ExitCode.RETRY)
"""Exit codes by priority: an image that may have been charged needs attention first."""

_INTERRUPTED: Final = "an earlier run was interrupted while submitting it; it may have been charged"

_PLACEHOLDER: Final = re.compile(r"\{(task_id|index|prompt)(?::0(\d))?\}")
_MAX_SLUG_LENGTH: Final = 40

_REFRESH_SECONDS: Final = 0.2

_WIDE, _NARROW = 100, 32
"""Widths of a terminal, in columns, from which there is room for the IDs of tasks and for the time."""


def plain_id(task_id: str) -> str:
    """Return a task ID as a part of a file name: it comes from the service, which must not choose the directory."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", task_id)


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
        slug = re.sub(r"[\W_]+", "-", prompt)[:_MAX_SLUG_LENGTH].strip("-") or "image"
        values = {"task_id": plain_id(task_id), "index": str(index), "prompt": slug}
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
    """Shows the progress of a batch on standard error: live on a terminal, and as lines otherwise.

    On a terminal, everything else must be printed with :meth:`print`, or it and the display overwrite each other.

    Args:
        prompts: Prompts of the jobs, in order.
    """

    def __init__(self, prompts: Sequence[str]) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        # A dumb terminal cannot move its cursor. The program at the other end of a pipe may print to the same terminal.
        self._is_live = self._console.is_terminal and not (self._console.is_dumb_terminal or _is_pipe(sys.stdout))
        self.total = len(prompts)
        """Number of jobs."""
        self._prompts, self._rows, self._states = prompts, dict[int, TaskID](), dict[int, str]()
        self._saved = self._failed = 0
        self._refreshed = 0.0
        width, is_unicode = self._console.width, self._console.encoding.startswith("utf")
        prompt = Column(ratio=1, no_wrap=True, overflow="ellipsis" if is_unicode else "crop")
        columns: list[ProgressColumn] = [
            SpinnerColumn("dots" if is_unicode else "line"),
            *([_text_column("place", Column(no_wrap=True, justify="right"))] if self.total > 1 else []),
            _text_column("prompt", prompt),
            *([_text_column("id", Column(no_wrap=True))] if width >= _WIDE else []),
            _text_column("state", Column(no_wrap=True)),
            *([TimeElapsedColumn(Column(no_wrap=True))] if width >= _NARROW else []),
        ]
        self._progress = _SummarizedProgress(
            *columns,
            console=self._console,
            transient=True,
            expand=True,
            redirect_stdout=sys.stdout.isatty(),  # a pipe must receive what is printed
            # The thread of rich and a line that is printed meanwhile could both erase the rows of an earlier display.
            auto_refresh=False,
        )

    def __enter__(self) -> Self:
        if self._is_live:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_live:
            self._progress.stop()

    def show(self, number: int, state: str, task_id: str = "") -> None:
        """Show the state of a job, unless it is shown already.

        Args:
            number: Number of the job, from 1.
            state: Its state.
            task_id: ID of its task, once it is known.
        """
        if state == self._states.get(number):
            return
        is_first, self._states[number] = not self._states.get(number), state
        prompt, place = self._prompts[number - 1], f"{number}/{self.total}"
        if not self._is_live:
            # With --json, standard error has one JSON object for each error, unless a person looks at it.
            if task_id and (not is_json() or sys.stderr.isatty()):
                place = f"{place} " if self.total > 1 else ""
                self.print(f"{place}{task_id}: {state}", is_error=True)
            return
        if is_first:
            text = self._escaped(prompt[: self._console.width])
            self._rows[number] = self._progress.add_task("", place=place, prompt=text, id="", state="")
        self._progress.update(self._rows[number], state=self._escaped(state), id=self._escaped(task_id))
        self._summarize(is_final=state in {TaskState.SUCCESS, TaskState.FAIL})

    def finish(self, number: int, *, is_saved: bool) -> None:
        """Remove a job from the display, and count it."""
        self._saved, self._failed = self._saved + is_saved, self._failed + (not is_saved)
        if (row := self._rows.pop(number, None)) is not None:
            self._progress.remove_task(row)
        self._summarize()

    def print(self, text: str, *, is_error: bool = False) -> None:
        """Print a line above the display, on standard output or standard error."""
        stream = sys.stderr if is_error else sys.stdout
        if self._is_live and (is_error or stream.isatty()):
            # Both streams end at the same terminal. The line is not wrapped, so that it can be copied.
            self._console.print(Text(self._escaped(text)), soft_wrap=True)
            return
        encoding = stream.encoding or "utf-8"
        print(printable(text).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)

    async def animate(self) -> None:
        """Draw the display regularly until the task is cancelled."""
        while self._is_live:
            await asyncio.sleep(_REFRESH_SECONDS)
            self._progress.refresh()

    def _summarize(self, *, is_final: bool = False) -> None:
        if self.total > 1:
            failed = f", {self._failed} failed" if self._failed else ""
            running = f", {len(self._rows)} running" if self._rows else ""
            self._progress.summary = f"{self._saved} of {self.total} saved{failed}{running}"
        # Drawing takes milliseconds, and a batch has thousands of changes. animate() draws them a moment later, except
        # for the last state of a task, which would be gone by then.
        now = time.monotonic()
        if self._is_live and (is_final or now - self._refreshed > _REFRESH_SECONDS):
            self._refreshed = now
            self._progress.refresh()

    def _escaped(self, text: str) -> str:
        """Return a text of which each character has the width that the display assumes."""
        return printable(text).encode(self._console.encoding, "backslashreplace").decode(self._console.encoding)


class _SummarizedProgress(Progress):
    """A display of tasks with a summary above them."""

    summary = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.summary:
            yield Text(self.summary, no_wrap=True, overflow="crop")
        if tasks := self.tasks:
            # What does not fit on the screen would be drawn for nothing.
            shown = self.make_tasks_table(tasks[: max(self.console.height - 2, 1)])
            # The terminal echoes ^C at the end of the last row. If that wrapped, the display would lose its place.
            yield Constrain(shown, self.console.width - len("^C") - 1)


def _is_pipe(stream: TextIO) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # the stream is closed, or an object that a program has put in its place
        return False


def _text_column(field: str, column: Column) -> ProgressColumn:
    return TextColumn(f"{{task.fields[{field}]}}", markup=False, table_column=column)


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job.

    Attributes:
        number: Number of the job, from 1.
        job: The job.
        exit_code: 0 if its images are saved.
    """

    number: int
    job: LoggedJob
    exit_code: ExitCode = ExitCode.DONE


@dataclass(frozen=True, slots=True)
class BatchRunner:
    """Runs the jobs of a batch.

    Attributes:
        client: Client of the service.
        state: Jobs and their progress.
        naming: Names of the files.
        timeout: Seconds after which to stop waiting for a task.
        on_update: Called with the number of a job, the state of its task and the ID of the task.
        on_result: Called with the result of each job, in the order in which they finish.
        callback_url: URL to which the service POSTs the finished tasks.
    """

    client: AsyncSeedreamClient
    state: RunState
    naming: Naming
    timeout: float | None
    on_update: Callable[[int, str, str], object]
    on_result: Callable[[JobResult], object]
    callback_url: str | None = None

    async def run(self, concurrency: int) -> ExitCode:
        """Run the jobs and return the exit code of the command."""
        slots, codes = asyncio.Semaphore(concurrency), set[ExitCode]()

        async def run_one(number: int, job: LoggedJob) -> None:
            async with slots:
                result = JobResult(number, job, await self._run_job(number, job))
            codes.add(result.exit_code)
            self.on_result(result)

        try:
            async with self.client, asyncio.TaskGroup() as group:
                for number, job in enumerate(self.state.jobs, start=1):
                    group.create_task(run_one(number, job))
        except ExceptionGroup as group:
            # A full disk ends the run, and every job fails with the same error. One of them is enough, with the IDs of
            # all tasks that could not be recorded.
            error = group.exceptions[0]
            for submission in errors.submissions_of(group):
                if submission.task_id and submission not in errors.submissions_of(error):
                    error.add_note(submission.describe())
            raise error from None
        code = next((code for code in _WORST_FIRST if code in codes), ExitCode.DONE)
        # Without a progress file, the same command would pay for the saved images again.
        pays_again = not self.state.log.path and any(job.status == "saved" for job in self.state.jobs)
        return ExitCode.NEGATIVE if code == ExitCode.RETRY and pays_again else code

    async def _run_job(self, number: int, job: LoggedJob) -> ExitCode:
        error: Exception | None = None
        try:
            if job.status in {"new", "submitted"}:
                await self._submit(number, job)
                await self._save(number, job)
        except errors.SubmissionInDoubtError as doubt:
            self._note_failure(job, f"it is not known whether the task was created and charged ({doubt.reason})")
        except errors.WaitTimeoutError as timeout:
            job.error = str(timeout)
        except errors.JobLogError:
            raise
        except (errors.SeedreamError, httpx2.HTTPError, OSError) as failure:
            # Only a task that has failed is final; a later run may try everything else again.
            is_final = isinstance(failure, errors.GenerationFailedError) and job.task_id
            self._note_failure(job, describe(failure), "failed" if is_final else None)
            error = failure
        if job.status == "submitting":
            settle = f", then add --settle {number}=TASK_ID, or --submit-again {number} if there is no task"
            job.error = f"{job.error or _INTERRUPTED}; check your account{settle if self.state.log.path else ''}"
        return self.code_of(job, error)

    def code_of(self, job: LoggedJob, error: Exception | None) -> ExitCode:
        """Return the exit code of a job, from its status and the error that ended it."""
        if job.status == "submitted":
            # Paid for and not saved. With a progress file, the same command resumes the task.
            return ExitCode.RETRY if self.state.log.path else ExitCode.IN_DOUBT
        if job.status == "new" and error and is_safe_to_retry(error):
            return ExitCode.RETRY
        codes: dict[JobStatus, ExitCode] = {"submitting": ExitCode.IN_DOUBT, "saved": ExitCode.DONE}
        return codes.get(job.status, ExitCode.NEGATIVE)

    def _note_failure(self, job: LoggedJob, message: str, status: JobStatus | None = None) -> None:
        self.state.reload(job)
        self.state.update(job, status or job.status, error=message)

    async def _submit(self, number: int, job: LoggedJob) -> None:
        if job.status == "submitted":
            self.on_update(number, "resumed", job.task_id)
            return
        self.on_update(number, "submitting", "")
        await self.client.submit_once(
            job.key, log=self.state.log, model=job.model, input=job.input, callback_url=self.callback_url
        )
        self.state.reload(job)
        self.on_update(number, "submitted", job.task_id)

    async def _save(self, number: int, job: LoggedJob) -> None:
        def show(task: Task) -> None:
            self.on_update(number, str(task.record.get("state", task.state)), task.task_id)

        task = await self.client.wait(job.task_id, timeout=self.timeout, on_update=show)
        if not task.result_urls:
            raise errors.DownloadError(200, f"task {task.task_id} succeeded, but has no result")
        path, files = self.naming.path(number, job.prompt, task.task_id), []
        for place, url in enumerate(task.result_urls, start=1):
            target = path if place == 1 else path.with_stem(f"{path.stem}-{place}")
            files.append(with_true_suffix(await self._download(url, target), task.task_id))
        self.state.update(job, "saved", files=[str(file) for file in files], error="")

    async def _download(self, url: str, path: Path) -> Path:
        try:
            return await self.client.download(url, to=path)
        except OSError as error:
            error.add_note(f"The image is still at {url}")
            raise


def with_true_suffix(path: Path, task_id: str) -> Path:
    """Rename an image whose suffix names another image format, and return its path.

    Args:
        path: Path of the image.
        task_id: ID of its task. It becomes part of the name if the new name is taken.
    """
    suffixes = image_suffixes(path)
    named = mimetypes.guess_type(path.name)[0] or ""
    suffixes = image_suffixes(path) if named.startswith("image/") and path.is_file() else ()
    if not suffixes or path.suffix.lower() in suffixes:
        return path
    target = path.with_suffix(suffixes[0])
    if target.exists():
        target = target.with_stem(f"{target.stem}-{plain_id(task_id)}")
    return path.replace(target)


def is_safe_to_retry(error: Exception) -> bool:
    """Return whether an error shows that nothing was charged, and that the same request may succeed later."""
    return isinstance(error, errors.RateLimitError | errors.MaintenanceError | httpx2.ConnectError)


def code_of_read(error: Exception) -> ExitCode:
    """Return the exit code of a command that only reads, which can always be repeated."""
    if is_safe_to_retry(error) or isinstance(error, errors.WaitTimeoutError | httpx2.TransportError):
        return ExitCode.RETRY
    return ExitCode.NEGATIVE if isinstance(error, errors.ApiError) else ExitCode.USAGE


def describe(error: Exception) -> str:
    """Return an error as one or more sentences, without the last full stop."""
    if isinstance(error, httpx2.ConnectError):
        url = error.request.url
        server = f"{url.scheme}://{url.netloc.decode()}"
        return f"cannot connect to {server}. To start the mock server, run: seedbed serve"
    message = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    return ". ".join([message or type(error).__name__, *getattr(error, "__notes__", ())])
