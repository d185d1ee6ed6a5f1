"""The run that the tests of one process share, and what the processes of a session have found together."""

from __future__ import annotations

import random
from contextlib import ExitStack
from io import StringIO
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from hypothesis import settings
from rich.console import Console
from seedbed_schemas import local
from seedbed_schemas.contract import ContractError

from seedbed_contract.check_flags import RunFlags, TargetFlags
from seedbed_contract.checks import CHECKS
from seedbed_contract.detection import CannotJudge
from seedbed_contract.judge import Options, Run
from seedbed_contract.reports import terminal, words
from seedbed_contract.suite.merging import merged, packed, unpacked
from seedbed_contract.target import TargetError
from seedbed_contract.wire import OutOfTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_contract.checks import Check
    from seedbed_contract.findings import CheckResult, Finding, Judgement
    from seedbed_contract.target import Target

_SEED_FLAG: Final = "--hypothesis-seed"
_SENT: Final = "seedbed_judgement"
_WIDTH: Final = 120
_SEED_BITS: Final = 32
_LATE: Final = "the time was over before the first questions were answered. Give more with --time-limit"


class Broken(AssertionError):
    """A check found something.

    Args:
        findings: What it found.
    """

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__(f"{words.counted(len(findings), 'finding')}")
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
        self._failure: CannotJudge | OutOfTime | None = None
        self._judgements: list[Judgement] = []

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
            CannotJudge: Nothing answers, or nothing that could be this service.
            OutOfTime: The time of the run is over.
        """
        if self._failure is not None:
            raise self._failure
        if self._run is None:
            try:
                self._run = self._stack.enter_context(Run(cast("Target", self._target), self._options))
            except (CannotJudge, OutOfTime) as failure:
                self._failure = failure
                raise
        return self._run

    def make(self, check: Check) -> tuple[CheckResult, list[Finding]]:
        """Make a check, and return how it went and what it found that was not known."""
        run = self.enter()
        known = {id(finding) for finding in run.session.ledger.findings}
        result = run.make(check)
        return result, [finding for finding in run.session.ledger.findings if id(finding) not in known]

    def order(self, items: list[pytest.Item]) -> None:
        """Bring the checks among tests into their order; other tests stay where they are."""
        rank = {check.name: place for place, check in enumerate(CHECKS)}
        places = [place for place, item in enumerate(items) if hasattr(item, "check") and item.name in rank]
        for place, item in zip(places, sorted((items[p] for p in places), key=lambda i: rank[i.name]), strict=True):
            items[place] = item

    def told(self, failure: Broken | CannotJudge | OutOfTime) -> str:
        """Return in words what made a test fail."""
        if isinstance(failure, Broken):
            judgement = self.enter().judgement()
            return _printed(lambda console: _show(failure.findings, judgement, console))
        return words.on_one_line(str(failure) or _LATE)

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
            judgement = self._run.judgement()
        output: dict[str, Any] | None = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_SENT] = packed(judgement)
        else:
            self._judgements.append(judgement)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker found."""
        if sent := getattr(node, "workeroutput", {}).get(_SENT):
            self._judgements.append(unpacked(sent, self._options.contract))

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell what the checks come to."""
        if self._judgements:
            judgement = merged(self._judgements)
            terminalreporter.section("contract")
            terminalreporter.write(_printed(lambda console: terminal.show_outcome(judgement, console)) + "\n")


def _asked(config: pytest.Config) -> tuple[Target | None, Options]:
    if not config.option.seedbed_target and config.option.collectonly:
        return None, Options()
    try:
        return _target(config), _options(config)
    except (TargetError, ContractError) as error:
        raise pytest.UsageError(str(error).replace("--key", "--target-key")) from None


def _target(config: pytest.Config) -> Target:
    def given(name: str) -> Any:
        return getattr(config.option, f"seedbed_{name}")

    if not given("target"):
        raise TargetError(f"Which server shall be judged? Give its URL, such as --target {local.BASE_URL}.")
    same = ("second_key", "signing_key", "dialect", "http_status", "fail_prompt", "callback_host", "spend")
    flags = {name: given(name) for name in same}
    return TargetFlags(key=given("target_key"), require=tuple(given("require")), **flags).target(given("target"))


def _options(config: pytest.Config) -> Options:
    flags = RunFlags(max_examples=config.option.seedbed_max_examples, time_limit=config.option.seedbed_time_limit)
    checked, workers = flags.options(), getattr(config, "workerinput", {}).get("workercount", 1)
    return Options(
        _seed(config),
        checked.max_examples,
        checked.time_limit,
        contract=checked.contract,
        # Of the profile that is loaded: a directory, or a Redis that a team shares.
        examples=cast("Any", settings.default).database,
        is_alone=workers == 1,
    )


def _seed(config: pytest.Config) -> int:
    given = config.getoption("hypothesis_seed", None)
    if given == "random":
        return random.SystemRandom().getrandbits(_SEED_BITS)
    try:
        return int(given or 0)
    except ValueError:
        raise TargetError(f"The seed is a whole number or random, not {given!r}; see {_SEED_FLAG}.") from None


def _show(findings: list[Finding], judgement: Judgement, console: Console) -> None:
    for number, finding in enumerate(findings, 1):
        terminal.show_finding(finding, number, judgement, console, flag=_SEED_FLAG)


def _printed(show: Callable[[Console], None]) -> str:
    console = Console(file=StringIO(), width=_WIDTH, force_terminal=False)
    show(console)
    return cast("StringIO", console.file).getvalue().strip("\n")
