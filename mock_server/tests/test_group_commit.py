"""The thread of an SQLite store: many calls share a transaction, and what a call costs does not grow with the tasks."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from seedbed_mock import create_app
from seedbed_mock.stores.sqlite import SqliteStore
from seedbed_mock.stores.store import NameTakenError, OverdrawnError
from seedbed_mock.tasks import Failure, Task
from seedbed_schemas import default_contract, local
from seedbed_schemas.openapi import example_of
from tests.stored_tasks import (
    ONE,
    PRICE,
    START,
    TWO,
    file_store,
    steps_of_file,
    task,
    task_with_callback,
)

CREATE, GOOD = default_contract().operation.path, example_of(default_contract().part("request"))


def with_store(path: Path, act: Callable[[SqliteStore], Awaitable[Any]], keep: int = 10_000) -> Any:
    """Return the result of a coroutine that uses a store, in an event loop of its own."""

    async def use() -> Any:
        store = SqliteStore(path, keep)
        await store.open()
        try:
            return await act(store)
        finally:
            await store.close()

    return asyncio.run(use())


def count_transactions(store: SqliteStore) -> list[str]:
    """Return a list to which each begin of a transaction is added from now on."""
    begun: list[str] = []
    store._database.set_trace_callback(lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None)
    return begun


def test_calls_at_the_same_time_share_transactions(tmp_path: Path) -> None:
    async def create_many(store: SqliteStore) -> int:
        await store.deposit(ONE, Decimal(10_000), START)
        begun = count_transactions(store)
        await asyncio.gather(*(store.create(task(number), ONE) for number in range(200)))
        assert await store.balance(ONE, START) == 80 + 10_000 - 200 * PRICE
        return len(begun)

    # The thread is woken once for all calls of one turn of the event loop.
    assert with_store(tmp_path / "one.db", create_many) < 10


def test_an_error_of_one_call_concerns_no_other_of_its_transaction(tmp_path: Path) -> None:
    def fail(_: Task) -> Task:
        raise ZeroDivisionError

    async def create_some(store: SqliteStore) -> tuple[list[object], Decimal, Decimal, int]:
        calls = [store.create(task(number), ONE) for number in range(14)]
        calls.insert(3, store.create(task(0, TWO), TWO))
        calls.insert(5, store.change("task_000001", fail))  # type: ignore[arg-type]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        found = [type(each) for each in outcomes if isinstance(each, Exception)]
        balances = await store.balance(ONE, START), await store.balance(TWO, START)
        return found, *balances, await store.count()  # type: ignore[return-value]

    errors, one, two, count = with_store(tmp_path / "one.db", create_some)
    assert errors == [NameTakenError, ZeroDivisionError, OverdrawnError, OverdrawnError]
    assert (one, two, count) == (80 - 12 * PRICE, 80, 12)


def test_a_task_that_finds_no_room_leaves_room_for_smaller_ones(tmp_path: Path) -> None:
    async def fill(store: SqliteStore) -> tuple[list[bool], int, Decimal]:
        (pages,) = store._database.execute("PRAGMA page_count").fetchone()
        store._database.execute(f"PRAGMA max_page_count = {pages + 8}")
        large = "x" * 100_000
        made = [task(number, request=large if number == 2 else "{}") for number in range(5)]
        outcomes = await asyncio.gather(*(store.create(each, ONE) for each in made), return_exceptions=True)
        return [each is None for each in outcomes], await store.count(), await store.balance(ONE, START)

    assert with_store(tmp_path / "one.db", fill) == ([True, True, False, True, True], 4, 80 - 4 * PRICE)


def test_a_caller_that_is_cancelled_learns_of_the_change_that_was_made(tmp_path: Path) -> None:
    async def cancel(store: SqliteStore) -> list[str]:
        learned: list[str] = []

        async def create() -> None:
            await store.create(task(1), ONE)
            learned.append("created")
            await asyncio.sleep(0)
            learned.append("went on")

        running = asyncio.create_task(create())
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await store.find("task_000001") == task(1)
        assert await store.balance(ONE, START) == 80 - PRICE
        return learned

    assert with_store(tmp_path / "one.db", cancel) == ["created"]


def test_a_deadline_that_passes_during_a_call_is_a_time_out(tmp_path: Path) -> None:
    async def wait(store: SqliteStore) -> bool:
        async def create() -> None:
            async with asyncio.timeout(0):
                await store.create(task(1), ONE)
                await asyncio.sleep(3600)

        with pytest.raises(TimeoutError):
            await create()
        return asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    assert with_store(tmp_path / "one.db", wait)


@pytest.mark.parametrize("database", [None, "one.db"])
def test_a_client_that_leaves_in_the_middle_pays_once_and_is_billed(tmp_path: Path, database: str | None) -> None:
    sent = list[Any]()

    async def leave() -> tuple[int, Decimal, Decimal]:
        app = create_app(db=tmp_path / database if database else None, credits=100, task_seconds=60)
        service = app.state.service

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": json.dumps(GOOD).encode(), "more_body": False}

        async def send(message: Any) -> None:
            await asyncio.sleep(0)
            sent.append(message)

        headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {local.KEY}".encode())]
        scope = {
            "type": "http",
            "method": "POST",
            "path": CREATE,
            "query_string": b"",
            "headers": headers,
            "server": ("127.0.0.1", 80),
        }
        await service.open()
        request = asyncio.create_task(app(scope, receive, send))
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        account = service.spaces.default.accounts[local.KEY]
        balance = await service.store.balance(account, service.now())
        count = await service.store.count()
        await app.state.dispatcher.close()
        await service.store.close()
        return count, 100 - balance, service.ledger.bill().credits

    count, paid, billed = asyncio.run(leave())
    assert (count, paid, sent) == (1, billed, [])
    assert paid > 0


def test_the_event_loop_goes_on_while_another_program_locks_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seedbed_mock.stores.group_commit._BUSY_MILLISECONDS", 60_000)

    async def wait(store: SqliteStore) -> int:
        await store.create(task(1), ONE)
        with closing(sqlite3.connect(tmp_path / "one.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = asyncio.create_task(store.create(task(2), ONE))
            for _ in range(100):
                assert await store.find("task_000001") == task(1)
                assert await store.find("task_000002") is None
                assert await store.balance(ONE, START) == 80 - PRICE
                await asyncio.sleep(0)
            assert not waiting.done()
            other.rollback()
        await waiting
        return await store.count()

    assert with_store(tmp_path / "one.db", wait) == 2


def test_calls_before_the_end_are_made_and_later_ones_are_refused(tmp_path: Path) -> None:
    async def end(store: SqliteStore) -> list[object]:
        calls = [asyncio.create_task(store.create(task(number), ONE)) for number in range(5)]
        await asyncio.sleep(0)
        await store.close()
        late = asyncio.create_task(store.create(task(9), ONE))
        return await asyncio.gather(*calls, late, return_exceptions=True)

    *made, late = with_store(tmp_path / "one.db", end)
    assert made == [None] * 5
    assert "closed" in str(late)
    with closing(file_store(tmp_path / "one.db", 100)) as store:
        assert store.count() == 5


def test_a_store_works_without_an_event_loop_of_asyncio(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "one.db", 100)

    def result_of(call: Any) -> Any:
        try:
            call.send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("it suspends")

    result_of(store.open())
    result_of(store.create(task(1), ONE))
    assert result_of(store.find("task_000001")) == task(1)
    store.abandon()
    store.abandon()


# What a call costs


FAILURE = Failure("500", "no")
HEADS: dict[str, Callable[[int], Task]] = {
    "that have ended": lambda number: task(number, seconds=0),
    "that have not ended": task,
    "of unknown end": lambda number: task(number, seconds=None),
    "with a callback": lambda number: task_with_callback(number, START + 10**6, seconds=0),
    "that will fail": lambda number: task(number, seconds=10**6, failure=FAILURE),
}


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("keep", [200, 10**6])
def test_a_call_costs_the_same_however_many_tasks_a_file_has(tmp_path: Path, head: str, keep: int) -> None:
    def steps(tasks: int) -> tuple[int, ...]:
        with closing(file_store(tmp_path / f"{tasks}.db", keep)) as store:
            for number in range(tasks):
                store.create(replace(HEADS[head](number), price=Decimal(0)), ONE)

            def create_more() -> None:
                for number in range(tasks, tasks + 50):
                    store.create(task(number, seconds=0, price=Decimal(0)), ONE)

            return (
                steps_of_file(store, create_more),
                steps_of_file(store, lambda: store.change(f"task_{tasks:06}", lambda each: replace(each, polls=1))),
                steps_of_file(store, lambda: store.charge(ONE, PRICE, START)),
            )

    few, many = steps(250), steps(1000)
    assert all(more <= less * 1.2 + 200 for less, more in zip(few, many, strict=True)), (few, many)


def test_no_statement_counts_the_tasks(tmp_path: Path) -> None:
    with closing(file_store(tmp_path / "one.db", 3)) as store:
        statements: list[str] = []
        store._database.set_trace_callback(statements.append)
        for number in range(10):
            store.create(task(number, seconds=0), ONE)
        store.claim(START, START + 1, limit=3)
        store.reset("default")
        assert len(statements) > 50
        assert not [each for each in statements if "count(" in each.lower()]


# The number of tasks


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """A file of the version before the number of tasks was kept in it."""
    path = tmp_path / "old.db"
    with closing(file_store(path, 100)) as store:
        for number in range(5):
            store.create(task(number, seconds=0), ONE)
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "DROP TABLE totals; DROP INDEX ending; DROP INDEX finished; ALTER TABLE tasks DROP COLUMN passed;"
            "PRAGMA user_version = 2"
        )
    return path


def test_a_file_of_the_version_before_is_used(old_file: Path) -> None:
    with closing(file_store(old_file, 3)) as store:
        assert store.count() == 5
        store.create(task(5, seconds=0), ONE)
        assert store.count() == 3
        assert store.find("task_000002") is None


def test_the_number_of_tasks_is_that_of_all_servers_on_a_file(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    with closing(file_store(path, 10)) as one, closing(file_store(path, 10)) as other:
        for number in range(40):
            (one if number % 2 else other).create(task(number, seconds=0, price=Decimal(0)), ONE)
        assert one.count() == other.count() == len(one.page(limit=100)) == 10
        one.reset("elsewhere")
        assert other.count() == 10
        other.reset("default")
        assert one.count() == 0
        # Numbers begin anew, and the search for finished tasks with them.
        for number in range(30):
            (one if number % 3 else other).create(task(number, seconds=0, price=Decimal(0)), ONE)
        assert [each.task_id for _, each in other.page(limit=100)] == [f"task_{29 - each:06}" for each in range(10)]
