"""Waiting for a task to end: looking at it now and then, or hearing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import msgspec

from seedbed_client.errors import GenerationFailed, NotFound, SeedreamError, ValidationError, WaitTimeout
from seedbed_client.flows import create_task, look
from seedbed_client.models import Task
from seedbed_client.retrying import passes
from seedbed_client.steps import Listen, Pause

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_client.flows import Context
    from seedbed_client.mailbox import Mailbox
    from seedbed_client.requests import Submission
    from seedbed_client.steps import Flow

_SHORTEST = 0.05
"""Seconds that the last look of a wait is given at least."""


class Wait(msgspec.Struct):
    """A wait that is under way.

    Attributes:
        context: What the client knows.
        task: The task as it was seen last.
        timeout: Seconds after which it is given up.
        on_update: Called with the task after each look.
        mailbox: Where callbacks come, if one waits for those.
        began: When it began, by the client's clock.
        trouble: Why the last look failed.
        looked: When one first looked, by the client's clock.
        least: For how long whoever answered asks to be left alone, in seconds.
    """

    context: Context
    task: Task
    timeout: float
    on_update: Callable[[Task], object] | None
    mailbox: Mailbox | None
    began: float
    trouble: Exception | None = None
    looked: float | None = None
    least: float = 0

    def run(self) -> Flow[Task]:
        """Return the task once it has succeeded."""
        while not (self.task.succeeded and self.looked is not None):
            yield from self._next_look()
            if self.task.failed:
                raise GenerationFailed.of(self.task)
        return self.task

    def next_change(self) -> Flow[Task | None]:
        """Return the task when its state is another, and nothing once it has ended."""
        if self.looked is not None and (self.task.succeeded or self.task.failed):
            return None
        before, is_first = self.task.state, self.looked is None
        while True:
            yield from self._next_look()
            if self.trouble is None and (is_first or self.task.state is not before):
                return self.task

    def _next_look(self) -> Flow[None]:
        if self.looked is None:
            self.looked = self.context.clock()
        else:
            yield from self._pause(self.least)
        self.least = yield from self._look()

    def _look(self) -> Flow[float]:
        """Look once, and return for how long whoever answered asks to be left alone, in seconds."""
        left = max(self.timeout - self._elapsed(), _SHORTEST)
        try:
            self.task = yield from look(self.context, self.task.task_id, min(left, self.context.timeout))
        except (httpx2.RequestError, SeedreamError) as error:
            if not self._is_outlasted(error):
                error.add_note(f"The task is {self.task.task_id}")
                raise
            self.trouble = error
            return getattr(error, "retry_after", None) or 0
        self.trouble = None
        if self.on_update:
            self.on_update(self.task)
        return 0

    def _is_outlasted(self, error: Exception) -> bool:
        """Tell whether to look again all the same: the task is paid for, so waiting on is better than losing it."""
        # One dialect says so of an unknown task with the code of a request that breaks a rule.
        is_unknown = isinstance(error, NotFound | ValidationError)
        if is_unknown and self.looked is not None:
            return self.context.clock() - self.looked < self.context.rhythm.grace
        return passes(error)

    def _pause(self, least: float) -> Flow[None]:
        elapsed = self._elapsed()
        if elapsed >= self.timeout:
            raise WaitTimeout(self.task, self.timeout) from self.trouble
        left, rhythm = self.timeout - elapsed, self.context.rhythm
        if self.mailbox is None:
            yield Pause(min(max(rhythm.pause(elapsed), least), left))
            return
        seconds = min(max(rhythm.patient_pause(), least), left)
        if (yield Listen(self.mailbox, self.task.task_id, seconds)):
            # A callback may be ahead of the record, or lie: the record decides, and is looked at as without one.
            self.mailbox = None

    def _elapsed(self) -> float:
        return self.context.clock() - self.began


def begin(
    context: Context,
    task: Task | str,
    *,
    timeout: float | None,
    on_update: Callable[[Task], object] | None = None,
    mailbox: Mailbox | None = None,
) -> Wait:
    """Return the wait for a task that begins now."""
    known = task if isinstance(task, Task) else Task(task)
    return Wait(context, known, context.rhythm.patience(timeout), on_update, mailbox, context.clock())


def generate(
    context: Context, submission: Submission, *, timeout: float | None, on_update: Callable[[Task], object] | None
) -> Flow[Task]:
    """Ask for a task and return it once it has succeeded, all within one time."""
    patience, began = context.rhythm.patience(timeout), context.clock()
    task_id = yield from create_task(context, submission, deadline=began + patience)
    return (yield from Wait(context, Task(task_id), patience, on_update, None, began).run())
