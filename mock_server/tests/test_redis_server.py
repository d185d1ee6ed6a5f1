"""The Redis server of a fleet: its URL, what makes it unusable, and connections that are lost."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import pytest
from seedbed_mock.stores.redis import RedisStore
from seedbed_mock.stores.store import StoreError, StoreUnavailableError
from seedbed_mock.tasks import ended
from tests.redis_process import RedisProcess, free_port, redis_running
from tests.stored_tasks import ONE, PRICE, START, task

SECRET = "s3cret-pa55"  # noqa: S105 (it must not be shown)


def problem_of(url: str) -> str:
    with pytest.raises(StoreError) as refusal:
        RedisStore(url, 100)
    assert SECRET not in str(refusal.value)
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@/0",
        f"redis://:{SECRET}@localhost:notaport/0",
        f"redis://:{SECRET}@localhost:99999/0",
        f"redis://:{SECRET}@localhost/name",
        f"redis://:{SECRET}@[::1/0",
        f"redis://:{SECRET}@localhost/0?fleet=a%20b",
        f"redis://:{SECRET}@localhost/0?fleet=",
        f"unix://:{SECRET}@",
        f"postgres://:{SECRET}@localhost/0",
    ],
)
def test_an_invalid_url_is_refused_without_its_password(url: str) -> None:
    assert problem_of(url).startswith("Invalid Redis URL")


def test_a_server_that_does_not_run_is_named() -> None:
    port = free_port()
    assert problem_of(f"redis://:{SECRET}@127.0.0.1:{port}/0") == (
        f"Redis at 127.0.0.1:{port} cannot be reached: Connection refused."
    )
    assert problem_of("unix:///nowhere/redis.sock") == (
        "Redis at /nowhere/redis.sock cannot be reached: No such file or directory."
    )
    assert "cannot be reached" in problem_of("redis://host.invalid/0")


def test_a_database_that_does_not_exist_is_refused(redis_server: RedisProcess) -> None:
    assert "DB index is out of range" in problem_of(f"redis://127.0.0.1:{redis_server.port}/99")


def test_a_server_without_tls_is_refused_for_a_url_with_tls(redis_server: RedisProcess) -> None:
    assert "cannot be reached" in problem_of(f"rediss://127.0.0.1:{redis_server.port}/0")


@pytest.mark.parametrize("credentials", [f":{SECRET}-wrong", f"nobody:{SECRET}", ""])
def test_a_wrong_password_is_refused(tmp_path: Path, credentials: str) -> None:
    with redis_running(tmp_path, "--requirepass", SECRET) as server:
        url = f"redis://{credentials}@127.0.0.1:{server.port}/0"
        assert problem_of(url.replace("://@", "://")).endswith(
            "does not accept the user or the password; check them in the URL."
        )
        RedisStore(f"redis://:{SECRET}@127.0.0.1:{server.port}/0", 100)


def test_a_user_without_rights_is_refused(redis_server: RedisProcess) -> None:
    redis_server.client.acl_setuser("weak", enabled=True, passwords=[f"+{SECRET}"], commands=["+ping"])
    assert "ACL" in problem_of(f"redis://weak:{SECRET}@127.0.0.1:{redis_server.port}/0")


def test_a_replica_is_refused(redis_server: RedisProcess, tmp_path: Path) -> None:
    with redis_running(tmp_path, "--replicaof", "127.0.0.1", str(redis_server.port)) as replica:
        assert problem_of(replica.url()).endswith("is a read-only replica; give the URL of its primary.")


def test_a_node_of_a_cluster_is_refused(tmp_path: Path) -> None:
    with redis_running(tmp_path, "--cluster-enabled", "yes") as node:
        assert "is a node of a cluster" in problem_of(node.url())


def test_a_server_that_may_delete_tasks_is_refused(tmp_path: Path) -> None:
    with redis_running(tmp_path, "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru") as server:
        assert "maxmemory-policy is allkeys-lru; set it to noeviction" in problem_of(server.url())


@contextlib.contextmanager
def speaking(*replies: bytes) -> Iterator[int]:
    """Run a server that sends one of these replies to each command, and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        while received := connection.recv(65_536):
                            for name in (b"INFO", b"HELLO"):
                                if name in received:
                                    connection.sendall(replies[name == b"HELLO"])
                                    break
                            else:
                                connection.sendall(b"+OK\r\n" * received.count(b"*"))

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_an_old_server_is_refused() -> None:
    about = b"redis_version:5.0.14\r\nrole:master\r\n"
    with speaking(b"$%d\r\n%s\r\n" % (len(about), about), b"-ERR unknown command 'HELLO'\r\n") as port:
        assert problem_of(f"redis://127.0.0.1:{port}/0").endswith("has version 5.0.14; Seedbed needs 6.2 or later.")


def test_a_server_that_is_no_redis_is_refused() -> None:
    with speaking(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        problem_of(f"redis://127.0.0.1:{port}/0")


def test_keys_of_a_newer_version_are_refused(redis_server: RedisProcess) -> None:
    redis_server.client.set("seedbed:{newer}:format", "9")
    assert "newer version" in problem_of(redis_server.url("newer"))


def test_a_missing_package_is_named() -> None:
    program = "import sys; sys.modules['redis'] = None\nimport seedbed_mock.stores.redis"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith(
        'A fleet on Redis needs the package redis; install it with: pip install "seedbed[redis]".'
    )


def test_a_unix_socket_can_be_used(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("u")
    with redis_running(folder, "--unixsocket", str(folder / "s")):
        store = RedisStore(f"unix://{folder}/s?db=1&fleet=other", 100)

        async def use() -> Decimal:
            await store.create(task(1), ONE)
            balance = await store.balance(ONE, START)
            await store.close()
            return balance

        assert asyncio.run(use()) == 80 - PRICE


class LossyProxy:
    """Passes bytes on to Redis, but ends the connection in place of the reply to a script once, on demand."""

    def __init__(self, port: int) -> None:
        self.target, self.loses_reply, self.lost = port, False, 0

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            while sent := await reader.read(65_536):
                upstream_writer.write(sent)
                reply = await upstream_reader.read(65_536)
                if self.loses_reply and b"EVALSHA" in sent and not reply.startswith(b"-NOSCRIPT"):
                    self.loses_reply, self.lost = False, self.lost + 1
                    break
                writer.write(reply)
        except ConnectionError:
            pass
        finally:
            writer.close()
            upstream_writer.close()


def test_a_lost_reply_neither_charges_twice_nor_forgets_a_charge(redis_server: RedisProcess) -> None:
    async def use() -> None:
        async with LossyProxy(redis_server.port) as proxy:
            store = await asyncio.to_thread(RedisStore, f"redis://127.0.0.1:{proxy.port}/0?fleet=lossy", 100)
            balances = [await store.balance(ONE, START)]
            calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
                lambda: store.create(task(1), ONE),
                lambda: store.charge(ONE, Decimal("0.5"), START),
                lambda: store.deposit(ONE, Decimal(2), START),
            ]
            for number, call in enumerate(calls):
                proxy.loses_reply = True
                await call()
                assert proxy.lost == number + 1
                balances.append(await store.balance(ONE, START))
            assert balances == [80, Decimal("73.5"), 73, 75]
            assert [each.task_id for _, each in await store.page(limit=9)] == ["task_000001"]
            await store.close()

    asyncio.run(use())


def test_scripts_are_loaded_again_when_redis_has_forgotten_them(redis_server: RedisProcess) -> None:
    async def use() -> None:
        store = RedisStore(redis_server.url(), 100)
        await store.create(task(1), ONE)
        redis_server.client.execute_command("SCRIPT", "FLUSH")
        await asyncio.gather(*(store.create(task(number), ONE) for number in range(2, 8)))
        assert await store.balance(ONE, START) == 80 - 7 * PRICE
        await store.close()

    asyncio.run(use())


def test_the_limit_of_the_memory_is_named_and_refuses_only_what_needs_memory(tmp_path: Path) -> None:
    async def use(server: RedisProcess) -> None:
        store = RedisStore(server.url(), 100)
        await store.create(task(1), ONE)
        server.client.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailableError, match="has reached its memory limit"):
            await store.create(task(2), ONE)
        assert await store.find("task_000001") == task(1)
        server.client.config_set("maxmemory", "0")
        assert await store.balance(ONE, START) == 80 - PRICE
        await store.create(task(2), ONE)
        await store.close()

    with redis_running(tmp_path) as server:
        asyncio.run(use(server))


@pytest.mark.parametrize(
    "calls", [pytest.param(500, marks=pytest.mark.slow), pytest.param(10_000, marks=pytest.mark.exhaustive)]
)
def test_a_cancelled_call_leaves_no_reply_behind(redis_server: RedisProcess, calls: int) -> None:
    async def use() -> None:
        store = RedisStore(redis_server.url(), calls)
        await store.deposit(ONE, calls * PRICE, START)
        for number in range(calls):
            call = asyncio.create_task(store.create(task(number), ONE))
            # Cancelled at every moment: before it is sent, while Redis works, and when the reply has come.
            for _ in range(number % 100):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            if number % 100 == 0:
                assert await store.find("nothing") is None
        count = await store.count()
        assert 0 < count < calls
        assert await store.balance(ONE, START) == 80 + (calls - count) * PRICE
        await store.close()

    asyncio.run(use())


def test_redis_can_be_lost_and_found(tmp_path: Path) -> None:
    async def use(server: RedisProcess) -> None:
        store = RedisStore(server.url(), 100)
        await store.create(task(1), ONE)
        server.client.config_set("appendfsync", "always")
        await store.create(task(2), ONE)
        server.stop()
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            await store.create(task(3), ONE)
        server.start()
        assert [each.task_id for _, each in await store.page(limit=9)] == ["task_000002", "task_000001"]
        assert await store.balance(ONE, START) == 80 - 2 * PRICE
        await store.create(task(3), ONE)
        await store.close()

    with redis_running(tmp_path) as server:
        asyncio.run(use(server))


@pytest.mark.slow
def test_a_call_costs_the_same_however_many_tasks_there_are(tmp_path: Path) -> None:
    async def commands_of(server: RedisProcess, tasks: int) -> list[int]:
        store, counts = RedisStore(server.url(), 10_000), []
        await store.deposit(ONE, Decimal(100_000), START)
        await asyncio.gather(*(store.create(task(number), ONE) for number in range(tasks)))
        middle = (await store.page(limit=tasks // 2))[-1][0]
        calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
            lambda: store.create(task(tasks), ONE),
            lambda: store.find("task_000003"),
            lambda: store.balance(ONE, START),
            lambda: store.page("default", before=middle, limit=10),
            lambda: store.change("task_000003", lambda task: ended(task, START, None)),
            lambda: store.claim(START, START, limit=10),
            store.next_due,
            store.count,
        ]
        for call in calls:
            before = commands_in(server)
            await call()
            counts.append(commands_in(server) - before)
        await store.close()
        return counts

    def commands_in(server: RedisProcess) -> int:
        # Those of scripts count as well.
        return sum(each["calls"] for name, each in server.client.info("commandstats").items() if "info" not in name)

    with redis_running(tmp_path) as server:
        few, many = (asyncio.run(commands_of(server, tasks)) for tasks in (20, 2000))
    # The first calls also load the scripts.
    assert all(one >= other for one, other in zip(few, many, strict=True))
    assert max(few) < 30
