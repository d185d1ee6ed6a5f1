"""Rules for one callback, alone and compared with the record of its task."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import job_api
from seedbed_schemas.validation import for_display

from seedbed_contract.http import parse_json
from seedbed_contract.rules.envelope import JSON, Defect, shape_defects
from seedbed_contract.rules.task_record import ENDED, STATES, record_defects, result_paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from seedbed_contract.callback_receiver import Received
    from seedbed_contract.rules.task_record import TrackedTask
    from seedbed_contract.target import Expectations


_TIMESTAMP_TOLERANCE: Final = 300
"""Seconds by which a timestamp may differ from the time of arrival."""
_RULES: Final = job_api().callback
# Result URLs are signed anew for each response, so resultJson is compared without their queries.
_NOT_COMPARED: Final = frozenset({"updateTime", "resultJson"})
_COMPARED: Final = job_api().document["$defs"]["record"]["properties"].keys() - _NOT_COMPARED
_CASES: Final = {STATES.success: "callback_done", STATES.failure: "callback_failed"}


def callback_defects(
    received: Received, task: TrackedTask, expected: Expectations, signing_key: str
) -> Iterator[Defect]:
    """Yield the defects of a callback.

    Args:
        received: The callback.
        task: Task that requested it.
        expected: Expectations on the target.
        signing_key: Key that should sign it; empty if it is unknown.
    """
    if received.method != "POST":
        yield Defect("callback/form", f"a callback uses {received.method}, not POST")
    media_type = received.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        found = for_display(media_type) or "missing"
        yield Defect("callback/form", f"the content type of a callback is {found}, not {JSON}")
    if not str(task.request.get(job_api().fields.callback, "")).endswith(received.target):
        yield Defect("callback/form", "a callback arrives at another URL than the requested one")
    message = parse_json(received.body)
    if not isinstance(message, dict):
        yield Defect("callback/form", "a callback is not a JSON object")
        return
    yield from _in_callback(shape_defects("envelope", message))
    record = message.get("data")
    if not isinstance(record, dict):
        yield Defect("callback/same", "a callback has no record in data")
        return
    yield from _record_defects(record, message.get("code"), received, task, expected)
    if signing_key:
        yield from _signature_defects(received, task.task_id, signing_key)


def exercised_callback_clauses(signing_key: str) -> tuple[str, ...]:
    """Return the clauses that a callback exercises; a known signing key adds those on signatures."""
    signed = ("callback/signature", "callback/timestamp") if signing_key else ()
    return ("callback/form", "callback/code", "callback/final", "callback/same", *signed)


def _in_callback(defects: Iterator[Defect]) -> Iterator[Defect]:
    yield from (defect._replace(title=f"in a callback: {defect.title}") for defect in defects)


def _record_defects(
    record: Mapping[str, Any], code: Any, received: Received, task: TrackedTask, expected: Expectations
) -> Iterator[Defect]:
    """Yield the defects of the record in a callback, alone, beside the code, and beside the fetched record."""
    case = _CASES.get(str(record.get("state")))
    if case and code not in expected.codes(case):
        codes = " or ".join(map(str, sorted(expected.codes(case))))
        title = f"the callback of a task in state {record['state']} has code {json.dumps(code)}"
        yield Defect("callback/code", f"{title}, not {codes}")
    if record.get("state") not in ENDED:
        yield Defect("callback/final", f"a callback arrives while the task is {for_display(record.get('state'))}")
        return
    if isinstance(received.seen, dict) and received.seen.get("state") not in ENDED:
        state = for_display(received.seen.get("state"))
        yield Defect("callback/final", f"a callback arrives while the record still has the state {state}")
    yield from _in_callback(record_defects(record, task.task_id, task.request, expected))
    if not task.has_ended:
        return
    for name in sorted(_COMPARED & record.keys() & task.record.keys()):
        if record[name] != task.record[name]:
            yield Defect("callback/same", f"{name} in a callback differs from the record")
    if result_paths(record) != result_paths(task.record):
        yield Defect("callback/same", "the results in a callback differ from the record")


def _signature_defects(received: Received, task_id: str, signing_key: str) -> Iterator[Defect]:
    timestamp = received.headers.get(_RULES.timestamp_header.lower(), "")
    signature = received.headers.get(_RULES.signature_header.lower(), "")
    if not (timestamp and signature):
        yield Defect("callback/signature", "a callback is not signed")
        return
    expected = hmac.new(signing_key.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
    try:
        sent = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        sent = b""
    if not hmac.compare_digest(sent, expected):
        yield Defect("callback/signature", "the signature of a callback is wrong")
    if not timestamp.isdecimal() or abs(int(timestamp) - received.time) > _TIMESTAMP_TOLERANCE:
        yield Defect("callback/timestamp", "the timestamp of a callback is not the current time in Unix seconds")
