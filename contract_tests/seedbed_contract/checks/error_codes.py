"""Where the target can be told to fail: every documented code can be had."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import job_api, local

from seedbed_contract import tasks
from seedbed_contract.cases import accepted
from seedbed_contract.rules.envelope import Defect, refusal_defects

if TYPE_CHECKING:
    from seedbed_contract.http import Exchange
    from seedbed_contract.session import Session


def has_every_code(session: Session) -> None:
    """Ask for a task with each documented code as the fault that it shall meet."""
    if "faults" not in session.capabilities:
        session.mark_unchecked("the target cannot be told to fail", "faults")
        return
    request = accepted(session.builder.contract)[0].request
    for code in (code for code in session.builder.contract.codes if code.number != session.expected.success):
        case = session.expected.dialect.case_of_code(code.name)
        allowed = session.expected.codes(case) if case in session.expected.dialect.cases else {code.number}
        asks = session.builder.with_extra(((local.FAULT_HEADER, str(code.number)),))
        exchange = session.send_unchecked(asks.create(request), once=True)
        session.check_form(exchange)
        session.exercise(f"code/{code.number}")
        flaws = refusal_defects(exchange, allowed, f"code/{code.number}", f"a call that shall meet {code.number}")
        session.report(flaws, exchange)


_BEYOND: Final = 5
_MOST_TASKS: Final = 60


def keeps_the_rate(session: Session) -> None:
    """Ask for more tasks than the rate allows, in a moment; a target may allow more, but no less."""
    allowed, seconds = job_api().rate
    if not session.budget.is_free:
        session.mark_unchecked("it would cost as many tasks as the rate allows")
        return
    if session.budget.remaining_tasks < allowed:
        session.mark_unchecked("the balance does not cover as many tasks as the rate allows")
        return
    _judge_burst(session, max(allowed - session.creation_calls_within(seconds), 0))


def keeps_the_balance(session: Session) -> None:
    """Use up the balance, and ask for one task more."""
    if not session.budget.is_free:
        session.mark_unchecked("it would cost all credits that there are")
        return
    if session.fetch_balance() is None:
        session.mark_unchecked("the target has no operation credit, so it is not known when the balance is used up")
        return
    if session.budget.remaining_tasks > _MOST_TASKS:
        session.mark_unchecked("the balance is too large to be used up")
        return
    while (balance := session.fetch_balance()) is not None and balance >= session.budget.price:
        if _ask(session, wait=True).code != session.expected.success:
            return
    _judge_beyond(session, _ask(session, wait=False))


def _judge_beyond(session: Session, exchange: Exchange) -> None:
    session.exercise("credits/enough")
    allowed = session.expected.codes("credits_insufficient", "rate_exceeded")
    session.report(
        refusal_defects(exchange, allowed, "credits/enough", "a task that the balance does not cover"), exchange
    )


def _judge_burst(session: Session, allowed: int) -> None:
    exchanges = _ask_at_once(session, allowed + _BEYOND)
    made = sum(exchange.code == session.expected.success for exchange in exchanges)
    refused = [exchange for exchange in exchanges if exchange.code in session.expected.codes("rate_exceeded")]
    session.exercise("createTask/rate")
    if refused and made < allowed and not session.budget.is_exhausted:
        limit, seconds = job_api().rate
        title = f"fewer than {limit} new tasks in {seconds} seconds are allowed"
        session.report([Defect("createTask/rate", title)], refused[0])


def _ask_at_once(session: Session, tasks: int) -> list[Exchange]:
    with ThreadPoolExecutor(tasks) as pool:
        return list(pool.map(lambda _: _ask(session, wait=False), range(tasks)))


def _ask(session: Session, *, wait: bool) -> Exchange:
    session.budget.reserve()
    ask = session.builder.create(_request(session))
    exchange = session.send(ask, once=True) if wait else session.send_unchecked(ask, once=True)
    session.check_form(exchange)
    tasks.track(session, exchange, _request(session), "one of many", is_followed=False)
    return exchange


def _request(session: Session) -> Any:
    return accepted(session.builder.contract)[0].request
