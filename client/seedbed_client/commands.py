"""The subcommand ``seedbed generate``."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from seedbed_schemas import Contract, default_contract
from seedbed_schemas.contract import ContractError
from seedbed_schemas.profile import profile_of
from seedbed_schemas.refusals import shown

from seedbed_client.async_client import AsyncSeedreamClient
from seedbed_client.batch import Batch, Outcome
from seedbed_client.errors import ConfigurationError
from seedbed_client.ledger import Job, Ledger, held
from seedbed_client.naming import BY_TASK, Naming
from seedbed_client.options import parse_fields, with_option_flags
from seedbed_client.preview import open_preview
from seedbed_client.progress import TaskProgress
from seedbed_client.service_flags import INTERRUPTED, USAGE_ERROR, ServiceFlags, fail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STANDARD_INPUT = "-"


@with_option_flags
def generate(
    *prompts: str,
    source: Annotated[str | None, Parameter(name="--from", allow_leading_hyphen=True)] = None,
    output: Annotated[str, Parameter(name=["--output", "-o"])] = BY_TASK,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    resume: Path | None = None,
    preview: Annotated[bool, Parameter(negative="")] = False,
    at_once: int = 10,
    timeout: float | None = None,
    contract: Path | None = None,
    field: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    service: ServiceFlags | None = None,
    **options: object,
) -> int:
    """Generate images and save them.

    Args:
        prompts: What the images show, one each.
        source: File of prompts, a line each; - for standard input.
        output: Name of an image, in which {task_id}, {index} (or {index:03}) and {prompt} stand for what they name.
        as_json: Print a line of JSON for each image.
        resume: File in which to note how far the images have come, and from which to go on if it is there.
        preview: Show the images in the terminal, if it can (pip install 'seedbed[preview]').
        at_once: How many images to have made at the same time.
        timeout: Seconds after which to give up a task; by default 15 minutes.
        contract: Contract of the model to ask, a file that seedbed derive wrote; by default the shipped one.
        field: A field of the input as NAME=VALUE, for those that have no flag here; may be repeated.
        service: Which service to call.
        options: What the contract lets one choose.
    """
    try:
        chosen = Contract.load(contract) if contract else default_contract()
        fields = {**options, **parse_fields(field, chosen)}
        jobs = [_job(prompt, chosen, fields) for prompt in _all_prompts(prompts, source)]
        show = open_preview() if preview else None
        client = (service or ServiceFlags()).client(AsyncSeedreamClient, contracts=[chosen])
        with held(resume):
            ledger = Ledger.open(client.base_url, chosen.model, jobs, resume)
            naming = Naming(output)
            naming.check([job.prompt for job in ledger.jobs])
            return _run(_Run(client, ledger, chosen.model, naming, timeout), at_once, _printer(as_json, show))
    except (ConfigurationError, ContractError) as error:
        return fail("generate", str(error), USAGE_ERROR)
    except OSError as error:
        return fail("generate", f"{error.filename}: {error.strerror}", USAGE_ERROR)


def _all_prompts(prompts: tuple[str, ...], source: str | None) -> Iterator[str]:
    """Yield the prompts, and the lines of a file or of standard input, where that is named."""
    yield from prompts
    if source is not None:
        yield from _lines(source)


def _lines(source: str) -> Iterator[str]:
    try:
        text = sys.stdin.read() if source == _STANDARD_INPUT else Path(source).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{source} is no text in UTF-8.") from error
    yield from (line.strip() for line in text.splitlines() if line.strip())


def _job(prompt: str, contract: Contract, fields: dict[str, object]) -> Job:
    given = {name: value for name, value in fields.items() if value is not None}
    caption = profile_of(contract).caption
    return Job(prompt, {**({caption: prompt} if caption else {}), **given})


@dataclass(frozen=True, slots=True)
class _Run:
    client: AsyncSeedreamClient
    ledger: Ledger
    model: str
    naming: Naming
    timeout: float | None


def _run(run: _Run, at_once: int, report: Callable[[Outcome, bool], None]) -> int:
    jobs = run.ledger.jobs
    with TaskProgress() as progress:

        def end(outcome: Outcome) -> None:
            progress.end(outcome.number)
            report(outcome, len(jobs) > 1)

        batch = Batch(run.client, run.ledger, run.model, run.naming, run.timeout, progress.show, end)
        try:
            return asyncio.run(batch.run(max(at_once, 1)))
        except KeyboardInterrupt:
            pass
    for job in jobs:
        if job.stage in {"asked", "made"}:
            fail("generate", _left_behind(job))
    return INTERRUPTED


def _left_behind(job: Job) -> str:
    if job.stage == "made":
        return f"no longer waiting; the task goes on as {job.task_id}"
    return f"interrupted while {shown(job.prompt)!r} was being asked for: it may have been made, and paid for"


def _printer(as_json: bool, show: Callable[[Path], None] | None) -> Callable[[Outcome, bool], None]:  # noqa: FBT001 (a flag)
    def report(outcome: Outcome, is_one_of_many: bool) -> None:  # noqa: FBT001 (as above)
        job = outcome.job
        if as_json:
            print(json.dumps(_told(outcome)), flush=True)
        elif outcome.exit_code == 0:
            for file in job.files:
                print(f"Saved {file}{_size(Path(file))}", flush=True)
        if outcome.exit_code:
            fail("generate", f"{shown(job.prompt)!r}: {job.error}" if is_one_of_many else job.error)
        elif show:
            for file in job.files:
                show(Path(file))

    return report


def _told(outcome: Outcome) -> dict[str, Any]:
    job = outcome.job
    told = {"index": outcome.number, "prompt": job.prompt, "stage": job.stage, "task_id": job.task_id}
    return {**told, "files": job.files, "error": job.error, "exit_code": outcome.exit_code}


def _size(path: Path) -> str:
    return f" ({path.stat().st_size // 1024} KiB)" if path.is_file() else ""
