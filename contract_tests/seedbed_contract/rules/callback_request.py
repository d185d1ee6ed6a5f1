"""One callback, judged by itself and beside the record of its task."""

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
from seedbed_contract.rules.task_record import ENDED, STATES, record_defects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from seedbed_contract.callback_receiver import Received
    from seedbed_contract.rules.tracked_task import TrackedTask
    from seedbed_contract.target import Expectations


_FRESH: Final = 300
_NOT_COMPARED: Final = frozenset({"updateTime", "resultJson"})
_RULES: Final = job_api().callback
_COMPARED: Final = tuple(job_api().document["$defs"]["record"]["properties"].keys() - _NOT_COMPARED)


def callback_defects(
    received: Received, order: TrackedTask, expected: Expectations, signing_key: str
) -> Iterator[Defect]:
    """Yield what is wrong with a callback.

    Args:
        received: What came.
        order: The task that asked for it.
        expected: What the target is held against.
        signing_key: What it should be signed with, empty where that is not known.
    """
    yield from _form_flaws(received, order)
    message = parse_json(received.body)
    if not isinstance(message, dict):
        yield Defect("callback/form", "a callback is no JSON object")
        return
    yield from (flaw._replace(title=f"in a callback: {flaw.title}") for flaw in shape_defects("envelope", message))
    record = message.get("data")
    if not isinstance(record, dict):
        yield Defect("callback/same", "a callback has no record in its data")
        return
    yield from _code_flaws(message.get("code"), record, expected)
    yield from _record_flaws(record, received, order, expected)
    if signing_key:
        yield from _signature_flaws(received, order.task_id, signing_key)


def exercised_callback_clauses(signing_key: str) -> tuple[str, ...]:
    """Return the clauses that a callback puts to the test."""
    signed = ("callback/signature", "callback/timestamp") if signing_key else ()
    return ("callback/form", "callback/code", "callback/final", "callback/same", *signed)


def _form_flaws(received: Received, order: TrackedTask) -> Iterator[Defect]:
    if received.method != "POST":
        yield Defect("callback/form", f"a callback comes by {received.method} and not by POST")
    kind = received.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        yield Defect("callback/form", f"a callback says that it is {for_display(kind) or 'nothing'} and not {JSON}")
    url = str(order.request.get(job_api().fields.callback, ""))
    if not url.endswith(received.target):
        yield Defect("callback/form", "a callback comes to another URL than the one that was given")


def _code_flaws(code: Any, record: Mapping[str, Any], expected: Expectations) -> Iterator[Defect]:
    cases = {STATES.success: "callback_done", STATES.failure: "callback_failed"}
    case = cases.get(str(record.get("state")))
    if case and code not in expected.codes(case):
        due = " or ".join(map(str, sorted(expected.codes(case))))
        yield Defect(
            "callback/code", f"the callback of a task that is {record['state']} has code {json.dumps(code)}, not {due}"
        )


def _record_flaws(
    record: Mapping[str, Any], received: Received, order: TrackedTask, expected: Expectations
) -> Iterator[Defect]:
    if record.get("state") not in ENDED:
        yield Defect("callback/final", f"a callback comes while the task is {for_display(record.get('state'))}")
        return
    if isinstance(received.seen, dict) and received.seen.get("state") not in ENDED:
        yield Defect(
            "callback/final", f"a callback comes while the record still says {for_display(received.seen.get('state'))}"
        )
    flaws = record_defects(record, order.task_id, order.request, expected)
    yield from (flaw._replace(title=f"in a callback: {flaw.title}") for flaw in flaws)
    if order.has_ended:
        yield from _differences(record, order.record)


def _differences(record: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[Defect]:
    for name in sorted(_COMPARED):
        if name in record and name in known and record[name] != known[name]:
            yield Defect("callback/same", f"{name} in a callback is not what the record tells")
    if _paths(record.get("resultJson")) != _paths(known.get("resultJson")):
        yield Defect("callback/same", "the results in a callback are not those that the record tells")


def _paths(text: Any) -> Any:
    """Return the URLs of results without what signs them, which may differ from one look to the next."""
    results = parse_json(text) if isinstance(text, str) and text else None
    urls = results.get("resultUrls") if isinstance(results, dict) else None
    return [str(url).partition("?")[0] for url in urls] if isinstance(urls, list) else None


def _signature_flaws(received: Received, task_id: str, signing_key: str) -> Iterator[Defect]:
    timestamp = received.headers.get(_RULES.timestamp_header.lower(), "")
    signature = received.headers.get(_RULES.signature_header.lower(), "")
    if not (timestamp and signature):
        yield Defect("callback/signature", "a callback is not signed")
        return
    due = hmac.new(signing_key.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(_decoded(signature), due):
        yield Defect("callback/signature", "the signature of a callback is not the one that is due")
    if not timestamp.isdecimal() or abs(int(timestamp) - received.time) > _FRESH:
        yield Defect("callback/timestamp", "the timestamp of a callback is not the present time in Unix seconds")


def _decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return b""
