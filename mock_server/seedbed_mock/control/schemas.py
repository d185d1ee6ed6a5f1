"""The requests and responses of the control API, from which its OpenAPI document is generated.

The functions at the end convert the server's own values to responses.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta

from seedbed_mock.accounts import SPACE_NAME
from seedbed_mock.clock import LARGEST_ADVANCE
from seedbed_mock.faults.engine import MAX_RULES
from seedbed_mock.request_body import parse_json
from seedbed_mock.responses import ServiceError
from seedbed_mock.stores.store import LARGEST_NUMBER
from seedbed_mock.tasks import DeliveryAttempt, Failure, Outcome, record

if TYPE_CHECKING:
    from decimal import Decimal

    from seedbed_mock.accounts import Account
    from seedbed_mock.bill import Bill
    from seedbed_mock.faults.engine import FaultEngine
    from seedbed_mock.faults.scenarios import ScenarioRunner
    from seedbed_mock.journal import Headers, JournalEntry
    from seedbed_mock.state import Service
    from seedbed_mock.tasks import Task


_Limit = Annotated[int, Meta(ge=1, le=1000, description="Largest number of items to list; the newest are listed.")]
_Before = Annotated[
    int, Meta(ge=1, le=LARGEST_NUMBER, description="Value of before in the previous response, to continue its list.")
]
_Next = Annotated[
    int, Meta(description="Value of the parameter before that continues the list; left out at the end of the list.")
]
_Milliseconds = Annotated[int, Meta(description="Unix time in milliseconds.")]
_Fingerprint = Annotated[str, Meta(description="Fingerprint of the key of an account.")]


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base class of queries and request bodies; unknown names are refused, because they are likely mistakes."""


class EmptyRequest(Input, frozen=True):
    """Empty request."""


class SpaceQuery(Input, frozen=True):
    """Selection of a space."""

    space: (
        Annotated[str, Meta(pattern=f"^{SPACE_NAME}$", description="Name of a space; default: all spaces.")] | None
    ) = None


class JournalQuery(SpaceQuery, frozen=True):
    """Filters for the entries of the journal; an entry has to meet all of them."""

    kind: Annotated[Literal["call", "callback", "unmatched"], Meta(description="Kind of the entries.")] | None = None
    operation: Annotated[str, Meta(description="Name of the operation, such as createTask.")] | None = None
    account: _Fingerprint | None = None
    task_id: Annotated[str, Meta(description="ID of a task.")] | None = None
    code: Annotated[int, Meta(description="Code in the body of the response.")] | None = None
    violation: Annotated[str, Meta(description="Contract clause that the request violated.")] | None = None
    since: Annotated[int, Meta(description="Earliest time of the entries, in Unix milliseconds.")] = 0
    before: _Before | None = None
    limit: _Limit = 100


class AccountQuery(SpaceQuery, frozen=True):
    """Selection of accounts."""

    after: (
        Annotated[
            int,
            Meta(ge=0, le=LARGEST_NUMBER, description="Value of after in the previous response, to continue its list."),
        ]
        | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=1000, description="Largest number of accounts to list.")] = 1000


class TaskQuery(SpaceQuery, frozen=True):
    """Filters for tasks."""

    state: Annotated[str, Meta(description="State, as the record of the task shows it.")] | None = None
    before: _Before | None = None
    limit: _Limit = 100


class CallbackQuery(SpaceQuery, frozen=True):
    """Filters for callbacks."""

    outcome: Annotated[Outcome, Meta(description="Outcome of the delivery.")] | None = None
    before: _Before | None = None
    limit: _Limit = 100


class FaultQuery(SpaceQuery, frozen=True):
    """Selection of the fault rules to remove; default: all rules that were added through the control API."""

    number: Annotated[int, Meta(ge=1, description="Number of a rule, as the list of rules shows it.")] | None = None


class AdvanceRequest(Input, frozen=True):
    """Time to add to the clock."""

    advance: Annotated[float, Meta(ge=0, le=LARGEST_ADVANCE, description="Time in seconds.")]


class FailRequest(Input, frozen=True):
    """How a task fails; the defaults are a code and a message that were observed on the real service."""

    code: Annotated[str | int, Meta(description="failCode of the record.")] | None = None
    message: Annotated[str, Meta(description="failMsg of the record.")] | None = None


class TopUpRequest(Input, frozen=True):
    """Credits to add to a balance."""

    credits: Annotated[float, Meta(ge=0, description="Number of credits.")]


class ResetRequest(SpaceQuery, frozen=True):
    """Space to reset."""


class NewFaults(SpaceQuery, frozen=True, kw_only=True):
    """Fault rules to add; if one of them is invalid, none is added."""

    rules: Annotated[list[str], Meta(min_length=1, max_length=MAX_RULES, description="Rules, such as 429; p=0.2")]


class ScenarioRequest(Input, frozen=True):
    """Scenario to play."""

    name: Annotated[str, Meta(description="Name of a built-in scenario.")]


class VerifyRequest(SpaceQuery, frozen=True):
    """Expected calls of an operation; by default at least one."""

    operation: Annotated[str, Meta(description="Name of the operation.")] = "createTask"
    times: Annotated[int, Meta(ge=0, description="Exact number of calls.")] | None = None
    at_least: Annotated[int, Meta(ge=0, description="Smallest number of calls.")] | None = None
    at_most: Annotated[int, Meta(ge=0, description="Largest number of calls.")] | None = None
    request: Annotated[
        Any, Meta(description="Values that the body of the request contains; it may contain other values, too.")
    ] = {}
    code: Annotated[int, Meta(description="Code in the body of the response.")] | None = None
    account: _Fingerprint | None = None


class FieldDifference(msgspec.Struct, frozen=True):
    """One difference between a call and the expected calls; ``found`` is left out if the call has no such field."""

    where: Annotated[str, Meta(description="Path of the field, such as input.prompt.")]
    expected: Any
    found: Any = msgspec.UNSET


class NearMiss(msgspec.Struct, frozen=True):
    """A call that differs from the expected calls in a few fields."""

    entry: Annotated[int, Meta(description="Number of its entry in the journal.")]
    differences: list[FieldDifference]
    hint: Annotated[str, Meta(description="For a request that matches no operation, what is wrong with it.")] = ""


class Verdict(msgspec.Struct, frozen=True):
    """Whether the expected calls were made."""

    verified: Annotated[bool, Meta(description="Whether the number of matching calls is as expected.")]
    matched: Annotated[int, Meta(description="Number of matching calls.")]
    message: Annotated[str, Meta(description="The result in one sentence, with the nearest call if calls are missing.")]
    near_misses: Annotated[list[NearMiss], Meta(description="The nearest calls if calls are missing, best first.")]


class Health(msgspec.Struct, frozen=True):
    """Status and version of the server."""

    status: Literal["ok"]
    version: Annotated[str, Meta(description="Version of Seedbed.")]
    dialect: Annotated[str, Meta(description="Dialect of the responses.")]
    spaces: Annotated[list[str], Meta(description="Names of the spaces in use.")]
    errors: Annotated[int, Meta(description="Number of internal errors of the server; each of them is a bug.")]
    upstream: Annotated[bool, Meta(description="Whether calls pass on to another service, as with a proxy.")]


class ClockInfo(msgspec.Struct, frozen=True):
    """The state of the clock."""

    now: _Milliseconds
    speed: Annotated[float, Meta(description="Seconds of the clock per real second; 0 if it advances only on request.")]


class JournalItem(msgspec.Struct, frozen=True, kw_only=True):
    """A call to the service, a callback or an unmatched request; bodies are JSON values if they are JSON, else text."""

    number: Annotated[int, Meta(description="Position in the journal of the server.")]
    at: _Milliseconds
    kind: Literal["call", "callback", "unmatched"]
    space: str
    operation: Annotated[str, Meta(description="Name of the operation; the kind if there is none.")]
    account: Annotated[str, Meta(description="Fingerprint of the key, empty if the key was refused.")]
    method: str
    target: Annotated[str, Meta(description="Path and query of a call; URL of a callback.")]
    headers: Annotated[dict[str, str], Meta(description="Headers of a call, with fingerprints in place of keys.")]
    request: Annotated[Any, Meta(description="Body of the request.")]
    code: Annotated[int, Meta(description="Code in the body of the response, null for a callback.")] | None
    status: Annotated[int, Meta(description="HTTP status, null if there was no response.")] | None
    case: Annotated[str, Meta(description="Name of the case in the dialect.")]
    answer: Annotated[Any, Meta(description="Body of the response; for a callback, why there was no response.")]
    violations: Annotated[list[str], Meta(description="Contract clauses that the request violated.")]
    fault: Annotated[str, Meta(description="Fault rule that applied, empty for none.")]
    task_id: Annotated[str, Meta(description="ID of the task, empty for none.")]
    attempt: Annotated[int, Meta(description="Number of the delivery attempt, 0 for a call.")]
    nearest: Annotated[str, Meta(description="Operation that an unmatched request was likely meant for, or empty.")]
    hint: Annotated[str, Meta(description="What is wrong with an unmatched request, if that is known.")]
    duration: Annotated[float, Meta(description="Milliseconds until the response was ready or the attempt had ended.")]
    handler: Annotated[str, Meta(description="Name of the handler that refused the request, empty if none did.")]
    reason: Annotated[str, Meta(description="Why the request was refused and what to do, empty if it was not.")]


class JournalList(msgspec.Struct, frozen=True):
    """The newest entries of the journal, oldest first; a page of a filtered list can be empty."""

    entries: list[JournalItem]
    before: _Next | msgspec.UnsetType = msgspec.UNSET


class CallbackInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A callback and its delivery attempts."""

    task_id: Annotated[str, Meta(description="ID of its task.")]
    space: str
    url: str
    outcome: Outcome
    due: Annotated[int, Meta(description="Time of the next attempt in Unix milliseconds, null for none.")] | None
    attempts: Annotated[list[DeliveryAttempt], Meta(description="The latest attempts, oldest first.")]


class CallbackList(msgspec.Struct, frozen=True):
    """Callbacks, those of the newest tasks first; a page of a filtered list can be empty."""

    callbacks: list[CallbackInfo]
    before: _Next | msgspec.UnsetType = msgspec.UNSET


class StateChange(msgspec.Struct, frozen=True):
    """A state of a task, and when the task enters it."""

    state: str
    at: Annotated[int, Meta(description="Unix time in milliseconds, null if it is not known.")] | None


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A task: its record as the service shows it, and properties that the service does not show."""

    task_id: str
    space: str
    account: _Fingerprint
    state: str
    timeline: Annotated[list[StateChange], Meta(description="Its states in their order.")]
    ends: Annotated[int, Meta(description="Time of its end in Unix milliseconds, null if it is not known.")] | None
    price: Annotated[float, Meta(description="Charged credits.")]
    failure: Annotated[Failure, Meta(description="Why it fails, null if it succeeds.")] | None
    refunded: Annotated[bool, Meta(description="Whether the price was refunded.")]
    record: Annotated[dict[str, Any], Meta(description="The record as the service shows it.")]
    callback: CallbackInfo | None


class TaskList(msgspec.Struct, frozen=True):
    """Tasks, newest first; a page of a filtered list can be empty."""

    tasks: list[TaskInfo]
    before: _Next | msgspec.UnsetType = msgspec.UNSET


class AccountInfo(msgspec.Struct, frozen=True):
    """An account."""

    account: _Fingerprint
    space: str
    balance: Annotated[float, Meta(description="Balance in credits.")]
    signs: Annotated[bool, Meta(description="Whether its callbacks are signed.")]


class AccountList(msgspec.Struct, frozen=True):
    """Accounts, in the order in which their keys were given."""

    accounts: list[AccountInfo]
    after: (
        Annotated[
            int, Meta(description="Value of the parameter after that continues the list; left out at the end of it.")
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class BillInfo(msgspec.Struct, frozen=True):
    """What the calls would have cost, in credits."""

    credits: Annotated[float, Meta(description="The sum; failed tasks cost nothing.")]
    images: Annotated[int, Meta(description="Number of images.")]
    paid_twice: Annotated[float, Meta(description="Part of the sum paid for requests that had been paid for before.")]
    not_fetched: Annotated[float, Meta(description="Part of the sum paid for images that nobody fetched.")]
    lost: Annotated[float, Meta(description="Part of the sum charged for lost tasks.")]
    message: Annotated[str, Meta(description="The bill in one line.")]


class DifferenceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the service behind a proxy does and the contract does not say."""

    clause: Annotated[str, Meta(description="ID of the clause, or the place in the dialect.")]
    contract: Annotated[str, Meta(description="What the contract says.")]
    service: Annotated[str, Meta(description="What the service does.")]
    operation: Annotated[str, Meta(description="Operation in which it was seen first.")]
    count: Annotated[int, Meta(description="Number of exchanges in which it was seen.")]


class DifferenceList(msgspec.Struct, frozen=True):
    """Differences between a service and the contract, by clause; empty for the mock server itself."""

    differences: list[DifferenceInfo]


class FaultInfo(msgspec.Struct, frozen=True):
    """A fault rule and its counts."""

    number: Annotated[int, Meta(description="Number by which the rule can be removed.")]
    rule: str
    source: Annotated[Literal["scenario", "control"], Meta(description="Where the rule was given.")]
    space: Annotated[str, Meta(description="Space whose calls the rule applies to, null for all.")] | None
    on: Annotated[bool, Meta(description="Whether the rule is active; rules of a scenario are active in their phase.")]
    seen: Annotated[int, Meta(description="Number of calls that met its conditions except p, nth, every and times.")]
    hits: Annotated[int, Meta(description="Number of calls that the rule applied to.")]


class ScenarioInfo(msgspec.Struct, frozen=True):
    """The current scenario."""

    name: str
    description: str
    phase: Annotated[str, Meta(description="Name of the current phase, null after the last one.")] | None
    problem: Annotated[str, Meta(description="Why the changed scenario file cannot be played, null if it can.")] | None


class FaultList(msgspec.Struct, frozen=True):
    """The active rules, in the order in which a call is compared with them; the first match applies."""

    faults: list[FaultInfo]
    scenario: ScenarioInfo | None


class Confirmation(msgspec.Struct, frozen=True):
    """Confirmation."""

    done: bool = True


class Problem(msgspec.Struct, frozen=True):
    """Why the request failed."""

    error: Annotated[str, Meta(description="The reason in one sentence.")]


def account_info(account: Account, balance: Decimal) -> AccountInfo:
    """Return an account and its balance."""
    return AccountInfo(account.name, account.space, float(balance), bool(account.signing_key))


def bill_info(bill: Bill) -> BillInfo:
    """Return a bill with its numbers and as text."""
    return BillInfo(
        float(bill.credits),
        bill.images,
        float(bill.paid_twice),
        float(bill.not_fetched),
        float(bill.lost),
        bill.describe(),
    )


def callback_info(task: Task) -> CallbackInfo | None:
    """Return the callback of a task, or ``None`` if the task has none."""
    callback = task.callback
    if callback is None:
        return None
    return CallbackInfo(
        task_id=task.task_id,
        space=task.space,
        url=callback.url,
        outcome=callback.outcome,
        due=callback.due,
        attempts=list(callback.attempts),
    )


def fault_list(engine: FaultEngine, runner: ScenarioRunner | None, space: str | None) -> FaultList:
    """Return the active rules of a space, or of all spaces, and the scenario that is played."""
    scenario = None
    if runner:
        # First of all: asking for the phase may reload the file, and enables and disables rules.
        phase = runner.phase
        scenario = ScenarioInfo(runner.name, runner.scenario.description, phase or None, runner.problem or None)
    faults = [
        FaultInfo(
            number=active.number,
            rule=str(active.rule),
            source=cast("Any", active.source),
            space=active.scope or None,
            on=active.is_enabled,
            seen=active.seen,
            hits=active.hits,
        )
        for active in engine
        if space in (None, active.scope)
    ]
    return FaultList(faults, scenario)


called_url: ContextVar[str] = ContextVar("called_url", default="")
"""Base URL at which the control API was called; empty in a test that calls it without a socket."""


def task_info(task: Task, now: int, service: Service) -> TaskInfo:
    """Return a task of a service as it is at a time in Unix milliseconds."""
    return TaskInfo(
        task_id=task.task_id,
        space=task.space,
        account=task.account,
        state=task.state(now),
        timeline=[StateChange(state, at) for state, at in task.states()],
        ends=task.ends,
        price=float(task.price),
        failure=task.failure,
        refunded=task.is_refunded,
        record=record(
            task, now, dialect=service.dialect, base_url=service.url_for_clients(called_url.get() or task.base_url)
        ),
        callback=callback_info(task),
    )


def journal_item(entry: JournalEntry, space: str) -> JournalItem:
    """Return an entry of the journal of a space."""
    return JournalItem(
        number=entry.number,
        at=entry.at,
        kind=entry.kind,
        space=space,
        operation=entry.operation,
        account=entry.account,
        method=entry.method,
        target=entry.target,
        headers=_joined(entry.headers.fields),
        request=body_value(entry.request),
        code=entry.code,
        status=entry.status,
        case=entry.case,
        answer=body_value(entry.answer),
        violations=list(entry.violations),
        fault=entry.fault,
        task_id=entry.task_id,
        attempt=entry.attempt,
        nearest=entry.nearest,
        hint=entry.hint,
        duration=entry.duration,
        handler=entry.handler,
        reason=entry.reason,
    )


def _joined(headers: Headers) -> dict[str, str]:
    """Return headers by their names, with several values of one name as HTTP joins them."""
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def body_value(content: bytes) -> Any:
    """Return a body as a JSON value, or as text if the service would not accept it as JSON."""
    if not content:
        return None
    try:
        return parse_json(content)[0]
    except ServiceError:
        return content.decode(errors="replace")
