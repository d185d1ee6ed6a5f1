"""Seeded defects that count credits or tasks wrongly."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tests.minimal_requests import RefusalError
from tests.minimal_service import Call, Response, Service
from tests.minimal_tasks import Account, Task
from tests.minimal_variants import PRICE, Variant
from tests.seeded_defect import PLAIN, SeededDefect, seeded

_DATA, _PRICE_CLAUSE, _REFUSED = "creditAnswer/data/type", "credits/price", "credits/refused"
_ENOUGH, _FAILED, _RATE = "credits/enough", "credits/failed", "createTask/rate"
_POOR: Final = Variant(name="poor", credits=20 * PRICE, second_credits=2 * PRICE)
_PAID_LATE: Final = Variant(name="paid late", pays="success")
_LIMITED: Final = Variant(name="limited", rate=True)


def _balance(change: Callable[[float], Any]) -> Callable[..., Any]:
    return lambda self, account: change(Service.balance(self, account))


def _refusal_costs(is_charged: Callable[[Call, RefusalError], bool]) -> Callable[..., Response]:
    def refusal_response(self: Service, call: Call, refusal: RefusalError) -> Response:
        if is_charged(call, refusal):
            self.accounts[0].credits -= PRICE
        return Service.refusal_response(self, call, refusal)

    return refusal_response


def _poll_costs(self: Service, account: Account, call: Call) -> Any:
    account.credits -= 0.5
    return Service.record_info(self, account, call)


def _reading_balance_costs(self: Service, account: Account) -> Any:
    account.credits -= 0.5
    return Service.balance(self, account)


def _balance_of_another(self: Service, account: Account) -> Any:
    return Service.balance(self, next((other for other in self.accounts if other is not account), account))


def _created_although_refused(self: Service, account: Account, request: Any) -> Task:
    try:
        return Service.create_task(self, account, request)
    except RefusalError:
        account.tasks.append(Task(self.new_id(0), 0, request, 0, 0))
        raise


def _at_most(most: int, seconds: float, code: int = 429) -> Callable[..., None]:
    def check_rate(self: Service, account: Account) -> None:
        if sum(self.age(task) < seconds for task in account.tasks) >= most:
            raise RefusalError(code, "Your call frequency is too high. Please try again later.")

    return check_rate


def _poor(code: int) -> Callable[..., None]:
    def check_credits(self: Service, account: Account) -> None:
        try:
            Service.check_credits(self, account)
        except RefusalError as refusal:
            raise RefusalError(code, refusal.message) from None

    return check_credits


_CREDITS: Final = (
    seeded("the balance as text", _DATA, balance=_balance(str)),
    seeded("the balance in an object", _DATA, balance=_balance(lambda balance: {"credits": balance})),
    seeded("null for a balance", _DATA, balance=_balance(lambda _: None)),
    seeded("a balance below zero", "creditAnswer/data/minimum", balance=_balance(lambda balance: -balance)),
    seeded("a balance that never changes", _PRICE_CLAUSE, charged=lambda *_: 0),
    seeded("a task charged twice", _PRICE_CLAUSE, charged=lambda self, task: 2 * Service.charged(self, task)),
    seeded("another price", _PRICE_CLAUSE, charged=lambda self, task: Service.charged(self, task) * 7 / 6.5),
    seeded(
        "twice the price for high",
        _PRICE_CLAUSE,
        charged=lambda self, task: Service.charged(self, task) * (1 + (task.input_text("quality") == "high")),
    ),
    seeded("a failed task charged", _FAILED, charged=lambda *_: PRICE),
    seeded(
        "a failed task charged when it ends",
        _FAILED,
        variant=_PAID_LATE,
        charged=lambda self, task: PRICE if task and self.state(task) in ("fail", "success") else 0,
    ),
    seeded(
        "a refused request charged",
        _REFUSED,
        refusal_response=_refusal_costs(lambda call, refusal: refusal.code == 422 and "createTask" in call.target),
    ),
    seeded(
        "a wrong key charged",
        _REFUSED,
        _PRICE_CLAUSE,
        refusal_response=_refusal_costs(lambda _, refusal: refusal.code == 401),
    ),
    seeded("a poll charged", _PRICE_CLAUSE, _REFUSED, _FAILED, record_info=_poll_costs),
    seeded("reading the balance charged", _PRICE_CLAUSE, _REFUSED, _FAILED, balance=_reading_balance_costs),
    seeded(
        "the balance of another account",
        _PRICE_CLAUSE,
        variant=replace(PLAIN, second_credits=500.0),
        balance=_balance_of_another,
    ),
    seeded(
        "tasks beyond the balance",
        _ENOUGH,
        "creditAnswer/data/minimum",
        "code/402",
        variant=_POOR,
        check_credits=lambda *_: None,
    ),
    seeded(
        "tasks beyond the balance, which stays at zero",
        _ENOUGH,
        "code/402",
        _PRICE_CLAUSE,
        variant=_POOR,
        check_credits=lambda *_: None,
        balance=_balance(lambda balance: max(balance, 0)),
    ),
    seeded(
        "422 for an insufficient balance",
        _ENOUGH,
        "code/402",
        "code/422",
        variant=_POOR,
        check_credits=_poor(422),
    ),
    seeded(
        "403 for an insufficient balance",
        _ENOUGH,
        "code/402",
        "answer/code/enum",
        variant=_POOR,
        check_credits=_poor(403),
    ),
    seeded(
        "a charge at an insufficient balance",
        _REFUSED,
        _ENOUGH,
        "creditAnswer/data/minimum",
        variant=_POOR,
        refusal_response=_refusal_costs(lambda _, refusal: refusal.code == 402),
    ),
)

_RATES: Final = (
    seeded("5 tasks in 10 seconds", _RATE, "code/429", "code/200", check_rate=_at_most(5, 10)),
    seeded("10 tasks in 10 seconds", _RATE, "code/429", "code/200", check_rate=_at_most(10, 10)),
    seeded(
        "a task beyond the rate",
        _RATE,
        _REFUSED,
        _PRICE_CLAUSE,
        variant=_LIMITED,
        create_task=_created_although_refused,
    ),
    seeded(
        "503 beyond the rate",
        _RATE,
        "code/429",
        "answer/code/enum",
        variant=_LIMITED,
        check_rate=_at_most(20, 10, 503),
    ),
    seeded(
        "422 beyond the rate",
        _RATE,
        "code/429",
        "code/422",
        variant=_LIMITED,
        check_rate=_at_most(20, 10, 422),
    ),
    seeded(
        "a charge beyond the rate",
        _REFUSED,
        _RATE,
        _PRICE_CLAUSE,
        variant=_LIMITED,
        refusal_response=_refusal_costs(lambda _, refusal: refusal.code == 429),
    ),
)

ACCOUNTS: Final[tuple[SeededDefect, ...]] = (*_CREDITS, *_RATES)
