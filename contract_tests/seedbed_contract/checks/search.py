"""What nobody listed: random requests, and where one is judged wrongly, the smallest that shows it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Flaky

from seedbed_contract import tasks
from seedbed_contract.answers import Flaw
from seedbed_contract.checks.requests import is_refused, judge_violation
from seedbed_contract.strategies import breakable_clauses, requests, violations

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from seedbed_contract.exchange import Exchange
    from seedbed_contract.session import Session

    Drawn = tuple[Any, Exchange]

_REPEATS: Final = 5
_NO_COMPLAINTS: Final = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)


class _Shown(AssertionError):
    """A drawn request shows a flaw."""


class _Enough(Exception):
    """The target takes no more requests of this kind for now."""


def finds_no_accepted_violation(session: Session) -> None:
    """Ask with random violations of the clauses on which there is no finding yet."""
    contract = session.asks.contract
    if not session.budget.is_free:
        session.cannot_judge(
            "random requests would cost the time that the rate allows, and credits where one is accepted"
        )
        return
    for _ in range(_REPEATS):
        clauses = [clause for clause in _sought(contract) if not session.ledger.is_found(clause)]
        found = _smallest(session, violations(contract, clauses=clauses), _asks_with_violation) if clauses else None
        if found is None:
            return
        violation, exchange = found
        judge_violation(session, exchange, violation.clause, "found at random")


def finds_no_refused_request(session: Session) -> None:
    """Ask with random requests that keep the contract; without money, the refusal has to say so."""
    if not session.budget.is_free:
        session.cannot_judge("random requests that are accepted would cost credits")
        return
    found = _smallest(session, requests(session.asks.contract), _asks_with_request)
    if found:
        title = f"a request that keeps the contract is refused with code {found[1].code}"
        session.judge([Flaw("request/type", title)], found[1], "found at random")


def _sought(contract: Any) -> list[str]:
    """Return the clauses to break at random; whether a text is a URL is asked with clear cases alone."""
    return [clause for clause in breakable_clauses(contract) if not clause.endswith("/format")]


def _asks_with_violation(session: Session, violation: Any) -> Exchange | None:
    tasks.look_around(session)
    exchange = session.send_plainly(session.asks.create(violation.request))
    session.judge_form(exchange)
    session.ledger.exercise((violation.clause,), "refusing")
    _stop_at_rate(session, exchange)
    if exchange.code == session.expected.success and exchange.task_id:
        session.budget.count(wrongly=True)
    allowed = session.expected.codes_of_violation(violation.clause)
    return exchange if exchange.code is not None and exchange.code not in allowed else None


def _asks_with_request(session: Session, request: Any) -> Exchange | None:
    exchange = session.send_plainly(session.asks.create(request), once=True)
    session.judge_form(exchange)
    _stop_at_rate(session, exchange)
    tasks.take(session, exchange, request, "drawn at random", is_followed=False)
    return exchange if is_refused(session, exchange) else None


def _stop_at_rate(session: Session, exchange: Exchange) -> None:
    if exchange.code in session.expected.codes("rate_exceeded"):
        raise _Enough


def _smallest(
    session: Session, drawn: SearchStrategy[Any], ask: Callable[[Session, Any], Exchange | None]
) -> Drawn | None:
    """Return the smallest drawn value that shows a flaw, with what shows it; ``None`` where none was drawn."""
    found: list[Drawn] = []

    @seeded(session.seed)
    @settings(
        max_examples=session.max_examples,
        deadline=None,
        database=session.examples,
        phases=(Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=_NO_COMPLAINTS,
        print_blob=False,
    )
    @given(drawn)
    def search(value: Any) -> None:
        if exchange := ask(session, value):
            found[:] = [(value, exchange)]
            raise _Shown

    with suppress(_Shown, _Enough, Flaky):  # what a target does once, and not again, was still done
        search()
    return found[0] if found else None
