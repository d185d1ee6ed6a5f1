"""The subcommand ``seedbed generate``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter
from seedbed_schemas import Contract, Schema, commands, job_api
from seedbed_schemas.commands import ExitCode, JsonFlag
from seedbed_schemas.contract import ContractError
from seedbed_schemas.profile import profile_of
from seedbed_schemas.validation import for_display

from seedbed_client._async_client import AsyncSeedreamClient
from seedbed_client._job_log import LoggedJob
from seedbed_client._operations import requires_callback
from seedbed_client._polling import DEFAULT_SCHEDULE
from seedbed_client.cli import batch, service_options
from seedbed_client.cli.run_state import RunState, locked
from seedbed_client.errors import ConfigurationError, JobLogError, checked_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


_STANDARD_INPUT: Final = "-"
_MAX_CONCURRENCY: Final = 1000


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """What to generate.

    Attributes:
        source: File with one prompt per line; - for standard input.
        field: Field of the input as NAME=VALUE, if it has no option of its own. Repeatable.
    """

    source: Annotated[str | None, Parameter(name="--from", allow_leading_hyphen=True)] = None
    field: Annotated[tuple[str, ...], Parameter(show_default=False)] = ()

    def jobs(self, prompts: tuple[str, ...], contract: Contract, options: Mapping[str, object]) -> list[LoggedJob]:
        """Return a job for each prompt, including those in the file.

        Raises:
            ConfigurationError: A prompt or a field is invalid.
            OSError: The file cannot be read.
        """
        fields = {**options, **service_options.parse_fields(self.field, contract)}
        given = {name: value for name, value in fields.items() if value is not None}
        # With the defaults, as the request will have them: a later run compares the jobs with those of the file.
        caption = profile_of(contract).caption
        all_prompts = [*prompts, *(_lines(self.source) if self.source is not None else ())]
        return [
            LoggedJob(
                str(number),
                service="",
                model=contract.model,
                input=contract.with_defaults({**({caption: prompt} if caption else {}), **given}),
                prompt=_text(prompt),
            )
            for number, prompt in enumerate(all_prompts, start=1)
        ]


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How to run the batch.

    Attributes:
        output: File name pattern with {task_id}, {index} (or {index:03}) and {prompt}; by default {task_id}.jpg. If its
            suffix names another image format than the service sends, the file gets the suffix of that format.
        resume: Progress file; an existing one is resumed.
        concurrency: Number of images to generate at the same time, from 1 to 1000.
        timeout: Seconds to wait for a task; by default 15 minutes.
        settle: Task of a submission in doubt, as NUMBER=TASK_ID, where NUMBER is that of the image. Repeatable.
        submit_again: Number of an image whose submission is in doubt, and for which you found no task. Repeatable.
        callback_url: URL to which the service also POSTs each finished task; the command itself polls.
    """

    output: Annotated[str | None, Parameter(name=["--output", "-o"])] = None
    resume: Path | None = None
    concurrency: int = 10
    timeout: float | None = None
    settle: Annotated[tuple[str, ...], Parameter(show_default=False)] = ()
    submit_again: Annotated[tuple[int, ...], Parameter(show_default=False)] = ()
    callback_url: str | None = None

    def check(self) -> None:
        """Check the options.

        Raises:
            ConfigurationError: An option is invalid.
        """
        DEFAULT_SCHEDULE.limit(self.timeout)
        checked_number("--concurrency", self.concurrency, 1, _MAX_CONCURRENCY, whole=True)
        _text(self.output or "")
        if (self.settle or self.submit_again) and self.resume is None:
            raise ConfigurationError("--settle and --submit-again need the progress file; add --resume FILE")

    def check_callback(self, jobs: Iterable[LoggedJob], contract: Contract) -> None:
        """Check the callback URL of the tasks that are not created yet.

        Raises:
            ConfigurationError: The contract requires one and none is given, or it does not allow the given one.
        """
        if not any(job.status == "new" for job in jobs):
            return
        if self.callback_url is None:
            if requires_callback(contract):
                raise ConfigurationError(f"{contract.model} requires a callback URL; add --callback-url URL")
            return
        schema = contract.part("request")["properties"].get(job_api().fields.callback, {})
        problems = Schema(schema, name="it").violations(self.callback_url)
        if problems:
            raise ConfigurationError(f"invalid callback URL {self.callback_url!r}; {problems[0].message}")


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What to print.

    Attributes:
        as_json: Print a line of JSON for each image.
    """

    as_json: JsonFlag = False


def _lines(source: str) -> Iterator[str]:
    try:
        # Editors on Windows put a byte order mark before UTF-8.
        text = sys.stdin.read() if source == _STANDARD_INPUT else Path(source).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source} is not UTF-8 text; convert it to UTF-8") from error
    yield from (line.strip() for line in text.splitlines() if line.strip())


def _text(argument: str) -> str:
    # Python represents bytes of the command line that are not valid text by lone surrogates.
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{argument!a} is not UTF-8 text; use a terminal with UTF-8") from error
    return argument


@service_options.with_input_options
def generate(
    *prompts: str,
    prompt_options: PromptOptions | None = None,
    batch_options: BatchOptions | None = None,
    output_options: OutputOptions | None = None,
    service: service_options.ServiceOptions | None = None,
    **options: object,
) -> int:
    """Generate images and save them.

    Args:
        prompts: One prompt per image.
        prompt_options: What to generate.
        batch_options: How to run the batch.
        output_options: What to print.
        service: The service to call.
        options: Fields of the input, as the contract defines them.
    """
    prompt_options, batch_options = prompt_options or PromptOptions(), batch_options or BatchOptions()
    output_options, service = output_options or OutputOptions(), service or service_options.ServiceOptions()
    try:
        batch_options.check()
        model = service.model()
        jobs = prompt_options.jobs(prompts, model, options)
        batch_options.check_callback(jobs, model)
        client = service.client(AsyncSeedreamClient)
        with locked(batch_options.resume):
            state = RunState.open(client.base_url, jobs, batch_options.resume, batch_options.output)
            state.settle(batch_options.settle)
            state.submit_again(batch_options.submit_again)
            batch_options.check_callback(state.jobs, model)  # those of an earlier run
            naming = batch.Naming(state.output or batch.DEFAULT_PATTERN)
            naming.check([job.prompt for job in state.jobs])
            return _run(client, state, naming, batch_options, as_json=output_options.as_json)
    except (ConfigurationError, ContractError) as error:
        return commands.fail("generate", str(error))
    except (JobLogError, OSError) as error:
        return commands.fail("generate", batch.describe(error))


def _run(
    client: AsyncSeedreamClient, state: RunState, naming: batch.Naming, options: BatchOptions, *, as_json: bool
) -> int:
    with batch.ProgressDisplay([job.prompt for job in state.jobs]) as progress:

        def finish(result: batch.JobResult) -> None:
            progress.finish(result.number, is_saved=result.exit_code == 0)
            _print_result(result, progress, as_json=as_json)

        async def run() -> int:
            runner = batch.BatchRunner(
                client, state, naming, options.timeout, progress.show, finish, callback_url=options.callback_url
            )
            animation = asyncio.create_task(progress.animate())
            try:
                return await runner.run(options.concurrency)
            finally:
                animation.cancel()

        # The command itself names each image that an interruption leaves in doubt; the client would warn of it, too.
        logging.getLogger("seedbed_client").addHandler(logging.NullHandler())
        try:
            return asyncio.run(run())
        except KeyboardInterrupt:
            code: int = commands.interrupted()
        except (OSError, JobLogError) as error:
            # The progress file or standard output cannot be written. Errors of images do not end the run.
            code = commands.fail("generate", batch.describe(error))
    return report_unfinished(state, code)


def report_unfinished(state: RunState, code: int) -> int:
    """Print the tasks that a run has left behind, and return the exit code of the command, which would be another."""
    for job in state.jobs:
        with contextlib.suppress(JobLogError):  # it was reported
            state.reload(job)
        if job.status == "submitted":
            commands.warn("generate", f"stopped waiting; the task continues as {job.task_id}")
        if job.status == "submitting":
            prompt = for_display(job.prompt)
            commands.warn(
                "generate", f"interrupted while submitting {prompt!r}; the task may have been created and charged"
            )
        if job.status in {"submitted", "submitting"} and code != ExitCode.INTERRUPTED:
            code = ExitCode.IN_DOUBT
    return code


def _print_result(result: batch.JobResult, progress: batch.ProgressDisplay, *, as_json: bool) -> None:
    job = result.job
    if as_json:
        values: dict[str, object] = {
            "index": result.number,
            "prompt": job.prompt,
            "status": job.status,
            "task_id": job.task_id,
        }
        values |= {"files": job.files, "error": job.error, "exit_code": result.exit_code}
        # The display needs text of the terminal, whose encoding may lack a character.
        progress.print(commands.json_text(values, is_ascii=True).rstrip())
    elif result.exit_code == 0:
        for file in map(Path, job.files):
            # A resumed run also reports images of the earlier one, which may have been moved since.
            size = f" ({file.stat().st_size // 1024} KiB)" if file.is_file() else ""
            progress.print(f"Saved {file}{size}")
    if result.exit_code:
        message = f"{for_display(job.prompt)!r}: {job.error}" if progress.total > 1 else job.error
        for line in commands.error_lines("generate", message):
            progress.print(line, is_error=True)
