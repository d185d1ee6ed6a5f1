"""Random sequences of calls: whatever is done in whatever order, tasks go forward and answers keep their form."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from seedbed_contract import tasks
from seedbed_contract.budget import OutOfMoney
from seedbed_contract.cases import accepted
from seedbed_contract.detection import NOBODY
from seedbed_contract.orders import Order
from seedbed_contract.wire import OutOfTime

if TYPE_CHECKING:
    from collections.abc import Callable

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
    same, *others = [case for case in accepted(session.asks.contract) if case.body is None]
    if session.budget.room < _MOST_TASKS or not session.budget.is_free:
        session.cannot_judge("the balance does not cover several tasks at once")
        return
    for order in create_at_once(session, [same, same, others[-1]]):
        tasks.look(session, order)


def goes_forward(session: Session) -> None:
    """Walk at random; what is wrong is noted by the looks themselves, so that no walk has to be repeated."""
    ended: list[Exception] = []
    machine = _machine(session, ended)
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


def _machine(session: Session, ended: list[Exception]) -> type[RuleBasedStateMachine]:  # noqa: C901 (seven short steps, and no branch)
    cases = [case for case in accepted(session.asks.contract) if case.body is None]
    room = [min(_MOST_TASKS, max(session.budget.room - 1, 0))]

    step = _until_the_end(ended)

    class Walk(RuleBasedStateMachine):
        """A walk over the operations that make tasks and look at them.

        What may be done depends on the target, so a step that cannot be taken is left out when its turn comes.
        """

        @rule(case=st.sampled_from(cases))
        @step
        def create(self, case: Any) -> None:
            if _takes(session, room, 1):
                tasks.create(session, case.request, case.name, body=case.payload)

        @rule(at_once=st.integers(2, 3))
        @step
        def create_at_once(self, at_once: int) -> None:
            if _takes(session, room, at_once):
                create_at_once(session, cases[:at_once])

        @rule(number=st.integers(0, _ANY))
        @step
        def look(self, number: int) -> None:
            if session.orders:
                tasks.look(session, session.orders[number % len(session.orders)])

        @rule()
        @step
        def look_at_once(self) -> None:
            session.send_all([order.asks.record(order.task_id) for order in session.orders[-_FEW:]])

        @rule()
        @step
        def look_at_nobody(self) -> None:
            session.send(session.asks.record(NOBODY))

        @rule()
        @step
        def balance(self) -> None:
            session.balance()

        @rule()
        @step
        def wait(self) -> None:
            session.pause(_SHORT)

    return Walk


def _until_the_end(ended: list[Exception]) -> Callable[[Step], Step]:
    """Let steps do nothing once the time or the money is over, which Hypothesis would take for a failure."""

    def step(do: Step) -> Step:
        @functools.wraps(do)
        def once(*words: Any, **named: Any) -> None:
            try:
                if not ended:
                    do(*words, **named)
            except (OutOfTime, OutOfMoney) as error:
                ended.append(error)

        return once

    return step


def _takes(session: Session, room: list[int], tasks: int) -> bool:
    """Tell whether so many more tasks may be made by a walk, and count them if so."""
    if min(room[0], session.budget.room) < tasks or (tasks > 1 and not session.budget.is_free):
        return False
    room[0] -= tasks
    return True


def create_at_once(session: Session, cases: list[Any]) -> list[Order]:
    """Ask for several tasks at the same time."""
    for _ in cases:
        session.budget.reserve()
    exchanges = session.send_all([session.asks.create(case.payload) for case in cases], once=True)
    outcomes = [
        tasks.take(session, exchange, case.request, case.name) for case, exchange in zip(cases, exchanges, strict=True)
    ]
    return [outcome for outcome in outcomes if isinstance(outcome, Order)]
