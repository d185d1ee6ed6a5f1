"""Servers with a database: killed, stopped, two at once, and out of disk space."""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import default_profile
from tests.stored_tasks import file_store

CONTRACT, SHARED, PRICE = default_contract(), job_api(), float(default_profile().credits)
KEY = "sk-canary-7f3a"
HEAD = f"Host: seedbed\r\n{CONTRACT.operation.header}: {CONTRACT.operation.scheme} {KEY}\r\n"
REQUEST = example_of(CONTRACT.part("request"))
DONE = CONTRACT.code_named("success").number
OPENING = 1_000_000

OnResponse = Callable[[dict[str, Any]], object]


def post(callback: str = "") -> bytes:
    body = json.dumps(REQUEST | ({SHARED.fields.callback: callback} if callback else {})).encode()
    head = f"POST {CONTRACT.operation.path} HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\n{HEAD}\r\n".encode()


def record(task_id: str) -> bytes:
    return get(f"{SHARED.record_info.path}?{SHARED.record_info.query}={task_id}")


class Server:
    """``seedbed serve`` with a database, on a free port."""

    def __init__(self, path: Path, *flags: str) -> None:
        arguments = [
            "--port",
            "0",
            "--db",
            str(path),
            "--key",
            KEY,
            "--rate-limit",
            "off",
            "--keep-tasks",
            "100000",
            *flags,
        ]
        if "--credits" not in flags:
            arguments += ["--credits", str(OPENING)]
        command = [sys.executable, "-m", "seedbed_mock", *arguments]
        # A pipe that nobody reads would block the server once it is full.
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip().rpartition(" ")[2]
        self.port = urlsplit(self.url).port

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        if self.process.stdout:
            self.process.stdout.close()
        return self.process.wait()

    async def send_all(self, requests: list[bytes], on_response: OnResponse) -> None:
        """Send requests concurrently and pass on each response, until the server is gone."""
        waiting = iter(requests)
        await asyncio.gather(*(self._send(waiting, on_response) for _ in range(min(len(requests), 25))))

    async def _send(self, waiting: Iterator[bytes], on_response: OnResponse) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            async with connection(self.port) as (reader, writer):
                for request in waiting:
                    writer.write(request)
                    on_response(json.loads((await read_message(reader))[1]))

    async def responses(self, *requests: bytes) -> list[dict[str, Any]]:
        responses: list[dict[str, Any]] = []
        await self.send_all(list(requests), responses.append)
        return responses

    async def credits(self) -> float:
        (response,) = await self.responses(get(SHARED.credit.path))
        return float(response["data"])


@contextlib.asynccontextmanager
async def connection(port: int | None) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return head, await reader.readexactly(int(length[1]) if length else 0)


class Receiver:
    """Receives callbacks, and counts them by task ID."""

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.url = ""
        self._came = asyncio.Event()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            _, body = await read_message(reader)
            self.received[json.loads(body)["data"]["taskId"]] += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()
        self._came.set()

    async def wait_for(self, task_ids: set[str]) -> None:
        async with asyncio.timeout(60):
            while task_ids - self.received.keys():
                self._came.clear()
                await self._came.wait()


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0, backlog=1000)
    async with server:
        receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/done"
        yield receiver


@contextlib.contextmanager
def serving(path: Path, *flags: str) -> Iterator[Server]:
    server = Server(path, *flags)
    try:
        yield server
    finally:
        server.end(signal.SIGKILL)


def stored_ids(path: Path) -> list[str]:
    with contextlib.closing(file_store(path, 100_000)) as store:
        return [task.task_id for _, task in store.page(limit=1_000_000)]


@pytest.mark.parametrize(
    "times", [pytest.param(5, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.exhaustive)]
)
def test_a_server_that_is_killed_repeatedly_loses_no_task(tmp_path: Path, times: int) -> None:
    path = tmp_path / "seedbed.db"
    asyncio.run(kill_repeatedly(path, times))


async def kill_repeatedly(path: Path, times: int) -> None:
    reported: set[str] = set()
    async with receiving() as receiver:
        for attempt in range(times):
            reported |= await kill_while_creating_tasks(path, receiver, after=10 + 460 * attempt // times)
        # Callbacks that a killed server was delivering are due again after 20 seconds of the clock.
        with serving(path, "--speed", "100") as server:
            await receiver.wait_for(reported)
            responses = await server.responses(*map(record, reported))
            task_ids = await asyncio.to_thread(stored_ids, path)
            assert reported == {response["data"]["taskId"] for response in responses} <= set(task_ids)
            assert await server.credits() == OPENING - PRICE * len(task_ids)


async def kill_while_creating_tasks(path: Path, receiver: Receiver, after: int) -> set[str]:
    """Return the IDs of the tasks that a server reported before it was killed while it created 500."""
    reported: set[str] = set()
    server = await asyncio.to_thread(Server, path, "--task-seconds", "0.05")

    def note(response: dict[str, Any]) -> None:
        reported.add(response["data"]["taskId"])
        if len(reported) == after:
            server.process.kill()

    await server.send_all([post(receiver.url)] * 500, note)
    server.end(signal.SIGKILL)
    assert after <= len(reported) < 500
    return reported


def test_two_servers_share_one_file(tmp_path: Path) -> None:
    asyncio.run(share(tmp_path / "seedbed.db"))


async def share(path: Path) -> None:
    flags, codes, task_ids = ("--task-seconds", "0.1", "--credits", str(400 * PRICE)), Counter[int](), []

    def note(response: dict[str, Any]) -> None:
        codes[response["code"]] += 1
        if response["code"] == DONE:
            task_ids.append(response["data"]["taskId"])

    with serving(path, *flags) as one, serving(path, *flags) as two:
        async with receiving() as receiver:
            await asyncio.gather(*(server.send_all([post(receiver.url)] * 300, note) for server in (one, two)))
            assert codes == {DONE: 400, CONTRACT.code_named("insufficient_credits").number: 200}
            await receiver.wait_for(set(task_ids))
            assert receiver.received == Counter(task_ids) == Counter(await asyncio.to_thread(stored_ids, path))
            assert [await server.credits() for server in (one, two)] == [0, 0]
            for server in (one, two):
                records = await server.responses(*map(record, task_ids))
                assert {response["data"]["taskId"] for response in records} == set(task_ids)


def test_a_server_that_is_stopped_continues_with_its_file(tmp_path: Path) -> None:
    path, flags = tmp_path / "seedbed.db", ("--task-seconds", "0")
    with serving(path, *flags) as server:
        (created,) = asyncio.run(server.responses(post()))
        (before,) = asyncio.run(server.responses(record(created["data"]["taskId"])))
        image = httpx2.get(result_url(before), trust_env=False).content
        assert server.end(signal.SIGTERM) == 0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with serving(path, *flags) as server:
        (after,) = asyncio.run(server.responses(record(created["data"]["taskId"])))
        assert asyncio.run(server.credits()) == OPENING - PRICE
        assert httpx2.get(server.url + urlsplit(result_url(before)).path, trust_env=False).content == image
        assert httpx2.get(result_url(after), trust_env=False).content == image
    assert {**after["data"], "resultJson": ""} == {**before["data"], "resultJson": ""}


def result_url(response: dict[str, Any]) -> str:
    url: str = json.loads(response["data"]["resultJson"])["resultUrls"][0]
    return url


def test_no_file_contains_a_key(tmp_path: Path) -> None:
    with serving(tmp_path / "seedbed.db") as server:
        asyncio.run(server.responses(*[post()] * 20))
        server.end(signal.SIGKILL)
    contents = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert contents.keys() == {"seedbed.db", "seedbed.db-wal", "seedbed.db-shm"}
    assert b"A hill" in contents["seedbed.db-wal"]
    assert not any(KEY.encode() in content for content in contents.values())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can limit a running process")
def test_a_server_without_disk_space_reports_errors_and_recovers(tmp_path: Path) -> None:
    asyncio.run(run_out_of_disk_space(tmp_path / "seedbed.db"))


async def run_out_of_disk_space(path: Path) -> None:
    import resource  # only Unix has it

    with serving(path) as server:
        (first,) = await server.responses(post())
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
        refused = await server.responses(*[post()] * 30)
        assert {response["code"] for response in refused} == {CONTRACT.code_named("server_error").number}
        (shown,) = await server.responses(record(first["data"]["taskId"]))
        assert shown["code"] == DONE
        assert await server.credits() == OPENING - PRICE
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
        made = await server.responses(*[post()] * 30)
        assert {response["code"] for response in made} == {DONE}
        assert await server.credits() == OPENING - 31 * PRICE
        assert len(await asyncio.to_thread(stored_ids, path)) == 31
