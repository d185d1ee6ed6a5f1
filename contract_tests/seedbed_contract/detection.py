"""Detect the dialect, the HTTP status mode and the capabilities of a target from its responses."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.dialect import dialects, documented

from seedbed_contract.cases import refused
from seedbed_contract.http import NOT_JSON
from seedbed_contract.rules.envelope import JSON
from seedbed_contract.target import OK, Expectations, TargetError, check_resolves

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from seedbed_schemas import Contract
    from seedbed_schemas.dialect import Dialect

    from seedbed_contract.http import Exchange, HttpTransport, RequestBuilder, TargetRequest, TargetResponse
    from seedbed_contract.target import HttpStatus, Target


UNKNOWN_TASK_ID: Final = "seedbed-check-no-such-task"
"""ID of a task that does not exist on any service."""
FOREIGN_URL: Final = "http://127.0.0.1/picture.jpg"
"""URL that is not a result of any service."""

CAPABILITY_PROBES: Final[Mapping[str, Callable[[RequestBuilder], TargetRequest]]] = {
    "credit": lambda builder: builder.credit(),
    "models": lambda builder: builder.models(),
    "modelSchema": lambda builder: builder.model_schema(builder.contract.model),
    "downloadUrl": lambda builder: builder.download_url(FOREIGN_URL),
}
"""For each optional operation, a request that shows whether the target supports it."""
CAPABILITY_CLAUSES: Final = {
    "credit": "creditAnswer/required/data",
    "models": "models/listed",
    "modelSchema": "models/schema",
    "downloadUrl": "downloadUrl/own",
    "faults": "code/500",
}
"""For each capability, the clause that a target without it breaks if the capability is required."""

_DIALECT_CASES: Final = {"required": "field_missing", "enum": "option_unknown", "maxLength": "text_too_long"}
"""Violations, by keyword, that the dialects respond to differently."""
_ANY_VIOLATION: Final = "request_invalid"
_MOST_PROBES: Final = 3
"""Number of requests to send without one for :data:`_ANY_VIOLATION`, if there are better ones."""


class CannotCheckError(Exception):
    """The target cannot be checked; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class DetectedService:
    """The detected properties of a target.

    Attributes:
        expected: Expectations on its responses.
        is_mock_server: Whether it is Seedbed's mock server, as it says itself.
        is_readable: Whether any response is a JSON object.
        remarks: The detected properties, one sentence each.
        exchanges: The exchanges, each with the clause that its request breaks, which is empty for a valid request.
    """

    expected: Expectations
    is_mock_server: bool
    is_readable: bool
    remarks: tuple[str, ...]
    exchanges: tuple[tuple[str, Exchange], ...]


@dataclass(frozen=True, slots=True)
class _Probe:
    """An exchange whose request the target should refuse."""

    case: str
    clause: str
    exchange: Exchange


def detect(transport: HttpTransport, builder: RequestBuilder, target: Target) -> DetectedService:
    """Send a few requests that the target should refuse, and detect its properties from the responses.

    Raises:
        CannotCheckError: The target does not respond, refuses the key, or is another kind of server.
        OutOfTimeError: The time limit of the run passed.
    """
    contract = builder.contract
    probes = list(_send_probes(transport, builder))
    key_refused = _codes_of(documented(), "key_refused", contract)
    if all(probe.exchange.code in key_refused for probe in probes):
        raise CannotCheckError(f"{transport.base_url} refuses the key; pass a valid key with --key or SEEDBED_API_KEY.")
    responses = [probe.exchange.response for probe in probes if probe.exchange.response]
    # A path that is unknown, with and without a key, to fetch a task and to create one, is none of this service.
    no_such_path = _codes_of(documented(), "path_unknown", contract)
    is_elsewhere = all(probe.exchange.code in no_such_path for probe in probes)
    # A service that sends its refusals in another form still has the balance, which costs nothing to read.
    has_form = any(map(_is_of_job_api, responses)) or _is_of_job_api(transport.send(builder.credit()).response)
    if is_elsewhere or not has_form:
        raise CannotCheckError(
            f"{transport.base_url} does not respond as the job API does. Is this the URL of the service?"
        )
    is_readable = any(isinstance(response.json, dict) for response in responses)
    dialect, http_status = _detect_dialect(probes, contract, target), target.http_status
    if http_status == "auto":
        http_status = http_status_of((response.status, response.code) for response in responses)
    remarks = ["No response is a JSON object."]
    if is_readable:
        remarks = []
        if target.dialect == "auto":
            remarks.append(f"Detected dialect: {dialect.title}.")
        if target.http_status == "auto":
            modes = {"envelope": "HTTP 200, with the code in the body", "mirror": "the code is also the HTTP status"}
            remarks.append(f"Detected HTTP status mode: {http_status} ({modes[http_status]}).")
    return DetectedService(
        expected=Expectations(contract, dialect, http_status, is_dialect_given=target.dialect != "auto"),
        is_mock_server=any(response.header(local.MARK_HEADER) for response in responses),
        is_readable=is_readable,
        remarks=tuple(remarks),
        exchanges=tuple((probe.clause, probe.exchange) for probe in probes),
    )


def detect_capabilities(
    transport: HttpTransport, builder: RequestBuilder, service: DetectedService, absent: Collection[str] = ()
) -> frozenset[str]:
    """Return the names of the capabilities of a target, except for callbacks.

    Args:
        transport: Sends requests.
        builder: Builds requests with the key of the target.
        service: The detected properties of the target.
        absent: Capabilities that the target is declared not to have.

    Raises:
        OutOfTimeError: The time limit of the run passed.
    """
    expected = service.expected
    due = dict.fromkeys(CAPABILITY_PROBES, expected.codes("done"))
    # A server without the operation responds as it does to any unknown path, so that code proves nothing.
    due["downloadUrl"] = expected.codes("url_wrong", "done") - expected.codes("path_unknown")
    found = set()
    for name, build in CAPABILITY_PROBES.items():
        if name in absent:
            continue
        exchange = transport.send(build(builder))
        response = exchange.response
        # An operation that responds with broken JSON is supported, and has a defect.
        is_broken = (
            response is not None and response.status == OK and response.media_type == JSON and response.json is NOT_JSON
        )
        if exchange.code in due[name] or is_broken:
            found.add(name)
    if service.is_mock_server and "faults" not in absent:
        found.add("faults")
    return frozenset(found)


def _is_of_job_api(response: TargetResponse | None) -> bool:
    """Return whether a response looks like one of the service, if a defective one.

    Other web servers send HTML, text, or JSON objects without any of the fields.
    """
    if response and isinstance(response.json, dict):
        return not {"code", "msg", "data"}.isdisjoint(response.json)
    return response is not None and response.media_type == JSON


def http_status_of(responses: Iterable[tuple[int, int | None]]) -> HttpStatus:
    """Return the HTTP status mode of most refusals; without a refusal, that of the real service.

    Args:
        responses: HTTP status and code of each response.
    """
    known = [(status, code) for status, code in responses if code is not None]
    mirrored = sum(status == code != OK for status, code in known)
    enveloped = sum(status == OK != code for status, code in known)
    return "mirror" if mirrored > enveloped else "envelope"


def _send_probes(transport: HttpTransport, builder: RequestBuilder) -> Iterator[_Probe]:
    """Send requests that the target should refuse, until it accepts one: that one costs a task, and shows enough."""
    requests = {
        "task_unknown": ("", builder.record(UNKNOWN_TASK_ID)),
        "key_refused": ("", builder.with_authorization(()).record(UNKNOWN_TASK_ID)),
    }
    fields = job_api().fields
    # Other clauses tell less, so they serve only where the input has no such clause.
    clauses = sorted(refused(builder.contract), key=lambda refusal: not refusal.clause.startswith(fields.input))
    for refusal in clauses:
        field, keyword = refusal.clause.split("/")[:2]
        name = _DIALECT_CASES.get(keyword, _ANY_VIOLATION)
        if field not in {"request", fields.model}:
            requests.setdefault(name, (refusal.clause, builder.create(refusal.payload)))
    if len(requests) > _MOST_PROBES:
        requests.pop(_ANY_VIOLATION, None)
    for case, (clause, request) in requests.items():
        exchange = transport.send(request)
        if exchange.response is None:
            try:
                check_resolves(transport.base_url)
            except TargetError as error:
                raise CannotCheckError(str(error)) from error
            raise CannotCheckError(
                f"no usable response from {transport.base_url} ({exchange.problem}). "
                "Start the server, or check the URL."
            )
        yield _Probe(case, clause, exchange)
        if exchange.task_id:
            return


def _detect_dialect(probes: list[_Probe], contract: Contract, target: Target) -> Dialect:
    """Return the dialect that most responses fit; each response that fits only one dialect votes for it."""
    if target.dialect != "auto":
        return dialects()[target.dialect]
    votes = Counter[str]()
    for probe in probes:
        if probe.case in {*_DIALECT_CASES.values(), _ANY_VIOLATION}:
            fitting = [title for title, dialect in dialects().items() if _fits(dialect, probe, contract)]
            votes.update(fitting if len(fitting) == 1 else ())
    if not votes:
        # The page documents no messages, so a message that was observed is the only evidence left.
        others = [dialect for dialect in dialects().values() if dialect is not documented()]
        return next((each for each in others if all(_fits(each, probe, contract) for probe in probes)), documented())
    return dialects()[max(votes, key=lambda title: (votes[title], title == documented().title))]


def _fits(dialect: Dialect, probe: _Probe, contract: Contract) -> bool:
    """Return whether a response has the code and, for other dialects than the documented one, the message."""
    exchange = probe.exchange
    if exchange.code not in _codes_of(dialect, probe.case, contract):
        return False
    if dialect is documented():
        return True
    # Dialects may share a code; the page does not document messages, so only the observed ones are compared.
    case = dialect.cases[probe.case]
    patterns = [re.sub(r"\\{\w+\\}", ".+", re.escape(message)) for message in (case.message, *case.other_messages)]
    content = exchange.response.json if exchange.response else None
    message = content.get("msg") if isinstance(content, dict) else ""
    return any(re.fullmatch(pattern, str(message)) for pattern in patterns)


def _codes_of(dialect: Dialect, case: str, contract: Contract) -> frozenset[int]:
    return dialect.cases[case].numbers({**default_contract().codes_by_name, **contract.codes_by_name})
