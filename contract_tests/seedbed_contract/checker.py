"""A run of the checker: detect the service, run the checks that were selected, and report."""

from __future__ import annotations

import fnmatch
import json
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.profile import profile_of

from seedbed_contract import tasks
from seedbed_contract.callback_receiver import CallbackAddresses, Receiver
from seedbed_contract.cases import accepted
from seedbed_contract.checks import CHECKS
from seedbed_contract.checks.request_validation import check_valid_requests, check_violation
from seedbed_contract.detection import CAPABILITY_CLAUSES, CAPABILITY_PROBES, detect, detect_capabilities
from seedbed_contract.findings import DETECTION, CheckResult, FindingLog, Report
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
    from seedbed_schemas.clauses import Level

    from seedbed_contract.checks import Check
    from seedbed_contract.detection import DetectedService
    from seedbed_contract.target import Target


DEFAULT_TIME_LIMIT: Final = 60.0
"""Default time limit of a run in seconds."""
OUT_OF_TIME: Final = "the time limit of the run passed; raise it with --time-limit"
_SPACE_BITS: Final = 64
_MOCK_FAIL_PROMPT: Final = "[[fault: task.fail]]"
"""A prompt that makes a task fail on Seedbed's mock server."""


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of a run.

    Attributes:
        seed: Seed of everything that is drawn at random.
        max_examples: Number of random requests of each search.
        time_limit: Time limit of the run in seconds.
        only: Patterns for the names of the checks to run; empty for all checks.
        contract: Contract to check against.
        example_database: Hypothesis database for what the searches find; ``None`` to store nothing.
        is_exclusive: Whether no one else uses the account during the run.
        fail_on: The weakest level of a finding that makes the run fail.
    """

    seed: int = 0
    max_examples: int = 100
    time_limit: float = DEFAULT_TIME_LIMIT
    only: tuple[str, ...] = ()
    contract: Contract = field(default_factory=default_contract)
    example_database: ExampleDatabase | None = None
    is_exclusive: bool = True
    fail_on: Level = "error"

    def checks(self) -> list[Check]:
        """Return the selected checks, in the order of the run.

        Raises:
            TargetError: A pattern matches no check.
        """
        names = [check.name for check in CHECKS]
        for pattern in self.only:
            if not fnmatch.filter(names, pattern):
                raise TargetError(f"No check matches {pattern!r}. Checks: {', '.join(names)}.")
        return [
            check
            for check in CHECKS
            if not self.only or any(fnmatch.fnmatchcase(check.name, pattern) for pattern in self.only)
        ]


class Run:
    """A run against one target. Use it as a context manager.

    Args:
        target: Server to check.
        options: Settings of the run.

    Raises:
        CannotCheckError: On entry: the target does not respond, or it refuses the key.
    """

    def __init__(self, target: Target, options: Options) -> None:
        self.target, self.options = target, options
        self._started = time.monotonic()
        self._results: list[CheckResult] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.transport = stack.enter_context(HttpTransport(self.target.base_url, self.options.time_limit))
            builder = RequestBuilder(self.options.contract, bearer(self.options.contract, self.target.key))
            service = detect(self.transport, builder, self.target)
            self._is_readable = service.is_readable
            if service.is_mock_server:
                # A space of its own keeps the run away from the accounts and the balance of other users.
                name = f"check-{random.SystemRandom().getrandbits(_SPACE_BITS):016x}"
                builder = builder.with_extra(((local.SPACE_HEADER, name),))
            self.session = self._start_session(stack, builder, service)
            self._check_detection(service)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run_check(self, check: Check) -> CheckResult:
        """Run one check, preceded by the first tasks if it needs tasks."""
        session, log, started = self.session, self.session.log, time.monotonic()
        session.check = check.name
        exercised = log.exercised
        if not self._is_readable:
            session.mark_unchecked("no response of the target is a JSON object")
        else:
            try:
                if check.makes_tasks and not session.has_requested_tasks and check.run is not check_valid_requests:
                    check_valid_requests(session)
                check.run(session)
                tasks.poll_pending(session)
            except OutOfTimeError:
                session.mark_unchecked(OUT_OF_TIME)
            except BudgetExceededError:
                session.mark_unchecked("it would cost credits; allow them with --spend")
        reason = next((entry.reason for entry in log.not_checked if entry.subject == check.name), "")
        result = CheckResult(
            name=check.name,
            about=check.about,
            seconds=time.monotonic() - started,
            findings=log.count_of(check.name),
            reason=reason,
            # A check that stopped early still counts if it exercised any clause before.
            is_checked=not reason or log.exercised > exercised,
        )
        self._results.append(result)
        return result

    def report(self) -> Report:
        """Return the report of the checks that have been run."""
        session, log = self.session, self.session.log
        return Report(
            target=self.target.base_url,
            dialect=session.expected.dialect.title,
            http_status=session.expected.http_status,
            seed=self.options.seed,
            requests=self.transport.sent,
            seconds=time.monotonic() - self._started,
            tasks=session.budget.created + session.budget.wrongly_created,
            spent=float(session.budget.charged if session.budget.is_free else session.budget.spent),
            findings=log.findings,
            checks=list(self._results),
            not_checked=log.not_checked,
            coverage=log.coverage,
            remarks=list(log.remarks),
            fail_on=self.options.fail_on,
        )

    def _start_session(self, stack: ExitStack, builder: RequestBuilder, service: DetectedService) -> Session:
        target, options = self.target, self.options
        # A target cannot be asked for a callback if the contract has no field for it.
        can_ask = job_api().fields.callback in options.contract.part("request").get("properties", {})
        callback_host = (target.callback_host or ("127.0.0.1" if target.is_local else "")) if can_ask else ""

        def fetch_record(_path: str, body: bytes) -> Any:
            """Return the record of the task that a callback names, as it is when the callback arrives."""
            try:
                task_id = json.loads(body)["data"]["taskId"]
                return self.transport.send(builder.record(str(task_id))).data
            except (OutOfTimeError, ValueError, KeyError, TypeError, RecursionError):
                return None

        receiver = stack.enter_context(Receiver(callback_host, on_request=fetch_record)) if callback_host else None
        return Session(
            target=target,
            transport=self.transport,
            builder=builder,
            expected=service.expected,
            log=FindingLog(options.contract, breakable_clauses(options.contract)),
            budget=Budget(profile_of(options.contract).credits, target.spend_limit),
            capabilities=detect_capabilities(self.transport, builder, service),
            callback_addresses=CallbackAddresses(receiver),
            fail_prompt=target.fail_prompt or (_MOCK_FAIL_PROMPT if service.is_mock_server else ""),
            seed=options.seed,
            max_examples=options.max_examples,
            example_database=options.example_database,
            # On the mock server, a run has accounts of its own.
            is_exclusive=options.is_exclusive or service.is_mock_server,
        )

    def _check_detection(self, service: DetectedService) -> None:
        """Check the responses to the first requests, and that the target has the required capabilities."""
        session = self.session
        session.check = DETECTION
        for remark in service.remarks:
            session.log.add_remark(remark)
        # A run of selected checks reports only on these, unless no response at all can be read.
        if not self.options.only or not service.is_readable:
            for clause, exchange in service.exchanges:
                session.check_form(exchange)
                if clause:
                    session.count_wrongly_accepted(exchange)
                    check_violation(session, exchange, clause, "")
        # All checks will be skipped then, so this shows at least the form of the response to a valid request.
        if not service.is_readable and session.budget.is_free:
            session.send(session.builder.create(accepted(session.builder.contract)[0].request), once=True)
        session.fetch_balance()
        for name in sorted(self.target.required - session.capabilities - {"callbacks"}):
            probe = CAPABILITY_PROBES.get(name, CAPABILITY_PROBES["credit"])
            exchange = session.send(probe(session.builder), strict=False)
            title = f"the target does not support {name}, which is required"
            session.report([Defect(CAPABILITY_CLAUSES[name], title)], exchange)


def run_checks(target: Target, options: Options, on_check: Callable[[Check], object] = lambda _: None) -> Report:
    """Run the selected checks and return the report.

    Args:
        target: Server to check.
        options: Settings of the run.
        on_check: Called with each check before it is run.

    Raises:
        CannotCheckError: The target does not respond, or it refuses the key.
    """
    with Run(target, options) as run:
        for check in options.checks():
            on_check(check)
            run.run_check(check)
        return run.report()
