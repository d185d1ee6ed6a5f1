"""Check recorded traffic of a service on both sides, without sending anything."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

from seedbed_schemas import default_contract
from seedbed_schemas.dialect import dialects, documented
from seedbed_schemas.validation import for_display

from seedbed_contract.cases.requests import kept_clauses
from seedbed_contract.detection import http_status_of
from seedbed_contract.display import KEY_VARIABLE, redact, sample_of, sample_of_received
from seedbed_contract.findings import CheckResult, FindingLog, NotChecked, Report
from seedbed_contract.http import NOT_JSON, parse_json
from seedbed_contract.reports.wording import counted
from seedbed_contract.rules import envelope
from seedbed_contract.rules.callback_request import exercised_callback_clauses
from seedbed_contract.rules.task_record import APPEARS_WITHIN, change_defects, exercised_clauses, record_defects
from seedbed_contract.strategies import breakable_clauses
from seedbed_contract.target import OK, Expectations
from seedbed_contract.traffic import callers
from seedbed_contract.traffic.har import MISSING_KEY, keys_of
from seedbed_contract.traffic.recording import (
    CREATE,
    OTHER_URL,
    RECORD,
    callbacks_of,
    have_same_key,
    record_before,
    recorded_callback_defects,
    recording_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from seedbed_schemas import Contract
    from seedbed_schemas.dialect import Dialect

    from seedbed_contract.findings import Sample
    from seedbed_contract.target import DialectName, HttpStatusName
    from seedbed_contract.traffic.har import RecordedExchange
    from seedbed_contract.traffic.recording import Poll, RecordedCall, Recording, TaskHistory


_CHECKS: Final = {
    "traffic.requests": "requests of the caller",
    "traffic.answers": "responses of the service",
    "traffic.tasks": "records of each task, in order of time",
    "traffic.callbacks": "callbacks of the service",
}
_SHAPES: Final = {
    "credit": "creditAnswer",
    "models": "modelsAnswer",
    "modelSchema": "modelSchemaAnswer",
    "downloadUrl": "downloadUrlAnswer",
}
_CASES_OF_ANY_CALL: Final = (
    *("key_refused", "credits_insufficient", "rate_exceeded", "under_maintenance", "internal_error"),
    "feature_disabled",
)
"""Cases that depend on facts outside the recording: the account, and the state of the service."""
_CASES_OF_BAD_REQUESTS: Final = (
    *("model_unknown", "body_malformed", "request_invalid", "field_missing", "option_unknown"),
    "text_too_long",
)


def check_traffic(
    recorded: Sequence[RecordedExchange],
    target: str,
    *,
    contract: Contract | None = None,
    base_url: str = "",
    dialect: DialectName = "auto",
    http_status: HttpStatusName = "auto",
    signing_key: str = "",
    on_checked: Callable[[int], None] = lambda _calls: None,
) -> Report:
    """Check recorded traffic, both requests and responses, and return the report.

    Args:
        recorded: All exchanges of the file.
        target: Name for the report, such as the name of the file.
        contract: Contract to check against; default: the contract that Seedbed ships with.
        base_url: Base URL of the service; default: the one that most calls go to.
        dialect: Dialect of the service, or ``auto`` to detect it.
        http_status: HTTP status mode of the service, or ``auto`` to detect it.
        signing_key: Key that signs the callbacks; empty if it is unknown.
        on_checked: Called with the number of calls that were checked since the last time.

    Raises:
        HarError: The recording contains no call of the service.
    """
    contract = contract or default_contract()
    recording = recording_of(recorded, contract, base_url)
    expected = detect_expectations(recording, contract, dialect, http_status)
    checker = _TrafficChecker(recording, expected, keys_of((call.recorded for call in recording.calls), contract))
    for call in recording.calls:
        checker.check_call(call)
        on_checked(1)
    checker.check_tasks(recording.histories(), recorded, signing_key)
    return checker.report(target)


# Detection


def detect_expectations(
    recording: Recording, contract: Contract, dialect: DialectName, http_status: HttpStatusName
) -> Expectations:
    """Return what the responses of a recording are checked against."""
    spoken = _detect_dialect(recording, contract) if dialect == "auto" else dialects()[dialect]
    if http_status == "auto":
        http_status = http_status_of((call.recorded.status, call.exchange.code) for call in recording.calls)
    return Expectations(contract, spoken, http_status, is_dialect_given=dialect != "auto")


def _detect_dialect(recording: Recording, contract: Contract) -> Dialect:
    """Return the dialect that most records and refusals fit; each one that fits only one dialect votes for it."""
    votes = Counter[str]()
    for call in recording.calls_of(RECORD):
        data = call.exchange.data
        text = data.get("param") if isinstance(data, dict) else None
        param = parse_json(text) if isinstance(text, str) else None
        if isinstance(param, dict) and "input" in param:
            is_text = isinstance(param["input"], str)
            votes.update(title for title, dialect in dialects().items() if dialect.input_is_text == is_text)
    by_dialect = {title: Expectations(contract, dialect, "envelope") for title, dialect in dialects().items()}
    for call in recording.calls_of(CREATE):
        violations = contract.request.violations(call.request) if call.request is not NOT_JSON else []
        for violation in violations[:1]:
            codes = {title: expected.codes_of_violation(violation.clause) for title, expected in by_dialect.items()}
            fitting = [title for title in codes if call.exchange.code in codes[title]]
            votes.update(fitting if len(fitting) == 1 else ())
    return dialects()[votes.most_common(1)[0][0]] if votes else documented()


# Checks


class _TrafficChecker:
    def __init__(self, recording: Recording, expected: Expectations, keys: dict[str, str]) -> None:
        self._recording = recording
        self._expected = expected
        self._keys = keys
        self._secrets = {**keys, MISSING_KEY: KEY_VARIABLE}
        self._log = FindingLog(expected.contract, breakable_clauses(expected.contract))
        self._creations: dict[str, RecordedCall] = {}
        self._findings = dict.fromkeys(_CHECKS, 0)
        self._checked = dict.fromkeys(_CHECKS, 0)
        self._other_models = recording.other_models(expected.contract.model)

    def check_call(self, call: RecordedCall) -> None:
        """Check one call alone, the request and the response."""
        contract = self._expected.contract
        ids = [call.exchange.task_id] if call.operation == CREATE else call.task_ids if call.operation == RECORD else []
        model = callers.other_model(call, self._expected) if call.operation == CREATE else ""
        if model := model or next((self._other_models[one] for one in ids if one in self._other_models), ""):
            self._log.mark_unchecked(f"tasks of {for_display(model)}", "the contract is for another model")
            return
        self._checked["traffic.requests"] += 1
        for defect, details in callers.request_defects(call, contract):
            self._report("traffic.requests", [defect], call, details, side="caller")
        if call.exchange.response is None or not callers.has_documented_method(call, contract):
            return
        self._report("traffic.answers", envelope.form_defects(call.exchange, self._expected, self._keys), call)
        self._log.exercise_response(call.exchange)
        if call.operation == CREATE:
            self._check_creation(call)
        elif call.operation in _SHAPES and call.exchange.code == self._expected.success:
            response = call.exchange.response
            if response and isinstance(response.json, dict):
                shape = _SHAPES[call.operation]
                self._report("traffic.answers", envelope.shape_defects(shape, response.json), call)
                self._log.exercise_shape(shape, response.json)
        elif call.operation == RECORD and not any(call.task_ids):
            codes = self._expected.codes("task_id_missing", "task_unknown")
            self._check_refusal(call, "recordInfo/missing", "a request without a task ID", codes)

    def _check_creation(self, call: RecordedCall) -> None:
        """Check that a task ID is new, and that the request is accepted or refused as it must be."""
        task_id = call.exchange.task_id
        if task_id and call.exchange.code == self._expected.success:
            first = self._creations.setdefault(task_id, call)
            # A file may hold one exchange twice, if both a browser and a proxy recorded it.
            if first.recorded.started != call.recorded.started:
                title = "two tasks have the same ID"
                self._report("traffic.answers", [envelope.Defect("createTask/unique", title)], call)
            self._log.exercise(("createTask/unique",))
        is_ambiguous = callers.has_repeated_names(call) or (
            callers.is_malformed(call) and not callers.is_unparsable(call)
        )
        if call.recorded.request_body is None or is_ambiguous:
            return
        violations = callers.violations_of(call, self._expected.contract)
        if violations and self._expected.may_be_accepted(call.request):
            return
        if callers.is_malformed(call):
            codes = self._expected.codes("body_malformed", "request_invalid", "model_unknown")
            self._check_refusal(call, "request/json", "a body that is not valid JSON", codes)
        elif violations:
            # The service may report any of the violations.
            codes = frozenset().union(*(self._expected.codes_of_violation(one.clause) for one in violations))
            clause = violations[0].clause
            self._check_refusal(call, clause, f"a request that violates {clause}", codes)
        else:
            self._check_acceptance(call)

    def _check_refusal(self, call: RecordedCall, clause: str, what: str, codes: frozenset[int]) -> None:
        allowed = codes | self._expected.codes(*_CASES_OF_ANY_CALL)
        self._log.exercise((clause,), "refusing")
        self._report("traffic.answers", envelope.refusal_defects(call.exchange, allowed, clause, what), call)

    def _check_acceptance(self, call: RecordedCall) -> None:
        expected, code = self._expected, call.exchange.code
        self._log.exercise(kept_clauses(expected.contract, call.request))
        if code == expected.success:
            self._report("traffic.answers", envelope.creation_defects(call.exchange, expected), call)
            return
        blaming = expected.codes(*_CASES_OF_BAD_REQUESTS) - expected.codes(*_CASES_OF_ANY_CALL) - {expected.success}
        if code in blaming and callers.must_be_accepted(call, expected.contract):
            defect = envelope.Defect(f"code/{code}", f"a valid request is refused with code {code}")
            self._report("traffic.answers", [defect], call)

    def check_tasks(
        self, histories: Sequence[TaskHistory], recorded: Iterable[RecordedExchange], signing_key: str
    ) -> None:
        """Check the records of each task in order of time, and the recorded callbacks."""
        histories = [history for history in histories if history.task_id not in self._other_models]
        polls = {history.task_id: self._check_history(history) for history in histories}
        accepted_at: dict[str, float] = {}
        for history, received in callbacks_of(recorded, histories):
            self._checked["traffic.callbacks"] += 1
            self._log.exercise(exercised_callback_clauses(signing_key))
            sample = partial(sample_of_received, received, self._secrets)
            defects = recorded_callback_defects(history, received, polls[history.task_id], self._expected, signing_key)
            self._add("traffic.callbacks", defects, sample)
            if received.status == OK and accepted_at.setdefault(history.task_id, received.time) != received.time:
                again = envelope.Defect("callback/once", "a callback is sent again after it was accepted")
                self._add("traffic.callbacks", [again], sample)

    def _check_history(self, history: TaskHistory) -> list[Poll]:
        """Check the records of a task, and return them."""
        polls: list[Poll] = []
        unknown = self._expected.codes("task_unknown") - self._expected.codes("internal_error")
        for call in history.polls:
            self._checked["traffic.tasks"] += 1
            if call.exchange.code != self._expected.success:
                if call.exchange.code in unknown:
                    self._check_absence(history, call, was_seen=bool(polls))
                continue
            record = call.exchange.data
            request = history.request(record, self._expected.contract)
            self._report("traffic.tasks", record_defects(record, history.task_id, request, self._expected), call)
            if history.creation:
                self._log.exercise(("createTask/usable",))
            if not isinstance(record, dict):
                continue
            before = record_before(call, polls)
            if before is not None:
                self._report("traffic.tasks", change_defects(before, record), call)
                self._log.exercise(("life/forward", "recordInfo/same"))
            polls.append((record, call))
            self._log.exercise_shape("record", record)
            self._log.exercise(exercised_clauses(record))
        return polls

    def _check_absence(self, history: TaskHistory, call: RecordedCall, *, was_seen: bool) -> None:
        """Report a missing task, unless it is new or the call may come from another account."""
        creation = history.creation
        if creation is None or not have_same_key(creation, call, self._expected.contract):
            return
        age = call.recorded.started - creation.recorded.ended if creation.recorded.started else 0.0
        if was_seen or age > APPEARS_WITHIN:
            title = "a task cannot be fetched by the ID that createTask returned"
            self._report("traffic.tasks", [envelope.Defect("createTask/usable", title)], call)

    # Findings

    def _report(
        self,
        check: str,
        defects: Iterable[envelope.Defect],
        call: RecordedCall,
        details: str = "",
        *,
        side: str = "service",
    ) -> None:
        case = (
            redact(details, self._secrets) or f"entry {call.recorded.index + 1} of {call.recorded.source or 'the file'}"
        )
        sample = partial(sample_of, call.exchange, self._recording.base_url, self._secrets)
        self._checked[check] = max(self._checked[check], 1)
        self._add(check, defects, sample, case, side=side)

    def _add(
        self,
        check: str,
        defects: Iterable[envelope.Defect],
        sample: Callable[[], Sample],
        case: str = "",
        *,
        side: str = "service",
    ) -> None:
        for defect in defects:
            known = self._log.count
            self._log.add(defect, check, sample(), case, side=side)
            self._findings[check] += self._log.count - known

    def report(self, target: str) -> Report:
        """Return the report."""
        log, recording, expected = self._log, self._recording, self._expected
        log.mark_unchecked(
            "authorisation", "a recording does not show which keys are valid, and recorders often remove keys"
        )
        # A callback goes to another URL than that of the service, but it has been checked.
        skipped = recording.skipped - Counter({OTHER_URL: self._checked["traffic.callbacks"]})
        return Report(
            target=target,
            dialect=expected.dialect.title,
            http_status=expected.http_status,
            seed=0,
            requests=sum(call.exchange.response is not None for call in recording.calls),
            tasks=len(self._creations),
            findings=log.findings,
            checks=[
                CheckResult(
                    name=name,
                    about=about,
                    seconds=0.0,
                    findings=self._findings[name],
                    reason="" if self._checked[name] else "the recording contains none",
                    is_checked=bool(self._checked[name]),
                )
                for name, about in _CHECKS.items()
            ],
            not_checked=[
                *log.not_checked,
                *(NotChecked(counted(count, "exchange"), reason) for reason, count in skipped.items()),
            ],
            coverage=log.coverage,
            remarks=[f"Recorded traffic of {recording.base_url}; nothing was sent."],
            is_recorded=True,
        )
