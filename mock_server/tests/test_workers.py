"""Several processes behind one address: their start, the end of one of them, and the end of all."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from tests.redis_process import RedisProcess, free_port

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="several workers need fork()"),
]

SERVE = (sys.executable, "-m", "seedbed_mock", "--port", "0", "--clock", "manual")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def children_of(pid: int) -> set[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return set(map(int, listed.stdout.split()))


def is_running(pid: int) -> bool:
    listed = subprocess.run(["ps", "-o", "stat=", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.strip()[:1] not in ("", "Z")


@pytest.fixture
def server(redis_server: RedisProcess, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    ready = tmp_path / "ready.json"
    command = [*SERVE, "--workers", "2", "--db", redis_server.url(), "--ready-file", str(ready)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(ready.exists)
            yield process, json.loads(ready.read_text())["url"]
        finally:
            process.kill()


def test_workers_share_everything_and_are_replaced(server: tuple[subprocess.Popen[str], str]) -> None:
    process, url = server
    first = children_of(process.pid)
    assert len(first) == 2
    for turn in range(2):
        # New connections, which any worker may accept.
        for _ in range(4):
            httpx2.post(f"{url}/__seedbed/clock", json={"advance": 1})
        clocks = {httpx2.get(f"{url}/__seedbed/clock").json()["now"] for _ in range(8)}
        assert len(clocks) == 1
        if not turn:
            os.kill(min(first), signal.SIGKILL)
            until(lambda: len(children_of(process.pid) - first) == 1)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output.count("Seedbed is ready") == 1
    assert f"worker {min(first)} ended with status -9 and is replaced." in errors


def test_workers_end_with_the_process_that_started_them(server: tuple[subprocess.Popen[str], str]) -> None:
    process, _ = server
    workers = children_of(process.pid)
    process.kill()
    until(lambda: not any(map(is_running, workers)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "pass --db redis://HOST:6379/0, too, or omit --workers."),
        (["--db", "tasks.db"], "pass --db redis://HOST:6379/0, too, or omit --workers."),
        (["--db", "redis://:s3cret@127.0.0.1:PORT/0"], "cannot be reached: Connection refused."),
        (["--db", "redis://:s3cret@127.0.0.1:PORT/0", "--daemon"], "omit --daemon, or let a supervisor start them."),
    ],
)
def test_workers_that_cannot_work_are_refused(tmp_path: Path, options: list[str], sentence: str) -> None:
    command = [*SERVE, "--workers", "2", *(each.replace("PORT", str(free_port())) for each in options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].endswith(sentence)
    assert done.stderr.count("\n") == 2
    assert "s3cret" not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == []
