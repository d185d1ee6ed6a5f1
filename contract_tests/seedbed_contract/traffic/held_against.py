"""What recorded answers are held against, where nobody told which dialect the service speaks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from seedbed_schemas.dialect import dialects, documented

from seedbed_contract.exchange import NOT_JSON, parse_json
from seedbed_contract.expectations import OK, Expectations
from seedbed_contract.traffic.recording import CREATE, RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_schemas import Contract
    from seedbed_schemas.dialect import Dialect

    from seedbed_contract.expectations import HttpStatus
    from seedbed_contract.target import DialectName, HttpStatusName
    from seedbed_contract.traffic.recording import Call, Recording


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
    return Expectations(contract, spoken, carried, is_told=dialect != "auto")


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


def _has_param(call: Call) -> bool:
    return isinstance(call.exchange.data, dict) and isinstance(call.exchange.data.get("param"), str)


def _votes_of_refusals(recording: Recording, contract: Contract) -> Iterator[str]:
    for call in recording.of(CREATE):
        violations = contract.request.violations(call.request) if call.request is not NOT_JSON else []
        for violation in violations[:1]:
            expected = {title: Expectations(contract, dialect, "envelope") for title, dialect in dialects().items()}
            fitting = [t for t, e in expected.items() if call.exchange.code in e.codes_of_violation(violation.clause)]
            yield from fitting if len(fitting) == 1 else ()
