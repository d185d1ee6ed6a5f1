"""Checks of tasks and their records: unknown tasks, concurrent requests, random sequences of calls, finished tasks."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from seedbed_contract import tasks
from seedbed_contract.cases import accepted
from seedbed_contract.checks.request_validation import return_batch, take_batches
from seedbed_contract.detection import UNKNOWN_TASK_ID
from seedbed_contract.http import OutOfTimeError
from seedbed_contract.limits import BudgetExceededError
from seedbed_contract.rules.task_record import TrackedTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_contract.checks.request_validation import RequestBatch
    from seedbed_contract.session import Session

    Step = Callable[..., None]

# A careless server may look these up as a path or as SQL, or cut a long one to the length of a column.
_UNKNOWN_TASK_IDS: Final = (UNKNOWN_TASK_ID, "0", "../recordInfo", "' OR '1'='1", "任务", "a" * 500)
_CONCURRENT_TASKS: Final = 3
_FIRST_LOOK_SECONDS: Final = 0.4
"""How long the first tasks are watched closely, because those of a fast service pass through their states meanwhile."""
_TASKS_FOR_OTHERS: Final = 4
"""Tasks that a small balance must still cover after these checks, so that others have some to judge."""

_SEQUENCES: Final = 4
_STEPS: Final = 12
_TASKS_PER_RUN: Final = 3
_RECENT_TASKS: Final = 4
_PAUSE_SECONDS: Final = 0.05
_LARGEST_INDEX: Final = 1000

_POLLS_AFTER_THE_END: Final = 2


def check_unknown_tasks(session: Session) -> None:
    """Fetch tasks that do not exist, and send queries without a task ID."""
    allowed = session.expected.codes("task_unknown", "task_id_missing")
    for task_id in _UNKNOWN_TASK_IDS:
        exchange = session.send(session.builder.record(task_id))
        session.check_refusal(exchange, allowed, "recordInfo/unknown", "a request for an unknown task", task_id)
    for what, missing in (("a query without a taskId", None), ("a query with an empty taskId", "")):
        exchange = session.send(session.builder.record(missing))
        session.check_refusal(exchange, allowed, "recordInfo/missing", what)


def check_concurrent_requests(session: Session) -> None:
    """Request tasks concurrently, two with the same request: each needs its own ID and its own record."""
    if session.budget.remaining_tasks < _CONCURRENT_TASKS + _TASKS_FOR_OTHERS or not session.budget.is_free:
        session.mark_unchecked("the balance does not cover several concurrent tasks")
        return
    created = _create_concurrently(session, _CONCURRENT_TASKS, repeat_first=True)
    for task in created:
        tasks.poll(session, task)
    tasks.wait_for(session, created, _FIRST_LOOK_SECONDS)


def _create_concurrently(session: Session, count: int, *, repeat_first: bool = False) -> list[TrackedTask]:
    """Create tasks concurrently with requests that the run has not sent yet, and return those that were accepted.

    Args:
        session: The session of the run.
        count: Number of tasks.
        repeat_first: Whether the second request repeats the first one.
    """
    orders: list[tuple[RequestBatch | None, Any]] = [*take_batches(session, count - repeat_first)]
    smallest = accepted(session.builder.contract)[0].request
    orders += [(None, smallest)] * (count - repeat_first - len(orders))
    if repeat_first:
        orders.insert(0, (None, orders[0][1]))
    for _ in orders:
        session.budget.reserve()
    exchanges = session.send_all([session.builder.create(request) for _, request in orders], once=True)
    created = []
    for (batch, request), exchange in zip(orders, exchanges, strict=True):
        outcome = tasks.track(session, exchange, request, batch.name if batch else "one of several at once")
        if isinstance(outcome, TrackedTask):
            created.append(outcome)
            session.exercise(*(batch.clauses if batch else ()))
        elif batch:
            return_batch(session, batch)
    return created


def check_random_sequences(session: Session) -> None:
    """Make random sequences of calls.

    The calls themselves report defects, so a sequence never fails and Hypothesis has nothing to repeat or shrink.
    """
    room = [min(_TASKS_PER_RUN, max(session.budget.remaining_tasks - _TASKS_FOR_OTHERS, 0))]
    ended: list[Exception] = []
    # Hypothesis creates the machine without arguments, so the sequences share class attributes.
    machine = type("Calls", (_Calls,), {"session": session, "room": room, "ended": ended})
    steps = settings(
        max_examples=_SEQUENCES,
        stateful_step_count=_STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
    )
    seeded(session.seed)(machine)
    run_state_machine_as_test(machine, settings=steps)
    if ended:
        raise ended[0]


def _until_ended(step: Step) -> Step:
    """Skip a step once the time or the budget of the run is used up; Hypothesis would take the error for a failure."""

    @functools.wraps(step)
    def skip_or_step(self: _Calls, **drawn: Any) -> None:
        try:
            if not self.ended:
                step(self, **drawn)
        except (OutOfTimeError, BudgetExceededError) as error:
            self.ended.append(error)

    return skip_or_step


class _Calls(RuleBasedStateMachine):
    """Random sequences of calls that create tasks and fetch records.

    Which calls are possible depends on the target, so the steps have no preconditions: an impossible one does nothing.

    Attributes:
        session: The session of the run.
        room: How many more tasks the sequences may create, in a list of one.
        ended: The errors that ended the sequences early, if any.
    """

    session: ClassVar[Session]
    room: ClassVar[list[int]]
    ended: ClassVar[list[Exception]]

    @rule()
    @_until_ended
    def create(self) -> None:
        if self._reserve(1):
            _create_concurrently(self.session, 1)

    @rule(count=st.integers(2, 3))
    @_until_ended
    def create_concurrently(self, count: int) -> None:
        # A budget reserves one task at a time, so several at once could exceed it.
        if self.session.budget.is_free and self._reserve(count):
            _create_concurrently(self.session, count)

    @rule(index=st.integers(0, _LARGEST_INDEX))
    @_until_ended
    def poll(self, index: int) -> None:
        if known := [task for task in self.session.tasks if not task.is_odd]:
            tasks.poll(self.session, known[index % len(known)])

    @rule()
    @_until_ended
    def poll_concurrently(self) -> None:
        recent = self.session.tasks[-_RECENT_TASKS:]
        self.session.send_all([task.builder.record(task.task_id) for task in recent])

    @rule()
    @_until_ended
    def poll_unknown_task(self) -> None:
        self.session.send(self.session.builder.record(UNKNOWN_TASK_ID))

    @rule()
    @_until_ended
    def read_balance(self) -> None:
        self.session.fetch_balance()

    @rule()
    @_until_ended
    def wait(self) -> None:
        self.session.pause(_PAUSE_SECONDS)

    def _reserve(self, count: int) -> bool:
        """Return whether the sequences may create this many more tasks, and count them if so."""
        if min(self.room[0], self.session.budget.remaining_tasks) < count:
            return False
        self.room[0] -= count
        return True


def check_finished_tasks(session: Session) -> None:
    """Poll each finished task again: it must not change."""
    followed = [task for task in session.tasks if task.is_followed]
    if not followed:
        session.mark_unchecked("there is no task: the balance did not cover one, or the target accepted none")
        return
    if not all(task.has_ended for task in followed):
        session.mark_unchecked("some tasks did not finish in time; allow more with --time-limit")
    for task in (task for task in followed if task.has_ended):
        for _ in range(_POLLS_AFTER_THE_END):
            tasks.poll(session, task)
    for state in sorted({"success", "fail"} - {task.state for task in followed}):
        session.mark_unchecked(f"no task ended with the state {state}", f"record/state/enum/{state}")
    if any(task.is_meant_to_fail and task.state == "success" for task in followed):
        session.mark_unchecked("the task with the prompt of --fail-prompt succeeded", "failure")


def check_records_again(session: Session) -> None:
    """Poll the finished tasks once more at the end of the run."""
    ended = [task for task in session.tasks if task.is_followed and task.has_ended]
    for task in ended:
        tasks.poll(session, task)
    if not ended:
        session.mark_unchecked("no task finished")
