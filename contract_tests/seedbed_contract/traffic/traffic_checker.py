"""What recorded answers are held against, where nobody told which dialect the service speaks."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

from seedbed_schemas import default_contract
from seedbed_schemas.dialect import dialects, documented
from seedbed_schemas.validation import for_display

from seedbed_contract.cases.requests import kept_clauses
from seedbed_contract.display import KEY_VARIABLE, redact, sample_of, sample_of_received
from seedbed_contract.findings import CheckResult, FindingLog, NotChecked, Report
from seedbed_contract.http import NOT_JSON, parse_json
from seedbed_contract.reports.wording import counted
from seedbed_contract.rules.callback_request import exercised_callback_clauses as clauses_of_callback
from seedbed_contract.rules.envelope import (
    FORM_CLAUSES,
    Defect,
    creation_defects,
    form_defects,
    refusal_defects,
    shape_defects,
)
from seedbed_contract.rules.task_record import APPEARS_WITHIN, change_defects, exercised_clauses, record_defects
from seedbed_contract.strategies import breakable_clauses
from seedbed_contract.target import OK, Expectations
from seedbed_contract.traffic.callers import (
    has_repeated_names,
    is_beyond_doubt,
    is_by_the_documented_method,
    is_malformed,
    is_no_request,
    other_model,
    request_flaws,
    violations_of,
)
from seedbed_contract.traffic.har import LEFT_OUT, keys_of
from seedbed_contract.traffic.recording import (
    CREATE,
    ELSEWHERE,
    RECORD,
    asked,
    callbacks_of,
    flaws_of_callback,
    is_of_one_key,
    last_before,
    recording_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from seedbed_schemas import Contract
    from seedbed_schemas.dialect import Dialect

    from seedbed_contract.findings import Sample
    from seedbed_contract.target import DialectName, HttpStatus, HttpStatusName
    from seedbed_contract.traffic.har import RecordedExchange
    from seedbed_contract.traffic.recording import Look, RecordedCall, Recording, TaskHistory


_AT_ANY_TIME: Final = (
    *("key_refused", "credits_insufficient", "rate_exceeded", "under_maintenance", "internal_error"),
    "feature_disabled",
)
"""Cases that depend on what no recording shows: the account, and how the service fares."""
_BAD_REQUESTS: Final = (
    *("model_unknown", "body_malformed", "request_invalid", "field_missing", "option_unknown"),
    "text_too_long",
)


def codes_at_any_time(expected: Expectations) -> frozenset[int]:
    """Return the codes with which any call may be refused, whatever it asks for."""
    return expected.codes(*_AT_ANY_TIME)


def codes_of_bad_requests(expected: Expectations) -> frozenset[int]:
    """Return the codes that say that a request was wrong, and nothing else."""
    return expected.codes(*_BAD_REQUESTS) - codes_at_any_time(expected) - {expected.success}


def expectations_of(
    recording: Recording, contract: Contract, dialect: DialectName, http_status: HttpStatusName
) -> Expectations:
    """Return what the answers of a recording are held against.

    Args:
        recording: What was recorded.
        contract: The contract.
        dialect: The dialect that was named, or ``auto``.
        http_status: How codes are said to travel, or ``auto``.
    """
    spoken = _dialect(recording, contract) if dialect == "auto" else dialects()[dialect]
    carried = _http_status(recording) if http_status == "auto" else http_status
    return Expectations(contract, spoken, carried, is_dialect_given=dialect != "auto")


def _http_status(recording: Recording) -> HttpStatus:
    """Return how most of the refusals travel; where there is none, as the service itself does it."""
    pairs = [(call.recorded.status, call.exchange.code) for call in recording.calls]
    mirrored = sum(status == code != OK for status, code in pairs)
    enveloped = sum(status == OK and code not in {None, OK} for status, code in pairs)
    return "mirror" if mirrored > enveloped else "envelope"


def _dialect(recording: Recording, contract: Contract) -> Dialect:
    votes = Counter([*_votes_of_records(recording), *_votes_of_refusals(recording, contract)])
    return dialects()[votes.most_common(1)[0][0]] if votes else documented()


def _votes_of_records(recording: Recording) -> Iterator[str]:
    for call in recording.of(RECORD):
        param = parse_json(call.exchange.data["param"]) if _has_param(call) else None
        if isinstance(param, dict) and "input" in param:
            is_text = isinstance(param["input"], str)
            yield from (title for title, dialect in dialects().items() if dialect.input_is_text == is_text)


def _has_param(call: RecordedCall) -> bool:
    return isinstance(call.exchange.data, dict) and isinstance(call.exchange.data.get("param"), str)


def _votes_of_refusals(recording: Recording, contract: Contract) -> Iterator[str]:
    for call in recording.of(CREATE):
        violations = contract.request.violations(call.request) if call.request is not NOT_JSON else []
        for violation in violations[:1]:
            expected = {title: Expectations(contract, dialect, "envelope") for title, dialect in dialects().items()}
            fitting = [t for t, e in expected.items() if call.exchange.code in e.codes_of_violation(violation.clause)]
            yield from fitting if len(fitting) == 1 else ()


_SHAPES: Final = {
    "credit": "creditAnswer",
    "models": "modelsAnswer",
    "modelSchema": "modelSchemaAnswer",
    "downloadUrl": "downloadUrlAnswer",
}


def check_traffic(
    recorded: Sequence[RecordedExchange],
    target: str,
    *,
    contract: Contract | None = None,
    base_url: str = "",
    dialect: DialectName = "auto",
    http_status: HttpStatusName = "auto",
    signing_key: str = "",
    noted: Callable[[int], None] = lambda _calls: None,
) -> Report:
    """Return the report of recorded traffic, of both sides; nothing is sent.

    Args:
        recorded: Every exchange of the file.
        target: What the report calls it, such as the name of the file.
        contract: The contract, by default that of the shipped model.
        base_url: Where the service is; without it, where most of the calls go.
        dialect: How the service answers, or ``auto``.
        http_status: How it carries codes, or ``auto``.
        signing_key: What signs the callbacks, empty where that is not known.
        noted: Told how many further calls have been judged.

    Raises:
        HarError: There is no call of the service in it.
    """
    contract = contract or default_contract()
    recording = recording_of(recorded, contract, base_url)
    expected = expectations_of(recording, contract, dialect, http_status)
    judge = _TrafficChecker(recording, expected, keys_of((call.recorded for call in recording.calls), contract))
    for call in recording.calls:
        judge.call(call)
        noted(1)
    judge.stories(recording.stories(), recorded, signing_key)
    return judge.report(target)


class _TrafficChecker:
    def __init__(self, recording: Recording, expected: Expectations, keys: dict[str, str]) -> None:
        self._recording = recording
        self._expected = expected
        self._keys = keys
        self._shown_as = {**keys, LEFT_OUT: KEY_VARIABLE}
        self._ledger = FindingLog(expected.contract, breakable_clauses(expected.contract))
        self._names: dict[str, RecordedCall] = {}
        self._found = dict.fromkeys(_CHECKS, 0)
        self._judged = dict.fromkeys(_CHECKS, 0)

    # Calls

    def call(self, call: RecordedCall) -> None:
        """Judge one call by itself, the caller's side and the service's."""
        other = other_model(call, self._expected) if call.operation == CREATE else ""
        if other:
            self._ledger.mark_unchecked(f"tasks of {for_display(other)}", "the contract is about another model")
            return
        self._judged["traffic.requests"] += 1
        for flaw, particulars in request_flaws(call, self._expected.contract):
            self._find("traffic.requests", [flaw], call, particulars, side="caller")
        if not is_by_the_documented_method(call, self._expected.contract):
            return
        self._form(call)
        if call.operation == CREATE:
            self._name(call)
            self._creation(call)
        elif call.operation in _SHAPES and call.exchange.code == self._expected.success:
            self._shape(call, _SHAPES[call.operation])
        elif call.operation == RECORD and not any(call.task_ids):
            self._refusal(call, "recordInfo/missing", "a query that names no task", ("task_id_missing", "task_unknown"))

    def _form(self, call: RecordedCall) -> None:
        self._find("traffic.answers", form_defects(call.exchange, self._expected, self._keys), call)
        self._ledger.exercise(FORM_CLAUSES)
        if call.exchange.response and isinstance(call.exchange.response.json, dict):
            self._ledger.exercise((f"code/{call.exchange.code}",))
            self._ledger.exercise_shape("envelope", call.exchange.response.json)
            self._ledger.exercise_shape("answer", call.exchange.response.json)

    def _shape(self, call: RecordedCall, name: str) -> None:
        answer = call.exchange.response
        if answer and isinstance(answer.json, dict):
            self._find("traffic.answers", shape_defects(name, answer.json), call)
            self._ledger.exercise_shape(name, answer.json)

    def _creation(self, call: RecordedCall) -> None:
        violations = violations_of(call, self._expected.contract)
        if (
            call.recorded.request_body is None
            or has_repeated_names(call)
            or (is_malformed(call) and not is_no_request(call))
        ):
            return
        if is_malformed(call):
            self._refusal(
                call, "request/json", "a body that is no JSON", ("body_malformed", "request_invalid", "model_unknown")
            )
        elif violations:
            codes = [self._expected.codes_of_violation(violation.clause) for violation in violations]
            self._refused(
                call, violations[0].clause, f"a request that breaks {violations[0].clause}", frozenset().union(*codes)
            )
        else:
            self._accepted(call)

    def _refusal(self, call: RecordedCall, clause: str, what: str, cases: Iterable[str]) -> None:
        self._refused(call, clause, what, self._expected.codes(*cases))

    def _refused(self, call: RecordedCall, clause: str, what: str, codes: frozenset[int]) -> None:
        allowed = codes | codes_at_any_time(self._expected)
        self._ledger.exercise((clause,), "refusing")
        self._find("traffic.answers", refusal_defects(call.exchange, allowed, clause, what), call)

    def _accepted(self, call: RecordedCall) -> None:
        self._ledger.exercise(kept_clauses(self._expected.contract, call.request))
        code = call.exchange.code
        if code == self._expected.success:
            self._find("traffic.answers", creation_defects(call.exchange, self._expected), call)
        elif code in codes_of_bad_requests(self._expected) and is_beyond_doubt(call, self._expected.contract):
            flaw = Defect(f"code/{code}", f"a request that keeps the contract is refused with code {code}")
            self._find("traffic.answers", [flaw], call)

    def _name(self, call: RecordedCall) -> None:
        if call.exchange.code != self._expected.success or not call.exchange.task_id:
            return
        known = self._names.setdefault(call.exchange.task_id, call)
        # The same exchange may stand in a file twice, where a browser and a proxy both kept it.
        if known.recorded.started != call.recorded.started:
            self._find("traffic.answers", [Defect("createTask/unique", "two tasks have the same name")], call)
        self._ledger.exercise(("createTask/unique",))

    # Tasks

    def stories(self, stories: Sequence[TaskHistory], recorded: Iterable[RecordedExchange], signing_key: str) -> None:
        """Judge what a recording tells of each task, and the callbacks that are in it."""
        seen = {story.task_id: self._story(story) for story in stories}
        taken: dict[str, float] = {}
        for story, received in callbacks_of(recorded, stories):
            self._judged["traffic.callbacks"] += 1
            self._ledger.exercise(clauses_of_callback(signing_key))
            sample = partial(sample_of_received, received, self._shown_as)
            flaws = flaws_of_callback(story, received, seen[story.task_id], self._expected, signing_key)
            self._note("traffic.callbacks", flaws, sample)
            if received.status == OK and taken.setdefault(story.task_id, received.time) != received.time:
                again = Defect("callback/once", "a callback that was taken is sent again")
                self._note("traffic.callbacks", [again], sample)

    def _story(self, story: TaskHistory) -> list[Look]:
        seen: list[Look] = []
        for call in story.looks:
            self._judged["traffic.tasks"] += 1
            if call.exchange.code == self._expected.success:
                self._look(story, call, seen)
            elif call.exchange.code in self._expected.codes("task_unknown") - self._expected.codes("internal_error"):
                self._absence(story, call, was_seen=bool(seen))
        return seen

    def _look(self, story: TaskHistory, call: RecordedCall, seen: list[Look]) -> None:
        record = call.exchange.data
        request = asked(story, record, self._expected.contract)
        self._find("traffic.tasks", record_defects(record, story.task_id, request, self._expected), call)
        if story.creation:
            self._ledger.exercise(("createTask/usable",))
        if not isinstance(record, dict):
            return
        before = last_before(call, seen)
        if before is not None:
            self._find("traffic.tasks", change_defects(before, record), call)
            self._ledger.exercise(("life/forward", "recordInfo/same"))
        seen.append((record, call))
        self._ledger.exercise_shape("record", record)
        self._ledger.exercise(exercised_clauses(record))

    def _absence(self, story: TaskHistory, call: RecordedCall, *, was_seen: bool) -> None:
        """A task may be unknown for a moment after it was made, and at any time to another account."""
        made = story.creation
        if made is None or not is_of_one_key(made, call, self._expected.contract):
            return
        age = call.recorded.started - made.recorded.ended if made.recorded.started else 0.0
        if was_seen or age > APPEARS_WITHIN:
            title = "a task cannot be looked at, though its name was given back"
            self._find("traffic.tasks", [Defect("createTask/usable", title)], call)

    # What was found

    def _find(
        self, check: str, flaws: Iterable[Defect], call: RecordedCall, also: str = "", *, side: str = "service"
    ) -> None:
        particulars = redact(also, self._shown_as) or f"entry {call.recorded.index + 1} of the file"
        sample = partial(sample_of, call.exchange, self._recording.base_url, self._shown_as)
        self._judged[check] = max(self._judged[check], 1)
        self._note(check, flaws, sample, particulars, side=side)

    def _note(
        self,
        check: str,
        flaws: Iterable[Defect],
        sample: Callable[[], Sample],
        also: str = "",
        *,
        side: str = "service",
    ) -> None:
        for flaw in flaws:
            known = self._ledger.count
            self._ledger.find(flaw, check, sample(), also, side=side)
            self._found[check] += self._ledger.count - known

    def report(self, target: str) -> Report:
        """Return what was found."""
        ledger, recording, expected = self._ledger, self._recording, self._expected
        ledger.mark_unchecked(
            "authorisation", "a recording does not tell which keys are good, and recorders take keys out"
        )
        report = Report(target, expected.dialect.title, expected.http_status, 0, len(recording.calls), is_recorded=True)
        report.tasks = len(self._names)
        report.findings, report.coverage = ledger.findings, ledger.coverage
        # A callback goes elsewhere than to the service, and is judged all the same.
        aside = recording.aside - Counter({ELSEWHERE: self._judged["traffic.callbacks"]})
        counts = (NotChecked(counted(count, "exchange"), reason) for reason, count in aside.items())
        report.not_checked = [*ledger.not_checked, *counts]
        report.checks = [self._result(name) for name in _CHECKS]
        report.remarks = [f"The traffic of {recording.base_url} as it was recorded; nothing was sent."]
        return report

    def _result(self, name: str) -> CheckResult:
        is_checked = bool(self._judged[name])
        reason = "" if is_checked else "the recording has none"
        return CheckResult(name, _CHECKS[name], 0.0, self._found[name], reason, is_checked=is_checked)


_CHECKS: Final = {
    "traffic.requests": "what the caller sent keeps the contract",
    "traffic.answers": "what the service answered keeps the contract",
    "traffic.tasks": "what the service told of each task, one look after the other",
    "traffic.callbacks": "what the service called back",
}
