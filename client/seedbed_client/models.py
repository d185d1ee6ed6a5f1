"""What the client gives back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import msgspec
from seedbed_schemas import job_api
from seedbed_schemas.messages import Record, Results

if TYPE_CHECKING:
    from collections.abc import Mapping


_STATES: Final = job_api().states


class TaskState(StrEnum):
    """Where a task is in its life."""

    WAITING = _STATES.pending[0]
    QUEUING = _STATES.pending[1]
    GENERATING = _STATES.pending[2]
    SUCCESS = _STATES.success
    FAIL = _STATES.failure
    UNKNOWN = "unknown"
    """A state that this version does not know; the record has the service's word for it."""

    @classmethod
    def _missing_(cls, value: object) -> TaskState:  # noqa: ARG003 (Python's own signature)
        return cls.UNKNOWN


class Task(msgspec.Struct, frozen=True):
    """A task as the service shows it.

    Attributes:
        task_id: Its name.
        model: What makes its image.
        state: Where it is in its life.
        input: What it was asked for, empty where that cannot be read.
        result_urls: Where its images are; empty before it has succeeded.
        fail_code: Kind of failure; empty where there is none.
        fail_msg: Failure in words; empty where there is none.
        create_time: When it was made.
        complete_time: When it ended.
        update_time: When its state last changed.
        cost_time: How long it took.
        credits_consumed: What it cost, in credits.
        record: The record as it came, with the fields that this version does not know.
    """

    task_id: str
    model: str = ""
    state: TaskState = TaskState.UNKNOWN
    input: Mapping[str, Any] = {}
    result_urls: tuple[str, ...] = ()
    fail_code: str = ""
    fail_msg: str = ""
    create_time: datetime | None = None
    complete_time: datetime | None = None
    update_time: datetime | None = None
    cost_time: timedelta | None = None
    credits_consumed: float | None = None
    record: Mapping[str, Any] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and self._told() == other._told()

    def __hash__(self) -> int:
        return hash(self.task_id)

    def __repr__(self) -> str:
        return f"Task({self.task_id!r}, {self.state})"

    def _told(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__struct_fields__ if name != "record")

    @property
    def succeeded(self) -> bool:
        """Whether it ended with a result."""
        return self.state is TaskState.SUCCESS

    @property
    def failed(self) -> bool:
        """Whether it ended without one."""
        return self.state is TaskState.FAIL


_NAMES: Final[dict[str, str]] = dict(zip(Record.__struct_fields__, Record.__struct_encode_fields__, strict=True))
"""Names on the wire by those in Python."""

_URLS: Final = Results.__struct_encode_fields__[0]


class _Fields:
    """Reads a record field by field; what is null, absent or of another type counts as not there."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record

    def value(self, name: str) -> Any:
        return self.record.get(_NAMES[name])

    def text(self, name: str) -> str:
        value = self.value(name)
        return value if isinstance(value, str) else ""

    def code(self, name: str) -> str:
        value = self.value(name)
        return str(value) if isinstance(value, int) else self.text(name)

    def number(self, name: str) -> float | None:
        value = self.value(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    def time(self, name: str) -> datetime | None:
        milliseconds = self.number(name)
        try:
            return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
        except (ValueError, OverflowError, OSError):
            return None


def task_of(record: Mapping[str, Any]) -> Task:
    """Return the task that a record shows, in whichever dialect.

    Raises:
        ValueError: It names no task, or a task that succeeded has results that cannot be read.
    """
    fields = _Fields(record)
    task_id, state = fields.text("task_id"), TaskState(fields.text("state"))
    if not task_id:
        raise ValueError("its record names no task")
    return Task(
        task_id=task_id,
        model=fields.text("model"),
        state=state,
        input=_input(fields.value("param")),
        result_urls=_result_urls(fields.value("result_json"), state),
        fail_code=fields.code("fail_code"),
        fail_msg=fields.text("fail_msg"),
        create_time=fields.time("create_time"),
        complete_time=fields.time("complete_time"),
        update_time=fields.time("update_time"),
        cost_time=_cost_time(fields),
        credits_consumed=fields.number("credits_consumed"),
        record=record,
    )


def _result_urls(results: Any, state: TaskState) -> tuple[str, ...]:
    if not results:
        return ()
    found = _parsed(results)
    urls = found.get(_URLS) if isinstance(found, dict) else None
    if isinstance(urls, list) and all(isinstance(url, str) for url in urls):
        return tuple(urls)
    if state is TaskState.SUCCESS:
        raise ValueError("its results cannot be read")
    return ()


def _input(param: Any) -> Mapping[str, Any]:
    """Return the input of a request that was kept as JSON text, the input inside it as JSON or as text once more."""
    request = _parsed(param)
    found = _parsed(request.get(job_api().fields.input)) if isinstance(request, dict) else None
    return found if isinstance(found, dict) else {}


def _parsed(value: Any) -> Any:
    """Return what a JSON text says, ``None`` where it is none; what is no text is there already."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _cost_time(fields: _Fields) -> timedelta | None:
    """Return how long a task took: told in milliseconds or in seconds, whichever comes nearer to its other times."""
    cost, began, ended = (fields.number(name) for name in ("cost_time", "create_time", "complete_time"))
    if cost is None or not 0 <= cost < _LONGEST:
        return None
    milliseconds = timedelta(milliseconds=cost)
    if not began or not ended:
        return milliseconds
    lasted = ended - began
    return milliseconds if abs(cost - lasted) <= abs(cost * 1000 - lasted) else timedelta(seconds=cost)


_LONGEST: Final = 10**11
"""Three years in milliseconds; what is longer is no duration of a task."""
