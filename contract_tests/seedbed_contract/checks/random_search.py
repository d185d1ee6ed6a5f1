"""What nobody listed: random requests, and where one is judged wrongly, the smallest that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from unittest import SkipTest

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Flaky, Unsatisfiable

from seedbed_contract import tasks
from seedbed_contract.checks.request_validation import clause_of_request, is_refused, judge_violation
from seedbed_contract.http import OutOfTimeError
from seedbed_contract.rules.envelope import Defect
from seedbed_contract.strategies import breakable_clauses, requests, violations

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from seedbed_contract.http import Exchange
    from seedbed_contract.session import Session

    Drawn = tuple[Any, Exchange]

_REPEATS: Final = 5
_AGAIN: Final = (Phase.reuse, Phase.shrink)
_ANEW: Final = (Phase.generate, Phase.shrink)
_NO_COMPLAINTS: Final = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)


class _DefectShownError(AssertionError):
    """A drawn request shows a flaw."""


class _SearchDoneError(BaseException):
    """The target takes no more requests for now, or the time is over: no failure, which Hypothesis would shrink."""


def finds_no_accepted_violation(session: Session) -> None:
    """Ask again with violations that were found before, and with random ones of the clauses that have no finding."""
    if not session.budget.is_free:
        session.mark_unchecked(
            "random requests would cost the time that the rate allows, and credits where one is accepted"
        )
        return
    clauses = _sought(session.builder.contract)
    drawn = violations(session.builder.contract, clauses=clauses)
    _judge_violations(session, _search(session, drawn, _asks_with_violation, _AGAIN))
    for _ in range(_REPEATS):
        if all(map(session.log.has_finding, clauses)):
            return
        found = _search(session, drawn, _asks_with_new_violation, _ANEW)
        _judge_violations(session, found)
        if not found:
            return


def finds_no_refused_request(session: Session) -> None:
    """Ask with random requests that keep the contract; without money, the refusal has to say so."""
    if not session.budget.is_free:
        session.mark_unchecked("random requests that are accepted would cost credits")
        return
    for request, exchange in _search(
        session, requests(session.builder.contract), _asks_with_request, (*_AGAIN, *_ANEW)
    ):
        clause = clause_of_request(session, request)
        title = f"a request that keeps {clause} is refused with code {exchange.code}"
        session.report([Defect(clause, title)], exchange, "found at random")


def _judge_violations(session: Session, found: list[Drawn]) -> None:
    for violation, exchange in found:
        judge_violation(session, exchange, violation.clause, "found at random")


def _sought(contract: Any) -> list[str]:
    """Return the clauses to break at random; whether a text is a URL is asked with clear cases alone."""
    return [clause for clause in breakable_clauses(contract) if not clause.endswith("/format")]


def _asks_with_violation(session: Session, violation: Any) -> Exchange | None:
    tasks.poll_pending(session)
    exchange = session.send_unchecked(session.builder.create(violation.request))
    session.check_form(exchange)
    session.log.exercise((violation.clause,), "refusing")
    _stop_at_rate(session, exchange)
    if exchange.code == session.expected.success and exchange.task_id:
        session.budget.count(wrongly=True)
    allowed = session.expected.codes_of_violation(violation.clause)
    return exchange if exchange.code is not None and exchange.code not in allowed else None


def _asks_with_new_violation(session: Session, violation: Any) -> Exchange | None:
    assume(not session.log.has_finding(violation.clause))
    return _asks_with_violation(session, violation)


def _asks_with_request(session: Session, request: Any) -> Exchange | None:
    exchange = session.send_unchecked(session.builder.create(request), once=True)
    session.check_form(exchange)
    _stop_at_rate(session, exchange)
    tasks.track(session, exchange, request, "drawn at random", is_followed=False)
    return exchange if is_refused(session, exchange) else None


def _stop_at_rate(session: Session, exchange: Exchange) -> None:
    if exchange.code in session.expected.codes("rate_exceeded"):
        raise _SearchDoneError


def _search(
    session: Session,
    drawn: SearchStrategy[Any],
    ask: Callable[[Session, Any], Exchange | None],
    phases: tuple[Phase, ...],
) -> list[Drawn]:
    """Return the smallest drawn value that shows a flaw, one for each clause, with what shows it.

    Raises:
        OutOfTimeError: The time of the run is over, and nothing was found.
    """
    found: dict[str, Drawn] = {}
    kinds: dict[str, type[_DefectShownError]] = {}

    @settings(
        max_examples=session.max_examples,
        deadline=None,
        derandomize=False,
        database=session.example_database,
        phases=phases,
        suppress_health_check=_NO_COMPLAINTS,
        report_multiple_bugs=True,
        print_blob=False,
    )
    @seeded(session.seed)  # under the settings, from which it would take the database
    @given(drawn)
    def search(value: Any) -> None:
        clause = getattr(value, "clause", "")
        if exchange := _unless_over(session, value, ask):
            found[clause] = value, exchange
            # Hypothesis tells one defect from another by the type of what is raised.
            raise kinds.setdefault(clause, type(_DefectShownError.__name__, (_DefectShownError,), {}))

    # Hypothesis would make the key from the source, which all searches share, and none under --hypothesis-seed.
    key = f"seedbed/{session.check}".encode()
    search._hypothesis_internal_database_key = key  # type: ignore[attr-defined]
    _run(search, found)
    return list(found.values())


def _unless_over(session: Session, value: Any, ask: Callable[[Session, Any], Exchange | None]) -> Exchange | None:
    try:
        return ask(session, value)
    except OutOfTimeError as error:
        raise _SearchDoneError from error


def _run(search: Callable[[], None], found: dict[str, Drawn]) -> None:
    try:
        try:
            search()
        except* (
            _DefectShownError,
            Flaky,
            Unsatisfiable,
            SkipTest,
        ):  # what a target does once, and not again, was still done
            pass
    except _SearchDoneError as enough:
        if isinstance(enough.__cause__, OutOfTimeError) and not found:
            raise enough.__cause__ from None
