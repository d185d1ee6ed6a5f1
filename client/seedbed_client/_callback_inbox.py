"""Where callbacks come in, and those who wait for them hear of it, whichever thread they are in."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


_KEPT = 10_000
"""Callbacks that are remembered."""


class Recent:
    """The names that were added last.

    Args:
        kept: How many are remembered.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._names: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> bool:
        """Add a name, and tell whether it is new; the oldest is forgotten where there are too many."""
        if name in self._names:
            return False
        self._names[name] = None
        if len(self._names) > self._kept:
            self._names.popitem(last=False)
        return True

    def remove(self, name: str) -> None:
        """Forget a name."""
        self._names.pop(name, None)


class CallbackInbox:
    """Remembers of which tasks a callback came."""

    def __init__(self) -> None:
        self._lock, self._came = threading.Lock(), Recent()
        self._waiting: dict[str, list[Callable[[], object]]] = {}

    def put(self, task_id: str) -> None:
        """Note that a callback of a task came."""
        with self._lock:
            self._came.add(task_id)
            told = tuple(self._waiting.get(task_id, ()))
        for tell in told:
            tell()

    def watch(self, task_id: str, tell: Callable[[], object]) -> Callable[[], None]:
        """Have a function called when a callback of a task comes, or at once where it came already.

        Args:
            task_id: Name of the task.
            tell: Called in whichever thread the callback comes.

        Returns:
            What ends that.
        """
        with self._lock:
            is_there = task_id in self._came
            self._waiting.setdefault(task_id, []).append(tell)
        if is_there:
            tell()
        return lambda: self._leave(task_id, tell)

    def _leave(self, task_id: str, tell: Callable[[], object]) -> None:
        with self._lock:
            waiting = self._waiting[task_id]
            waiting.remove(tell)
            if not waiting:
                del self._waiting[task_id]
