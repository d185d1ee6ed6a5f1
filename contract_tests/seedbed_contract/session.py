"""The session that the checks of a run share."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

from seedbed_schemas import job_api, local

from seedbed_contract.callback_receiver import CallbackAddresses
from seedbed_contract.display import sample_of, sample_of_received
from seedbed_contract.http import OutOfTimeError
from seedbed_contract.limits import Budget, BudgetExceededError, RateLog, Throttle
from seedbed_contract.rules import envelope

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from hypothesis.database import ExampleDatabase

    from seedbed_contract.callback_receiver import Received
    from seedbed_contract.detection import DetectedService
    from seedbed_contract.findings import FindingLog
    from seedbed_contract.http import Exchange, HttpTransport, RequestBuilder, TargetRequest
    from seedbed_contract.rules.task_record import TrackedTask
    from seedbed_contract.target import Expectations, Target


T = TypeVar("T")

_CONCURRENCY: Final = 8
_RATE_PAUSE: Final = 0.5
_SPACE_BITS: Final = 64
_WINDOW_MARGIN: Final = 1.1
"""Factor for the period of a rate: the clocks of the target and of this machine may differ a little."""


def random_space() -> str:
    """Return the name of a space of the mock server that no one else uses."""
    return f"check-{random.SystemRandom().getrandbits(_SPACE_BITS):016x}"


@dataclass
class Session:
    """The shared state of the checks of one run. Threads may use it concurrently.

    Attributes:
        target: Server to check.
        transport: Sends requests.
        builder: Builds requests with the key of the target.
        expected: Expectations on the responses.
        log: Collects the findings.
        budget: Counts tasks and credits.
        capabilities: Names of the optional operations that the target supports.
        service: What was detected of the target before the first check.
        callback_addresses: Addresses for callbacks.
        fail_prompt: A prompt that makes a task fail; empty if none is known.
        seed: Seed of everything that is drawn at random.
        max_examples: Number of random requests of each search.
        example_database: Hypothesis database for what the searches find; ``None`` to store nothing.
        is_exclusive: Whether no one else uses the account, so that its balance can be compared with the tasks.
        is_rate_limited: Whether the target has refused a task for the rate.
        requires_callback: Whether the target refuses requests without a callback URL.
        check: Name of the current check.
        undecided: Why the run cannot say that the target conforms, even without findings; empty if it can.
        tasks: Tasks that the run created.
        has_requested_tasks: Whether the first tasks have been requested.
        has_awaited_tasks: Whether the run has waited for the first tasks to end.
        batches: Valid requests that the run has not sent yet; ``None`` before they are made.
        other_budgets: Budgets of the fresh accounts that checks have used.
        creation_calls: The latest createTask calls with the account.
        task_ids: IDs of all tasks that were created.
        lock: Guards ``tasks`` and ``task_ids``.
    """

    target: Target
    transport: HttpTransport
    builder: RequestBuilder
    expected: Expectations
    log: FindingLog
    budget: Budget
    capabilities: frozenset[str] = frozenset()
    service: DetectedService | None = None
    callback_addresses: CallbackAddresses = field(default_factory=CallbackAddresses)
    fail_prompt: str = ""
    seed: int = 0
    max_examples: int = 100
    example_database: ExampleDatabase | None = None
    is_exclusive: bool = True
    is_rate_limited: bool = False
    requires_callback: bool = False
    check: str = ""
    undecided: str = ""
    tasks: list[TrackedTask] = field(default_factory=list)
    has_requested_tasks: bool = False
    has_awaited_tasks: bool = False
    batches: list[Any] | None = None
    other_budgets: list[Budget] = field(default_factory=list)
    creation_calls: RateLog = field(default_factory=RateLog)
    task_ids: set[str] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        rates = {self.builder.contract.operation.path: job_api().rate, job_api().record_info.path: job_api().poll_rate}
        self._throttles = {path: Throttle(*rate, time.monotonic, self.pause) for path, rate in rates.items()}

    # Sending

    def send(self, request: TargetRequest, *, once: bool = False, strict: bool = True) -> Exchange:
        """Send a request, repeat it while the rate limit is exceeded, and check the form of the response.

        Args:
            request: Request to send.
            once: Whether the request may cost credits, so that it is not resent after a connection error.
            strict: Whether the response must have the form that the service documents. Otherwise it only must not
                leak secrets.

        Raises:
            OutOfTimeError: The time limit of the run passed.
        """
        started = self.creation_calls.clock()
        exchange = self.send_unchecked(request, once=once)
        while exchange.code in self.expected.codes("rate_exceeded"):
            # Exceeding the documented rate is our own doing; a refusal below it is a defect of the target.
            allowed, seconds = job_api().rate
            self._check_poll_rate(exchange)
            since = started - seconds * _WINDOW_MARGIN
            if request.operation == "createTask" and self.creation_calls.count_since(since) < allowed:
                title = f"fewer than {allowed} new tasks in {seconds} seconds are allowed"
                self.report([envelope.Defect("createTask/rate", title)], exchange)
            self.check_form(exchange)
            self.pause(_RATE_PAUSE)
            started = self.creation_calls.clock()
            exchange = self.send_unchecked(request, once=once)
        self.check_form(exchange, strict=strict)
        return exchange

    def send_unchecked(self, request: TargetRequest, *, once: bool = False) -> Exchange:
        """Send a request without checking the response, at the documented rate if the target is remote.

        Raises:
            OutOfTimeError: The time limit of the run passed.
        """
        throttle = self._throttles.get(request.target.partition("?")[0])
        if throttle and not self.target.is_local:
            throttle.acquire()
        if request.operation != "createTask":
            return self.transport.send(request, once=once)
        call, is_refused = self.creation_calls.begin(), False
        try:
            exchange = self.transport.send(request, once=once)
            is_refused = exchange.code in self.expected.codes("rate_exceeded")
        finally:
            self.creation_calls.end(call, is_refused=is_refused)
        self.is_rate_limited = self.is_rate_limited or is_refused
        return exchange

    def send_all(self, requests: Iterable[TargetRequest], *, once: bool = False, strict: bool = True) -> list[Exchange]:
        """Send requests, to a local target several at a time, and return the exchanges in order.

        Raises:
            OutOfTimeError: The time limit of the run passed.
        """
        with ThreadPoolExecutor(_CONCURRENCY if self.target.is_local else 1) as pool:
            try:
                return list(pool.map(lambda request: self.send(request, once=once, strict=strict), requests))
            except KeyboardInterrupt:
                self.transport.deadline = time.monotonic()  # the other threads send nothing more
                raise

    def send_invalid(self, requests: Iterable[TargetRequest]) -> list[Exchange]:
        """Send requests that the target should refuse, as :meth:`send_all` does.

        Returns:
            The exchanges, in order. To a remote target, no more requests are sent once the budget is used up.

        Raises:
            OutOfTimeError: The time limit of the run passed.
        """
        if self.target.is_local:
            return self.send_all(requests)
        exchanges: list[Exchange] = []
        for request in requests:
            try:
                self.budget.reserve_for_refusal()
            except BudgetExceededError:
                self.mark_unchecked("the target accepted a request that it should refuse; another could cost too much")
                break
            exchange = self.send(request, once=True)
            self.count_wrongly_accepted(exchange)
            exchanges.append(exchange)
        return exchanges

    def fit_in_time(self, cases: Sequence[T], share: float) -> Sequence[T]:
        """Return the cases that can be sent in a share of the time limit; a local target has time for all."""
        calls, seconds = job_api().rate
        room = max(int(self.transport.seconds * share * calls / seconds), 1)
        if self.target.is_local or len(cases) <= room:
            return cases
        self.mark_unchecked(
            f"the rate limit leaves no time for {len(cases) - room} of {len(cases)} cases; raise --time-limit"
        )
        return cases[:room]

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            OutOfTimeError: The time limit would pass meanwhile.
        """
        if self.transport.seconds_left <= seconds:
            raise OutOfTimeError
        time.sleep(seconds)

    def polls_since(self, moment: float, *, but: Exchange | None = None) -> int:
        """Return the number of recordInfo calls that may have reached the target after a moment of the monotonic clock.

        Args:
            moment: The moment.
            but: An exchange that does not count.
        """
        return sum(
            poll.ended > moment and (but is None or poll.exchange is not but) for poll in list(self.transport.polls)
        )

    def _check_poll_rate(self, exchange: Exchange) -> None:
        """Report a refused recordInfo call if there were too few of them to exceed the documented rate."""
        allowed, seconds = job_api().poll_rate
        refused = next((poll for poll in list(self.transport.polls) if poll.exchange is exchange), None)
        if refused and self.polls_since(refused.started - seconds * _WINDOW_MARGIN, but=exchange) < allowed:
            title = f"fewer than {allowed} queries in {seconds} seconds are allowed"
            self.report([envelope.Defect("recordInfo/rate", title)], exchange)

    # Checking responses

    def report(self, defects: Iterable[envelope.Defect], exchange: Exchange, case: str = "") -> bool:
        """Log the defects that an exchange shows, and return whether there are any.

        Args:
            defects: Defects to log.
            exchange: Exchange that shows them.
            case: Name of the case that was sent.
        """
        has_defects = False
        for defect in defects:
            has_defects = True
            sample = sample_of(exchange, self.target.base_url, self.target.secrets)
            self.log.add(defect, self.check, sample, case)
        return has_defects

    def report_received(self, defects: Iterable[envelope.Defect], received: Received) -> None:
        """Log the defects that a callback shows."""
        for defect in defects:
            self.log.add(defect, self.check, sample_of_received(received, self.target.secrets))

    def check_form(self, exchange: Exchange, *, strict: bool = True) -> None:
        """Check the form of a response; if not ``strict``, only check that it does not leak secrets."""
        response = exchange.response
        if not strict:
            if response:
                self.report(envelope.leak_defects(response, self.target.secrets), exchange)
            return
        self.report(envelope.form_defects(exchange, self.expected, self.target.secrets), exchange)
        self.log.exercise_response(exchange)

    def check_shape(self, name: str, exchange: Exchange) -> None:
        """Check a response against one of the shared shapes of the job API."""
        if exchange.response and isinstance(exchange.response.json, dict):
            self.report(envelope.shape_defects(name, exchange.response.json), exchange)
            self.log.exercise_shape(name, exchange.response.json)

    def check_refusal(
        self,
        exchange: Exchange,
        allowed: Collection[int],
        clause: str,
        what: str,
        case: str = "",
        *,
        let_in: Collection[int] = (),
    ) -> bool:
        """Check the response to a call that must be refused, and return whether it was refused correctly.

        Args:
            exchange: Exchange to check.
            allowed: Codes of a correct refusal.
            clause: Clause that the call breaks.
            what: Description of the call, such as ``a request without a key``.
            case: Name of the case that was sent.
            let_in: Codes which show that the call passed authentication although it must not.
        """
        if exchange.response is None:
            return False
        self.log.judged += 1
        self.log.exercise((clause,), "refusing")
        self.exercise("answer/refused/no-task", clause)
        if self.target.is_local:
            self.count_wrongly_accepted(exchange)
        return not self.report(envelope.refusal_defects(exchange, allowed, clause, what, let_in), exchange, case)

    def exercise(self, *clauses: str) -> None:
        """Count clauses as exercised by a message that keeps them."""
        self.log.judged += 1
        self.log.exercise(clauses)

    def mark_unchecked(self, reason: str, subject: str = "") -> None:
        """Note why the current check, or another subject, cannot be checked."""
        self.log.mark_unchecked(subject or self.check, reason, self.check)

    def with_fresh_account(self) -> Session:
        """Return a session with an account that no check has used yet, or this session if there is none.

        Each space of the mock server has accounts of its own.
        """
        if "faults" not in self.capabilities:
            return self
        fresh = replace(
            self,
            builder=self.builder.with_extra(((local.SPACE_HEADER, random_space()),)),
            budget=Budget(self.budget.price, self.budget.limit),
            tasks=[],
            batches=None,
            creation_calls=RateLog(),
        )
        self.other_budgets.append(fresh.budget)
        fresh.fetch_balance()
        return fresh

    def mark_unsupported(self, capability: str) -> None:
        """Note that a part of the current check cannot be checked, because the target lacks a capability."""
        reason = f"the target does not support {capability}"
        if capability in self.target.absent:
            reason = f"declared absent with --without {capability}"
        self.mark_unchecked(reason, capability)

    # Tasks and credits

    def has_created_task(self, exchange: Exchange) -> bool:
        """Return whether a response names a new task; an undocumented code counts as success."""
        is_accepted = exchange.code == self.expected.success
        return is_accepted or bool(exchange.task_id and exchange.code not in self.expected.all_codes)

    def count_wrongly_accepted(self, exchange: Exchange) -> None:
        """Count the task of a request that the target should have refused, if it was accepted."""
        if exchange.code == self.expected.success:
            self.budget.count(wrongly=True)

    def fetch_balance(self) -> Decimal | None:
        """Fetch the balance; return ``None`` if the target does not report it.

        Raises:
            OutOfTimeError: The time limit of the run passed.
        """
        if "credit" not in self.capabilities:
            return None
        exchange = self.send(self.builder.credit())
        self.check_shape("creditAnswer", exchange)
        if isinstance(exchange.data, bool) or not isinstance(exchange.data, int | float):
            return None
        balance = Decimal(str(exchange.data))
        self.budget.record_balance(balance, exchange)
        return balance

    def tasks_created_within(self, seconds: float) -> int:
        """Return the number of tasks that were created in the last seconds."""
        # The copy allows other threads to add tasks meanwhile.
        return sum(task.exchange.ended > time.time() - seconds for task in list(self.tasks))
