"""Create tasks, poll them, and check each record on the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from seedbed_contract.http import parse_json
from seedbed_contract.rules import task_record
from seedbed_contract.rules.envelope import Defect, creation_defects
from seedbed_contract.rules.practices import VISIBLE
from seedbed_contract.rules.task_record import TrackedTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedbed_contract.http import Exchange, RequestBuilder
    from seedbed_contract.session import Session


_WAIT_STEP: Final = 0.1
_POLL_INTERVAL: Final = 0.4
_SHORT_POLL_INTERVAL: Final = 0.1
_WAITING_SHARE: Final = 0.6
"""Share of the time that is left of the time limit for which the tasks may keep a run waiting."""
_CLOSELY_POLLED_TASKS: Final = 2
"""Number of tasks that are polled at the short interval, so that their short states are seen, too."""
_CREATION_CLAUSES: Final = ("operation/method", "operation/path", "operation/header", "operation/scheme")


def create(
    session: Session,
    request: Any,
    name: str,
    *,
    body: bytes | None = None,
    path: str = "",
    builder: RequestBuilder | None = None,
) -> Exchange | TrackedTask:
    """Create a task with a valid request.

    Args:
        session: The session.
        request: Body of the request as a JSON value.
        name: Name of the case.
        body: Bytes to send instead of the serialized ``request``.
        path: Path that the callback is expected at.
        builder: Builds the request, by default as the session does.

    Returns:
        The task; if none was created, the exchange.

    Raises:
        OutOfTimeError: The time limit of the run passed.
        BudgetExceededError: The budget does not allow it.
    """
    session.budget.reserve()
    exchange = session.send((builder or session.builder).create(request if body is None else body), once=True)
    return track(session, exchange, request, name, path=path)


def track(
    session: Session,
    exchange: Exchange,
    request: Any,
    name: str,
    *,
    path: str = "",
    is_followed: bool = True,
    is_odd: bool = False,
) -> Exchange | TrackedTask:
    """Return the task that an exchange created, or the exchange if it created none."""
    if exchange.response is None:
        session.budget.count()  # the target may have created it
    if not session.has_created_task(exchange):
        unpaid = session.expected.codes("credits_insufficient") - session.expected.codes("request_invalid")
        session.budget.is_exhausted = session.budget.is_exhausted or exchange.code in unpaid
        return exchange
    session.report(creation_defects(exchange, session.expected), exchange)
    session.exercise(*_CREATION_CLAUSES)
    session.budget.count()
    if not session.budget.is_free:
        session.fetch_balance()  # the target may charge more than the price
    if not exchange.task_id:
        return exchange
    task = TrackedTask(name, request, exchange, session.builder, exchange.task_id, path, is_followed, is_odd=is_odd)
    with session.lock:
        is_known = task.task_id in session.task_ids
        session.task_ids.add(task.task_id)
        session.tasks.append(task)
    if is_known:
        session.report([Defect("createTask/unique", "two tasks have the same ID")], exchange)
    session.exercise("createTask/unique")
    return task


def poll(session: Session, task: TrackedTask) -> Exchange:
    """Fetch the record of a task, and check it alone and against the record before it.

    Raises:
        OutOfTimeError: The time limit of the run passed.
    """
    exchange = session.send(task.builder.record(task.task_id))
    task.polled_at = time.monotonic()
    if exchange.code != session.expected.success:
        _check_absence(session, task, exchange)
        return exchange
    session.exercise("createTask/usable", "recordInfo/same", VISIBLE)
    record = exchange.data
    session.report(task_record.record_defects(record, task.task_id, task.request, session.expected), exchange)
    if not isinstance(record, dict):
        return exchange
    if "faults" not in session.capabilities:  # a test may move the clock of the mock server
        session.report(task_record.time_zone_defects(record, task.exchange.started), exchange)
    session.report(task_record.dialect_defects(record, session.expected), exchange)
    if task.polls:
        session.report(task_record.change_defects(task.record, record), exchange)
        session.exercise("life/forward", *(("life/final",) if task.has_ended else ()))
    task.polls.append((record, exchange))
    if task.has_ended and not task.ended_at:
        task.ended_at = time.time()
    session.log.exercise_shape("record", record)
    session.exercise(*task_record.exercised_clauses(record))
    results = parse_json(str(record.get("resultJson", "")))
    if isinstance(results, dict):
        session.log.exercise_shape("results", results)
    return exchange


def poll_pending(session: Session) -> None:
    """Poll the tasks that have not ended and whose poll interval has passed.

    Raises:
        OutOfTimeError: The time limit of the run passed.
    """
    for task in [task for task in session.tasks if task.is_followed and not task.has_ended]:
        is_closely_polled = task in session.tasks[:_CLOSELY_POLLED_TASKS]
        interval = _SHORT_POLL_INTERVAL if is_closely_polled else _POLL_INTERVAL
        if time.monotonic() - task.polled_at >= interval:
            judged = session.log.judged
            poll(session, task)
            session.log.judged = judged  # it would be polled during any check, so this check did not judge it


def wait_for(session: Session, tasks: Sequence[TrackedTask], seconds: float) -> bool:
    """Poll tasks until all have ended, and return whether they have ended in time.

    Raises:
        OutOfTimeError: The time limit of the run passed.
    """
    limit = time.monotonic() + seconds
    while any(task.is_followed and not task.has_ended for task in tasks) and time.monotonic() < limit:
        poll_pending(session)
        session.pause(_WAIT_STEP)
    return all(task.has_ended for task in tasks)


def await_end(session: Session) -> None:
    """Wait once in a run for the tasks that are polled until they end, for a share of the time that is left.

    If none of them ends, the run cannot say that the target conforms.

    Raises:
        OutOfTimeError: The time limit of the run passed.
    """
    if session.has_awaited_tasks:
        return
    session.has_awaited_tasks = True
    followed = [task for task in session.tasks if task.is_followed]
    wait_for(session, followed, session.transport.seconds_left * _WAITING_SHARE)
    if followed and not any(task.has_ended for task in followed):
        session.undecided = "no task ended within the time; allow more with --time-limit"


def _check_absence(session: Session, task: TrackedTask, exchange: Exchange) -> None:
    """Report a missing task, unless it is so new that the service may not know it yet."""
    age = time.time() - task.exchange.ended
    if not task.polls and exchange.code in session.expected.codes("task_unknown"):
        session.report([Defect(VISIBLE, "a new task is unknown for a moment")], exchange)
    if exchange.response is None or not (task.polls or age > task_record.APPEARS_WITHIN):
        return
    task.is_followed = False
    never = Defect("createTask/usable", "a task cannot be fetched by the ID that createTask returned")
    gone = Defect("recordInfo/same", "a task can no longer be fetched")
    session.report([gone if task.polls else never], exchange)
