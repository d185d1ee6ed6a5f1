"""The process ``seedbed mcp``: a scripted agent from an empty folder to a drill, and the end of all that it started."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from seedbed_schemas import default_contract

COMMAND = [sys.executable, "-c", "import sys; from seedbed_mock.__main__ import command; sys.exit(command(['mcp']))"]
PAID = default_contract().operation.server
PROGRAM = """
import json, os, sys, time, urllib.request
base, key = "%s", os.environ["MY_API_KEY"]

def call(path, body=None):
    headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json"}
    request = urllib.request.Request(base + path, body and json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)

print("a line of the program", flush=True)
task = call("/api/v1/jobs/createTask", json.loads(sys.argv[1]))["data"]["taskId"]
while True:
    record = call("/api/v1/jobs/recordInfo?taskId=" + task)["data"]
    if record["state"] == "success":
        break
    if record["state"] == "fail":
        sys.exit(1)
    time.sleep(2)
urllib.request.urlopen(json.loads(record["resultJson"])["resultUrls"][0], timeout=10).read()
"""


@asynccontextmanager
async def connected(folder: Path, **variables: str) -> AsyncIterator[Client]:
    environment = {**os.environ, "MY_API_KEY": "a-real-key", **variables}
    parameters = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=environment, cwd=folder)
    async with Client(parameters) as client:
        yield client


def processes_with(text: str) -> list[int]:
    """Return the processes with a text in their environment, by Linux's list of them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


async def until(condition: Callable[[], bool], seconds: float = 40) -> None:
    """Wait for something that another process does."""
    for _ in range(int(seconds * 10)):
        if condition():
            return
        await asyncio.sleep(0.1)
    raise TimeoutError


@pytest.mark.asyncio
async def test_an_agent_goes_from_an_empty_folder_to_a_green_check_and_a_drill(tmp_path: Path) -> None:
    calls = 0
    seen: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        assert message
        assert total
        seen.append(progress)

    # Nothing in the environment leads a tool to the paid service.
    variables = {"SEEDBED_BASE_URL": PAID, "SEEDBED_URL": PAID, "HTTPS_PROXY": PAID, "SEEDBED_CHECK_SPEND": "100"}
    async with connected(tmp_path, **variables) as client:

        async def use(name: str, **arguments: Any) -> dict[str, Any]:
            nonlocal calls
            calls += 1
            result = await client.call_tool(name, arguments, progress_callback=note)
            answer: dict[str, Any] = result.structured_content
            return answer

        server = await use("start_server", task_seconds=1)
        refused = await use("create_task", request={"model": server["models"][0]})
        assert not refused["ok"]
        explained = await use("journal", last_refused=True)
        assert explained["broken"]
        created = await use("create_task")
        assert created["state"] == "success"
        body = created["untrusted"]["record"]["param"]
        (tmp_path / "app.py").write_text(PROGRAM % PAID)
        assert not (await use("check_server", url=PAID))["ok"]
        checked = await use("check_server")
        assert checked["conforms"], checked
        drilled = await use(
            "drill_program", command=[sys.executable, "app.py", body], scenarios=["moderation"], run_seconds=30
        )
        assert drilled["ok"], drilled
        assert [each["scenario"] for each in drilled["runs"]] == ["calm", "moderation"]
        assert drilled["runs"][0]["outcome"] == "passed"
        stopped = await use("stop_server")
        assert stopped["ok"]
    assert calls <= 10
    assert seen
    assert not (tmp_path / "report.json").exists()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the list of processes is that of Linux")
@pytest.mark.asyncio
async def test_a_cancelled_call_ends_its_processes(tmp_path: Path) -> None:
    mark = f"SEEDBED_TEST_MARK_{os.getpid()}_CANCEL"
    async with connected(tmp_path, TEST_MARK=mark) as client:
        waiting = asyncio.create_task(
            client.call_tool("drill_program", {"command": [sys.executable, "-c", "import time; time.sleep(600)"]})
        )
        await until(lambda: len(processes_with(mark)) > 2)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await until(lambda: len(processes_with(mark)) == 1)
        assert (await client.call_tool("start_server", {})).structured_content["ok"]
        late = (await client.call_tool("check_server", {"seconds": 1})).structured_content
        assert "did not end within 1 s" in late["summary"]
        assert len(processes_with(mark)) == 1
    await until(lambda: not processes_with(mark))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the list of processes is that of Linux")
@pytest.mark.parametrize(
    "end",
    [
        "close",
        pytest.param("SIGKILL", marks=pytest.mark.slow),
        pytest.param("SIGINT", marks=pytest.mark.exhaustive),
        pytest.param("SIGTERM", marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.asyncio
async def test_nothing_is_left_however_the_session_ends(tmp_path: Path, end: str) -> None:
    mark = f"SEEDBED_TEST_MARK_{os.getpid()}_{end}"
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TEST_MARK": mark},
        cwd=tmp_path,
    )
    assert process.stdin
    assert process.stdout
    sleeper = "import time; time.sleep(600)"
    messages: list[dict[str, Any]] = [
        {
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        },
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "start_server", "arguments": {}}},
        {
            "id": 3,
            "method": "tools/call",
            "params": {"name": "drill_program", "arguments": {"command": [sys.executable, "-c", sleeper]}},
        },
    ]
    for message in messages:
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    await until(lambda: len(processes_with(mark)) > 2)
    if end == "close":
        process.stdin.close()
    else:
        process.send_signal(signal.Signals[end])
    # Standard output had the protocol only.
    lines = (await asyncio.wait_for(process.stdout.read(), 40)).splitlines()
    assert [json.loads(line)["id"] for line in lines][:2] == [1, 2]
    code = await asyncio.wait_for(process.wait(), 40)
    assert code == {"close": 0, "SIGINT": 130, "SIGTERM": 143, "SIGKILL": -signal.SIGKILL}[end]
    await until(lambda: not processes_with(mark))
