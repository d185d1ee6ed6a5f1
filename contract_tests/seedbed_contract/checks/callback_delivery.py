"""Checks of callbacks: each arrives once, after the task has ended, and agrees with the task record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from seedbed_schemas import job_api

from seedbed_contract.callback_receiver import NO_CONTENT, OK
from seedbed_contract.http import OutOfTimeError, parse_json
from seedbed_contract.rules.callback_request import callback_defects, exercised_callback_clauses
from seedbed_contract.rules.envelope import Defect, has_secret
from seedbed_contract.rules.practices import ANY_SUCCESS, REDIRECTS

if TYPE_CHECKING:
    from seedbed_contract.callback_receiver import Received
    from seedbed_contract.rules.task_record import TrackedTask
    from seedbed_contract.session import Session


# A target that sends no callbacks should not cost much of the time of a run, so the first wait is short.
_SECONDS_FOR_THE_FIRST: Final = 5.0
_SECONDS_FOR_THE_REST: Final = 10.0
_SECONDS_FOR_A_RETRY: Final = 30.0
_POLL_SECONDS: Final = 0.2


def check_delivery(session: Session) -> None:
    """Wait for the callbacks of the finished tasks and check each."""
    receiver = session.callback_addresses.receiver
    if job_api().fields.callback not in session.builder.contract.part("request").get("properties", {}):
        session.mark_unchecked("the contract has no field for a callback URL")
        return
    if receiver is None:
        _mark_unreachable(session)
        return
    ended = [task for task in session.tasks if task.callback_path and task.has_ended]
    if not ended:
        session.mark_unchecked("no task that requested a callback finished")
        return
    _wait_for_callbacks(session, ended)
    if receiver.received or session.target.is_local or "callbacks" in session.target.required:
        for task in ended:
            check_callbacks(session, task)
    else:
        # A service behind a firewall sends callbacks that never arrive; that is not a defect.
        reason = "the target sent no callback; pass --require callbacks if it has to send them"
        session.mark_unchecked(reason, "callbacks")
    if not receiver.received and session.target.is_local:
        session.log.add_remark(
            "No callback arrived. If the target has none, pass --without callbacks; if it cannot reach 127.0.0.1 of "
            "this machine, such as from a container, pass an address that it can with --callback-host."
        )


def _mark_unreachable(session: Session) -> None:
    if "callbacks" in session.target.absent:
        session.mark_unsupported("callbacks")
        return
    refusal = next((entry.reason for entry in session.log.not_checked if entry.subject == "callbacks"), "")
    unreachable = "the target cannot reach this machine; pass an address that it can with --callback-host"
    session.mark_unchecked(refusal or unreachable)


def _wait_for_callbacks(session: Session, ended: list[TrackedTask]) -> None:
    """Wait for the callbacks of finished tasks; if the time is over before, check those that have arrived.

    Raises:
        OutOfTimeError: The time limit of the run passed.
    """
    try:
        _wait_for_first_and_second(session, ended)
    except OutOfTimeError:
        # What is missing may still be on its way, so it is not reported.
        for task in ended:
            _check_arrived(session, task)
        raise


def _wait_for_first_and_second(session: Session, ended: list[TrackedTask]) -> None:
    """Wait for the first callback of every task, then for a second one where the receiver responded with an error."""
    last = max((task.ended_at for task in ended), default=0.0)
    while not all(arrived := [session.callback_addresses.received_at(task.callback_path) for task in ended]):
        if time.time() > last + (_SECONDS_FOR_THE_REST if any(arrived) else _SECONDS_FOR_THE_FIRST):
            break
        session.pause(_POLL_SECONDS)
    # No page says how soon a service retries.
    for task in (task for task in ended if task.callback_path in session.callback_addresses.failing):
        first = session.callback_addresses.received_at(task.callback_path)
        while len(first) == 1 and time.time() < first[0].time + _SECONDS_FOR_A_RETRY:
            session.pause(_POLL_SECONDS)
            first = session.callback_addresses.received_at(task.callback_path)


def check_callbacks(session: Session, task: TrackedTask) -> None:
    """Check that a finished task has sent callbacks, and check each."""
    session.exercise("callback/sent")
    if not session.callback_addresses.received_at(task.callback_path):
        title = f"a task that ended with the state {task.state} sends no callback"
        session.report([Defect("callback/sent", title)], task.exchange, task.name)
        return
    arrived = _check_arrived(session, task)
    if task.callback_path in session.callback_addresses.failing:
        session.exercise("callback/retried")
        if len(arrived) == 1:
            title = "a callback is not sent again after an error response"
            session.report_received([Defect("callback/retried", title)], arrived[0])


def _check_arrived(session: Session, task: TrackedTask) -> list[Received]:
    """Check each callback of a finished task that has arrived, and return them."""
    arrived = session.callback_addresses.received_at(task.callback_path)
    for received in arrived:
        defects = callback_defects(received, task, session.expected, session.target.signing_key)
        session.report_received(defects, received)
        text = "\n".join((received.target, *received.headers.values(), received.body.decode("utf-8", "replace")))
        if has_secret(text, session.target.secrets):
            session.report_received([Defect("answer/no-secret", "a callback contains a key")], received)
        session.exercise(*exercised_callback_clauses(session.target.signing_key))
        message = parse_json(received.body)
        if isinstance(message, dict) and isinstance(message.get("data"), dict):
            session.log.exercise_shape("record", message["data"])
    if not session.target.signing_key:
        session.mark_unchecked("no signing key is known; pass it with --signing-key", "callback/signature")
    return arrived


def check_unrequested(session: Session) -> None:
    """Check that every received callback was requested, and arrived only once."""
    addresses = session.callback_addresses
    if addresses.receiver is None:
        _mark_unreachable(session)
        return
    _wait_for_callbacks(session, [task for task in session.tasks if task.callback_path and task.has_ended])
    if not addresses.receiver.received:
        session.mark_unchecked("no callback arrived")
        return
    session.exercise("callback/asked")
    for received in addresses.receiver.received:
        path = received.target.partition("?")[0]
        if path in addresses.refused:
            title = "a callback is sent for a refused request"
            session.report_received([Defect("callback/asked", title)], received)
        elif path in addresses.moved:
            session.report_received([Defect(REDIRECTS, "a callback follows a redirect of the receiver")], received)
        elif path not in addresses.assigned:
            title = "a callback is sent to another path than the requested one"
            session.report_received([Defect("callback/form", title)], received)
    for task in (task for task in session.tasks if task.callback_path):
        _check_repeated(session, addresses.received_at(task.callback_path))


def _check_repeated(session: Session, arrived: list[Received]) -> None:
    """Check that no callback of a task was sent again after the receiver accepted one."""
    accepted = [received for received in arrived if received.status == OK]
    session.exercise(*(("callback/once",) if accepted else ()))
    if len(accepted) > 1:
        title = "a callback is sent again after a success response"
        session.report_received([Defect("callback/once", title)], accepted[1])
    elif len(arrived) > 1 and arrived[0].status == NO_CONTENT:
        title = f"a callback is sent again after a response with HTTP {NO_CONTENT}"
        session.report_received([Defect(ANY_SUCCESS, title)], arrived[1])
