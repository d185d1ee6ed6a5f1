"""The caller's side of recorded traffic: requests that break the contract, whatever the service made of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from seedbed_schemas import job_api

from seedbed_contract.http import NOT_JSON
from seedbed_contract.rules.envelope import JSON, Defect
from seedbed_contract.traffic.har import header, is_taken_out, sent_key
from seedbed_contract.traffic.recording import CREATE, RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_schemas import Contract, Violation

    from seedbed_contract.target import Expectations
    from seedbed_contract.traffic.recording import RecordedCall


def request_flaws(call: RecordedCall, contract: Contract) -> Iterator[tuple[Defect, str]]:
    """Yield what is wrong with a call, each flaw with its particulars."""
    if call.operation == CREATE:
        yield from _creation_flaws(call, contract)
    if call.operation == RECORD and not any(call.task_ids):
        yield Defect("recordInfo/missing", "a look names no task"), call.recorded.url
    scheme, key = sent_key(call.recorded.request_headers, contract)
    due = contract.operation.scheme
    if scheme and not is_taken_out(key) and scheme.lower() != due.lower():
        yield Defect("operation/scheme", f"a key is not sent as a {due} token"), call.operation


def is_by_the_documented_method(call: RecordedCall, contract: Contract) -> bool:
    """Tell whether a call is made as documented; how a service refuses other methods is its own affair."""
    shared = job_api()
    due = {CREATE: contract.operation.method, "modelSchema": shared.model_schema.method}
    due |= {RECORD: shared.record_info.method, "credit": shared.credit.method}
    due |= {"models": shared.models.method, "downloadUrl": shared.download_url.method}
    return call.recorded.method == due[call.operation]


def violations_of(call: RecordedCall, contract: Contract) -> list[Violation]:
    """Return the rules that the request for a task breaks; none where nobody can tell what it says."""
    if call.recorded.request_body is None or call.request is NOT_JSON or has_repeated_names(call):
        return []
    return contract.request.violations(call.request)


def is_malformed(call: RecordedCall) -> bool:
    """Tell whether the request for a task is no JSON by the letter of RFC 8259."""
    return call.recorded.request_body is not None and call.request is NOT_JSON


def is_no_request(call: RecordedCall) -> bool:
    """Tell whether no parser, however lenient, can make a request of a body: a BOM, comments or NaN may be let pass."""
    body = call.recorded.request_body or b""
    return not {b"{"[0], b"}"[0]} <= {*body}


def has_repeated_names(call: RecordedCall) -> bool:
    """Tell whether a name stands twice in one object of the request; which of them counts, RFC 8259 leaves open."""
    repeated: list[bool] = []

    def noted(pairs: list[tuple[str, Any]]) -> None:
        repeated.append(len(dict(pairs)) < len(pairs))

    if call.request is not NOT_JSON:
        json.loads((call.recorded.request_body or b"").decode("utf-8"), object_pairs_hook=noted)
    return any(repeated)


def other_model(call: RecordedCall, expected: Expectations) -> str:
    """Return the model that a task is asked of, where it is another than the contract is about, else nothing.

    What was meant for this one, and refused for its spelling, is none: a code alone does not tell whether a service
    refuses a model or something else about the request.
    """
    fields, request = job_api().fields, call.request
    model = request.get(fields.model) if isinstance(request, dict) else None
    if not isinstance(model, str) or model == expected.contract.model:
        return ""
    is_refused = call.exchange.code in expected.codes("model_unknown")
    return "" if is_refused and _letters(model) in _letters(expected.contract.model) else model


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).lower()


def is_beyond_doubt(call: RecordedCall, contract: Contract) -> bool:
    """Tell whether a valid request is one that every service has to accept.

    The page does not say what becomes of blank texts, of fields that it does not name and of other media types, and a
    service need not call any address.
    """
    kind = header(call.recorded.request_headers, "Content-Type").partition(";")[0].strip().lower()
    is_called_back = job_api().fields.callback in call.request
    return kind == JSON and not is_called_back and _is_plain(call.request, contract.part("request"))


def _is_plain(value: Any, schema: Any) -> bool:
    if isinstance(value, dict):
        fields = schema.get("properties", {})
        return all(name in fields and _is_plain(inside, fields[name]) for name, inside in value.items())
    if isinstance(value, list):
        return all(_is_plain(inside, schema.get("items", {})) for inside in value)
    return not isinstance(value, str) or bool(value.strip())


def _creation_flaws(call: RecordedCall, contract: Contract) -> Iterator[tuple[Defect, str]]:
    if not is_by_the_documented_method(call, contract):
        yield (
            Defect("operation/method", f"a task is not asked for with {contract.operation.method}"),
            call.recorded.method,
        )
    elif is_malformed(call):
        yield Defect("request/json", "the body of a request is no JSON"), ""
    for violation in violations_of(call, contract):
        yield Defect(violation.clause, f"a request breaks {violation.clause}"), violation.message
