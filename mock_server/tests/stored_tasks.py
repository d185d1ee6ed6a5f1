"""Accounts and tasks for the tests of the stores."""

from decimal import Decimal
from typing import Any

from seedbed_mock.accounts import Account
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


def tasks_in(store: Store, space: str | None = None, *, limit: int) -> list[Task]:
    return [task for _, task in store.page(space, limit=limit)]
