"""The report and the progress of a run on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from seedbed_contract.reports import wording
from seedbed_contract.reports.verdict import describe_status, status_counts, status_of, verdict_of
from seedbed_contract.reports.wording import abridged, clipped, counted, listed, on_lines, on_one_line

if TYPE_CHECKING:
    from typing import Self

    from rich.console import Console

    from seedbed_contract.findings import Finding, Report


class RunProgress:
    """Shows the progress of a run: a bar on a terminal, one line for each check elsewhere.

    Use it as a context manager. The bar disappears at the end of the block.

    Args:
        console: Console to write to. It should not be the one that the report goes to.
        total_checks: Number of checks that will be run.
        quiet: Write nothing.
    """

    def __init__(self, console: Console, total_checks: int, *, quiet: bool = False) -> None:
        self._console = console
        # In a log file, a bar would be repeated for each update.
        self._lines = not quiet and not console.is_terminal
        columns = (
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[sent]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal)
        self._task = self._bar.add_task("", total=total_checks, sent=counted(0, "request"))
        self._begun = self._sent = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def check(self, name: str, about: str) -> None:
        """Show that a check begins; this completes the check before it."""
        text = on_one_line(f"{name}: {about}")
        self._bar.update(self._task, completed=self._begun, description=text)
        self._begun += 1
        if self._lines:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def sent(self, requests: int = 1) -> None:
        """Add to the number of requests that were sent."""
        self._sent += requests
        self._bar.update(self._task, sent=counted(self._sent, "request"))


_MAX_FULL_FINDINGS: Final = 25
"""Findings that are shown in full; of the others, only the title is."""
_MAX_TEXT: Final = 800
_MAX_CURL: Final = 4_000
"""Characters of a curl command: enough for the longest prompt, so that nearly every command can be pasted."""
_MAX_NAMES: Final = 12
_MAX_LINES: Final = 20
_NO_LIMIT: Final = sys.maxsize
_STYLES: Final[dict[str, str]] = {
    "conforms": "bold green",
    "known findings": "bold yellow",
    "findings": "bold red",
    "not checked": "bold yellow",
    "interrupted": "bold yellow",
    "internal error": "bold red",
    "passed": "green",
    "failed": "bold red",
    "warned": "yellow",
    "skipped": "yellow",
}


def show(report: Report, console: Console, *, verbose: bool = False) -> None:
    """Print a report. The verdict is the last line, next to the prompt that follows.

    Args:
        report: Report to print.
        console: Console to print on.
        verbose: Whether to print every finding, request and response in full.
    """
    page = _Page(console, verbose=verbose)
    _print_basis(page, report)
    full = report.findings if verbose else report.findings[:_MAX_FULL_FINDINGS]
    number = 0
    for findings in wording.by_clause(full).values():
        page.line()
        _print_clause(page, findings[0])
        for finding in findings:
            number += 1
            _print_finding(page, finding, number, report)
    rest = report.findings[len(full) :]
    if rest:
        page.line()
        page.line(f"{len(rest):,} more, shown in full with --verbose and in the other reports:", "bold")
    for finding in rest:
        page.indented(page.short(f"{finding.level} {finding.clause}: {finding.title}"))
    _print_outcome(page, report)


def show_outcome(report: Report, console: Console) -> None:
    """Print a report without its findings, for callers that have printed them."""
    page = _Page(console)
    _print_basis(page, report)
    _print_outcome(page, report)


def show_finding(
    finding: Finding, number: int, report: Report, console: Console, *, seed_option: str = "--seed"
) -> None:
    """Print one finding in full, with the option that sets the seed."""
    page = _Page(console)
    _print_clause(page, finding)
    _print_finding(page, finding, number, report, seed_option)


class _Page:
    """Lines on a console: folded to its width on a terminal, unfolded in a file."""

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        self._console = console
        self.is_verbose = verbose

    def limit(self, usual: int) -> int:
        """Return the usual limit on what is shown, or none if everything is."""
        return _NO_LIMIT if self.is_verbose else usual

    def short(self, text: str) -> str:
        """Return an untrusted text on one line of limited length."""
        return clipped(on_one_line(text), self.limit(_MAX_TEXT))

    def line(self, text: str = "", style: str = "") -> None:
        self._print(Text(text, style), whole=not self._console.is_terminal)

    def indented(self, text: str, style: str = "", *, by: int = 4) -> None:
        if self._console.is_terminal:
            self._console.print(Padding(Text(text, style, overflow="fold"), (0, 0, 0, by)))
        else:
            self.line(f"{' ' * by}{text}", style)

    def whole_line(self, text: str) -> None:
        """Print a line that users copy: it is not folded, however narrow the terminal is."""
        self._print(Text(text), whole=True)

    def row(self, status: str, text: str, style: str) -> None:
        """Print the status of a check before its name."""
        if not self._console.is_terminal:
            self.line(f"    {status:<9}{text}")
            return
        row = Table.grid(padding=0)
        row.add_column(width=13, style=style)
        row.add_column(overflow="fold")
        row.add_row(Text(f"    {status}"), Text(text))
        self._console.print(row)

    def field(self, label: str, text: str, style: str = "") -> None:
        if not self._console.is_terminal:
            self._print(Text.assemble((f"    {label:<10}", "dim"), (text, style)), whole=True)
            return
        row = Table.grid(padding=0)
        row.add_column(width=14, style="dim")
        row.add_column(overflow="fold")
        row.add_row(Text(f"    {label}"), Text(text, style))
        self._console.print(row)

    def _print(self, text: Text, *, whole: bool) -> None:
        self._console.print(text, soft_wrap=whole, highlight=False, overflow="ignore" if whole else "fold")


def _print_basis(page: _Page, report: Report) -> None:
    page.line(page.short(report.target), "bold")
    page.line(wording.basis(report), "dim")
    for remark in report.remarks:
        page.line(page.short(remark), "dim")


def _print_clause(page: _Page, finding: Finding) -> None:
    """Print the clause that one or several findings are about."""
    page.line(page.short(finding.clause), "bold cyan")
    if finding.says:
        page.field("says", page.short(finding.says))
    page.field("stated in", page.short(finding.place))


def _print_finding(page: _Page, finding: Finding, number: int, report: Report, seed_option: str = "--seed") -> None:
    style = "bold red" if finding in report.failures else "bold yellow"
    page.line(f"{number:>2}  {finding.level}: {page.short(finding.title)}", style)
    if finding.side != "service":
        page.field("broken by", f"the {page.short(finding.side)}")
    if finding.sample.curl:
        page.whole_line(f"    {clipped(on_one_line(finding.sample.curl), page.limit(_MAX_CURL))}")
    response = on_lines(finding.sample.response)
    lines = [line for line in (response if page.is_verbose else abridged(response)).split("\n") if line]
    most = page.limit(_MAX_LINES)
    more = f"\n... ({counted(len(lines) - most, 'more line')})" if len(lines) > most else ""
    page.field("response", clipped("\n".join(lines[:most]), page.limit(_MAX_TEXT)) + more)
    if finding.also:
        page.field("also with", listed([*map(page.short, finding.also)], page.limit(_MAX_NAMES)))
    page.field("", wording.circumstances(finding, report, seed_option), "dim")


def _print_outcome(page: _Page, report: Report) -> None:
    _print_checks(page, report)
    if report.coverage:
        page.line()
        page.line(wording.coverage_line(report), "bold")
        for side in wording.coverage(report):
            if side.missing:
                page.indented(f"not exercised ({side.name}): {listed(side.missing, page.limit(_MAX_NAMES))}", "dim")
    if reasons := wording.not_checked(report):
        page.line()
        page.line("not checked:", "bold yellow")
        for reason, subjects in reasons.items():
            page.indented(page.short(reason))
            page.indented(listed(subjects, page.limit(_MAX_NAMES)), "dim", by=8)
    if report.fixed:
        page.line()
        page.line("fixed since the baseline:", "bold green")
        for known in report.fixed:
            page.indented(page.short(f"{known.clause}: {known.title}"))
    page.line()
    verdict = verdict_of(report)
    page.line(f"{verdict.line} ({wording.figures(report)})", _STYLES[verdict.outcome])


def _print_checks(page: _Page, report: Report) -> None:
    if not report.checks:
        return
    counts = ", ".join(f"{count:,} {status}" for status, count in status_counts(report).items())
    page.line()
    page.line(f"checks: {counts}", "bold")
    for check in report.checks:
        status = status_of(check, report)
        page.row(status, page.short(f"{check.name}: {check.about}"), _STYLES[status])
        if detail := describe_status(check, report):
            page.indented(page.short(detail), "dim", by=13)
