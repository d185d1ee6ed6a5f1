"""A thousand tasks at once on one client: few connections, and nothing left behind."""

import asyncio
import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from seedbed_client import AsyncSeedreamClient, PollingSchedule, PollingStep, SeedreamClient
from seedbed_mock import MockServer, running

COUNT = 1000
MOST_CONNECTIONS = 100
ROUGHLY = 20
QUICK = PollingSchedule(steps=(PollingStep(0, 0.1, 0.2),))
HANDLES = Path("/proc/self/fd")


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running(task_seconds=0.2, rate_limit="off", credits=10**6, keep_tasks=10) as server:
        yield server


def open_handles() -> int:
    return len(list(HANDLES.iterdir()))


async def generate_many(server: MockServer, count: int) -> int:
    """Generate that many images at once, and return the largest number of open file handles."""
    most, done = 0, asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, open_handles())
            await asyncio.sleep(0.01)

    async with AsyncSeedreamClient(server.url, server.key, polling=QUICK, timeout=120) as client:
        watcher = asyncio.create_task(watch())
        tasks = await asyncio.gather(*(client.generate(f"hill {number}") for number in range(count)))
        done.set()
        await watcher
    assert all(task.succeeded for task in tasks)
    assert len({task.task_id for task in tasks}) == count
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return most


@pytest.mark.slow
@pytest.mark.skipif(not HANDLES.exists(), reason="open handles are counted in /proc, which this system does not have")
def test_a_thousand_tasks_at_once_use_few_connections_and_leave_none_open(server: MockServer) -> None:
    server.play(task_seconds=0.2, rate_limit="off", credits=10**6)
    asyncio.run(generate_many(server, 10))
    before = open_handles()
    most = asyncio.run(generate_many(server, COUNT))
    # Both ends of a connection are in this process.
    assert most - before <= 2 * MOST_CONNECTIONS + ROUGHLY
    assert open_handles() <= before + ROUGHLY
    with SeedreamClient(server.url, server.key) as client:
        assert client.credits() == 10**6 - 6.5 * (COUNT + 10)


@pytest.mark.slow
def test_the_client_does_not_accumulate_memory() -> None:
    with (
        running(task_seconds=0, rate_limit="off", credits=10**6, keep_tasks=10) as server,
        SeedreamClient(server.url, server.key) as client,
    ):
        for _ in range(20):
            client.generate("a hill")
        gc.collect()
        tracemalloc.start()
        try:
            filters = [tracemalloc.Filter(inclusive=True, filename_pattern="*/seedbed_client/*")]
            before = tracemalloc.take_snapshot().filter_traces(filters)
            for _ in range(200):
                client.generate("a hill")
            gc.collect()
            after = tracemalloc.take_snapshot().filter_traces(filters)
        finally:
            tracemalloc.stop()
    assert sum(entry.size_diff for entry in after.compare_to(before, "filename")) < 20_000


def test_threads_may_share_a_client(server: MockServer) -> None:
    server.play(task_seconds=0.2, rate_limit="off", credits=10**6)
    with SeedreamClient(server.url, server.key, polling=QUICK) as client, ThreadPoolExecutor(16) as pool:
        tasks = list(pool.map(lambda number: client.generate(f"hill {number}"), range(64)))
    assert len({task.task_id for task in tasks}) == 64


def test_a_closed_client_refuses_calls(server: MockServer) -> None:
    client = SeedreamClient(server.url, server.key)
    client.credits()
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.credits()


FORKED = """
import os, sys
from seedbed_client import SeedreamClient

client = SeedreamClient(sys.argv[1], "seedbed-key")
client.credits()
children = []
for number in range(4):
    child = os.fork()
    if not child:
        with client:
            prompts = [f"{number} {each}" for each in range(10)]
            right = [client.get_task(client.create_task(prompt)).input["prompt"] == prompt for prompt in prompts]
        os._exit(0 if all(right) else 1)
    children.append(child)
ends = [os.waitpid(child, 0)[1] for child in children]
client.credits()
client.close()
sys.exit(any(ends))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_a_forked_process_uses_its_own_connections(server: MockServer) -> None:
    server.play(task_seconds=0, rate_limit="off", credits=10**6)
    command = [sys.executable, "-W", "error", "-c", FORKED, server.url]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
