"""The flags of ``seedbed check``: whom to judge, how, and where to write the reports."""

from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

from cyclopts import Parameter
from rich.console import Console
from seedbed_schemas import Contract, default_contract, local
from seedbed_schemas.contract import ContractError
from seedbed_schemas.files import check_writable, write_whole
from seedbed_schemas.profile import profile_of
from seedbed_schemas.validation import printable

from seedbed_contract.cases import accepted, raw, refused, wrong_keys
from seedbed_contract.checker import OUT_OF_TIME, TIME_LIMIT, Options, Run
from seedbed_contract.detection import CannotCheckError
from seedbed_contract.findings import Report
from seedbed_contract.http import OutOfTimeError
from seedbed_contract.reports import html_report, json_report, junit_report, markdown_report, terminal
from seedbed_contract.reports.terminal import RunProgress
from seedbed_contract.session import Budget
from seedbed_contract.target import DialectName, HttpStatusName, Target, TargetError, is_loopback, target_of
from seedbed_contract.traffic import HarError, check_traffic, read_har

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


KEY_VARIABLE: Final = "SEEDBED_API_KEY"
STANDARD: Final = Path("-")
"""Stands for standard output."""
_MOST_SECONDS: Final = 86_400


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """Whom to judge.

    Attributes:
        key: A key to the server; else SEEDBED_API_KEY, else for a server on this machine the local fake's own.
        second_key: A key of another account, to see that accounts are kept apart.
        signing_key: What signs the callbacks of the account.
        dialect: Whether it answers as documented or as the service was observed to; auto finds out.
        http_status: Whether HTTP says 200 always, or the code; auto finds out.
        fail_prompt: A prompt that makes a task of this server fail.
        callback_host: Name or address by which the server reaches this machine, where it is not on it.
        require: What the server must have, of credit, callbacks, models, modelSchema, downloadUrl, faults; repeatable.
        spend: Credits that a run may cost where the server is not on this machine.
    """

    key: str | None = None
    second_key: str = ""
    signing_key: str = ""
    dialect: DialectName = "auto"
    http_status: HttpStatusName = "auto"
    fail_prompt: str = ""
    callback_host: str = ""
    require: tuple[str, ...] = ()
    spend: str = "0"

    def target(self, url: str | None) -> Target:
        """Return the target.

        Raises:
            TargetError: There is none, or it cannot be judged like this.
        """
        if not url:
            raise TargetError(f"Which server? Give its URL, such as {local.BASE_URL}, or recorded traffic with --har.")
        return target_of(
            url,
            os.environ.get(KEY_VARIABLE) or _local_key(url) if self.key is None else self.key,
            second_key=self.second_key,
            signing_key=self.signing_key,
            dialect=self.dialect,
            http_status=self.http_status,
            fail_prompt=self.fail_prompt,
            callback_host=self.callback_host,
            required=frozenset(self.require),
            spend=_credits(self.spend),
        )


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How to judge.

    Attributes:
        contract: Contract to judge by, a file that seedbed derive wrote; by default the shipped one.
        max_examples: How many random requests each search makes.
        time_limit: Seconds that a run may take.
        seed: What decides what is drawn at random; the same seed repeats a run.
        only: Checks to make, by patterns such as 'callbacks.*'; repeatable.
        dry_run: List what would be sent, and send nothing.
        quiet: Show no progress.
    """

    contract: Path | None = None
    max_examples: int = 100
    time_limit: float = TIME_LIMIT
    seed: int = 0
    only: tuple[str, ...] = ()
    dry_run: bool = False
    quiet: bool = False

    def options(self) -> Options:
        """Return how the run goes.

        Raises:
            TargetError: A number is out of range.
            ContractError: The contract is none.
            OSError: The contract cannot be read.
        """
        if self.max_examples < 1:
            raise TargetError("The number of random requests is 1 or more; see --max-examples.")
        if not (math.isfinite(self.time_limit) and 0 < self.time_limit <= _MOST_SECONDS):
            raise TargetError(
                f"The time of a run is more than 0 and at most {_MOST_SECONDS} seconds; see --time-limit."
            )
        contract = Contract.load(self.contract) if self.contract else default_contract()
        options = Options(self.seed, self.max_examples, self.time_limit, self.only, contract)
        options.checks()  # so that a mistaken name is told before anything is sent
        return options


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Where to write reports; - is standard output.

    Attributes:
        junit: JUnit XML, for CI.
        html: One file to look at.
        json: For programs.
        markdown: For a pull request.
    """

    junit: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    html: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    json: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    markdown: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None

    def check(self) -> None:
        """Refuse two reports that would go to one place.

        Raises:
            TargetError: Two go to the same file, or to standard output.
        """
        paths = [path for path, _ in self.asked_for()]
        for path in paths:
            if paths.count(path) > 1:
                raise TargetError(f"Two reports would go to {path}: give each a place of its own.")

    def asked_for(self) -> Iterator[tuple[Path, Callable[[Report], str]]]:
        """Yield each file with what writes its report."""
        forms = (
            (self.junit, junit_report.render),
            (self.html, html_report.render),
            (self.json, json_report.render),
            (self.markdown, markdown_report.render),
        )
        yield from ((path, form) for path, form in forms if path)


def _local_key(url: str) -> str:
    try:
        return local.KEY if is_loopback(urlsplit(url).hostname or "") else ""
    except ValueError:
        return local.KEY  # the URL is refused by name in a moment


def _credits(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise TargetError(f"What may be spent is a number of credits, not {text!r}; see --spend.") from error


_CALLBACK: Final = "http://127.0.0.1"


@dataclass(frozen=True, slots=True)
class Planned:
    """One request, or several of a kind.

    Attributes:
        check: Name of the check that sends it.
        what: What is special of it.
        due: How it has to be answered.
        is_task: Whether it makes a task where the target keeps the contract.
    """

    check: str
    what: str
    due: str
    is_task: bool = False


def planned(target: Target, options: Options) -> Iterator[Planned]:
    """Yield the requests that can be told beforehand, in the order of the checks."""
    yield from _refused(target, options)
    if most_tasks(target, options) != 0:
        yield from _accepted(options)
    if target.is_local:
        yield Planned("search.violations", f"up to {options.max_examples} random violations", "refused")
        yield Planned("search.requests", f"up to {options.max_examples} random requests", "accepted", is_task=True)


def _refused(target: Target, options: Options) -> Iterator[Planned]:
    for case in refused(options.contract):
        yield Planned("requests.refused", case.name, f"refused, for it breaks {case.clause}")
    for body in (body for body in raw(options.contract) if body.expected == "refuse"):
        yield Planned("requests.raw", body.name, "refused, for it holds no request")
    for key in (key for key in wrong_keys(target.key, contract=options.contract) if key.expected == "refuse"):
        yield Planned("authorisation.keys", key.name, "refused, for the key is wrong")


def _accepted(options: Options) -> Iterator[Planned]:
    for case in accepted(options.contract, callback=_CALLBACK):
        yield Planned("requests.accepted", case.name, "accepted, several in one request", is_task=True)
    for body in (body for body in raw(options.contract) if body.expected == "accept"):
        yield Planned("requests.more", body.name, "accepted", is_task=True)


def most_tasks(target: Target, options: Options) -> int | None:
    """Return how many tasks a run may make at most; ``None`` where they cost nothing."""
    return None if target.most is None else Budget(profile_of(options.contract).credits, target.most).remaining_tasks


_FINDINGS = 1
_NOT_JUDGED = 2
_INTERRUPTED = 130


def check(
    url: str | None = None,
    /,
    *,
    whom: TargetOptions | None = None,
    how: CheckOptions | None = None,
    reports: ReportOptions | None = None,
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
    whom, how, reports = whom or TargetOptions(), how or CheckOptions(), reports or ReportOptions()
    try:
        reports.check()
        for path, _ in reports.asked_for():
            if path != STANDARD:
                check_writable(path)  # before the run takes its time
        options = how.options()
        if har:
            return _report(_judge_file(har, url or "", whom, options, quiet=how.quiet), reports)
        return _check(whom.target(url), options, how, reports)
    except OutOfTimeError:
        return _fail("the time was over before the first questions were answered. Give more with --time-limit")
    except (TargetError, ContractError, HarError, CannotCheckError) as error:
        return _fail(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror}")
    except KeyboardInterrupt:
        return _fail("stopped; nothing is judged", code=_INTERRUPTED)


def _check(target: Target, options: Options, how: CheckOptions, reports: ReportOptions) -> int:
    if how.dry_run:
        return _list(target, options)
    if not _is_agreed(target, options):
        return _fail("nothing was sent")
    return _report(_judge(target, options, quiet=how.quiet), reports)


def _judge(target: Target, options: Options, *, quiet: bool) -> Report:
    with Run(target, options) as run:
        checks = run.checks()
        with RunProgress(Console(stderr=True), len(checks), quiet=quiet) as progress:
            run.transport.on_sent = progress.sent
            for check in checks:
                progress.check(check.name, check.about)
                run.make(check)
        return run.report()


def _judge_file(path: Path, base_url: str, whom: TargetOptions, options: Options, *, quiet: bool) -> Report:
    started = time.monotonic()
    recorded = read_har(path.read_bytes())
    with RunProgress(Console(stderr=True), 1, quiet=quiet) as progress:
        progress.check("traffic", f"{path.name}, {len(recorded)} exchanges")
        report = check_traffic(
            recorded,
            path.name,
            contract=options.contract,
            base_url=base_url,
            dialect=whom.dialect,
            http_status=whom.http_status,
            signing_key=whom.signing_key,
            noted=progress.sent,
        )
    return replace(report, seconds=time.monotonic() - started)


def _report(report: Report, reports: ReportOptions) -> int:
    for path, form in reports.asked_for():
        if path != STANDARD:
            write_whole(path, form(report).encode())
    try:
        _print(report, reports)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # whoever reads has seen enough; rich would end with a code of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _code(report)


def _print(report: Report, reports: ReportOptions) -> None:
    forms = [form for path, form in reports.asked_for() if path == STANDARD]
    terminal.show(report, Console(stderr=bool(forms)))
    for form in forms:
        print(form(report))


def _code(report: Report) -> int:
    """Return the exit code: what the time was too short for has not been found to conform."""
    if not report.conforms:
        return _FINDINGS
    if any(not check.is_checked and check.reason == OUT_OF_TIME for check in report.checks):
        return _NOT_JUDGED
    return 0 if any(check.is_checked for check in report.checks) else _NOT_JUDGED


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
