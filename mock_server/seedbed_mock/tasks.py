"""A task: a timeline fixed when it is made, so that its state and its record depend on nothing but the time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from seedbed_schemas.wire import Record, Results

from seedbed_mock.results.picture import RESULTS

if TYPE_CHECKING:
    from seedbed_schemas.dialect import Dialect
    from seedbed_schemas.job_api import States

    from seedbed_mock.accounts import Account
    from seedbed_mock.results.picture import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        task_id: Its name.
        account: Who made it.
        model: What makes its image.
        param: The request, as the JSON text that was sent.
        picture: What its result shows.
        result_name: File name of its result, which nobody can guess.
        created: When it was made, in Unix milliseconds.
        duration: How long it takes, in milliseconds.
    """

    task_id: str
    account: Account
    model: str
    param: str
    picture: Picture
    result_name: str
    created: int
    duration: int

    @property
    def completed(self) -> int:
        """When it ends, in Unix milliseconds."""
        return self.created + self.duration

    def state(self, now: int, states: States) -> str:
        """Return its state at that time, in Unix milliseconds; each state before the end has an equal share."""
        elapsed = max(now - self.created, 0)
        if elapsed >= self.duration:
            return states.success
        return states.pending[elapsed * len(states.pending) // self.duration]

    def changed(self, now: int, states: States) -> int:
        """Return when it came to be in its state at that time, both in Unix milliseconds."""
        shares = len(states.pending)
        share = min(max(now - self.created, 0) * shares // self.duration, shares) if self.duration else shares
        return self.created - (-share * self.duration // shares)


def record(task: Task, now: int, *, base_url: str, states: States, dialect: Dialect) -> Record:
    """Return the task as the service shows it at that time, in Unix milliseconds."""
    state = task.state(now, states)
    results = Results([f"{base_url}{RESULTS}/{task.result_name}"])
    values = Record(
        task_id=task.task_id,
        model=task.model,
        state=state,
        param=task.param,
        result_json=msgspec.json.encode(results).decode(),
        fail_code=None,
        fail_msg=None,
        cost_time=task.duration,
        complete_time=task.completed,
        create_time=task.created,
        update_time=task.changed(now, states),
    )
    return _in_dialect(values, dialect)


def _in_dialect(values: Record, dialect: Dialect) -> Record:
    written: dict[str, Any] = {
        field: dialect.written(name, getattr(values, field), values.state) for field, name in _RECORD_FIELDS
    }
    return Record(**written)


_RECORD_FIELDS = tuple(zip(Record.__struct_fields__, Record.__struct_encode_fields__, strict=True))
