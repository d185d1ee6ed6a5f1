"""The store in memory: what a call costs does not grow with the number of tasks, and all tasks have one size limit.

The steps of a call are the instructions of Python that it takes, in place of the time.
"""

from collections.abc import Callable, Sized
from contextlib import closing
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from seedbed_mock.accounts import Account
from seedbed_mock.stores.memory import MOST_BYTES
from seedbed_mock.stores.store import UNFINISHED_SHARE
from seedbed_mock.tasks import CallbackDelivery, Failure, Task, ended, even_timeline
from tests.call_steps import steps_of
from tests.stored_tasks import BlockingStore, file_store, memory_store

START = 1_765_166_238_716
DAY = 86_400_000
URL = "http://127.0.0.1:2/done"


def account_of(space: str) -> Account:
    return Account("one", space, Decimal(10**8), None, None, b"")


ONE, ELSEWHERE = account_of("default"), account_of("elsewhere")


def task(number: int, owner: Account = ONE, *, milliseconds: int | None = DAY, at: int = START, **others: Any) -> Task:
    return Task(
        **{
            "task_id": f"task_{number:06}",
            "space": owner.space,
            "account": owner.name,
            "model": "m",
            "request": "{}",
            "result_name": f"{number}.jpg",
            "base_url": "http://127.0.0.1:1",
            "price": Decimal("6.5"),
            "created": at,
            "visible": at,
            "timeline": () if milliseconds is None else even_timeline(at, milliseconds),
            **others,
        }
    )


def with_callback(made: Task, due: int | None = None) -> Task:
    return replace(made, callback=CallbackDelivery(url=URL, due=due or made.ends))


KINDS: dict[str, Callable[[int], Task]] = {
    "unfinished": task,
    "of unknown end": lambda number: task(number, milliseconds=None),
    "with a callback that is retried": lambda number: with_callback(task(number, milliseconds=0), START + DAY),
    "with a callback that is not due yet": lambda number: with_callback(task(number)),
    "that will fail": lambda number: task(number, failure=Failure("500", "no")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_costs_the_same_however_many_tasks_there_are(kind: str) -> None:
    def steps(tasks: int) -> int:
        store = memory_store(800)
        for number in range(tasks):
            made = KINDS[kind](number)
            store.create(made, ONE)

        def create_more() -> None:
            for number in range(tasks, tasks + 200):
                store.create(task(number, milliseconds=0), ONE)

        return steps_of(create_more)

    few, many = steps(1000), steps(7000)
    # The 200 tasks include four deletions. A search in a heap or in a sorted list is not counted: it is part of C.
    assert many <= few * 1.2 + 1000


@pytest.mark.parametrize("act", ["change", "claim", "balance", "find", "deposit", "next_due"])
def test_a_call_costs_the_same_however_many_tasks_there_are(act: str) -> None:
    def steps(tasks: int) -> int:
        store = memory_store(10_000)
        for number in range(tasks):
            store.create(with_callback(task(number, failure=Failure("500", "no") if number % 2 else None)), ONE)
        calls: dict[str, Callable[[], object]] = {
            "change": lambda: store.change("task_000007", lambda each: ended(each, START + 1)),
            "claim": lambda: store.claim(START + DAY, START + 2 * DAY, limit=5),
            "balance": lambda: store.balance(ONE, START + 1),
            "find": lambda: store.find("task_000007"),
            "deposit": lambda: store.deposit(ONE, Decimal(1), START + 1),
            "next_due": store.next_due,
        }
        return steps_of(calls[act])

    assert steps(5000) <= steps(50)


def test_the_reset_of_a_space_looks_at_no_other_task() -> None:
    def steps(tasks: int) -> int:
        store = memory_store(10_000)
        for number in range(tasks):
            owner = ELSEWHERE if number % (tasks // 5) == 1 else ONE
            store.create(task(number, owner), owner)
            # A balance is no reason to look at a space, either.
            store.deposit(account_of(f"space-{number}"), Decimal(1), START)
        return steps_of(lambda: store.reset("elsewhere"))

    assert steps(5000) <= steps(50) + 500


def test_what_was_passed_over_is_deleted_before_newer_tasks() -> None:
    store = memory_store(2)
    store.create(with_callback(task(0, milliseconds=0)), ONE)
    store.create(task(1, milliseconds=None), ONE)
    for number in range(2, 6):
        store.create(task(number, milliseconds=0), ONE)
    assert [store.find(f"task_{number:06}") is None for number in range(6)] == [False, False, True, True, True, True]
    store.change("task_000000", lambda each: replace(each, callback=None))
    store.create(task(6), ONE)
    assert store.find("task_000000") is None
    store.change("task_000001", lambda each: ended(each, START))
    store.create(task(7), ONE)
    assert store.find("task_000001") is None
    assert store.find("task_000006") is not None


def test_a_task_whose_callback_is_sent_again_is_kept_until_it_was_sent() -> None:
    store = memory_store(1)
    store.create(with_callback(task(0, milliseconds=0)), ONE)
    store.create(task(1, milliseconds=None), ONE)
    for due in (None, START, None):
        store.change("task_000000", lambda each, due=due: replace(each, callback=CallbackDelivery(url=URL, due=due)))
    store.change("task_000000", lambda each: replace(each, callback=CallbackDelivery(url=URL, due=START)))
    store.create(task(2), ONE)
    assert store.find("task_000000") is not None
    store.change("task_000000", lambda each: replace(each, callback=CallbackDelivery(url=URL)))
    store.create(task(3), ONE)
    assert store.find("task_000000") is None


def test_no_task_waits_for_the_deletion_of_many() -> None:
    def steps(tasks: int) -> int:
        store = memory_store(1000)
        for number in range(tasks):
            store.create(task(number, milliseconds=1000), ONE)
        # All of them have ended by now.
        return steps_of(lambda: store.create(task(tasks, at=START + DAY), ONE))

    assert steps(9000) <= steps(1100) * 1.1


def test_no_task_waits_while_notes_of_many_are_dropped() -> None:
    store = memory_store(800)

    def call(number: int) -> None:
        now = START + number
        for each in store.claim(now, now + DAY, limit=10):
            store.change(each.task_id, lambda claimed: replace(claimed, callback=None))
        store.create(with_callback(task(number, milliseconds=1, at=now)), ONE)

    for number in range(1000):
        call(number)
    steps = [steps_of(partial(call, number)) for number in range(1000, 3500)]
    assert max(steps) <= 1.5 * min(steps) + 100


def test_a_task_that_changes_often_is_noted_a_few_times() -> None:
    store = memory_store(10)
    for number in range(20):
        store.create(with_callback(task(number)), ONE)
    for due in range(START, START + 5000):
        store.change("task_000007", partial(with_callback, due=due))
    assert len(store._due_callbacks) <= 2000


def test_no_task_waits_for_a_search_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(tasks: int) -> int:
        monkeypatch.setattr("seedbed_mock.stores.memory.MOST_BYTES", 10**9)
        store = memory_store(100_000)
        for number in range(tasks):
            store.create(task(number), ONE)
        monkeypatch.setattr("seedbed_mock.stores.memory.MOST_BYTES", store._bytes)
        return steps_of(lambda: store.create(task(tasks), ONE))

    assert steps(9000) <= steps(2500) * 1.1


@pytest.mark.parametrize("open_store", [memory_store, None], ids=["memory", "file"])
def test_with_a_large_keep_a_task_that_ends_soon_is_waited_for(
    open_store: Callable[[int], BlockingStore] | None, tmp_path: Path
) -> None:
    store = open_store(1000) if open_store else file_store(tmp_path / "tasks.db", 1000)
    with closing(store):
        store.create(task(0, milliseconds=3000), ONE)
        for number in range(1, 1100):
            store.create(task(number, milliseconds=0), ONE)
        assert store.find("task_000000") is not None
        assert store.find("task_000001") is not None
        store.create(task(1100, milliseconds=0, at=START + 3000), ONE)
        assert store.find("task_000000") is None
        # A task whose end is far away is passed at once.
        store.create(task(1101, milliseconds=60_000, at=START + 3000), ONE)
        for number in range(1102, 3300):
            store.create(task(number, milliseconds=0, at=START + 3000), ONE)
        assert store.count() == 1000
        assert store.find("task_001101") is not None


@pytest.mark.parametrize("open_store", [memory_store, None], ids=["memory", "file"])
def test_beyond_the_largest_number_finished_tasks_go_before_one_that_ends_soon(
    open_store: Callable[[int], BlockingStore] | None, tmp_path: Path
) -> None:
    store = open_store(1000) if open_store else file_store(tmp_path / "tasks.db", 1000)
    with closing(store):
        store.create(task(0, milliseconds=3000), ONE)
        for number in range(1, 1000 * UNFINISHED_SHARE + 100):
            store.create(task(number, milliseconds=0), ONE)
        assert store.count() <= 1000 * UNFINISHED_SHARE
        assert store.find("task_000000") is not None


def test_nothing_is_kept_of_deleted_tasks() -> None:
    store = memory_store(10)
    for number in range(20_000):
        store.create(with_callback(task(number, milliseconds=10**10, failure=Failure("500", "no"))), ONE)
    kept: tuple[Sized, ...] = (
        store._unseen,
        store._ending,
        store._finished,
        store._due_callbacks,
        store._balances["default"]["one"].owed,
    )
    assert len(store.page(limit=1000)) == 100
    assert max(map(len, kept)) <= 2500
    assert not any(entry.task is None for entry in store._entries.values())


# The size of all tasks

LARGE = "x" * 1_000_000


@pytest.mark.parametrize(
    "large", [{"request": LARGE}, {"callback": CallbackDelivery(url=LARGE)}], ids=["request", "callback"]
)
@pytest.mark.parametrize("milliseconds", [0, DAY])
def test_large_tasks_are_kept_up_to_a_size(
    monkeypatch: pytest.MonkeyPatch, large: dict[str, Any], milliseconds: int
) -> None:
    assert MOST_BYTES >= 64 * 1024 * 1024
    monkeypatch.setattr("seedbed_mock.stores.memory.MOST_BYTES", 20 * 1024 * 1024)
    store = memory_store(10_000)
    store.create(task(0, milliseconds=None), ONE)
    for number in range(1, 100):
        store.create(task(number, milliseconds=milliseconds, **large), ONE)
    kept = [each.task_id for _, each in store.page(limit=1000)]
    assert 19 <= len(kept) <= 22
    assert kept[0] == "task_000099"
    # A task that has ended goes first, and without one the oldest.
    assert (store.find("task_000000") is not None) is (milliseconds == 0)


def test_a_change_of_the_size_of_a_task_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed_mock.stores.memory.MOST_BYTES", 5_000_000)
    store = memory_store(100)
    for number in range(4):
        store.create(task(number, request=LARGE), ONE)
    for number in range(4):
        store.change(f"task_{number:06}", lambda each: replace(each, request="{}"))
    for number in range(4, 8):
        store.create(task(number, request=LARGE), ONE)
    assert len(store.page(limit=10)) == 8
    store.reset("default")
    assert store._bytes == 0
