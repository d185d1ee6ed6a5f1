"""Where callbacks wait: the inbox for those who wait for one, and the queue for callbacks that are handled later."""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from anyio.abc import TaskGroup

T = TypeVar("T")

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
        from anyio.lowlevel import current_token  # slow to import, and blocking programs do not need it

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


class CallbackQueue(Generic[T]):
    """Acknowledged callbacks that wait for their handler.

    Args:
        size: Largest number of callbacks that wait.
        workers: Number of callbacks that are handled at the same time.
        drain_seconds: Seconds for which closing waits for the rest.
        handle: Called with each callback.
        report: Called with each callback that was not handled, and the reason.
    """

    def __init__(
        self,
        size: int,
        workers: int,
        drain_seconds: float,
        handle: Callable[[T], Awaitable[None]],
        report: Callable[[T, BaseException], Awaitable[None]],
    ) -> None:
        self._size, self._workers, self._drain_seconds = size, workers, drain_seconds
        self._handle, self._report = handle, report
        self._group: TaskGroup | None = None
        self._unhandled: list[T] = []

    async def open(self) -> None:
        """Start the workers."""
        if self._group:
            raise RuntimeError("the receiver is in use already; enter it once")
        self._entrance, self._exit = anyio.create_memory_object_stream[T](self._size)
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        for _ in range(self._workers):
            self._group.start_soon(self._work)

    def put(self, callback: T) -> bool:
        """Add a callback and return whether there was room."""
        if self._group is None:
            raise RuntimeError("a receiver with a queue works inside 'async with receiver:' only")
        try:
            self._entrance.send_nowait(callback)
        except (anyio.WouldBlock, anyio.ClosedResourceError):
            return False
        return True

    async def close(self) -> None:
        """Handle what is in the queue, for a limited time, and report the rest."""
        group = self._group
        if group is None:
            return
        self._entrance.close()
        # Shielded: a server that is cancelled drains the queue as well, and the deadline bounds it.
        group.cancel_scope.shield = True
        group.cancel_scope.deadline = anyio.current_time() + self._drain_seconds
        await group.__aexit__(None, None, None)
        with self._exit:
            while self._exit.statistics().current_buffer_used:
                self._unhandled.append(self._exit.receive_nowait())
        rest, self._unhandled, self._group = self._unhandled, [], None
        for callback in rest:
            await self._report(callback, TimeoutError(f"not handled within {self._drain_seconds:g} s after the end"))

    async def _work(self) -> None:
        async for callback in self._exit:
            try:
                await self._handle(callback)
            except Exception as error:  # a handler may raise anything, and the others are still to be handled
                await self._report(callback, error)
            except BaseException:
                self._unhandled.append(callback)
                raise
