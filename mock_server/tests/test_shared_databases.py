"""Several processes on one database file, and a database that cannot be used for a while."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace
from seedbed_mock import MockServer, running
from seedbed_mock.stores.sqlite import SqliteStore
from seedbed_mock.stores.store import OverdrawnError, StoreError
from seedbed_schemas import default_contract
from seedbed_schemas.openapi import example_of
from tests.stored_tasks import ONE, PRICE, START, BlockingStore, file_store, task, task_with_callback, tasks_in


def at_once(work: Callable[[int], Any], times: int = 2) -> list[Any]:
    """Return the results of a function for each number, called at the same time in several threads."""
    gate = threading.Barrier(times)

    def wait_and_work(number: int) -> Any:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(wait_and_work, range(times)))


def with_store(path: Path, work: Callable[[BlockingStore], Any]) -> Any:
    store = file_store(path, 10_000)
    try:
        return work(store)
    finally:
        store.close()


def create_until(error: type[Exception], store: BlockingStore, first: int = 0) -> int:
    """Create tasks until an error, and return their number."""
    number = first
    with contextlib.suppress(error):
        while True:
            store.create(task(number), ONE)
            number += 1
    return number - first


def test_a_new_file_can_be_opened_many_times_at_once(tmp_path: Path) -> None:
    def note(number: int) -> object:
        return with_store(tmp_path / "one.db", lambda store: store.note_once("secret", bytes([number])))

    for _ in range(5):
        assert len(set(at_once(note, 8))) == 1
        (tmp_path / "one.db").unlink()


def test_a_file_that_another_process_is_creating_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, journal = tmp_path / "one.db", tmp_path / "one.db-journal"
    with_store(path, lambda store: store.note_once("secret", b"kept"))
    content = path.read_bytes()
    path.write_bytes(content[:4096])
    journal.touch()

    def finish_writing(_: float) -> None:
        path.write_bytes(content)
        journal.unlink(missing_ok=True)

    monkeypatch.setattr("seedbed_mock.stores.sqlite_file.time.sleep", finish_writing)
    assert with_store(path, lambda store: store.note("secret")) == b"kept"


def test_a_truncated_file_that_nobody_writes_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.db"
    with_store(path, lambda store: store.note_once("secret", b"kept"))
    path.write_bytes(path.read_bytes()[:4096])
    monkeypatch.setattr("seedbed_mock.stores.sqlite_file.time.sleep", lambda _: pytest.fail("it waited"))
    with pytest.raises(StoreError, match=r"cannot be used|is damaged"):
        SqliteStore(path, 10)


def test_two_stores_on_one_file_never_overdraw_an_account(tmp_path: Path) -> None:
    def spend(number: int) -> Any:
        return with_store(tmp_path / "one.db", lambda store: create_until(OverdrawnError, store, number * 100))

    assert sum(at_once(spend)) == 12
    assert with_store(tmp_path / "one.db", lambda store: store.balance(ONE, START)) == 2


def test_two_stores_on_one_file_lose_no_change(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    with_store(path, lambda store: store.create(task(1), ONE))

    def count(_: int) -> None:
        def more(store: BlockingStore) -> None:
            for _ in range(100):
                store.change("task_000001", lambda task: replace(task, polls=task.polls + 1))

        with_store(path, more)

    at_once(count)
    assert with_store(path, lambda store: store.find("task_000001")).polls == 200


def test_two_stores_on_one_file_never_claim_the_same_callback(tmp_path: Path) -> None:
    path = tmp_path / "one.db"

    def fill(store: BlockingStore) -> None:
        store.deposit(ONE, Decimal(10**4), START)
        for number in range(200):
            store.create(task_with_callback(number, START), ONE)

    with_store(path, fill)

    def claim(_: int) -> list[str]:
        def claim_all(store: BlockingStore) -> list[str]:
            return [each.task_id for _ in range(100) for each in store.claim(START, START + 20_000, limit=3)]

        names: list[str] = with_store(path, claim_all)
        return names

    first, second = at_once(claim)
    assert len(first) + len(second) == len({*first, *second}) == 200


def test_a_task_of_another_version_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    with_store(path, lambda store: store.create(task(1), ONE))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(
            "UPDATE tasks SET document = json_remove(json_set(document, '$.later', json('[1]')), '$.polls')"
        )
    assert with_store(path, lambda store: store.find("task_000001")) == task(1)


def test_a_full_disk_refuses_whole_changes_and_the_store_recovers(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    store = file_store(path, 10_000)
    room = store._database.execute("PRAGMA page_count").fetchone()[0] + 5
    store._database.execute(f"PRAGMA max_page_count = {room}")
    store.deposit(ONE, Decimal(10**4), START)
    made = create_until(sqlite3.OperationalError, store)
    assert len(tasks_in(store, limit=1000)) == made > 0
    assert store.balance(ONE, START) == 80 + 10**4 - made * PRICE
    store._database.execute("PRAGMA max_page_count = 100000")
    store.create(task(made), ONE)
    store.close()


# A database that cannot be used for a while


def create_by_http(server: MockServer) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {server.key}"}
    body = example_of(default_contract().part("request"))
    return httpx2.post(server.url + default_contract().operation.path, json=body, headers=headers, trust_env=False)


def test_a_database_that_another_program_locks_stops_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tasks.db"
    with running(db=path) as server, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        response = create_by_http(server)
        assert (response.status_code, response.json()["code"]) == (200, 500)
        assert [create_by_http(server).json()["code"] for _ in range(5)] == [500] * 5
        assert server.control("GET", "health")["errors"] == 0
        other.rollback()
        assert create_by_http(server).json()["code"] == 200
    assert [record.exc_info for record in caplog.records] == [None]


@pytest.mark.slow
def test_a_full_disk_is_no_internal_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(db=tmp_path / "tasks.db", rate_limit="off", credits=10**6) as server:
        store = server._service.store
        assert isinstance(store, SqliteStore)
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count = {pages + 2}")
        codes = [create_by_http(server).json()["code"] for _ in range(40)]
        assert codes[-10:] == [500] * 10
        assert server.control("GET", "health")["errors"] == 0
        store._database.execute("PRAGMA max_page_count = 100000")
        assert create_by_http(server).json()["code"] == 200
    assert {record.exc_info for record in caplog.records} == {None}
    assert len(caplog.records) < 5
