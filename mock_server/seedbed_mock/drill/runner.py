"""The drill: the program in a calm run, then in every scenario, each time with a mock server of its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from seedbed_mock.drill.program import run_program
from seedbed_mock.durations import DurationProfile
from seedbed_mock.observation import PATIENCE_SECONDS, ControlRun, Observation, observe, obtained
from seedbed_mock.server import start_server
from seedbed_mock.verdicts import verdicts_on

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from seedbed_mock.bill import Bill
    from seedbed_mock.observation import RuleFinding
    from seedbed_mock.options import ServerOptions


CALM: Final = "calm"
"""Name of the control run, in which nothing goes wrong."""

_SHARE: Final = 0.99
_SHOWN_REPORTS: Final = 5


class DrillError(Exception):
    """Nothing can be concluded; the message is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """What came of one scenario.

    Attributes:
        name: Name of the scenario, or its file.
        seen: What the server saw.
        findings: What every rule says, by its name.
        seconds: How long the program took.
        bill: What its calls would have cost.
        notes: What else is worth knowing, each as one sentence.
    """

    name: str
    seen: Observation
    findings: dict[str, RuleFinding]
    seconds: float
    bill: Bill
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> dict[str, RuleFinding]:
        """The rules that the program broke."""
        return {name: each for name, each in self.findings.items() if each.outcome == "failed"}


@dataclass(slots=True)
class DrillReport:
    """What came of a drill.

    Attributes:
        command: The program and its arguments.
        results: The results, the calm run first.
        problem: Why nothing can be concluded, empty if something can.
    """

    command: tuple[str, ...]
    results: list[ScenarioResult] = field(default_factory=list)
    problem: str = ""

    @property
    def has_passed(self) -> bool:
        """Whether the drill ran and no verdict failed."""
        return not self.problem and not any(each.failed for each in self.results)


@dataclass(frozen=True)
class Drill:
    """A program and how it is drilled.

    Attributes:
        command: The program and its arguments.
        options: Options of the servers.
        deadline: Seconds after which a run is stopped.
        jobs: Number of runs at the same time.
        on_result: Called with each result, in any thread but one at a time.
        stop: Stops all runs.
    """

    command: tuple[str, ...]
    options: ServerOptions
    deadline: float
    jobs: int = 1
    on_result: Callable[[ScenarioResult], None] = lambda _: None
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, scenarios: Sequence[str]) -> DrillReport:
        """Run the program in calm and then in each scenario, and return what came of it.

        Args:
            scenarios: Names of built-in scenarios, or scenario files.

        Raises:
            OSError: The program cannot be run.
            SettingsError: An option or a scenario is invalid.
        """
        report = DrillReport(self.command)
        seen, notes, seconds, bill = self._observe("")
        calm = ControlRun.of(seen)
        # What is wrong in calm is a failure, too, unless nothing works.
        report.results.append(ScenarioResult(CALM, seen, verdicts_on(seen, calm), seconds, bill, notes))
        report.problem = control_problem(seen, calm, self.deadline)
        self.on_result(report.results[0])
        if report.problem:
            return report
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = {pool.submit(self._result, name, calm): name for name in scenarios}
            try:
                done = {}
                for future in as_completed(futures):
                    done[futures[future]] = future.result()
                    self.on_result(done[futures[future]])
            except BaseException:
                self.stop.set()
                for future in futures:
                    future.cancel()
                raise
        report.results += [done[name] for name in scenarios]
        return report

    def _result(self, scenario: str, calm: ControlRun) -> ScenarioResult:
        seen, notes, seconds, bill = self._observe(scenario)
        return ScenarioResult(scenario, seen, verdicts_on(seen, calm), seconds, bill, notes)

    def _observe(self, scenario: str) -> tuple[Observation, tuple[str, ...], float, Bill]:
        # cryptography takes time to load, and a refused command line needs none.
        from seedbed_mock.interception.setup import InterceptionSession

        options, reports = replace(self.options, scenario=scenario), list[str]()
        contracts, hosts = options.patched_contracts, options.intercepted_hosts
        with (
            InterceptionSession(contracts, hosts, options.egress, write=reports.append) as session,
            start_server(options, session.interception) as server,
        ):
            service = server._service
            begun = service.now()
            result = run_program(self.command, session.environment(server.url), self.deadline, self.stop)
            # Not now: it may take seconds to end a program at the deadline.
            ended = begun + round(result.seconds * 1000 * (service.clock.speed or 1))
            seen = observe(service, result.exit, begun, ended, patience=patience_of(options))
            bill = server.bill
        if self.stop.is_set():
            raise KeyboardInterrupt
        return seen, (*result.notes(), *reports[:_SHOWN_REPORTS]), result.seconds, bill


def patience_of(options: ServerOptions) -> float:
    """Return for how many seconds a program must wait for a task: until nearly all have ended, but not for ever."""
    if not isinstance(options.duration, DurationProfile):
        return PATIENCE_SECONDS
    longest = max(each.percentile(_SHARE) for each in options.duration.quality.values())
    return min(longest, PATIENCE_SECONDS)


def control_problem(calm: Observation, control: ControlRun, deadline: float) -> str:
    """Return why nothing can be concluded from a calm run, in one sentence; empty if something can."""
    last = (calm.exit.errors.strip().splitlines()[-1:] or ["it printed no error"])[0][:200]
    if not calm.entries and calm.exit.code:
        return f"The program never called the API, and ended with exit code {calm.exit.code} ({last})."
    if not calm.entries:
        return (
            "The program never called the API: it calls another address than SEEDBED_BASE_URL and takes no account of "
            "the proxy, or it does nothing."
        )
    if calm.exit.code is None:
        return f"Without any fault, the program did not end within {deadline:g} s; pass a longer --deadline."
    if calm.exit.code:
        return f"Without any fault, the program ended with exit code {calm.exit.code} ({last})."
    if not obtained(calm, fetches=control.fetches):
        refused = next((each for each in calm.calls if each.case != "done"), None)
        because = f"; {refused.operation} was answered with code {refused.code}" if refused else ""
        return f"Without any fault, the program ended with exit code 0 and got no image{because}."
    return ""
