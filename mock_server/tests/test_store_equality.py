"""The stores in memory and in a file give the same results, and a file gives back any task unchanged."""

import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace
from seedbed_mock.accounts import Account
from seedbed_mock.settings import SettingsError
from seedbed_mock.stores.store import NameTakenError, OverdrawnError
from seedbed_mock.tasks import CallbackDelivery, DeliveryAttempt, Failure, Task, ended, polled
from tests.stored_tasks import ACCOUNTS, PRICE, START, BlockingStore, file_store, memory_store, task, tasks_in

FAILURE = Failure("500", "no")


def pages_of(store: BlockingStore, space: str | None, size: int) -> Iterator[list[Task]]:
    """Yield the pages of a list, each of which begins where the one before it ended."""
    before = None
    while page := store.page(space, before=before, limit=size):
        assert len(page) <= size
        yield [task for _, task in page]
        before = page[-1][0]


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
def any_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlockingStore]:
    store = file_store(tmp_path_factory.mktemp("any") / "any.db", 100)
    yield store
    store.close()


@given(made=any_tasks)
def test_any_task_is_read_from_a_file_unchanged(any_file: BlockingStore, made: Task) -> None:
    any_file.reset()
    owner = account_of(made)
    any_file.create(made, owner)
    assert any_file.find(made.task_id) == made
    assert tasks_in(any_file, made.space, limit=1) == [made]


def account_of(made: Task) -> Account:
    return Account(made.account, made.space, Decimal(10**10), None, None, b"")


def outcome(call: Callable[[BlockingStore], Any], store: BlockingStore) -> object:
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
        self.memory, self.file = memory_store(keep), file_store(self.path, keep)

    def both_change(self, number: int, changed: Callable[[Task], Task]) -> None:
        def change(store: BlockingStore) -> Task | None:
            after = store.change(f"task_{number:06}", changed)
            return after and without_refund(after)

        self.both(change)

    def both(self, call: Callable[[BlockingStore], Any]) -> None:
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
        self.file = file_store(self.path, self.keep)

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
