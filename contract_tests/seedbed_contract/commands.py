"""The subcommand ``seedbed check``."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from seedbed_schemas.contract import ContractError
from seedbed_schemas.files import check_writable, write_whole
from seedbed_schemas.refusals import printable

from seedbed_contract.check_flags import STANDARD, ReportFlags, RunFlags, TargetFlags
from seedbed_contract.detection import CannotJudge
from seedbed_contract.findings import Judgement
from seedbed_contract.judge import OUT_OF_TIME, Options, Run
from seedbed_contract.plan import most_tasks, planned
from seedbed_contract.reports import terminal
from seedbed_contract.reports.progress import RunProgress
from seedbed_contract.target import Target, TargetError
from seedbed_contract.traffic import HarError, judge_traffic, read_har
from seedbed_contract.wire import OutOfTime

_FINDINGS = 1
_NOT_JUDGED = 2
_INTERRUPTED = 130


def check(
    url: str | None = None,
    /,
    *,
    whom: TargetFlags | None = None,
    how: RunFlags | None = None,
    reports: ReportFlags | None = None,
    har: Path | None = None,
) -> int:
    """Judge whether a server keeps the contract: exit 0 it does, 1 it does not, 2 it cannot be judged.

    A server that is not on this machine is sent only what it has to refuse, unless --spend allows it to cost credits.

    Args:
        url: Where the server is, such as http://127.0.0.1:8721.
        whom: Whom to judge.
        how: How to judge.
        reports: Where to write reports.
        har: Judge the traffic that this file recorded (HAR 1.2), and send nothing.
    """
    whom, how, reports = whom or TargetFlags(), how or RunFlags(), reports or ReportFlags()
    try:
        reports.check()
        for path, _ in reports.asked_for():
            if path != STANDARD:
                check_writable(path)  # before the run takes its time
        options = how.options()
        if har:
            return _report(_judge_file(har, url or "", whom, options, quiet=how.quiet), reports)
        return _check(whom.target(url), options, how, reports)
    except OutOfTime:
        return _fail("the time was over before the first questions were answered. Give more with --time-limit")
    except (TargetError, ContractError, HarError, CannotJudge) as error:
        return _fail(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror}")
    except KeyboardInterrupt:
        return _fail("stopped; nothing is judged", code=_INTERRUPTED)


def _check(target: Target, options: Options, how: RunFlags, reports: ReportFlags) -> int:
    if how.dry_run:
        return _list(target, options)
    if not _is_agreed(target, options):
        return _fail("nothing was sent")
    return _report(_judge(target, options, quiet=how.quiet), reports)


def _judge(target: Target, options: Options, *, quiet: bool) -> Judgement:
    with Run(target, options) as run:
        checks = run.checks()
        with RunProgress(Console(stderr=True), len(checks), quiet=quiet) as progress:
            run.wire.on_sent = progress.sent
            for check in checks:
                progress.check(check.name, check.about)
                run.make(check)
        return run.judgement()


def _judge_file(path: Path, base_url: str, whom: TargetFlags, options: Options, *, quiet: bool) -> Judgement:
    started = time.monotonic()
    recorded = read_har(path.read_bytes())
    with RunProgress(Console(stderr=True), 1, quiet=quiet) as progress:
        progress.check("traffic", f"{path.name}, {len(recorded)} exchanges")
        judgement = judge_traffic(
            recorded,
            path.name,
            contract=options.contract,
            base_url=base_url,
            dialect=whom.dialect,
            http_status=whom.http_status,
            signing_key=whom.signing_key,
            noted=progress.sent,
        )
    return replace(judgement, seconds=time.monotonic() - started)


def _report(judgement: Judgement, reports: ReportFlags) -> int:
    for path, form in reports.asked_for():
        if path != STANDARD:
            write_whole(path, form(judgement).encode())
    try:
        _print(judgement, reports)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # whoever reads has seen enough; rich would end with a code of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _code(judgement)


def _print(judgement: Judgement, reports: ReportFlags) -> None:
    forms = [form for path, form in reports.asked_for() if path == STANDARD]
    terminal.show(judgement, Console(stderr=bool(forms)))
    for form in forms:
        print(form(judgement))


def _code(judgement: Judgement) -> int:
    """Return the exit code: what the time was too short for has not been found to conform."""
    if not judgement.conforms:
        return _FINDINGS
    if any(not check.judged and check.reason == OUT_OF_TIME for check in judgement.checks):
        return _NOT_JUDGED
    return 0 if any(check.judged for check in judgement.checks) else _NOT_JUDGED


def _list(target: Target, options: Options) -> int:
    for request in planned(target, options):
        print(printable(f"{request.check}: {request.what} -> {request.due}"))
    print(_cost(target, options))
    return 0


def _cost(target: Target, options: Options) -> str:
    tasks = most_tasks(target, options)
    if tasks is None:
        return f"{target.base_url} is on this machine: its tasks cost nothing."
    if tasks == 0:
        return f"{target.base_url} is sent only what it has to refuse. To judge tasks, too, allow credits with --spend."
    return f"{target.base_url} may be asked for {tasks} tasks, which cost up to {target.spend} credits."


def _is_agreed(target: Target, options: Options) -> bool:
    """Ask whether credits may be spent, where there is somebody to ask."""
    if not most_tasks(target, options):
        return True
    print(_cost(target, options), file=sys.stderr)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _fail(sentence: str, *, code: int = _NOT_JUDGED) -> int:
    print(f"seedbed check: {printable(sentence).rstrip('.')}.", file=sys.stderr)
    return code
