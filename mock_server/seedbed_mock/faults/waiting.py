"""Waiting while a request is under way: it holds nobody up, and ends when the client leaves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Receive

    from seedbed_mock.clock import Clock

_TICK = 0.0005
"""In seconds: half of the millisecond to which a clock is read, and more than what its turns add up wrongly."""


async def until_left(receive: Receive) -> None:
    """Wait until the client leaves; what it sends before that is dropped.

    Args:
        receive: That of a request whose body was read.
    """
    while (await receive())["type"] != "http.disconnect":
        pass


async def sleep_until_left(seconds: float, receive: Receive) -> bool:
    """Wait so long, or until the client leaves, and tell whether it did.

    Args:
        seconds: How long at most; others get their turn even where it is 0.
        receive: That of a request whose body was read, and whose answer is not all sent.
    """
    try:
        async with asyncio.timeout(seconds):
            await until_left(receive)
    except TimeoutError:
        return False
    return True


async def sleep_by_clock(clock: Clock, seconds: float, receive: Receive) -> bool:
    """Wait so long by a clock, or until the client leaves, and tell whether it did.

    Args:
        clock: Whose seconds they are; it may be turned meanwhile, from any thread.
        seconds: How long at most.
        receive: That of a request whose body was read, and whose answer is not all sent.
    """
    loop, ends = asyncio.get_running_loop(), clock.now() + seconds

    def turned(_: float) -> None:
        loop.call_soon_threadsafe(wake)

    def wake() -> None:
        if not limit.expired():
            limit.reschedule(_when(clock, ends))

    limit = asyncio.timeout_at(_when(clock, ends))
    unwatch = clock.watch(turned)
    try:
        async with limit:
            await until_left(receive)
    except TimeoutError:
        return False
    finally:
        unwatch()
    return True


def _when(clock: Clock, ends: float) -> float | None:
    """Return when a moment of a clock comes, by the event loop; ``None`` while the clock stands still before it."""
    left = ends - clock.now()
    if left > _TICK and not clock.speed:
        return None
    return asyncio.get_running_loop().time() + (max(left, 0) / clock.speed if clock.speed else 0)
