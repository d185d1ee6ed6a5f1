"""How a run gets on: a bar that moves on a terminal, a line for each check elsewhere, nothing where none is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from seedbed_contract.reports.words import counted, on_one_line

if TYPE_CHECKING:
    from typing import Self

    from rich.console import Console


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
