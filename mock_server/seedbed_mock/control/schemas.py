"""What travels over the control API; its OpenAPI document is made from these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from seedbed_mock.accounts import SPACE_NAME
from seedbed_mock.clock import LARGEST_ADVANCE
from seedbed_mock.faults.engine import MAX_RULES
from seedbed_mock.handlers import parse_json
from seedbed_mock.responses import ServiceError
from seedbed_mock.tasks import (
    DeliveryAttempt,
    Failure,
    Outcome,
    record,
)

if TYPE_CHECKING:
    from decimal import Decimal

    from seedbed_schemas.dialect import Dialect

    from seedbed_mock.accounts import Account
    from seedbed_mock.faults.engine import ActiveRule, FaultEngine
    from seedbed_mock.faults.scenarios import ScenarioRunner
    from seedbed_mock.journal import JournalEntry
    from seedbed_mock.tasks import Task


_Limit = Annotated[int, Meta(ge=1, le=1000, description="At most so many, the newest.")]


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller sends: a name that is not known is a mistake, not something to pass over."""


class InSpace(Input, frozen=True):
    """Where to look.

    Attributes:
        space: Name of a space.
    """

    space: (
        Annotated[str, Meta(pattern=f"^{SPACE_NAME}$", description="Name of a space; all of them where none is named.")]
        | None
    ) = None


class JournalQuery(InSpace, frozen=True):
    """Which entries of the journal to list; each filter narrows it."""

    kind: Literal["call", "callback"] | None = None
    operation: str | None = None
    account: Annotated[str, Meta(description="Fingerprint of a key.")] | None = None
    task_id: str | None = None
    code: Annotated[int, Meta(description="The code in the answer's body.")] | None = None
    violation: Annotated[str, Meta(description="Clause of the contract that the request broke.")] | None = None
    since: Annotated[int, Meta(description="Unix milliseconds; nothing older.")] = 0
    limit: _Limit = 100


class TaskQuery(InSpace, frozen=True):
    """Which tasks to list."""

    state: Annotated[str, Meta(description="As the record has it.")] | None = None
    limit: _Limit = 100


class CallbackQuery(InSpace, frozen=True):
    """Which callbacks to list."""

    outcome: Outcome | None = None
    limit: _Limit = 100


class NoInput(Input, frozen=True):
    """No more to say."""


class AdvanceRequest(Input, frozen=True):
    """By how much to turn the clock."""

    advance: Annotated[float, Meta(ge=0, le=LARGEST_ADVANCE, description="In seconds.")]


class FailRequest(Input, frozen=True):
    """How a task shall fail; what is left out is as was seen of the service."""

    code: Annotated[str | int, Meta(description="What the record has as failCode.")] | None = None
    message: Annotated[str, Meta(description="What the record has as failMsg.")] | None = None


class TopUpRequest(Input, frozen=True):
    """What to add to a balance."""

    credits: Annotated[float, Meta(ge=0)]


class ResetRequest(InSpace, frozen=True):
    """What to begin afresh."""


class VerifyRequest(InSpace, frozen=True):
    """What should have been called: an operation, how, and how often; at least once where nothing else is said."""

    operation: str = "createTask"
    times: Annotated[int, Meta(ge=0, description="Exactly so often.")] | None = None
    at_least: Annotated[int, Meta(ge=0)] | None = None
    at_most: Annotated[int, Meta(ge=0)] | None = None
    request: Annotated[Any, Meta(description="Values that the request's body had, among others.")] = {}
    code: Annotated[int, Meta(description="The code in the answer's body.")] | None = None
    account: Annotated[str, Meta(description="Fingerprint of the key.")] | None = None


class FaultQuery(InSpace, frozen=True):
    """Which rules to take out of force; all that were added here where nothing is said."""

    number: Annotated[int, Meta(ge=1, description="Of a rule, as GET shows it.")] | None = None


class NewFaults(InSpace, frozen=True, kw_only=True):
    """Rules to put in force: all of them, or none where one is none."""

    rules: Annotated[list[str], Meta(min_length=1, max_length=MAX_RULES, description="Such as 429; p=0.2")]


class FieldDifference(msgspec.Struct, frozen=True):
    """One way in which a call was not what was looked for; ``found`` is left out where there was nothing."""

    where: str
    expected: Any
    found: Any = msgspec.UNSET


class NearMiss(msgspec.Struct, frozen=True):
    """A call that was nearly what was looked for."""

    entry: int
    differences: list[FieldDifference]


class Verdict(msgspec.Struct, frozen=True):
    """Whether what should have been called was."""

    verified: bool
    matched: int
    message: str
    near_misses: list[NearMiss]


class Health(msgspec.Struct, frozen=True):
    """That the server answers, and who it is."""

    status: Literal["ok"]
    version: str
    dialect: str
    spaces: list[str]
    errors: Annotated[int, Meta(description="How often the server itself was at fault.")]


class ClockInfo(msgspec.Struct, frozen=True):
    """What the clock shows."""

    now: Annotated[int, Meta(description="Unix milliseconds.")]
    speed: Annotated[float, Meta(description="How many of its seconds pass in a real one.")]


class JournalItem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened; bodies are JSON values where they are JSON, and text where not."""

    number: int
    at: Annotated[int, Meta(description="Unix milliseconds.")]
    kind: Literal["call", "callback"]
    space: str
    operation: str
    account: Annotated[str, Meta(description="Fingerprint of the key, empty where it was refused.")]
    method: str
    target: str
    request: Any
    code: int | None
    status: Annotated[int, Meta(description="HTTP status, null where there was no answer.")] | None
    case: str
    answer: Any
    violations: list[str]
    fault: str
    task_id: str
    attempt: int


class JournalList(msgspec.Struct, frozen=True):
    """Entries of the journal, oldest first."""

    entries: list[JournalItem]


class CallbackInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One callback, and what came of it."""

    task_id: str
    space: str
    url: str
    outcome: Outcome
    due: int | None
    attempts: list[DeliveryAttempt]


class CallbackList(msgspec.Struct, frozen=True):
    """Callbacks, those of the newest tasks first."""

    callbacks: list[CallbackInfo]


class TaskInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One task: its record as the service shows it, and what the service would not tell."""

    task_id: str
    space: str
    account: str
    state: str
    ends: Annotated[int, Meta(description="When it ends, in Unix milliseconds; null where nobody knows yet.")] | None
    price: float
    failure: Annotated[Failure, Meta(description="Why it fails in the end.")] | None
    refunded: bool
    record: Annotated[dict[str, Any], Meta(description="The record as the service shows it.")]
    callback: CallbackInfo | None


class TaskList(msgspec.Struct, frozen=True):
    """Tasks, newest first."""

    tasks: list[TaskInfo]


class AccountInfo(msgspec.Struct, frozen=True):
    """One account."""

    account: Annotated[str, Meta(description="Fingerprint of its key.")]
    space: str
    balance: float
    signs: Annotated[bool, Meta(description="Whether its callbacks are signed.")]


class AccountList(msgspec.Struct, frozen=True):
    """Accounts, in the order in which their keys were given."""

    accounts: list[AccountInfo]


class FaultInfo(msgspec.Struct, frozen=True):
    """One rule, and what came of it."""

    number: int
    rule: str
    source: Annotated[Literal["scenario", "control"], Meta(description="How it came in.")]
    space: Annotated[str, Meta(description="Whose calls it is for; null for all.")] | None
    on: Annotated[bool, Meta(description="Whether it is in force, or waits for its phase.")]
    seen: Annotated[int, Meta(description="How many calls it applied to, before shares and counts.")]
    hits: Annotated[int, Meta(description="How many of them it broke.")]


class ScenarioInfo(msgspec.Struct, frozen=True):
    """The scenario that is played."""

    name: str
    description: str
    phase: Annotated[str, Meta(description="Null where the last one is over.")] | None
    problem: Annotated[str, Meta(description="Why its file as it is now is not what is played.")] | None


class FaultList(msgspec.Struct, frozen=True):
    """The rules, in the order in which a call is held against them: the first that it meets is the one."""

    faults: list[FaultInfo]
    scenario: ScenarioInfo | None


class Confirmation(msgspec.Struct, frozen=True):
    """That it is done."""

    done: bool = True


class Problem(msgspec.Struct, frozen=True):
    """Why it was not done, in one sentence."""

    error: str


def account_info(account: Account, balance: Decimal) -> AccountInfo:
    """Return an account with its balance."""
    return AccountInfo(account.name, account.space, float(balance), bool(account.signing_key))


def callback_info(task: Task) -> CallbackInfo | None:
    """Return the callback of a task, ``None`` where it has none."""
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


def fault_list(engine: FaultEngine, player: ScenarioRunner | None, space: str | None) -> FaultList:
    """Return the rules in force for a space, or all, and what is played."""
    # The phase first, for it decides which rules are on.
    scenario = _scenario_info(player) if player else None
    return FaultList([_fault_info(each) for each in engine if space in (None, each.scope)], scenario)


def _scenario_info(player: ScenarioRunner) -> ScenarioInfo:
    phase = player.phase
    return ScenarioInfo(player.name, player.scenario.description, phase or None, player.problem or None)


def _fault_info(standing: ActiveRule) -> FaultInfo:
    source: Any = standing.source
    return FaultInfo(
        number=standing.number,
        rule=str(standing.rule),
        source=source,
        space=standing.scope or None,
        on=standing.is_enabled,
        seen=standing.seen,
        hits=standing.hits,
    )


def task_info(task: Task, now: int, dialect: Dialect) -> TaskInfo:
    """Return a task as it is at that time, in Unix milliseconds."""
    return TaskInfo(
        task_id=task.task_id,
        space=task.space,
        account=task.account,
        state=task.state(now),
        ends=task.ends,
        price=float(task.price),
        failure=task.failure,
        refunded=task.is_refunded,
        record=record(task, now, dialect=dialect),
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
        request=value_of(entry.request),
        code=entry.code,
        status=entry.status,
        case=entry.case,
        answer=value_of(entry.answer),
        violations=list(entry.violations),
        fault=entry.fault,
        task_id=entry.task_id,
        attempt=entry.attempt,
    )


def value_of(content: bytes) -> Any:
    """Return what a body says where it is JSON that the service would take, and its text where it is not."""
    if not content:
        return None
    try:
        return parse_json(content)[0]
    except ServiceError:
        return content.decode(errors="replace")
