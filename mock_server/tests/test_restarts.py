"""Servers on a file: killed, stopped, two at once, out of room; in processes of their own."""

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
from seedbed_mock.stores.sqlite import SqliteStore
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import default_profile

CONTRACT, SHARED, PRICE = default_contract(), job_api(), float(default_profile().credits)
KEY = "sk-canary-7f3a"
HEAD = f"Host: seedbed\r\n{CONTRACT.operation.header}: {CONTRACT.operation.scheme} {KEY}\r\n"
REQUEST = example_of(CONTRACT.part("request"))
DONE = CONTRACT.code_named("success").number
OPENING = 1_000_000

Got = Callable[[dict[str, Any]], object]


def post(callback: str = "") -> bytes:
    body = json.dumps(REQUEST | ({SHARED.fields.callback: callback} if callback else {})).encode()
    head = f"POST {CONTRACT.operation.path} HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\n{HEAD}\r\n".encode()


def record(task_id: str) -> bytes:
    return get(f"{SHARED.record_info.path}?{SHARED.record_info.query}={task_id}")


class Server:
    """``seedbed serve`` on a file and a free port."""

    def __init__(self, path: Path, *flags: str) -> None:
        words = [
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
            words += ["--credits", str(OPENING)]
        command = [sys.executable, "-m", "seedbed_mock", *words]
        # Nobody reads what it has to say of its errors, which would keep it waiting once there is much.
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip().rpartition(" ")[2]
        self.port = urlsplit(self.url).port

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        if self.process.stdout:
            self.process.stdout.close()
        return self.process.wait()

    async def ask(self, requests: list[bytes], got: Got) -> None:
        """Ask many things at once and hand over each answer when it is there, until the server is gone."""
        waiting = iter(requests)
        await asyncio.gather(*(self._ask(waiting, got) for _ in range(min(len(requests), 25))))

    async def _ask(self, waiting: Iterator[bytes], got: Got) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            async with connection(self.port) as (reader, writer):
                for request in waiting:
                    writer.write(request)
                    got(json.loads((await read_message(reader))[1]))

    async def answers(self, *requests: bytes) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        await self.ask(list(requests), answers.append)
        return answers

    async def credits(self) -> float:
        (answer,) = await self.answers(get(SHARED.credit.path))
        return float(answer["data"])


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
    """Takes callbacks in, and counts them by the names of their tasks."""

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.url = ""
        self._came = asyncio.Event()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            _, body = await read_message(reader)
            self.received[json.loads(body)["data"]["taskId"]] += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()
        self._came.set()

    async def wait_for(self, names: set[str]) -> None:
        async with asyncio.timeout(60):
            while names - self.received.keys():
                self._came.clear()
                await self._came.wait()


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.take, "127.0.0.1", 0, backlog=1000)
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


def kept(path: Path) -> list[str]:
    with contextlib.closing(SqliteStore(path, 100_000)) as store:
        return [task.task_id for task in store.tasks(limit=1_000_000)]


def test_a_server_that_is_killed_again_and_again_loses_nothing_that_it_has_said(tmp_path: Path) -> None:
    path = tmp_path / "seedbed.db"
    asyncio.run(kill_again_and_again(path))


async def kill_again_and_again(path: Path) -> None:
    said: set[str] = set()
    async with receiving() as receiver:
        for attempt in range(20):
            said |= await killed_while_it_makes_tasks(path, receiver, after=10 + 23 * attempt)
        # What was on its way to the receiver when a server was killed is due again after 20 seconds of the clock.
        with serving(path, "--speed", "100") as server:
            await receiver.wait_for(said)
            answers = await server.answers(*map(record, said))
            names = kept(path)
            assert said == {answer["data"]["taskId"] for answer in answers} <= set(names)
            assert await server.credits() == OPENING - PRICE * len(names)


async def killed_while_it_makes_tasks(path: Path, receiver: Receiver, after: int) -> set[str]:
    """Return the tasks that a server has told of before it was killed in the middle of making 500."""
    said: set[str] = set()
    server = await asyncio.to_thread(Server, path, "--task-seconds", "0.05")

    def note(answer: dict[str, Any]) -> None:
        said.add(answer["data"]["taskId"])
        if len(said) == after:
            server.process.kill()

    await server.ask([post(receiver.url)] * 500, note)
    server.end(signal.SIGKILL)
    assert after <= len(said) < 500
    return said


def test_two_servers_share_one_file(tmp_path: Path) -> None:
    asyncio.run(share(tmp_path / "seedbed.db"))


async def share(path: Path) -> None:
    flags, codes, names = ("--task-seconds", "0.1", "--credits", str(400 * PRICE)), Counter[int](), []

    def note(answer: dict[str, Any]) -> None:
        codes[answer["code"]] += 1
        if answer["code"] == DONE:
            names.append(answer["data"]["taskId"])

    with serving(path, *flags) as one, serving(path, *flags) as two:
        async with receiving() as receiver:
            await asyncio.gather(*(server.ask([post(receiver.url)] * 300, note) for server in (one, two)))
            assert codes == {DONE: 400, CONTRACT.code_named("insufficient_credits").number: 200}
            await receiver.wait_for(set(names))
            assert receiver.received == Counter(names) == Counter(kept(path))
            assert [await server.credits() for server in (one, two)] == [0, 0]
            for server in (one, two):
                assert {answer["data"]["taskId"] for answer in await server.answers(*map(record, names))} == set(names)


def test_a_server_that_is_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    path, flags = tmp_path / "seedbed.db", ("--task-seconds", "0")
    with serving(path, *flags) as server:
        (created,) = asyncio.run(server.answers(post()))
        (before,) = asyncio.run(server.answers(record(created["data"]["taskId"])))
        image = httpx2.get(result_url(before), trust_env=False).content
        assert server.end(signal.SIGTERM) == 0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with serving(path, *flags) as server:
        (after,) = asyncio.run(server.answers(record(created["data"]["taskId"])))
        assert asyncio.run(server.credits()) == OPENING - PRICE
        assert httpx2.get(server.url + urlsplit(result_url(before)).path, trust_env=False).content == image
        assert httpx2.get(result_url(after), trust_env=False).content == image
    assert {**after["data"], "resultJson": ""} == {**before["data"], "resultJson": ""}


def result_url(answer: dict[str, Any]) -> str:
    url: str = json.loads(answer["data"]["resultJson"])["resultUrls"][0]
    return url


def test_a_key_is_kept_in_no_file(tmp_path: Path) -> None:
    with serving(tmp_path / "seedbed.db") as server:
        asyncio.run(server.answers(*[post()] * 20))
        server.end(signal.SIGKILL)
    contents = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert contents.keys() == {"seedbed.db", "seedbed.db-wal", "seedbed.db-shm"}
    assert b"A hill" in contents["seedbed.db-wal"]
    assert not any(KEY.encode() in content for content in contents.values())


@pytest.mark.skipif(sys.platform != "linux", reason="only there can a process be given a limit while it runs")
def test_a_server_without_room_says_so_and_goes_on_when_there_is_some(tmp_path: Path) -> None:
    asyncio.run(run_out_of_room(tmp_path / "seedbed.db"))


async def run_out_of_room(path: Path) -> None:
    import resource  # noqa: PLC0415 (there is none elsewhere)

    with serving(path) as server:
        (first,) = await server.answers(post())
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
        refused = await server.answers(*[post()] * 30)
        assert {answer["code"] for answer in refused} == {CONTRACT.code_named("server_error").number}
        (shown,) = await server.answers(record(first["data"]["taskId"]))
        assert shown["code"] == DONE
        assert await server.credits() == OPENING - PRICE
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
        made = await server.answers(*[post()] * 30)
        assert {answer["code"] for answer in made} == {DONE}
        assert await server.credits() == OPENING - 31 * PRICE
        assert len(kept(path)) == 31
