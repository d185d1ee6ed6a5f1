"""How long an answer may take as a whole: httpx2 bounds each part of it, and of parts there may be any number."""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping

    Read = Callable[..., bytes]
    AsyncRead = Callable[..., Awaitable[bytes]]

_SLOWEST: Final = 4096
"""Bytes of a file that come in a second at least."""

_SHORTEST: Final = 0.001
"""Seconds that a read is given at least: with none at all it would not wait, and fail for another reason."""


class Limit:
    """The time that an answer may take, which begins now.

    Args:
        seconds: How long.
        begins_when_sent: Whether it begins anew when the request is sent: what is asked for may cost, so that the time
            for which the request waited for a connection is no reason to throw its answer away.
    """

    def __init__(self, seconds: float, *, begins_when_sent: bool) -> None:
        self._seconds, self._begins_when_sent = seconds, begins_when_sent
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._ends - time.monotonic()

    def extend(self, size: int) -> None:
        """Allow for so many bytes of a file: a large one may take longer, as long as it goes on."""
        self._ends += size / _SLOWEST

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear what httpx2 is about to do: its extension ``trace``, for clients that block."""
        self._hear(event, info, _bounded)

    async def atrace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear what httpx2 is about to do: its extension ``trace``, for those that do not."""
        self._hear(event, info, _bounded_async)

    def _hear(self, event: str, info: Mapping[str, Any], bounded: Callable[[Any], object]) -> None:
        if self._begins_when_sent and event.endswith("send_request_headers.started"):
            self._ends = time.monotonic() + self._seconds
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            stream = info["return_value"]
            stream.read = bounded(stream.read)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Bound what is read while the block runs, by this task or thread."""
        token = _in_force.set(self)
        try:
            yield
        finally:
            _in_force.reset(token)


_in_force: ContextVar[Limit | None] = ContextVar("limit of the call being made", default=None)
# Connections outlive calls, so each read asks which limit is in force just then.


def _bounded(read: Read) -> Read:
    def read_in_time(size: int, timeout: float | None = None) -> bytes:
        return read(size, _shorter(timeout))

    return read_in_time


def _bounded_async(read: AsyncRead) -> Callable[..., Coroutine[Any, Any, bytes]]:
    async def read_in_time(size: int, timeout: float | None = None) -> bytes:
        return await read(size, _shorter(timeout))

    return read_in_time


def _shorter(timeout: float | None) -> float | None:
    limit = _in_force.get()
    if limit is None:
        return timeout
    left = max(limit.left, _SHORTEST)
    return left if timeout is None else min(timeout, left)
