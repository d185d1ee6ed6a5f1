"""Judgements of several processes as one."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, replace
from io import StringIO
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from hypothesis import settings
from rich.console import Console
from seedbed_schemas import local
from seedbed_schemas.contract import ContractError

from seedbed_contract.checker import Options, Run
from seedbed_contract.checks import CHECKS
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


_PARTS: Any = {"checks": CheckResult, "not_checked": NotChecked}


def packed(report: Report) -> str:
    """Return a report as text in ASCII."""
    coverage = [(entry.clause.id, entry.accepting, entry.refusing) for entry in report.coverage]
    return json.dumps({**asdict(replace(report, coverage=[])), "coverage": coverage})


def unpacked(text: str, contract: Contract) -> Report:
    """Return the report that was packed."""
    data, clauses = json.loads(text), testable_clauses(contract)
    for name, kind in _PARTS.items():
        data[name] = [kind(**entry) for entry in data[name]]
    data["findings"] = [Finding(**{**entry, "sample": Sample(**entry["sample"])}) for entry in data["findings"]]
    data["coverage"] = [Covered(clauses[name], *sides) for name, *sides in data["coverage"]]
    return Report(**data)


def merged(reports: Sequence[Report]) -> Report:
    """Return what several reports of one target come to."""
    first = reports[0]
    return replace(
        first,
        requests=sum(one.requests for one in reports),
        seconds=max(one.seconds for one in reports),
        tasks=sum(one.tasks for one in reports),
        spent=max(one.spent for one in reports),  # each saw the one balance
        findings=_findings(reports),
        checks=[check for one in reports for check in one.checks],
        not_checked=list({entry.subject: entry for one in reports for entry in one.not_checked}.values()),
        coverage=_coverage(reports),
        remarks=list(dict.fromkeys(remark for one in reports for remark in one.remarks)),
    )


def _findings(reports: Sequence[Report]) -> list[Finding]:
    found: dict[tuple[str, str], Finding] = {}
    for finding in (finding for one in reports for finding in one.findings):
        key = (finding.clause, finding.title)
        known = found.get(key)
        found[key] = replace(known, count=known.count + finding.count) if known else finding
    return list(found.values())


def _coverage(reports: Sequence[Report]) -> list[Covered]:
    accepting, refusing = Counter[str](), Counter[str]()
    for entry in (entry for one in reports for entry in one.coverage):
        accepting[entry.clause.id] += entry.accepting
        refusing[entry.clause.id] += entry.refusing or 0
    return [
        Covered(clause, accepting[clause.id], None if entry.refusing is None else refusing[clause.id])
        for entry in reports[0].coverage
        for clause in [entry.clause]
    ]


_SEED_FLAG: Final = "--hypothesis-seed"
_SENT: Final = "seedbed_judgement"
_WIDTH: Final = 120
_SEED_BITS: Final = 32
_LATE: Final = "the time was over before the first questions were answered. Give more with --time-limit"


class BrokenClauseError(AssertionError):
    """A check found something.

    Args:
        findings: What it found.
    """

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__(f"{wording.counted(len(findings), 'finding')}")
        self.findings = findings


class Suite:
    """What the tests of this process share; a plugin of pytest.

    Args:
        config: The session of pytest.

    Raises:
        UsageError: There is no target, or it cannot be judged like this.
    """

    NAME: Final = "seedbed-suite"

    def __init__(self, config: pytest.Config) -> None:
        self._config, self._stack = config, ExitStack()
        self._target, self._options = _asked(config)
        self._run: Run | None = None
        self._failure: CannotCheckError | OutOfTimeError | None = None
        self._judgements: list[Report] = []

    @classmethod
    def of(cls, config: pytest.Config) -> Suite:
        """Return the suite of a session."""
        return cast("Suite", config.pluginmanager.get_plugin(cls.NAME))

    @property
    def is_local(self) -> bool:
        """Whether the target is on this machine."""
        return self._target is not None and self._target.is_local

    def enter(self) -> Run:
        """Return the run, which begins with the first test.

        Raises:
            CannotCheckError: Nothing answers, or nothing that could be this service.
            OutOfTimeError: The time of the run is over.
        """
        if self._failure is not None:
            raise self._failure
        if self._run is None:
            try:
                self._run = self._stack.enter_context(Run(cast("Target", self._target), self._options))
            except (CannotCheckError, OutOfTimeError) as failure:
                self._failure = failure
                raise
        return self._run

    def make(self, check: Check) -> tuple[CheckResult, list[Finding]]:
        """Make a check, and return how it went and what it found that was not known."""
        run = self.enter()
        known = {id(finding) for finding in run.session.log.findings}
        result = run.make(check)
        return result, [finding for finding in run.session.log.findings if id(finding) not in known]

    def order(self, items: list[pytest.Item]) -> None:
        """Bring the checks among tests into their order; other tests stay where they are."""
        rank = {check.name: place for place, check in enumerate(CHECKS)}
        places = [place for place, item in enumerate(items) if hasattr(item, "check") and item.name in rank]
        for place, item in zip(places, sorted((items[p] for p in places), key=lambda i: rank[i.name]), strict=True):
            items[place] = item

    def told(self, failure: BrokenClauseError | CannotCheckError | OutOfTimeError) -> str:
        """Return in words what made a test fail."""
        if isinstance(failure, BrokenClauseError):
            report = self.enter().report()
            return _printed(lambda console: _show(failure.findings, report, console))
        return wording.on_one_line(str(failure) or _LATE)

    # Hooks

    @pytest.hookimpl
    def pytest_report_header(self) -> str:
        """Tell what may be spent, before anything is."""
        if self._target is None:
            return "contract tests: no target"
        cost = "" if self._target.is_local else f", which may cost up to {self._target.spend} credits"
        return f"contract tests: {self._target.base_url}{cost}"

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        """End the run; a worker sends what it found to where the summary is written."""
        with self._stack:
            if self._run is None:
                return
            report = self._run.report()
        output: dict[str, Any] | None = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_SENT] = packed(report)
        else:
            self._judgements.append(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker found."""
        if sent := getattr(node, "workeroutput", {}).get(_SENT):
            self._judgements.append(unpacked(sent, self._options.contract))

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell what the checks come to."""
        if self._judgements:
            report = merged(self._judgements)
            terminalreporter.section("contract")
            terminalreporter.write(_printed(lambda console: terminal.show_outcome(report, console)) + "\n")


def _asked(config: pytest.Config) -> tuple[Target | None, Options]:
    if not config.option.seedbed_target and config.option.collectonly:
        return None, Options()
    try:
        return _target(config), _options(config)
    except (TargetError, ContractError) as error:
        raise pytest.UsageError(str(error)) from None


def _target(config: pytest.Config) -> Target:
    def given(name: str) -> Any:
        return getattr(config.option, f"seedbed_{name}")

    if not given("target"):
        raise TargetError(f"Which server shall be judged? Give its URL, such as --target {local.BASE_URL}.")
    same = ("second_key", "signing_key", "dialect", "http_status", "fail_prompt", "callback_host", "spend")
    flags = {name: given(name) for name in same}
    return TargetOptions(key=given("key"), require=tuple(given("require")), **flags).target(given("target"))


def _options(config: pytest.Config) -> Options:
    flags = CheckOptions(max_examples=config.option.seedbed_max_examples, time_limit=config.option.seedbed_time_limit)
    checked, workers = flags.options(), getattr(config, "workerinput", {}).get("workercount", 1)
    return Options(
        _seed(config),
        checked.max_examples,
        checked.time_limit,
        contract=checked.contract,
        # Of the profile that is loaded: a directory, or a Redis that a team shares.
        example_database=cast("Any", settings.default).database,
        is_exclusive=workers == 1,
    )


def _seed(config: pytest.Config) -> int:
    given = config.getoption("hypothesis_seed", None)
    if given == "random":
        return random.SystemRandom().getrandbits(_SEED_BITS)
    try:
        return int(given or 0)
    except ValueError:
        raise TargetError(f"The seed is a whole number or random, not {given!r}; see {_SEED_FLAG}.") from None


def _show(findings: list[Finding], report: Report, console: Console) -> None:
    for number, finding in enumerate(findings, 1):
        terminal.show_finding(finding, number, report, console, seed_option=_SEED_FLAG)


def _printed(show: Callable[[Console], None]) -> str:
    console = Console(file=StringIO(), width=_WIDTH, force_terminal=False)
    show(console)
    return cast("StringIO", console.file).getvalue().strip("\n")
