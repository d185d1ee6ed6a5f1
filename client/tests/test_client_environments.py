"""The client works in the event loops, threads, processes and frozen clocks in which programs use it."""

import ast
import asyncio
import datetime as dt
import gc
import inspect
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import freezegun
import pytest
import time_machine
import trio
from seedbed_client import (
    AsyncSeedreamClient,
    CallbackReceiver,
    PollingSchedule,
    PollingStep,
    SeedreamClient,
    SubmissionState,
    Task,
    WaitTimeoutError,
    submissions_of,
)
from seedbed_client._callback_inbox import CallbackInbox
from seedbed_mock import MockServer, running

QUICK = PollingSchedule(steps=(PollingStep(0, 0.001, 0.002),))
LONG_AGO = dt.datetime(2012, 1, 14, tzinfo=dt.UTC)


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running(progress="polls:2", rate_limit="off", credits=10**6) as server:
        yield server


def async_client(server: MockServer) -> AsyncSeedreamClient:
    return AsyncSeedreamClient(server.url, server.key, polling=QUICK, max_retries=0)


async def use(client: AsyncSeedreamClient) -> Task:
    """Use all that waits, connects and downloads."""
    task = await client.generate("a hill")
    assert len(await client.result_images(task)) == 1
    assert [task.state async for task in (await client.submit("a lake")).iter_states()][-1:] == ["success"]
    return task


def use_blocking(client: SeedreamClient) -> Task:
    task = client.generate("a hill")
    assert len(client.result_images(task)) == 1
    return task


def repeated_asyncio_run(server: MockServer) -> None:
    client = async_client(server)
    assert len({asyncio.run(use(client)).task_id for _ in range(4)}) == 4
    asyncio.run(client.close())


def uvloop_run(server: MockServer) -> None:
    uvloop = pytest.importorskip("uvloop")
    client = async_client(server)
    assert len({uvloop.run(use(client)).task_id for _ in range(2)}) == 2


def trio_run(server: MockServer) -> None:
    client = async_client(server)
    assert len({trio.run(use, client).task_id for _ in range(2)}) == 2
    # The same client, then in asyncio.
    assert asyncio.run(use(client)).succeeded


def anyio_on_both_backends(server: MockServer) -> None:
    async def use_in_a_task_group(backend: str) -> None:
        async with async_client(server) as client, anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(use, client, name=backend)

    for backend in ("asyncio", "trio"):
        anyio.run(use_in_a_task_group, backend, backend=backend)


def threads_with_loops_of_their_own(server: MockServer) -> None:
    client = async_client(server)
    with ThreadPoolExecutor(4) as pool:
        tasks = list(pool.map(lambda _: asyncio.run(use(client)), range(8)))
    assert len({task.task_id for task in tasks}) == 8


def threads_that_share_a_blocking_client(server: MockServer) -> None:
    with SeedreamClient(server.url, server.key, polling=QUICK) as client, ThreadPoolExecutor(4) as pool:
        assert len({task.task_id for task in pool.map(lambda _: use_blocking(client), range(8))}) == 8


def notebook(server: MockServer) -> None:
    # As IPython does it: cells with "await" at the top level, each compiled by itself and run in a loop that goes on.
    names: dict[str, Any] = {
        "client": async_client(server),
        "use": use,
        "blocking": SeedreamClient(server.url, server.key, polling=QUICK),
    }
    cells = ["task = await use(client)", "other = await use(client)", "third = blocking.generate('a sea')"]

    async def run_cells() -> None:
        for cell in cells:
            code = compile(cell, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)  # noqa: S307 (this is what a notebook does)
            if inspect.isawaitable(result):
                await result
        await names["client"].close()
        names["blocking"].close()

    asyncio.run(run_cells())
    assert len({names[name].task_id for name in ("task", "other", "third")}) == 3


def frozen_by_freezegun(server: MockServer) -> None:
    with SeedreamClient(server.url, server.key, polling=QUICK, timeout=5) as client, freezegun.freeze_time(LONG_AGO):
        assert use_blocking(client).succeeded
        stuck = client.create_task("a hill [[fault: task.stuck]]")
        with pytest.raises(WaitTimeoutError):  # although the time of the program stands still
            client.wait(stuck, timeout=0.05)
    with freezegun.freeze_time(LONG_AGO, real_asyncio=True):
        repeated_asyncio_run(server)


def travelling_with_time_machine(server: MockServer) -> None:
    with time_machine.travel(LONG_AGO, tick=False):
        with SeedreamClient(server.url, server.key, polling=QUICK) as client:
            assert use_blocking(client).succeeded
            stuck = client.create_task("a hill [[fault: task.stuck]]")
            with pytest.raises(WaitTimeoutError):
                client.wait(stuck, timeout=0.05)
        repeated_asyncio_run(server)


FORKED = """
import asyncio, os, sys
from seedbed_client import AsyncSeedreamClient, SeedreamClient

shared, blocking = (cls(sys.argv[1], "seedbed-key") for cls in (AsyncSeedreamClient, SeedreamClient))
before = asyncio.run(shared.create_task("a hill")), blocking.create_task("a hill")
child = os.fork()
after = asyncio.run(shared.create_task("a hill")), blocking.create_task("a hill")
if not child:
    os._exit(0 if len({*before, *after}) == 4 else 1)
blocking.close()
sys.exit(os.waitpid(child, 0)[1] or len({*before, *after}) != 4)
"""


def forked_process(server: MockServer) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("processes do not fork here")
    command = [sys.executable, "-W", "error", "-c", FORKED, server.url]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


PYTEST_ASYNCIO = """
import pytest
from seedbed_client import AsyncSeedreamClient

client = AsyncSeedreamClient({url!r}, "seedbed-key")

@pytest.fixture
async def task_id():
    return await client.create_task("a hill")

@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(3))
async def test_each_in_a_loop_of_its_own(task_id, number):
    assert (await client.get_task(task_id)).task_id == task_id

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_of_anyio(anyio_backend):
    assert await client.create_task("a lake")
"""


def plugins_for_async_tests(server: MockServer) -> None:
    # In a process of its own, because the modes of a plugin apply to all tests of a run.
    plugins = ["-p", "pytest_asyncio.plugin", "-p", "anyio.pytest_plugin"]
    options = [*plugins, "-p", "no:cacheprovider", "--asyncio-mode=auto", "-W", "error"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        test, settings = Path(folder, "test_user.py"), Path(folder, "pytest.ini")
        test.write_text(PYTEST_ASYNCIO.format(url=server.url))
        settings.write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
        command = [sys.executable, "-m", "pytest", *options, "-c", str(settings), str(test)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    assert "5 passed" in ended.stdout, ended.stdout + ended.stderr


ENVIRONMENTS: dict[str, Callable[[MockServer], None]] = {
    "asyncio, with `asyncio.run()` any number of times": repeated_asyncio_run,
    "uvloop": uvloop_run,
    "trio": trio_run,
    "anyio, on asyncio and trio": anyio_on_both_backends,
    "threads, each with an event loop of its own": threads_with_loops_of_their_own,
    "threads that share a `SeedreamClient`": threads_that_share_a_blocking_client,
    "Jupyter and IPython, with `await` in cells": notebook,
    "`os.fork()`, with a client made before": forked_process,
    "pytest-asyncio and the pytest plugin of anyio, with a loop per test": plugins_for_async_tests,
    "freezegun": frozen_by_freezegun,
    "time-machine": travelling_with_time_machine,
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_client_works_in(name: str, server: MockServer) -> None:
    ENVIRONMENTS[name](server)
    gc.collect()  # a connection that was left open warns now, which fails the test


def test_the_documentation_lists_the_tested_environments() -> None:
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
    table = page.partition("<!-- environments -->")[2].partition("\n\n##")[0]
    rows = re.findall(r"^\| (.+?) \|", table, flags=re.MULTILINE)
    assert rows[1:] == list(ENVIRONMENTS)


def test_a_client_may_be_closed_in_another_loop(server: MockServer) -> None:
    client = async_client(server)
    used, closed = threading.Event(), threading.Event()

    async def use_and_stay() -> None:
        await use(client)
        used.set()
        await asyncio.to_thread(closed.wait)

    thread = threading.Thread(target=asyncio.run, args=(use_and_stay(),))
    thread.start()
    used.wait()
    trio.run(client.close)
    closed.set()
    thread.join()
    with pytest.raises(RuntimeError, match="closed"):
        asyncio.run(client.credits())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_callback_from_another_thread_ends_a_wait(server: MockServer, backend: str) -> None:
    receiver = CallbackReceiver()

    async def wait() -> Task:
        async with async_client(server) as client:
            task_id = await client.create_task("a hill")
            await client.get_task(task_id)
            threading.Timer(0.01, receiver.inbox.put, [task_id]).start()
            return await client.wait_for_callback(task_id, receiver, timeout=20)

    assert anyio.run(wait, backend=backend).succeeded


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_inbox_stops_waiting_in_time(backend: str) -> None:
    assert anyio.run(CallbackInbox().wait_async, "t1", 0.001, backend=backend) is False


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancel_scope_discards_the_exception_but_not_the_task(
    server: MockServer, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[SubmissionState] = []

    async def give_up() -> BaseException | None:
        caught: BaseException | None = None
        async with AsyncSeedreamClient(
            server.url, server.key, on_submission=lambda submission: seen.append(submission.state)
        ) as client:
            with anyio.move_on_after(0.3):
                try:
                    await client.generate("a hill [[fault: task.stuck]]")
                except BaseException as error:
                    caught = error
                    raise
        return caught

    caught = anyio.run(give_up, backend=backend)
    (submission,) = submissions_of(caught)
    assert seen == [SubmissionState.IN_DOUBT, SubmissionState.CREATED]
    assert server.task(submission.task_id or "")["state"] == "waiting"
    assert f"The task ID is {submission.task_id}" in caplog.text
