"""One run against one target: it sends what the checks ask for, follows the tasks it made, and notes what it finds."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from seedbed_contract.answers import Flaw, creation_flaws, form_flaws, leaks, refusal_flaws
from seedbed_contract.records import ENDED, change_flaws, clauses_of, record_flaws
from seedbed_contract.shown import sample_of
from seedbed_contract.wire import OutOfTime

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from seedbed_contract.asks import Asks
    from seedbed_contract.budget import Budget
    from seedbed_contract.exchange import Ask, Exchange
    from seedbed_contract.expectations import Expectations
    from seedbed_contract.findings import Side
    from seedbed_contract.ledger import Ledger
    from seedbed_contract.receiver import Receiver
    from seedbed_contract.target import Target
    from seedbed_contract.wire import Wire

_AT_ONCE: Final = 8
_LOOK_EVERY: Final = 0.2
_LOOK_AGAIN: Final = 0.4
_RATE_PAUSE: Final = 0.5
_APPEARS_WITHIN: Final = 10.0

_FORM: Final = (
    *("answer/given", "answer/json", "answer/content-type", "answer/http-status", "answer/no-secret"),
    "answer/no-stack-trace",
)
_CREATION: Final = ("operation/method", "operation/path", "operation/header", "operation/scheme")


@dataclass(eq=False)
class Order:
    """A task that the run made.

    Attributes:
        name: What is special of it.
        request: The request that made it.
        exchange: Its request and answer.
        asks: What makes requests with the key that it was made with.
        task_id: Name of the task.
        path: Where its callback is awaited, empty where none was asked for.
        is_meant_to_fail: Whether its prompt makes it fail.
        looks: Its records, each with the exchange that showed it, in order.
        ended_at: When it was first seen to have ended, in Unix seconds; 0 before.
    """

    name: str
    request: Mapping[str, Any]
    exchange: Exchange
    asks: Asks
    task_id: str
    path: str = ""
    is_meant_to_fail: bool = False
    looks: list[tuple[Mapping[str, Any], Exchange]] = field(default_factory=list)
    looked_at: float = 0.0
    ended_at: float = 0.0

    @property
    def record(self) -> Mapping[str, Any]:
        """The record as it was last seen, empty before."""
        return self.looks[-1][0] if self.looks else {}

    @property
    def state(self) -> str:
        """The state that was last seen, empty before."""
        return str(self.record.get("state", ""))

    @property
    def has_ended(self) -> bool:
        """Whether it was seen to have ended."""
        return self.state in ENDED


@dataclass
class Session:
    """What the checks of one run share.

    Attributes:
        target: Whom the run is about.
        wire: What sends.
        asks: What makes requests with the first key.
        expected: What answers are held against.
        ledger: What was found.
        budget: What may be spent.
        receiver: Where callbacks are awaited, ``None`` where the target cannot reach this machine.
        seed: What decides what is drawn at random.
        max_examples: How many random requests each search makes.
        is_alone: Whether nobody else uses the account meanwhile, so that its balance can be held against its tasks.
    """

    target: Target
    wire: Wire
    asks: Asks
    expected: Expectations
    ledger: Ledger
    budget: Budget
    receiver: Receiver | None = None
    seed: int = 0
    max_examples: int = 100
    is_alone: bool = True
    check: str = ""
    orders: list[Order] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    offers_faults: bool = False
    is_broke: bool = False
    rate_exchange: Exchange | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311 (it names paths, and keeps no secret)

    # What is sent

    def send(self, ask: Ask, *, once: bool = False, strict: bool = True) -> Exchange:
        """Send a request, wait where the rate is exceeded, and judge the form of the answer.

        Args:
            ask: The request.
            once: Whether it may cost something.
            strict: Whether the answer must have the service's own form; else it must just keep its secrets.

        Raises:
            OutOfTime: The time of the run is over.
        """
        exchange = self.wire.send(ask, once=once)
        while exchange.code in self.expected.codes("rate_exceeded"):
            self._note_rate(exchange)
            self.pause(_RATE_PAUSE)
            exchange = self.wire.send(ask, once=once)
        self.judge_form(exchange, strict=strict)
        return exchange

    def send_all(self, asks: Iterable[Ask], *, once: bool = False) -> list[Exchange]:
        """Send requests several at a time, and return what came of each, in order.

        Raises:
            OutOfTime: The time of the run is over.
        """
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda ask: self.send(ask, once=once), asks))

    def judge_form(self, exchange: Exchange, *, strict: bool = True) -> None:
        """Note what is wrong with the form of an answer."""
        if strict:
            self.judge(form_flaws(exchange, self.expected, self.target.secrets), exchange)
            self._exercise_form(exchange)
        elif exchange.answer:
            self.judge(leaks(exchange.answer, self.target.secrets), exchange)

    def _exercise_form(self, exchange: Exchange) -> None:
        self.ledger.exercise(_FORM)
        if exchange.answer and isinstance(exchange.answer.json, dict):
            self.ledger.exercise((f"code/{exchange.code}",))
            self.ledger.exercise_shape("envelope", exchange.answer.json)
            self.ledger.exercise_shape("answer", exchange.answer.json)

    def pause(self, seconds: float) -> None:
        """Wait, and look at the tasks meanwhile.

        Raises:
            OutOfTime: The time of the run is over.
        """
        if self.wire.seconds_left <= seconds:
            raise OutOfTime
        time.sleep(seconds)

    # What is found

    def judge(self, flaws: Iterable[Flaw], exchange: Exchange, also: str = "") -> bool:
        """Note flaws that an exchange shows, and tell whether there were any."""
        noted = False
        for flaw in flaws:
            noted = True
            self.ledger.find(flaw, self.check, sample_of(exchange, self.target.base_url, self.target.secrets), also)
        return noted

    def judge_refusal(
        self, exchange: Exchange, allowed: Collection[int], clause: str, what: str, also: str = ""
    ) -> bool:
        """Judge the answer to a call that has to be refused, and tell whether it was refused as it should be."""
        if exchange.answer is None:
            return False
        side: Side = "refusing"
        self.ledger.exercise((clause,), side)
        self.ledger.exercise(("answer/refused/no-task",))
        flawed = self.judge(refusal_flaws(exchange, allowed, clause, what), exchange, also)
        if exchange.code == self.expected.success and exchange.task_id:
            self.budget.count_wrongly_made()
        return not flawed

    def exercise(self, *clauses: str) -> None:
        """Note that clauses were put to the test by what keeps them."""
        self.ledger.exercise(clauses)

    def cannot_judge(self, reason: str, subject: str = "") -> None:
        """Note that the present check, or a clause, cannot be judged."""
        self.ledger.cannot_judge(subject or self.check, reason)

    # Tasks

    def create(
        self, request: Any, name: str, *, body: bytes | None = None, asks: Asks | None = None, path: str = ""
    ) -> Exchange | Order:
        """Ask for a task with a request that keeps the contract.

        Returns:
            The task, or what came instead of one: a refusal, or nothing.

        Raises:
            OutOfTime: The time of the run is over.
            OutOfMoney: The budget does not allow it.
        """
        asks = asks or self.asks
        self.budget.reserve()
        exchange = self.send(asks.create(request if body is None else body), once=True)
        return self.take(exchange, request, name, asks=asks, path=path)

    def take(self, exchange: Exchange, request: Any, name: str, *, asks: Asks, path: str = "") -> Exchange | Order:
        """Return the task that an exchange made, or the exchange where it made none."""
        if exchange.code != self.expected.success:
            if exchange.code in self.expected.codes("credits_insufficient") - {self.expected.success}:
                self.is_broke = self.is_broke or asks is self.asks
            return exchange
        self.judge(creation_flaws(exchange, self.expected), exchange)
        self.exercise(*_CREATION)
        if not exchange.task_id:
            return exchange
        self._judge_name(exchange)
        order = Order(name, request, exchange, asks, exchange.task_id, path)
        with self._lock:
            self.orders.append(order)
        self.budget.count_made()
        return order

    def look(self, order: Order) -> Exchange:
        """Look at a task, and judge what is shown and what has changed.

        Raises:
            OutOfTime: The time of the run is over.
        """
        exchange = self.send(order.asks.record(order.task_id))
        order.looked_at = time.monotonic()
        if exchange.code != self.expected.success:
            self._judge_absence(order, exchange)
            return exchange
        self.exercise("createTask/usable", "recordInfo/same")
        record = exchange.data
        self.judge(record_flaws(record, order.task_id, order.request, self.expected), exchange)
        if isinstance(record, dict):
            self._keep(order, record, exchange)
        return exchange

    def look_around(self) -> None:
        """Look at the tasks that have not ended and were not looked at for a moment.

        Raises:
            OutOfTime: The time of the run is over.
        """
        for order in list(self.orders):
            if not order.has_ended and time.monotonic() - order.looked_at >= _LOOK_AGAIN:
                self.look(order)

    def wait_for(self, orders: Sequence[Order], seconds: float) -> bool:
        """Look at tasks until all have ended, at most so long, and tell whether they have.

        Raises:
            OutOfTime: The time of the run is over.
        """
        limit = time.monotonic() + seconds
        while any(not order.has_ended for order in orders):
            self.look_around()
            if time.monotonic() > limit:
                return all(order.has_ended for order in orders)
            self.pause(_LOOK_EVERY)
        return True

    def _keep(self, order: Order, record: Mapping[str, Any], exchange: Exchange) -> None:
        if order.looks:
            self.judge(change_flaws(order.record, record), exchange)
            self.exercise("life/forward", *(("life/final",) if order.has_ended else ()))
        order.looks.append((record, exchange))
        if order.has_ended and not order.ended_at:
            order.ended_at = time.time()
        self.ledger.exercise_shape("record", record)
        self.exercise(*clauses_of(record))

    def _judge_absence(self, order: Order, exchange: Exchange) -> None:
        """A task may be unknown for a moment after it was made, and never after it was seen."""
        age = time.time() - order.exchange.ended
        if exchange.answer and (order.looks or age > _APPEARS_WITHIN):
            title = "a task cannot be looked at, though its name was given back"
            self.judge([Flaw("createTask/usable", title)], exchange)

    def _judge_name(self, exchange: Exchange) -> None:
        with self._lock:
            known = exchange.task_id in self.tokens
            self.tokens.add(exchange.task_id)
        if known:
            self.judge([Flaw("createTask/unique", "two tasks have the same name")], exchange)
        self.exercise("createTask/unique")

    def _note_rate(self, exchange: Exchange) -> None:
        if exchange.ask.operation == "createTask":
            self.rate_exchange = self.rate_exchange or exchange
        self.judge_form(exchange)
