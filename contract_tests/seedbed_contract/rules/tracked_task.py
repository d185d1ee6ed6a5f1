"""A task that a run made, and what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from seedbed_contract.rules.task_record import ENDED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_contract.http import Exchange, RequestBuilder


@dataclass(eq=False)
class TrackedTask:
    """A task that a run made.

    Attributes:
        name: What is special of it.
        request: The request that made it.
        exchange: Its request and answer.
        asks: What makes requests with the key that it was made with.
        task_id: Name of the task.
        path: Where its callback is awaited, empty where none was asked for.
        is_followed: Whether it is looked at until it has ended.
        is_meant_to_fail: Whether its prompt makes it fail.
        looks: Its records, each with the exchange that showed it, in order.
        polled_at: When it was last looked at, by the monotonic clock.
        ended_at: When it was first seen to have ended, in Unix seconds; 0 before.
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
        """The record as it was last seen, empty before."""
        return self.polls[-1][0] if self.polls else {}

    @property
    def state(self) -> str:
        """The state that was last seen, empty before."""
        return str(self.record.get("state", ""))

    @property
    def has_ended(self) -> bool:
        """Whether it was seen to have ended."""
        return self.state in ENDED
