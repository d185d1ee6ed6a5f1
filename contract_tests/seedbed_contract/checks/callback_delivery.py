"""Callbacks: that they come, once, when the task has ended, and tell what its record tells."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from seedbed_contract.callback_receiver import OK
from seedbed_contract.rules.callback_request import callback_defects, exercised_callback_clauses
from seedbed_contract.rules.envelope import Defect

if TYPE_CHECKING:
    from seedbed_contract.rules.tracked_task import TrackedTask
    from seedbed_contract.session import Session


_FIRST_WITHIN: Final = 10.0
_SILENT_FOR: Final = 5.0
_RETRY_WITHIN: Final = 30.0
_TICK: Final = 0.2


def are_delivered(session: Session) -> None:
    """Wait for the callbacks of the tasks that asked for one, and judge each."""
    receiver, asked = session.callback_addresses.receiver, [order for order in session.tasks if order.callback_path]
    if receiver is None:
        session.mark_unchecked("the target cannot reach this machine: give --callback-host where it can")
        return
    ended = [order for order in asked if order.has_ended]
    if not ended:
        session.mark_unchecked("no task that asked for a callback was seen to end")
        return
    _wait_for_first(session, ended)
    if not receiver.received:
        _judge_silence(session, ended)
        return
    _wait_for_retry(session, ended)
    for order in ended:
        _judge_order(session, order)


def come_where_asked_for(session: Session) -> None:
    """Look at what came to the receiver beside what was asked for."""
    receiver = session.callback_addresses.receiver
    if receiver is None or not receiver.received:
        session.mark_unchecked("no callback came at all")
        return
    session.exercise("callback/asked")
    for received in receiver.received:
        path = received.target.partition("?")[0]
        if path in session.callback_addresses.refused:
            title = "there is a callback for a call that was refused"
            session.report_received([Defect("callback/asked", title)], received)
        elif path not in session.callback_addresses.assigned:
            title = "a callback comes to another path than the one that was given"
            session.report_received([Defect("callback/form", title)], received)
    for order in (order for order in session.tasks if order.callback_path):
        _judge_repeats(session, order)


def _wait_for_first(session: Session, ended: list[TrackedTask]) -> None:
    last = max(order.ended_at for order in ended)
    while not all(came := [session.callback_addresses.received_at(order.callback_path) for order in ended]):
        if time.time() > last + (_FIRST_WITHIN if any(came) else _SILENT_FOR):
            return
        session.pause(_TICK)


def _wait_for_retry(session: Session, ended: list[TrackedTask]) -> None:
    """Wait until what was answered with an error was sent again; nobody says how soon that is."""
    for order in (order for order in ended if order.callback_path in session.callback_addresses.failing):
        came = session.callback_addresses.received_at(order.callback_path)
        while len(came) == 1 and time.time() < came[0].time + _RETRY_WITHIN:
            session.pause(_TICK)
            came = session.callback_addresses.received_at(order.callback_path)


def _judge_silence(session: Session, ended: list[TrackedTask]) -> None:
    if "callbacks" in session.target.required:
        for order in ended:
            session.report(
                [Defect("callback/sent", "a task that has ended is not called back")], order.exchange, order.name
            )
        return
    session.mark_unchecked(
        "no callback came from the target at all: to call that a fault, give --require callbacks", "callbacks"
    )


def _judge_order(session: Session, order: TrackedTask) -> None:
    came = session.callback_addresses.received_at(order.callback_path)
    session.exercise("callback/sent")
    if not came:
        title = f"a task that ended as {order.state} is not called back"
        session.report([Defect("callback/sent", title)], order.exchange, order.name)
        return
    for received in came:
        flaws = callback_defects(received, order, session.expected, session.target.signing_key)
        session.report_received(flaws, received)
        session.exercise(*exercised_callback_clauses(session.target.signing_key))
    if order.callback_path in session.callback_addresses.failing:
        session.exercise("callback/retried")
        if len(came) == 1:
            title = "a callback that was answered with an error is not sent again"
            session.report_received([Defect("callback/retried", title)], came[0])


def _judge_repeats(session: Session, order: TrackedTask) -> None:
    taken = [
        received for received in session.callback_addresses.received_at(order.callback_path) if received.status == OK
    ]
    session.exercise(*(("callback/once",) if taken else ()))
    if len(taken) > 1:
        session.report_received([Defect("callback/once", "a callback that was taken is sent again")], taken[1])
