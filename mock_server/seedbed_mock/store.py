"""Where tasks are kept: in memory, the oldest finished ones making room."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seedbed_mock.tasks import Task

KEPT_TASKS = 10_000
"""Finished tasks are forgotten, oldest first, where there are more tasks than this."""


class MemoryStore:
    """Tasks in memory, in the order in which they were made."""

    def __init__(self) -> None:
        # Unlike a dict, it finds its first entry at once however many before it are gone.
        self._tasks: OrderedDict[str, Task] = OrderedDict()
        self._by_result: dict[str, Task] = {}

    def add(self, task: Task, now: int) -> None:
        """Keep a task.

        Args:
            task: A task whose name is new.
            now: The time in Unix milliseconds, which tells the finished tasks.
        """
        self._tasks[task.task_id] = task
        self._by_result[task.result_name] = task
        if len(self._tasks) > KEPT_TASKS:
            self._forget_oldest(now)

    def find(self, task_id: str) -> Task | None:
        """Return the task of that name."""
        return self._tasks.get(task_id)

    def find_result(self, name: str) -> Task | None:
        """Return the task whose result has that file name."""
        return self._by_result.get(name)

    def _forget_oldest(self, now: int) -> None:
        oldest = next(iter(self._tasks.values()))
        if oldest.completed <= now:
            del self._tasks[oldest.task_id]
            del self._by_result[oldest.result_name]
