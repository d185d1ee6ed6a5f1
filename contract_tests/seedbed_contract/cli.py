"""The command ``seedbed check``: its options, the dry run, and where the reports go."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

from cyclopts import Parameter
from rich.console import Console
from seedbed_schemas import Contract, commands, default_contract, local
from seedbed_schemas.baseline import BaselineError, KnownFinding, read_baseline
from seedbed_schemas.clauses import Level
from seedbed_schemas.commands import ExitCode, JsonFlag, describe_exception
from seedbed_schemas.contract import ContractError
from seedbed_schemas.files import check_writable, write_whole
from seedbed_schemas.validation import printable

from seedbed_contract.cases import accepted
from seedbed_contract.checker import DEFAULT_TIME_LIMIT, Options, Run, max_tasks, planned_requests
from seedbed_contract.detection import CannotCheckError
from seedbed_contract.display import KEY_VARIABLE
from seedbed_contract.findings import Report, Stop
from seedbed_contract.http import OutOfTimeError
from seedbed_contract.reports import html_report, json_report, junit_report, markdown_report, terminal
from seedbed_contract.reports.terminal import RunProgress
from seedbed_contract.reports.verdict import EXIT_CODES, baseline_of, compare, verdict_of
from seedbed_contract.target import (
    DialectName,
    HttpStatusName,
    Target,
    TargetError,
    check_resolves,
    is_loopback,
    target_of,
)
from seedbed_contract.traffic import HarError, check_traffic, load_har

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


STANDARD_OUTPUT: Final = Path("-")
_MAX_TIME_LIMIT: Final = 86_400
_SIGNAL_SECONDS: Final = 1.0
"""Seconds after a signal for which another one means the same."""


# Options

# The help shows no default where an omitted option is an empty text.
_Optional = Annotated[str, Parameter(show_default=False)]
_Repeatable = Annotated[tuple[str, ...], Parameter(show_default=False)]
_Switch = Annotated[bool, Parameter(show_default=False)]


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class TargetOptions:
    """Options that describe the server.

    Attributes:
        key: API key. Default: SEEDBED_API_KEY, or the key of the mock server if the server is on this machine.
        second_key: API key of another account, to check that accounts are separated.
        signing_key: Key that signs the callbacks of the account.
        dialect: Whether the server behaves as documented or as observed; auto detects it.
        http_status: Whether the HTTP status is always 200 (envelope) or equals the code (mirror); auto detects it.
        fail_prompt: Prompt that makes a task fail on this server.
        callback_host: Host name or address of this machine, as a remote server sees it.
        require: Capability that the server must have: credit, callbacks, models, modelSchema, downloadUrl or faults.
            Repeatable.
        without: Capability that the server does not have, so that it is not checked. Repeatable.
        force_with: Header that makes the server respond with a code, such as 'Authorization: Bearer force-{code}'.
        spend: Credits that the run may spend if the server is not on this machine.
    """

    key: str | None = None
    second_key: _Optional = ""
    signing_key: _Optional = ""
    dialect: DialectName = "auto"
    http_status: HttpStatusName = "auto"
    fail_prompt: _Optional = ""
    callback_host: _Optional = ""
    require: _Repeatable = ()
    without: _Repeatable = ()
    force_with: _Optional = ""
    spend: str = "0"

    def target(self, url: str | None) -> Target:
        """Return the target.

        Raises:
            TargetError: The URL is missing, or an option is invalid.
        """
        if not url:
            raise TargetError(f"No server to check. Pass its URL, such as {local.BASE_URL}, or a recording with --har.")
        try:
            spend = Decimal(self.spend)
        except InvalidOperation as error:
            raise TargetError(f"--spend must be a number of credits, not {self.spend!r}.") from error
        key = os.environ.get(KEY_VARIABLE, "") if self.key is None else self.key
        with suppress(ValueError):  # target_of reports an invalid URL
            if self.key is None and not key and is_loopback(urlsplit(url).hostname or ""):
                key = local.KEY
        if not key:
            check_resolves(url)  # without a server, a key would not help
        return target_of(
            url,
            key,
            second_key=self.second_key,
            signing_key=self.signing_key,
            dialect=self.dialect,
            http_status=self.http_status,
            fail_prompt=self.fail_prompt,
            callback_host=self.callback_host,
            required=frozenset(self.require),
            absent=frozenset(self.without),
            force_with=self.force_with,
            spend=spend,
        )


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """Options of the run.

    Attributes:
        contract: Contract of another model, written by seedbed derive. Default: the built-in model.
        max_examples: Number of random requests of each search.
        time_limit: Time limit of the run in seconds.
        seed: Seed of the random requests; the same seed repeats a run.
        fail_on: Level of the findings that make the run fail: error, or warning for both levels.
        max_failures: Stop after the check in which the number of findings that fail the run reaches N; 0 for no limit.
        only: Pattern for the names of the checks to run, such as 'callbacks.*'. Repeatable.
        dry_run: List the requests without sending them.
        quiet: Do not show progress.
        verbose: Show every finding, request and response in full.
    """

    contract: Path | None = None
    max_examples: int = 100
    time_limit: float = DEFAULT_TIME_LIMIT
    seed: int = 0
    fail_on: Level = "error"
    max_failures: int = 0
    only: _Repeatable = ()
    dry_run: _Switch = False
    quiet: _Switch = False
    verbose: _Switch = False

    def options(self) -> Options:
        """Return the settings of the run.

        Raises:
            TargetError: A number is out of range, or a pattern matches no check.
            ContractError: The contract is invalid.
            OSError: The contract cannot be read.
        """
        if self.max_examples < 1:
            raise TargetError(f"--max-examples must be 1 or more, not {self.max_examples}.")
        if self.max_failures < 0:
            raise TargetError(f"--max-failures must be 0 or more, not {self.max_failures}.")
        if not (math.isfinite(self.time_limit) and 0 < self.time_limit <= _MAX_TIME_LIMIT):
            raise TargetError(
                f"--time-limit must be more than 0 and at most {_MAX_TIME_LIMIT} seconds, not {self.time_limit:g}."
            )
        contract = Contract.load(self.contract) if self.contract else default_contract()
        try:
            accepted(contract)
        except ValueError as error:
            raise ContractError(f"No valid request for {contract.model} could be made: {error}.") from error
        options = Options(
            self.seed,
            self.max_examples,
            self.time_limit,
            self.only,
            contract,
            fail_on=self.fail_on,
            max_failures=self.max_failures,
        )
        options.checks()  # report an unknown name before anything is sent
        return options


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Files to write reports to; - is standard output.

    Attributes:
        junit: File for a JUnit XML report, for CI.
        html: File for an HTML report.
        json_file: File for a JSON report, for programs.
        markdown: File for a Markdown report, for a pull request.
        baseline: File with known findings, which do not fail the run.
        write_baseline: Write the findings of this run to the file of --baseline.
        as_json: Print the JSON report on standard output, and nothing else; of --dry-run, the requests.
    """

    junit: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    html: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    json_file: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    markdown: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None
    baseline: Path | None = None
    write_baseline: _Switch = False
    as_json: JsonFlag = False

    def check(self) -> None:
        """Check that every report can be written, before the run takes its time.

        Raises:
            TargetError: Two reports go to the same file, or to standard output; or the file of the baseline is missing.
            OSError: A file cannot be written.
        """
        if self.write_baseline and not self.baseline:
            raise TargetError("--write-baseline needs a file. Pass it with --baseline.")
        paths = [path for path, _ in self.requested()]
        if self.as_json and STANDARD_OUTPUT in paths:
            raise TargetError("--json and another report go to standard output. Pass a file for that report.")
        if self.write_baseline and self.baseline:
            paths.append(self.baseline)
        for path in paths:
            if paths.count(path) > 1:
                raise TargetError(f"Two reports go to {path}. Pass a different file for each report.")
            if path != STANDARD_OUTPUT:
                check_writable(path)

    def requested(self) -> Iterator[tuple[Path, Callable[[Report], str]]]:
        """Yield each file with the function that renders its report."""
        formats = (
            (self.junit, junit_report.render),
            (self.html, html_report.render),
            (self.json_file, json_report.render),
            (self.markdown, markdown_report.render),
        )
        yield from ((path, render) for path, render in formats if path)

    def known(self) -> list[KnownFinding]:
        """Return the findings of the baseline.

        Raises:
            BaselineError: The file is not a baseline.
            OSError: The file cannot be read.
        """
        if not self.baseline or (self.write_baseline and not self.baseline.exists()):
            return []
        return read_baseline(self.baseline.read_bytes(), str(self.baseline))


# The command


def check(
    url: str | None = None,
    *,
    server: TargetOptions | None = None,
    run: CheckOptions | None = None,
    reports: ReportOptions | None = None,
    har: Annotated[tuple[Path, ...], Parameter(allow_leading_hyphen=True, show_default=False, negative="")] = (),
) -> int:
    """Check whether a server honours the contract: exit code 0 if it does, 1 if not, 2 if it cannot be checked.

    A server that is not on this machine receives only requests that it must refuse, unless --spend allows credits.

    Args:
        url: Base URL of the server, such as http://127.0.0.1:8721.
        server: Options that describe the server.
        run: Options of the run.
        reports: Files to write reports to.
        har: Check the traffic in a HAR file, or in a zip archive with one, without sending anything; - is standard
            input. Repeatable: the files are checked as one recording.
    """
    try:
        with _stoppable():
            return _check(
                url,
                server or TargetOptions(),
                run or CheckOptions(),
                reports or ReportOptions(),
                har,
            )
    except (TargetError, ContractError, HarError, BaselineError) as error:
        return _fail(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror}")
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was reported", code=EXIT_CODES["interrupted"])


def _check(
    url: str | None, server: TargetOptions, run: CheckOptions, reports: ReportOptions, har: Sequence[Path]
) -> int:
    reports.check()
    known = reports.known()
    options = run.options()
    if har:
        report = _check_recording(har, url or "", server, options, quiet=run.quiet or reports.as_json)
        return _write(report, known, reports, verbose=run.verbose)
    target = server.target(url)
    if run.dry_run:
        if reports.as_json:
            planned = [asdict(request) for request in planned_requests(target, options)]
            commands.print_json({"requests": planned, "cost": _describe_cost(target, options)})
            return 0
        for request in planned_requests(target, options):
            print(printable(f"{request.check}: {request.case} -> {request.expected}"))
        print(_describe_cost(target, options))
        return 0
    if not _is_confirmed(target, options):
        return _fail("nothing was sent")
    options = replace(options, known=frozenset(entry.identity for entry in known))
    report = _run(target, options, quiet=run.quiet or reports.as_json)
    return _write(report, known, reports, verbose=run.verbose)


def _run(target: Target, options: Options, *, quiet: bool) -> Report:
    """Run the checks, and return what is known when the run ends, however it ends."""
    started = Run(target, options)
    try:
        with started, RunProgress(Console(stderr=True), len(started.checks), quiet=quiet) as progress:
            started.transport.on_sent = progress.sent
            for selected in started.checks:
                progress.check(selected.name, selected.about)
                started.run_check(selected)
                if started.has_failed_enough():
                    break
    except (KeyboardInterrupt, Exception) as error:
        started.stop = _stop_of(error)
    return started.report()


def _stop_of(error: BaseException) -> Stop:
    """Return the reason for which an error ends a run."""
    if isinstance(error, TerminatedError):
        return Stop("terminated", "terminated")
    if isinstance(error, KeyboardInterrupt):
        return Stop("interrupted", "interrupted")
    if isinstance(error, OutOfTimeError):
        return Stop("time", "the time limit passed before the server was detected; raise it with --time-limit")
    if isinstance(error, CannotCheckError):
        return Stop("unusable", str(error).rstrip("."))
    return Stop("internal error", describe_exception(error))


class TerminatedError(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that reports are written."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    stopped_at = -math.inf

    def stop(number: int, _: object) -> None:
        nonlocal stopped_at
        # A process often gets a signal twice, once itself and once with its group, as from GNU timeout. The second one
        # must not keep the reports from being written.
        if time.monotonic() - stopped_at > _SIGNAL_SECONDS:
            stopped_at = time.monotonic()
            raise TerminatedError if number == signal.SIGTERM else KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_recording(
    paths: Sequence[Path], base_url: str, server: TargetOptions, options: Options, *, quiet: bool
) -> Report:
    started = time.monotonic()
    recorded = [exchange for path in dict.fromkeys(paths) for exchange in load_har(path)]
    name = ", ".join("standard input" if path == STANDARD_OUTPUT else path.name for path in paths)
    with RunProgress(Console(stderr=True), 1, quiet=quiet) as progress:
        progress.check("traffic", f"{name}, {len(recorded)} exchanges")
        try:
            report = check_traffic(
                recorded,
                name,
                contract=options.contract,
                base_url=base_url,
                dialect=server.dialect,
                http_status=server.http_status,
                signing_key=server.signing_key,
                on_checked=progress.sent,
            )
        except HarError:
            raise
        except (KeyboardInterrupt, Exception) as error:
            stop = _stop_of(error)
            report = Report(name, server.dialect, server.http_status, options.seed, is_recorded=True, stop=stop)
    return replace(report, seconds=time.monotonic() - started, fail_on=options.fail_on)


def _write(report: Report, known: Sequence[KnownFinding], reports: ReportOptions, *, verbose: bool) -> int:
    """Write the baseline and the reports, print the outcome, and return the exit code."""
    if reports.baseline and reports.write_baseline:
        if report.stop:
            commands.warn("check", f"the baseline was not written, because the run is incomplete: {report.stop.reason}")
        else:
            text = baseline_of(report, known)
            write_whole(reports.baseline, text.encode())
            known = read_baseline(text.encode(), str(reports.baseline))
    report = compare(report, known)
    for path, render in reports.requested():
        if path != STANDARD_OUTPUT:
            # The file replaces an old report only when it is complete.
            write_whole(path, render(report).encode())
    exit_code = verdict_of(report).exit_code
    try:
        _show(report, reports, verbose=verbose)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):
        # The reader of a pipe, such as head, left early. Rich exits with its own code, which would hide ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exit_code


def _show(report: Report, reports: ReportOptions, *, verbose: bool) -> None:
    """Print a report, and those that were requested on standard output."""
    verdict, on_output = verdict_of(report), [each for path, each in reports.requested() if path == STANDARD_OUTPUT]
    if reports.as_json:
        commands.print_json(json_report.to_json(report), indent=2)
        if verdict.exit_code > ExitCode.NEGATIVE:
            _fail(verdict.line)
        return
    if not report.checks:
        _fail(verdict.line)  # the run ended before the first check, so one sentence says it all
    else:
        terminal.show(report, Console(stderr=bool(on_output)), verbose=verbose)
    for render in on_output:
        print(render(report))


def _fail(sentence: str, *, code: int = EXIT_CODES["not checked"]) -> int:
    return commands.fail("check", sentence, code)


# Cost and dry run


def _describe_cost(target: Target, options: Options) -> str:
    tasks = max_tasks(target, options)
    if tasks is None:
        return f"{target.base_url} is on this machine, so tasks cost nothing."
    if tasks == 0:
        return f"{target.base_url} receives only requests that it must refuse. To check tasks, allow credits: --spend."
    return f"A run on {target.base_url} may create {tasks} tasks, which cost up to {target.spend} credits."


def _is_confirmed(target: Target, options: Options) -> bool:
    """Ask on a terminal whether the run may spend credits."""
    if not max_tasks(target, options):
        return True
    commands.note("check", _describe_cost(target, options))
    if commands.is_json() or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True  # --spend is the confirmation of a script
    print("Continue? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
