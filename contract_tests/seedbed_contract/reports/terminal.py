"""How a run gets on: a bar that moves on a terminal, a line for each check elsewhere, nothing where none is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from seedbed_contract.reports import wording
from seedbed_contract.reports.wording import counted, on_one_line

if TYPE_CHECKING:
    from typing import Self

    from rich.console import Console

    from seedbed_contract.findings import Finding, Report


class RunProgress:
    """Shows a run while a ``with`` block lasts; a terminal is left as it was.

    Args:
        console: Where to show it, which should not be where the report goes.
        total_checks: How many checks will be run.
        quiet: Show nothing at all.
    """

    def __init__(self, console: Console, total_checks: int, *, quiet: bool = False) -> None:
        self._console = console
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
        """Tell which check begins, which ends the one before."""
        text = on_one_line(f"{name}: {about}")
        self._bar.update(self._task, completed=self._begun, description=text)
        self._begun += 1
        if self._lines:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def sent(self, requests: int = 1) -> None:
        """Tell of requests that were sent since the last time."""
        self._sent += requests
        self._bar.update(self._task, sent=counted(self._sent, "request"))


_IN_FULL: Final = 25
"""So many findings are shown with all they have; of the others their title, since nobody reads more on a terminal."""
_LONGEST: Final = 800
_MOST_NAMES: Final = 12
_MOST_LINES: Final = 20
_STYLES: Final = {"conforms": "bold green", "findings": "bold red", "not judged": "bold yellow"}


def show(judgement: Report, console: Console) -> None:
    """Print a judgement, the verdict last, where the eye is when a command ends."""
    page = _Page(console)
    _basis(page, judgement)
    _findings(page, judgement)
    _outcome(page, judgement)


def show_outcome(judgement: Report, console: Console) -> None:
    """Print what a judgement comes to, for where its findings are shown already."""
    page = _Page(console)
    _basis(page, judgement)
    _outcome(page, judgement)


def show_finding(finding: Finding, number: int, judgement: Report, console: Console, *, flag: str = "--seed") -> None:
    """Print one finding with all it has; the flag is what takes the seed."""
    _finding(_Page(console), finding, number, judgement, flag)


class _Page:
    """Lines on a console: folded to its width on a terminal, whole in a file."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, text: str = "", style: str = "") -> None:
        self._print(Text(text, style), whole=not self._console.is_terminal)

    def indented(self, text: str, style: str = "", *, by: int = 4) -> None:
        if self._console.is_terminal:
            self._console.print(Padding(Text(text, style, overflow="fold"), (0, 0, 0, by)))
        else:
            self.line(f"{' ' * by}{text}", style)

    def whole_line(self, text: str) -> None:
        """Print what is copied: however narrow the terminal, it stays one line."""
        self._print(Text(text), whole=True)

    def field(self, label: str, text: str, style: str = "") -> None:
        if not self._console.is_terminal:
            self._print(Text.assemble((f"    {label:<8}", "dim"), (text, style)), whole=True)
            return
        row = Table.grid(padding=0)
        row.add_column(width=12, style="dim")
        row.add_column(overflow="fold")
        row.add_row(Text(f"    {label}"), Text(text, style))
        self._console.print(row)

    def _print(self, text: Text, *, whole: bool) -> None:
        self._console.print(text, soft_wrap=whole, highlight=False, overflow="ignore" if whole else "fold")


def _basis(page: _Page, judgement: Report) -> None:
    page.line(_short(judgement.target), "bold")
    page.line(wording.basis(judgement), "dim")
    for remark in judgement.remarks:
        page.line(_short(remark), "dim")


def _findings(page: _Page, judgement: Report) -> None:
    for number, finding in enumerate(judgement.findings[:_IN_FULL], 1):
        page.line()
        _finding(page, finding, number, judgement)
    rest = judgement.findings[_IN_FULL:]
    if rest:
        page.line()
        page.line(f"{len(rest):,} more, which the other reports show in full:", "bold")
    for finding in rest:
        page.indented(_short(f"{finding.clause}: {finding.title}"))


def _outcome(page: _Page, judgement: Report) -> None:
    _coverage(page, judgement)
    _not_judged(page, judgement)
    page.line()
    page.line(f"{wording.verdict(judgement)} ({wording.figures(judgement)})", _STYLES[wording.outcome(judgement)])


def _finding(page: _Page, finding: Finding, number: int, judgement: Report, flag: str = "--seed") -> None:
    sample = finding.sample
    page.line(f"{number:>2}  {_short(finding.title)}", "bold red")
    page.field("clause", _short(finding.clause), "cyan")
    if finding.says:
        page.field("says", _short(finding.says))
    page.field("where", _short(finding.place))
    if finding.side != "service":
        page.field("side", f"the {_short(finding.side)} breaks it")
    if sample.curl:
        page.whole_line(f"    {wording.on_one_line(sample.curl)}")
    page.field("answer", _excerpt(sample.answer))
    if finding.also:
        page.field("also", wording.listed([*map(_short, finding.also)], _MOST_NAMES))
    page.field("", wording.circumstances(finding, judgement, flag), "dim")


def _coverage(page: _Page, judgement: Report) -> None:
    if not judgement.coverage:
        return
    page.line()
    page.line(wording.coverage_line(judgement), "bold")
    for side in wording.coverage(judgement):
        if side.missing:
            page.indented(f"not exercised ({side.name}): {wording.listed(side.missing, _MOST_NAMES)}", "dim")


def _not_judged(page: _Page, judgement: Report) -> None:
    if not judgement.not_judged:
        return
    page.line()
    page.line("not judged:", "bold yellow")
    for reason, subjects in wording.not_judged(judgement).items():
        page.indented(_short(reason))
        page.indented(wording.listed(subjects, _MOST_NAMES), "dim", by=8)


def _excerpt(text: str) -> str:
    lines = [line for line in wording.on_lines(text).split("\n") if line]
    more = f"\n... ({wording.counted(len(lines) - _MOST_LINES, 'more line')})" if len(lines) > _MOST_LINES else ""
    return wording.clipped("\n".join(lines[:_MOST_LINES]), _LONGEST) + more


def _short(text: str) -> str:
    return wording.clipped(wording.on_one_line(text), _LONGEST)
