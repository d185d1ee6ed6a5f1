"""Tasks: how a run makes them, looks at them, and what it notes on the way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from seedbed_contract.http import parse_json
from seedbed_contract.rules.envelope import Defect, creation_defects
from seedbed_contract.rules.task_record import (
    APPEARS_WITHIN,
    change_defects,
    exercised_clauses,
    record_defects,
    time_zone_defects,
)
from seedbed_contract.rules.tracked_task import TrackedTask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from seedbed_contract.http import Exchange
    from seedbed_contract.session import Session


_LOOK_EVERY: Final = 0.1
_LOOK_AGAIN: Final = 0.4
_LOOK_OFTEN: Final = 0.1
_LOOKED_AT_OFTEN: Final = 2
_CREATION: Final = ("operation/method", "operation/path", "operation/header", "operation/scheme")


def create(
    session: Session, request: Any, name: str, *, body: bytes | None = None, path: str = ""
) -> Exchange | TrackedTask:
    """Ask for a task with a request that keeps the contract.

    Returns:
        The task, or what came instead of one: a refusal, or nothing.

    Raises:
        OutOfTimeError: The time of the run is over.
        BudgetExceededError: The budget does not allow it.
    """
    session.budget.reserve()
    exchange = session.send(session.builder.create(request if body is None else body), once=True)
    return track(session, exchange, request, name, path=path)


def track(
    session: Session, exchange: Exchange, request: Any, name: str, *, path: str = "", is_followed: bool = True
) -> Exchange | TrackedTask:
    """Return the task that an exchange made, or the exchange where it made none."""
    if exchange.response is None:
        session.budget.count()  # it may have been made
    if not session.has_created_task(exchange):
        paid = session.expected.codes("credits_insufficient") - session.expected.codes("request_invalid")
        session.budget.is_exhausted = session.budget.is_exhausted or exchange.code in paid
        return exchange
    session.report(creation_defects(exchange, session.expected), exchange)
    session.exercise(*_CREATION)
    session.budget.count()
    if not session.budget.is_free:
        session.fetch_balance()  # what is charged may be more than it should
    if not exchange.task_id:
        return exchange
    order = TrackedTask(name, request, exchange, session.builder, exchange.task_id, path, is_followed)
    _keep(session, order)
    return order


def poll(session: Session, order: TrackedTask) -> Exchange:
    """Look at a task, and judge what is shown and what has changed.

    Raises:
        OutOfTimeError: The time of the run is over.
    """
    exchange = session.send(order.builder.record(order.task_id))
    order.polled_at = time.monotonic()
    if exchange.code != session.expected.success:
        _judge_absence(session, order, exchange)
        return exchange
    session.exercise("createTask/usable", "recordInfo/same")
    record = exchange.data
    session.report(record_defects(record, order.task_id, order.request, session.expected), exchange)
    if isinstance(record, dict):
        if "faults" not in session.capabilities:  # the fake's own clock may be turned
            session.report(time_zone_defects(record, order.exchange.started), exchange)
        _keep_look(session, order, record, exchange)
    return exchange


def poll_pending(session: Session) -> None:
    """Look at the tasks that have not ended and were not looked at for a moment.

    Raises:
        OutOfTimeError: The time of the run is over.
    """
    for order in [order for order in session.tasks if order.is_followed and not order.has_ended]:
        often = order in session.tasks[:_LOOKED_AT_OFTEN]
        if time.monotonic() - order.polled_at >= (_LOOK_OFTEN if often else _LOOK_AGAIN):
            poll(session, order)


def wait_for(session: Session, orders: Sequence[TrackedTask], seconds: float) -> bool:
    """Look at tasks until all have ended, at most so long, and tell whether they have.

    Raises:
        OutOfTimeError: The time of the run is over.
    """
    limit = time.monotonic() + seconds
    while any(order.is_followed and not order.has_ended for order in orders) and time.monotonic() < limit:
        poll_pending(session)
        session.pause(_LOOK_EVERY)
    return all(order.has_ended for order in orders)


def _keep(session: Session, order: TrackedTask) -> None:
    with session.lock:
        is_known = order.task_id in session.task_ids
        session.task_ids.add(order.task_id)
        session.tasks.append(order)
    if is_known:
        session.report([Defect("createTask/unique", "two tasks have the same name")], order.exchange)
    session.exercise("createTask/unique")


def _keep_look(session: Session, order: TrackedTask, record: Mapping[str, Any], exchange: Exchange) -> None:
    if order.polls:
        session.report(change_defects(order.record, record), exchange)
        session.exercise("life/forward", *(("life/final",) if order.has_ended else ()))
    order.polls.append((record, exchange))
    if order.has_ended and not order.ended_at:
        order.ended_at = time.time()
    session.log.exercise_shape("record", record)
    session.exercise(*exercised_clauses(record))
    results = parse_json(str(record.get("resultJson", "")))
    if isinstance(results, dict):
        session.log.exercise_shape("results", results)


def _judge_absence(session: Session, order: TrackedTask, exchange: Exchange) -> None:
    """A task may be unknown for a moment after it was made, and never after it was seen."""
    age = time.time() - order.exchange.ended
    if exchange.response is None or not (order.polls or age > APPEARS_WITHIN):
        return
    order.is_followed = False
    never = Defect("createTask/usable", "a task cannot be looked at, though its name was given back")
    gone = Defect("recordInfo/same", "a task that was shown before cannot be looked at any more")
    session.report([gone if order.polls else never], exchange)
