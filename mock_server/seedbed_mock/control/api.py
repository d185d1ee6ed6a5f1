"""What each operation of the control API does."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from seedbed_schemas import __version__
from seedbed_schemas.validation import for_display

from seedbed_mock.accounts import DEFAULT_SPACE
from seedbed_mock.control import schemas
from seedbed_mock.control.schemas import (
    AccountInfo,
    AccountList,
    CallbackList,
    ClockInfo,
    Confirmation,
    FaultList,
    Health,
    JournalList,
    TaskInfo,
    TaskList,
    account_info,
    callback_info,
    fault_list,
    journal_item,
    task_info,
)
from seedbed_mock.control.verify import verify
from seedbed_mock.faults.engine import MAX_RULES
from seedbed_mock.journal import CALLBACK
from seedbed_mock.settings import CONTROL_ROOT
from seedbed_mock.tasks import Failure, ended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from msgspec import Struct

    from seedbed_mock.accounts import Account
    from seedbed_mock.callbacks.dispatcher import CallbackDispatcher
    from seedbed_mock.control.schemas import (
        AdvanceRequest,
        CallbackInfo,
        CallbackQuery,
        FailRequest,
        FaultQuery,
        InSpace,
        JournalQuery,
        NewFaults,
        NoInput,
        ResetRequest,
        TaskQuery,
        TopUpRequest,
        Verdict,
        VerifyRequest,
    )
    from seedbed_mock.journal import JournalEntry
    from seedbed_mock.state import Service
    from seedbed_mock.tasks import Task


_SCANNED_TASKS = 10_000


class UnknownResourceError(Exception):
    """There is no such thing; the message is one sentence."""


class ConflictError(Exception):
    """It cannot be done as things are; the message is one sentence."""


class ControlApi:
    """The operations on one fake; each takes the names in its path, its query and its body.

    Args:
        service: The fake's service.
        courier: Who delivers its callbacks.
        operations: Names of what may be called of it.
    """

    def __init__(self, service: Service, courier: CallbackDispatcher, operations: Iterable[str]) -> None:
        self._service = service
        self._courier = courier
        self._operations = (*operations, CALLBACK)

    async def health(self, _names: Mapping[str, str], _query: NoInput, _body: NoInput) -> Health:
        """Tell that the server answers, and who it is."""
        service = self._service
        names = [space.name for space in service.spaces.all()]
        return Health("ok", __version__, service.dialect.title, names, len(service.errors))

    async def clock(self, _names: Mapping[str, str], _query: NoInput, _body: NoInput) -> ClockInfo:
        """Show the clock."""
        return ClockInfo(self._service.now(), self._service.clock.speed)

    async def turn_clock(self, _names: Mapping[str, str], _query: NoInput, turn: AdvanceRequest) -> ClockInfo:
        """Turn the clock forward; callbacks that come due on the way are delivered, each at its time."""
        await self._courier.advance(turn.advance)
        return ClockInfo(self._service.now(), self._service.clock.speed)

    async def journal(self, _names: Mapping[str, str], query: JournalQuery, _body: NoInput) -> JournalList:
        """List what happened, the latest at the end."""
        self._check_operation(query.operation)
        wanted = {
            name: value
            for name in ("kind", "operation", "account", "task_id", "code")
            if (value := getattr(query, name)) is not None
        }
        found = [
            journal_item(entry, space)
            for space, entry in self._entries(query.space)
            if entry.at >= query.since
            and all(getattr(entry, name) == value for name, value in wanted.items())
            and (query.violation is None or query.violation in entry.violations)
        ]
        return JournalList(sorted(found, key=lambda entry: entry.number)[-query.limit :])

    def _check_operation(self, name: str | None) -> None:
        if name is not None and name not in self._operations:
            raise ValueError(f"there is no operation {for_display(name)}, but {', '.join(self._operations)}")

    def _entries(self, space: str | None) -> Iterator[tuple[str, JournalEntry]]:
        for each in self._service.spaces.all():
            if space in (None, each.name):
                yield from ((each.name, entry) for entry in each.journal)

    async def tasks(self, _names: Mapping[str, str], query: TaskQuery, _body: NoInput) -> TaskList:
        """List tasks, newest first."""
        now, states = self._service.now(), self._service.shared.states
        if query.state not in (None, *states.pending, states.success, states.failure):
            known = ", ".join((*states.pending, states.success))
            raise ValueError(f"a task is {known} or {states.failure}, not {for_display(query.state)}")
        found = self._service.store.tasks(query.space, limit=_SCANNED_TASKS if query.state else query.limit)
        chosen = [task for task in found if query.state in (None, task.state(now))]
        return TaskList([task_info(task, now, self._service.dialect) for task in chosen[: query.limit]])

    async def task(self, names: Mapping[str, str], _query: NoInput, _body: NoInput) -> TaskInfo:
        """Show one task."""
        task = self._service.store.find(names["task_id"])
        return self._shown(task, names["task_id"])

    async def finish(self, names: Mapping[str, str], _query: NoInput, _body: NoInput) -> TaskInfo:
        """End a task now, and well."""
        return await self._end(names["task_id"], None)

    async def fail(self, names: Mapping[str, str], _query: NoInput, fail: FailRequest) -> TaskInfo:
        """Let a task fail now, which gives its price back."""
        known = self._service.shared.failures
        code = next(iter(known)) if fail.code is None else str(fail.code)
        message = known.get(code, next(iter(known.values()))) if fail.message is None else fail.message
        return await self._end(names["task_id"], Failure(code, message))

    async def _end(self, task_id: str, failure: Failure | None) -> TaskInfo:
        now = self._service.now()
        task = await self._change(task_id, lambda task: ended(_unended(task, now), now, failure))
        if task and task.owes_refund:
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

    def _shown(self, task: Task | None, task_id: str) -> TaskInfo:
        return task_info(_known(task, task_id), self._service.now(), self._service.dialect)

    async def accounts(self, _names: Mapping[str, str], query: InSpace, _body: NoInput) -> AccountList:
        """List accounts, in the order in which their keys were given."""
        spaces = [space for space in self._service.spaces.all() if query.space in (None, space.name)]
        return AccountList([self._account(each) for space in spaces for each in space.accounts.values()])

    async def account(self, names: Mapping[str, str], query: InSpace, _body: NoInput) -> AccountInfo:
        """Show one account."""
        return self._account(self._find_account(names, query))

    async def top_up(self, names: Mapping[str, str], query: InSpace, top_up: TopUpRequest) -> AccountInfo:
        """Add to a balance."""
        account = self._find_account(names, query)
        self._service.store.deposit(account, Decimal(str(top_up.credits)), self._service.now())
        return self._account(account)

    async def reset_account(self, names: Mapping[str, str], query: InSpace, _body: NoInput) -> AccountInfo:
        """Open the balance of an account again, as at the start."""
        account = self._find_account(names, query)
        # What it is owed by now is part of the balance that ends here, and not to come on top of the one that opens.
        self._service.store.balance(account, self._service.now())
        self._service.store.reset(account.space, account.name)
        return self._account(account)

    def _account(self, account: Account) -> AccountInfo:
        return account_info(account, self._service.store.balance(account, self._service.now()))

    def _find_account(self, names: Mapping[str, str], query: InSpace) -> Account:
        space = query.space or DEFAULT_SPACE
        found = self._service.spaces.named(space).account(names["account"])
        if found is None:
            name = for_display(names["account"])
            raise UnknownResourceError(f"There is no account {name} in the space {space}; GET accounts lists them.")
        return found

    async def callbacks(self, _names: Mapping[str, str], query: CallbackQuery, _body: NoInput) -> CallbackList:
        """List callbacks, those of the newest tasks first."""
        found = self._service.store.tasks(query.space, limit=_SCANNED_TASKS)
        callbacks = [callback for task in found if (callback := callback_info(task))]
        return CallbackList([each for each in callbacks if query.outcome in (None, each.outcome)][: query.limit])

    async def redeliver(self, names: Mapping[str, str], _query: NoInput, _body: NoInput) -> CallbackInfo:
        """Deliver the callback of a task once more, whatever became of it before."""
        now = self._service.now()
        task = await self._change(names["task_id"], lambda task: _asked_for(task, now))
        callback = callback_info(_known(task, names["task_id"]))
        assert callback  # noqa: S101 (a task without a callback is in conflict)
        return callback

    async def faults(self, _names: Mapping[str, str], query: InSpace, _body: NoInput) -> FaultList:
        """List the rules of what goes wrong, in their order, and the scenario that is played."""
        return self._faults(query.space)

    async def add_faults(self, _names: Mapping[str, str], _query: NoInput, new: NewFaults) -> FaultList:
        """Put rules in force, for one space or for all, after those that are."""
        engine = self._service.faults
        rules = [engine.parse(text) for text in new.rules]
        if sum(each.source == "control" for each in engine) + len(rules) > MAX_RULES:
            raise ConflictError(f"At most {MAX_RULES} rules are in force at a time; DELETE faults makes room.")
        engine.add(rules, "control", new.space or "")
        return self._faults()

    async def clear_faults(self, _names: Mapping[str, str], query: FaultQuery, _body: NoInput) -> FaultList:
        """Take rules out of force that were put there: all, those of a space, or one."""
        gone = self._service.faults.clear(source="control", scope=query.space, number=query.number)
        if query.number is not None and not gone:
            raise UnknownResourceError(f"There is no rule {query.number} that was added; GET faults lists them.")
        return self._faults()

    def _faults(self, space: str | None = None) -> FaultList:
        return fault_list(self._service.faults, self._service.scenario_runner, space)

    async def reset(self, _names: Mapping[str, str], _query: NoInput, reset: ResetRequest) -> Confirmation:
        """Forget all that happened, in one space or everywhere."""
        self._service.reset(reset.space)
        return Confirmation()

    async def verify(self, _names: Mapping[str, str], _query: NoInput, wanted: VerifyRequest) -> Verdict:
        """Tell whether a call was made as it should have been, and if not, what came nearest."""
        self._check_operation(wanted.operation)
        return verify(wanted, [entry for _, entry in self._entries(wanted.space)])


def _known(task: Task | None, task_id: str) -> Task:
    if task is None:
        raise UnknownResourceError(f"There is no task {for_display(task_id)}.")
    return task


def _unended(task: Task, now: int) -> Task:
    if task.has_ended(now):
        raise ConflictError(f"The task {task.task_id} has ended already.")
    return task


def _asked_for(task: Task, now: int) -> Task:
    if task.callback is None:
        raise ConflictError(f"The task {task.task_id} was made without a callback URL.")
    if not task.has_ended(now):
        raise ConflictError(f"The task {task.task_id} has not ended yet; its callback comes when it has.")
    return replace(task, callback=task.callback.redelivered(now))


ROOT = CONTROL_ROOT
"""Before each of the paths."""

DOCUMENTATION = "/openapi.json"
"""Path below the root of its OpenAPI document."""


@dataclass(frozen=True, slots=True)
class ControlOperation:
    """One operation of the control API.

    Attributes:
        method: HTTP method.
        path: Path below the root, with ``{names}``.
        run: What it does; its docstring is its documentation.
        answer: What it gives back.
        query: What may stand in its query.
        body: What it is told in its body.
    """

    method: str
    path: str
    run: Callable[[ControlApi, Mapping[str, str], Any, Any], Awaitable[Struct]]
    answer: type[Struct]
    query: type[Struct] = schemas.NoInput
    body: type[Struct] = schemas.NoInput


OPERATIONS = (
    ControlOperation("GET", "/health", ControlApi.health, schemas.Health),
    ControlOperation("GET", "/clock", ControlApi.clock, schemas.ClockInfo),
    ControlOperation("POST", "/clock", ControlApi.turn_clock, schemas.ClockInfo, body=schemas.AdvanceRequest),
    ControlOperation("GET", "/journal", ControlApi.journal, schemas.JournalList, query=schemas.JournalQuery),
    ControlOperation("GET", "/tasks", ControlApi.tasks, schemas.TaskList, query=schemas.TaskQuery),
    ControlOperation("GET", "/tasks/{task_id}", ControlApi.task, schemas.TaskInfo),
    ControlOperation("POST", "/tasks/{task_id}/finish", ControlApi.finish, schemas.TaskInfo),
    ControlOperation("POST", "/tasks/{task_id}/fail", ControlApi.fail, schemas.TaskInfo, body=schemas.FailRequest),
    ControlOperation("GET", "/accounts", ControlApi.accounts, schemas.AccountList, query=schemas.InSpace),
    ControlOperation("GET", "/accounts/{account}", ControlApi.account, schemas.AccountInfo, query=schemas.InSpace),
    ControlOperation(
        "POST",
        "/accounts/{account}/top-up",
        ControlApi.top_up,
        schemas.AccountInfo,
        query=schemas.InSpace,
        body=schemas.TopUpRequest,
    ),
    ControlOperation(
        "POST", "/accounts/{account}/reset", ControlApi.reset_account, schemas.AccountInfo, query=schemas.InSpace
    ),
    ControlOperation("GET", "/callbacks", ControlApi.callbacks, schemas.CallbackList, query=schemas.CallbackQuery),
    ControlOperation("POST", "/callbacks/{task_id}/redeliver", ControlApi.redeliver, schemas.CallbackInfo),
    ControlOperation("GET", "/faults", ControlApi.faults, schemas.FaultList, query=schemas.InSpace),
    ControlOperation("POST", "/faults", ControlApi.add_faults, schemas.FaultList, body=schemas.NewFaults),
    ControlOperation("DELETE", "/faults", ControlApi.clear_faults, schemas.FaultList, query=schemas.FaultQuery),
    ControlOperation("POST", "/reset", ControlApi.reset, schemas.Confirmation, body=schemas.ResetRequest),
    ControlOperation("POST", "/verify", ControlApi.verify, schemas.Verdict, body=schemas.VerifyRequest),
)
"""All of them."""
