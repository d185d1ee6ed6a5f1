"""What the client gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from seedbed_schemas import job_api
from seedbed_schemas.wire import Results

if TYPE_CHECKING:
    from seedbed_schemas.wire import Record


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the service shows it.

    Attributes:
        task_id: Its name.
        model: What makes its image.
        state: Where it is in its life.
        param: The request, as JSON text.
        result_urls: Where its images are; empty before it has succeeded.
        fail_code: Kind of failure; empty where there is none.
        fail_msg: Failure in words; empty where there is none.
        create_time: When it was made, in Unix milliseconds.
        complete_time: When it ended, in Unix milliseconds.
    """

    task_id: str
    model: str
    state: str
    param: str
    result_urls: tuple[str, ...]
    fail_code: str
    fail_msg: str
    create_time: int
    complete_time: int | None

    @property
    def succeeded(self) -> bool:
        """Whether it ended with a result."""
        return self.state == job_api().states.success

    @property
    def failed(self) -> bool:
        """Whether it ended without one."""
        return self.state == job_api().states.failure


def task_of(record: Record) -> Task:
    """Return the task that a record shows, whichever way the service leaves out what is not there yet.

    Raises:
        msgspec.DecodeError: Its results cannot be read.
    """
    results = msgspec.json.decode(record.result_json, type=Results).result_urls if record.result_json else []
    return Task(
        task_id=record.task_id,
        model=record.model,
        state=record.state,
        param=record.param,
        result_urls=tuple(results),
        fail_code=record.fail_code or "",
        fail_msg=record.fail_msg or "",
        create_time=record.create_time,
        complete_time=record.complete_time or None,
    )
