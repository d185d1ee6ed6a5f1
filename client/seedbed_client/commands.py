"""The subcommand ``seedbed generate``."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedbed_schemas.contract import ContractError
from seedbed_schemas.refusals import shown

from seedbed_client.async_client import AsyncSeedreamClient
from seedbed_client.batch import FAILED, Batch, Outcome, pause, told
from seedbed_client.errors import ConfigurationError
from seedbed_client.generate_flags import JobFlags, ReportFlags, RunFlags
from seedbed_client.ledger import Job, Ledger, held
from seedbed_client.naming import BY_TASK, Naming
from seedbed_client.options import with_option_flags
from seedbed_client.preview import open_preview
from seedbed_client.progress import TaskProgress
from seedbed_client.service_flags import INTERRUPTED, USAGE_ERROR, ServiceFlags, fail, say

if TYPE_CHECKING:
    from collections.abc import Callable


@with_option_flags
def generate(
    *prompts: str,
    what: JobFlags | None = None,
    how: RunFlags | None = None,
    report: ReportFlags | None = None,
    service: ServiceFlags | None = None,
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
    what, how, report = what or JobFlags(), how or RunFlags(), report or ReportFlags()
    try:
        how.check()
        model = what.model()
        jobs = what.jobs(prompts, model, options)
        show = open_preview() if report.preview else None
        client = (service or ServiceFlags()).client(AsyncSeedreamClient, contracts=[model], sleep=pause)
        with held(how.resume):
            ledger = Ledger.open(client.base_url, model.model, jobs, how.resume, how.output)
            naming = Naming(ledger.output or BY_TASK)
            naming.check([job.prompt for job in ledger.jobs])
            code = _run(_Run(client, ledger, model.model, naming, how.timeout), how.at_once, _printer(report.as_json))
    except (ConfigurationError, ContractError) as error:
        return fail("generate", str(error), USAGE_ERROR)
    except OSError as error:
        return fail("generate", told(error), USAGE_ERROR)
    if show:
        for file in (file for job in ledger.jobs for file in job.files):
            show(Path(file))
    return code


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
    return f"interrupted while {shown(job.prompt)!r} was being asked for: it may have been made, and paid for"


def _printer(as_json: bool) -> Callable[[Outcome, bool], None]:  # noqa: FBT001 (a flag)
    def report(outcome: Outcome, is_one_of_many: bool) -> None:  # noqa: FBT001 (as above)
        job = outcome.job
        if as_json:
            say(json.dumps(_as_json(outcome)))
        elif outcome.exit_code == 0:
            for file in job.files:
                say(f"Saved {file}{_size(Path(file))}")
        if outcome.exit_code:
            fail("generate", f"{shown(job.prompt)!r}: {job.error}" if is_one_of_many else job.error)

    return report


def _as_json(outcome: Outcome) -> dict[str, Any]:
    job = outcome.job
    told = {"index": outcome.number, "prompt": job.prompt, "stage": job.stage, "task_id": job.task_id}
    return {**told, "files": job.files, "error": job.error, "exit_code": outcome.exit_code}


def _size(path: Path) -> str:
    return f" ({path.stat().st_size // 1024} KiB)" if path.is_file() else ""
