"""The operations of the control API.

Each method of :class:`ControlApi` is one operation. ``OPERATIONS`` gives its method, path, query, body and response;
the routes and the OpenAPI document are generated from this table. The docstrings are the summaries in that document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import UNSET, convert
from msgspec.structs import replace
from seedbed_schemas import __version__
from seedbed_schemas.validation import for_display

from seedbed_mock.accounts import DEFAULT_SPACE
from seedbed_mock.control import schemas
from seedbed_mock.control.schemas import (
    AccountInfo,
    AccountList,
    BillInfo,
    CallbackList,
    ClockInfo,
    Confirmation,
    DifferenceInfo,
    DifferenceList,
    FaultList,
    Health,
    JournalItem,
    JournalList,
    TaskInfo,
    TaskList,
    account_info,
    bill_info,
    callback_info,
    fault_list,
    journal_item,
    task_info,
)
from seedbed_mock.control.verify import verify
from seedbed_mock.faults.engine import MAX_RULES
from seedbed_mock.faults.scenarios import shipped_scenarios
from seedbed_mock.journal import CALLBACK, UNMATCHED
from seedbed_mock.settings import CONTROL_ROOT
from seedbed_mock.tasks import Failure, ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from msgspec import Struct, UnsetType

    from seedbed_mock.accounts import Account
    from seedbed_mock.callbacks.dispatcher import CallbackDispatcher
    from seedbed_mock.control.schemas import (
        AccountQuery,
        AdvanceRequest,
        CallbackInfo,
        CallbackQuery,
        EmptyRequest,
        FailRequest,
        FaultQuery,
        JournalQuery,
        NewFaults,
        ResetRequest,
        ScenarioRequest,
        SpaceQuery,
        TaskQuery,
        TopUpRequest,
        Verdict,
        VerifyRequest,
    )
    from seedbed_mock.fleet import Fleet
    from seedbed_mock.journal import Journal, JournalEntry
    from seedbed_mock.state import Service
    from seedbed_mock.tasks import Task


_Item = TypeVar("_Item")
_Value = TypeVar("_Value")

ROOT = CONTROL_ROOT
"""Prefix of all paths."""

METRICS_PATH = "/metrics"
"""Path of the metrics for Prometheus below the prefix."""

DOCUMENT_PATH = "/openapi.json"
"""Path of the OpenAPI document below the prefix."""

_SCANNED_ENTRIES = 10_000
"""Largest number of journal entries that one request looks at; a single space has far fewer."""

_LARGEST_LIST = 4 * 1024 * 1024
"""In bytes of bodies and headers, or of tasks: beyond it, a list ends early. ``before`` continues it."""

_SCANNED_TASKS = 1000
"""Largest number of tasks that one request looks at, since each has to be read from the store."""

_TASKS_AT_ONCE = 50
"""Number of tasks that are read from the store together; a task can have a megabyte."""

_encode = msgspec.json.Encoder().encode


class UnknownResourceError(Exception):
    """The resource does not exist; the message is one sentence."""


class ConflictError(Exception):
    """The state of the server does not allow the operation; the message is one sentence."""


class ControlApi:
    """The operations on one mock server.

    Each operation takes the parameters of its path, its query and its body.

    Args:
        service: Service to operate on.
        dispatcher: Dispatcher of its callbacks.
        operations: Names of the operations of the service.

    Attributes:
        is_proxy: Whether calls pass on to another service.
    """

    is_proxy = False

    def __init__(self, service: Service, dispatcher: CallbackDispatcher, operations: Iterable[str]) -> None:
        self.service = self._service = service
        self._dispatcher = dispatcher
        self._operations = (*operations, CALLBACK, UNMATCHED)

    async def health(self, _path: Mapping[str, str], _query: EmptyRequest, _body: EmptyRequest) -> Health:
        """Return the status and the version of the server."""
        service = self._service
        if service.fleet:
            await self._meet_spaces(service.fleet)
        names = [space.name for space in service.spaces.all()]
        return Health("ok", __version__, service.dialect.title, names, len(service.errors), self.is_proxy)

    async def _meet_spaces(self, fleet: Fleet) -> None:
        """Let the spaces come into being that only other servers know."""
        await fleet.read_journal()
        for name in await fleet.spaces():
            self._service.spaces.named(name)

    async def clock(self, _path: Mapping[str, str], _query: EmptyRequest, _body: EmptyRequest) -> ClockInfo:
        """Return the time and the speed of the clock."""
        return ClockInfo(self._service.now(), self._service.clock.speed)

    async def turn_clock(self, _path: Mapping[str, str], _query: EmptyRequest, body: AdvanceRequest) -> ClockInfo:
        """Advance the clock; callbacks that become due on the way are sent, each at its time."""
        await self._dispatcher.advance(body.advance)
        return ClockInfo(self._service.now(), self._service.clock.speed)

    async def journal(self, _path: Mapping[str, str], query: JournalQuery, _body: EmptyRequest) -> JournalList:
        """List the calls and callbacks, oldest first."""
        self._check_operation(query.operation)
        filters = {
            name: value
            for name in ("kind", "operation", "account", "task_id", "code")
            if (value := getattr(query, name)) is not None
        }

        def shown(place: tuple[Journal, JournalEntry | None]) -> tuple[JournalItem | None, int]:
            journal, entry = place
            if (
                entry is None
                or entry.at < query.since
                or any(getattr(entry, name) != value for name, value in filters.items())
                or (query.violation is not None and query.violation not in entry.violations)
            ):
                return None, 0
            return journal_item(entry, journal.space), entry.size

        if self._service.fleet:
            await self._service.fleet.read_journal()
        entries = _lazily(self._service.spaces.journal(query.space, query.before))
        found, before = await _page(entries, shown, query.limit, _SCANNED_ENTRIES)
        return JournalList(found[::-1], before)

    async def verify(self, _path: Mapping[str, str], _query: EmptyRequest, body: VerifyRequest) -> Verdict:
        """Check whether expected calls were made, and return the nearest calls if they were not."""
        self._check_operation(body.operation)
        if self._service.fleet:
            await self._service.fleet.read_journal()
        newest = islice(self._service.spaces.journal(body.space), _SCANNED_ENTRIES)
        return verify(body, [entry for _, (_, entry) in newest if entry][::-1])

    def _check_operation(self, name: str | None) -> None:
        if name is not None and name not in self._operations:
            raise ValueError(f"unknown operation {for_display(name)}; valid operations: {', '.join(self._operations)}")

    async def tasks(self, _path: Mapping[str, str], query: TaskQuery, _body: EmptyRequest) -> TaskList:
        """List tasks, newest first."""
        now, states = self._service.now(), self._service.shared.states
        valid = (*states.pending, states.success, states.failure)
        if query.state is not None and query.state not in valid:
            raise ValueError(f"unknown state {for_display(query.state)}; valid states: {', '.join(valid)}")

        def shown(task: Task) -> tuple[TaskInfo | None, int]:
            is_selected = query.state in (None, task.state(now))
            return task_info(task, now, self._service) if is_selected else None, _size(task)

        return TaskList(*await _page(self._tasks(query.space, query.before), shown, query.limit, _SCANNED_TASKS))

    async def _tasks(self, space: str | None, before: int | None) -> AsyncIterator[tuple[int, Task]]:
        """Yield the tasks with their numbers, newest first."""
        while tasks := await self._service.store.page(space, before=before, limit=_TASKS_AT_ONCE):
            for each in tasks:
                yield each
            before = tasks[-1][0]

    async def task(self, path: Mapping[str, str], _query: EmptyRequest, _body: EmptyRequest) -> TaskInfo:
        """Return one task."""
        return self._task_info(await self._service.store.find(path["task_id"]), path["task_id"])

    async def finish(self, path: Mapping[str, str], _query: EmptyRequest, _body: EmptyRequest) -> TaskInfo:
        """End a task successfully now."""
        return await self._end(path["task_id"], None)

    async def fail(self, path: Mapping[str, str], _query: EmptyRequest, body: FailRequest) -> TaskInfo:
        """Let a task fail now, and refund its price."""
        known = self._service.shared.failures
        code = next(iter(known)) if body.code is None else str(body.code)
        message = known.get(code, next(iter(known.values()))) if body.message is None else body.message
        return await self._end(path["task_id"], Failure(code, message))

    async def _end(self, task_id: str, failure: Failure | None) -> TaskInfo:
        now = self._service.now()

        # The store calls this within the change, so that only one of several simultaneous calls ends the task.
        def end(task: Task) -> Task:
            if task.has_ended(now):
                raise ConflictError(f"The task {task.task_id} has already ended.")
            return ended(task, now, failure)

        task = await self._change(task_id, end)
        self._service.ledger.note_outcome(task_id, is_free=failure is not None)
        account = self._service.spaces.existing(task.space).account(task.account) if task else None
        if task and task.owes_refund and account:
            # Reading the balance books the refund, so that the response shows it.
            await self._service.store.balance(account, self._service.now())
            task = await self._service.store.find(task_id)
        return self._task_info(task, task_id)

    async def _change(self, task_id: str, change: Callable[[Task], Task]) -> Task | None:
        await self._service.store.change(task_id, change)
        await self._dispatcher.settle()
        return await self._service.store.find(task_id)

    def _task_info(self, task: Task | None, task_id: str) -> TaskInfo:
        return task_info(_existing(task, task_id), self._service.now(), self._service)

    async def accounts(self, _path: Mapping[str, str], query: AccountQuery, _body: EmptyRequest) -> AccountList:
        """List accounts, in the order in which their keys were given."""
        if self._service.fleet:
            await self._meet_spaces(self._service.fleet)
        after = -1 if query.after is None else query.after
        accounts = _lazily(self._service.spaces.numbered_accounts(query.space, after))
        found, before = await _page(accounts, lambda each: (each, 0), query.limit, query.limit)
        return AccountList([await self._account_info(each) for each in found], before)

    async def account(self, path: Mapping[str, str], query: SpaceQuery, _body: EmptyRequest) -> AccountInfo:
        """Return one account."""
        return await self._account_info(await self._find_account(path, query))

    async def top_up(self, path: Mapping[str, str], query: SpaceQuery, body: TopUpRequest) -> AccountInfo:
        """Add credits to a balance."""
        account = await self._find_account(path, query)
        # By way of text: Decimal(0.1) is 0.1000000000000000055...
        await self._service.store.deposit(account, Decimal(str(body.credits)), self._service.now())
        return await self._account_info(account)

    async def reset_account(self, path: Mapping[str, str], query: SpaceQuery, _body: EmptyRequest) -> AccountInfo:
        """Reset a balance to its value at the start."""
        account = await self._find_account(path, query)
        # Reading the balance books the refunds that are due; otherwise they would be added to the new balance.
        await self._service.store.balance(account, self._service.now())
        await self._service.store.reset(account.space, account.name)
        return await self._account_info(account)

    async def _account_info(self, account: Account) -> AccountInfo:
        return account_info(account, await self._service.store.balance(account, self._service.now()))

    async def _find_account(self, path: Mapping[str, str], query: SpaceQuery) -> Account:
        space, spaces = query.space or DEFAULT_SPACE, self._service.spaces
        if self._service.fleet and query.space:
            await self._meet_spaces(self._service.fleet)
        # A space comes into being only for an account that it has.
        is_known = spaces.existing(space).account(path["account"]) is not None
        found = spaces.named(space).account(path["account"]) if is_known else None
        await self._service.forget_evicted()
        if found is None:
            name = for_display(path["account"])
            raise UnknownResourceError(f"The space {space} has no account {name}; list the accounts with GET accounts.")
        return found

    async def callbacks(self, _path: Mapping[str, str], query: CallbackQuery, _body: EmptyRequest) -> CallbackList:
        """List callbacks, those of the newest tasks first."""

        def shown(task: Task) -> tuple[CallbackInfo | None, int]:
            callback = callback_info(task)
            is_selected = callback and query.outcome in (None, callback.outcome)
            return callback if is_selected else None, _size(task)

        return CallbackList(*await _page(self._tasks(query.space, query.before), shown, query.limit, _SCANNED_TASKS))

    async def redeliver(self, path: Mapping[str, str], _query: EmptyRequest, _body: EmptyRequest) -> CallbackInfo:
        """Send the callback of a task again, whatever its outcome was."""
        now = self._service.now()

        def redeliver(task: Task) -> Task:
            if task.callback is None:
                raise ConflictError(f"The task {task.task_id} was created without a callback URL.")
            if not task.has_ended(now):
                raise ConflictError(f"The task {task.task_id} has not ended yet; its callback is sent when it ends.")
            return replace(task, callback=task.callback.redelivered(now))

        task = await self._change(path["task_id"], redeliver)
        callback = callback_info(_existing(task, path["task_id"]))
        assert callback  # redeliver raises for a task without a callback
        return callback

    async def bill(self, _path: Mapping[str, str], query: SpaceQuery, _body: EmptyRequest) -> BillInfo:
        """Return what the calls would have cost at the real service."""
        return bill_info(self._service.ledger.bill(query.space))

    async def differences(self, _path: Mapping[str, str], _query: EmptyRequest, _body: EmptyRequest) -> DifferenceList:
        """List what the service behind a proxy does that the contract does not say."""
        return DifferenceList(
            [convert(each, DifferenceInfo, from_attributes=True) for each in self._service.differences()]
        )

    async def faults(self, _path: Mapping[str, str], query: SpaceQuery, _body: EmptyRequest) -> FaultList:
        """List the fault rules in their order, and the current scenario."""
        if self._service.fleet:
            await self._service.fleet.read_rules()
        return self._fault_list(query.space)

    async def add_faults(self, _path: Mapping[str, str], _query: EmptyRequest, body: NewFaults) -> FaultList:
        """Add fault rules for one space or for all, after those that were added before."""
        engine = self._service.faults
        rules = [engine.parse(text) for text in body.rules]
        if sum(active.source == "control" for active in engine) + len(rules) > MAX_RULES:
            raise ConflictError(f"At most {MAX_RULES} rules can be active; remove some with DELETE faults.")
        if self._service.fleet:
            await self._service.fleet.add_rules(map(str, rules), body.space or "")
        else:
            engine.add(rules, "control", body.space or "")
        return self._fault_list()

    async def clear_faults(self, _path: Mapping[str, str], query: FaultQuery, _body: EmptyRequest) -> FaultList:
        """Remove fault rules that were added through the control API: all, those of a space, or one."""
        if self._service.fleet:
            removed = await self._service.fleet.clear_rules(query.space, query.number)
        else:
            removed = self._service.faults.clear(source="control", scope=query.space, number=query.number)
        if query.number is not None and not removed:
            raise UnknownResourceError(
                f"Rule {query.number} is not an added rule; list the rules with GET faults or seedbed faults list."
            )
        return self._fault_list()

    async def play_scenario(self, _path: Mapping[str, str], _query: EmptyRequest, body: ScenarioRequest) -> FaultList:
        """Play a built-in scenario from its start, in place of the current one."""
        if body.name not in (known := shipped_scenarios()):
            raise ValueError(f"unknown scenario {for_display(body.name)}; the built-in ones are {', '.join(known)}")
        self._service.play_scenario(body.name)
        if self._service.fleet:
            await self._service.fleet.announce("scenario", body.name)
        return self._fault_list()

    async def stop_scenario(self, _path: Mapping[str, str], _query: EmptyRequest, _body: EmptyRequest) -> FaultList:
        """End the current scenario; its rules no longer apply."""
        self._service.stop_scenario()
        if self._service.fleet:
            await self._service.fleet.announce("scenario")
        return self._fault_list()

    def _fault_list(self, space: str | None = None) -> FaultList:
        return fault_list(self._service.faults, self._service.scenario_runner, space)

    async def reset(self, _path: Mapping[str, str], _query: EmptyRequest, body: ResetRequest) -> Confirmation:
        """Delete tasks, journal entries and added rules, and restore balances, in one space or in all."""
        await self._service.reset(body.space)
        return Confirmation()


async def _lazily(items: Iterable[_Value]) -> AsyncIterator[_Value]:
    for each in items:
        yield each


async def _page(
    items: AsyncIterator[tuple[int, _Value]], shown: Callable[[_Value], tuple[_Item | None, int]], limit: int, most: int
) -> tuple[list[_Item], int | UnsetType]:
    """Return one page of a list, and the number with which the next page begins, if there may be one.

    Args:
        items: All that is listed, with numbers, from the first item of the page on.
        shown: Returns what is shown of an item, ``None`` for nothing, and its size in bytes.
        limit: Largest number of items on the page.
        most: Largest number of items that are looked at.
    """
    found, size, last = list[_Item](), 0, 0
    scanned = 0
    async for number, value in items:
        if len(found) == limit or size > _LARGEST_LIST or scanned == most:
            return found, last
        scanned, last = scanned + 1, number
        item, added = shown(value)
        size += added
        if item is not None:
            found.append(item)
    return found, UNSET


def _size(task: Task) -> int:
    # As the store writes it, whose size hardly differs from that of the response.
    return len(_encode(task))


def _existing(task: Task | None, task_id: str) -> Task:
    if task is None:
        raise UnknownResourceError(f"The task {for_display(task_id)} does not exist; list the tasks with GET tasks.")
    return task


@dataclass(frozen=True, slots=True)
class ControlOperation:
    """One operation of the control API.

    Attributes:
        method: HTTP method.
        path: Path below the prefix, with parameters as ``{name}``.
        run: Method that performs the operation.
        response: Type of the response.
        query: Type of the query.
        body: Type of the request body.
    """

    method: str
    path: str
    run: Callable[[ControlApi, Mapping[str, str], Any, Any], Awaitable[Struct]]
    response: type[Struct]
    query: type[Struct] = schemas.EmptyRequest
    body: type[Struct] = schemas.EmptyRequest

    def matches(self, method: str, path: str) -> bool:
        """Return whether a request below the prefix is one of this operation."""
        return method == self.method and bool(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", self.path), path))


OPERATIONS = (
    ControlOperation("GET", "/health", ControlApi.health, schemas.Health),
    ControlOperation("GET", "/clock", ControlApi.clock, schemas.ClockInfo),
    ControlOperation("POST", "/clock", ControlApi.turn_clock, schemas.ClockInfo, body=schemas.AdvanceRequest),
    ControlOperation("GET", "/journal", ControlApi.journal, schemas.JournalList, query=schemas.JournalQuery),
    ControlOperation("GET", "/tasks", ControlApi.tasks, schemas.TaskList, query=schemas.TaskQuery),
    ControlOperation("GET", "/tasks/{task_id}", ControlApi.task, schemas.TaskInfo),
    ControlOperation("POST", "/tasks/{task_id}/finish", ControlApi.finish, schemas.TaskInfo),
    ControlOperation("POST", "/tasks/{task_id}/fail", ControlApi.fail, schemas.TaskInfo, body=schemas.FailRequest),
    ControlOperation("GET", "/accounts", ControlApi.accounts, schemas.AccountList, query=schemas.AccountQuery),
    ControlOperation("GET", "/accounts/{account}", ControlApi.account, schemas.AccountInfo, query=schemas.SpaceQuery),
    ControlOperation(
        "POST",
        "/accounts/{account}/top-up",
        ControlApi.top_up,
        schemas.AccountInfo,
        query=schemas.SpaceQuery,
        body=schemas.TopUpRequest,
    ),
    ControlOperation(
        "POST", "/accounts/{account}/reset", ControlApi.reset_account, schemas.AccountInfo, query=schemas.SpaceQuery
    ),
    ControlOperation("GET", "/bill", ControlApi.bill, schemas.BillInfo, query=schemas.SpaceQuery),
    ControlOperation("GET", "/differences", ControlApi.differences, schemas.DifferenceList),
    ControlOperation("GET", "/callbacks", ControlApi.callbacks, schemas.CallbackList, query=schemas.CallbackQuery),
    ControlOperation("POST", "/callbacks/{task_id}/redeliver", ControlApi.redeliver, schemas.CallbackInfo),
    ControlOperation("GET", "/faults", ControlApi.faults, schemas.FaultList, query=schemas.SpaceQuery),
    ControlOperation("POST", "/faults", ControlApi.add_faults, schemas.FaultList, body=schemas.NewFaults),
    ControlOperation("DELETE", "/faults", ControlApi.clear_faults, schemas.FaultList, query=schemas.FaultQuery),
    ControlOperation("POST", "/scenario", ControlApi.play_scenario, schemas.FaultList, body=schemas.ScenarioRequest),
    ControlOperation("DELETE", "/scenario", ControlApi.stop_scenario, schemas.FaultList),
    ControlOperation("POST", "/reset", ControlApi.reset, schemas.Confirmation, body=schemas.ResetRequest),
    ControlOperation("POST", "/verify", ControlApi.verify, schemas.Verdict, body=schemas.VerifyRequest),
)
"""All operations, in the order of the OpenAPI document."""
