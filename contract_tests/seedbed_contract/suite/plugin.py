"""The pytest plugin of the suite: its options, one test for each check, and their groups under pytest-xdist.

Checks share state. A check that creates tasks uses the tasks of the checks before it, and a random search skips the
clauses that already have a finding. So all checks that create tasks form one ``xdist_group``, and the others form a
second one; each group runs on one worker. If the target is remote, all checks form one group, because credits and
rates are counted by one run. Groups need ``--dist loadgroup``, which the plugin sets when you pass ``-n``.

Each process makes one run. A worker of pytest-xdist sends its report to the controller in ``workeroutput``; the
controller merges the reports in ``pytest_testnodedown`` and prints the summary.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_args

import pytest
from hypothesis import settings
from rich.console import Console
from seedbed_schemas import local
from seedbed_schemas.baseline import BaselineError, KnownFinding
from seedbed_schemas.clauses import Level
from seedbed_schemas.contract import ContractError

from seedbed_contract.checker import Options, Run
from seedbed_contract.checks import CHECKS
from seedbed_contract.cli import CheckOptions, ReportOptions, TargetOptions
from seedbed_contract.detection import CannotCheckError
from seedbed_contract.findings import (
    CheckResult,
    Covered,
    Finding,
    NotChecked,
    Report,
    Sample,
    Stop,
    testable_clauses,
)
from seedbed_contract.http import OutOfTimeError
from seedbed_contract.reports import terminal, wording
from seedbed_contract.reports.verdict import compare, findings_seen, verdict_of
from seedbed_contract.target import DialectName, HttpStatusName, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from seedbed_schemas import Contract

    from seedbed_contract.checks import Check
    from seedbed_contract.target import Target


_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "--target": {"metavar": "URL", "help": "Base URL of the server to check."},
    "--key": {"metavar": "KEY", "help": "API key; default: SEEDBED_API_KEY, or the mock server's key on this machine."},
    "--second-key": {"metavar": "KEY", "default": "", "help": "API key of another account."},
    "--signing-key": {"metavar": "KEY", "default": "", "help": "Key that signs the callbacks of the account."},
    "--dialect": {"choices": get_args(DialectName), "default": "auto", "help": "Dialect of the server."},
    "--http-status": {
        "choices": get_args(HttpStatusName),
        "default": "auto",
        "help": "HTTP status mode of the server.",
    },
    "--fail-prompt": {"metavar": "TEXT", "default": "", "help": "Prompt that makes a task fail on the server."},
    "--callback-host": {"metavar": "HOST", "default": "", "help": "Host name of this machine, as the server sees it."},
    "--require": {"metavar": "NAME", "action": "append", "default": [], "help": "Required capability; repeatable."},
    "--without": {
        "metavar": "NAME",
        "action": "append",
        "default": [],
        "help": "Capability that the server does not have; repeatable.",
    },
    "--baseline": {"metavar": "FILE", "type": Path, "help": "Known findings, which fail no test."},
    "--force-with": {"metavar": "HEADER", "default": "", "help": "Header with {code} that forces a code."},
    "--spend": {"metavar": "CREDITS", "default": "0", "help": "Credits that a run may spend on a remote server."},
    "--fail-on": {"choices": get_args(Level), "default": "error", "help": "Level of findings that fail a test."},
    "--max-examples": {"metavar": "N", "type": int, "default": 100, "help": "Random requests of each search."},
    "--time-limit": {"metavar": "S", "type": float, "default": 60.0, "help": "Time limit of the run in seconds."},
}
_SPREADING: Final = frozenset({"load", "worksteal"})
"""Modes of ``--dist`` that send each test to any worker, whatever its group."""
_SEED_OPTION: Final = "--hypothesis-seed"
_OUTPUT_NAME: Final = "seedbed_report"
_WIDTH: Final = 120
_SEED_BITS: Final = 32
_TOO_LATE: Final = "the time limit passed before the target was detected; raise it with --time-limit"


# Hooks


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of ``seedbed check``; ``--hypothesis-seed`` sets the seed."""
    group = parser.getgroup("seedbed", "contract tests")
    for name, known in _OPTIONS.items():
        group.addoption(name, dest=f"seedbed_{name.removeprefix('--').replace('-', '_')}", **known)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, and let pytest-xdist keep the groups together.

    Raises:
        UsageError: The target is missing, an option is invalid, or every worker would run every check.
    """
    if config.option.help:
        return
    config.pluginmanager.register(Suite(config), Suite.NAME)
    distribution = getattr(config.option, "dist", "no")  # absent if pytest-xdist is not installed
    if distribution == "each":
        raise pytest.UsageError("The checks share one account, so they cannot run with --dist each.")
    if distribution in _SPREADING:
        # Read by pytest-xdist in its own pytest_configure, which runs last.
        config.option.dist = "loadgroup"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the checks from this file, whatever pattern the project has for its test files."""
    return SuiteFile.from_parent(parent, path=file_path) if file_path == Path(__file__) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Restore the order of the checks, which build on each other, if another plugin shuffled the tests.

    Other tests keep their places.
    """
    rank = {check.name: place for place, check in enumerate(CHECKS)}
    places = [place for place, item in enumerate(items) if isinstance(item, CheckItem)]
    checks = sorted((items[place] for place in places), key=lambda item: rank[item.name])
    for place, item in zip(places, checks, strict=True):
        items[place] = item


# Tests


class SuiteFile(pytest.File):
    """Collects one test for each check."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield the tests.

        Raises:
            CollectError: The target cannot be checked. Each test would fail for the same reason.
        """
        suite = Suite.of(self.config)
        if not self.config.option.collectonly:
            try:
                suite.start()
            except (CannotCheckError, OutOfTimeError) as failure:
                raise self.CollectError(wording.on_one_line(str(failure) or _TOO_LATE)) from None
        is_local = suite.is_local
        for check in CHECKS:
            item = CheckItem.from_parent(self, name=check.name, check=check)
            if self.config.pluginmanager.hasplugin("xdist"):  # which registers the marker
                group = "seedbed-tasks" if check.makes_tasks or not is_local else "seedbed-refusals"
                item.add_marker(pytest.mark.xdist_group(group))
            yield item


class CheckItem(pytest.Item):
    """A check as a test."""

    def __init__(self, *, check: Check, **named: Any) -> None:
        super().__init__(**named)
        self.check = check

    def runtest(self) -> None:
        """Run the check.

        Raises:
            CheckFailedError: The check has new findings.
        """
        result, findings = Suite.of(self.config).run_check(self.check)
        if result.reason:
            self.user_properties.append(("not checked", result.reason))
        if findings:
            raise CheckFailedError(self.check.name, findings)
        if not result.is_checked and not result.findings:
            pytest.skip(result.reason)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the findings without a traceback."""
        if isinstance(excinfo.value, CheckFailedError):
            return Suite.of(self.config).describe_failure(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return the file and the name of the test."""
        return self.path, None, self.name


class CheckFailedError(AssertionError):
    """A check has findings.

    Args:
        check: Name of the check.
        findings: The findings that it saw.
    """

    def __init__(self, check: str, findings: list[Finding]) -> None:
        super().__init__(wording.counted(len(findings), "finding"))
        self.check, self.findings = check, findings


# The run of a process


class Suite:
    """The run of this process, and the pytest hooks that report on it.

    Args:
        config: Configuration of pytest.

    Raises:
        UsageError: The target is missing, or an option is invalid.
    """

    NAME: Final = "seedbed-suite"

    def __init__(self, config: pytest.Config) -> None:
        self._config, self._stack = config, ExitStack()
        self._target: Target | None = None
        self._options = Options()
        self._known: list[KnownFinding] = []
        self._run: Run | None = None
        self._reports: list[Report] = []
        if not config.option.seedbed_target and config.option.collectonly:
            return  # tests can be listed without a target
        if not config.option.seedbed_target:
            raise pytest.UsageError(f"No server to check. Give its URL, such as --target {local.BASE_URL}.")
        # The plugin names its options after those of ``seedbed check``.
        chosen = {known.name: getattr(config.option, f"seedbed_{known.name}") for known in fields(TargetOptions)}
        try:
            self._target = TargetOptions(**chosen).target(config.option.seedbed_target)
            self._options = _options_from(config)
            self._known = ReportOptions(baseline=config.option.seedbed_baseline).known()
        except (TargetError, ContractError, BaselineError, OSError) as error:
            raise pytest.UsageError(str(error)) from None

    @classmethod
    def of(cls, config: pytest.Config) -> Suite:
        """Return the suite of a pytest session."""
        return cast("Suite", config.pluginmanager.get_plugin(cls.NAME))

    @property
    def is_local(self) -> bool:
        """Whether the target is on this machine."""
        return self._target is not None and self._target.is_local

    def start(self) -> Run:
        """Return the run, which starts when the tests are collected.

        Raises:
            CannotCheckError: The target does not respond, or not as this service would.
            OutOfTimeError: The time limit of the run passed.
        """
        if self._run is None:
            self._run = self._stack.enter_context(Run(cast("Target", self._target), self._options))
        return self._run

    def report(self) -> Report:
        """Return the report of the checks that this process has run."""
        return compare(self.start().report(), self._known)

    def run_check(self, check: Check) -> tuple[CheckResult, list[Finding]]:
        """Run a check, and return its result and the findings that it saw and that fail the test."""
        result = self.start().run_check(check)
        report = self.report()
        failing = {finding.identity for finding in report.failures}
        return result, [found for found in findings_seen(result, report) if found.identity in failing]

    def describe_failure(self, failure: CheckFailedError) -> str:
        """Return the text of a failed test: in full, the findings that no test before it saw."""
        report = self.report()

        def show(console: Console) -> None:
            for number, finding in enumerate(failure.findings, 1):
                if finding.check == failure.check:
                    terminal.show_finding(finding, number, report, console, seed_option=_SEED_OPTION)
                else:
                    text = wording.on_one_line(f"{finding.clause}: {finding.title} (see {finding.check})")
                    console.print(f"{number:>2}  {text}", markup=False, highlight=False, soft_wrap=True)

        return _printed(show)

    @pytest.hookimpl
    def pytest_report_header(self) -> str:
        """Return a line that names the target, and what a run may cost."""
        if self._target is None:
            return "contract tests: no target"
        cost = "" if self._target.is_local else f", may cost up to {self._target.spend} credits"
        return f"contract tests: {self._target.base_url}{cost}"

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """End the run; on a worker, send its report to the controller, elsewhere let the exit code say the verdict."""
        output: dict[str, Any] | None = getattr(self._config, "workeroutput", None)
        with self._stack:
            if self._run is not None and output is None:
                self._reports.append(self.report())
            elif self._run is not None and output is not None:
                output[_OUTPUT_NAME] = pack(self.report())
        reports = [report for report in self._reports if report.checks]
        if exitstatus == pytest.ExitCode.OK and reports:
            session.exitstatus = verdict_of(merge(reports)).exit_code

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the report of a worker."""
        if text := getattr(node, "workeroutput", {}).get(_OUTPUT_NAME):
            self._reports.append(unpack(text, self._options.contract))

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the outcome of all checks."""
        reports = [report for report in self._reports if report.checks]
        if reports:
            report = merge(reports)
            terminalreporter.section("contract")
            terminalreporter.write(_printed(lambda console: terminal.show_outcome(report, console)) + "\n")


def _options_from(config: pytest.Config) -> Options:
    text = config.getoption("hypothesis_seed", None)
    try:
        seed = random.SystemRandom().getrandbits(_SEED_BITS) if text == "random" else int(text or 0)
    except ValueError:
        raise TargetError(f"{_SEED_OPTION} must be an integer or random, not {text!r}.") from None
    checked = CheckOptions(
        seed=seed,
        max_examples=config.option.seedbed_max_examples,
        time_limit=config.option.seedbed_time_limit,
        fail_on=config.option.seedbed_fail_on,
    ).options()
    # Workers use one account at the same time, so none of them can compare its balance with its own tasks.
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    # The database of the loaded Hypothesis profile may be a directory, or a Redis server that a team shares.
    database = cast("Any", settings.default).database
    return replace(checked, example_database=database, is_exclusive=workers == 1)


def _printed(show: Callable[[Console], None]) -> str:
    console = Console(file=StringIO(), width=_WIDTH, force_terminal=False)
    show(console)
    return cast("StringIO", console.file).getvalue().strip("\n")


# Reports of several workers


def pack(report: Report) -> str:
    """Return a report as JSON text in ASCII, which a worker can send."""
    # The receiver knows the clauses, so their ids are enough.
    coverage = [(entry.clause.id, entry.accepting, entry.refusing) for entry in report.coverage]
    return json.dumps({**asdict(replace(report, coverage=[])), "coverage": coverage})


def unpack(text: str, contract: Contract) -> Report:
    """Return the report that :func:`pack` made into text."""
    data, clauses = json.loads(text), testable_clauses(contract)
    data["checks"] = [CheckResult(**{**entry, "seen": tuple(entry["seen"])}) for entry in data["checks"]]
    data["fixed"] = [KnownFinding(**entry) for entry in data["fixed"]]
    data["stop"] = Stop(**data["stop"]) if data["stop"] else None
    data["not_checked"] = [NotChecked(**entry) for entry in data["not_checked"]]
    data["findings"] = [Finding(**{**entry, "sample": Sample(**entry["sample"])}) for entry in data["findings"]]
    data["coverage"] = [Covered(clauses[name], *sides) for name, *sides in data["coverage"]]
    return Report(**data)


def merge(reports: Sequence[Report]) -> Report:
    """Return one report for several reports on one target."""
    findings: dict[str, Finding] = {}
    accepting, refusing = Counter[str](), Counter[str]()
    for report in reports:
        for finding in report.findings:
            known = findings.get(finding.identity)
            findings[finding.identity] = replace(known, count=known.count + finding.count) if known else finding
        for entry in report.coverage:
            accepting[entry.clause.id] += entry.accepting
            refusing[entry.clause.id] += entry.refusing or 0
    return replace(
        reports[0],
        requests=sum(report.requests for report in reports),
        seconds=max(report.seconds for report in reports),
        tasks=sum(report.tasks for report in reports),
        spent=max(report.spent for report in reports),  # every worker saw the same balance
        findings=list(findings.values()),
        checks=[check for report in reports for check in report.checks],
        stop=next((report.stop for report in reports if report.stop), None),
        undecided=next((report.undecided for report in reports if report.undecided), ""),
        fixed=[entry for report in reports for entry in report.fixed if entry.identity not in findings],
        not_checked=list({entry.subject: entry for report in reports for entry in report.not_checked}.values()),
        coverage=[
            replace(
                entry,
                accepting=accepting[entry.clause.id],
                refusing=None if entry.refusing is None else refusing[entry.clause.id],
            )
            for entry in reports[0].coverage
        ],
        remarks=list(dict.fromkeys(remark for report in reports for remark in report.remarks)),
    )
