"""The command ``seedbed drill``: its options, its files and its exit code."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter, validators
from rich.console import Console
from seedbed_schemas import commands, local
from seedbed_schemas.baseline import BaselineError, KnownFinding, read_baseline
from seedbed_schemas.commands import JsonFlag
from seedbed_schemas.files import check_writable, write_whole
from seedbed_schemas.validation import for_display

from seedbed_mock.drill.console import RunningTable, show_report
from seedbed_mock.drill.report import FORMATS, to_dict
from seedbed_mock.drill.runner import Drill, DrillReport
from seedbed_mock.faults.scenarios import load_scenario, scenario_path, shipped_scenarios
from seedbed_mock.options import INTEGER, DialectName, RunOptions
from seedbed_mock.settings import Egress, SettingsError
from seedbed_mock.sockets import ListenError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedbed_mock.drill.runner import Explore


_COULD_NOT_RUN: Final = 2
_TERMINATED: Final = 143
_MOST_JOBS: Final = 64
_MOST_RUNS: Final = 1_000_000
_DEADLINE_SECONDS: Final = 120.0
_LONGEST_SECONDS: Final = 86_400

_File = Annotated[Path | None, Parameter(show_default=False)]
_Words = Annotated[tuple[str, ...], Parameter(negative="", show_default=False)]


@Parameter(name="*", negative="")
@dataclass(frozen=True)
class ReportFiles:
    """Files to write reports to, and the baseline.

    Attributes:
        junit: File for a JUnit XML report, for CI.
        html: File for an HTML report with a time line for each scenario.
        json_file: File for a JSON report, for programs.
        markdown: File for a Markdown report, for a pull request.
        baseline: File with known failures, which do not make the drill fail.
        write_baseline: Write the failures of this drill to the file of --baseline.
        as_json: Print the JSON report on standard output, and nothing else.
    """

    junit: _File = None
    html: _File = None
    json_file: _File = None
    markdown: _File = None
    baseline: _File = None
    write_baseline: bool = False
    as_json: JsonFlag = False

    @property
    def all_paths(self) -> list[Path]:
        """The files that are written or read."""
        return [path for path in (self.junit, self.html, self.json_file, self.markdown, self.baseline) if path]

    def check(self) -> list[KnownFinding]:
        """Check that every file can be written, before the drill takes its time, and return the known failures.

        Raises:
            BaselineError: The baseline file is not a baseline.
            OSError: A file cannot be read or written.
            SettingsError: Two reports have the same path, or a baseline is to be written and no file is given.
        """
        if self.write_baseline and not self.baseline:
            raise SettingsError("--write-baseline needs a file; pass it with --baseline.")
        if repeated := next((path for path in self.all_paths if self.all_paths.count(path) > 1), None):
            raise SettingsError(f"Two reports go to {repeated}; pass a different file for each report.")
        for path in self.all_paths:
            if path != self.baseline or self.write_baseline:
                check_writable(path)
        if self.baseline and (self.baseline.exists() or not self.write_baseline):
            return read_baseline(self.baseline.read_bytes(), str(self.baseline))
        return []

    def write(self, report: DrillReport, known: Sequence[KnownFinding] = ()) -> None:
        """Mark what is known, and write the reports, and the baseline if the drill ran to its end.

        Args:
            report: The report.
            known: Failures of the baseline.

        Raises:
            OSError: A file cannot be written.
        """
        if self.baseline and self.write_baseline:
            if report.problem or report.interrupted:
                commands.warn("drill", "the baseline was not written, because the drill is not complete")
            else:
                text = report.to_baseline(known)
                write_whole(self.baseline, text.encode())
                known = read_baseline(text.encode(), str(self.baseline))
        report.compare(known)
        for name, render in FORMATS.items():
            if path := getattr(self, name):
                write_whole(path, render(report).encode())


@Parameter(name="*", negative="")
@dataclass(frozen=True)
class DrillOptions:
    """What a drill runs.

    Attributes:
        scenario: Name of a built-in scenario, or a scenario file; by default all built-in ones. Repeatable.
        explore: Try every fault with every request of the calm run; then no scenario runs by default.
        budget: Largest number of runs of an exploration.
        no_cache: Explore also what an earlier drill of the same program has explored.
        deadline: Seconds after which a run is stopped.
        jobs: Number of runs at the same time.
    """

    scenario: _Words = ()
    explore: bool = False
    budget: Annotated[int, INTEGER, Parameter(validator=validators.Number(gte=1, lte=_MOST_RUNS))] = 200
    no_cache: bool = False
    deadline: Annotated[float, Parameter(validator=validators.Number(gt=0, lte=_LONGEST_SECONDS))] = _DEADLINE_SECONDS
    jobs: Annotated[int, INTEGER, Parameter(validator=validators.Number(gte=1, lte=_MOST_JOBS))] = 1

    @property
    def names(self) -> list[str]:
        """The scenarios to run after the calm run, each once."""
        return list(dict.fromkeys(self.scenario or ([] if self.explore else shipped_scenarios())))


def drill(
    *command: str,
    runs: DrillOptions | None = None,
    speed: float = 1,
    task_seconds: str = "3",
    dialect: DialectName = "documented",
    key: _Words = (local.KEY,),
    seed: int = 0,
    intercept: _Words = (),
    egress: Egress = "allow",
    reports: ReportFiles | None = None,
    config: Path | None = None,
) -> int:
    """Run a program against scenarios, and show what it would have lost at the real service.

    Args:
        command: The program and its arguments, after two dashes.
        runs: What to run.
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
    del config  # read before the command is called: see cli._read_config
    options = RunOptions(
        task_seconds=task_seconds,
        dialect=dialect,
        key=key,
        seed=seed,
        speed=speed,
        intercept=intercept,
        egress=egress,
    )
    try:
        return _drill(command, runs or DrillOptions(), options, reports or ReportFiles())
    except (SettingsError, ListenError, BaselineError) as error:
        return commands.fail("drill", str(error))
    except OSError as error:
        return commands.fail("drill", f"{error.filename or command[0]}: {error.strerror}.")


def _drill(command: tuple[str, ...], runs: DrillOptions, options: RunOptions, reports: ReportFiles) -> int:
    """Check what was passed, run the drill, show and write what came of it, and return the exit code."""
    if not command:
        return commands.fail("drill", "name a program after two dashes, such as seedbed drill -- python app.py.")
    if shutil.which(command[0]) is None:
        return commands.fail("drill", f"{for_display(command[0])} was not found, or is not executable.")
    options.check()
    for name in runs.names:
        load_scenario(scenario_path(name))
    known = reports.check()
    console = Console(stderr=True, highlight=False, quiet=reports.as_json)
    with RunningTable(console, runs.names) as running:
        drilled = Drill(command, options, runs.deadline, runs.jobs, running.add)
        explorer: Explore | None = None
        if runs.explore:
            from seedbed_mock.drill.explore import Explorer  # a drill of scenarios needs none
            from seedbed_mock.drill.outcomes import CaseMemory  # as above

            memory = CaseMemory(drilled, reports.all_paths, is_used=not runs.no_cache)
            explorer = Explorer(runs.budget, memory, running.add_case)
        report = _run(drilled, runs.names, explorer)
    reports.write(report, known)
    if reports.as_json:
        commands.print_json(to_dict(report), indent=2)
    else:
        show_report(report, options, Console(file=sys.stdout, highlight=False))
    return report.interrupted or (_COULD_NOT_RUN if report.problem else int(not report.has_passed))


def _run(drilled: Drill, names: list[str], explore: Explore | None) -> DrillReport:
    """Run a drill; SIGTERM ends it like Ctrl-C, so that no program is left running."""

    def terminate(*_: object) -> None:
        drilled.stop.set()
        raise SystemExit(_TERMINATED)

    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, terminate) if is_main else None
    try:
        return drilled.run(names, explore)
    finally:
        drilled.stop.set()
        if is_main:
            signal.signal(signal.SIGTERM, before)
