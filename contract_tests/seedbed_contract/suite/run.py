"""The state that the tests of the suite share: one run for each process, and the merged report of all of them.

A worker of pytest-xdist sends its report to the controller in ``workeroutput``; the controller merges the reports in
``pytest_testnodedown`` and prints the summary.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from io import StringIO
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from hypothesis import settings
from rich.console import Console
from seedbed_schemas import local
from seedbed_schemas.contract import ContractError

from seedbed_contract.checker import Options, Run
from seedbed_contract.cli import CheckOptions, TargetOptions
from seedbed_contract.detection import CannotCheckError
from seedbed_contract.findings import CheckResult, Covered, Finding, NotChecked, Report, Sample, testable_clauses
from seedbed_contract.http import OutOfTimeError
from seedbed_contract.reports import terminal, wording
from seedbed_contract.target import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from seedbed_schemas import Contract

    from seedbed_contract.checks import Check
    from seedbed_contract.target import Target


# Reports of several workers


def pack(report: Report) -> str:
    """Return a report as JSON text in ASCII, which a worker can send."""
    # The receiver knows the clauses, so their ids are enough.
    coverage = [(entry.clause.id, entry.accepting, entry.refusing) for entry in report.coverage]
    return json.dumps({**asdict(replace(report, coverage=[])), "coverage": coverage})


def unpack(text: str, contract: Contract) -> Report:
    """Return the report that :func:`pack` made into text."""
    data, clauses = json.loads(text), testable_clauses(contract)
    data["checks"] = [CheckResult(**entry) for entry in data["checks"]]
    data["not_checked"] = [NotChecked(**entry) for entry in data["not_checked"]]
    data["findings"] = [Finding(**{**entry, "sample": Sample(**entry["sample"])}) for entry in data["findings"]]
    data["coverage"] = [Covered(clauses[name], *sides) for name, *sides in data["coverage"]]
    return Report(**data)


def merge(reports: Sequence[Report]) -> Report:
    """Return one report for several reports on one target."""
    findings: dict[tuple[str, str], Finding] = {}
    accepting, refusing = Counter[str](), Counter[str]()
    for report in reports:
        for finding in report.findings:
            key = (finding.clause, finding.title)
            known = findings.get(key)
            findings[key] = replace(known, count=known.count + finding.count) if known else finding
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


# The suite

_SEED_OPTION: Final = "--hypothesis-seed"
_OUTPUT_NAME: Final = "seedbed_report"
_WIDTH: Final = 120
_SEED_BITS: Final = 32
_TOO_LATE: Final = "the time limit passed before the target was detected; raise it with --time-limit"


class CheckFailedError(AssertionError):
    """A check has findings.

    Args:
        findings: The findings.
    """

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__(wording.counted(len(findings), "finding"))
        self.findings = findings


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
        self._run: Run | None = None
        self._failure: CannotCheckError | OutOfTimeError | None = None
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
        except (TargetError, ContractError) as error:
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
        """Return the run, and start it if this is the first test.

        Raises:
            CannotCheckError: The target does not respond, or not as this service would.
            OutOfTimeError: The time limit of the run passed.
        """
        if self._failure is not None:
            raise self._failure
        if self._run is None:
            try:
                self._run = self._stack.enter_context(Run(cast("Target", self._target), self._options))
            except (CannotCheckError, OutOfTimeError) as failure:
                self._failure = failure  # the other tests fail with it at once
                raise
        return self._run

    def run_check(self, check: Check) -> tuple[CheckResult, list[Finding]]:
        """Run a check, and return its result and its new findings."""
        run = self.start()
        known = {id(finding) for finding in run.session.log.findings}
        result = run.run_check(check)
        return result, [finding for finding in run.session.log.findings if id(finding) not in known]

    def describe_failure(self, failure: CheckFailedError | CannotCheckError | OutOfTimeError) -> str:
        """Return the text of a failed test."""
        if not isinstance(failure, CheckFailedError):
            return wording.on_one_line(str(failure) or _TOO_LATE)
        report = self.start().report()

        def show(console: Console) -> None:
            for number, finding in enumerate(failure.findings, 1):
                terminal.show_finding(finding, number, report, console, seed_option=_SEED_OPTION)

        return _printed(show)

    @pytest.hookimpl
    def pytest_report_header(self) -> str:
        """Return a line that names the target, and what a run may cost."""
        if self._target is None:
            return "contract tests: no target"
        cost = "" if self._target.is_local else f", may cost up to {self._target.spend} credits"
        return f"contract tests: {self._target.base_url}{cost}"

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        """End the run; on a worker, send its report to the controller."""
        with self._stack:
            if self._run is None:
                return
            report = self._run.report()
        output: dict[str, Any] | None = getattr(self._config, "workeroutput", None)
        if output is None:
            self._reports.append(report)
        else:
            output[_OUTPUT_NAME] = pack(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the report of a worker."""
        if text := getattr(node, "workeroutput", {}).get(_OUTPUT_NAME):
            self._reports.append(unpack(text, self._options.contract))

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the outcome of all checks."""
        if self._reports:
            report = merge(self._reports)
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
