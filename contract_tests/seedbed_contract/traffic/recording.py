"""What a recording tells of one service: its exchanges by operation, and the story of each task."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import job_api

from seedbed_contract.exchange import Answer, Ask, Exchange, parse_json
from seedbed_contract.traffic.har import HarError
from seedbed_contract.traffic.keys import shown_header
from seedbed_contract.traffic.recorded import Recorded, header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from seedbed_schemas import Contract

CREATE: Final = "createTask"
RECORD: Final = "recordInfo"
ELSEWHERE: Final = "it goes elsewhere than to an operation of the service"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the service.

    Attributes:
        operation: Name of the operation.
        recorded: What was recorded.
        exchange: The same as a judge reads it; without an answer where its body was not kept.
    """

    operation: str
    recorded: Recorded
    exchange: Exchange

    @property
    def request(self) -> Any:
        """What was asked for, or :data:`~seedbed_contract.exchange.NOT_JSON`."""
        return parse_json(self.recorded.request_body or b"")

    @property
    def task_ids(self) -> list[str]:
        """The tasks that a look names."""
        return self.recorded.values(job_api().record_info.query)


@dataclass(slots=True)
class Story:
    """What a recording tells of one task.

    Attributes:
        task_id: Name of the task.
        creation: The call that made it, ``None`` where the recording began later.
        looks: The looks at it, in order of time.
    """

    task_id: str
    creation: Call | None = None
    looks: list[Call] = field(default_factory=list)


@dataclass(slots=True)
class Recording:
    """What a recording tells of one service.

    Attributes:
        base_url: Where the service is.
        calls: The calls whose answer was recorded, in order of time.
        aside: How many exchanges say nothing of the service, by reason.
    """

    base_url: str
    calls: list[Call] = field(default_factory=list)
    aside: Counter[str] = field(default_factory=Counter)

    def of(self, *operations: str) -> list[Call]:
        """Return the calls of some operations, in order of time."""
        return [call for call in self.calls if call.operation in operations]

    def stories(self) -> list[Story]:
        """Return what is told of each task, in the order in which they appear."""
        stories: dict[str, Story] = {}
        for call in self.of(CREATE):
            if call.exchange.task_id:
                story = stories.setdefault(call.exchange.task_id, Story(call.exchange.task_id))
                story.creation = story.creation or call
        for call in self.of(RECORD):
            if len(call.task_ids) == 1 and call.task_ids[0]:
                stories.setdefault(call.task_ids[0], Story(call.task_ids[0])).looks.append(call)
        return list(stories.values())


def recording_of(recorded: Sequence[Recorded], contract: Contract, base_url: str = "") -> Recording:
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
            recording.calls.append(Call(operation, exchange, _exchange(exchange, operation, base, contract)))
    recording.calls = in_time(recording.calls)
    return recording


def in_time(calls: list[Call]) -> list[Call]:
    """Return calls in order of time; as they stand in the file where a recorder kept no time."""
    is_timed = all(call.recorded.started for call in calls)
    return sorted(calls, key=lambda call: call.recorded.started) if is_timed else calls


def _nothing(count: int, contract: Contract, base: str) -> str:
    where = f"to {base}{contract.operation.path}" if base else f"to a path such as {contract.operation.path}"
    return f"The recording has no call of this service: of its {count:,} exchanges none goes {where}."


def _reason(exchange: Recorded, operation: str, *, is_here: bool) -> str:
    """Return why an exchange is no call that can be judged, empty where it is one."""
    if not operation:
        return ELSEWHERE
    if not is_here:
        return "it goes to another server"
    return exchange.aside or ("the recorder kept no body of the answer" if exchange.response_body is None else "")


def _operation(exchange: Recorded, contract: Contract) -> tuple[str, str]:
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


def _exchange(recorded: Recorded, operation: str, base: str, contract: Contract) -> Exchange:
    target = recorded.url.removeprefix(base)
    ask = Ask(operation, recorded.method, target, tuple(_headers(recorded, contract)), recorded.request_body)
    answer = Answer(recorded.status, recorded.response_headers, recorded.response_body or b"")
    return Exchange(ask, answer, "", recorded.started, recorded.ended)


def _headers(recorded: Recorded, contract: Contract) -> Iterable[tuple[str, str]]:
    """Yield the headers that matter: what else a browser sends is of no use in a command to paste."""
    yield contract.operation.header, shown_header(recorded.request_headers, contract)
    if recorded.request_body is not None:
        yield "Content-Type", header(recorded.request_headers, "Content-Type") or "application/json"
