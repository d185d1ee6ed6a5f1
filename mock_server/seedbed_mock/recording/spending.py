"""The limit on what may be spent through the proxy: never more than allowed, whatever becomes of a request.

A creation reserves its price before it is passed on, so that many at once cannot exceed the limit together. The price
is given back only if the response shows that no task was created. If that is not known, it counts as paid.
"""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from seedbed_mock.bill import plain

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_REFUSED_STATUSES: Final = frozenset({400, 401, 402, 403, 404, 405, 406, 410, 411, 413, 414, 415, 421, 422, 429, 431})
"""Statuses with which HTTP refuses a request as it is, so that it has no effect (RFC 9110, section 15.5)."""

_CALLER_ERRORS: Final = range(400, 500)
"""Codes that say that the request is wrong, also those that are not documented."""


class Expense(msgspec.Struct, frozen=True):
    """What a request may cost.

    Attributes:
        price: Credits that are reserved for it.
        problem: Why it is not passed on, empty if it is.
    """

    price: Decimal = Decimal(0)
    problem: str = ""


FREE: Final = Expense()


class CreditLimit:
    """How many credits may be spent, and how many are.

    Args:
        most: The limit in credits, ``None`` for none.
        prices: Credits that a task of each model costs.
        free_operations: Operations that cost nothing whatever their method is.
    """

    def __init__(self, most: Decimal | None, prices: Mapping[str, Decimal], free_operations: Collection[str]) -> None:
        self.most = most
        self.spent = Decimal(0)
        self._reserved = Decimal(0)
        self._prices = prices
        self._free_operations = free_operations

    def reserve(self, operation: str, method: str, model: Any) -> Expense:
        """Reserve what a request may cost.

        Args:
            operation: Name of the operation, empty for an unknown one.
            method: HTTP method.
            model: The requested model, ``None`` if it cannot be told.
        """
        is_creation = operation == "createTask"
        if not is_creation and (operation in self._free_operations or method.upper() in _READING):
            return FREE
        price = self._prices.get(model) if is_creation and isinstance(model, str) else None
        if self.most is None:
            return Expense(price or Decimal(0)) if is_creation else FREE
        if price is None:
            what = "of this model" if isinstance(model, str) else "of this request"
            hint = "; give it with --price MODEL=CREDITS" if isinstance(model, str) else ""
            return Expense(problem=f"the price {what} is not known, and --max-credits is set{hint}")
        used = self.spent + self._reserved
        if used + price > self.most:
            return Expense(
                problem=f"the task costs {plain(price)} credits, and {plain(used)} of --max-credits "
                f"{plain(self.most)} are spent or reserved"
            )
        self._reserved += price
        return Expense(price)

    def settle(self, expense: Expense, *, is_paid: bool) -> None:
        """Note what became of a request that was passed on, or was to be."""
        if expense.problem or not expense.price:
            return
        if self.most is not None:
            self._reserved -= expense.price
        if is_paid:
            self.spent += expense.price


def is_ambiguous(text: str, field: str) -> bool:
    """Return whether an object in a JSON text has a field twice: the service may read another one of them."""
    repeated = False

    def note(pairs: list[tuple[str, Any]]) -> None:
        nonlocal repeated
        repeated = repeated or sum(name == field for name, _ in pairs) > 1

    with contextlib.suppress(ValueError, RecursionError):
        json.loads(text, object_pairs_hook=note)
    return repeated


def may_be_paid(
    status: int, code: int | None, *, is_complete: bool, is_known_refusal: bool, success: int, refusals: Collection[int]
) -> bool:
    """Return whether the response to a creation leaves it possible that a task was created and charged.

    Args:
        status: HTTP status, 0 without a response.
        code: Code in the envelope, ``None`` without one.
        is_complete: Whether the whole response arrived.
        is_known_refusal: Whether the message is one with which the service refuses a request before it creates a task.
        success: Code of a success.
        refusals: Documented codes of refusals; a failure of the server is none.
    """
    if not is_complete or not status:
        return True
    if code is None:
        return status not in _REFUSED_STATUSES
    is_refusal = is_known_refusal or code in refusals or code in _CALLER_ERRORS
    return code == success or not is_refusal
