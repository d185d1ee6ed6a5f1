"""Valid requests put together: each task costs, so one request carries as many things worth trying as fit."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from seedbed_schemas import job_api
from seedbed_schemas.profile import profile_of

from seedbed_contract import tasks
from seedbed_contract.cases import accepted, raw, refused
from seedbed_contract.rules.envelope import Defect
from seedbed_contract.rules.tracked_task import TrackedTask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from seedbed_schemas import Contract

    from seedbed_contract.cases import AcceptedCase, RefusedCase
    from seedbed_contract.http import Exchange
    from seedbed_contract.session import Session

    Path = tuple[str, ...]

CALLBACK: Final = job_api().fields.callback
MISSING: Final = object()


@dataclass
class RequestBatch:
    """Several cases in one request.

    Attributes:
        cases: What it is made of.
        changes: What differs from the smallest request, by place.
    """

    cases: list[AcceptedCase] = field(default_factory=list)
    changes: dict[Path, Any] = field(default_factory=dict)

    def request(self, base: Any) -> Any:
        """Return the request."""
        whole = json.loads(json.dumps(base))
        for path, value in self.changes.items():
            _put(whole, path, value)
        return whole

    @property
    def callback_suffix(self) -> str:
        """What stands behind the URL of the callback, empty where there is no callback or nothing special of it."""
        parts = urlsplit(str(self.changes.get((CALLBACK,), "")))
        return f"{parts.path}?{parts.query}".rstrip("?")


def request_batches(cases: Sequence[AcceptedCase], contract: Contract) -> list[RequestBatch]:
    """Put cases into as few requests as can hold them, those first that try the most that is new.

    Args:
        cases: The cases, the smallest request first.
        contract: The contract, whose options may not be mixed, for each pair of them is a case.
    """
    base = cases[0].request
    options = frozenset(_options(contract.part("request")))
    chosen = [case for case in cases if case is cases[0] or changes(base, case.request).keys() & options]
    filled = [RequestBatch([case], _fixed(base, case, options)) for case in _by_news(chosen)]
    for case in cases:
        if case not in chosen:
            _place(filled, case, changes(base, case.request))
    return filled


def changes(base: Any, request: Any, path: Path = ()) -> dict[Path, Any]:
    """Return the places where a request differs from another, with what stands there."""
    if isinstance(base, dict) and isinstance(request, dict):
        found: dict[Path, Any] = {}
        for name in base.keys() | request.keys():
            found |= changes(base.get(name, MISSING), request.get(name, MISSING), (*path, name))
        return found
    return {} if type(base) is type(request) and base == request else {path: request}


def _fixed(base: Any, case: AcceptedCase, options: Iterable[Path]) -> dict[Path, Any]:
    return {**{path: _get(case.request, path) for path in options}, **changes(base, case.request)}


def _place(filled: list[RequestBatch], case: AcceptedCase, changed: dict[Path, Any]) -> None:
    free = (parcel for parcel in filled if not parcel.changes.keys() & changed.keys())
    parcel = next(free, None)
    if parcel is None:
        filled.append(parcel := RequestBatch())
    parcel.cases.append(case)
    parcel.changes |= changed


def _by_news(cases: Sequence[AcceptedCase]) -> Iterator[AcceptedCase]:
    left, known = list(cases), set[str]()
    while left:
        best = max(left, key=lambda case: len(set(case.clauses) - known))
        left.remove(best)
        known.update(best.clauses)
        yield best


def _options(schema: dict[str, Any], path: Path = ()) -> Iterator[Path]:
    if "enum" in schema:
        yield path
    for name, inside in schema.get("properties", {}).items():
        yield from _options(inside, (*path, name))


def _get(value: Any, path: Path) -> Any:
    for name in path:
        value = value.get(name, MISSING) if isinstance(value, dict) else MISSING
    return value


def _put(value: Any, path: Path, change: Any) -> None:
    for name in path[:-1]:
        value = value.setdefault(name, {})
    if change is MISSING:
        value.pop(path[-1], None)
    else:
        value[path[-1]] = change


_AT_ONCE: Final = 48
_LARGE: Final = 1 << 16
_OF_THE_TIME: Final = 0.4
_LITTLE_OF_THE_TIME: Final = 0.1
_MOST_AT_FIRST: Final = 17
"""With one task that fails, and a few for random sequences, what the documented rate allows at once."""
_FOR_LATER: Final = 4
"""Tasks that a small balance shall still cover afterwards: the one that fails, and those asked for at once."""
_CALLED_BACK: Final = 4
_UNUSED: Final = "http://127.0.0.1"


def refuses_violations(session: Session) -> None:
    """Ask with one request for each clause and kind of violation."""
    cases = session.fit_in_time(_spread(refused(session.builder.contract)), _OF_THE_TIME)
    for start in range(0, len(cases), _AT_ONCE):
        chunk = cases[start : start + _AT_ONCE]
        answered = session.send_invalid([session.builder.create(case.payload) for case in chunk])
        for case, exchange in zip(chunk, answered, strict=False):
            judge_violation(session, exchange, case.clause, case.name)
    _refuses_with_callbacks(session, cases)


def _spread(cases: Sequence[RefusedCase]) -> list[RefusedCase]:
    """Return the cases with the first of each clause before the second of any."""
    of_clause: dict[str, list[RefusedCase]] = {}
    for case in cases:
        of_clause.setdefault(case.clause, []).append(case)
    rounds = itertools.zip_longest(*of_clause.values())
    return [case for turn in rounds for case in turn if case is not None]


def _refuses_with_callbacks(session: Session, cases: Sequence[RefusedCase]) -> None:
    """Ask once for each clause with the address of a callback, which must never come."""
    given = job_api().fields.input
    first_of_clause = {case.clause: case for case in reversed(cases) if case.clause.startswith(given)}
    if session.callback_addresses.receiver is None:
        return
    addressed = [session.callback_addresses.assign(case.request) for case in first_of_clause.values()]
    answered = session.send_invalid([session.builder.create(request) for request, _ in addressed])
    for case, (_, path), exchange in zip(first_of_clause.values(), addressed, answered, strict=False):
        judge_violation(session, exchange, case.clause, case.name)
        if exchange.code is not None and exchange.code != session.expected.success:
            session.callback_addresses.refused.add(path)


def judge_violation(session: Session, exchange: Exchange, clause: str, name: str) -> bool:
    """Judge the answer to a request that breaks a clause."""
    allowed = session.expected.codes_of_violation(clause)
    return session.check_refusal(exchange, allowed, clause, f"a request that breaks {clause}", name)


def refuses_raw_bodies(session: Session) -> None:
    """Ask with bodies that hold no request, however lenient the parser."""
    bodies = [body for body in raw(session.builder.contract) if body.expected == "refuse"]
    small = session.fit_in_time([body for body in bodies if len(body.body) < _LARGE], _LITTLE_OF_THE_TIME)
    answered = session.send_invalid([session.builder.create(body.body, body.headers) for body in small])
    allowed = session.expected.codes("body_malformed", "request_invalid", "model_unknown", "field_missing")
    for body, exchange in zip(small, answered, strict=False):
        session.check_refusal(exchange, allowed, "request/json", "a body that holds no request", body.name)
    for body in (body for body in bodies if len(body.body) >= _LARGE and session.budget.is_free):
        # How a server refuses what is too large for it is its own affair.
        exchange = session.send(session.builder.create(body.body, body.headers), strict=False)
        if exchange.code == session.expected.success:
            session.report([Defect("request/json", "a body that holds no request is accepted")], exchange, body.name)


def accepts_valid_requests(session: Session) -> None:
    """Ask for tasks with requests that together hold every value that is allowed, and each limit."""
    session.has_requested_tasks = True
    cases = accepted(session.builder.contract, callback=_UNUSED)
    packed = request_batches([case for case in cases if case.body is None], session.builder.contract)
    room = min(session.budget.remaining_tasks - _FOR_LATER, _MOST_AT_FIRST)
    _order_failure(session, cases[0].request)
    for number, parcel in enumerate(packed[: max(room, 0)]):
        _order_parcel(session, parcel, cases[0].request, number)
        tasks.poll_pending(session)
    session.deferred_cases = [case for parcel in packed[max(room, 0) :] for case in parcel.cases]


def accepts_more(session: Session) -> None:
    """Ask with the cases that there was no room for at first; without money, a refusal has to say so."""
    base = accepted(session.builder.contract, callback=_UNUSED)[0].request
    while session.deferred_cases:
        case = session.deferred_cases.pop(0)
        if CALLBACK not in case.request:
            _order_case(session, case, base)
    written = [body for body in raw(session.builder.contract) if body.expected == "accept"]
    for body in written:
        session.budget.reserve()
        exchange = session.send(session.builder.create(body.body, body.headers), once=True)
        _judge_acceptance(session, exchange, "request/spelling", body.name)
        tasks.track(session, exchange, base, body.name, is_followed=False)


def _order_failure(session: Session, base: Any) -> None:
    if not session.fail_prompt:
        session.mark_unchecked("no prompt is known that makes a task fail: give one with --fail-prompt", "failure")
        return
    caption, given = profile_of(session.builder.contract).caption, job_api().fields.input
    request, path = session.callback_addresses.assign({**base, given: {**base[given], caption: session.fail_prompt}})
    outcome = tasks.create(session, request, "a task that fails", path=path)
    if isinstance(outcome, TrackedTask):
        outcome.is_meant_to_fail = True


def _order_parcel(session: Session, parcel: RequestBatch, base: Any, number: int) -> None:
    request, path = parcel.request(base), ""
    request.pop(CALLBACK, None)
    if number < _CALLED_BACK:
        fails_first = number == _CALLED_BACK - 1
        request, path = session.callback_addresses.assign(request, parcel.callback_suffix, fails_first=fails_first)
    name = "; ".join(case.name for case in parcel.cases)
    outcome = tasks.create(session, request, name, path=path)
    if isinstance(outcome, TrackedTask):
        session.exercise(*(clause for case in parcel.cases for clause in case.clauses))
    elif is_refused(session, outcome):
        _find_what_is_refused(session, parcel.cases, base, outcome)


def _find_what_is_refused(session: Session, cases: Sequence[AcceptedCase], base: Any, whole: Exchange) -> None:
    """Ask for the parts of a parcel one by one; where none is refused, it is the whole that is."""
    alone = [_order_case(session, case, base) for case in cases if CALLBACK not in case.request]
    url = json.loads(whole.request.body or b"{}").get(CALLBACK)
    if not any(alone) and not (url and _refuses_callback(session, url, base)):
        _judge_acceptance(session, whole, _clause(cases[0], base), "; ".join(case.name for case in cases))


def _refuses_callback(session: Session, url: str, base: Any) -> bool:
    """Tell whether a callback is refused, and note that where it is one address that is, and not this machine."""
    plain, path = session.callback_addresses.assign(base)
    outcome = tasks.create(session, plain, "with a callback", path=path)
    if not isinstance(outcome, TrackedTask) and "callbacks" in session.target.required:
        return _judge_acceptance(session, outcome, f"{CALLBACK}/format", "with a callback")
    if not isinstance(outcome, TrackedTask):
        session.mark_unchecked("the target refuses to call this machine back: see --callback-host", "callbacks")
        session.callback_addresses.receiver = None
        return is_refused(session, outcome)
    again = tasks.create(session, {**base, CALLBACK: url}, "with this callback")
    return not isinstance(again, TrackedTask) and _judge_acceptance(session, again, f"{CALLBACK}/format", "")


def _order_case(session: Session, case: AcceptedCase, base: Any) -> bool:
    """Ask with one case, and tell whether it is refused."""
    outcome = tasks.create(session, case.request, case.name, body=case.payload)
    if isinstance(outcome, TrackedTask):
        session.exercise(*case.clauses, *(("request/spelling",) if case.body else ()))
        return False
    return _judge_acceptance(session, outcome, _clause(case, base), case.name)


def _judge_acceptance(session: Session, exchange: Exchange, clause: str, name: str) -> bool:
    """Note where a request is refused though it keeps the contract, and tell whether it is."""
    session.exercise(clause)
    if not is_refused(session, exchange):
        return False
    title = f"a request that keeps {clause} is refused with code {exchange.code}"
    if _is_too_fast(session, exchange):
        clause, title = "createTask/rate", f"a task beyond the rate is refused with code {exchange.code}"
    return session.report([Defect(clause, title)], exchange, name)


def _is_too_fast(session: Session, exchange: Exchange) -> bool:
    """Tell whether the same request is accepted once the rate surely allows it."""
    allowed, seconds = job_api().rate
    # Where more were made already, there is no such limit.
    if session.tasks_created_within(seconds) != allowed or session.log.has_finding("createTask/rate"):
        return False
    session.pause(seconds)
    session.budget.reserve()
    again = session.send(exchange.request, once=True)
    tasks.track(session, again, {}, "once more", is_followed=False)
    return again.code == session.expected.success


def is_refused(session: Session, exchange: Exchange) -> bool:
    """Tell whether an answer says no for another reason than money."""
    if session.has_created_task(exchange):
        return False
    poor = session.expected.codes("credits_insufficient")
    if exchange.code in poor and (session.budget.is_exhausted or not session.budget.remaining_tasks):
        return False
    lawful = {session.expected.success, *(poor - session.expected.codes("request_invalid"))}
    return exchange.code is not None and exchange.code not in lawful


def _clause(case: AcceptedCase, base: Any) -> str:
    """Return the clause that a case is about: by what differs from the smallest request, or by how it is written."""
    if case.body is not None:
        return "request/spelling"
    changed = changes(base, case.request)
    return next(iter(sorted(_candidates(case, changed), key=_rank)), "request/type")


def clause_of_request(session: Session, request: Any) -> str:
    """Return the clause that a request which keeps the contract is most likely refused for."""
    changed = changes(accepted(session.builder.contract)[0].request, request)
    fields = [".".join(path) for path in changed] or ["request"]
    return min((clause for clause in session.log.clauses if clause.split("/")[0] in fields), key=_rank)


def _candidates(case: AcceptedCase, changed: dict[tuple[str, ...], Any]) -> Iterator[str]:
    for path in changed:
        yield from (clause for clause in case.clauses if clause.startswith(f"{'.'.join(path)}/"))


def _rank(clause: str) -> int:
    """Return how much a clause tells: one value of several, then a limit, then a type."""
    kinds = ("enum/", "Length", "Items", "imum", "format", "pattern", "enum")
    return next((place for place, kind in enumerate(kinds) if kind in clause.partition("/")[2]), len(kinds))
