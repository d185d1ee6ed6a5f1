"""The metrics of a server for Prometheus, in the formats of OpenMetrics and of Prometheus itself.

Calls are counted as they are journaled. Everything else is read when it is asked for, in small steps, so that a scrape
of a server with many tasks does not hold its calls up.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import exposition as prometheus
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from seedbed_schemas import __version__

from seedbed_mock.journal import CALLBACK, DURATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from seedbed_mock.state import Service
    from seedbed_mock.tasks import Task


MOST_TASKS: Final = 10_000
"""Number of tasks whose states are counted, the newest: a store can have millions."""

_TASKS_AT_ONCE = 100
_SECOND = 1000


async def exposition(service: Service, accept: str) -> tuple[bytes, str]:
    """Return the metrics of a server and their media type.

    Args:
        service: The service of the server.
        accept: Value of the Accept header, which selects the format.
    """
    tasks, callbacks = await _outcomes(service)
    registry = CollectorRegistry()
    kept = GaugeMetricFamily("seedbed_store_tasks", "Tasks in the store.", value=await service.store.count())
    registry.register(_Collected([*_calls(service), *_tasks(service, tasks, callbacks), kept, *_server(service)]))
    encode, media_type = prometheus.choose_encoder(accept)
    return encode(registry), media_type


class _Collected(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


async def _outcomes(service: Service) -> tuple[Counter[str], Counter[str]]:
    """Return the numbers of tasks by state and of callbacks by outcome."""
    states = service.shared.states
    tasks = Counter(dict.fromkeys((*states.pending, states.success, states.failure), 0))
    callbacks: Counter[str] = Counter(dict.fromkeys(("waiting", "delivered", "failed", "refused", "withheld"), 0))
    now, seen = service.now(), 0
    before: int | None = None
    page: list[tuple[int, Task]]
    while seen < MOST_TASKS and (page := await service.store.page(None, before=before, limit=_TASKS_AT_ONCE)):
        for _, task in page:
            tasks[task.state(now)] += 1
            if task.callback:
                callbacks[task.callback.outcome] += 1
        seen, before = seen + len(page), page[-1][0]
        await asyncio.sleep(0)
    return tasks, callbacks


def _calls(service: Service) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "seedbed_requests", "Calls, by operation and code.", labels=("operation", "code", "fault")
    )
    durations = HistogramMetricFamily(
        "seedbed_request_duration",
        "Time until the response to a call was ready, without the time that a fault delays it.",
        labels=("operation",),
        unit="seconds",
    )
    attempts = CounterMetricFamily(
        "seedbed_callback_attempts", "Attempts to deliver a callback, by HTTP status.", labels=("status",)
    )
    by_operation: dict[str, list[float]] = {}
    for (operation, code, is_faulted), counts in service.spaces.budget.tally.items():
        number = sum(counts[:-1])
        shown = "" if code is None else str(code)
        if operation == CALLBACK:
            attempts.add_metric((shown,), number)
            continue
        requests.add_metric((operation, shown, "true" if is_faulted else "false"), number)
        total = by_operation.setdefault(operation, [0.0] * len(counts))
        by_operation[operation] = [sum(pair) for pair in zip(total, counts, strict=True)]
    for operation, counts in by_operation.items():
        reached, buckets = 0.0, []
        for bound, number in zip((*DURATIONS, None), counts[:-1], strict=True):
            reached += number
            buckets.append(("+Inf" if bound is None else str(bound / _SECOND), reached))
        durations.add_metric((operation,), buckets, counts[-1] / _SECOND)
    yield from (requests, durations, attempts)


def _tasks(service: Service, tasks: Counter[str], callbacks: Counter[str]) -> Iterator[Metric]:
    by_state = GaugeMetricFamily("seedbed_tasks", "Kept tasks, by state.", labels=("state",))
    for state, number in tasks.items():
        by_state.add_metric((state,), number)
    yield by_state
    queue = sum(tasks[state] for state in service.shared.states.pending)
    yield GaugeMetricFamily("seedbed_queue_depth", "Tasks that have not ended.", value=queue)
    by_outcome = GaugeMetricFamily("seedbed_callbacks", "Callbacks of kept tasks, by outcome.", labels=("outcome",))
    for outcome, number in callbacks.items():
        by_outcome.add_metric((outcome,), number)
    yield by_outcome
    if service.options.db is not None and not service.fleet:
        path = Path(service.options.db)
        # The changes that SQLite has not moved to the file yet are beside it.
        files = [each for each in (path, path.with_name(f"{path.name}-wal")) if each.exists()]
        size = sum(each.stat().st_size for each in files)
        yield GaugeMetricFamily("seedbed_store_size", "Size of the file of the store.", value=size, unit="bytes")
    bill = service.ledger.bill()
    yield GaugeMetricFamily("seedbed_bill_credits", "What the calls would have cost.", value=float(bill.credits))
    yield GaugeMetricFamily("seedbed_bill_images", "Images that the calls would have cost.", value=bill.images)


def _server(service: Service) -> Iterator[Metric]:
    entries, size = service.spaces.budget.size
    yield InfoMetricFamily("seedbed", "The server.", value={"version": __version__, "dialect": service.dialect.title})
    yield GaugeMetricFamily("seedbed_journal_entries", "Entries of all journals.", value=entries)
    yield GaugeMetricFamily("seedbed_journal_size", "Size of their bodies.", value=size, unit="bytes")
    yield GaugeMetricFamily("seedbed_spaces", "Spaces in use.", value=len(service.spaces.all()))
    rules = sum(active.is_enabled for active in service.faults)
    yield GaugeMetricFamily("seedbed_fault_rules", "Active fault rules.", value=rules)
    yield GaugeMetricFamily("seedbed_internal_errors", "Internal errors; each is a bug.", value=len(service.errors))
    now = service.now() / _SECOND
    yield GaugeMetricFamily("seedbed_clock", "Unix time of the server's clock.", value=now, unit="seconds")
