"""How tasks fare, shown on standard error: a line each that moves on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from seedbed_schemas.refusals import printable

if TYPE_CHECKING:
    from typing import Self

    from rich.progress import TaskID


class TaskProgress:
    """Shows tasks while a ``with`` block runs."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        text = TextColumn("{task.description}", markup=False)
        self._bar = Progress(
            SpinnerColumn(), text, TimeElapsedColumn(), console=self._console, transient=True, redirect_stdout=False
        )
        self._lines: dict[int, TaskID] = {}
        self._shown: dict[int, str] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def show(self, number: int, text: str) -> None:
        """Show how the task of that number fares, if it is not shown already."""
        if text == self._shown.get(number):
            return
        self._shown[number] = text
        if not self._console.is_terminal:
            self._console.print(printable(text), soft_wrap=True)
            return
        if number not in self._lines:
            self._lines[number] = self._bar.add_task("")
        self._bar.update(self._lines[number], description=printable(text))

    def end(self, number: int) -> None:
        """Show no more of the task of that number."""
        if line := self._lines.pop(number, None):
            self._bar.remove_task(line)
