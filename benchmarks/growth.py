"""Measure what a createTask request costs with more and more tasks in each store.

Usage: ``python benchmarks/growth.py [--tasks N] [--redis URL] [--write]``. The requests go through the application in
this process, 32 at a time. Processor time is measured, that of the store's threads included, and beside it the longest
time in which the event loop did nothing else. Between the measurements, the store is filled with copies of a task.
"""

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace
from report import Curve, growth_table, write_growth
from seedbed_mock import create_app
from seedbed_schemas import local
from subjects import CONTRACT, HEADERS, WITHOUT_CALLBACK

MOST_TASKS: Final = 1_000_000
_AT_ONCE: Final = 32
_MEASURED: Final = 4000
"""Number of requests at each point."""

_BATCHES: Final = 20
_FILLED_AT_ONCE: Final = 256
_TICK_SECONDS: Final = 0.001
_SUCCESS: Final = b'{"code":200,'


@dataclass(frozen=True)
class Point:
    """What a request costs at one number of tasks.

    Attributes:
        tasks: Number of tasks in the store.
        microseconds: Processor time of a request, the median of some batches.
        stall: Longest time between two turns of the event loop, in milliseconds.
    """

    tasks: int
    microseconds: float
    stall: float


class Server:
    """An application in this process.

    Args:
        database: Value of ``--db``, ``None`` for memory.
        keep: Value of ``--keep-tasks``.
    """

    def __init__(self, database: str | None, keep: int) -> None:
        self.app = create_app(rate_limit="off", credits=1_000_000_000, db=database, keep_tasks=keep)
        # As the server does when it starts.
        gc.collect()
        gc.freeze()
        self.body = json.dumps(WITHOUT_CALLBACK).encode()
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": CONTRACT.operation.path,
            "query_string": b"",
            "headers": [
                (b"host", local.HOST.encode()),
                *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
            ],
            "server": (local.HOST, local.PORT),
        }
        self.stall = 0.0
        self.filled = 0

    async def create(self, number: int) -> None:
        """Create tasks, some at a time, which wait for their responses as clients do."""

        async def create_some(some: int) -> None:
            for _ in range(some):
                await self.app({**self.scope}, self._receive, self._send)

        await asyncio.gather(*(create_some(number // _AT_ONCE) for _ in range(_AT_ONCE)))

    async def fill(self, number: int) -> None:
        """Add copies of a task, which the same account has paid for."""
        service = self.app.state.service
        store, account = service.store, service.spaces.default.accounts[local.KEY]
        ((_, task),) = await store.page(limit=1)
        for first in range(0, number, _FILLED_AT_ONCE):
            self.filled += (some := min(_FILLED_AT_ONCE, number - first))
            names = (f"filled_{self.filled - each}" for each in range(some))
            await asyncio.gather(*(store.create(replace(task, task_id=name), account) for name in names))

    async def _receive(self) -> dict[str, Any]:
        # As a socket does, so that the event loop turns after each request.
        await asyncio.sleep(0)
        return {"type": "http.request", "body": self.body, "more_body": False}

    async def _send(self, message: Any) -> None:
        if not message.get("body", _SUCCESS).startswith(_SUCCESS):
            raise RuntimeError(f"the request was refused: {message['body'][:300]!r}")

    async def measure(self, tasks: int) -> Point:
        """Return what a request costs now."""
        self.stall = 0.0
        watching = asyncio.create_task(self._watch())
        costs: list[float] = []
        for _ in range(_BATCHES):
            began = time.process_time()
            await self.create(_MEASURED // _BATCHES)
            costs.append((time.process_time() - began) / (_MEASURED // _BATCHES // _AT_ONCE * _AT_ONCE) * 1e6)
            await asyncio.sleep(0)
        watching.cancel()
        return Point(tasks, statistics.median(costs), self.stall * 1000)

    async def _watch(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.perf_counter()
            self.stall, last = max(self.stall, now - last - _TICK_SECONDS), now

    async def close(self) -> None:
        """Stop."""
        await self.app.state.dispatcher.close()
        await self.app.state.service.store.close()


def points(most: int) -> list[int]:
    """Return the numbers of tasks at which a request is measured: three in each power of ten."""
    return [count for power in range(4, 8) for count in (10**power, 2 * 10**power, 5 * 10**power) if count <= most]


async def grow(database: str | None, most: int) -> list[Point]:
    """Return what a request costs while a store is filled."""
    server, found, tasks = Server(database, keep=most * 2), list[Point](), _AT_ONCE
    try:
        await server.create(_AT_ONCE)
        for wanted in points(most):
            await server.fill(wanted - tasks - _MEASURED)
            found.append(await server.measure(wanted))
            tasks = wanted
            shown = f"{wanted:,} tasks: {found[-1].microseconds:.1f} µs, longest stall {found[-1].stall:.1f} ms"
            print(f"[growth] {database or 'memory'}: {shown}", file=sys.stderr, flush=True)
    finally:
        await server.close()
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each store and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=MOST_TASKS, help="largest number of tasks; default: a million")
    parser.add_argument("--redis", help="URL of a Redis server, whose database is filled")
    parser.add_argument("--write", action="store_true", help="write the plot and the table to docs/performance.md")
    options = parser.parse_args(arguments)
    if options.tasks < points(MOST_TASKS)[0]:
        print(f"growth.py: --tasks must be at least {points(MOST_TASKS)[0]}, not {options.tasks}.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        stores = {"memory": None, "SQLite": str(Path(folder, "tasks.db"))}
        if options.redis:
            stores["Redis"] = options.redis
        curves = [_curve(name, database, options.tasks) for name, database in stores.items()]
    print(growth_table(curves))
    if options.write:
        write_growth(curves)
    return 0


def _curve(name: str, database: str | None, most: int) -> Curve:
    found = asyncio.run(grow(database, most))
    return Curve(name, [(each.tasks, each.microseconds) for each in found], max(each.stall for each in found))


if __name__ == "__main__":
    sys.exit(main())
