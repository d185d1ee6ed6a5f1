"""What the fake holds, as the control API shows it: no key, and nothing that could be used as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seedbed_mock.answers import Refusal
from seedbed_mock.bodies import parse_json
from seedbed_mock.control.shapes import (
    AccountShown,
    CallbackShown,
    EntryShown,
    Faults,
    FaultShown,
    ScenarioShown,
    TaskShown,
)
from seedbed_mock.tasks import record

if TYPE_CHECKING:
    from decimal import Decimal

    from seedbed_schemas.dialect import Dialect

    from seedbed_mock.accounts import Account
    from seedbed_mock.faults.engine import Engine, Standing
    from seedbed_mock.faults.player import Player
    from seedbed_mock.journal import Entry
    from seedbed_mock.tasks import Task


def account_shown(account: Account, balance: Decimal) -> AccountShown:
    """Return an account with its balance."""
    return AccountShown(account.name, account.space, float(balance), bool(account.signing_key))


def callback_shown(task: Task) -> CallbackShown | None:
    """Return the callback of a task, ``None`` where it has none."""
    callback = task.callback
    if callback is None:
        return None
    return CallbackShown(
        task_id=task.task_id,
        space=task.space,
        url=callback.url,
        outcome=callback.outcome,
        due=callback.due,
        attempts=list(callback.attempts),
    )


def faults_shown(engine: Engine, player: Player | None, space: str | None) -> Faults:
    """Return the rules in force for a space, or all, and what is played."""
    # The phase first, for it decides which rules are on.
    scenario = _scenario_shown(player) if player else None
    return Faults([_fault_shown(each) for each in engine if space in (None, each.scope)], scenario)


def _scenario_shown(player: Player) -> ScenarioShown:
    phase = player.phase
    return ScenarioShown(player.name, player.scenario.description, phase or None, player.problem or None)


def _fault_shown(standing: Standing) -> FaultShown:
    door: Any = standing.door
    return FaultShown(
        number=standing.number,
        rule=str(standing.rule),
        door=door,
        space=standing.scope or None,
        on=standing.is_on,
        seen=standing.seen,
        hits=standing.hits,
    )


def task_shown(task: Task, now: int, dialect: Dialect) -> TaskShown:
    """Return a task as it is at that time, in Unix milliseconds."""
    return TaskShown(
        task_id=task.task_id,
        space=task.space,
        account=task.account,
        state=task.state(now),
        ends=task.ends,
        price=float(task.price),
        failure=task.failure,
        refunded=task.is_refunded,
        record=record(task, now, dialect=dialect),
        callback=callback_shown(task),
    )


def entry_shown(entry: Entry, space: str) -> EntryShown:
    """Return an entry of the journal of a space."""
    return EntryShown(
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
    except Refusal:
        return content.decode(errors="replace")
