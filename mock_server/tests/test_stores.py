"""The stores in memory and in a file, and several processes on one file."""

import contextlib
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace
from seedbed_mock import MockServer, running
from seedbed_mock.accounts import Account
from seedbed_mock.settings import MOST_CREDITS, SettingsError
from seedbed_mock.stores.memory import MemoryStore
from seedbed_mock.stores.sqlite import SqliteStore
from seedbed_mock.stores.store import UNFINISHED_SHARE, NameTakenError, OverdrawnError, Store, StoreError
from seedbed_mock.tasks import CallbackDelivery, DeliveryAttempt, Failure, Task, ended, even_timeline, polled
from seedbed_schemas import default_contract
from seedbed_schemas.openapi import example_of

START = 1_765_166_238_716
PRICE = Decimal("6.5")
FAILURE = Failure("500", "no")

Open = Callable[[int], Store]


def account(name: str = "one", space: str = "default") -> Account:
    return Account(name, space, Decimal(80), None, None, b"")


ONE, TWO, ELSEWHERE = account(), account("two"), account(space="elsewhere")
ACCOUNTS = (ONE, TWO, ELSEWHERE)


def task(number: int, owner: Account = ONE, *, seconds: float | None = 3, at: int = START, **others: Any) -> Task:
    return Task(
        **{
            "task_id": f"task_{number:06}",
            "space": owner.space,
            "account": owner.name,
            "model": "m",
            "request": '{"model": "m"}',
            "result_name": f"{number}.jpg",
            "base_url": "http://127.0.0.1:1",
            "price": PRICE,
            "created": at,
            "visible": at,
            "timeline": () if seconds is None else even_timeline(at, round(seconds * 1000)),
            **others,
        }
    )


def task_with_callback(number: int, due: int | None, **others: Any) -> Task:
    return task(number, callback=CallbackDelivery(url="http://127.0.0.1:2/done", due=due), **others)


def tasks_in(store: Store, space: str | None = None, *, limit: int) -> list[Task]:
    return [task for _, task in store.page(space, limit=limit)]


@pytest.fixture(params=["memory", "file"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    opened: list[Store] = []

    def open_one(keep: int = 100) -> Store:
        path = tmp_path / f"{len(opened)}.db"
        opened.append(MemoryStore(keep) if request.param == "memory" else SqliteStore(path, keep))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store(100)


def test_a_task_is_found_by_its_id_only(store: Store) -> None:
    store.create(task(1), ONE)
    assert store.find("task_000001") == task(1)
    assert store.find("1.jpg") is None
    assert store.newest() == START


def test_a_price_without_a_task_is_charged_if_the_balance_covers_it(store: Store) -> None:
    before = store.balance(ONE, START)
    store.charge(ONE, Decimal("0.5"), START)
    assert store.balance(ONE, START) == before - Decimal("0.5")
    with pytest.raises(OverdrawnError) as refusal:
        store.charge(ONE, before, START)
    assert refusal.value.balance == store.balance(ONE, START) == before - Decimal("0.5")
    assert tasks_in(store, limit=10) == []


def test_a_price_is_charged_once_and_never_overdraws(store: Store) -> None:
    for number in range(12):
        store.create(task(number), ONE)
    with pytest.raises(OverdrawnError) as refusal:
        store.create(task(12), ONE)
    assert refusal.value.balance == store.balance(ONE, START) == 2
    assert store.find("task_000012") is None
    assert store.balance(TWO, START) == store.balance(ELSEWHERE, START) == 80


def test_a_task_with_an_existing_id_is_not_charged(store: Store) -> None:
    store.create(task(1), ONE)
    with pytest.raises(NameTakenError):
        store.create(replace(task(2), task_id=task(1).task_id), ONE)
    assert store.balance(ONE, START) == 80 - PRICE
    assert tasks_in(store, limit=9) == [task(1)]


def test_a_deposit_is_exact_and_limited(store: Store) -> None:
    assert store.deposit(ONE, Decimal("0.000000001"), START) == Decimal("80.000000001")
    with pytest.raises(SettingsError):
        store.deposit(ONE, Decimal(10**9), START)
    assert store.deposit(ONE, Decimal(-80), START) == store.balance(ONE, START) == Decimal("1E-9")


def test_the_newest_tasks_are_listed_first(store: Store) -> None:
    for number, owner in enumerate([ONE, ELSEWHERE, TWO, ELSEWHERE]):
        store.create(task(number, owner), owner)
    assert [each.task_id[-1] for each in tasks_in(store, limit=3)] == ["3", "2", "1"]
    assert [each.task_id[-1] for each in tasks_in(store, "elsewhere", limit=9)] == ["3", "1"]
    assert tasks_in(store, "nowhere", limit=9) == []


def pages_of(store: Store, space: str | None, size: int) -> Iterator[list[Task]]:
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


def test_a_list_continues_though_tasks_come_and_go(store: Store) -> None:
    for number in range(6):
        store.create(task(number, (ONE, ELSEWHERE)[number % 2]), (ONE, ELSEWHERE)[number % 2])
    last = store.page(limit=3)[-1][0]
    store.create(task(6), ONE)
    assert [task.task_id[-1] for _, task in store.page(before=last, limit=9)] == ["2", "1", "0"]
    store.reset("elsewhere")
    assert [task.task_id[-1] for _, task in store.page(before=last, limit=9)] == ["2", "0"]
    store.reset()
    assert store.page(before=last, limit=9) == []


def steps_of_memory(call: Callable[[], object]) -> int:
    """Return how many instructions of Python a call takes, in place of the time that it takes."""
    steps = 0

    def count(frame: FrameType, event: str, _: object) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += event == "opcode"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        call()
    finally:
        sys.settrace(before)
    return steps


def steps_of_file(store: SqliteStore, read: Callable[[], object]) -> int:
    """Return how many instructions of SQLite a call takes."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    store._database.set_progress_handler(count, 1)
    read()
    store._database.set_progress_handler(None, 1)
    return steps


@pytest.mark.parametrize("space", [None, "default", "elsewhere", "nowhere"])
@pytest.mark.parametrize("where", ["newest", "middle", "oldest"])
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

        return steps_of_file(store, read) if isinstance(store, SqliteStore) else steps_of_memory(read)

    few, many = steps(100), steps(2000)
    # A search in a sorted list, which grows by a step each time the list doubles.
    assert many <= few + 150
    assert many < 1200


def test_a_change_is_stored_and_returned(store: Store) -> None:
    store.create(task(1, seconds=None), ONE)
    changed = store.change("task_000001", lambda task: polled(task, START + 5, 1))
    assert changed == store.find("task_000001") != task(1, seconds=None)
    assert store.change("task_000002", lambda task: task) is None


def test_a_change_that_fails_changes_nothing(store: Store) -> None:
    def fail(_: Task) -> Task:
        raise RuntimeError("no")

    store.create(task(1), ONE)
    with pytest.raises(RuntimeError, match="no"):
        store.change("task_000001", fail)
    assert store.find("task_000001") == task(1)
    store.create(task(2), ONE)


def test_a_failed_task_is_refunded_once_when_it_ends(store: Store) -> None:
    store.create(task(1, failure=FAILURE), ONE)
    assert store.balance(ONE, START + 2999) == 80 - PRICE
    assert store.balance(ONE, START + 3000) == store.balance(ONE, START + 9000) == 80
    found = store.find("task_000001")
    assert found
    assert found.is_refunded


def test_a_due_refund_can_be_spent(store: Store) -> None:
    for number in range(12):
        store.create(task(number, failure=FAILURE), ONE)
    store.create(task(12, at=START + 3000), ONE)
    assert store.balance(ONE, START + 3000) == 80 - PRICE


def test_a_task_that_fails_after_its_end_is_refunded(store: Store) -> None:
    store.create(task(1), ONE)
    store.change("task_000001", lambda task: ended(task, START + 5000, FAILURE))
    assert store.balance(ONE, START + 5000) == 80


def test_due_callbacks_are_claimed_once_the_oldest_first(store: Store) -> None:
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


def test_a_delivered_callback_is_not_due(store: Store) -> None:
    def delivered(task: Task) -> Task:
        assert task.callback
        return replace(task, callback=task.callback.attempted(DeliveryAttempt(at=START, duration=1, status=200), START))

    store.create(task_with_callback(1, START), ONE)
    store.change("task_000001", delivered)
    assert store.next_due() is None


def test_one_space_is_reset_without_the_others(store: Store) -> None:
    for number, owner in enumerate(ACCOUNTS):
        store.create(task(number, owner), owner)
    store.reset("default")
    assert [each.space for each in tasks_in(store, limit=9)] == ["elsewhere"]
    assert [store.balance(owner, START) for owner in ACCOUNTS] == [80, 80, 80 - PRICE]


def test_a_balance_is_reset_without_its_tasks(store: Store) -> None:
    store.create(task(1), ONE)
    store.create(task(2, TWO), TWO)
    store.reset("default", "one")
    assert store.balance(ONE, START) == 80
    assert store.balance(TWO, START) == 80 - PRICE
    assert len(tasks_in(store, limit=9)) == 2


@pytest.mark.parametrize("seconds", [None, 3])
def test_a_reset_balance_gets_no_refund_for_earlier_payments(store: Store, seconds: float | None) -> None:
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


def test_a_refund_does_not_exceed_the_limit_of_a_balance(store: Store) -> None:
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


def test_a_reset_keeps_notes(store: Store) -> None:
    store.create(task_with_callback(1, START), ONE)
    store.note("name", b"\0value")
    store.reset()
    assert tasks_in(store, limit=9) == []
    assert store.next_due() is None
    assert store.newest() == 0
    assert store.balance(ONE, START) == 80
    assert store.note("name") == b"\0value"


def test_note_once_keeps_the_first_value(store: Store) -> None:
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


texts = st.text()
whole = st.integers(-(2**62), 2**62)
amounts = st.decimals(0, 10**9, places=9) | st.decimals(0, 10**9, allow_nan=False, allow_infinity=False)
attempts = st.builds(
    DeliveryAttempt, at=whole, duration=whole, status=st.none() | whole, error=texts, is_refused=st.booleans()
)
callbacks = st.builds(
    CallbackDelivery,
    url=texts,
    due=st.none() | whole,
    tries=whole,
    outcome=st.sampled_from(["waiting", "delivered", "failed", "refused"]),
    attempts=st.lists(attempts, max_size=3).map(tuple),
)
any_tasks = st.builds(
    Task,
    **dict.fromkeys(("task_id", "space", "account", "model", "request", "result_name", "base_url"), texts),
    price=amounts,
    created=whole,
    visible=whole,
    timeline=st.lists(whole, max_size=3).map(lambda moments: tuple(sorted(moments))),
    polls=whole,
    failure=st.none() | st.builds(Failure, code=texts, message=texts),
    is_refunded=st.booleans(),
    callback=st.none() | callbacks,
)


@pytest.fixture(scope="module")
def file_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path_factory.mktemp("any") / "any.db", 100)
    yield store
    store.close()


@given(made=any_tasks)
def test_any_task_is_read_from_a_file_unchanged(file_store: SqliteStore, made: Task) -> None:
    file_store.reset()
    owner = account_of(made)
    file_store.create(made, owner)
    assert file_store.find(made.task_id) == made
    assert tasks_in(file_store, made.space, limit=1) == [made]


def account_of(made: Task) -> Account:
    return Account(made.account, made.space, Decimal(10**10), None, None, b"")


def outcome(call: Callable[[Store], Any], store: Store) -> object:
    """Return the result of a call of a store, or the error that it raises."""
    try:
        return call(store)
    except OverdrawnError as error:
        return "overdrawn", error.balance
    except (NameTakenError, SettingsError) as error:
        return type(error), str(error)


def without_refund(task: Task) -> Task:
    """Return a task without the time of its refund, which no caller can see: reading the balance books it."""
    return replace(task, is_refunded=False)


numbers = st.integers(0, 40)
owners = st.sampled_from(ACCOUNTS)


class StoreComparison(RuleBasedStateMachine):
    """A store in memory and one in a file give the same results after any sequence of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "seedbed.db"
        self.now, self.made = START, 0

    @initialize(keep=st.integers(1, 6))
    def open(self, keep: int) -> None:
        self.keep = keep
        self.memory, self.file = MemoryStore(keep), SqliteStore(self.path, keep)

    def both_change(self, number: int, changed: Callable[[Task], Task]) -> None:
        def change(store: Store) -> Task | None:
            after = store.change(f"task_{number:06}", changed)
            return after and without_refund(after)

        self.both(change)

    def both(self, call: Callable[[Store], Any]) -> None:
        assert outcome(call, self.memory) == outcome(call, self.file)

    @rule(
        owner=owners,
        seconds=st.none() | st.integers(0, 20),
        failure=st.none() | st.just(FAILURE),
        is_called_back=st.booleans(),
        again=st.none() | numbers,
        price=st.sampled_from([PRICE, Decimal(0), Decimal("29.999999999")]),
    )
    def create(
        self,
        *,
        owner: Account,
        seconds: int | None,
        failure: Failure | None,
        is_called_back: bool,
        again: int | None,
        price: Decimal,
    ) -> None:
        self.made += 1
        number = self.made if again is None else min(again, self.made)
        made = task(number, owner, seconds=seconds, at=self.now, failure=failure, price=price)
        if is_called_back:
            made = replace(made, callback=CallbackDelivery(url="http://h", due=made.ends))
        self.both(lambda store: store.create(made, owner))

    @rule(seconds=st.integers(0, 30))
    def wait(self, seconds: int) -> None:
        self.now += seconds * 1000

    @rule(owner=owners, amount=st.decimals(-100, 10**9, places=9))
    def deposit(self, owner: Account, amount: Decimal) -> None:
        self.both(lambda store: store.deposit(owner, amount, self.now))

    @rule(number=numbers, polls=st.integers(1, 4))
    def poll(self, number: int, polls: int) -> None:
        self.both_change(number, lambda task: polled(task, self.now, polls))

    @rule(number=numbers, failure=st.none() | st.just(FAILURE))
    def end(self, number: int, failure: Failure | None) -> None:
        self.both_change(number, lambda task: ended(task, self.now, failure))

    @rule(number=numbers, status=st.sampled_from([200, 410, 500, None]))
    def attempt(self, number: int, status: int | None) -> None:
        made = DeliveryAttempt(at=self.now, duration=1, status=status)

        def attempted(task: Task) -> Task:
            return replace(task, callback=task.callback.attempted(made, self.now)) if task.callback else task

        self.both_change(number, attempted)

    @rule(limit=st.integers(0, 4))
    def claim(self, limit: int) -> None:
        self.both(
            lambda store: [without_refund(task) for task in store.claim(self.now, self.now + 20_000, limit=limit)]
        )

    @rule(space=st.sampled_from([None, "default", "elsewhere"]))
    def reset(self, space: str | None) -> None:
        self.both(lambda store: store.reset(space))

    @rule(owner=owners)
    def reset_balance(self, owner: Account) -> None:
        self.both(lambda store: store.reset(owner.space, owner.name))

    @rule(name=st.sampled_from("ab"), value=st.none() | st.binary(max_size=3))
    def note(self, name: str, value: bytes | None) -> None:
        self.both(lambda store: store.note(name, value))

    @rule()
    def open_again(self) -> None:
        self.file.close()
        self.file = SqliteStore(self.path, self.keep)

    @rule(owner=owners)
    def balance(self, owner: Account) -> None:
        self.both(lambda store: store.balance(owner, self.now))

    @invariant()
    def both_have_the_same_content(self) -> None:
        self.both(lambda store: [without_refund(task) for task in tasks_in(store, limit=1000)])
        self.both(lambda store: [task.task_id for task in tasks_in(store, "elsewhere", limit=3)])
        self.both(lambda store: [[task.task_id for task in page] for page in pages_of(store, None, 2)])
        self.both(lambda store: (store.next_due(), store.newest()))

    def teardown(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
        self.folder.cleanup()


StoreComparison.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestBothStoresAgree = StoreComparison.TestCase


def at_once(work: Callable[[int], Any], times: int = 2) -> list[Any]:
    """Return the results of a function for each number, called at the same time in several threads."""
    gate = threading.Barrier(times)

    def wait_and_work(number: int) -> Any:
        gate.wait()
        return work(number)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(wait_and_work, range(times)))


def with_store(path: Path, work: Callable[[SqliteStore], Any]) -> Any:
    store = SqliteStore(path, 10_000)
    try:
        return work(store)
    finally:
        store.close()


def create_until(error: type[Exception], store: Store, first: int = 0) -> int:
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

    monkeypatch.setattr("seedbed_mock.stores.sqlite.time.sleep", finish_writing)
    assert with_store(path, lambda store: store.note("secret")) == b"kept"


def test_a_truncated_file_that_nobody_writes_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.db"
    with_store(path, lambda store: store.note_once("secret", b"kept"))
    path.write_bytes(path.read_bytes()[:4096])
    monkeypatch.setattr("seedbed_mock.stores.sqlite.time.sleep", lambda _: pytest.fail("it waited"))
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
        def more(store: Store) -> None:
            for _ in range(100):
                store.change("task_000001", lambda task: replace(task, polls=task.polls + 1))

        with_store(path, more)

    at_once(count)
    assert with_store(path, lambda store: store.find("task_000001")).polls == 200


def test_two_stores_on_one_file_never_claim_the_same_callback(tmp_path: Path) -> None:
    path = tmp_path / "one.db"

    def fill(store: Store) -> None:
        store.deposit(ONE, Decimal(10**4), START)
        for number in range(200):
            store.create(task_with_callback(number, START), ONE)

    with_store(path, fill)

    def claim(_: int) -> list[str]:
        def claim_all(store: Store) -> list[str]:
            return [each.task_id for _ in range(100) for each in store.claim(START, START + 20_000, limit=3)]

        names: list[str] = with_store(path, claim_all)
        return names

    first, second = at_once(claim)
    assert len(first) + len(second) == len({*first, *second}) == 200


def test_a_task_of_another_version_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    with_store(path, lambda store: store.create(task(1), ONE))
    with sqlite3.connect(path) as database:
        database.execute(
            "UPDATE tasks SET document = json_remove(json_set(document, '$.later', json('[1]')), '$.polls')"
        )
    database.close()
    assert with_store(path, lambda store: store.find("task_000001")) == task(1)


def test_a_full_disk_refuses_whole_changes_and_the_store_recovers(tmp_path: Path) -> None:
    path = tmp_path / "one.db"
    store = SqliteStore(path, 10_000)
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
