"""The flags of ``seedbed generate``: what to make, how to go about it, and what to tell of it."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter
from seedbed_schemas import Contract, default_contract
from seedbed_schemas.contract import ContractError
from seedbed_schemas.profile import profile_of
from seedbed_schemas.validation import for_display

from seedbed_client._async_client import AsyncSeedreamClient
from seedbed_client._polling import DEFAULT_SCHEDULE
from seedbed_client.cli.batch import BY_TASK, FAILED, BatchRunner, Naming, Outcome, TaskProgress, pause, told
from seedbed_client.cli.run_state import Job, RunState, locked
from seedbed_client.cli.service_options import (
    INTERRUPTED,
    USAGE_ERROR,
    ServiceOptions,
    fail,
    parse_fields,
    say,
    with_option_flags,
)
from seedbed_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


_STANDARD_INPUT: Final = "-"


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """What to make.

    Attributes:
        source: File of prompts, a line each; - for standard input.
        contract: Contract of the model to ask, a file that seedbed derive wrote; by default the shipped one.
        field: A field of the input as NAME=VALUE, for those that have no flag here; may be repeated.
    """

    source: Annotated[str | None, Parameter(name="--from", allow_leading_hyphen=True)] = None
    contract: Path | None = None
    field: tuple[str, ...] = ()

    def model(self) -> Contract:
        """Return the contract of the model.

        Raises:
            ContractError: The file is none.
            OSError: It cannot be read.
        """
        return Contract.load(self.contract) if self.contract else default_contract()

    def jobs(self, prompts: tuple[str, ...], contract: Contract, options: Mapping[str, object]) -> list[Job]:
        """Return a job for each prompt, and for each line of the file that is named.

        Raises:
            ConfigurationError: A prompt or a field cannot be read.
            OSError: The file cannot be read.
        """
        fields = {**options, **parse_fields(self.field, contract)}
        given = {name: value for name, value in fields.items() if value is not None}
        caption = profile_of(contract).caption
        every = [*prompts, *(_lines(self.source) if self.source is not None else ())]
        return [Job(_text(prompt), {**({caption: prompt} if caption else {}), **given}) for prompt in every]


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How to go about it.

    Attributes:
        output: Name of an image, in which {task_id}, {index} (or {index:03}) and {prompt} stand for what they name; by
            default {task_id}.jpg, or that of the run that goes on.
        resume: File in which to note how far the images have come, and from which to go on if it is there.
        concurrency: How many images to have made at the same time.
        timeout: Seconds after which to give up a task; by default 15 minutes.
    """

    output: Annotated[str | None, Parameter(name=["--output", "-o"])] = None
    resume: Path | None = None
    concurrency: int = 10
    timeout: float | None = None

    def check(self) -> None:
        """Find out whether these can be used.

        Raises:
            ConfigurationError: One of them cannot.
        """
        DEFAULT_SCHEDULE.patience(self.timeout)
        _text(self.output or "")


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What to tell of it.

    Attributes:
        as_json: Print a line of JSON for each image.
    """

    as_json: Annotated[bool, Parameter(name="--json")] = False


def _lines(source: str) -> Iterator[str]:
    try:
        text = sys.stdin.read() if source == _STANDARD_INPUT else Path(source).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source} is no text in UTF-8.") from error
    yield from (line.strip() for line in text.splitlines() if line.strip())


def _text(word: str) -> str:
    """Return a word of the command line, which may hold bytes that are no text."""
    try:
        word.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{word!a} is no text in UTF-8.") from error
    return word


@with_option_flags
def generate(
    *prompts: str,
    what: PromptOptions | None = None,
    how: BatchOptions | None = None,
    report: OutputOptions | None = None,
    service: ServiceOptions | None = None,
    **options: object,
) -> int:
    """Generate images and save them.

    Args:
        prompts: What the images show, one each.
        what: What to make.
        how: How to go about it.
        report: What to tell of it.
        service: Which service to call.
        options: What the contract lets one choose.
    """
    what, how, report = what or PromptOptions(), how or BatchOptions(), report or OutputOptions()
    try:
        how.check()
        model = what.model()
        jobs = what.jobs(prompts, model, options)
        client = (service or ServiceOptions()).client(AsyncSeedreamClient, contracts=[model], sleep=pause)
        with locked(how.resume):
            ledger = RunState.open(client.base_url, model.model, jobs, how.resume, how.output)
            naming = Naming(ledger.output or BY_TASK)
            naming.check([job.prompt for job in ledger.jobs])
            return _run(
                _Run(client, ledger, model.model, naming, how.timeout), how.concurrency, _printer(report.as_json)
            )
    except (ConfigurationError, ContractError) as error:
        return fail("generate", str(error), USAGE_ERROR)
    except OSError as error:
        return fail("generate", told(error), USAGE_ERROR)


@dataclass(frozen=True, slots=True)
class _Run:
    client: AsyncSeedreamClient
    ledger: RunState
    model: str
    naming: Naming
    timeout: float | None


def _run(run: _Run, concurrency: int, report: Callable[[Outcome, bool], None]) -> int:
    jobs = run.ledger.jobs
    with TaskProgress() as progress:

        def end(outcome: Outcome) -> None:
            progress.end(outcome.number)
            report(outcome, len(jobs) > 1)

        batch = BatchRunner(run.client, run.ledger, run.model, run.naming, run.timeout, progress.show, end)
        try:
            return asyncio.run(batch.run(max(concurrency, 1)))
        except KeyboardInterrupt:
            code = INTERRUPTED
        except OSError as error:  # the file of the run, or standard output, cannot be written
            code = fail("generate", told(error), FAILED)
    for job in jobs:
        if job.stage in {"asked", "made"}:
            fail("generate", _left_behind(job))
    return code


def _left_behind(job: Job) -> str:
    if job.stage == "made":
        return f"no longer waiting; the task goes on as {job.task_id}"
    return f"interrupted while {for_display(job.prompt)!r} was being asked for: it may have been made, and paid for"


def _printer(as_json: bool) -> Callable[[Outcome, bool], None]:  # noqa: FBT001 (a flag)
    def report(outcome: Outcome, is_one_of_many: bool) -> None:  # noqa: FBT001 (as above)
        job = outcome.job
        if as_json:
            say(json.dumps(_as_json(outcome)))
        elif outcome.exit_code == 0:
            for file in job.files:
                say(f"Saved {file}{_size(Path(file))}")
        if outcome.exit_code:
            fail("generate", f"{for_display(job.prompt)!r}: {job.error}" if is_one_of_many else job.error)

    return report


def _as_json(outcome: Outcome) -> dict[str, Any]:
    job = outcome.job
    told = {"index": outcome.number, "prompt": job.prompt, "stage": job.stage, "task_id": job.task_id}
    return {**told, "files": job.files, "error": job.error, "exit_code": outcome.exit_code}


def _size(path: Path) -> str:
    return f" ({path.stat().st_size // 1024} KiB)" if path.is_file() else ""
