"""Tasks, as the client returns them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec
from seedbed_schemas import job_api
from seedbed_schemas.messages import Record, Results

_STATES: Final = job_api().states

_WIRE_NAMES: Final[dict[str, str]] = dict(zip(Record.__struct_fields__, Record.__struct_encode_fields__, strict=True))
"""Names of the fields of a record in JSON, by their names in Python."""

_URLS: Final = Results.__struct_encode_fields__[0]

_MAX_COST_TIME: Final = 10**11
"""Three years in milliseconds; a larger value is not a duration."""


class TaskState(StrEnum):
    """State of a task."""

    WAITING = _STATES.pending[0]
    QUEUING = _STATES.pending[1]
    GENERATING = _STATES.pending[2]
    SUCCESS = _STATES.success
    FAIL = _STATES.failure
    UNKNOWN = "unknown"
    """A state that this version does not know; the record has the name that the service uses."""

    @classmethod
    def _missing_(cls, value: object) -> TaskState:  # noqa: ARG003 (the signature is Python's)
        return cls.UNKNOWN


class Task(msgspec.Struct, frozen=True):
    """A task, as the service reports it.

    Attributes:
        task_id: ID of the task.
        model: Model that makes the image.
        state: State of the task.
        input: Input of the model; empty if it cannot be read.
        result_urls: URLs of the images; empty until the task has succeeded.
        fail_code: Code of the failure; empty without one.
        fail_msg: Message of the failure; empty without one.
        create_time: Time of creation.
        complete_time: Time of success or failure.
        update_time: Time of the last change of state.
        cost_time: Time that the generation took.
        credits_consumed: Price, in credits.
        record: The record as received, including fields that this version does not know.
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
        return isinstance(other, Task) and self._values() == other._values()

    def __hash__(self) -> int:
        # The input is a mapping and so not hashable; the ID alone is enough.
        return hash(self.task_id)

    def __repr__(self) -> str:
        shown = ("result_urls", "fail_code", "fail_msg")
        details = [f", {name}={value!r}" for name in shown if (value := getattr(self, name))]
        return f"Task({self.task_id!r}, {self.state}{''.join(details)})"

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as values of JSON: times as ISO 8601 text, durations in seconds."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        text = json.dumps(values, default=_json_value)
        # A record may hold numbers that JSON does not have, such as the infinity of 1e999.
        plain: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
        return plain

    def to_json(self) -> str:
        """Return the attributes as a line of JSON; see :meth:`to_dict`."""
        return json.dumps(self.to_dict())

    def _values(self) -> tuple[object, ...]:
        # The record may have fields that this version does not know; they do not make two tasks differ.
        return tuple(getattr(self, name) for name in self.__struct_fields__ if name != "record")

    @property
    def succeeded(self) -> bool:
        """Whether the task has succeeded."""
        return self.state is TaskState.SUCCESS

    @property
    def failed(self) -> bool:
        """Whether the task has failed."""
        return self.state is TaskState.FAIL


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    # A caller may have built the task with mappings of its own.
    return dict(value) if isinstance(value, Mapping) else str(value)


class SubmissionState(StrEnum):
    """What is known of a task that a client was to create."""

    NOT_CREATED = "not_created"
    """The request was not sent, or the service refused it. Nothing is charged."""
    IN_DOUBT = "in_doubt"
    """The request may have been sent, and no response shows the task. It may be charged."""
    CREATED = "created"
    """The task exists and may be charged."""


class Submission(msgspec.Struct, frozen=True):
    """A task that a client was to create, and what is known of it.

    Attributes:
        state: What is known of the task.
        task_id: ID of the task, once it is known.
        model: Model that makes the image; empty for a task that another call created.
        input: Input of the model, from the moment at which the request is sent.
    """

    state: SubmissionState
    task_id: str | None = None
    model: str = ""
    input: Mapping[str, Any] = {}

    @property
    def may_be_charged(self) -> bool:
        """Whether the task exists or may exist, so that it may cost credits."""
        return self.state is not SubmissionState.NOT_CREATED

    def describe(self) -> str:
        """Return a sentence about the task, without a full stop."""
        if self.task_id:
            return f"The task ID is {self.task_id}"
        if self.may_be_charged:
            return "It is not known whether the task was created and charged"
        return "No task was created"


class _RecordReader:
    """Reads the fields of a record. A field that is null, or of an unexpected type, counts as missing."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = record

    def value(self, name: str) -> Any:
        return self._record.get(_WIRE_NAMES[name])

    def text(self, name: str) -> str:
        value = self.value(name)
        return value if isinstance(value, str) else ""

    def code(self, name: str) -> str:
        # Dialects differ in whether a failure code is a number or a text.
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

    def cost_time(self) -> timedelta | None:
        """Return the time that the generation took. The service gives it in milliseconds or in seconds."""
        cost, began, ended = (self.number(name) for name in ("cost_time", "create_time", "complete_time"))
        if cost is None or not 0 <= cost < _MAX_COST_TIME:
            return None
        milliseconds = timedelta(milliseconds=cost)
        if not began or not ended:
            return milliseconds
        # The record does not name the unit: the one that fits the other times better is taken.
        lasted = ended - began
        return milliseconds if abs(cost - lasted) <= abs(cost * 1000 - lasted) else timedelta(seconds=cost)

    def result_urls(self, state: TaskState) -> tuple[str, ...]:
        """Return the URLs of the images.

        Raises:
            ValueError: The task has succeeded, and the URLs cannot be read.
        """
        results = self.value("result_json")
        if not results:
            return ()
        found = _decoded(results)
        urls = found.get(_URLS) if isinstance(found, dict) else None
        if isinstance(urls, list) and all(isinstance(url, str) for url in urls):
            return tuple(urls)
        if state is TaskState.SUCCESS:
            raise ValueError("the results of the record cannot be read")
        return ()

    def input(self) -> Mapping[str, Any]:
        """Return the input of the model, or an empty mapping if it cannot be read."""
        # The request is stored as JSON text. Inside it, the input is an object or, in one dialect, JSON text again.
        request = _decoded(self.value("param"))
        found = _decoded(request.get(job_api().fields.input)) if isinstance(request, dict) else None
        return found if isinstance(found, dict) else {}


def task_of(record: Mapping[str, Any]) -> Task:
    """Return the task that a record of any dialect describes.

    Raises:
        ValueError: The record has no task ID, or the results of a successful task cannot be read.
    """
    reader = _RecordReader(record)
    task_id, state = reader.text("task_id"), TaskState(reader.text("state"))
    if not task_id:
        raise ValueError("the record has no task ID")
    return Task(
        task_id=task_id,
        model=reader.text("model"),
        state=state,
        input=reader.input(),
        result_urls=reader.result_urls(state),
        fail_code=reader.code("fail_code"),
        fail_msg=reader.text("fail_msg"),
        create_time=reader.time("create_time"),
        complete_time=reader.time("complete_time"),
        update_time=reader.time("update_time"),
        cost_time=reader.cost_time(),
        credits_consumed=reader.number("credits_consumed"),
        record=record,
    )


def _decoded(value: Any) -> Any:
    """Return the value of a JSON text, ``None`` for an invalid one, and any other value unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None
