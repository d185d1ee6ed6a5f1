"""The inbox that connects a callback receiver with those who wait for a callback, across threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_MAX_REMEMBERED: Final = 10_000
"""Number of task IDs that are remembered; the limit bounds the memory of a receiver that runs for months."""


class RecentIds:
    """A set of IDs that forgets the oldest when it is full.

    Args:
        size: Number of IDs to remember.
    """

    def __init__(self, size: int = _MAX_REMEMBERED) -> None:
        self._size = size
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._ids

    def add(self, task_id: str) -> bool:
        """Add an ID and return whether it is new."""
        if task_id in self._ids:
            return False
        self._ids[task_id] = None
        if len(self._ids) > self._size:
            self._ids.popitem(last=False)
        return True

    def remove(self, task_id: str) -> None:
        """Forget an ID."""
        self._ids.pop(task_id, None)


class CallbackInbox:
    """Remembers for which tasks a callback has arrived, and notifies those who wait for one."""

    def __init__(self) -> None:
        self._lock, self._arrived = threading.Lock(), RecentIds()
        self._listeners: dict[str, list[Callable[[], object]]] = {}

    def put(self, task_id: str) -> None:
        """Note that a callback for a task has arrived."""
        with self._lock:
            self._arrived.add(task_id)
            listeners = tuple(self._listeners.get(task_id, ()))
        # Outside the lock: a listener may call back into the inbox.
        for notify in listeners:
            notify()

    def wait(self, task_id: str, seconds: float) -> bool:
        """Wait for a callback for a task and return whether it arrived in time."""
        arrived = threading.Event()
        with self._subscribed(task_id, arrived.set):
            return arrived.wait(seconds)

    async def wait_async(self, task_id: str, seconds: float) -> bool:
        """Do as :meth:`wait` does, without blocking the event loop."""
        import anyio  # slow to import, and blocking programs do not need it
        from anyio.lowlevel import current_token  # as above

        arrived = anyio.Event()
        loop: Any = current_token().native_token
        # The callback arrives in the thread of the receiver, and events are not thread-safe. These functions of asyncio
        # and trio may be called from there.
        schedule = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon

        def notify() -> None:
            with suppress(RuntimeError):  # the loop may have ended in the meantime
                schedule(arrived.set)

        with self._subscribed(task_id, notify), anyio.move_on_after(seconds):
            await arrived.wait()
        return arrived.is_set()

    @contextmanager
    def _subscribed(self, task_id: str, notify: Callable[[], object]) -> Iterator[None]:
        """Call a function when a callback for a task arrives, or now if it has arrived, while the block runs."""
        with self._lock:
            # Under the lock, no callback can arrive between the check and the subscription.
            has_arrived = task_id in self._arrived
            self._listeners.setdefault(task_id, []).append(notify)
        try:
            if has_arrived:
                notify()
            yield
        finally:
            with self._lock:
                listeners = self._listeners[task_id]
                listeners.remove(notify)
                if not listeners:
                    del self._listeners[task_id]
