"""The caller's side of recorded traffic: requests that break the contract, however the service responds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from seedbed_schemas import job_api

from seedbed_contract.http import NOT_JSON
from seedbed_contract.rules.envelope import JSON, Defect
from seedbed_contract.traffic.har import header, is_redacted, sent_key
from seedbed_contract.traffic.recording import CREATE, RECORD, documented_operations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_schemas import Contract, Violation

    from seedbed_contract.target import Expectations
    from seedbed_contract.traffic.recording import RecordedCall


def request_defects(call: RecordedCall, contract: Contract) -> Iterator[tuple[Defect, str]]:
    """Yield the defects of a request, each with its details."""
    if call.operation == CREATE:
        if not has_documented_method(call, contract):
            title = f"a createTask request does not use the method {contract.operation.method}"
            yield Defect("operation/method", title), call.recorded.method
        elif is_malformed(call):
            yield Defect("request/json", "the body of a request is not valid JSON"), ""
        for violation in violations_of(call, contract):
            yield Defect(violation.clause, f"a request breaks {violation.clause}"), violation.message
    if call.operation == RECORD and not any(call.task_ids):
        yield Defect("recordInfo/missing", "a recordInfo request has no task ID"), call.recorded.url
    scheme, key = sent_key(call.recorded.request_headers, contract)
    documented = contract.operation.scheme
    if scheme and not is_redacted(key) and scheme.lower() != documented.lower():
        yield Defect("operation/scheme", f"a key is not sent as a {documented} token"), call.operation


def has_documented_method(call: RecordedCall, contract: Contract) -> bool:
    """Return whether a call uses the documented method; the contract does not say how others are refused."""
    method, _ = documented_operations(contract)[call.operation]
    return call.recorded.method == method


def violations_of(call: RecordedCall, contract: Contract) -> list[Violation]:
    """Return the violations of a createTask request; empty if its meaning is unknown or ambiguous."""
    if call.recorded.request_body is None or call.request is NOT_JSON or has_repeated_names(call):
        return []
    return contract.request.violations(call.request)


def is_malformed(call: RecordedCall) -> bool:
    """Return whether the body of a request is not JSON according to RFC 8259."""
    return call.recorded.request_body is not None and call.request is NOT_JSON


def is_unparsable(call: RecordedCall) -> bool:
    """Return whether no parser can read a body as an object; a lenient one may accept a BOM, comments or NaN."""
    body = call.recorded.request_body or b""
    return not {b"{"[0], b"}"[0]} <= {*body}


def has_repeated_names(call: RecordedCall) -> bool:
    """Return whether an object in the request has two members of one name; RFC 8259 does not say which one counts."""
    repeated: list[bool] = []

    def note(pairs: list[tuple[str, Any]]) -> None:
        repeated.append(len(dict(pairs)) < len(pairs))

    if call.request is not NOT_JSON:
        json.loads((call.recorded.request_body or b"").decode("utf-8"), object_pairs_hook=note)
    return any(repeated)


def other_model(call: RecordedCall, expected: Expectations) -> str:
    """Return the model of a createTask request if it is not the model of the contract, otherwise an empty text.

    A refused model whose name is a part of the expected name is taken for a misspelling of it.
    """
    fields, request = job_api().fields, call.request
    model = request.get(fields.model) if isinstance(request, dict) else None
    if not isinstance(model, str) or model == expected.contract.model:
        return ""
    # The code alone does not show whether the service refused the model or something else in the request.
    is_refused = call.exchange.code in expected.codes("model_unknown")
    return "" if is_refused and _letters(model) in _letters(expected.contract.model) else model


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).lower()


def must_be_accepted(call: RecordedCall, contract: Contract) -> bool:
    """Return whether every service must accept a valid request.

    The page does not cover blank texts, additional fields, other media types and compression. A service may refuse to
    call an address.
    """
    media_type = header(call.recorded.request_headers, "Content-Type").partition(";")[0].strip().lower()
    is_encoded = header(call.recorded.request_headers, "Content-Encoding").strip().lower() not in {"", "identity"}
    has_callback = job_api().fields.callback in call.request
    return (
        media_type == JSON
        and not is_encoded
        and not has_callback
        and _is_covered(call.request, contract.part("request"))
    )


def _is_covered(value: Any, schema: Any) -> bool:
    """Return whether a value has only documented fields and no blank texts."""
    if isinstance(value, dict):
        fields = schema.get("properties", {})
        return all(name in fields and _is_covered(inner, fields[name]) for name, inner in value.items())
    if isinstance(value, list):
        return all(_is_covered(inner, schema.get("items", {})) for inner in value)
    return not isinstance(value, str) or bool(value.strip())
