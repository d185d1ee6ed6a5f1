"""Accounts and tasks for the tests of the stores."""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any

from seedbed_mock.accounts import Account
from seedbed_mock.stores.memory import MemoryStore
from seedbed_mock.stores.redis import RedisStore
from seedbed_mock.stores.sqlite import SqliteStore
from seedbed_mock.stores.store import Store
from seedbed_mock.tasks import CallbackDelivery, Task, even_timeline

START = 1_765_166_238_716
PRICE = Decimal("6.5")


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


class BlockingStore:
    """A store whose methods are called without ``await``, in an event loop of their own.

    The store in memory gets none: its methods never suspend.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._loop = None if isinstance(store, MemoryStore) else asyncio.new_event_loop()
        self.open()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.store, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *arguments, **options: self._result_of(found(*arguments, **options))

    def _result_of(self, call: Coroutine[Any, Any, Any]) -> Any:
        if self._loop:
            return self._loop.run_until_complete(call)
        try:
            call.send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("the store in memory suspends")

    def close(self) -> None:
        if self._loop and not self._loop.is_closed():
            self._result_of(self.store.close())
            self._loop.close()


def memory_store(keep: int) -> BlockingStore:
    return BlockingStore(MemoryStore(keep))


def file_store(path: Path, keep: int) -> BlockingStore:
    return BlockingStore(SqliteStore(path, keep))


def redis_store(url: str, keep: int) -> BlockingStore:
    return BlockingStore(RedisStore(url, keep))


def tasks_in(store: BlockingStore, space: str | None = None, *, limit: int) -> list[Task]:
    return [task for _, task in store.page(space, limit=limit)]


def steps_of_file(store: BlockingStore, call: Callable[[], object]) -> int:
    """Return how many instructions of SQLite a call takes, in whichever thread the store makes it."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    store._database.set_progress_handler(count, 1)
    call()
    store._database.set_progress_handler(None, 1)
    return steps
