"""What a drill shows on a terminal: the results while it runs, and the report at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from rich.live import Live
from rich.table import Table
from rich.text import Text

from seedbed_mock.bill import plain
from seedbed_mock.drill.report import closing_line, describe_exit, outcome_of, safe_text, verdicts_line
from seedbed_mock.drill.runner import CALM
from seedbed_mock.durations import DurationProfile, describe_loss
from seedbed_mock.verdicts import NOT_VISIBLE, RULES

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod

    from seedbed_mock.drill.runner import DrillReport, ScenarioResult
    from seedbed_mock.options import ServerOptions


_STYLES: Final = {"passed": "green", "known": "yellow", "failed": "bold red"}

_LEAST_WIDTH: Final = 60
"""Of a terminal for all columns; a narrower one shows how a program ended only in the HTML report."""

_MORE_COLUMNS: Final[tuple[tuple[str, JustifyMethod], ...]] = (
    ("End", "left"),
    ("Calls", "right"),
    ("Credits", "right"),
)
_EXPLORED: Final = "explored"
_LINES_OF_PROGRESS: Final = 10
"""How many lines say how far an exploration is where there is no terminal."""

_MOST_FAILURES: Final = 20
"""How many failures an exploration shows while it runs: a table that is higher than the terminal cannot be updated."""


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
        self._failed = 0
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

    def add_case(self, done: int, planned: int, result: ScenarioResult) -> None:
        """Show how far an exploration is, and its result if it failed.

        Args:
            done: Number of runs that have ended.
            planned: Number of runs that are planned.
            result: Result of the latest.
        """
        self._failed += bool(result.failed)
        progress = f"{done} of {planned} runs, {self._failed} failed"
        if self._console.is_terminal:
            # Last: the failures are above it.
            self._rows.pop(_EXPLORED, None)
            if result.failed and self._failed <= _MOST_FAILURES:
                self._rows[result.name] = Text(f"failed ({', '.join(result.failed)})", _STYLES["failed"])
            self._rows[_EXPLORED] = Text(progress)
            self._live.update(self._table())
            return
        if result.failed:
            self.add(result)
        if done == planned or done % max(planned // _LINES_OF_PROGRESS, 1) == 0:
            self._console.print(Text(f"{_EXPLORED}: {progress}"), soft_wrap=True)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, text in self._rows.items():
            table.add_row(Text(name), text)
        return table


def show_report(report: DrillReport, options: ServerOptions, console: Console) -> None:
    """Print a table of the scenarios, what each verdict rests on, and the outcome as the last line."""
    if report.results:
        console.print(_table_of(report, console.width))
    for result in report.results:
        _show_details(result, console)
    _show_exploration(report, console)
    if isinstance(options.duration, DurationProfile):
        _show_losses(options.duration, report, console)
    if not report.problem:
        console.print("\nNot visible from outside:")
        for each in NOT_VISIBLE:
            console.print(f"- {each}.")
    console.print(Text(f"\n{safe_text(closing_line(report))}"))


def _table_of(report: DrillReport, width: int) -> Table:
    is_narrow = width < _LEAST_WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Scenario", overflow="fold")
    table.add_column("Outcome", no_wrap=True)
    for title, justify in () if is_narrow else _MORE_COLUMNS:
        table.add_column(title, justify=justify, no_wrap=True)
    table.add_column("Verdicts", overflow="fold")
    for result in report.results:
        outcome = outcome_of(result, report.problem)
        more = (describe_exit(result), str(len(result.seen.calls)), plain(result.bill.credits))
        table.add_row(
            Text(safe_text(result.name)),
            Text(outcome, _STYLES[outcome]),
            *(() if is_narrow else map(Text, more)),
            Text(verdicts_line(result)),
        )
    return table


def _show_details(result: ScenarioResult, console: Console) -> None:
    if not (result.failed or result.notes):
        return
    console.print(Text(f"\n{safe_text(result.name)}", "bold"))
    for note in result.notes:
        console.print(Text(safe_text(note)))
    rules = {each.name: each for each in RULES}
    for name, finding in result.failed.items():
        known = ", known" if name in result.known else ""
        style = _STYLES["known" if known else "failed"]
        console.print(Text.assemble((f"{name}{known}", style), f": {finding.reason}"))
        for each in finding.evidence:
            console.print(Text(f"  {each.describe()}"))
        console.print(Text(f"  Rule: {rules[name].rule} Source: {rules[name].source}."))
    if result.repeat:
        # Never broken into lines: it is there to be copied.
        console.print(Text(f"Repeat: {safe_text(result.repeat)}"), soft_wrap=True)


def _show_exploration(report: DrillReport, console: Console) -> None:
    if report.exploration:
        console.print(Text(f"\n{safe_text(report.exploration.describe())}"))
    for each in report.fixed:
        console.print(Text(safe_text(f"Gone since the baseline: {each.identity}.")))


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
