"""One run against one target: it sends what the checks ask for, follows the tasks it made, and notes what it finds."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

from seedbed_schemas import job_api

from seedbed_contract.answers import Flaw, creation_flaws, form_flaws, leaks, refusal_flaws, shape_flaws
from seedbed_contract.exchange import parse_json
from seedbed_contract.mailbox import Mailbox
from seedbed_contract.orders import Order
from seedbed_contract.pace import Pace
from seedbed_contract.records import change_flaws, clauses_of, record_flaws
from seedbed_contract.shown import sample_of, sample_of_received
from seedbed_contract.wire import OutOfTime

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from hypothesis.database import ExampleDatabase

    from seedbed_contract.asks import Asks
    from seedbed_contract.budget import Budget
    from seedbed_contract.cases import Accepted
    from seedbed_contract.exchange import Ask, Exchange
    from seedbed_contract.expectations import Expectations
    from seedbed_contract.ledger import Ledger
    from seedbed_contract.receiver import Received
    from seedbed_contract.target import Target
    from seedbed_contract.wire import Wire

T = TypeVar("T")

_AT_ONCE: Final = 8
_LOOK_EVERY: Final = 0.1
_LOOK_AGAIN: Final = 0.4
_LOOK_OFTEN: Final = 0.1
_LOOKED_AT_OFTEN: Final = 2
_RATE_PAUSE: Final = 0.5
_CALLS_KEPT: Final = 1000
_APPEARS_WITHIN: Final = 10.0

_FORM: Final = (
    *("answer/given", "answer/json", "answer/content-type", "answer/http-status", "answer/no-secret"),
    "answer/no-stack-trace",
)
_CREATION: Final = ("operation/method", "operation/path", "operation/header", "operation/scheme")


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
        offered: Names of the optional operations that the target has.
        mailbox: Where callbacks are awaited.
        fail_prompt: A prompt that makes a task fail, empty where none is known.
        seed: What decides what is drawn at random.
        max_examples: How many random requests each search makes.
        examples: Where the search keeps what it found, ``None`` for nowhere.
        is_alone: Whether nobody else uses the account meanwhile, so that its balance can be held against its tasks.
        check: Name of the present check.
        orders: The tasks that were made.
        is_ordered: Whether the first tasks were asked for.
        left_over: Cases that there was no room for at first.
    """

    target: Target
    wire: Wire
    asks: Asks
    expected: Expectations
    ledger: Ledger
    budget: Budget
    offered: frozenset[str] = frozenset()
    mailbox: Mailbox = field(default_factory=Mailbox)
    fail_prompt: str = ""
    seed: int = 0
    max_examples: int = 100
    examples: ExampleDatabase | None = None
    is_alone: bool = True
    check: str = ""
    orders: list[Order] = field(default_factory=list)
    is_ordered: bool = False
    left_over: list[Accepted] = field(default_factory=list)
    _called_at: deque[float] = field(default_factory=lambda: deque(maxlen=_CALLS_KEPT))
    _names: set[str] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        paces = {self.asks.contract.operation.path: job_api().rate, job_api().record_info.path: job_api().poll_rate}
        self._paces = {path: Pace(*rate, time.monotonic, self.pause) for path, rate in paces.items()}

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
        exchange = self.send_plainly(ask, once=once)
        while exchange.code in self.expected.codes("rate_exceeded"):
            self._note_rate(exchange)
            self.pause(_RATE_PAUSE)
            exchange = self.send_plainly(ask, once=once)
        self.judge_form(exchange, strict=strict)
        return exchange

    def send_plainly(self, ask: Ask, *, once: bool = False) -> Exchange:
        """Send a request and judge nothing; on a target that is not local, keep the documented rates.

        Raises:
            OutOfTime: The time of the run is over.
        """
        pace = self._paces.get(ask.target.partition("?")[0])
        if pace and not self.target.is_local:
            pace.keep()
        exchange = self.wire.send(ask, once=once)
        if ask.operation == "createTask" and exchange.code not in self.expected.codes("rate_exceeded"):
            self._called_at.append(time.monotonic())
        return exchange

    def send_all(self, asks: Iterable[Ask], *, once: bool = False) -> list[Exchange]:
        """Send requests several at a time, and return what came of each, in order.

        Raises:
            OutOfTime: The time of the run is over.
        """
        with ThreadPoolExecutor(_AT_ONCE if self.target.is_local else 1) as pool:
            return list(pool.map(lambda ask: self.send(ask, once=once), asks))

    def send_refused(self, asks: Iterable[Ask]) -> list[Exchange]:
        """Send requests that have to be refused, as :meth:`send_all` does.

        Raises:
            OutOfMoney: One was accepted, and what may be spent is spent.
            OutOfTime: The time of the run is over.
        """
        if self.target.is_local:
            return self.send_all(asks)
        return [self._send_refused(ask) for ask in asks]

    def share(self, cases: Sequence[T], part: float) -> Sequence[T]:
        """Return the cases that there is time for: a target that is not local is asked at the documented rate."""
        calls, seconds = job_api().rate
        room = max(int(self.wire.seconds * part * calls / seconds), 1)
        if self.target.is_local or len(cases) <= room:
            return cases
        self.cannot_judge(f"the rate left no time for {len(cases) - room} of {len(cases)} cases; see --time-limit")
        return cases[:room]

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            OutOfTime: The time of the run is over.
        """
        if self.wire.seconds_left <= seconds:
            raise OutOfTime
        time.sleep(seconds)

    def _send_refused(self, ask: Ask) -> Exchange:
        self.budget.reserve_for_refusal()
        exchange = self.send(ask, once=True)
        if exchange.code == self.expected.success:
            self.budget.count(wrongly=True)
        return exchange

    # What is found

    def judge(self, flaws: Iterable[Flaw], exchange: Exchange, also: str = "") -> bool:
        """Note flaws that an exchange shows, and tell whether there were any."""
        noted = False
        for flaw in flaws:
            noted = True
            sample = sample_of(exchange, self.target.base_url, self.target.secrets)
            self.ledger.find(flaw, self.check, sample, also)
        return noted

    def judge_received(self, flaws: Iterable[Flaw], received: Received) -> None:
        """Note flaws that a callback shows."""
        for flaw in flaws:
            self.ledger.find(flaw, self.check, sample_of_received(received, self.target.secrets))

    def judge_form(self, exchange: Exchange, *, strict: bool = True) -> None:
        """Note what is wrong with the form of an answer."""
        if strict:
            self.judge(form_flaws(exchange, self.expected, self.target.secrets), exchange)
            self._exercise_form(exchange)
        elif exchange.answer:
            self.judge(leaks(exchange.answer, self.target.secrets), exchange)

    def judge_shape(self, name: str, exchange: Exchange) -> None:
        """Note what is wrong with an answer of one of the shared shapes."""
        if exchange.answer and isinstance(exchange.answer.json, dict):
            self.judge(shape_flaws(name, exchange.answer.json), exchange)
            self.ledger.exercise_shape(name, exchange.answer.json)

    def judge_refusal(
        self,
        exchange: Exchange,
        allowed: Collection[int],
        clause: str,
        what: str,
        also: str = "",
        *,
        let_in: Collection[int] = (),
    ) -> bool:
        """Judge the answer to a call that has to be refused, and tell whether it was refused as it should be."""
        if exchange.answer is None:
            return False
        self.ledger.exercise((clause,), "refusing")
        self.exercise("answer/refused/no-task", clause)
        if exchange.code == self.expected.success and exchange.task_id and self.target.is_local:
            self.budget.count(wrongly=True)
        return not self.judge(refusal_flaws(exchange, allowed, clause, what, let_in), exchange, also)

    def exercise(self, *clauses: str) -> None:
        """Note that clauses were put to the test by what keeps them."""
        self.ledger.exercise(clauses)

    def cannot_judge(self, reason: str, subject: str = "") -> None:
        """Note that the present check, or something else, cannot be judged."""
        self.ledger.cannot_judge(subject or self.check, reason)

    def _exercise_form(self, exchange: Exchange) -> None:
        self.ledger.exercise(_FORM)
        if exchange.answer and isinstance(exchange.answer.json, dict):
            self.ledger.exercise((f"code/{exchange.code}",))
            self.ledger.exercise_shape("envelope", exchange.answer.json)
            self.ledger.exercise_shape("answer", exchange.answer.json)

    def _note_rate(self, exchange: Exchange) -> None:
        allowed, seconds = job_api().rate
        if exchange.ask.operation == "createTask" and self.calls_within(seconds) < allowed:
            title = f"fewer than {allowed} new tasks in {seconds} seconds are allowed"
            self.judge([Flaw("createTask/rate", title)], exchange)
        self.judge_form(exchange)

    # Money

    def balance(self) -> Decimal | None:
        """Ask for the balance; ``None`` where the target does not tell it.

        Raises:
            OutOfTime: The time of the run is over.
        """
        if "credit" not in self.offered:
            return None
        exchange = self.send(self.asks.credit())
        self.judge_shape("creditAnswer", exchange)
        if isinstance(exchange.data, bool) or not isinstance(exchange.data, int | float):
            return None
        balance = Decimal(str(exchange.data))
        self.budget.note(balance, exchange)
        return balance

    # Tasks

    def create(self, request: Any, name: str, *, body: bytes | None = None, path: str = "") -> Exchange | Order:
        """Ask for a task with a request that keeps the contract.

        Returns:
            The task, or what came instead of one: a refusal, or nothing.

        Raises:
            OutOfTime: The time of the run is over.
            OutOfMoney: The budget does not allow it.
        """
        self.budget.reserve()
        exchange = self.send(self.asks.create(request if body is None else body), once=True)
        return self.take(exchange, request, name, path=path)

    def take(
        self, exchange: Exchange, request: Any, name: str, *, path: str = "", is_followed: bool = True
    ) -> Exchange | Order:
        """Return the task that an exchange made, or the exchange where it made none."""
        if exchange.answer is None:
            self.budget.count()  # it may have been made
        if exchange.code != self.expected.success:
            paid = self.expected.codes("credits_insufficient") - self.expected.codes("request_invalid")
            self.budget.is_used_up = self.budget.is_used_up or exchange.code in paid
            return exchange
        self.judge(creation_flaws(exchange, self.expected), exchange)
        self.exercise(*_CREATION)
        self.budget.count()
        if not exchange.task_id:
            return exchange
        order = Order(name, request, exchange, self.asks, exchange.task_id, path, is_followed)
        self._keep(order)
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
            self._keep_look(order, record, exchange)
        return exchange

    def look_around(self) -> None:
        """Look at the tasks that have not ended and were not looked at for a moment.

        Raises:
            OutOfTime: The time of the run is over.
        """
        for order in [order for order in self.orders if order.is_followed and not order.has_ended]:
            often = order in self.orders[:_LOOKED_AT_OFTEN]
            if time.monotonic() - order.looked_at >= (_LOOK_OFTEN if often else _LOOK_AGAIN):
                self.look(order)

    def wait_for(self, orders: Sequence[Order], seconds: float) -> bool:
        """Look at tasks until all have ended, at most so long, and tell whether they have.

        Raises:
            OutOfTime: The time of the run is over.
        """
        limit = time.monotonic() + seconds
        while any(order.is_followed and not order.has_ended for order in orders) and time.monotonic() < limit:
            self.look_around()
            self.pause(_LOOK_EVERY)
        return all(order.has_ended for order in orders)

    def made_within(self, seconds: float) -> int:
        """Return how many tasks were made in the last so many seconds."""
        return sum(order.exchange.ended > time.time() - seconds for order in list(self.orders))

    def calls_within(self, seconds: float) -> int:
        """Return how many calls for a task were answered in the last so many seconds, but for those beyond the rate."""
        return sum(called > time.monotonic() - seconds for called in list(self._called_at))

    def _keep(self, order: Order) -> None:
        with self._lock:
            is_known = order.task_id in self._names
            self._names.add(order.task_id)
            self.orders.append(order)
        if is_known:
            self.judge([Flaw("createTask/unique", "two tasks have the same name")], order.exchange)
        self.exercise("createTask/unique")

    def _keep_look(self, order: Order, record: Mapping[str, Any], exchange: Exchange) -> None:
        if order.looks:
            self.judge(change_flaws(order.record, record), exchange)
            self.exercise("life/forward", *(("life/final",) if order.has_ended else ()))
        order.looks.append((record, exchange))
        if order.has_ended and not order.ended_at:
            order.ended_at = time.time()
        self.ledger.exercise_shape("record", record)
        self.exercise(*clauses_of(record))
        results = parse_json(str(record.get("resultJson", "")))
        if isinstance(results, dict):
            self.ledger.exercise_shape("results", results)

    def _judge_absence(self, order: Order, exchange: Exchange) -> None:
        """A task may be unknown for a moment after it was made, and never after it was seen."""
        age = time.time() - order.exchange.ended
        if exchange.answer is None or not (order.looks or age > _APPEARS_WITHIN):
            return
        order.is_followed = False
        never = Flaw("createTask/usable", "a task cannot be looked at, though its name was given back")
        gone = Flaw("recordInfo/same", "a task that was shown before cannot be looked at any more")
        self.judge([gone if order.looks else never], exchange)
