"""Random sequences of calls: whatever is done in whatever order, tasks go forward and answers keep their form."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar, Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from seedbed_contract import tasks
from seedbed_contract.cases import accepted
from seedbed_contract.detection import UNKNOWN_TASK_ID
from seedbed_contract.http import OutOfTimeError
from seedbed_contract.rules.tracked_task import TrackedTask
from seedbed_contract.session import BudgetExceededError

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_contract.cases import AcceptedCase
    from seedbed_contract.session import Session

    Step = Callable[..., None]

_EXAMPLES: Final = 4
_NO_COMPLAINTS: Final = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)
_STEPS: Final = 12
_MOST_TASKS: Final = 3
_SHORT: Final = 0.05
_FEW: Final = 4
_ANY: Final = 1000


def keeps_tasks_apart(session: Session) -> None:
    """Ask for tasks at the same time, twice with the same request: each must have a name and a record of its own."""
    same, *others = [case for case in accepted(session.builder.contract) if case.body is None]
    if session.budget.remaining_tasks < _MOST_TASKS or not session.budget.is_free:
        session.mark_unchecked("the balance does not cover several tasks at once")
        return
    for order in create_at_once(session, [same, same, others[-1]]):
        tasks.poll(session, order)


def goes_forward(session: Session) -> None:
    """Walk at random; what is wrong is noted by the looks themselves, so that no walk has to be repeated."""
    cases = [case for case in accepted(session.builder.contract) if case.body is None]
    room = [min(_MOST_TASKS, max(session.budget.remaining_tasks - 1, 0))]
    ended: list[Exception] = []
    machine = type("Walk", (_Walk,), {"session": session, "cases": cases, "room": room, "ended": ended})
    steps = settings(
        max_examples=_EXAMPLES,
        stateful_step_count=_STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=_NO_COMPLAINTS,
    )
    seeded(session.seed)(machine)
    run_state_machine_as_test(machine, settings=steps)
    if ended:
        raise ended[0]


def _step(do: Step) -> Step:
    """Let a step do nothing once the time or the money is over, which Hypothesis would take for a failure."""

    @functools.wraps(do)
    def once(self: _Walk, **drawn: Any) -> None:
        try:
            if not self.ended:
                do(self, **drawn)
        except (OutOfTimeError, BudgetExceededError) as error:
            self.ended.append(error)

    return once


class _Walk(RuleBasedStateMachine):
    """A walk over the operations that make tasks and look at them.

    What may be done depends on the target, so a step that cannot be taken is left out when its turn comes. Its
    attributes are shared by all walks of a run.

    Attributes:
        session: The run.
        cases: Requests that keep the contract.
        room: How many more tasks may be made, in a list of one.
        ended: What ended the walks, if anything has.
    """

    session: ClassVar[Session]
    cases: ClassVar[list[AcceptedCase]]
    room: ClassVar[list[int]]
    ended: ClassVar[list[Exception]]

    @rule(number=st.integers(0, _ANY))
    @_step
    def create(self, number: int) -> None:
        if self._takes(1):
            case = self.cases[number % len(self.cases)]
            tasks.create(self.session, case.request, case.name, body=case.payload)

    @rule(at_once=st.integers(2, 3))
    @_step
    def create_at_once(self, at_once: int) -> None:
        if self.session.budget.is_free and self._takes(at_once):
            create_at_once(self.session, self.cases[:at_once])

    @rule(number=st.integers(0, _ANY))
    @_step
    def look(self, number: int) -> None:
        if orders := self.session.tasks:
            tasks.poll(self.session, orders[number % len(orders)])

    @rule()
    @_step
    def look_at_once(self) -> None:
        self.session.send_all([order.builder.record(order.task_id) for order in self.session.tasks[-_FEW:]])

    @rule()
    @_step
    def look_at_nobody(self) -> None:
        self.session.send(self.session.builder.record(UNKNOWN_TASK_ID))

    @rule()
    @_step
    def balance(self) -> None:
        self.session.fetch_balance()

    @rule()
    @_step
    def wait(self) -> None:
        self.session.pause(_SHORT)

    def _takes(self, several: int) -> bool:
        """Tell whether so many more tasks may be made by a walk, and count them if so."""
        if min(self.room[0], self.session.budget.remaining_tasks) < several:
            return False
        self.room[0] -= several
        return True


def create_at_once(session: Session, cases: list[Any]) -> list[TrackedTask]:
    """Ask for several tasks at the same time."""
    for _ in cases:
        session.budget.reserve()
    exchanges = session.send_all([session.builder.create(case.payload) for case in cases], once=True)
    outcomes = [
        tasks.track(session, exchange, case.request, case.name) for case, exchange in zip(cases, exchanges, strict=True)
    ]
    return [outcome for outcome in outcomes if isinstance(outcome, TrackedTask)]
