"""Records: of tasks that are not there, and of tasks that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from seedbed_contract import tasks
from seedbed_contract.detection import UNKNOWN_TASK_ID

if TYPE_CHECKING:
    from seedbed_contract.session import Session


_LOOKS_AFTER_THE_END: Final = 2
_OF_THE_TIME: Final = 0.6
_UNKNOWN: Final = (UNKNOWN_TASK_ID, "0", "../recordInfo", "' OR '1'='1", "任务", "a" * 500)


def refuses_unknown_tasks(session: Session) -> None:
    """Look at tasks that do not exist, and at none."""
    unknown, missing = session.expected.codes("task_unknown"), session.expected.codes("task_id_missing")
    for name in _UNKNOWN:
        exchange = session.send(session.builder.record(name))
        session.check_refusal(
            exchange, unknown | missing, "recordInfo/unknown", "a look at a task that does not exist", name
        )
    for what, ask in (
        ("a query that names no task", session.builder.record(None)),
        ("a query that names an empty task", session.builder.record("")),
    ):
        session.check_refusal(session.send(ask), unknown | missing, "recordInfo/missing", what)


def stay_for_good(session: Session) -> None:
    """Look once more, at the end of the run, at the tasks that had ended."""
    ended = [order for order in session.tasks if order.is_followed and order.has_ended]
    for order in ended:
        tasks.poll(session, order)
    if not ended:
        session.mark_unchecked("no task was seen to end")


def stay_as_they_ended(session: Session) -> None:
    """Wait for the tasks, and look at each some times more once it has ended."""
    own = [order for order in session.tasks if order.is_followed]
    if not own:
        session.mark_unchecked("there is no task to look at: the balance did not cover one, or none was accepted")
        return
    if not tasks.wait_for(session, own, session.transport.seconds * _OF_THE_TIME):
        session.mark_unchecked("not every task ended within the time of the run")
    for order in (order for order in own if order.has_ended):
        for _ in range(_LOOKS_AFTER_THE_END):
            tasks.poll(session, order)
    states = {order.state for order in own}
    for state in sorted({"success", "fail"} - states):
        session.mark_unchecked(f"no task was seen to end as {state}", f"record/state/enum/{state}")
    for order in own:
        if order.is_meant_to_fail and order.state == "success":
            session.mark_unchecked("the task with the prompt of --fail-prompt succeeded", "failure")
