"""The store on Redis or Valkey, which a fleet of servers shares.

Each rule about tasks and balances is one Lua script, which Redis runs as a whole. Nothing is cached, because another
server can change the content at any time.
"""

from __future__ import annotations

from decimal import Decimal
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from seedbed_mock.accounts import MOST_SPACES
from seedbed_mock.faults.engine import MAX_RULES
from seedbed_mock.journal import MOST_BYTES, MOST_ENTRIES
from seedbed_mock.settings import MOST_CREDITS, SettingsError, exact_credits
from seedbed_mock.stores.redis_server import FleetUrl, RedisServer
from seedbed_mock.stores.store import (
    LARGEST_NUMBER,
    UNFINISHED_SHARE,
    NameTakenError,
    OverdrawnError,
    RateExceededError,
    StoreUnavailableError,
)
from seedbed_mock.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_mock.accounts import Account


_PLACES: Final = 9
"""Decimal places of a stored amount: the most that an option or a profile can give a price or a balance.

Redis adds whole numbers exactly up to 2^63. The largest balance has 10^18 of these units.
"""

_MOST_DELETED = 64
"""Tasks that one creation deletes at most; usually it is one."""

_MOST_CHANGES = 100
"""How often a change is tried when others change the same task at the same time."""

_REMEMBERED_MILLISECONDS = 600_000
"""How long a charge without a task is remembered, for which a lost reply is longer ago than any retry."""

_WINDOW_MILLISECONDS = 86_400_000
"""How long the counts of calls stay at least. It is real time, which passes faster than that of a slow clock."""

_FIELDS: Final = ("document", "due", "refund", "mark")


class RedisStore:
    """A store on Redis; the oldest tasks that have ended are deleted.

    Args:
        url: URL of the server, as of ``--db``.
        keep: Number of tasks that are kept at least; there can be more if too few of them have ended.

    Attributes:
        server: The server, which the other parts of a fleet use as well.

    Raises:
        StoreError: The URL is invalid, or the server cannot be reached or used.
    """

    is_shared = True

    def __init__(self, url: str, keep: int) -> None:
        constants: dict[str, int | str] = {
            "MOST_UNITS": str(_units(Decimal(MOST_CREDITS))),
            "KEEP": keep,
            "MOST_UNFINISHED": keep * UNFINISHED_SHARE,
            "MOST_DELETED": _MOST_DELETED,
            "MOST_MOVED": 16 * _MOST_DELETED,
            "REMEMBERED_MILLISECONDS": _REMEMBERED_MILLISECONDS,
            "WINDOW_MILLISECONDS": _WINDOW_MILLISECONDS,
            "MOST_RULES": MAX_RULES,
            "MOST_ENTRIES": MOST_ENTRIES,
            "MOST_SPACES": MOST_SPACES,
            "MOST_BYTES": MOST_BYTES,
        }
        self.server = RedisServer(FleetUrl(url), constants)

    async def open(self) -> None:
        """Do nothing: connections are opened when they are needed."""

    async def _run(self, script: str, account: Account, now: int, *others: str | int, request: str = "") -> list[Any]:
        """Run a script on a balance and return its result."""
        first = (request,) if request else ()
        owner = (account.space, account.name, _units(account.opening))
        found: Any = await self.server.run(script, *first, *owner, now, *others)
        return found if isinstance(found, list) else [found]

    async def balance(self, account: Account, now: int) -> Decimal:
        return _credits((await self._run("balance", account, now))[0])

    async def deposit(self, account: Account, amount: Decimal, now: int) -> Decimal:
        outcome, units = await self._run("deposit", account, now, _units(amount), request=token_hex(8))
        if outcome != b"done":
            exact_credits(_credits(units) + amount)
            raise SettingsError(f"Invalid amount of credits {amount}.")
        return _credits(units)

    async def charge(self, account: Account, price: Decimal, now: int) -> None:
        outcome, *units = await self._run("charge", account, now, _units(price), request=token_hex(8))
        if outcome != b"done":
            raise OverdrawnError(_credits(units[0]))

    async def forget(self, account: Account) -> None:
        await self.server.run("reset", "forgotten", account.space, account.name)

    async def create(self, task: Task, account: Account) -> None:
        rate = account.creations.rate if account.creations else None
        outcome, *units = await self.server.run(
            "create",
            task.task_id,
            token_hex(8),
            task.space,
            task.account,
            _units(account.opening),
            _units(task.price),
            task.created,
            *_times(task),
            _encode(task),
            rate.requests if rate else "",
            round(rate.seconds * 1000) if rate else "",
        )
        match outcome:
            case b"taken":
                raise NameTakenError(task.task_id)
            case b"limited":
                raise RateExceededError
            case b"overdrawn":
                raise OverdrawnError(_credits(units[0]))

    async def find(self, task_id: str) -> Task | None:
        fields = await self.server.command("HMGET", f"task:{task_id}", *_FIELDS)
        return _task(fields) if fields[0] is not None else None

    async def page(self, space: str | None = None, *, before: int | None = None, limit: int) -> list[tuple[int, Task]]:
        chosen = "" if space is None else f"={space}"
        found = await self.server.run("page", chosen, LARGEST_NUMBER if before is None else before, limit)
        return [(int(number), _task(fields)) for number, fields in found]

    async def change(self, task_id: str, change: Callable[[Task], Task]) -> Task | None:
        fields = await self.server.command("HMGET", f"task:{task_id}", *_FIELDS)
        for _ in range(_MOST_CHANGES):
            if fields[0] is None:
                return None
            task, mark = _task(fields), fields[3]
            changed = change(task)
            if changed is task:
                return task
            # The mark of a change is its ID as well, so that one whose reply was lost is not made again.
            outcome, *fields = await self.server.run(
                "change", task_id, mark, token_hex(8), *_times(changed), _encode(changed)
            )
            if outcome == b"changed":
                return changed
            fields = fields or [None]
        raise StoreUnavailableError(f"The task {task_id} is changed by too many servers at the same time.")

    async def count(self) -> int:
        return int(await self.server.command("ZCARD", "order"))

    async def newest(self) -> int:
        page = await self.page(limit=1)
        return page[0][1].created if page else 0

    async def claim(self, now: int, until: int, *, limit: int) -> list[Task]:
        return [_task(fields) for fields in await self.server.run("claim", now, until, limit)]

    async def next_due(self) -> int | None:
        first = await self.server.command("ZRANGE", "due", 0, 0)
        due = await self.server.command("HGET", f"task:{first[0].decode()}", "due") if first else None
        return int(due) if due else None

    async def reset(self, space: str | None = None, account: str | None = None) -> None:
        what = "all" if space is None else "space" if account is None else "account"
        await self.server.run("reset", what, space or "", account or "")

    async def note(self, name: str, value: bytes | None = None) -> bytes | None:
        if value is not None:
            await self.server.command("HSET", "notes", name, value)
        noted: bytes | None = await self.server.command("HGET", "notes", name)
        return noted

    async def note_once(self, name: str, value: bytes) -> bytes:
        await self.server.command("HSETNX", "notes", name, value)
        noted = await self.note(name)
        return value if noted is None else noted

    async def close(self) -> None:
        await self.server.close()

    def abandon(self) -> None:
        """Do nothing: without an event loop, no connection is open."""


def _units(amount: Decimal) -> str:
    """Return an amount of credits as the scripts take it.

    Raises:
        SettingsError: The amount has more decimal places than are stored.
    """
    scaled = amount.scaleb(_PLACES)
    if scaled != scaled.to_integral_value():
        raise SettingsError(f"Invalid amount of credits {amount}; a fleet keeps up to {_PLACES} decimal places.")
    return str(int(scaled))


def _credits(units: bytes) -> Decimal:
    # Without zeros at its end, as the other stores give it.
    return Decimal(f"{Decimal(units.decode()).scaleb(-_PLACES).normalize():f}")


def _times(task: Task) -> tuple[int | str, int | str, str]:
    """Return when a task ends and when its callback is due, and the price that it owes; empty for none."""
    due = task.callback.due if task.callback else None
    return (
        "" if task.ends is None else task.ends,
        "" if due is None else due,
        _units(task.price) if task.owes_refund else "",
    )


def _task(fields: list[bytes | None]) -> Task:
    """Return a task: its document, with what scripts have changed since it was written."""
    document, due, refund, _ = fields
    assert document is not None  # the caller has checked it
    task = _decode(document)
    if task.callback and (claimed := int(due) if due else None) != task.callback.due:
        task = replace(task, callback=replace(task.callback, due=claimed))
    if refund:
        task = replace(
            task,
            is_refunded=task.is_refunded or refund in {b"booked", b"both"},
            is_written_off=task.is_written_off or refund in {b"written off", b"both"},
        )
    return task


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Task).decode
