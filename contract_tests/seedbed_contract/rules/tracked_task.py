"""A task of a run, with the records that were fetched of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from seedbed_contract.rules.task_record import ENDED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_contract.http import Exchange, RequestBuilder


@dataclass(eq=False)
class TrackedTask:
    """A task of a run.

    Attributes:
        name: Name of the case that created it.
        request: Body of the request that created it.
        exchange: Exchange that created it.
        builder: Builds requests with the key that created it.
        task_id: Id of the task.
        callback_path: Path that its callback is expected at; empty if none was requested.
        is_followed: Whether it is polled until it ends.
        is_meant_to_fail: Whether its prompt makes it fail.
        polls: Fetched records, each with its exchange, in order.
        polled_at: Time of the last poll, by the monotonic clock.
        ended_at: Time when it was first seen to have ended, in Unix seconds; 0 before.
    """

    name: str
    request: Mapping[str, Any]
    exchange: Exchange
    builder: RequestBuilder
    task_id: str
    callback_path: str = ""
    is_followed: bool = True
    is_meant_to_fail: bool = False
    polls: list[tuple[Mapping[str, Any], Exchange]] = field(default_factory=list)
    polled_at: float = 0.0
    ended_at: float = 0.0

    @property
    def record(self) -> Mapping[str, Any]:
        """The last record; empty before the first poll."""
        return self.polls[-1][0] if self.polls else {}

    @property
    def state(self) -> str:
        """The state in the last record; empty before the first poll."""
        return str(self.record.get("state", ""))

    @property
    def has_ended(self) -> bool:
        """Whether the last record is that of a task that has ended."""
        return self.state in ENDED
