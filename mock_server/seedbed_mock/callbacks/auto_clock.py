"""A clock that skips the time in which everybody only waits, so that a test of tasks that take minutes takes none.

Time passes as on a real clock. When a client was told "not yet", or awaits a callback, and no request is in progress,
the clock jumps to the next event: the next state of a task that was asked for, or the next callback that is due.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.types import Scope

    from seedbed_mock.callbacks.dispatcher import CallbackDispatcher
    from seedbed_mock.state import Service


_QUIET_SECONDS: Final = 0.005
"""In real seconds: how long no request may be in progress. Another client may be about to send one."""

_MOST_AWAITED: Final = 1000
"""Tasks that clients wait for; beyond it, the one that was asked for longest ago is forgotten."""

_LEAST_STEP: Final = 0.001


class AutoAdvance:
    """Advances the clock of one service when all its clients wait.

    Args:
        service: The service.
        dispatcher: Its dispatcher, which delivers the callbacks that become due.
    """

    def __init__(self, service: Service, dispatcher: CallbackDispatcher) -> None:
        self._service = service
        self._dispatcher = dispatcher
        self._in_progress = self._jumps = 0
        self._awaited: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._jump: asyncio.Task[None] | None = None

    async def follow(self, scope: Scope, response: Awaitable[None]) -> None:
        """Wait for the response to a request, and see whether all clients wait then.

        Args:
            scope: The request.
            response: Sends the response.
        """
        self._in_progress += 1
        begun = self._jumps
        try:
            await response
            self._note_awaited(scope)
        finally:
            self._in_progress -= 1
            # A response from before a jump is out of date: its client has to ask again before it waits.
            self._jump_when_quiet(is_current=begun == self._jumps and not self._is_jumping())

    def _note_awaited(self, scope: Scope) -> None:
        shared = self._service.shared
        if scope.get("path") != shared.record_info.path:
            return
        query = parse_qs(scope["query_string"].decode("latin-1"))
        for task_id in query.get(shared.record_info.query, ()):
            self._awaited.pop(task_id, None)
            self._awaited[task_id] = None
        while len(self._awaited) > _MOST_AWAITED:
            del self._awaited[next(iter(self._awaited))]

    def _is_jumping(self) -> bool:
        return self._jump is not None and not self._jump.done()

    def _jump_when_quiet(self, *, is_current: bool = True) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if not self._in_progress and is_current:
            self._timer = asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._start_jump)

    def _start_jump(self) -> None:
        self._timer = None
        if not self._in_progress and not self._is_jumping():
            self._jump = asyncio.get_running_loop().create_task(self._advance(), name="seedbed auto clock")

    async def _advance(self) -> None:
        try:
            event = await self._next_event()
            # A request that has begun meanwhile begins this again at its end.
            if event is None or self._in_progress:
                return
            self._jumps += 1
            # Rounded up, since the clock and the store round differently.
            await self._dispatcher.advance(max(event / 1000 - self._service.clock.now(), 0) + _LEAST_STEP)
            # A receiver that failed waits for the retry. A client that polls is to see every state, so that only its
            # next query moves the clock on, however late it comes.
            if not self._awaited and await self._service.store.next_due() is not None:
                self._jump_when_quiet()
        except Exception as error:
            self._service.report(error, "the auto clock")

    async def _next_event(self) -> int | None:
        """Return when the next event is that a client waits for, in Unix milliseconds; ``None`` if there is none."""
        now, due = self._service.now(), await self._service.store.next_due()
        events = [] if due is None else [due]
        for task_id in tuple(self._awaited):
            task = await self._service.store.find(task_id)
            if task is None or (task.has_ended(now) and task.visible <= now):
                self._awaited.pop(task_id, None)
                continue
            moments = (task.visible, *task.timeline)
            events += [next(moment for moment in sorted(moments) if moment > now)] if max(moments) > now else []
        return min(events, default=None)

    async def close(self) -> None:
        """Stop."""
        if self._timer:
            self._timer.cancel()
        if self._jump and not self._jump.done():
            self._jump.cancel()
            await asyncio.wait([self._jump])
