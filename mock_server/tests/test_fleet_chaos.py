"""A fleet whose servers and whose Redis are killed at random: no task, no credit and no callback is lost."""

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, islice
from pathlib import Path
from typing import Any

import httpx2
import pytest
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import default_profile
from tests.redis_process import RedisProcess, free_port, redis_running

CONTRACT, SHARED, PRICE = default_contract(), job_api(), default_profile().credits
CREDITS = 10**6
HTTP = httpx2.Client(timeout=20)
KEY = {"Authorization": "Bearer seedbed-key"}


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


class Callbacks:
    """A receiver that counts the callbacks of each task."""

    def __init__(self) -> None:
        received = self.received = Counter[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                received[body["data"]["taskId"]] += 1
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                del code, size

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/done"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Member:
    """A server of the fleet in a process of its own, on a port that stays the same."""

    def __init__(self, url: str) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        options = ("--credits", str(CREDITS), "--rate-limit", "off", "--task-seconds", "0.2", "--keep-tasks", "1000000")
        self.command = [sys.executable, "-m", "seedbed_mock", "--port", str(port), "--db", url, *options]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            return HTTP.get(f"{self.url}/__seedbed/health", timeout=5).status_code == 200
        return False

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def members(url: str) -> Iterator[list[Member]]:
    fleet = [Member(url) for _ in range(3)]
    try:
        for each in fleet:
            each.start()
        until(lambda: all(each.is_ready() for each in fleet))
        yield fleet
    finally:
        for each in fleet:
            each.kill()


def disturb(fleet: list[Member], redis: RedisProcess, kills: int, chance: random.Random) -> None:
    """Kill a server or Redis, one after the other, so that some server always responds."""
    for number in range(kills):
        time.sleep(chance.uniform(0.1, 0.5))
        if number % 3 == 1:
            redis.stop()
            redis.start()
        else:
            victim = chance.choice(fleet)
            victim.kill()
            victim.start()
            until(victim.is_ready)


def created_tasks(fleet: list[Member], tasks: int, callback: str, disturbance: Future[None]) -> list[str]:
    """Create tasks on all servers while they are disturbed, and return the IDs of those that were acknowledged."""
    body = {**example_of(CONTRACT.part("request")), SHARED.fields.callback: callback}
    acknowledged: list[str] = []

    def create(number: int) -> None:
        attempt = 0
        while True:
            server, attempt = fleet[(number + attempt) % len(fleet)], attempt + 1
            with contextlib.suppress(httpx2.HTTPError):
                answer = HTTP.post(f"{server.url}{CONTRACT.operation.path}", json=body, headers=KEY, timeout=20).json()
                if answer["code"] == 200:
                    acknowledged.append(answer["data"]["taskId"])
                    return
                # What a client gets while Redis is lost, and nothing else.
                assert answer["code"] == 500
            time.sleep(0.05)

    with ThreadPoolExecutor(8) as pool:
        numbers = count()
        while len(acknowledged) < tasks or not disturbance.done():
            list(pool.map(create, islice(numbers, 16)))
            if len(acknowledged) >= tasks:
                time.sleep(0.2)
    return acknowledged


def tasks_of(server: Member) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    before = ""
    while True:
        page = HTTP.get(f"{server.url}/__seedbed/tasks?limit=500{before}", timeout=30).json()
        found |= {each["task_id"]: each for each in page["tasks"]}
        if page.get("before") is None:
            return found
        before = f"&before={page['before']}"


@pytest.fixture
def callbacks() -> Iterator[Callbacks]:
    receiver = Callbacks()
    yield receiver
    receiver.close()


@pytest.mark.parametrize(
    ("tasks", "kills"),
    [pytest.param(100, 3, marks=pytest.mark.slow), pytest.param(10_000, 60, marks=pytest.mark.exhaustive)],
)
def test_nothing_is_lost_when_servers_and_redis_are_killed(
    tmp_path: Path, callbacks: Callbacks, tasks: int, kills: int
) -> None:
    with redis_running(tmp_path, "--appendfsync", "always") as redis, members(redis.url()) as fleet:
        with ThreadPoolExecutor(1) as pool:
            disturbance = pool.submit(disturb, fleet, redis, kills, random.Random(1))  # noqa: S311 (repeatable)
            acknowledged = created_tasks(fleet, tasks, callbacks.url, disturbance)
            disturbance.result()
        until(lambda: all(each.is_ready() for each in fleet))
        kept = tasks_of(fleet[0])
        assert len(acknowledged) == len(set(acknowledged)) >= tasks
        # A task whose acknowledgement was lost with its server exists and is paid for, as any other.
        assert set(acknowledged) <= set(kept)
        balances = {HTTP.get(f"{each.url}{SHARED.credit.path}", headers=KEY).json()["data"] for each in fleet}
        assert balances == {float(CREDITS - PRICE * Decimal(len(kept)))}

        def all_have_come() -> bool:
            # The leases of servers that were killed end, and their callbacks are due again.
            HTTP.post(f"{fleet[1].url}/__seedbed/clock", json={"advance": 30}, timeout=60)
            return set(callbacks.received) == set(kept)

        until(all_have_come, 120)
        outcomes = Counter(each["callback"]["outcome"] for each in tasks_of(fleet[2]).values())
        assert set(outcomes) <= {"delivered", "waiting"}
    again = sum(callbacks.received.values()) - len(kept)
    print(
        f"{len(kept)} tasks, {kills} kills, {len(kept) - len(acknowledged)} not acknowledged, {again} callbacks again"
    )
