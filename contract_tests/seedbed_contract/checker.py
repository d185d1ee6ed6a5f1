"""A run of the checker: detect the service, run the checks that were selected, and report."""

from __future__ import annotations

import fnmatch
import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.profile import profile_of

from seedbed_contract import tasks
from seedbed_contract.callback_receiver import CallbackAddresses, Receiver
from seedbed_contract.cases import accepted, raw, refused, wrong_keys
from seedbed_contract.checks import CHECKS
from seedbed_contract.detection import detect, detect_capabilities
from seedbed_contract.findings import DETECTION, CheckResult, FindingLog, Report, Stop
from seedbed_contract.http import HttpTransport, OutOfTimeError, RequestBuilder, bearer
from seedbed_contract.limits import Budget, BudgetExceededError
from seedbed_contract.session import Session, random_space
from seedbed_contract.strategies import breakable_clauses
from seedbed_contract.target import TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
        max_failures: Number of findings that make the run fail after which it stops; 0 for no limit.
        known: Identities of the findings of the baseline.
    """

    seed: int = 0
    max_examples: int = 100
    time_limit: float = DEFAULT_TIME_LIMIT
    only: tuple[str, ...] = ()
    contract: Contract = field(default_factory=default_contract)
    example_database: ExampleDatabase | None = None
    is_exclusive: bool = True
    fail_on: Level = "error"
    max_failures: int = 0
    known: frozenset[str] = frozenset()

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
        self.checks = options.checks()
        self.stop: Stop | None = None
        self._started = time.monotonic()
        self._results: list[CheckResult] = []
        self._is_detected = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.transport = stack.enter_context(HttpTransport(self.target.base_url, self.options.time_limit))
            builder = RequestBuilder(self.options.contract, bearer(self.options.contract, self.target.key))
            service = detect(self.transport, builder, self.target)
            self._is_readable = service.is_readable
            if service.is_mock_server:
                # A space of its own keeps the run away from the accounts and the balance of other users.
                builder = builder.with_extra(((local.SPACE_HEADER, random_space()),))
            self.session = self._start_session(stack, builder, service)
            self._is_detected = True
            self._begin(service)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run_check(self, check: Check) -> CheckResult:
        """Run one check, after what it needs."""
        session, log, started = self.session, self.session.log, time.monotonic()
        session.check, log.judged = check.name, 0
        if not self._is_readable and check.name != DETECTION:
            session.mark_unchecked("no response of the target is a JSON object")
        else:
            try:
                check.prepare(session)
                check.run(session)
                tasks.poll_pending(session)
            except OutOfTimeError:
                session.mark_unchecked(OUT_OF_TIME)
                self.stop = Stop("time", OUT_OF_TIME)
            except BudgetExceededError:
                session.mark_unchecked("it would cost credits; allow them with --spend")
        if not session.log.judged and not log.notes_of(check.name):
            session.mark_unchecked("there was nothing to judge")
        self._results.append(self._result_of(check, time.monotonic() - started))
        return self._results[-1]

    def _result_of(self, check: Check, seconds: float) -> CheckResult:
        log = self.session.log
        seen = log.seen_by(check.name)
        return CheckResult(
            name=check.name,
            about=check.about,
            seconds=seconds,
            findings=len(seen),
            reason=log.notes_of(check.name),
            is_checked=self.session.log.judged > 0,
            seen=tuple(sorted(finding.identity for finding in seen)),
        )

    def has_failed_enough(self) -> bool:
        """Return whether the run is to end early because of its findings, and note why."""
        levels, most = {"error", self.options.fail_on}, self.options.max_failures
        failures = [found for found in self.session.log.findings if found.level in levels]
        failures = [found for found in failures if found.identity not in self.options.known]
        is_enough = 0 < most <= len(failures) and len(self._results) < len(self.checks)
        if is_enough:
            self.stop = Stop("failures", f"--max-failures {most} was reached")
        return is_enough

    def report(self) -> Report:
        """Return the report of the checks that have been run; if the run was stopped, the others are skipped."""
        target, seconds = self.target, time.monotonic() - self._started
        if not self._is_detected:
            unknown = Report(target.base_url, target.dialect, target.http_status, self.options.seed, seconds=seconds)
            return replace(unknown, fail_on=self.options.fail_on, stop=self.stop)
        session, log = self.session, self.session.log
        checks = [*self._results, *(self._unfinished(self.stop) if self.stop else ())]
        return Report(
            target=target.base_url,
            dialect=session.expected.dialect.title,
            http_status=session.expected.http_status,
            seed=self.options.seed,
            requests=self.transport.sent,
            seconds=seconds,
            tasks=sum(budget.tasks for budget in (session.budget, *session.other_budgets)),
            spent=float(session.budget.charged if session.budget.is_free else session.budget.spent)
            + float(sum(budget.price * budget.tasks for budget in session.other_budgets)),
            findings=log.findings,
            checks=checks,
            not_checked=log.not_checked,
            coverage=log.coverage,
            remarks=list(log.remarks),
            fail_on=self.options.fail_on,
            stop=self.stop,
            undecided=session.undecided,
        )

    def _unfinished(self, stop: Stop) -> Iterator[CheckResult]:
        """Yield the results of the checks that a stop left, the first of which it may have cut short."""
        done = {result.name for result in self._results}
        for check in (check for check in self.checks if check.name not in done):
            is_begun = check.name == self.session.check
            self.session.log.mark_unchecked(check.name, f"{'not finished' if is_begun else 'not run'}: {stop.reason}")
            result = self._result_of(check, 0.0)
            yield result if is_begun else replace(result, is_checked=False)

    def _start_session(self, stack: ExitStack, builder: RequestBuilder, service: DetectedService) -> Session:
        target, options = self.target, self.options
        # A target cannot be asked for a callback if the contract has no field for it.
        can_ask = job_api().fields.callback in options.contract.part("request").get("properties", {})
        callback_host = target.callback_host or ("127.0.0.1" if target.is_local else "")
        if not can_ask or "callbacks" in target.absent:
            callback_host = ""

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
            log=FindingLog(
                options.contract,
                breakable_clauses(options.contract),
                service.expected.absent_clauses(target.signing_key),
            ),
            budget=Budget(profile_of(options.contract).credits, target.spend_limit),
            capabilities=detect_capabilities(self.transport, builder, service, target.absent),
            service=service,
            callback_addresses=CallbackAddresses(receiver),
            fail_prompt=target.fail_prompt or (_MOCK_FAIL_PROMPT if service.is_mock_server else ""),
            seed=options.seed,
            max_examples=options.max_examples,
            example_database=options.example_database,
            # On the mock server, a run has accounts of its own.
            is_exclusive=options.is_exclusive or service.is_mock_server,
        )

    def _begin(self, service: DetectedService) -> None:
        """Note what was detected, and read the first balance."""
        session = self.session
        session.check = DETECTION
        for remark in service.remarks:
            session.log.add_remark(remark)
        # On this machine, tasks cost nothing; elsewhere, every task that was made so far counts.
        for clause, exchange in service.exchanges:
            if clause and not session.target.is_local:
                session.count_wrongly_accepted(exchange)
        session.fetch_balance()
        # A run of selected checks reports only on these, unless a capability is required or nothing can be read.
        is_due = self.target.required or not service.is_readable
        if is_due and all(check.name != DETECTION for check in self.checks):
            self.checks = [check for check in CHECKS if check.name == DETECTION] + self.checks


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
        for check in run.checks:
            on_check(check)
            run.run_check(check)
        return run.report()


# What a run may send


def max_tasks(target: Target, options: Options) -> int | None:
    """Return the number of tasks that a run may create; ``None`` if tasks cost nothing."""
    limit = target.spend_limit
    return None if limit is None else Budget(profile_of(options.contract).credits, limit).remaining_tasks


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """A request of a run, or several requests of one kind.

    Attributes:
        check: Name of the check that sends it.
        case: Name of the case.
        expected: Expected response.
    """

    check: str
    case: str
    expected: str


def planned_requests(target: Target, options: Options) -> Iterator[PlannedRequest]:
    """Yield the requests of the selected checks that are known before a run, in the order of the checks."""
    contract = options.contract
    bodies, keys = raw(contract), wrong_keys(target.key, contract=contract)
    rows = [("requests.refused", case.name, f"refused, because it breaks {case.clause}") for case in refused(contract)]
    invalid = "refused, because the body is not a valid request"
    rows += [("requests.raw", body.name, invalid) for body in bodies if body.expected == "refuse"]
    rows += [
        ("authorisation.keys", key.name, "refused, because the key is wrong")
        for key in keys
        if key.expected == "refuse"
    ]
    if target.is_local:
        rows.append(("search.violations", f"up to {options.max_examples} random violations", "refused"))
    if max_tasks(target, options) != 0:
        valid, packed = accepted(contract, callback="http://127.0.0.1"), "accepted, several cases in one request"
        rows += [("requests.accepted", case.name, packed) for case in valid]
        rows += [("requests.more", body.name, packed) for body in bodies if body.expected == "accept"]
    if target.is_local:
        rows.append(("search.requests", f"up to {options.max_examples} random requests", "accepted"))
    selected = {check.name for check in options.checks()}
    yield from (PlannedRequest(*row) for row in rows if row[0] in selected)
