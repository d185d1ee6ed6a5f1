"""The stores in memory, in a file and on Redis: what every store does."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace
from seedbed_mock.settings import MOST_CREDITS, SettingsError
from seedbed_mock.stores.sqlite import SqliteStore
from seedbed_mock.stores.store import UNFINISHED_SHARE, NameTakenError, OverdrawnError
from seedbed_mock.tasks import DeliveryAttempt, Failure, Task, ended, polled
from tests.call_steps import steps_of
from tests.stored_tasks import (
    ACCOUNTS,
    ELSEWHERE,
    ONE,
    PRICE,
    START,
    TWO,
    BlockingStore,
    file_store,
    memory_store,
    redis_store,
    steps_of_file,
    task,
    task_with_callback,
    tasks_in,
)

FAILURE = Failure("500", "no")

Open = Callable[[int], BlockingStore]


def open_store_of(request: pytest.FixtureRequest, path: Path, keep: int) -> BlockingStore:
    if request.param == "redis":
        return redis_store(request.getfixturevalue("redis_server").url(), keep)
    return memory_store(keep) if request.param == "memory" else file_store(path, keep)


@pytest.fixture(params=["memory", "file", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    opened: list[BlockingStore] = []

    def open_one(keep: int = 100) -> BlockingStore:
        path = tmp_path / f"{len(opened)}.db"
        opened.append(open_store_of(request, path, keep))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> BlockingStore:
    return open_store(100)


def test_a_task_is_found_by_its_id_only(store: BlockingStore) -> None:
    store.create(task(1), ONE)
    assert store.find("task_000001") == task(1)
    assert store.find("1.jpg") is None
    assert store.newest() == START


def test_a_price_without_a_task_is_charged_if_the_balance_covers_it(store: BlockingStore) -> None:
    before = store.balance(ONE, START)
    store.charge(ONE, Decimal("0.5"), START)
    assert store.balance(ONE, START) == before - Decimal("0.5")
    with pytest.raises(OverdrawnError) as refusal:
        store.charge(ONE, before, START)
    assert refusal.value.balance == store.balance(ONE, START) == before - Decimal("0.5")
    assert tasks_in(store, limit=10) == []


def test_a_price_is_charged_once_and_never_overdraws(store: BlockingStore) -> None:
    for number in range(12):
        store.create(task(number), ONE)
    with pytest.raises(OverdrawnError) as refusal:
        store.create(task(12), ONE)
    assert refusal.value.balance == store.balance(ONE, START) == 2
    assert store.find("task_000012") is None
    assert store.balance(TWO, START) == store.balance(ELSEWHERE, START) == 80


def test_a_task_with_an_existing_id_is_not_charged(store: BlockingStore) -> None:
    store.create(task(1), ONE)
    with pytest.raises(NameTakenError):
        store.create(replace(task(2), task_id=task(1).task_id), ONE)
    assert store.balance(ONE, START) == 80 - PRICE
    assert tasks_in(store, limit=9) == [task(1)]


def test_a_deposit_is_exact_and_limited(store: BlockingStore) -> None:
    assert store.deposit(ONE, Decimal("0.000000001"), START) == Decimal("80.000000001")
    with pytest.raises(SettingsError):
        store.deposit(ONE, Decimal(10**9), START)
    assert store.deposit(ONE, Decimal(-80), START) == store.balance(ONE, START) == Decimal("1E-9")


def test_the_newest_tasks_are_listed_first(store: BlockingStore) -> None:
    for number, owner in enumerate([ONE, ELSEWHERE, TWO, ELSEWHERE]):
        store.create(task(number, owner), owner)
    assert [each.task_id[-1] for each in tasks_in(store, limit=3)] == ["3", "2", "1"]
    assert [each.task_id[-1] for each in tasks_in(store, "elsewhere", limit=9)] == ["3", "1"]
    assert tasks_in(store, "nowhere", limit=9) == []


def pages_of(store: BlockingStore, space: str | None, size: int) -> Iterator[list[Task]]:
    """Yield the pages of a list, each of which begins where the one before it ended."""
    before = None
    while page := store.page(space, before=before, limit=size):
        assert len(page) <= size
        yield [task for _, task in page]
        before = page[-1][0]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_the_pages_of_a_list_are_the_whole_list(open_store: Open, size: int) -> None:
    store = open_store(16)
    for owner in ACCOUNTS:
        store.deposit(owner, Decimal(10**6), START)
    for number in range(48):
        # Every fifth one never ends, so that the deletion of old tasks leaves gaps.
        owner = ACCOUNTS[number % 3]
        store.create(task(number, owner, seconds=0 if number % 5 else None), owner)
    for space in (None, "default", "elsewhere", "nowhere"):
        whole = tasks_in(store, space, limit=1000)
        assert [task for page in pages_of(store, space, size) for task in page] == whole
        assert whole == sorted(whole, key=lambda task: task.task_id, reverse=True)
    assert tasks_in(store, limit=1000)[-1].task_id == "task_000000"


def test_a_list_continues_though_tasks_come_and_go(store: BlockingStore) -> None:
    for number in range(6):
        store.create(task(number, (ONE, ELSEWHERE)[number % 2]), (ONE, ELSEWHERE)[number % 2])
    last = store.page(limit=3)[-1][0]
    store.create(task(6), ONE)
    assert [task.task_id[-1] for _, task in store.page(before=last, limit=9)] == ["2", "1", "0"]
    store.reset("elsewhere")
    assert [task.task_id[-1] for _, task in store.page(before=last, limit=9)] == ["2", "0"]
    store.reset()
    assert store.page(before=last, limit=9) == []


@pytest.mark.parametrize("space", [None, "default", "elsewhere", "nowhere"])
@pytest.mark.parametrize("where", ["newest", "middle", "oldest"])
@pytest.mark.parametrize("open_store", ["memory", "file"], indirect=True)
def test_a_page_costs_the_same_in_a_long_list(open_store: Open, space: str | None, where: str) -> None:
    def steps(tasks: int) -> int:
        store = open_store(10_000)
        for number in range(tasks):
            # The tasks of one space are all older than those of the other.
            owner = ELSEWHERE if number < 20 else ONE
            store.create(task(number, owner, price=Decimal(0)), owner)
        before = {"newest": None, "middle": tasks // 2, "oldest": 12}[where]

        def read() -> object:
            return store.page(space, before=before, limit=10)

        return steps_of_file(store, read) if isinstance(store.store, SqliteStore) else steps_of(read)

    few, many = steps(100), steps(2000)
    # A search in a sorted list, which grows by a step each time the list doubles.
    assert many <= few + 150
    assert many < 1200


def test_a_change_is_stored_and_returned(store: BlockingStore) -> None:
    store.create(task(1, seconds=None), ONE)
    changed = store.change("task_000001", lambda task: polled(task, START + 5, 1))
    assert changed == store.find("task_000001") != task(1, seconds=None)
    assert store.change("task_000002", lambda task: task) is None


def test_a_change_that_fails_changes_nothing(store: BlockingStore) -> None:
    def fail(_: Task) -> Task:
        raise RuntimeError("no")

    store.create(task(1), ONE)
    with pytest.raises(RuntimeError, match="no"):
        store.change("task_000001", fail)
    assert store.find("task_000001") == task(1)
    store.create(task(2), ONE)


def test_a_failed_task_is_refunded_once_when_it_ends(store: BlockingStore) -> None:
    store.create(task(1, failure=FAILURE), ONE)
    assert store.balance(ONE, START + 2999) == 80 - PRICE
    assert store.balance(ONE, START + 3000) == store.balance(ONE, START + 9000) == 80
    found = store.find("task_000001")
    assert found
    assert found.is_refunded


def test_a_due_refund_can_be_spent(store: BlockingStore) -> None:
    for number in range(12):
        store.create(task(number, failure=FAILURE), ONE)
    store.create(task(12, at=START + 3000), ONE)
    assert store.balance(ONE, START + 3000) == 80 - PRICE


def test_a_task_that_fails_after_its_end_is_refunded(store: BlockingStore) -> None:
    store.create(task(1), ONE)
    store.change("task_000001", lambda task: ended(task, START + 5000, FAILURE))
    assert store.balance(ONE, START + 5000) == 80


def test_due_callbacks_are_claimed_once_the_oldest_first(store: BlockingStore) -> None:
    for number, due in enumerate([START + 30, START + 10, None, START + 20, START + 99]):
        store.create(task_with_callback(number, due), ONE)
    assert store.next_due() == START + 10
    assert store.claim(START + 9, START + 99, limit=9) == []
    claimed = store.claim(START + 50, START + 99, limit=2)
    assert [each.task_id[-1] for each in claimed] == ["1", "3"]
    assert [each.callback and each.callback.due for each in claimed] == [START + 99] * 2
    assert [each.task_id[-1] for each in store.claim(START + 50, START + 99, limit=9)] == ["0"]
    assert store.claim(START + 50, START + 99, limit=9) == []
    assert len(store.claim(START + 99, START + 200, limit=9)) == 4
    assert store.next_due() == START + 200


def test_a_delivered_callback_is_not_due(store: BlockingStore) -> None:
    def delivered(task: Task) -> Task:
        assert task.callback
        return replace(task, callback=task.callback.attempted(DeliveryAttempt(at=START, duration=1, status=200), START))

    store.create(task_with_callback(1, START), ONE)
    store.change("task_000001", delivered)
    assert store.next_due() is None


def test_one_space_is_reset_without_the_others(store: BlockingStore) -> None:
    for number, owner in enumerate(ACCOUNTS):
        store.create(task(number, owner), owner)
    store.reset("default")
    assert [each.space for each in tasks_in(store, limit=9)] == ["elsewhere"]
    assert [store.balance(owner, START) for owner in ACCOUNTS] == [80, 80, 80 - PRICE]


def test_a_balance_is_reset_without_its_tasks(store: BlockingStore) -> None:
    store.create(task(1), ONE)
    store.create(task(2, TWO), TWO)
    store.reset("default", "one")
    assert store.balance(ONE, START) == 80
    assert store.balance(TWO, START) == 80 - PRICE
    assert len(tasks_in(store, limit=9)) == 2


@pytest.mark.parametrize("seconds", [None, 3])
def test_a_reset_balance_gets_no_refund_for_earlier_payments(store: BlockingStore, seconds: float | None) -> None:
    store.create(task(1, seconds=seconds), ONE)
    store.create(task(2, TWO, seconds=seconds), TWO)
    store.reset("default", "one")
    store.create(task(3), ONE)
    for number in (1, 2, 3):
        store.change(f"task_{number:06}", lambda task: ended(task, START, FAILURE))
    assert [store.balance(owner, START) for owner in (ONE, TWO)] == [80, 80]
    assert [task.is_refunded for task in tasks_in(store, limit=9)] == [True, True, False]


def test_a_task_paid_before_a_reset_is_deleted_without_a_refund(open_store: Open) -> None:
    store = open_store(1)
    store.create(task(1, failure=FAILURE), ONE)
    store.reset("default", "one")
    store.create(task(2, at=START + 5000), ONE)
    store.create(task(3, TWO, at=START + 9000), TWO)
    assert store.find("task_000001") is None
    assert store.balance(ONE, START + 9000) == 80 - PRICE


def test_a_refund_does_not_exceed_the_limit_of_a_balance(store: BlockingStore) -> None:
    store.create(task(1, failure=FAILURE), ONE)
    store.deposit(ONE, MOST_CREDITS - store.balance(ONE, START), START)
    assert store.balance(ONE, START + 3000) == MOST_CREDITS


def test_the_refund_of_a_deleted_task_does_not_exceed_the_limit_of_a_balance(open_store: Open) -> None:
    store = open_store(1)
    store.create(task(1, failure=FAILURE), ONE)
    store.deposit(ONE, MOST_CREDITS - store.balance(ONE, START), START)
    store.create(task(2, TWO, at=START + 5000), TWO)
    assert store.find("task_000001") is None
    assert store.balance(ONE, START + 5000) == MOST_CREDITS


def test_a_reset_keeps_notes(store: BlockingStore) -> None:
    store.create(task_with_callback(1, START), ONE)
    store.note("name", b"\0value")
    store.reset()
    assert tasks_in(store, limit=9) == []
    assert store.next_due() is None
    assert store.newest() == 0
    assert store.balance(ONE, START) == 80
    assert store.note("name") == b"\0value"


def test_note_once_keeps_the_first_value(store: BlockingStore) -> None:
    assert store.note("name") is None
    assert store.note_once("name", b"first") == store.note_once("name", b"second") == b"first"
    assert store.note("name", b"third") == store.note("name") == b"third"


def test_the_oldest_finished_tasks_are_deleted_beyond_the_limit(open_store: Open) -> None:
    store = open_store(3)
    for number, seconds in enumerate([9, 2, 1, 9]):
        store.create(task(number, seconds=seconds, at=START + 3000 * (number == 3)), ONE)
    assert [each.task_id[-1] for each in tasks_in(store, limit=9)] == ["3", "2", "0"]
    assert store.find("task_000001") is None


def test_a_task_is_not_deleted_before_its_callback_is_sent(open_store: Open) -> None:
    store = open_store(1)
    store.create(task_with_callback(1, START), ONE)
    store.create(task(2, at=START + 5000), ONE)
    assert store.find("task_000001")
    store.change("task_000001", lambda task: replace(task, callback=None))
    store.create(task(3, at=START + 5000), ONE)
    assert store.find("task_000001") is None


def test_a_refund_is_booked_before_its_task_is_deleted(open_store: Open) -> None:
    store = open_store(1)
    store.create(task(1, failure=FAILURE), ONE)
    store.create(task(2, TWO, at=START + 5000), TWO)
    assert store.find("task_000001") is None
    assert store.balance(ONE, START + 5000) == 80


def test_the_number_of_unfinished_tasks_is_limited(open_store: Open) -> None:
    store = open_store(1)
    for number in range(UNFINISHED_SHARE + 2):
        store.create(task(number, seconds=None), ONE)
    assert len(tasks_in(store, limit=99)) == UNFINISHED_SHARE
    assert store.find("task_000001") is None


def test_many_tasks_are_deleted_in_time(open_store: Open) -> None:
    store = open_store(640)
    store.deposit(ONE, Decimal(10**6), START)
    for number in range(1000):
        store.create(task(number, seconds=0), ONE)
        assert store.find(f"task_{max(number - 639, 0):06}")
    assert 640 <= len(tasks_in(store, limit=1000)) <= 681
