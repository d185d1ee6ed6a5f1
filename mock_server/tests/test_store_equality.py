"""Every store does what a simple model does, from several servers at once, and a file gives back any task unchanged."""

import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace
from seedbed_mock.accounts import Account
from seedbed_mock.settings import SettingsError, exact_credits, given_back
from seedbed_mock.stores.store import UNFINISHED_SHARE, NameTakenError, OverdrawnError
from seedbed_mock.tasks import CallbackDelivery, DeliveryAttempt, Failure, Task, ended, polled
from tests.redis_process import RedisProcess
from tests.stored_tasks import (
    ACCOUNTS,
    PRICE,
    START,
    BlockingStore,
    file_store,
    memory_store,
    redis_store,
    task,
    tasks_in,
)

FAILURE = Failure("500", "no")


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


class Model:
    """What a store does, without any regard to how long it takes."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.tasks: dict[str, Task] = {}
        self.balances: dict[tuple[str, str], Decimal] = {}
        self.notes: dict[str, bytes] = {}

    def balance(self, account: Account, now: int) -> Decimal:
        owner = (account.space, account.name)
        balance = self.balances.get(owner, account.opening)
        for each in self.of(account):
            if each.owes_refund and each.has_ended(now):
                self.tasks[each.task_id] = replace(each, is_refunded=True)
                balance = given_back(balance, each.price)
        self.balances[owner] = balance
        return balance

    def of(self, account: Account) -> list[Task]:
        return [each for each in self.tasks.values() if (each.space, each.account) == (account.space, account.name)]

    def deposit(self, account: Account, amount: Decimal, now: int) -> Decimal:
        balance = exact_credits(self.balance(account, now) + amount)
        self.balances[account.space, account.name] = balance
        return balance

    def charge(self, account: Account, price: Decimal, now: int) -> None:
        if (balance := self.balance(account, now)) < price:
            raise OverdrawnError(balance)
        self.balances[account.space, account.name] = balance - price

    def create(self, task: Task, account: Account) -> None:
        if task.task_id in self.tasks:
            raise NameTakenError(task.task_id)
        self.charge(account, task.price, task.created)
        self.tasks[task.task_id] = task
        finished = [
            each
            for each in self.tasks.values()
            if each.has_ended(task.created) and not (each.callback and each.callback.due is not None)
        ]
        for each in finished[: max(len(self.tasks) - self.keep, 0)]:
            self.delete(each)
        while len(self.tasks) > self.keep * UNFINISHED_SHARE:
            self.delete(next(iter(self.tasks.values())))

    def delete(self, task: Task) -> None:
        del self.tasks[task.task_id]
        if task.owes_refund and task.ends is not None and (owner := (task.space, task.account)) in self.balances:
            self.balances[owner] = given_back(self.balances[owner], task.price)

    def find(self, task_id: str) -> Task | None:
        return self.tasks.get(task_id)

    def page(self, space: str | None = None) -> list[Task]:
        return [each for each in reversed(self.tasks.values()) if space in (None, each.space)]

    def change(self, task_id: str, change: Callable[[Task], Task]) -> Task | None:
        if task := self.tasks.get(task_id):
            self.tasks[task_id] = task = change(task)
        return task

    def claim(self, now: int, until: int, *, limit: int) -> list[Task]:
        waiting = [each for each in self.tasks.values() if each.callback and (each.callback.due or now + 1) <= now]
        waiting.sort(key=lambda each: (each.callback and each.callback.due, each.task_id))
        claimed = [each.task_id for each in waiting[:limit]]
        for task_id in claimed:
            task = self.tasks[task_id]
            assert task.callback
            self.tasks[task_id] = replace(task, callback=task.callback.claimed(until))
        return [self.tasks[each] for each in claimed]

    def next_due(self) -> int | None:
        dues = [each.callback.due for each in self.tasks.values() if each.callback and each.callback.due is not None]
        return min(dues, default=None)

    def count(self) -> int:
        return len(self.tasks)

    def newest(self) -> int:
        return max((each.created for each in self.tasks.values()), default=0)

    def reset(self, space: str | None = None, account: str | None = None) -> None:
        if space is not None and account is not None:
            self.balances.pop((space, account), None)
            for each in self.tasks.values():
                if (each.space, each.account) == (space, account):
                    self.tasks[each.task_id] = replace(each, is_written_off=True)
            return
        self.tasks = {name: each for name, each in self.tasks.items() if space is not None and each.space != space}
        self.balances = {owner: each for owner, each in self.balances.items() if space not in (None, owner[0])}

    def forget(self, account: Account) -> None:
        self.balances.pop((account.space, account.name), None)

    def note(self, name: str, value: bytes | None = None) -> bytes | None:
        if value is not None:
            self.notes[name] = value
        return self.notes.get(name)

    def note_once(self, name: str, value: bytes) -> bytes:
        return self.notes.setdefault(name, value)


def outcome(call: Callable[[Any], Any], store: object) -> object:
    """Return the result of a call of a store, or the error that it raises."""
    try:
        return call(store)
    except OverdrawnError as error:
        return "overdrawn", error.balance
    except (NameTakenError, SettingsError, ZeroDivisionError) as error:
        return type(error), str(error)


def without_refund(task: Task) -> Task:
    """Return a task without the time of its refund, which no caller can see: reading the balance books it."""
    return replace(task, is_refunded=False)


def listed(store: Any, space: str | None, size: int) -> list[Task]:
    """Return all tasks of a list, page by page, each of which begins where the one before it ended."""
    if isinstance(store, Model):
        return [without_refund(each) for each in store.page(space)]
    before, found = None, list[Task]()
    while page := store.page(space, before=before, limit=size):
        assert len(page) <= size
        found += [without_refund(task) for _, task in page]
        before = page[-1][0]
    return found


numbers = st.integers(0, 40)
owners = st.sampled_from(ACCOUNTS)
handles = st.integers(0, 1)


class StoreMachine(RuleBasedStateMachine):
    """A store gives the results of the model after any sequence of calls, from whichever server they come."""

    servers: ClassVar[int] = 2
    redis: ClassVar[RedisProcess]

    def __init__(self) -> None:
        super().__init__()
        self.now, self.made = START, 0
        self.stores: list[BlockingStore] = []

    def open_store(self) -> BlockingStore:
        raise NotImplementedError

    @initialize(keep=st.integers(1, 6))
    def open(self, keep: int) -> None:
        self.keep, self.model = keep, Model(keep)
        self.stores = [self.open_store() for _ in range(self.servers)]

    def both(self, handle: int, call: Callable[[Any], Any]) -> None:
        assert outcome(call, self.stores[handle % self.servers]) == outcome(call, self.model)

    def both_change(self, handle: int, number: int, changed: Callable[[Task], Task]) -> None:
        def change(store: Any) -> Task | None:
            after = store.change(f"task_{number:06}", changed)
            return after and without_refund(after)

        self.both(handle, change)

    @rule(
        handle=handles,
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
        handle: int,
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
        self.both(handle, lambda store: store.create(made, owner))

    @rule(seconds=st.integers(0, 30))
    def wait(self, seconds: int) -> None:
        self.now += seconds * 1000

    @rule(handle=handles, owner=owners, amount=st.decimals(-100, 10**9, places=9))
    def deposit(self, handle: int, owner: Account, amount: Decimal) -> None:
        self.both(handle, lambda store: store.deposit(owner, amount, self.now))

    @rule(handle=handles, owner=owners, price=st.sampled_from([PRICE, Decimal("73.500000001")]))
    def charge(self, handle: int, owner: Account, price: Decimal) -> None:
        self.both(handle, lambda store: store.charge(owner, price, self.now))

    @rule(handle=handles, number=numbers, polls=st.integers(1, 4))
    def poll(self, handle: int, number: int, polls: int) -> None:
        self.both_change(handle, number, lambda task: polled(task, self.now, polls))

    @rule(handle=handles, number=numbers, failure=st.none() | st.just(FAILURE))
    def end(self, handle: int, number: int, failure: Failure | None) -> None:
        self.both_change(handle, number, lambda task: ended(task, self.now, failure))

    @rule(handle=handles, number=numbers, status=st.sampled_from([200, 410, 500, None]))
    def attempt(self, handle: int, number: int, status: int | None) -> None:
        made = DeliveryAttempt(at=self.now, duration=1, status=status)

        def attempted(task: Task) -> Task:
            return replace(task, callback=task.callback.attempted(made, self.now)) if task.callback else task

        self.both_change(handle, number, attempted)

    @rule(handle=handles, number=numbers)
    def redeliver(self, handle: int, number: int) -> None:
        def redelivered(task: Task) -> Task:
            return replace(task, callback=task.callback.redelivered(self.now)) if task.callback else task

        self.both_change(handle, number, redelivered)

    @rule(handle=handles, number=numbers)
    def fail_to_change(self, handle: int, number: int) -> None:
        def fail(_: Task) -> Task:
            raise ZeroDivisionError("no change")

        self.both_change(handle, number, fail)

    @rule(handle=handles, limit=st.integers(0, 4))
    def claim(self, handle: int, limit: int) -> None:
        self.both(
            handle,
            lambda store: [without_refund(task) for task in store.claim(self.now, self.now + 20_000, limit=limit)],
        )

    @rule(handle=handles, space=st.sampled_from([None, "default", "elsewhere"]))
    def reset(self, handle: int, space: str | None) -> None:
        self.both(handle, lambda store: store.reset(space))

    @rule(handle=handles, owner=owners)
    def reset_balance(self, handle: int, owner: Account) -> None:
        self.both(handle, lambda store: store.reset(owner.space, owner.name))

    @rule(handle=handles, owner=owners)
    def forget(self, handle: int, owner: Account) -> None:
        # The stores do not agree on refunds to a balance that is deleted before the tasks that it has paid for.
        if all(each.is_refunded or each.is_written_off for each in self.model.of(owner)):
            self.both(handle, lambda store: store.forget(owner))

    @rule(handle=handles, name=st.sampled_from("ab"), value=st.none() | st.binary(max_size=3))
    def note(self, handle: int, name: str, value: bytes | None) -> None:
        self.both(handle, lambda store: store.note(name, value))

    @rule(handle=handles, name=st.sampled_from("ab"), value=st.binary(max_size=3))
    def note_once(self, handle: int, name: str, value: bytes) -> None:
        self.both(handle, lambda store: store.note_once(name, value))

    @precondition(lambda self: self.servers > 1)
    @rule(handle=handles)
    def restart(self, handle: int) -> None:
        self.stores[handle].close()
        self.stores[handle] = self.open_store()

    @rule(handle=handles, owner=owners)
    def balance(self, handle: int, owner: Account) -> None:
        self.both(handle, lambda store: store.balance(owner, self.now))

    @invariant()
    def the_content_is_that_of_the_model(self) -> None:
        for handle in range(self.servers):
            self.both(handle, lambda store: (store.next_due(), store.newest(), store.count()))
        self.both(0, lambda store: listed(store, None, 1000))
        self.both(1, lambda store: [each.task_id for each in listed(store, None, 2)])
        self.both(0, lambda store: [each.task_id for each in listed(store, "elsewhere", 3)])

    def teardown(self) -> None:
        for store in self.stores:
            store.close()


class MemoryMachine(StoreMachine):
    servers = 1

    def open_store(self) -> BlockingStore:
        return memory_store(self.keep)


class FileMachine(StoreMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()

    def open_store(self) -> BlockingStore:
        return file_store(Path(self.folder.name) / "seedbed.db", self.keep)

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


class RedisMachine(StoreMachine):
    def __init__(self) -> None:
        super().__init__()
        self.url = self.redis.url()

    def open_store(self) -> BlockingStore:
        return redis_store(self.url, self.keep)


# Without shrinking, which takes minutes where each step is a call of a server.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)

MACHINES: dict[str, type[StoreMachine]] = {"memory": MemoryMachine, "file": FileMachine, "redis": RedisMachine}


@pytest.mark.parametrize("examples", [12, pytest.param(400, marks=pytest.mark.exhaustive)], ids=["some", "many"])
@pytest.mark.parametrize("kind", MACHINES)
def test_a_store_does_what_the_model_does(request: pytest.FixtureRequest, kind: str, examples: int) -> None:
    if kind == "redis":
        RedisMachine.redis = request.getfixturevalue("redis_server")
    run_state_machine_as_test(
        MACHINES[kind], settings=settings(max_examples=examples, stateful_step_count=40, phases=PHASES)
    )
