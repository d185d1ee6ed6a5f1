"""One service in recorded traffic: its calls by operation, the history of each task, and its callbacks."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from seedbed_schemas import job_api

from seedbed_contract.callback_receiver import Received
from seedbed_contract.http import Exchange, RequestBuilder, TargetRequest, TargetResponse, parse_json
from seedbed_contract.rules.callback_request import callback_defects
from seedbed_contract.rules.task_record import TrackedTask
from seedbed_contract.traffic.har import HarError, RecordedExchange, header, is_key, sent_key, shown_authorization

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from seedbed_schemas import Contract

    from seedbed_contract.rules.envelope import Defect
    from seedbed_contract.target import Expectations

CREATE: Final = "createTask"
RECORD: Final = "recordInfo"
OTHER_URL: Final = "the URL is not that of an operation of the service"


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call of the service.

    Attributes:
        operation: Name of the operation.
        recorded: The exchange as it was recorded.
        exchange: The exchange as the rules read it.
    """

    operation: str
    recorded: RecordedExchange
    exchange: Exchange

    @property
    def request(self) -> Any:
        """The body of the request, or :data:`~seedbed_contract.http.NOT_JSON`."""
        return parse_json(self.recorded.request_body or b"")

    @property
    def task_ids(self) -> list[str]:
        """The task IDs in the query of a recordInfo request."""
        return self.recorded.values(job_api().record_info.query)


Poll = tuple["Mapping[str, Any]", RecordedCall]


@dataclass(slots=True)
class TaskHistory:
    """The recorded calls about one task.

    Attributes:
        task_id: ID of the task.
        creation: Call that created it; ``None`` if the recording began later.
        polls: Calls that fetched its record, in order of time.
    """

    task_id: str
    creation: RecordedCall | None = None
    polls: list[RecordedCall] = field(default_factory=list)

    @property
    def callback_url(self) -> str:
        """URL that the creation requested a callback at; empty if there is none."""
        request = self.creation.request if self.creation else None
        url = request.get(job_api().fields.callback) if isinstance(request, dict) else None
        return url if isinstance(url, str) else ""

    def request(self, record: Any, contract: Contract) -> Mapping[str, Any]:
        """Return the request that created the task.

        If it was not recorded, the record itself provides the parts that a check then cannot dispute.
        """
        request = self.creation.request if self.creation else None
        if isinstance(request, dict):
            return request
        fields = job_api().fields
        record = record if isinstance(record, dict) else {}
        model = record.get(fields.model, contract.model)
        param = parse_json(record["param"]) if isinstance(record.get("param"), str) else {}
        has_input = isinstance(param, dict) and fields.input in param
        return {fields.model: model, fields.input: {}} if has_input else {fields.model: model}


@dataclass(slots=True)
class Recording:
    """The calls of one service in a recording.

    Attributes:
        base_url: Base URL of the service.
        calls: Calls in order of time; the response of some is unknown.
        skipped: Number of exchanges that are checked in part or not at all, by reason.
    """

    base_url: str
    calls: list[RecordedCall] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def calls_of(self, operation: str) -> list[RecordedCall]:
        """Return the calls of an operation, in order of time."""
        return [call for call in self.calls if call.operation == operation]

    def other_models(self, model: str) -> dict[str, str]:
        """Return the model of each task of another model than this one, by task ID."""
        field, found, own = job_api().fields.model, dict[str, str](), set[str]()
        for call in self.calls:
            data = call.exchange.data
            created, task_ids = call.request, [call.exchange.task_id]
            if call.operation == RECORD:
                created, task_ids = data, call.task_ids
            # The request tells the model better than a record, which may be wrong.
            if isinstance(created, dict) and isinstance(name := created.get(field), str):
                for task_id in task_ids:
                    if call.operation == CREATE and name == model:
                        own.add(task_id)
                    elif name != model and call.operation in {CREATE, RECORD}:
                        found.setdefault(task_id, name)
        return {task_id: name for task_id, name in found.items() if task_id and task_id not in own}

    def histories(self) -> list[TaskHistory]:
        """Return the history of each task, in order of appearance."""
        histories: dict[str, TaskHistory] = {}
        for call in self.calls_of(CREATE):
            if call.exchange.task_id:
                history = histories.setdefault(call.exchange.task_id, TaskHistory(call.exchange.task_id))
                history.creation = history.creation or call
        for call in self.calls_of(RECORD):
            if len(call.task_ids) == 1 and call.task_ids[0] and call.exchange.response:
                histories.setdefault(call.task_ids[0], TaskHistory(call.task_ids[0])).polls.append(call)
        return list(histories.values())


def recording_of(recorded: Sequence[RecordedExchange], contract: Contract, base_url: str = "") -> Recording:
    """Return the calls of one service in a recording.

    Args:
        recorded: All exchanges of the file.
        contract: Contract that names the paths.
        base_url: Base URL of the service; default: the one that most calls go to.

    Raises:
        HarError: The recording contains no call of the service.
    """
    located = [(exchange, *_operation_of(exchange, contract)) for exchange in recorded]
    base_urls = Counter(base for _, operation, base in located if operation)
    base_url = base_url.rstrip("/") or next((base for base, _ in base_urls.most_common(1)), "")
    if not base_urls[base_url]:
        path = contract.operation.path
        where = f"to {base_url}{path}" if base_url else f"to a path such as {path}"
        raise HarError(
            f"The recording of {len(recorded):,} exchanges has no call of this service. Record calls {where}."
        )
    recording = Recording(base_url)
    for exchange, operation, base in located:
        reason = _reason_to_skip(exchange, operation, is_same_server=base == base_url)
        is_request_known = not reason or reason == exchange.response_problem
        recording.skipped.update(filter(None, (reason, exchange.request_problem if is_request_known else "")))
        if is_request_known:
            read = _to_exchange(exchange, operation, base_url, contract)
            recording.calls.append(RecordedCall(operation, exchange, read))
    # Without times, the order of the file is the best guess.
    if all(call.recorded.started for call in recording.calls):
        recording.calls.sort(key=lambda call: call.recorded.started)
    return recording


def documented_operations(contract: Contract) -> dict[str, tuple[str, str]]:
    """Return the method and the path of each operation, by name."""
    api = job_api()
    others = {
        RECORD: api.record_info,
        "credit": api.credit,
        "models": api.models,
        "modelSchema": api.model_schema,
        "downloadUrl": api.download_url,
    }
    created = (contract.operation.method, contract.operation.path)
    return {CREATE: created} | {name: (operation.method, operation.path) for name, operation in others.items()}


def _reason_to_skip(exchange: RecordedExchange, operation: str, *, is_same_server: bool) -> str:
    """Return why the response of an exchange cannot be checked; an empty text if it can."""
    if not operation:
        return OTHER_URL
    if not is_same_server:
        return "the URL is that of another server"
    return exchange.skipped or exchange.response_problem


def _operation_of(exchange: RecordedExchange, contract: Contract) -> tuple[str, str]:
    """Return the operation of an exchange and the base URL of its service; two empty texts if there is none."""
    url = exchange.url.partition("?")[0]
    for name, (_, path) in documented_operations(contract).items():
        # The service may be mounted under a path of a proxy, so only the end of the URL is compared.
        found = re.search(re.escape(path).replace(re.escape("{model}"), ".+") + "$", url)
        if found:
            return name, url[: found.start()].rstrip("/")
    return "", ""


def _to_exchange(recorded: RecordedExchange, operation: str, base_url: str, contract: Contract) -> Exchange:
    # Only these headers matter for a curl command; browsers send many more.
    headers = [(contract.operation.header, shown_authorization(recorded.request_headers, contract))]
    if recorded.request_body is not None:
        headers.append(("Content-Type", header(recorded.request_headers, "Content-Type") or "application/json"))
    target = recorded.url.removeprefix(base_url)
    request = TargetRequest(operation, recorded.method, target, tuple(headers), recorded.request_body)
    if recorded.response_problem:
        return Exchange(request, None, recorded.response_problem, recorded.started, recorded.ended)
    response = TargetResponse(recorded.status, recorded.response_headers, recorded.response_body or b"")
    return Exchange(request, response, "", recorded.started, recorded.ended)


def record_before(call: RecordedCall, polls: Sequence[Poll]) -> Mapping[str, Any] | None:
    """Return the last record that had arrived before a call started; concurrent polls have no order."""
    started = call.recorded.started
    return next((record for record, poll in reversed(polls) if not started or poll.recorded.ended <= started), None)


def have_same_key(one: RecordedCall, other: RecordedCall, contract: Contract) -> bool:
    """Return whether two calls certainly used the same key; a redacted key may be any key."""
    keys = {sent_key(call.recorded.request_headers, contract) for call in (one, other)}
    return len(keys) == 1 and all(is_key(key) for _, key in keys)


def callbacks_of(
    recorded: Iterable[RecordedExchange], histories: Iterable[TaskHistory]
) -> Iterator[tuple[TaskHistory, Received]]:
    """Yield the recorded callbacks, in the order of the file, each with the history of its task."""
    by_address = {(history.callback_url, history.task_id): history for history in histories if history.creation}
    for exchange in recorded:
        message = parse_json(exchange.request_body) if exchange.request_body else None
        record = message.get("data") if isinstance(message, dict) else None
        task_id = record.get("taskId") if isinstance(record, dict) else None
        history = by_address.get((exchange.url, task_id)) if isinstance(task_id, str) else None
        if history:
            headers = {name.lower(): value for name, value in exchange.request_headers}
            target = urlsplit(exchange.url)._replace(scheme="", netloc="").geturl()
            body = exchange.request_body or b""
            yield history, Received(exchange.method, target, headers, body, exchange.started, exchange.status)


def recorded_callback_defects(
    history: TaskHistory, received: Received, polls: Sequence[Poll], expected: Expectations, signing_key: str
) -> Iterator[Defect]:
    """Yield the defects of a recorded callback, alone and compared with the last record of its task."""
    if history.creation is None:
        return
    task = TrackedTask(
        name="",
        request=history.request(None, expected.contract),
        exchange=history.creation.exchange,
        builder=RequestBuilder(expected.contract, ()),
        task_id=history.task_id,
        callback_path=received.target,
        polls=[(record, call.exchange) for record, call in polls],
    )
    yield from callback_defects(received, task, expected, signing_key)
