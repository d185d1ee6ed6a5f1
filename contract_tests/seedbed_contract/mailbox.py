"""The addresses of one run at which callbacks are awaited, or must not come."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import job_api

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_contract.receiver import Received, Receiver

_ERROR: Final = 500
_MARK_BITS: Final = 64


@dataclass
class Mailbox:
    """Gives out addresses of a receiver.

    Attributes:
        receiver: Where they are, ``None`` where the target cannot reach this machine.
        failing: Paths whose first callback is answered with an error.
        given: All paths that were told.
        refused: Paths that were told in calls which were refused.
    """

    receiver: Receiver | None = None
    failing: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _mark: str = field(default_factory=lambda: f"{random.SystemRandom().getrandbits(_MARK_BITS):016x}")

    def address(self, request: Any, suffix: str = "", *, fails_first: bool = False) -> tuple[Any, str]:
        """Return a request that asks for a callback, and the path where to await it; empty where there is no receiver.

        Args:
            request: The request.
            suffix: What stands behind the path.
            fails_first: Whether the first callback is answered with an error.
        """
        if self.receiver is None:
            return request, ""
        target = f"/{self._mark}/{next(self._numbers)}{suffix}"
        path = target.partition("?")[0]
        self.given.add(path)
        if fails_first:
            self.failing.add(path)
            self.receiver.statuses[path] = [_ERROR]
        return {**request, job_api().fields.callback: self.receiver.url(target)}, path

    def came(self, path: str) -> list[Received]:
        """Return what came to a path."""
        return self.receiver.at(path) if self.receiver and path else []
