"""The drill: the program in a calm run, then in every scenario, each time with a mock server of its own."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, TypeVar

from seedbed_schemas.baseline import KnownFinding, baseline_text

from seedbed_mock.drill.program import run_program
from seedbed_mock.observation import ControlRun, Observation, observe, obtained, patience_of
from seedbed_mock.server import start_server
from seedbed_mock.verdicts import verdicts_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from seedbed_mock.bill import Bill
    from seedbed_mock.observation import RuleFinding
    from seedbed_mock.options import ServerOptions

    Explore = Callable[["Drill", "DrillReport"], None]
    """Explores more after the calm run, and adds to the report what it finds."""


_T = TypeVar("_T")

CALM: Final = "calm"
"""Name of the control run, in which nothing goes wrong."""

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells report it."""

_SIGNAL_SECONDS: Final = 0.1
_SHOWN_REPORTS: Final = 5


@dataclass(frozen=True, slots=True)
class DrillCase:
    """One run of a drill.

    Attributes:
        name: Name of the run: that of the scenario, or the fault rule.
        scenario: Name of a built-in scenario, or a scenario file; empty for none.
        rules: Fault rules that are active from the start.
    """

    name: str
    scenario: str = ""
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """What came of one run.

    Attributes:
        name: Name of the scenario, its file, or the fault rule.
        seen: What the server saw.
        findings: What every rule says, by its name.
        seconds: How long the program took.
        bill: What its calls would have cost.
        notes: What else is worth knowing, each as one sentence.
        occurred: Whether a fault rule has changed anything.
        repeat: Command that repeats the run with its verdicts, empty if none is known.
        identity: Name that is the same in another drill of the program; by default the name.
        known: Names of the broken rules that the baseline has.
    """

    name: str
    seen: Observation
    findings: dict[str, RuleFinding]
    seconds: float
    bill: Bill
    notes: tuple[str, ...] = ()
    occurred: bool = False
    repeat: str = ""
    identity: str = ""
    known: frozenset[str] = frozenset()

    @property
    def failed(self) -> dict[str, RuleFinding]:
        """The rules that the program broke."""
        return {name: each for name, each in self.findings.items() if each.outcome == "failed"}

    @property
    def new(self) -> set[str]:
        """Names of the broken rules that the baseline does not have."""
        return self.failed.keys() - self.known


@dataclass(frozen=True, slots=True)
class Exploration:
    """How far every fault was tried with every request.

    Attributes:
        cases: Number of cases, each one fault of one request.
        runs: Number of runs that this drill made.
        remembered: Number of cases whose outcome an earlier drill remembered.
        failed: Number of cases with a verdict against the program.
        absent: Rules whose fault did not occur, because the program did not send that request.
        left_out: Rules of the cases that were not tried.
        note: Why no outcomes are remembered, empty if they are.
    """

    cases: int
    runs: int
    remembered: int
    failed: int
    absent: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    note: str = ""

    def describe(self) -> str:
        """Return it in a few sentences."""
        text = f"Explored {self.cases - len(self.left_out)} of {self.cases} cases, each one fault of one request"
        text += f", in {self.runs} run{'' if self.runs == 1 else 's'}"
        text += f"; {self.remembered} are known from an earlier drill." if self.remembered else "."
        text += f" {self.failed} failed."
        if self.absent:
            text += f" In {len(self.absent)}, the fault did not occur, because the program did not send that request."
        if self.left_out:
            text += f" {len(self.left_out)} were left out; pass a larger --budget, or repeat the drill to go on."
        return f"{text} {self.note}".rstrip()


@dataclass(slots=True)
class DrillReport:
    """What came of a drill.

    Attributes:
        command: The program and its arguments.
        results: The results, the calm run first.
        problem: Why nothing can be concluded, empty if something can.
        exploration: What was explored, ``None`` for nothing.
        interrupted: Exit code if the drill was stopped early, 0 if it was not.
        ran: Identities of all runs that the drill made or knew from an earlier one.
        fixed: Findings of the baseline that these runs no longer have.
    """

    command: tuple[str, ...]
    results: list[ScenarioResult] = field(default_factory=list)
    problem: str = ""
    exploration: Exploration | None = None
    interrupted: int = 0
    ran: set[str] = field(default_factory=set)
    fixed: list[KnownFinding] = field(default_factory=list)

    @property
    def has_passed(self) -> bool:
        """Whether the drill ran to its end and no verdict failed that the baseline does not have."""
        return not (self.problem or self.interrupted or any(each.new for each in self.results))

    def compare(self, known: Iterable[KnownFinding]) -> None:
        """Mark the failures that a baseline has, and note which of its findings are gone."""
        entries = {each.identity: each for each in known}
        self.results = [
            replace(each, known=frozenset(name for name in each.failed if identity_of(each, name) in entries))
            for each in self.results
        ]
        found = {identity_of(each, name) for each in self.results for name in each.failed}
        self.fixed = [each for each in entries.values() if each.check in self.ran and each.identity not in found]

    def to_baseline(self, known: Iterable[KnownFinding]) -> str:
        """Return a baseline with all failures, and with those of an old one whose runs this drill did not make."""
        entries = {each.identity: each for each in known if each.check not in self.ran}
        for each in self.results:
            for name, finding in each.failed.items():
                identity, title = identity_of(each, name), " ".join(finding.reason.split())
                entries[identity] = KnownFinding(identity, name, title, each.identity or each.name)
        return baseline_text(entries.values())


def identity_of(result: ScenarioResult, verdict: str) -> str:
    """Return the text by which a baseline recognises a failure."""
    return f"{verdict}: {result.identity or result.name}"


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

    def run(self, scenarios: Sequence[str], explore: Explore | None = None) -> DrillReport:
        """Run the program in calm and then in each scenario, and return what came of it.

        Ctrl-C, and a signal handler that raises ``SystemExit``, end the runs; the report then has those that ended.

        Args:
            scenarios: Names of built-in scenarios, or scenario files.
            explore: Explores more after these, given the calm run.

        Raises:
            OSError: The program cannot be run.
            SettingsError: An option or a scenario is invalid.
        """
        report, done = DrillReport(self.command), dict[str, ScenarioResult]()

        def add(result: ScenarioResult) -> None:
            done[result.name] = result
            self.on_result(result)

        try:
            calm = list[ScenarioResult]()
            # In a thread, like all runs: a signal is raised in this one, at a moment when a program may be starting.
            self.run_all([partial(self.result, DrillCase(CALM))], calm.append)
            first = calm[0]
            control = ControlRun.of(first.seen)
            done[CALM], report.problem = first, control_problem(first.seen, control, self.deadline)
            if not report.problem:
                self.on_result(first)
                cases = [DrillCase(name, scenario=name) for name in scenarios]
                self.run_all([partial(self.result, case, control) for case in cases], add)
        except (KeyboardInterrupt, SystemExit) as error:
            report.interrupted = int(error.code or 0) if isinstance(error, SystemExit) else INTERRUPTED
        report.results = [done[name] for name in (CALM, *scenarios) if name in done]
        report.ran |= done.keys()
        if explore and not (report.problem or report.interrupted):
            explore(self, report)
        return report

    def run_all(self, calls: Sequence[Callable[[], _T]], on_done: Callable[[_T], None]) -> None:
        """Make calls at the same time, as many as there are jobs, and hand over what each returns as soon as it does.

        Raises:
            BaseException: A call or the hand-over raises it; the other calls are stopped.
        """
        with ThreadPoolExecutor(self.jobs) as pool:
            futures, done = list[Future[_T]](), SimpleQueue[Future[_T]]()
            try:
                futures += [pool.submit(call) for call in calls]
                for future in futures:
                    future.add_done_callback(done.put)
                for _ in futures:
                    on_done(_next(done).result())
            except BaseException:
                self.stop.set()
                for future in futures:
                    future.cancel()
                raise

    def result(self, case: DrillCase, control: ControlRun | None = None) -> ScenarioResult:
        """Run the program once, with a mock server of its own.

        Args:
            case: What goes wrong.
            control: What the program does when nothing goes wrong; by default what it does in this run.

        Raises:
            KeyboardInterrupt: The drill was stopped.
            OSError: The program cannot be run.
            SettingsError: An option or the scenario is invalid.
        """
        # cryptography takes time to load, and a refused command line needs none.
        from seedbed_mock.interception.setup import InterceptionSession

        options, reports = replace(self.options, scenario=case.scenario), list[str]()
        contracts, hosts = options.patched_contracts, options.intercepted_hosts
        with (
            InterceptionSession(contracts, hosts, options.egress, write=reports.append) as session,
            start_server(options, session.interception) as server,
        ):
            service = server._service
            service.faults.add(map(service.faults.parse, case.rules), "control")
            begun = service.now()
            result = run_program(self.command, session.environment(server.url), self.deadline, self.stop)
            # Not now: it may take seconds to end a program at the deadline.
            ended = begun + round(result.seconds * 1000 * (service.clock.speed or 1))
            patience = patience_of(options)
            seen = server._app.run(lambda: observe(service, result.exit, begun, ended, patience=patience))
            bill, occurred = server.bill, any(each.hits for each in service.faults)
        if self.stop.is_set():
            raise KeyboardInterrupt
        findings = verdicts_on(seen, control or ControlRun.of(seen))
        notes = (*result.notes(), *reports[:_SHOWN_REPORTS])
        return ScenarioResult(case.name, seen, findings, result.seconds, bill, notes, occurred)


def _next(done: SimpleQueue[_T]) -> _T:
    """Return what is put next. A signal that is raised in a wait for futures could leave them locked."""
    while True:
        # A signal that comes just before a wait is raised only after it.
        with suppress(Empty):
            return done.get(timeout=_SIGNAL_SECONDS)


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
