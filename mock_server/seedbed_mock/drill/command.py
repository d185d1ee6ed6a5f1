"""The command ``seedbed drill``: its options, the lines while it runs, and the table at its end."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self

from cyclopts import Parameter, validators
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from seedbed_schemas import local
from seedbed_schemas.validation import for_display

from seedbed_mock.bill import plain
from seedbed_mock.drill.report import FORMATS, closing_line, describe_exit, outcome_of, safe_text
from seedbed_mock.drill.runner import CALM, Drill, DrillReport, ScenarioResult
from seedbed_mock.durations import DurationProfile, describe_loss
from seedbed_mock.faults.scenarios import load_scenario, scenario_path, shipped_scenarios
from seedbed_mock.options import DialectName, RunOptions
from seedbed_mock.settings import Egress, SettingsError
from seedbed_mock.sockets import ListenError
from seedbed_mock.verdicts import NOT_VISIBLE, RULES

_COULD_NOT_RUN: Final = 2
_TERMINATED: Final = 143
_MOST_JOBS: Final = 64
_DEADLINE_SECONDS: Final = 120.0
_LONGEST_SECONDS: Final = 86_400

_File = Annotated[Path | None, Parameter(show_default=False)]
_Words = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True)
class ReportFiles:
    """Files to write reports to.

    Attributes:
        junit: File for a JUnit XML report, for CI.
        html: File for an HTML report with a time line for each scenario.
        json: File for a JSON report, for programs.
        markdown: File for a Markdown report, for a pull request.
    """

    junit: _File = None
    html: _File = None
    json: _File = None
    markdown: _File = None

    def check(self) -> None:
        """Check that every report can be written, before the drill takes its time.

        Raises:
            OSError: A file cannot be written.
            SettingsError: Two reports go to one file.
        """
        paths = [path for path in (self.junit, self.html, self.json, self.markdown) if path]
        if repeated := next((path for path in paths if paths.count(path) > 1), None):
            raise SettingsError(f"Two reports go to {repeated}; pass a different file for each report.")
        for path in paths:
            with path.open("a", encoding="utf-8"):
                pass

    def write(self, report: DrillReport) -> None:
        """Write the reports.

        Raises:
            OSError: A file cannot be written.
        """
        for name, render in FORMATS.items():
            if path := getattr(self, name):
                path.write_text(render(report), encoding="utf-8")


def drill(
    *command: str,
    scenario: _Words = (),
    deadline: Annotated[float, Parameter(validator=validators.Number(gt=0, lte=_LONGEST_SECONDS))] = _DEADLINE_SECONDS,
    jobs: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=_MOST_JOBS))] = 1,
    speed: float = 1,
    task_seconds: str = "3",
    dialect: DialectName = "documented",
    key: _Words = (local.KEY,),
    seed: int = 0,
    intercept: _Words = (),
    egress: Egress = "allow",
    reports: ReportFiles | None = None,
    config: Path | None = None,  # noqa: ARG001 (read before the command is called: see cli._read_config)
) -> int:
    """Run a program against scenarios, and show what it would have lost at the real service.

    Args:
        command: The program and its arguments, after two dashes.
        scenario: Name of a built-in scenario, or a scenario file; by default all built-in ones. Repeatable.
        deadline: Seconds after which a run is stopped.
        jobs: Number of runs at the same time.
        speed: Speed of the clock of the servers; the sleeps of the program are not faster.
        task_seconds: Duration of a task: SECONDS, MIN..MAX, or the name of a duration profile.
        dialect: "documented" or "observed".
        key: API key to accept, with options as for seedbed serve. Repeatable.
        seed: Seed of everything random in the scenarios.
        intercept: Further host that the servers stand in for. Repeatable.
        egress: What becomes of connections to other hosts, allow or deny.
        reports: Files to write reports to.
        config: TOML file with these options, named without dashes.
    """
    if not command:
        return _fail("name a program after two dashes, such as seedbed drill -- python app.py.")
    if shutil.which(command[0]) is None:
        return _fail(f"{for_display(command[0])} was not found, or is not executable.")
    try:
        options = RunOptions(
            task_seconds=task_seconds,
            dialect=dialect,
            key=key,
            seed=seed,
            speed=speed,
            intercept=intercept,
            egress=egress,
        )
        options.check()
        names = list(dict.fromkeys(scenario or shipped_scenarios()))
        for name in names:
            load_scenario(scenario_path(name))
        reports = reports or ReportFiles()
        reports.check()
        with RunningTable(Console(stderr=True, highlight=False), names) as running:
            report = _run(Drill(command, options, deadline, jobs, running.add), names)
        reports.write(report)
    except (SettingsError, ListenError, OSError) as error:
        reason = f"{error.filename or command[0]}: {error.strerror}." if isinstance(error, OSError) else str(error)
        return _fail(reason)
    show_report(report, options, Console(file=sys.stdout, highlight=False))
    return _COULD_NOT_RUN if report.problem else int(not report.has_passed)


def _run(drilled: Drill, names: list[str]) -> DrillReport:
    """Run a drill; SIGTERM ends it like Ctrl-C, so that no program is left running."""

    def terminate(*_: object) -> None:
        drilled.stop.set()
        raise SystemExit(_TERMINATED)

    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminate) if is_main else None
    try:
        return drilled.run(names)
    finally:
        drilled.stop.set()
        if is_main:
            signal.signal(signal.SIGTERM, before)


def _fail(sentence: str) -> int:
    sys.stderr.write(f"seedbed drill: {sentence}\n")
    return _COULD_NOT_RUN


# What is shown

_STYLES: Final = {"passed": "green", "failed": "bold red"}


class RunningTable:
    """Shows a drill while it runs: a table on a terminal, one line for each result elsewhere.

    Use it as a context manager. The table disappears at the end of the block, where the report follows.

    Args:
        console: Console to write to. It should not be the one that the report goes to.
        names: Names of the scenarios.
    """

    def __init__(self, console: Console, names: list[str]) -> None:
        self._console = console
        self._rows: dict[str, Text] = dict.fromkeys([CALM, *names], Text("waiting", "dim"))
        self._live = Live(self._table(), console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> Self:
        # In a log file, the table would be repeated for each update.
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def add(self, result: ScenarioResult) -> None:
        """Show the result of a scenario."""
        failed = f" ({', '.join(result.failed)})" if result.failed else ""
        end = f"{describe_exit(result)} after {result.seconds:.1f} s"
        if self._console.is_terminal:
            self._rows[result.name] = Text(f"{outcome_of(result)}{failed}, {end}", _STYLES[outcome_of(result)])
            self._live.update(self._table())
        else:
            self._console.print(Text(f"{result.name}: {outcome_of(result)}{failed}, {end}"), soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, text in self._rows.items():
            table.add_row(Text(name), text)
        return table


def show_report(report: DrillReport, options: RunOptions, console: Console) -> None:
    """Print a table of the scenarios, what each verdict rests on, and the outcome as the last line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("Scenario", "Outcome", "End"):
        table.add_column(title, overflow="fold")
    for title in ("Calls", "Credits"):
        table.add_column(title, justify="right")
    table.add_column("Verdicts")
    for result in report.results:
        outcome = outcome_of(result, report.problem)
        table.add_row(
            Text(safe_text(result.name)),
            Text(outcome, _STYLES[outcome]),
            describe_exit(result),
            str(len(result.seen.calls)),
            plain(result.bill.credits),
            Text(", ".join(result.failed)),
        )
    console.print(table)
    for result in report.results:
        _show_details(result, console)
    if isinstance(options.duration, DurationProfile):
        _show_losses(options.duration, report, console)
    if not report.problem:
        console.print("\nNot visible from outside:")
        for each in NOT_VISIBLE:
            console.print(f"- {each}.")
    console.print(Text(f"\n{safe_text(closing_line(report))}"))


def _show_details(result: ScenarioResult, console: Console) -> None:
    if not (result.failed or result.notes):
        return
    console.print(Text(f"\n{safe_text(result.name)}", "bold"))
    for note in result.notes:
        console.print(Text(safe_text(note)))
    rules = {each.name: each for each in RULES}
    for name, finding in result.failed.items():
        console.print(Text.assemble((name, _STYLES["failed"]), f": {finding.reason}"))
        for each in finding.evidence:
            console.print(Text(f"  {each.describe()}"))
        console.print(Text(f"  Rule: {rules[name].rule} Source: {rules[name].source}."))


def _show_losses(profile: DurationProfile, report: DrillReport, console: Console) -> None:
    """Print which share of tasks the program loses by the time after which it gave up."""
    waits = [
        each.seen.seconds(task.created, each.seen.ended)
        for each in report.results
        if "gave up early" in each.failed
        for task in each.seen.known_tasks
        if not each.seen.learned(task)
    ]
    if waits:
        deadline = max(waits)
        console.print(
            Text(
                f"\nIt gave up after {deadline:.0f} s: {describe_loss(deadline, profile.share_lost(deadline).items())}."
            )
        )
