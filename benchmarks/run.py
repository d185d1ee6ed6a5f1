"""Measure what users run, beside bare servers and other mock servers, in one run.

Usage: ``python benchmarks/run.py [--quick] [--compare] [--write]``. Server and load use one core each. The servers take
turns in each round, so that a slow minute of the machine affects all of them; each figure is the median of the rounds.
"""

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import costs
import httpx2
from history import append_run, compared
from load import LOAD_CORE, SERVER_CORE, Load, resident_megabytes, send_load
from report import Row, write_page
from seedbed_schemas import job_api, local
from sides import free_port
from subjects import (
    CONTRACT,
    HEADERS,
    REQUEST,
    WITHOUT_CALLBACK,
    Subject,
    bare,
    installed_peers,
    seedbed,
    seedbed_with_redis,
)

RECORD: Final = job_api().record_info
BASELINE: Final = "bare Starlette"
_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 10
_POLL_SECONDS: Final = 0.005


@dataclass(frozen=True)
class Case:
    """A kind of load.

    Attributes:
        name: Name in tables.
        operation: ``createTask`` or ``recordInfo``.
        request: Body of the request that creates a task.
        subjects: The servers.
    """

    name: str
    operation: str
    request: dict[str, Any]
    subjects: tuple[Subject, ...]


def cases() -> list[Case]:
    """Return the loads of the comparison, and the servers of each."""
    ours, bares, peers = (
        seedbed("Seedbed"),
        (bare("bare uvicorn", "uvicorn"), bare(BASELINE, "starlette")),
        installed_peers(),
    )
    sqlite, instant = (
        seedbed("Seedbed, SQLite", database="tasks.db"),
        seedbed("Seedbed, tasks of 0 s", "--task-seconds", "0"),
    )
    shared = [seedbed_with_redis("Seedbed, Redis")] if shutil.which("redis-server") else []
    return [
        Case(
            "createTask as on the page, with callBackUrl",
            "createTask",
            REQUEST,
            (*bares, ours, sqlite, *shared, instant, *peers),
        ),
        Case("createTask without callBackUrl", "createTask", WITHOUT_CALLBACK, (*bares, ours, sqlite, instant, *peers)),
        Case("recordInfo", "recordInfo", REQUEST, (ours, *bares, sqlite, *shared)),
    ]


@contextlib.contextmanager
def started(subject: Subject, folder: Path) -> Iterator[tuple[str, int, float]]:
    """Run a server while the block runs; yield its URL, its process ID and the seconds until its first response."""
    with contextlib.ExitStack() as stack:
        for program in subject.programs(folder):
            stack.enter_context(_process(LOAD_CORE, program))
        port, began = free_port(), time.perf_counter()
        process = stack.enter_context(_process(SERVER_CORE, subject.command(port, folder)))
        url = f"http://{local.HOST}:{port}"
        _await_response(subject, url, process)
        yield url, process.pid, time.perf_counter() - began


@contextlib.contextmanager
def _process(core: str, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on one core while the block runs."""
    command = ["taskset", "-c", core, *command]
    # Some servers are started by a script, so the whole group is stopped.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(_STOP_SECONDS)


def _await_response(subject: Subject, url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx2.TransportError):
            response = httpx2.post(url + subject.path, json=subject.adapt(REQUEST), headers=HEADERS, trust_env=False)
            if response.is_success:
                return
            raise RuntimeError(f"{subject.name} refuses the request: HTTP {response.status_code} {response.text[:300]}")
        if process.poll() is not None:
            raise RuntimeError(f"{subject.name} ended with exit code {process.returncode}")
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"{subject.name} did not respond within {_START_SECONDS} s")


def measure(case: Case, subject: Subject, folder: Path, seconds: int) -> dict[str, float]:
    """Return the figures of one server under one load, by name."""
    with started(subject, folder) as (url, process_id, start):
        load = _load(case, subject, url, folder, seconds)
        return {
            "req/s": load.rate,
            "p50 ms": load.p50,
            "p99 ms": load.p99,
            "RSS MB": resident_megabytes(process_id),
            "start ms": start * 1000,
        }


def _load(case: Case, subject: Subject, url: str, folder: Path, seconds: int) -> Load:
    if case.operation == "createTask":
        return send_load(url + subject.path, HEADERS, seconds, subject.adapt(case.request))
    target = f"{url}{RECORD.path}?{RECORD.query}=task"
    if subject.plays_tasks:
        created = httpx2.post(url + subject.path, json=case.request, headers=HEADERS, trust_env=False).json()
        target = f"{url}{RECORD.path}?{RECORD.query}={next(iter(created['data'].values()))}"
        # The bare servers send the same bytes.
        (folder.parent / "record.json").write_bytes(httpx2.get(target, headers=HEADERS, trust_env=False).content)
    return send_load(target, HEADERS, seconds)


def compare_servers(rounds: int, seconds: int) -> list[Row]:
    """Return the medians of all servers under all loads."""
    figures: dict[tuple[str, str], list[dict[str, float]]] = {}
    every = cases()
    total, done = rounds * sum(len(case.subjects) for case in every), 0
    for _ in range(rounds):
        for case in every:
            with tempfile.TemporaryDirectory() as base:
                for number, subject in enumerate(case.subjects):
                    folder = Path(base, str(number))
                    folder.mkdir()
                    record = Path(base, "record.json")
                    if record.exists():
                        shutil.copy(record, folder)
                    done += 1
                    print(f"[{done}/{total}] {case.name}: {subject.name}", file=sys.stderr, flush=True)
                    figures.setdefault((case.name, subject.name), []).append(measure(case, subject, folder, seconds))
    return [_row(key, rows, figures[key[0], BASELINE]) for key, rows in figures.items()]


def _row(key: tuple[str, str], rounds: Sequence[dict[str, float]], baseline: Sequence[dict[str, float]]) -> Row:
    medians = {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}
    # Of each round, because both sides of a ratio were measured within a minute.
    ratios = [ours["req/s"] / bare["req/s"] for ours, bare in zip(rounds, baseline, strict=True)]
    return Row(*key, medians, statistics.median(ratios), max(ratios) - min(ratios))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark, print the table, and return 1 if ``--compare`` finds a regression."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="one short round, for a first impression")
    parser.add_argument("--compare", action="store_true", help="compare the ratios with the last full run; 1 if slower")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and add the run to the history")
    options = parser.parse_args(arguments)
    if options.quick and options.write:
        print("run.py: a quick run is too noisy to be kept; leave out --quick or --write.", file=sys.stderr)
        return 2
    if missing := [program for program in ("wrk", "taskset") if not shutil.which(program)]:
        print(
            f"run.py: install {' and '.join(missing)} first; on Debian: apt-get install wrk util-linux.",
            file=sys.stderr,
        )
        return 2
    rows = compare_servers(*((1, 1) if options.quick else (5, 5)))
    others = costs.measure_all(rounds=1 if options.quick else 5)
    for row in rows:
        print(row.describe())
    for cost in others:
        print(cost.describe())
    regressions = compared(rows, others)
    if options.write:
        append_run(rows, others)
        write_page(CONTRACT.model, rows, others)
    if options.compare:
        for line in regressions:
            print(f"slower: {line}")
        return bool(regressions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
