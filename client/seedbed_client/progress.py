"""How a task fares, shown on standard error: a line that moves on a terminal, a line for each change elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from typing import Self

    from seedbed_client.models import Task


class TaskProgress:
    """Shows a task while a ``with`` block runs."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        text = TextColumn("{task.description}", markup=False)
        self._bar = Progress(
            SpinnerColumn(), text, TimeElapsedColumn(), console=self._console, transient=True, redirect_stdout=False
        )
        self._line = self._bar.add_task("asking for a task")
        self._shown = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def update(self, task: Task) -> None:
        """Show the state of a task."""
        self.say(f"{task.task_id}: {task.state}")

    def say(self, text: str) -> None:
        """Show a text, if it is not shown already."""
        if text == self._shown:
            return
        self._shown = text
        self._bar.update(self._line, description=text)
        if not self._console.is_terminal:
            self._console.print(text, soft_wrap=True)
