"""Random searches: generated requests, each reduced to the smallest one that the target handles incorrectly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from unittest import SkipTest

from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Flaky, Unsatisfiable

from seedbed_contract import tasks
from seedbed_contract.checks.request_validation import check_violation, is_refused, likely_clause
from seedbed_contract.http import OutOfTimeError
from seedbed_contract.rules.envelope import Defect
from seedbed_contract.strategies import breakable_clauses, requests, violations

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from seedbed_contract.http import Exchange
    from seedbed_contract.session import Session
    from seedbed_contract.strategies import BrokenRequest

    Drawn = tuple[Any, Exchange]
    Send = Callable[[Session, Any], Exchange | None]

_MOST_SEARCHES: Final = 5
_REPLAY: Final = (Phase.reuse, Phase.shrink)
_GENERATE: Final = (Phase.generate, Phase.shrink)


class _DefectShownError(AssertionError):
    """A drawn request shows a defect."""


class _SearchEndedError(BaseException):
    """The target limits the rate, or the time is over. Not an ``Exception``, because Hypothesis shrinks those."""


def search_invalid_requests(session: Session) -> None:
    """Replay the invalid requests that earlier runs found, then search for more.

    Each search ends with the first requests that show a defect, so it is repeated for the clauses without a finding.
    """
    if not session.budget.is_free:
        session.mark_unchecked("random requests would take long at the documented rate, and could cost credits")
        return
    # Whether a text is a URL is a matter of opinion at the edges; the listed cases are beyond doubt.
    clauses = [clause for clause in breakable_clauses(session.builder.contract) if not clause.endswith("/format")]
    drawn = violations(session.builder.contract, clauses=clauses)

    def send_new(session: Session, broken: BrokenRequest) -> Exchange | None:
        assume(not session.log.has_finding(broken.clause))
        return _send_violation(session, broken)

    _report_violations(session, _search(session, drawn, _send_violation, _REPLAY))
    for _ in range(_MOST_SEARCHES):
        if all(map(session.log.has_finding, clauses)):
            return
        found = _search(session, drawn, send_new, _GENERATE)
        _report_violations(session, found)
        if not found:
            return


def _report_violations(session: Session, found: list[Drawn]) -> None:
    for broken, exchange in found:
        check_violation(session, exchange, broken.clause, "found at random")


def _send_violation(session: Session, broken: BrokenRequest) -> Exchange | None:
    assume(not session.expected.may_be_accepted(broken.request))
    tasks.poll_pending(session)
    # Without waiting for the rate limit: a search would stop at it for seconds, so it ends there instead.
    exchange = session.send_unchecked(session.builder.create(broken.request))
    session.check_form(exchange)
    _stop_at_rate_limit(session, exchange)
    session.log.judged += 1
    session.log.exercise((broken.clause,), "refusing")
    if exchange.code == session.expected.success and exchange.task_id:
        session.budget.count(wrongly=True)
    allowed = session.expected.codes_of_violation(broken.clause)
    return exchange if exchange.code is not None and exchange.code not in allowed else None


def search_valid_requests(session: Session) -> None:
    """Search for a valid request that the target refuses for another reason than credits."""
    if not session.budget.is_free:
        session.mark_unchecked("accepted random requests would cost credits")
        return
    session = session.with_fresh_account()  # the checks before this one may have used up the rate
    drawn = requests(session.builder.contract)

    def send(session: Session, request: Any) -> Exchange | None:
        exchange = session.send_unchecked(session.builder.create(request), once=True)
        session.check_form(exchange)
        _stop_at_rate_limit(session, exchange)
        tasks.track(session, exchange, request, "drawn at random", is_followed=False)
        return exchange if is_refused(session, exchange) else None

    found = _search(session, drawn, send, (*_REPLAY, *_GENERATE))
    if not session.log.judged:
        session.mark_unchecked("the target accepts no more tasks: the rate limit or the balance is reached")
    for request, exchange in found:
        clause = likely_clause(session, request)
        title = f"a request that keeps {clause} is refused with code {exchange.code}"
        session.report([Defect(clause, title)], exchange, "found at random")


def _stop_at_rate_limit(session: Session, exchange: Exchange) -> None:
    if exchange.code in session.expected.codes("rate_exceeded"):
        raise _SearchEndedError


def _search(session: Session, drawn: SearchStrategy[Any], send: Send, phases: tuple[Phase, ...]) -> list[Drawn]:
    """Return the smallest values that show a defect, at most one for each clause, with their exchanges.

    Args:
        session: The session of the run.
        drawn: What to draw.
        send: Sends a drawn value and returns the exchange if it shows a defect.
        phases: What Hypothesis does: replay earlier findings, generate new values, or both.

    Raises:
        OutOfTimeError: The time of the run is over, and nothing was found.
    """
    found: dict[str, Drawn] = {}
    errors: dict[str, type[_DefectShownError]] = {}

    @settings(
        max_examples=session.max_examples,
        deadline=None,
        derandomize=False,
        database=session.example_database,
        phases=phases,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
        report_multiple_bugs=True,
        print_blob=False,
    )
    @seeded(session.seed)  # below the settings; above them it would drop the database
    @given(drawn)
    def search(value: Any) -> None:
        clause = getattr(value, "clause", "")
        try:
            exchange = send(session, value)
        except OutOfTimeError as error:
            raise _SearchEndedError from error
        if exchange:
            found[clause] = value, exchange
            # Hypothesis shrinks each type of error on its own, so every clause gets a type.
            raise errors.setdefault(clause, type(_DefectShownError.__name__, (_DefectShownError,), {}))

    set_database_key(search, f"seedbed/{session.check}".encode())
    try:
        try:
            search()
        # Flaky: what a target did once still happened, even if it does not do it again. Unsatisfiable: every value that
        # was drawn has a finding already. SkipTest: the database has no example to replay.
        except* (_DefectShownError, Flaky, Unsatisfiable, SkipTest):
            pass
    except _SearchEndedError as end:
        if isinstance(end.__cause__, OutOfTimeError) and not found:
            raise end.__cause__ from None
    return list(found.values())


def set_database_key(search: Callable[[], None], key: bytes) -> None:
    """Let Hypothesis store the failing examples of a search under a key.

    By default, the key is a digest of the source, which all searches share, and with ``--hypothesis-seed`` there is
    none. Only :func:`hypothesis.find` has a parameter for the key, and it finds one defect at most. So this sets the
    attribute that ``find`` sets; pyproject.toml has an upper bound for Hypothesis, and a test checks the effect.
    """
    search._hypothesis_internal_database_key = key  # type: ignore[attr-defined]  # see above
