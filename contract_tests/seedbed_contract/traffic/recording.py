"""What a recording tells of one service: its exchanges by operation, and the story of each task."""

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
from seedbed_contract.rules.tracked_task import TrackedTask
from seedbed_contract.traffic.har import HarError, RecordedExchange, header, is_kept, sent_key, shown_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from seedbed_schemas import Contract

    from seedbed_contract.rules.envelope import Defect
    from seedbed_contract.target import Expectations


CREATE: Final = "createTask"
RECORD: Final = "recordInfo"
ELSEWHERE: Final = "it goes elsewhere than to an operation of the service"


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call of the service.

    Attributes:
        operation: Name of the operation.
        recorded: What was recorded.
        exchange: The same as a judge reads it; without an answer where its body was not kept.
    """

    operation: str
    recorded: RecordedExchange
    exchange: Exchange

    @property
    def request(self) -> Any:
        """What was asked for, or :data:`~seedbed_contract.http.NOT_JSON`."""
        return parse_json(self.recorded.request_body or b"")

    @property
    def task_ids(self) -> list[str]:
        """The tasks that a look names."""
        return self.recorded.values(job_api().record_info.query)


Look = tuple["Mapping[str, Any]", RecordedCall]


@dataclass(slots=True)
class TaskHistory:
    """What a recording tells of one task.

    Attributes:
        task_id: Name of the task.
        creation: The call that made it, ``None`` where the recording began later.
        looks: The looks at it, in order of time.
    """

    task_id: str
    creation: RecordedCall | None = None
    looks: list[RecordedCall] = field(default_factory=list)


@dataclass(slots=True)
class Recording:
    """What a recording tells of one service.

    Attributes:
        base_url: Where the service is.
        calls: The calls whose answer was recorded, in order of time.
        aside: How many exchanges say nothing of the service, by reason.
    """

    base_url: str
    calls: list[RecordedCall] = field(default_factory=list)
    aside: Counter[str] = field(default_factory=Counter)

    def of(self, *operations: str) -> list[RecordedCall]:
        """Return the calls of some operations, in order of time."""
        return [call for call in self.calls if call.operation in operations]

    def stories(self) -> list[TaskHistory]:
        """Return what is told of each task, in the order in which they appear."""
        stories: dict[str, TaskHistory] = {}
        for call in self.of(CREATE):
            if call.exchange.task_id:
                story = stories.setdefault(call.exchange.task_id, TaskHistory(call.exchange.task_id))
                story.creation = story.creation or call
        for call in self.of(RECORD):
            if len(call.task_ids) == 1 and call.task_ids[0]:
                stories.setdefault(call.task_ids[0], TaskHistory(call.task_ids[0])).looks.append(call)
        return list(stories.values())


def recording_of(recorded: Sequence[RecordedExchange], contract: Contract, base_url: str = "") -> Recording:
    """Return what a recording tells of a service.

    Args:
        recorded: Every exchange of the file.
        contract: The contract, which tells the paths.
        base_url: Where the service is; without it, where most of the calls go.

    Raises:
        HarError: There is no call of the service.
    """
    known = [(exchange, *_operation(exchange, contract)) for exchange in recorded]
    bases = Counter(base for _, operation, base in known if operation)
    base = base_url.rstrip("/") or next((base for base, _ in bases.most_common(1)), "")
    if not bases[base]:
        raise HarError(_nothing(len(recorded), contract, base))
    recording = Recording(base)
    for exchange, operation, own_base in known:
        reason = _reason(exchange, operation, is_here=own_base == base)
        if reason:
            recording.aside[reason] += 1
        else:
            recording.calls.append(RecordedCall(operation, exchange, _exchange(exchange, operation, base, contract)))
    recording.calls = in_time(recording.calls)
    return recording


def in_time(calls: list[RecordedCall]) -> list[RecordedCall]:
    """Return calls in order of time; as they stand in the file where a recorder kept no time."""
    is_timed = all(call.recorded.started for call in calls)
    return sorted(calls, key=lambda call: call.recorded.started) if is_timed else calls


def _nothing(count: int, contract: Contract, base: str) -> str:
    where = f"to {base}{contract.operation.path}" if base else f"to a path such as {contract.operation.path}"
    return f"The recording has no call of this service: of its {count:,} exchanges none goes {where}."


def _reason(exchange: RecordedExchange, operation: str, *, is_here: bool) -> str:
    """Return why an exchange is no call that can be judged, empty where it is one."""
    if not operation:
        return ELSEWHERE
    if not is_here:
        return "it goes to another server"
    return exchange.aside or ("the recorder kept no body of the answer" if exchange.response_body is None else "")


def _operation(exchange: RecordedExchange, contract: Contract) -> tuple[str, str]:
    """Return the operation that an exchange is of, and where its service is; both empty where it is of none."""
    where = exchange.url.partition("?")[0]
    for name, pattern in _patterns(contract):
        found = re.search(pattern, where)
        if found:
            return name, where[: found.start()].rstrip("/")
    return "", ""


def _patterns(contract: Contract) -> Iterator[tuple[str, str]]:
    shared = job_api()
    yield CREATE, _ending(contract.operation.path)
    yield RECORD, _ending(shared.record_info.path)
    yield "credit", _ending(shared.credit.path)
    yield "models", _ending(shared.models.path)
    yield "modelSchema", _ending(shared.model_schema.path).replace(re.escape("{model}"), ".+")
    yield "downloadUrl", _ending(shared.download_url.path)


def _ending(path: str) -> str:
    return f"{re.escape(path)}$"


def _exchange(recorded: RecordedExchange, operation: str, base: str, contract: Contract) -> Exchange:
    target = recorded.url.removeprefix(base)
    ask = TargetRequest(operation, recorded.method, target, tuple(_headers(recorded, contract)), recorded.request_body)
    answer = TargetResponse(recorded.status, recorded.response_headers, recorded.response_body or b"")
    return Exchange(ask, answer, "", recorded.started, recorded.ended)


def _headers(recorded: RecordedExchange, contract: Contract) -> Iterable[tuple[str, str]]:
    """Yield the headers that matter: what else a browser sends is of no use in a command to paste."""
    yield contract.operation.header, shown_header(recorded.request_headers, contract)
    if recorded.request_body is not None:
        yield "Content-Type", header(recorded.request_headers, "Content-Type") or "application/json"


def asked(story: TaskHistory, record: Any, contract: Contract) -> Mapping[str, Any]:
    """Return the request that made a task; where it was not recorded, as much of it as its record cannot get wrong."""
    made = story.creation.request if story.creation else None
    if isinstance(made, dict):
        return made
    fields = job_api().fields
    told = record.get(fields.model, contract.model) if isinstance(record, dict) else contract.model
    param = parse_json(record["param"]) if isinstance(record, dict) and isinstance(record.get("param"), str) else {}
    has_input = isinstance(param, dict) and fields.input in param
    return {fields.model: told, fields.input: {}} if has_input else {fields.model: told}


def last_before(call: RecordedCall, seen: Sequence[Look]) -> Mapping[str, Any] | None:
    """Return the last record that was there before a look began: of looks at the same time none is the earlier."""
    started = call.recorded.started
    return next((record for record, look in reversed(seen) if not started or look.recorded.ended <= started), None)


def is_of_one_key(one: RecordedCall, other: RecordedCall, contract: Contract) -> bool:
    """Tell whether two calls surely were made with one key; where a recorder took keys out, nobody knows."""
    keys = {sent_key(call.recorded.request_headers, contract) for call in (one, other)}
    return len(keys) == 1 and all(is_kept(key) for _, key in keys)


def callbacks_of(
    recorded: Iterable[RecordedExchange], stories: Iterable[TaskHistory]
) -> Iterator[tuple[TaskHistory, Received]]:
    """Yield the callbacks that were recorded, in the order of the file, each with the task that it is about."""
    asked_for = {(_callback_url(story), story.task_id): story for story in stories if story.creation}
    for exchange in recorded:
        message = parse_json(exchange.request_body) if exchange.request_body else None
        record = message.get("data") if isinstance(message, dict) else None
        task_id = record.get("taskId") if isinstance(record, dict) else None
        story = asked_for.get((exchange.url, task_id)) if isinstance(task_id, str) else None
        if story:
            yield story, _received(exchange)


def flaws_of_callback(
    story: TaskHistory, received: Received, seen: Sequence[Look], expected: Expectations, signing_key: str
) -> Iterator[Defect]:
    """Yield what is wrong with a callback, by itself and beside the last record that was seen of its task."""
    if story.creation is None:
        return
    looks = [(record, call.exchange) for record, call in seen]
    request = asked(story, None, expected.contract)
    asks = RequestBuilder(expected.contract, ())
    order = TrackedTask("", request, story.creation.exchange, asks, story.task_id, received.target, polls=looks)
    yield from callback_defects(received, order, expected, signing_key)


def _callback_url(story: TaskHistory) -> str:
    request = story.creation.request if story.creation else None
    url = request.get(job_api().fields.callback) if isinstance(request, dict) else None
    return url if isinstance(url, str) else ""


def _received(exchange: RecordedExchange) -> Received:
    headers = {name.lower(): value for name, value in exchange.request_headers}
    target = urlsplit(exchange.url)._replace(scheme="", netloc="").geturl()
    return Received(exchange.method, target, headers, exchange.request_body or b"", exchange.started, exchange.status)
