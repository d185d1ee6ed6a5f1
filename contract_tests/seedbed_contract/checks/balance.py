"""The balance: what is refused or fails costs nothing, and what succeeds costs its price once."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from seedbed_contract.cases import refused
from seedbed_contract.rules.envelope import Defect
from seedbed_contract.rules.task_record import STATES

if TYPE_CHECKING:
    from seedbed_contract.session import Session


_REFUSED = "credits/refused"
_LEAST = Decimal("0.01")


def refusals_are_free(session: Session) -> None:
    """Hold the balance after many refused calls against the balance before them."""
    budget = session.budget
    if budget.first_balance is None or not session.is_exclusive or session.tasks:
        session.mark_unchecked(_why_not(session))
        return
    balance = session.fetch_balance()
    session.exercise(_REFUSED)
    if balance is not None and budget.first_balance - balance > budget.price * budget.wrongly_created:
        _show_what_costs(session)


def tasks_cost_their_price(session: Session) -> None:
    """Hold what is gone from the balance against the tasks that succeeded, and those that may still succeed."""
    budget, ended = session.budget, [order for order in session.tasks if order.has_ended]
    balance = session.fetch_balance()
    if (
        budget.first_balance is None
        or balance is None
        or budget.balance_exchange is None
        or not (session.is_exclusive and budget.is_free)
    ):
        session.mark_unchecked(_why_not(session))
        return
    done = sum(order.state == STATES.success for order in ended)
    failed = sum(order.state == STATES.failure for order in ended)
    session.exercise("credits/price", *(("credits/failed",) if failed else ()))
    gone, most = budget.first_balance - balance, budget.price * (budget.created + budget.wrongly_created - failed)
    # A balance may be told in whole credits.
    slack = Decimal(1) if balance == int(balance) and budget.first_balance == int(budget.first_balance) else Decimal(0)
    if gone <= budget.price * done - max(slack, _LEAST):
        title = f"tasks that succeeded cost less than {budget.price} credits each"
        session.report([Defect("credits/price", title)], budget.balance_exchange)
    elif gone >= most + max(slack, _LEAST):
        session.report([_too_much(gone - most, budget.price, failed)], budget.balance_exchange)
    _judge_what_records_tell(session)


def _too_much(excess: Decimal, price: Decimal, failed: int) -> Defect:
    if excess <= price * failed and not excess % price:
        return Defect("credits/failed", "a task that failed is paid for")
    return Defect("credits/price", f"tasks cost more than {price} credits each")


def _judge_what_records_tell(session: Session) -> None:
    """Where a record tells what the task cost, that has to be its price."""
    for order in (order for order in session.tasks if order.has_ended):
        told = order.record.get("creditsConsumed")
        if isinstance(told, bool) or not isinstance(told, int | float):
            continue
        clause, due = "credits/price", session.budget.price
        if order.state == STATES.failure:
            clause, due = "credits/failed", Decimal(0)
        if Decimal(str(told)) != due:
            title = f"the record of a task that is {order.state} tells of {told} credits and not of {due}"
            session.report([Defect(clause, title)], order.polls[-1][1])


def _show_what_costs(session: Session) -> None:
    """Ask once more for each clause, with a look at the balance after each, to show the one that costs."""
    first_of_clause = {case.clause: case for case in reversed(refused(session.builder.contract))}
    flaw = Defect(_REFUSED, "a call that is refused costs credits")
    before = session.fetch_balance()
    for case in first_of_clause.values():
        exchange = session.send(session.builder.create(case.payload))
        after = session.fetch_balance()
        if before is not None and after is not None and after < before and exchange.code != session.expected.success:
            session.report([flaw], exchange, case.name)
            return
        before = after
    if session.budget.balance_exchange:
        session.report([flaw], session.budget.balance_exchange)


def _why_not(session: Session) -> str:
    if session.budget.first_balance is None:
        return "the target has no operation credit that tells the balance"
    if session.budget.is_free and session.tasks:
        return "tasks were made before"
    if not session.is_exclusive:
        return "others use the account at the same time"
    return "the balance of a target that is not local is used by others, too"
