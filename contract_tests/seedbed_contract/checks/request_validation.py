"""Checks of createTask: invalid requests are refused, and valid requests are accepted.

An accepted request costs a task, so the valid cases are packed into a few requests that carry many of them each. If
such a request is refused, its cases are sent one by one to find the clause that the target gets wrong.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from seedbed_schemas import job_api, local
from seedbed_schemas.profile import profile_of

from seedbed_contract import tasks
from seedbed_contract.cases import accepted, raw, refused
from seedbed_contract.cases.raw_bodies import JSON_HEADERS
from seedbed_contract.generation.locations import ABSENT, Path, get_at, locations, set_at
from seedbed_contract.rules.envelope import Defect
from seedbed_contract.rules.task_record import TrackedTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedbed_schemas import Contract

    from seedbed_contract.cases import AcceptedCase, Headers, RefusedCase
    from seedbed_contract.http import Exchange
    from seedbed_contract.session import Session

CALLBACK: Final = job_api().fields.callback

_CHUNK: Final = 48
_LARGE_BODY: Final = 1 << 16
_TIME_SHARE: Final = 0.4
_RAW_TIME_SHARE: Final = 0.1
_TASKS_FOR_LATER: Final = 2
"""Tasks that a small balance has to cover besides the batches: the one that fails, and one in another spelling."""
_CALLBACKS: Final = 4
_EMPTY_RESPONSE, _REDIRECTED = 1, 2
"""Batches whose callbacks are accepted with HTTP 204, and whose first callback is redirected."""
_UNUSED_URL: Final = "http://127.0.0.1"


def check_invalid_requests(session: Session) -> None:
    """Send a request for each clause and kind of violation."""
    of_clause: dict[str, list[RefusedCase]] = {}
    for case in refused(session.builder.contract):
        if not session.expected.may_be_accepted(case.request):
            of_clause.setdefault(case.clause, []).append(case)
    # One case of every clause before the second of any, so that a short run still covers all clauses.
    rounds = itertools.zip_longest(*of_clause.values())
    spread = [case for cases in rounds for case in cases if case is not None]
    cases = session.fit_in_time(spread, _TIME_SHARE)
    for start in range(0, len(cases), _CHUNK):
        chunk = cases[start : start + _CHUNK]
        exchanges = session.send_invalid([session.builder.create(case.payload) for case in chunk])
        for case, exchange in zip(chunk, exchanges, strict=False):
            check_violation(session, exchange, case.clause, case.name)
    if session.callback_addresses.receiver is not None:
        check_refused_callbacks(session, cases)


def check_refused_callbacks(session: Session, cases: Sequence[RefusedCase]) -> None:
    """Send one invalid request with a callback URL for each clause, and remember the URL: no callback may come."""
    inputs = job_api().fields.input
    first_of_clause = {case.clause: case for case in reversed(cases) if case.clause.startswith(inputs)}
    addressed = [session.callback_addresses.assign(case.request) for case in first_of_clause.values()]
    exchanges = session.send_invalid([session.builder.create(request) for request, _ in addressed])
    for case, (_, path), exchange in zip(first_of_clause.values(), addressed, exchanges, strict=False):
        check_violation(session, exchange, case.clause, case.name)
        if exchange.code is not None and exchange.code != session.expected.success:
            session.callback_addresses.refused.add(path)


def check_violation(session: Session, exchange: Exchange, clause: str, name: str) -> bool:
    """Check the response to a request that violates a clause, and return whether it is the right refusal."""
    allowed = session.expected.codes_of_violation(clause)
    return session.check_refusal(exchange, allowed, clause, f"a request that violates {clause}", name)


def check_raw_bodies(session: Session) -> None:
    """Send bodies in which even the most lenient parser finds no valid request."""
    bodies = [body for body in raw(session.builder.contract) if body.expected == "refuse"]
    small = session.fit_in_time([body for body in bodies if len(body.body) < _LARGE_BODY], _RAW_TIME_SHARE)
    exchanges = session.send_invalid([session.builder.create(body.body, body.headers) for body in small])
    allowed = session.expected.codes("body_malformed", "request_invalid", "model_unknown", "field_missing")
    for body, exchange in zip(small, exchanges, strict=False):
        session.check_refusal(exchange, allowed, "request/json", "a body without a valid request", body.name)
    for body in (body for body in bodies if len(body.body) >= _LARGE_BODY and session.budget.is_free):
        # A server may refuse a large body in any form, or close the connection, before it reads all of it.
        exchange = session.send(session.builder.create(body.body, body.headers), strict=False)
        if exchange.code == session.expected.success:
            session.report([Defect("request/json", "a body without a valid request is accepted")], exchange, body.name)


def check_valid_requests(session: Session) -> None:
    """Create the first tasks of a run, with requests that together have every option and limit of the contract.

    The batches that earlier checks have created are left out.
    """
    session.has_requested_tasks = True
    batches, base = pending_batches(session), accepted(session.builder.contract, callback=_UNUSED_URL)[0].request
    # Together with the tasks of earlier checks, as many as the documented rate allows at once, so that none waits.
    at_once = job_api().rate[0] - len(session.tasks)
    room = max(min(session.budget.remaining_tasks, at_once) - _TASKS_FOR_LATER, 0)
    if batches and not room:
        is_forbidden = session.target.spend_limit == 0
        too_little = "the balance or --spend does not cover its tasks"
        session.mark_unchecked("it would cost credits; allow them with --spend" if is_forbidden else too_little)
    _create_failing_task(session, base)
    for number in range(min(room, len(batches))):
        _send_batch(session, batches.pop(0), base, number)
        tasks.poll_pending(session)


def pending_batches(session: Session) -> list[RequestBatch]:
    """Return the batches of valid cases that the run has not sent yet; whoever sends one removes it."""
    if session.batches is None:
        cases = accepted(session.builder.contract, callback=_UNUSED_URL)
        session.batches = request_batches([case for case in cases if case.body is None], session.builder.contract)
    return session.batches


def take_batches(session: Session, count: int) -> list[tuple[RequestBatch, Any]]:
    """Remove the first pending batches that ask for no callback, and return each with its request.

    A check that needs any task creates one of these, so that no task shows less than it can.
    """
    pending, base = pending_batches(session), accepted(session.builder.contract, callback=_UNUSED_URL)[0].request
    taken: list[tuple[RequestBatch, Any]] = []
    if CALLBACK not in base:
        while len(pending) > _CALLBACKS and len(taken) < count:
            batch = pending.pop(_CALLBACKS)
            request = batch.request(base)
            request.pop(CALLBACK, None)
            taken.append((batch, request))
    return taken


def return_batch(session: Session, batch: RequestBatch) -> None:
    """Put back a batch whose request was not accepted, so that its cases are sent one by one later."""
    pending_batches(session).append(batch)


def _create_failing_task(session: Session, base: Any) -> None:
    """Create a task that fails, where the target and the contract have a way to ask for one."""
    contract = session.builder.contract
    schema, caption = contract.part("request"), profile_of(contract).caption
    failing, builder = base, session.builder
    if "faults" in session.capabilities:
        builder = builder.with_extra(((local.FAULT_HEADER, "task.fail"),))
    elif session.fail_prompt and caption:
        failing = set_at(base, schema, (job_api().fields.input, caption), session.fail_prompt)
    if failing is base and builder is session.builder:
        reason = (
            "the model takes no prompt" if session.fail_prompt else "no prompt is known; pass one with --fail-prompt"
        )
        session.mark_unchecked(f"a task cannot be made to fail: {reason}", "failure")
    elif not contract.request.accepts(failing):
        session.mark_unchecked("the contract does not allow the prompt of --fail-prompt", "failure")
    else:
        request, path = session.callback_addresses.assign(failing)
        outcome = tasks.create(session, request, "a task that fails", path=path, builder=builder)
        if isinstance(outcome, TrackedTask):
            outcome.is_meant_to_fail = True


def check_deferred_requests(session: Session) -> None:
    """Send other spellings of a valid request, and the valid cases for which there was no room at first.

    If the balance runs out, the target has to say so.
    """
    base = accepted(session.builder.contract, callback=_UNUSED_URL)[0].request
    spellings = [body for body in raw(session.builder.contract) if body.expected == "accept"]
    texts = [body for body in spellings if body.headers == JSON_HEADERS]
    types = [body for body in spellings if body.headers != JSON_HEADERS]
    # A text in one spelling, labelled with a type in another one, shows both, unless it is refused.
    for text, typed in itertools.zip_longest(texts, types):
        both = [body for body in (text, typed) if body is not None]
        is_accepted = _is_spelling_accepted(session, both[0].body, both[-1].headers, " and ".join(b.name for b in both))
        if not is_accepted and len(both) > 1:
            for body in both:
                _is_spelling_accepted(session, body.body, body.headers, body.name)
    pending = pending_batches(session)
    while pending:
        _send_batch(session, pending.pop(0), base, _CALLBACKS)
    if session.budget.is_exhausted:
        session.mark_unchecked("the balance did not cover all of its requests")


def _is_spelling_accepted(session: Session, body: bytes, headers: Headers, name: str) -> bool:
    session.budget.reserve()
    exchange = session.send(session.builder.create(body, headers), once=True)
    tasks.track(session, exchange, accepted(session.builder.contract)[0].request, name, is_followed=False)
    return not _report_if_refused(session, exchange, "request/spelling", name)


def _send_batch(session: Session, batch: RequestBatch, base: Any, number: int) -> None:
    request, path = batch.request(base), ""
    # Only the first batches request a callback, so that the run has few to wait for.
    if CALLBACK not in base:
        request.pop(CALLBACK, None)
    if number < _CALLBACKS or CALLBACK in base:
        fails_first = number == _CALLBACKS - 1
        request, path = session.callback_addresses.assign(request, batch.callback_suffix, fails_first=fails_first)
        _plan_responses(session, path, number)
    outcome = tasks.create(session, request, batch.name, path=path)
    if isinstance(outcome, TrackedTask):
        session.exercise(*batch.clauses)
    elif is_refused(session, outcome):
        if not path and _requires_callback(session, base):
            return
        # Sent one by one, the cases show which of them is refused. If none is, their combination is.
        refusals = [_refuses_case(session, case, base) for case in batch.cases if not _is_about_callback(case, base)]
        url = json.loads(outcome.request.body or b"{}").get(CALLBACK)
        if not any(refusals) and not (url and _refuses_callback(session, url, base)):
            _report_if_refused(session, outcome, _clause_of_case(batch.cases[0], base), batch.name)


def _plan_responses(session: Session, path: str, number: int) -> None:
    """Let the receiver respond to the callbacks of some batches as real receivers do, but our own would not."""
    if path and number == _EMPTY_RESPONSE:
        session.callback_addresses.accept_without_content(path)
    elif path and number == _REDIRECTED:
        session.callback_addresses.redirect(path)


def _requires_callback(session: Session, base: Any) -> bool:
    """Return whether the target refuses requests without a callback URL, although it is optional, and report it."""
    if CALLBACK in base or CALLBACK not in session.builder.contract.part("request").get("properties", {}):
        return False
    if not session.requires_callback:
        plain = tasks.create(session, base, "without a callback")
        if isinstance(plain, TrackedTask):
            return False
        request, path = session.callback_addresses.assign({**base, CALLBACK: _UNUSED_URL})
        if not isinstance(tasks.create(session, request, "with a callback", path=path), TrackedTask):
            return False
        title = f"a request without {CALLBACK}, which is optional, is refused with code {plain.code}"
        session.requires_callback = session.report([Defect(f"{CALLBACK}/type", title)], plain)
    return session.requires_callback


def _refuses_callback(session: Session, url: str, base: Any) -> bool:
    """Return whether the target refuses any callback, or this URL, and report it.

    A target that refuses every URL of this machine may have a reason, so that is a defect only with
    ``--require callbacks``.
    """
    plain, path = session.callback_addresses.assign(base)
    outcome = tasks.create(session, plain, "with a callback", path=path)
    if not isinstance(outcome, TrackedTask) and "callbacks" in session.target.required:
        return _report_if_refused(session, outcome, f"{CALLBACK}/format", "with a callback")
    if not isinstance(outcome, TrackedTask):
        session.mark_unchecked("the target refuses callbacks to this machine; see --callback-host", "callbacks")
        session.callback_addresses.receiver = None
        return is_refused(session, outcome)
    again = tasks.create(session, {**base, CALLBACK: url}, "with this callback")
    return not isinstance(again, TrackedTask) and _report_if_refused(session, again, f"{CALLBACK}/format", "")


def _refuses_case(session: Session, case: AcceptedCase, base: Any) -> bool:
    """Send one case and return whether the target refuses it."""
    request, path = case.request, ""
    if CALLBACK in request and case.body is None:
        request, path = session.callback_addresses.assign(request)
    outcome = tasks.create(session, request, case.name, body=case.body, path=path)
    if isinstance(outcome, TrackedTask):
        session.exercise(*case.clauses, *(("request/spelling",) if case.body else ()))
        return False
    return _report_if_refused(session, outcome, _clause_of_case(case, base), case.name)


def _report_if_refused(session: Session, exchange: Exchange, clause: str, name: str) -> bool:
    """Report a refused valid request, and return whether it is refused."""
    if not is_refused(session, exchange):
        if session.has_created_task(exchange):
            session.exercise(clause)
        return False
    session.exercise(clause)
    title = f"a request that keeps {clause} is refused with code {exchange.code}"
    allowed, seconds = job_api().rate
    # With more tasks than allowed, the target has no rate limit; with fewer, the rate is not the reason.
    if session.tasks_created_within(seconds) == allowed and not session.log.has_finding("createTask/rate"):
        # A target that accepts the same request some seconds later limits the rate, but does not say so.
        session.pause(seconds)
        session.budget.reserve()
        again = session.send(exchange.request, once=True)
        tasks.track(session, again, {}, "once more", is_followed=False)
        if again.code == session.expected.success:
            clause, title = "createTask/rate", f"a task beyond the rate is refused with code {exchange.code}"
    return session.report([Defect(clause, title)], exchange, name)


def is_refused(session: Session, exchange: Exchange) -> bool:
    """Return whether a request is refused for another reason than credits."""
    if session.has_created_task(exchange):
        return False
    insufficient = session.expected.codes("credits_insufficient")
    if exchange.code in insufficient and (session.budget.is_exhausted or not session.budget.remaining_tasks):
        return False
    # The observed dialect uses one code for insufficient credits and for invalid requests.
    lawful = {session.expected.success, *(insufficient - session.expected.codes("request_invalid"))}
    return exchange.code is not None and exchange.code not in lawful


def _is_about_callback(case: AcceptedCase, base: Any) -> bool:
    return (CALLBACK,) in changes(base, case.request)


def _clause_of_case(case: AcceptedCase, base: Any) -> str:
    """Return the clause that a case is about: how it is written, or what differs from the smallest request."""
    if case.body is not None:
        return "request/spelling"
    prefixes = tuple(f"{'.'.join(map(str, path))}/" for path in changes(base, case.request))
    return min((clause for clause in case.clauses if clause.startswith(prefixes)), key=_rank, default="request/type")


def likely_clause(session: Session, request: Any) -> str:
    """Return the clause for which a target most likely refuses a valid request."""
    changed = changes(accepted(session.builder.contract)[0].request, request)
    fields = [".".join(map(str, path)) for path in changed] or ["request"]
    stated = (clause for clause in session.log.clauses if clause.split("/")[0] in fields)
    return min(stated, key=_rank, default="request/type")


def _rank(clause: str) -> int:
    """Return how specific a clause is: an option of an enum comes first, then a limit, and a type last."""
    kinds = ("enum/", "Length", "Items", "imum", "format", "pattern", "enum")
    return next((rank for rank, kind in enumerate(kinds) if kind in clause.partition("/")[2]), len(kinds))


@dataclass
class RequestBatch:
    """Several valid cases in one request.

    Attributes:
        cases: The cases.
        changes: What differs from the smallest request, by path.
    """

    cases: list[AcceptedCase] = field(default_factory=list)
    changes: dict[Path, Any] = field(default_factory=dict)

    def request(self, base: Any) -> Any:
        """Return the request, made from the smallest one."""
        whole = json.loads(json.dumps(base))
        for path, value in self.changes.items():
            # A field that is left out does not need its parents.
            if value is ABSENT and get_at(whole, path) is ABSENT:
                continue
            holder = whole
            for name in path[:-1]:
                holder = holder.setdefault(name, {})
            if value is ABSENT:
                holder.pop(path[-1], None)
            else:
                holder[path[-1]] = value
        return whole

    def has_room_for(self, changed: dict[Path, Any], base: Any, contract: Contract) -> bool:
        """Return whether further changes touch other fields than the present ones, and the request stays valid."""
        if self.changes.keys() & changed.keys():
            return False
        return contract.request.accepts(RequestBatch(self.cases, {**self.changes, **changed}).request(base))

    @property
    def name(self) -> str:
        """The names of the cases."""
        return "; ".join(case.name for case in self.cases)

    @property
    def clauses(self) -> tuple[str, ...]:
        """IDs of the clauses that the request keeps."""
        return tuple(clause for case in self.cases for clause in case.clauses)

    @property
    def callback_suffix(self) -> str:
        """Path and query to append to a callback URL, empty if the batch has no special callback."""
        parts = urlsplit(str(self.changes.get((CALLBACK,), "")))
        return f"{parts.path}?{parts.query}".rstrip("?")


def request_batches(cases: Sequence[AcceptedCase], contract: Contract) -> list[RequestBatch]:
    """Pack cases into as few requests as can hold them, those with the most new clauses first.

    Args:
        cases: The cases, the smallest request first.
        contract: The contract. Every pair of its enum options is a case, so a batch has exactly one such case.
    """
    base = cases[0].request
    enums = [path for path, node in locations(contract.part("request")) if "enum" in node.schema]
    options = frozenset(path for path in enums if 0 not in path)  # options of array items are not packed
    chosen = [case for case in cases if case is cases[0] or changes(base, case.request).keys() & options]
    batches = []
    left, known = list(chosen), set[str]()
    while left:
        case = max(left, key=lambda case: len(set(case.clauses) - known))
        left.remove(case)
        known.update(case.clauses)
        fixed = {path: get_at(case.request, path) for path in options}
        batches.append(RequestBatch([case], {**fixed, **changes(base, case.request)}))
    # The remaining cases change other fields, so each goes into the first batch that has not changed these yet.
    for case in cases:
        if case not in chosen:
            changed = changes(base, case.request)
            batch = next((batch for batch in batches if batch.has_room_for(changed, base, contract)), None)
            if batch is None:
                batches.append(batch := RequestBatch())
            batch.cases.append(case)
            batch.changes |= changed
    return batches


def changes(base: Any, request: Any, path: Path = ()) -> dict[Path, Any]:
    """Return the paths at which a request differs from another, with the values there."""
    if isinstance(base, dict) and isinstance(request, dict):
        found: dict[Path, Any] = {}
        for name in base.keys() | request.keys():
            found |= changes(base.get(name, ABSENT), request.get(name, ABSENT), (*path, name))
        return found
    # The types too, because 1 == True == 1.0 in Python and not in JSON Schema.
    return {} if type(base) is type(request) and base == request else {path: request}
