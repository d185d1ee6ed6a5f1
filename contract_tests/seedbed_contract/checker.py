"""A run: find out whom one talks to, make every check that applies, and sum up."""

from __future__ import annotations

import fnmatch
import json
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import default_contract, local
from seedbed_schemas.profile import profile_of

from seedbed_contract import tasks
from seedbed_contract.callback_receiver import CallbackAddresses, Receiver
from seedbed_contract.cases import accepted
from seedbed_contract.checks import CHECKS
from seedbed_contract.checks.request_validation import check_valid_requests, check_violation
from seedbed_contract.detection import CAPABILITY_CLAUSES, CAPABILITY_PROBES, detect, detect_capabilities
from seedbed_contract.findings import SETUP, CheckResult, FindingLog, Report
from seedbed_contract.http import HttpTransport, OutOfTimeError, RequestBuilder, bearer
from seedbed_contract.rules.envelope import Defect
from seedbed_contract.session import Budget, BudgetExceededError, Session
from seedbed_contract.strategies import breakable_clauses
from seedbed_contract.target import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from hypothesis.database import ExampleDatabase
    from seedbed_schemas import Contract

    from seedbed_contract.checks import Check
    from seedbed_contract.detection import DetectedService
    from seedbed_contract.http import Headers
    from seedbed_contract.target import Target


TIME_LIMIT: Final = 60.0
"""Seconds that a run may take."""
OUT_OF_TIME: Final = "the time of the run was over; give more with --time-limit"
_UNREADABLE: Final = "nothing that the target answers can be read"
_OUT_OF_MONEY: Final = "it would cost credits: allow them with --spend"
_MARK_BITS: Final = 64
_FAILING: Final = "[[fault: task.fail]]"
"""A phrase that Seedbed's own fake takes for an order to let the task fail."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a run goes.

    Attributes:
        seed: What decides what is drawn at random.
        max_examples: How many random requests each search makes.
        time_limit: Seconds that it may take.
        only: Patterns of the names of checks to make; all where there are none.
        contract: What to judge by.
        examples: Where the search keeps what it found, ``None`` for nowhere.
        is_alone: Whether nobody else uses the account meanwhile.
    """

    seed: int = 0
    max_examples: int = 100
    time_limit: float = TIME_LIMIT
    only: tuple[str, ...] = ()
    contract: Contract = field(default_factory=default_contract)
    example_database: ExampleDatabase | None = None
    is_exclusive: bool = True

    def checks(self) -> list[Check]:
        """Return the checks that were asked for, in order.

        Raises:
            TargetError: A pattern is that of no check.
        """
        names = [check.name for check in CHECKS]
        for pattern in self.only:
            if not fnmatch.filter(names, pattern):
                raise TargetError(f"There is no check like {pattern!r}. Known: {', '.join(names)}.")
        return [check for check in CHECKS if not self.only or any(fnmatchcase(check.name, one) for one in self.only)]


class Run:
    """A run against one target, for the time of a ``with`` block.

    Args:
        target: Whom it is about.
        options: How it goes.

    Raises:
        CannotCheckError: When entered: nothing answers, or nothing that could be this service.
    """

    def __init__(self, target: Target, options: Options) -> None:
        self.target, self.options = target, options
        self._started = time.monotonic()
        self._results: list[CheckResult] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.transport = stack.enter_context(HttpTransport(self.target.base_url, self.options.time_limit))
            plain = RequestBuilder(self.options.contract, bearer(self.options.contract, self.target.key))
            found = detect(self.transport, plain, self.target)
            self._is_readable = found.is_readable
            self.session = self._session(stack, plain.with_extra(_space(is_fake=found.is_fake)), found)
            self._begin(found)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def checks(self) -> list[Check]:
        """Return the checks that were asked for, in order."""
        return self.options.checks()

    def make(self, check: Check) -> CheckResult:
        """Make one check, after those tasks that it needs."""
        ledger, started = self.session.log, time.monotonic()
        self.session.check = check.name
        exercised = ledger.exercised
        self._attempt(check)
        reason = next((one.reason for one in ledger.not_checked if one.subject == check.name), "")
        is_checked = not reason or ledger.exercised > exercised
        seconds = time.monotonic() - started
        result = CheckResult(check.name, check.about, seconds, ledger.found_by(check.name), reason, is_checked)
        self._results.append(result)
        return result

    def report(self) -> Report:
        """Return what the run has found so far."""
        session, ledger = self.session, self.session.log
        return Report(
            target=self.target.base_url,
            dialect=session.expected.dialect.title,
            http_status=session.expected.http_status,
            seed=self.options.seed,
            requests=self.transport.sent,
            seconds=time.monotonic() - self._started,
            tasks=session.budget.created + session.budget.wrongly_created,
            spent=float(session.budget.charged if session.budget.is_free else session.budget.spent),
            findings=ledger.findings,
            checks=list(self._results),
            not_checked=ledger.not_checked,
            coverage=ledger.coverage,
            remarks=list(ledger.remarks),
        )

    def _session(self, stack: ExitStack, asks: RequestBuilder, found: DetectedService) -> Session:
        target, options = self.target, self.options
        return Session(
            target=target,
            transport=self.transport,
            builder=asks,
            expected=found.expected,
            log=FindingLog(options.contract, breakable_clauses(options.contract)),
            budget=Budget(profile_of(options.contract).credits, target.most),
            capabilities=detect_capabilities(self.transport, asks, found),
            callback_addresses=CallbackAddresses(self._receiver(stack, asks)),
            fail_prompt=target.fail_prompt or (_FAILING if found.is_fake else ""),
            seed=options.seed,
            max_examples=options.max_examples,
            example_database=options.example_database,
            is_exclusive=options.is_exclusive or found.is_fake,  # where a run has accounts of its own
        )

    def _attempt(self, check: Check) -> None:
        session = self.session
        if not self._is_readable:
            session.mark_unchecked(_UNREADABLE)
            return
        try:
            if check.makes_tasks and not session.has_requested_tasks and check.run is not check_valid_requests:
                check_valid_requests(session)
            check.run(session)
            tasks.poll_pending(session)
        except OutOfTimeError:
            session.mark_unchecked(OUT_OF_TIME)
        except BudgetExceededError:
            session.mark_unchecked(_OUT_OF_MONEY)

    def _begin(self, found: DetectedService) -> None:
        """Judge the first answers, and whether everything is there that is required."""
        session = self.session
        session.check = SETUP
        for remark in found.remarks:
            session.log.remark(remark)
        if not self.options.only or not found.is_readable:
            self._judge_first(found)
        if not self._is_readable and session.budget.is_free:
            session.send(session.builder.create(accepted(session.builder.contract)[0].request), once=True)
        session.fetch_balance()
        self._require()

    def _judge_first(self, found: DetectedService) -> None:
        for clause, exchange in found.exchanges:
            self.session.check_form(exchange)
            if clause:
                self.session.count_wrongly_accepted(exchange)
                check_violation(self.session, exchange, clause, "")

    def _require(self) -> None:
        session = self.session
        for name in sorted(self.target.required - session.capabilities - {"callbacks"}):
            exchange = session.send(
                CAPABILITY_PROBES.get(name, CAPABILITY_PROBES["credit"])(session.builder), strict=False
            )
            session.report([Defect(CAPABILITY_CLAUSES[name], f"the target has no {name}, which is required")], exchange)

    def _receiver(self, stack: ExitStack, asks: RequestBuilder) -> Receiver | None:
        host = self.target.callback_host or ("127.0.0.1" if self.target.is_local else "")
        if not host:
            return None
        return stack.enter_context(Receiver(host, look=lambda _path, body: _record_now(self.transport, asks, body)))


def run_checks(target: Target, options: Options, on_check: Callable[[Check], object] = lambda _: None) -> Report:
    """Make every check that was asked for, and return what they found.

    Args:
        target: Whom the run is about.
        options: How it goes.
        on_check: Called with each check before it is made.

    Raises:
        CannotCheckError: Nothing answers, or nothing that could be this service.
    """
    with Run(target, options) as run:
        for check in run.checks():
            on_check(check)
            run.make(check)
        return run.report()


def _space(*, is_fake: bool) -> Headers:
    """Return headers that keep a run on Seedbed's own fake apart: it takes nothing from anybody's balance there."""
    name = f"check-{random.SystemRandom().getrandbits(_MARK_BITS):016x}"
    return ((local.SPACE_HEADER, name),) if is_fake else ()


def _record_now(wire: HttpTransport, asks: RequestBuilder, body: bytes) -> Any:
    """Return the record of the task that a callback names, as it is at that moment."""
    try:
        task_id = json.loads(body)["data"]["taskId"]
        return wire.send(asks.record(str(task_id))).data
    except (OutOfTimeError, ValueError, KeyError, TypeError, RecursionError):
        return None
