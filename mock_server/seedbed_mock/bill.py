"""The bill: what the calls to a mock server would have cost at the real service, and what of it was wasted.

A :class:`Ledger` notes what is paid for as it happens, since the journal forgets old calls and knows no downloads. A
:class:`Bill` is what it adds up to; bills of several servers, tests or processes are added with ``+``.
"""

from __future__ import annotations

from collections import defaultdict, deque
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


MOST_TASKS: Final = 10_000
"""Number of tasks that a ledger holds; older ones are part of its sums, and can no longer change."""

_NOTHING: Final = Decimal(0)

_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What calls would have cost, in credits. A failed task costs nothing.

    Attributes:
        credits: The sum of all.
        images: Number of images.
        paid_twice: Part of the sum that was paid for a request beyond its first time: the same input of the same model
            with the same key.
        not_fetched: Part of the sum that was paid for images that nobody fetched from the server.
        lost: Part of the sum that was charged for tasks of which there is no trace.
    """

    credits: Decimal = _NOTHING
    images: int = 0
    paid_twice: Decimal = _NOTHING
    not_fetched: Decimal = _NOTHING
    lost: Decimal = _NOTHING

    def __bool__(self) -> bool:
        return bool(self.credits or self.images)

    def __add__(self, other: Bill) -> Bill:
        return self._combined(other, 1)

    def __sub__(self, other: Bill) -> Bill:
        return self._combined(other, -1)

    def _combined(self, other: Bill, sign: int) -> Bill:
        return Bill(**{name: getattr(self, name) + sign * getattr(other, name) for name in self.__struct_fields__})

    def to_json(self) -> dict[str, float]:
        """Return the bill as values that JSON has."""
        return {**{name: float(getattr(self, name)) for name in self.__struct_fields__}, "images": self.images}

    def describe(self) -> str:
        """Return the bill in one line, such as ``19.5 credits: 3 images; 6.5 paid twice for the same request``."""
        images = f"{self.images} image{'' if self.images == 1 else 's'}"
        wasted = {
            "paid twice for the same request": self.paid_twice,
            "for results nobody fetched": self.not_fetched,
            "charged for lost tasks": self.lost,
        }
        parts = [f"{plain(amount)} {what}" for what, amount in wasted.items() if amount]
        if parts:
            amount, _, what = parts[0].partition(" ")
            parts[0] = f"{amount} credit{'' if amount == '1' else 's'} {what}"
        total = plain(self.credits)
        return f"{total} credit{'' if total == '1' else 's'}: " + "; ".join([images, *parts])

    def to_text(self) -> str:
        """Return the bill as JSON, for another process."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_text(cls, text: str) -> Bill:
        """Return the bill of another process."""
        return msgspec.json.decode(text, type=cls)


def plain(amount: Decimal) -> str:
    """Return an amount without trailing zeros and without an exponent."""
    return f"{amount.normalize():f}"


def request_key(account: str, model: str, values: Any) -> int:
    """Return a number that is the same for requests that pay for the same image.

    The order of fields and the callback URL make no difference.

    Args:
        account: Fingerprint of the key.
        model: Name of the model.
        values: Input of the request, parsed from JSON.
    """
    return hash((account, model, _encode_sorted(values)))


class _Line(msgspec.Struct, gc=False):
    space: str
    request: Hashable
    price: Decimal
    images: int
    is_free: bool
    is_fetched: bool = False


class Ledger:
    """What the tasks of one server cost. Noting takes the same time however many tasks there are."""

    def __init__(self, most: int = MOST_TASKS) -> None:
        self._most = most
        self._lines: dict[str, _Line] = {}
        # The IDs in their order, some of which are settled already: a dictionary is slow to tell its first item when
        # many were removed before it.
        self._order: deque[str] = deque()
        self._of_spaces: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._settled = _Sums()
        self._paid: defaultdict[str, set[Hashable]] = defaultdict(set)
        self._paid_order: deque[tuple[str, Hashable]] = deque()

    def note_task(
        self, task_id: str, space: str, request: Hashable, price: Decimal, images: int, *, is_free: bool
    ) -> None:
        """Note a new task.

        Args:
            task_id: Its ID.
            space: Name of its space.
            request: What it was paid for; see :func:`request_key`.
            price: Its price in credits.
            images: Number of images that it makes.
            is_free: Whether it fails, so that its price is refunded.
        """
        self._lines[task_id] = _Line(space, request, price, images, is_free)
        self._of_spaces[space][task_id] = None
        self._order.append(task_id)
        while len(self._lines) > self._most:
            self._settle(self._order.popleft())
        if len(self._order) > 2 * self._most:
            self._order = deque(each for each in self._order if each in self._lines)

    def note_outcome(self, task_id: str, *, is_free: bool) -> None:
        """Note that a task has failed, or that it has not."""
        if line := self._lines.get(task_id):
            line.is_free = is_free

    def note_fetch(self, task_id: str) -> None:
        """Note that somebody fetched the result of a task."""
        if line := self._lines.get(task_id):
            line.is_fetched = True

    def note_loss(self, price: Decimal) -> None:
        """Note a charge for a task that does not exist."""
        self._settled.credits += price
        self._settled.lost += price

    def settle(self, space: str | None = None) -> None:
        """Settle the tasks of one space, or of all: a later request is not compared with theirs."""
        for each in tuple(self._of_spaces) if space is None else (space,):
            for task_id in tuple(self._of_spaces.get(each, ())):
                self._settle(task_id)
            self._paid.pop(each, None)
        if space is None:
            self._paid.clear()

    def bill(self, space: str | None = None) -> Bill:
        """Return what everything costs so far, or what the tasks of one space cost since it was last settled."""
        sums = replace(self._settled) if space is None else _Sums()
        paid = defaultdict(set, {each: set(requests) for each, requests in self._paid.items()})
        for line in tuple(self._lines.values()):
            if space in (None, line.space):
                sums.add(line, is_repeated=line.request in paid[line.space])
                if not line.is_free:
                    paid[line.space].add(line.request)
        return Bill(**{name: getattr(sums, name) for name in Bill.__struct_fields__})

    def _settle(self, task_id: str) -> None:
        line = self._lines.pop(task_id, None)
        if line is None:
            return
        of_space, paid = self._of_spaces[line.space], self._paid[line.space]
        del of_space[task_id]
        if not of_space:
            del self._of_spaces[line.space]
        self._settled.add(line, is_repeated=line.request in paid)
        if not line.is_free and line.request not in paid:
            paid.add(line.request)
            self._paid_order.append((line.space, line.request))
            if len(self._paid_order) > self._most:
                space, request = self._paid_order.popleft()
                self._paid.get(space, set()).discard(request)


class _Sums(msgspec.Struct, gc=False):
    """The sums of a bill while it is added up: each new task changes them, and a bill of its own takes longer."""

    credits: Decimal = _NOTHING
    images: int = 0
    paid_twice: Decimal = _NOTHING
    not_fetched: Decimal = _NOTHING
    lost: Decimal = _NOTHING

    def add(self, line: _Line, *, is_repeated: bool) -> None:
        """Add what a task costs.

        Args:
            line: The task.
            is_repeated: Whether its request was paid for before.
        """
        if line.is_free:
            return
        self.credits += line.price
        self.images += line.images
        if is_repeated:
            self.paid_twice += line.price
        if not line.is_fetched:
            self.not_fetched += line.price


class Register:
    """The bills of all servers that run in a process, and of those that did."""

    def __init__(self) -> None:
        self._open: dict[object, Callable[[], Bill]] = {}
        self._closed = Bill()

    def open(self, server: object, bill: Callable[[], Bill]) -> None:
        """Add a server.

        Args:
            server: The server.
            bill: Returns its bill so far.
        """
        self._open[server] = bill

    def close(self, server: object) -> None:
        """Keep the bill of a server that has stopped, and forget the server."""
        if bill := self._open.pop(server, None):
            self._closed += bill()

    def total(self) -> Bill:
        """Return the sum of all bills."""
        return sum((bill() for bill in tuple(self._open.values())), self._closed)


PROCESS: Final = Register()
"""The servers of this process."""
