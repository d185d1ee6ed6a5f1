"""What a run may spend, and what it has spent: nothing is sent that could cost more than was allowed."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypeVar

from seedbed_schemas import job_api

from seedbed_contract.callback_receiver import CallbackAddresses
from seedbed_contract.display import sample_of, sample_of_received
from seedbed_contract.http import OutOfTimeError
from seedbed_contract.rules.envelope import (
    FORM_CLAUSES,
    Defect,
    form_defects,
    leak_defects,
    refusal_defects,
    shape_defects,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from hypothesis.database import ExampleDatabase

    from seedbed_contract.callback_receiver import Received
    from seedbed_contract.cases import AcceptedCase
    from seedbed_contract.findings import FindingLog
    from seedbed_contract.http import Exchange, HttpTransport, RequestBuilder, TargetRequest
    from seedbed_contract.rules.tracked_task import TrackedTask
    from seedbed_contract.target import Expectations, Target


_ANY_NUMBER: Final = 10_000
"""How many tasks may be made where nothing is known that would bound them."""


class BudgetExceededError(Exception):
    """A request could cost more than may be spent."""


@dataclass
class Budget:
    """Counts what tasks cost, and knows the balance as it was last told.

    Attributes:
        price: Credits that a task costs.
        most: Credits that may be spent, ``None`` where they cost nothing.
        made: How many tasks were made on purpose.
        wrongly_created: How many were made by requests that had to be refused.
        first: The balance at the start, ``None`` where it is not told.
        last: The balance as it was last told.
        told: The exchange that told it.
        is_exhausted: Whether the target said that the balance does not cover a task.
    """

    price: Decimal
    most: Decimal | None = None
    created: int = 0
    wrongly_created: int = 0
    first_balance: Decimal | None = None
    last_balance: Decimal | None = None
    balance_exchange: Exchange | None = None
    is_exhausted: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def spent(self) -> Decimal:
        """Credits that were spent: what was seen to be gone, or what the tasks cost, whichever is more."""
        return max(self.charged, self.price * (self.created + self.wrongly_created))

    @property
    def charged(self) -> Decimal:
        """Credits that are gone, by the balance where it is told, else by what the tasks cost."""
        if self.first_balance is None or self.last_balance is None:
            return self.price * (self.created + self.wrongly_created)
        return self.first_balance - self.last_balance

    @property
    def is_free(self) -> bool:
        """Whether tasks cost nothing."""
        return self.most is None

    @property
    def remaining_tasks(self) -> int:
        """How many more tasks may be made, by what may be spent and by the balance."""
        bounds = [_ANY_NUMBER]
        if self.is_exhausted:
            return 0
        if self.price and self.last_balance is not None:
            bounds.append(int(max(self.last_balance, Decimal(0)) / self.price))
        if self.price and self.most is not None:
            bounds.append(int(max(self.most - self.spent, Decimal(0)) / self.price))
        return min(bounds)

    def note(self, balance: Decimal, told: Exchange) -> None:
        """Note the balance."""
        self.first_balance = balance if self.first_balance is None else self.first_balance
        self.last_balance, self.balance_exchange = balance, told

    def reserve(self) -> None:
        """Allow for one task that is about to be asked for.

        Raises:
            BudgetExceededError: It may not be made.
        """
        dearest = max(self.price, self.charged / self.created) if self.created else self.price
        if self.most is not None and self.spent + dearest > self.most:
            raise BudgetExceededError

    def reserve_for_refusal(self) -> None:
        """Allow for a request that has to be refused: one that is accepted after all costs a task.

        Where nothing may be spent, such requests are sent until the first of them was accepted.

        Raises:
            BudgetExceededError: It may not be sent.
        """
        if self.spent:
            self.reserve()

    def count(self, *, wrongly: bool = False) -> None:
        """Note a task that was made, on purpose or by a request that had to be refused."""
        with self._lock:
            self.created += not wrongly
            self.wrongly_created += wrongly


class Throttle:
    """Lets so many calls pass in so many seconds.

    Args:
        calls: How many.
        seconds: In how many seconds.
        clock: Tells the time, in seconds.
        wait: Waits, given seconds.
    """

    def __init__(self, calls: int, seconds: float, clock: Callable[[], float], wait: Callable[[float], object]) -> None:
        self._calls, self._seconds = calls, seconds
        self._clock, self._wait = clock, wait
        self._passed: deque[float] = deque(maxlen=calls)
        self._lock = threading.Lock()

    def keep(self) -> None:
        """Wait until one more call may pass."""
        with self._lock:
            if len(self._passed) == self._calls:
                self._wait(max(self._passed[0] + self._seconds - self._clock(), 0.0))
            self._passed.append(self._clock())


T = TypeVar("T")

_AT_ONCE: Final = 8
_RATE_PAUSE: Final = 0.5
_CALLS_KEPT: Final = 1000


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
        names: Names of all tasks that were made.
        lock: Guards what several threads note.
    """

    target: Target
    transport: HttpTransport
    builder: RequestBuilder
    expected: Expectations
    log: FindingLog
    budget: Budget
    capabilities: frozenset[str] = frozenset()
    callback_addresses: CallbackAddresses = field(default_factory=CallbackAddresses)
    fail_prompt: str = ""
    seed: int = 0
    max_examples: int = 100
    example_database: ExampleDatabase | None = None
    is_exclusive: bool = True
    check: str = ""
    tasks: list[TrackedTask] = field(default_factory=list)
    has_requested_tasks: bool = False
    deferred_cases: list[AcceptedCase] = field(default_factory=list)
    _called_at: deque[float] = field(default_factory=lambda: deque(maxlen=_CALLS_KEPT))
    task_ids: set[str] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        paces = {self.builder.contract.operation.path: job_api().rate, job_api().record_info.path: job_api().poll_rate}
        self._paces = {path: Throttle(*rate, time.monotonic, self.pause) for path, rate in paces.items()}

    # What is sent

    def send(self, ask: TargetRequest, *, once: bool = False, strict: bool = True) -> Exchange:
        """Send a request, wait where the rate is exceeded, and judge the form of the answer.

        Args:
            ask: The request.
            once: Whether it may cost something.
            strict: Whether the answer must have the service's own form; else it must just keep its secrets.

        Raises:
            OutOfTimeError: The time of the run is over.
        """
        exchange = self.send_unchecked(ask, once=once)
        while exchange.code in self.expected.codes("rate_exceeded"):
            self._note_rate(exchange)
            self.pause(_RATE_PAUSE)
            exchange = self.send_unchecked(ask, once=once)
        self.check_form(exchange, strict=strict)
        return exchange

    def send_unchecked(self, ask: TargetRequest, *, once: bool = False) -> Exchange:
        """Send a request and judge nothing; on a target that is not local, keep the documented rates.

        Raises:
            OutOfTimeError: The time of the run is over.
        """
        pace = self._paces.get(ask.target.partition("?")[0])
        if pace and not self.target.is_local:
            pace.keep()
        exchange = self.transport.send(ask, once=once)
        if ask.operation == "createTask" and exchange.code not in self.expected.codes("rate_exceeded"):
            self._called_at.append(time.monotonic())
        return exchange

    def send_all(self, asks: Iterable[TargetRequest], *, once: bool = False) -> list[Exchange]:
        """Send requests several at a time, and return what came of each, in order.

        Raises:
            OutOfTimeError: The time of the run is over.
        """
        with ThreadPoolExecutor(_AT_ONCE if self.target.is_local else 1) as pool:
            return list(pool.map(lambda ask: self.send(ask, once=once), asks))

    def send_invalid(self, asks: Iterable[TargetRequest]) -> list[Exchange]:
        """Send requests that have to be refused, as :meth:`send_all` does.

        Returns:
            What came of each, in order, and of those alone that were sent before the budget ended it.

        Raises:
            OutOfTimeError: The time of the run is over.
        """
        if self.target.is_local:
            return self.send_all(asks)
        return list(self._one_by_one(asks))

    def fit_in_time(self, cases: Sequence[T], part: float) -> Sequence[T]:
        """Return the cases that there is time for: a target that is not local is asked at the documented rate."""
        calls, seconds = job_api().rate
        room = max(int(self.transport.seconds * part * calls / seconds), 1)
        if self.target.is_local or len(cases) <= room:
            return cases
        self.mark_unchecked(f"the rate left no time for {len(cases) - room} of {len(cases)} cases; see --time-limit")
        return cases[:room]

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            OutOfTimeError: The time of the run is over.
        """
        if self.transport.seconds_left <= seconds:
            raise OutOfTimeError
        time.sleep(seconds)

    def _one_by_one(self, asks: Iterable[TargetRequest]) -> Iterator[Exchange]:
        for ask in asks:
            try:
                self.budget.reserve_for_refusal()
            except BudgetExceededError:
                self.mark_unchecked("a request that had to be refused was accepted; another could cost too much")
                return
            exchange = self.send(ask, once=True)
            self.count_wrongly_accepted(exchange)
            yield exchange

    # What is found

    def report(self, flaws: Iterable[Defect], exchange: Exchange, also: str = "") -> bool:
        """Note flaws that an exchange shows, and tell whether there were any."""
        noted = False
        for flaw in flaws:
            noted = True
            sample = sample_of(exchange, self.target.base_url, self.target.secrets)
            self.log.find(flaw, self.check, sample, also)
        return noted

    def report_received(self, flaws: Iterable[Defect], received: Received) -> None:
        """Note flaws that a callback shows."""
        for flaw in flaws:
            self.log.find(flaw, self.check, sample_of_received(received, self.target.secrets))

    def check_form(self, exchange: Exchange, *, strict: bool = True) -> None:
        """Note what is wrong with the form of an answer."""
        if strict:
            self.report(form_defects(exchange, self.expected, self.target.secrets), exchange)
            self._exercise_form(exchange)
        elif exchange.response:
            self.report(leak_defects(exchange.response, self.target.secrets), exchange)

    def check_shape(self, name: str, exchange: Exchange) -> None:
        """Note what is wrong with an answer of one of the shared shapes."""
        if exchange.response and isinstance(exchange.response.json, dict):
            self.report(shape_defects(name, exchange.response.json), exchange)
            self.log.exercise_shape(name, exchange.response.json)

    def check_refusal(
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
        if exchange.response is None:
            return False
        self.log.exercise((clause,), "refusing")
        self.exercise("answer/refused/no-task", clause)
        if self.target.is_local:
            self.count_wrongly_accepted(exchange)
        return not self.report(refusal_defects(exchange, allowed, clause, what, let_in), exchange, also)

    def exercise(self, *clauses: str) -> None:
        """Note that clauses were put to the test by what keeps them."""
        self.log.exercise(clauses)

    def mark_unchecked(self, reason: str, subject: str = "") -> None:
        """Note that the present check, or something else, cannot be judged."""
        self.log.mark_unchecked(subject or self.check, reason)

    def _exercise_form(self, exchange: Exchange) -> None:
        self.log.exercise(FORM_CLAUSES)
        if exchange.response and isinstance(exchange.response.json, dict):
            self.log.exercise((f"code/{exchange.code}",))
            self.log.exercise_shape("envelope", exchange.response.json)
            self.log.exercise_shape("answer", exchange.response.json)

    def _note_rate(self, exchange: Exchange) -> None:
        allowed, seconds = job_api().rate
        if exchange.request.operation == "createTask" and self.creation_calls_within(seconds) < allowed:
            title = f"fewer than {allowed} new tasks in {seconds} seconds are allowed"
            self.report([Defect("createTask/rate", title)], exchange)
        self.check_form(exchange)

    def has_created_task(self, exchange: Exchange) -> bool:
        """Tell whether an answer hands out a task, be it with a code that no page knows."""
        is_accepted = exchange.code == self.expected.success
        return is_accepted or bool(exchange.task_id and exchange.code not in self.expected.all_codes)

    # Money

    def count_wrongly_accepted(self, exchange: Exchange) -> None:
        """Count the task that a request made which had to be refused, if it made one."""
        if exchange.code == self.expected.success:
            self.budget.count(wrongly=True)

    def fetch_balance(self) -> Decimal | None:
        """Ask for the balance; ``None`` where the target does not tell it.

        Raises:
            OutOfTimeError: The time of the run is over.
        """
        if "credit" not in self.capabilities:
            return None
        exchange = self.send(self.builder.credit())
        self.check_shape("creditAnswer", exchange)
        if isinstance(exchange.data, bool) or not isinstance(exchange.data, int | float):
            return None
        balance = Decimal(str(exchange.data))
        self.budget.note(balance, exchange)
        return balance

    # What was done lately

    def tasks_created_within(self, seconds: float) -> int:
        """Return how many tasks were made in the last so many seconds."""
        return sum(order.exchange.ended > time.time() - seconds for order in list(self.tasks))

    def creation_calls_within(self, seconds: float) -> int:
        """Return how many calls for a task were answered in the last so many seconds, but for those beyond the rate."""
        return sum(called > time.monotonic() - seconds for called in list(self._called_at))
