"""Group commit: calls from an event loop change a database in one thread, many of them in one transaction.

A caller gets its result when the transaction is committed. While the thread is busy, the next calls gather, so that the
cost of a transaction is shared by more calls the more there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import defaultdict, deque
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from seedbed_mock.clock import real_monotonic
from seedbed_mock.direct import AwaitedResult
from seedbed_mock.stores.store import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable


_Value = TypeVar("_Value")

_MOST_CALLS: Final = 256
"""Number of calls in one transaction at most."""

_LONGEST_SECONDS: Final = 0.01
"""How long a transaction takes further calls; other servers on the same file wait for it."""

_BUSY_MILLISECONDS: Final = 200
"""How long one transaction waits for that of another server, which takes some milliseconds."""

_END_SECONDS: Final = 5.0


class DatabaseUnavailableError(StoreUnavailableError, sqlite3.OperationalError):
    """The database is locked by another program, or cannot be written."""


class _UncancelledResult(AwaitedResult):
    """The result of a call that has begun, for which a task waits although it is cancelled."""

    def cancel(self, msg: Any | None = None) -> bool:
        del msg  # a part of the signature of asyncio
        return False


class _Call(NamedTuple):
    """A call on its way to the thread.

    Attributes:
        run: What it does.
        changes: Whether it needs a transaction.
        result: Gets its result, in the event loop of the caller if there is one.
        loop: This event loop.
    """

    run: Callable[[], Any]
    changes: bool
    result: asyncio.Future[Any] | Future[Any]
    loop: asyncio.AbstractEventLoop | None


class _End(NamedTuple):
    """The end of the thread, and what is called then."""

    on_ended: Callable[[], object]


class _FinishedCall(NamedTuple):
    """What came of a call: a value, or an error."""

    call: _Call
    value: Any = None
    error: BaseException | None = None


class GroupCommit:
    """A thread that runs calls on a database, those that change it in common transactions.

    A call that raises an error has changed nothing: it checks everything before its first change. After an error of the
    database, the calls of the transaction run again, each in one of its own, so that they must be repeatable.

    Args:
        database: Connection that the thread uses; it is closed at the end.
        begin: Called at the beginning of a transaction.
        finish: Called at its end, for the changes that its calls have in common.
    """

    def __init__(self, database: sqlite3.Connection, begin: Callable[[], None], finish: Callable[[], None]) -> None:
        self._database = database
        self._begin = begin
        self._finish = finish
        self._calls = SimpleQueue[list[_Call] | _End]()
        # Calls of one turn of an event loop, which go to the thread together: waking it takes as long as a call.
        self._gathered: dict[asyncio.AbstractEventLoop, list[_Call]] = {}
        self._taken = deque[_Call]()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._end: _End | None = None
        self._waits = False
        self._set_waiting(is_on=True)

    def start(self) -> None:
        """Start the thread; until then, calls gather."""
        if self._thread is None and not self._is_closed:
            self._thread = threading.Thread(target=self._work, name="seedbed database", daemon=True)
            self._thread.start()

    async def change(self, run: Callable[[], _Value]) -> _Value:
        """Run a function in a transaction and return its result when that is committed.

        A caller that is cancelled meanwhile gets the result all the same, and is cancelled at its next pause: it learns
        of every change that was made.

        Raises:
            StoreUnavailableError: The database cannot be used at the moment; nothing was changed.
        """
        return await self._result_of(run, changes=True)

    async def read(self, run: Callable[[], _Value]) -> _Value:
        """Run a function that changes nothing, after the calls before it.

        Raises:
            StoreUnavailableError: The database cannot be used at the moment.
        """
        return await self._result_of(run, changes=False)

    async def _result_of(self, run: Callable[[], _Value], *, changes: bool) -> _Value:
        if self._is_closed:
            raise DatabaseUnavailableError("The database is closed.")
        value: _Value
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # Another kind of event loop, or none: there is nothing to go on with meanwhile.
            blocking = Future[_Value]()
            self._calls.put([_Call(run, changes, blocking, None)])
            return blocking.result()
        result = _UncancelledResult(loop=loop)
        if (gathered := self._gathered.get(loop)) is None:
            gathered = self._gathered[loop] = []
            loop.call_soon(self._hand_over, loop)
        gathered.append(_Call(run, changes, result, loop))
        try:
            value = await result
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not result.done():
                raise
            value = result.result()
            task.uncancel()
            task.cancel()
        return value

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        if gathered := self._gathered.pop(loop, None):
            self._calls.put(gathered)

    def _hand_over_all(self) -> None:
        for loop in tuple(self._gathered):
            self._hand_over(loop)

    async def close(self) -> None:
        """Run the calls that have gathered, and return when the thread has ended. It can be called again."""
        if self._thread is None or self._is_closed:
            self.abandon()
            return
        self._is_closed = True
        loop = asyncio.get_running_loop()
        self._hand_over_all()
        ended = loop.create_future()
        self._calls.put(_End(lambda: loop.call_soon_threadsafe(ended.set_result, None)))
        await asyncio.shield(ended)

    def abandon(self) -> None:
        """Close the database from a thread without an event loop, or one whose loop does not use it."""
        is_first, self._is_closed = not self._is_closed, True
        self._hand_over_all()
        if self._thread is None:
            self._database.close()
        elif is_first:
            self._calls.put(_End(lambda: None))
            self._thread.join(_END_SECONDS)

    # The thread

    def _work(self) -> None:
        while call := self._next_call(waits=True):
            _tell(self._in_transaction(call) if call.changes else [_read(call)])
        # The last connection that closes writes the log back and deletes it.
        self._database.close()
        # The loop may have ended without waiting.
        with contextlib.suppress(RuntimeError):
            if self._end:
                self._end.on_ended()

    def _next_call(self, *, waits: bool) -> _Call | None:
        """Return the next call, ``None`` after the last one, and if there is none and it does not wait for one."""
        while not self._taken and self._end is None:
            try:
                taken = self._calls.get(waits)
            except Empty:
                return None
            if isinstance(taken, _End):
                self._end = taken
            else:
                self._taken.extend(taken)
        return self._taken.popleft() if self._taken else None

    def _in_transaction(self, first: _Call) -> list[_FinishedCall]:
        """Run a call and those that have gathered after it in one transaction."""
        calls, outcomes, ends = [first], list[_FinishedCall](), real_monotonic() + _LONGEST_SECONDS
        try:
            self._open()
            outcomes.append(_changed(first))
            while len(calls) < _MOST_CALLS and real_monotonic() < ends and (call := self._next_change()):
                calls.append(call)
                outcomes.append(_changed(call))
            self._commit()
        except Exception as error:
            self._roll_back()
            if len(calls) == 1:
                return [_failed(first, error)]
            # Not all are at fault: where a large task finds no room, a small one may.
            return [self._alone(each) for each in calls]
        return outcomes

    def _alone(self, call: _Call) -> _FinishedCall:
        try:
            self._open()
            outcome = _changed(call)
            self._commit()
        except Exception as error:
            self._roll_back()
            return _failed(call, error)
        return outcome

    def _next_change(self) -> _Call | None:
        """Return the next call if it belongs in the same transaction, without waiting for it."""
        call = self._next_call(waits=False)
        if call and not call.changes:
            self._taken.appendleft(call)
            return None
        return call

    def _open(self) -> None:
        # IMMEDIATE takes the write lock before the first read, so that no other process writes in between.
        try:
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            # The next ones do not wait: one after the other, they would hold up all calls together.
            self._set_waiting(is_on=False)
            raise
        self._set_waiting(is_on=True)
        self._begin()

    def _commit(self) -> None:
        self._finish()
        self._database.execute("COMMIT")

    def _roll_back(self) -> None:
        # Some errors, such as that of a full disk, have rolled the transaction back already.
        if self._database.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")

    def _set_waiting(self, *, is_on: bool) -> None:
        if self._waits is not is_on:
            self._waits = is_on
            self._database.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS if is_on else 0}")


def _changed(call: _Call) -> _FinishedCall:
    """Run a call in a transaction, which an error of the database ends, and no other error."""
    try:
        return _FinishedCall(call, call.run())
    except sqlite3.Error:
        raise
    except Exception as error:
        return _FinishedCall(call, error=error)


def _read(call: _Call) -> _FinishedCall:
    try:
        return _FinishedCall(call, call.run())
    except Exception as error:
        return _failed(call, error)


def _failed(call: _Call, error: Exception) -> _FinishedCall:
    if isinstance(error, sqlite3.OperationalError):
        unavailable = DatabaseUnavailableError(f"The database cannot be used now: {error}.")
        unavailable.__cause__ = error
        return _FinishedCall(call, error=unavailable)
    return _FinishedCall(call, error=error)


def _tell(outcomes: list[_FinishedCall]) -> None:
    """Give the callers their results, those of one event loop together."""
    by_loop = defaultdict[asyncio.AbstractEventLoop | None, list[_FinishedCall]](list)
    for outcome in outcomes:
        by_loop[outcome.call.loop].append(outcome)
    for loop, told in by_loop.items():
        if loop is None:
            _set_results(told)
            continue
        # In a loop that has ended, nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_set_results, told)


def _set_results(outcomes: list[_FinishedCall]) -> None:
    for call, value, error in outcomes:
        if error is None:
            call.result.set_result(value)
        else:
            call.result.set_exception(error)
