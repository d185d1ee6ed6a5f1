"""What each operation of the control API does."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec.structs import replace
from seedbed_schemas import __version__
from seedbed_schemas.refusals import shown

from seedbed_mock.control.shapes import (
    Accounts,
    AccountShown,
    Callbacks,
    ClockShown,
    Done,
    Faults,
    Health,
    Journalled,
    Tasks,
    TaskShown,
)
from seedbed_mock.control.shown import account_shown, callback_shown, entry_shown, faults_shown, task_shown
from seedbed_mock.control.verify import verify
from seedbed_mock.faults.engine import MOST_RULES
from seedbed_mock.journal import CALLBACK
from seedbed_mock.spaces import DEFAULT_SPACE
from seedbed_mock.tasks import Failure, ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from seedbed_mock.accounts import Account
    from seedbed_mock.callbacks.courier import Courier
    from seedbed_mock.control.shapes import (
        CallbackQuery,
        CallbackShown,
        Fail,
        FaultQuery,
        InSpace,
        JournalQuery,
        NewFaults,
        Nothing,
        Reset,
        TaskQuery,
        TopUp,
        Turn,
        Verdict,
        Verification,
    )
    from seedbed_mock.journal import Entry
    from seedbed_mock.service import Service
    from seedbed_mock.tasks import Task

_SCANNED_TASKS = 10_000


class Unknown(Exception):
    """There is no such thing; the message is one sentence."""


class Conflict(Exception):
    """It cannot be done as things are; the message is one sentence."""


class Control:
    """The operations on one fake; each takes the names in its path, its query and its body.

    Args:
        service: The fake's service.
        courier: Who delivers its callbacks.
        operations: Names of what may be called of it.
    """

    def __init__(self, service: Service, courier: Courier, operations: Iterable[str]) -> None:
        self._service = service
        self._courier = courier
        self._operations = (*operations, CALLBACK)

    async def health(self, _names: Mapping[str, str], _query: Nothing, _body: Nothing) -> Health:
        """Tell that the server answers, and who it is."""
        service = self._service
        names = [space.name for space in service.spaces.all()]
        return Health("ok", __version__, service.dialect.title, names, len(service.errors))

    async def clock(self, _names: Mapping[str, str], _query: Nothing, _body: Nothing) -> ClockShown:
        """Show the clock."""
        return ClockShown(self._service.now(), self._service.clock.speed)

    async def turn_clock(self, _names: Mapping[str, str], _query: Nothing, turn: Turn) -> ClockShown:
        """Turn the clock forward; callbacks that come due on the way are delivered, each at its time."""
        await self._courier.advance(turn.advance)
        return ClockShown(self._service.now(), self._service.clock.speed)

    async def journal(self, _names: Mapping[str, str], query: JournalQuery, _body: Nothing) -> Journalled:
        """List what happened, the latest at the end."""
        self._check_operation(query.operation)
        wanted = {
            name: value
            for name in ("kind", "operation", "account", "task_id", "code")
            if (value := getattr(query, name)) is not None
        }
        found = [
            entry_shown(entry, space)
            for space, entry in self._entries(query.space)
            if entry.at >= query.since
            and all(getattr(entry, name) == value for name, value in wanted.items())
            and (query.violation is None or query.violation in entry.violations)
        ]
        return Journalled(sorted(found, key=lambda entry: entry.number)[-query.limit :])

    def _check_operation(self, name: str | None) -> None:
        if name is not None and name not in self._operations:
            raise ValueError(f"there is no operation {shown(name)}, but {', '.join(self._operations)}")

    def _entries(self, space: str | None) -> Iterator[tuple[str, Entry]]:
        for each in self._service.spaces.all():
            if space in (None, each.name):
                yield from ((each.name, entry) for entry in each.journal)

    async def tasks(self, _names: Mapping[str, str], query: TaskQuery, _body: Nothing) -> Tasks:
        """List tasks, newest first."""
        now, states = self._service.now(), self._service.shared.states
        if query.state not in (None, *states.pending, states.success, states.failure):
            known = ", ".join((*states.pending, states.success))
            raise ValueError(f"a task is {known} or {states.failure}, not {shown(query.state)}")
        found = self._service.store.tasks(query.space, limit=_SCANNED_TASKS if query.state else query.limit)
        chosen = [task for task in found if query.state in (None, task.state(now))]
        return Tasks([task_shown(task, now, self._service.dialect) for task in chosen[: query.limit]])

    async def task(self, names: Mapping[str, str], _query: Nothing, _body: Nothing) -> TaskShown:
        """Show one task."""
        task = self._service.store.find(names["task_id"])
        return self._shown(task, names["task_id"])

    async def finish(self, names: Mapping[str, str], _query: Nothing, _body: Nothing) -> TaskShown:
        """End a task now, and well."""
        return await self._end(names["task_id"], None)

    async def fail(self, names: Mapping[str, str], _query: Nothing, fail: Fail) -> TaskShown:
        """Let a task fail now, which gives its price back."""
        known = self._service.shared.failures
        code = next(iter(known)) if fail.code is None else str(fail.code)
        message = known.get(code, next(iter(known.values()))) if fail.message is None else fail.message
        return await self._end(names["task_id"], Failure(code, message))

    async def _end(self, task_id: str, failure: Failure | None) -> TaskShown:
        now = self._service.now()
        task = await self._change(task_id, lambda task: ended(_unended(task, now), now, failure))
        if task and task.owes:
            task = self._paid_back(task)
        return self._shown(task, task_id)

    def _paid_back(self, task: Task) -> Task | None:
        """Return a task that owes its price once that was given back, which is when somebody looks at the balance."""
        account = self._service.spaces.named(task.space).account(task.account)
        if account:
            self._service.store.balance(account, self._service.now())
        return self._service.store.find(task.task_id)

    async def _change(self, task_id: str, changed: Callable[[Task], Task]) -> Task | None:
        self._service.store.change(task_id, changed)
        await self._courier.settle()
        return self._service.store.find(task_id)

    def _shown(self, task: Task | None, task_id: str) -> TaskShown:
        return task_shown(_known(task, task_id), self._service.now(), self._service.dialect)

    async def accounts(self, _names: Mapping[str, str], query: InSpace, _body: Nothing) -> Accounts:
        """List accounts, in the order in which their keys were given."""
        spaces = [space for space in self._service.spaces.all() if query.space in (None, space.name)]
        return Accounts([self._account(each) for space in spaces for each in space.accounts.values()])

    async def account(self, names: Mapping[str, str], query: InSpace, _body: Nothing) -> AccountShown:
        """Show one account."""
        return self._account(self._find_account(names, query))

    async def top_up(self, names: Mapping[str, str], query: InSpace, top_up: TopUp) -> AccountShown:
        """Add to a balance."""
        account = self._find_account(names, query)
        self._service.store.deposit(account, Decimal(str(top_up.credits)), self._service.now())
        return self._account(account)

    async def reset_account(self, names: Mapping[str, str], query: InSpace, _body: Nothing) -> AccountShown:
        """Open the balance of an account again, as at the start."""
        account = self._find_account(names, query)
        # What it is owed by now is part of the balance that ends here, and not to come on top of the one that opens.
        self._service.store.balance(account, self._service.now())
        self._service.store.reset(account.space, account.name)
        return self._account(account)

    def _account(self, account: Account) -> AccountShown:
        return account_shown(account, self._service.store.balance(account, self._service.now()))

    def _find_account(self, names: Mapping[str, str], query: InSpace) -> Account:
        space = query.space or DEFAULT_SPACE
        found = self._service.spaces.named(space).account(names["account"])
        if found is None:
            name = shown(names["account"])
            raise Unknown(f"There is no account {name} in the space {space}; GET accounts lists them.")
        return found

    async def callbacks(self, _names: Mapping[str, str], query: CallbackQuery, _body: Nothing) -> Callbacks:
        """List callbacks, those of the newest tasks first."""
        found = self._service.store.tasks(query.space, limit=_SCANNED_TASKS)
        callbacks = [callback for task in found if (callback := callback_shown(task))]
        return Callbacks([each for each in callbacks if query.outcome in (None, each.outcome)][: query.limit])

    async def redeliver(self, names: Mapping[str, str], _query: Nothing, _body: Nothing) -> CallbackShown:
        """Deliver the callback of a task once more, whatever became of it before."""
        now = self._service.now()
        task = await self._change(names["task_id"], lambda task: _asked_for(task, now))
        callback = callback_shown(_known(task, names["task_id"]))
        assert callback  # noqa: S101 (a task without a callback is in conflict)
        return callback

    async def faults(self, _names: Mapping[str, str], query: InSpace, _body: Nothing) -> Faults:
        """List the rules of what goes wrong, in their order, and the scenario that is played."""
        return self._faults(query.space)

    async def add_faults(self, _names: Mapping[str, str], _query: Nothing, new: NewFaults) -> Faults:
        """Put rules in force, for one space or for all, after those that are."""
        engine = self._service.faults
        rules = [engine.read(text) for text in new.rules]
        if sum(each.door == "control" for each in engine) + len(rules) > MOST_RULES:
            raise Conflict(f"At most {MOST_RULES} rules are in force at a time; DELETE faults makes room.")
        engine.add(rules, "control", new.space or "")
        return self._faults()

    async def clear_faults(self, _names: Mapping[str, str], query: FaultQuery, _body: Nothing) -> Faults:
        """Take rules out of force that were put there: all, those of a space, or one."""
        gone = self._service.faults.clear(door="control", scope=query.space, number=query.number)
        if query.number is not None and not gone:
            raise Unknown(f"There is no rule {query.number} that was added; GET faults lists them.")
        return self._faults()

    def _faults(self, space: str | None = None) -> Faults:
        return faults_shown(self._service.faults, self._service.player, space)

    async def reset(self, _names: Mapping[str, str], _query: Nothing, reset: Reset) -> Done:
        """Forget all that happened, in one space or everywhere."""
        self._service.reset(reset.space)
        return Done()

    async def verify(self, _names: Mapping[str, str], _query: Nothing, wanted: Verification) -> Verdict:
        """Tell whether a call was made as it should have been, and if not, what came nearest."""
        self._check_operation(wanted.operation)
        return verify(wanted, [entry for _, entry in self._entries(wanted.space)])


def _known(task: Task | None, task_id: str) -> Task:
    if task is None:
        raise Unknown(f"There is no task {shown(task_id)}.")
    return task


def _unended(task: Task, now: int) -> Task:
    if task.has_ended(now):
        raise Conflict(f"The task {task.task_id} has ended already.")
    return task


def _asked_for(task: Task, now: int) -> Task:
    if task.callback is None:
        raise Conflict(f"The task {task.task_id} was made without a callback URL.")
    if not task.has_ended(now):
        raise Conflict(f"The task {task.task_id} has not ended yet; its callback comes when it has.")
    return replace(task, callback=task.callback.asked_for(now))
