"""A fleet: servers behind a load balancer that share their state on Redis, so that each answers for all.

What changes rarely, such as the clock and the fault rules, each server keeps for itself. A change is written to Redis
and announced, and the call that made it returns when all servers have followed. What changes with each call, such as
the counts of rate limits and rules, is only on Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from seedbed_mock.clock import real_monotonic
from seedbed_mock.faults.engine import MAX_RULES
from seedbed_mock.fleet_journal import FleetJournal
from seedbed_mock.stores.store import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from seedbed_mock.accounts import Account
    from seedbed_mock.clock import SharedClock
    from seedbed_mock.faults.engine import ActiveRule, FaultEngine, MatchContext
    from seedbed_mock.journal import Journal
    from seedbed_mock.settings import Rate
    from seedbed_mock.stores.redis_server import RedisServer


_log = logging.getLogger("seedbed")

_NEWS: Final = "news"
_FOLLOWED: Final = "followed"
_FOLLOWED_SECONDS: Final = 3.0
"""How long a change waits for the other servers; one that hangs follows when it goes on."""

_CHECK_SECONDS: Final = 5.0
"""How often a server without news reads what it shares all the same, in case its connection is dead."""

_RECOVERY_SECONDS: Final = 0.5
_JOIN_SECONDS: Final = 10.0


class TooManyRulesError(Exception):
    """More rules than ``MAX_RULES`` would be active."""


class Fleet:
    """What a server shares with the others of its fleet, beside the store.

    Args:
        server: The server of Redis.
        clock: The clock of this server.

    Attributes:
        journal: The journal of the fleet.
        on_settle: Waits until this server has sent the callbacks that are due.
        started_at: When the fleet began, or was reset, by its clock, in Unix seconds.
    """

    def __init__(self, server: RedisServer, clock: SharedClock) -> None:
        self._server = server
        self._clock = clock
        self.journal = FleetJournal(server)
        self.journal.on_evicted = self._evict
        self.started_at = clock.now()
        self.on_settle: Callable[[], Awaitable[None]]
        self._faults: FaultEngine
        self._on_reset: Callable[[str | None], None]
        self._on_scenario: Callable[[str], None]
        self._ports: set[int]
        self._id = token_hex(8)
        self._listener: asyncio.Task[None] | None = None
        self._followed: dict[str, asyncio.Queue[str]] = {}
        self._follow: dict[str, Callable[[str], Awaitable[None]]] = {
            "clock": lambda _: self._read_clock("read"),
            "faults": lambda _: self.read_rules(),
            "reset": self._reset,
            "ports": lambda _: self._read_ports(),
            "journal": lambda _: self.journal.send(),
            "scenario": self._play,
            "settle": lambda _: self.on_settle(),
        }

    def attach(
        self,
        faults: FaultEngine,
        ports: set[int],
        *,
        on_reset: Callable[[str | None], None],
        on_scenario: Callable[[str], None],
        journal_of: Callable[[str], Journal],
    ) -> None:
        """Connect the parts of this server that follow the fleet.

        Args:
            faults: Its fault engine.
            ports: Ports to which it sends no callbacks for the control API; those of the fleet are added.
            on_reset: Deletes what it has of a space, or of all, after another server has reset it.
            on_scenario: Plays a scenario that another server plays, or ends it if the name is empty.
            journal_of: Returns the journal of a space.
        """
        self._faults, self._ports, self.journal.journal_of = faults, ports, journal_of
        self._on_reset, self._on_scenario = on_reset, on_scenario

    async def open(self) -> None:
        """Join the fleet.

        Raises:
            StoreError: The servers of the fleet have a clock of another speed.
            StoreUnavailableError: Redis cannot be used now.
        """
        speed = self._clock.speed
        is_first = not await self._server.listeners(_NEWS)
        await self._read_clock("restart" if is_first else "open", f"{speed:g}")
        if self._clock.speed != speed:
            flag = f"--speed {self._clock.speed:g}" if self._clock.speed else "--clock manual"
            raise StoreError(f"The clock of the fleet has another speed; use {flag}, as the other servers do.")
        await self.read_rules()
        listening = asyncio.Event()
        self._listener = asyncio.create_task(self._listen(listening), name="seedbed news of the fleet")
        try:
            async with asyncio.timeout(_JOIN_SECONDS):
                await listening.wait()
        except TimeoutError as error:
            raise StoreUnavailableError("Redis has stopped responding while the server joined its fleet.") from error

    async def close(self) -> None:
        """Leave the fleet."""
        await self.journal.close()
        if self._listener:
            self._listener.cancel()
            await asyncio.wait([self._listener])

    # News

    async def announce(self, kind: str, detail: str = "") -> None:
        """Let all servers follow a change, and return when they have.

        Args:
            kind: What has changed.
            detail: What they need to know of it.
        """
        news = token_hex(8)
        followed = self._followed[news] = asyncio.Queue[str]()
        message = json.dumps({"id": news, "from": self._id, "kind": kind, "detail": detail})
        try:
            receivers = int(await self._server.command("PUBLISH", _NEWS, message))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FOLLOWED_SECONDS):
                    for _ in range(receivers):
                        await followed.get()
        finally:
            del self._followed[news]

    async def _listen(self, listening: asyncio.Event) -> None:
        while True:
            try:
                async with self._server.subscription(_NEWS) as subscription:
                    listening.set()
                    while True:
                        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=_CHECK_SECONDS)
                        if message:
                            await self._hear(json.loads(message["data"]))
                        else:
                            await self._catch_up()
            except StoreUnavailableError:
                # The warning is for the calls that need Redis; meanwhile this server shows its own time.
                await asyncio.sleep(_RECOVERY_SECONDS)
            except Exception:
                _log.exception("Internal error at the news of the fleet")
                await asyncio.sleep(_RECOVERY_SECONDS)
            with contextlib.suppress(StoreUnavailableError):
                await self._catch_up()

    async def _hear(self, news: dict[str, str]) -> None:
        if news["kind"] == _FOLLOWED or news["from"] == self._id:
            if followed := self._followed.get(news["id"]):
                followed.put_nowait(news["from"])
            return
        if follow := self._follow.get(news["kind"]):
            await follow(news["detail"])
        await self._server.command("PUBLISH", _NEWS, json.dumps({**news, "from": self._id, "kind": _FOLLOWED}))

    async def _catch_up(self) -> None:
        await self._read_clock("read")
        await self.read_rules()

    # Clock

    async def advance(self, seconds: float) -> None:
        """Advance the clock of all servers.

        Raises:
            ValueError: The clock cannot be advanced by this time.
        """
        self._clock.check_advance(seconds)
        await self._read_clock("advance", repr(seconds * 1000), token_hex(8))
        await self.announce("clock")

    async def _read_clock(self, what: str, value: str = "", request: str = "") -> None:
        before = real_monotonic()
        shown, speed, started = await self._server.run("clock", what, request, value)
        self.started_at = float(started) / 1000
        # Redis read its clock about in the middle of the call.
        self._clock.follow(float(shown) / 1000, (before + real_monotonic()) / 2, float(speed))

    async def reserve_ids(self, now: int, number: int) -> int:
        """Reserve numbers for the IDs of tasks, which contain a time, and return the first.

        Args:
            now: The time in Unix milliseconds, which is less than all of them.
            number: How many.
        """
        return int(await self._server.run("reserve", now, number))

    # Rate limits

    async def has_room(self, kind: str, account: Account, rate: Rate, now: int, *, is_counted: bool) -> bool:
        """Return whether a rate limit allows one more call.

        Args:
            kind: Which limit: ``creations`` or ``queries``.
            account: The account.
            rate: The limit.
            now: The time in Unix milliseconds.
            is_counted: Whether the call counts. A created task is counted by the store.
        """
        length, name = round(rate.seconds * 1000), token_hex(8) if is_counted else ""
        return bool(await self._server.run("take", kind, account.space, account.name, now, rate.requests, length, name))

    # Fault rules

    async def add_rules(self, texts: Iterable[str], scope: str) -> None:
        """Add fault rules on all servers.

        Args:
            texts: The rules, which are valid.
            scope: Name of the space whose calls they apply to, empty for all.

        Raises:
            TooManyRulesError: There would be more rules than ``MAX_RULES``.
        """
        outcome, *_ = await self._server.run("rules", "add", token_hex(8), scope, "", *texts)
        if outcome == b"full":
            raise TooManyRulesError(f"At most {MAX_RULES} rules can be active.")
        await self._announce_rules()

    async def clear_rules(self, scope: str | None = None, number: int | None = None) -> int:
        """Remove fault rules on all servers and return their number.

        Args:
            scope: Only rules of this space.
            number: Only the rule with this number.
        """
        chosen = "*" if scope is None else scope
        _, removed, *_ = await self._server.run("rules", "clear", "", chosen, "" if number is None else number)
        await self._announce_rules()
        return int(removed)

    async def _announce_rules(self) -> None:
        await self.read_rules()
        await self.announce("faults")

    async def read_rules(self) -> None:
        """Follow the fault rules of the fleet, with their counts."""
        _, _, *found = await self._server.run("rules", "list", "", "", "")
        rules = [json.loads(text) for text in found[::3]]
        added = self._faults.replace_added((each["number"], each["text"], each["scope"]) for each in rules)
        for active, seen, hits in zip(added, found[1::3], found[2::3], strict=True):
            active.seen, active.hits = int(seen), int(hits)

    async def find_match(self, context: MatchContext, request_rules: Iterable[ActiveRule]) -> ActiveRule | None:
        """Return the first rule that matches a call, as the fault engine does, with the counts of all servers."""
        for active in self._faults.candidates(context, request_rules):
            if active.meets_conditions(context) and await self._is_hit(active):
                return active
        return None

    async def _is_hit(self, active: ActiveRule) -> bool:
        if active.source == "scenario":
            active.seen += 1
            return active.is_counted_hit()
        match = active.rule.match
        values = ("" if each is None else each for each in (match.times, match.nth, match.every, match.p))
        is_hit, active.seen, active.hits = await self._server.run(
            "match", *_place_of(active), *values, f"{active.scope}/{active.rule}/"
        )
        return bool(is_hit)

    async def give_back(self, active: ActiveRule) -> None:
        """Count a hit less, since the effect of the rule has changed nothing."""
        if active.source != "scenario":
            name, field = _place_of(active)
            await self._server.command("HINCRBY", f"counts:{name}" if name else "counts", f"{field}:hits", -1)

    # Spaces

    async def begin_reset(self, space: str | None) -> None:
        """Remove the rules of a space, or all, before its content is deleted.

        What servers have not sent to the journal yet is sent now, since it would come back later.
        """
        await self.announce("journal")
        await self.journal.send()
        await self._server.run("rules", "clear", "", "*" if space is None else space, "")
        await self._announce_rules()
        if space is None:
            await self._read_clock("mark")

    async def spaces(self) -> list[str]:
        """Return the names of the spaces that are in use, those that were used last at the end."""
        return [each.decode() for each in await self._server.command("ZRANGE", "used", 0, -1)]

    async def _evict(self, space: str) -> None:
        """Delete a space that was not used for the longest time; another server may do so at the same time."""
        await self._server.run("reset", "space", space, "")
        await self._server.run("rules", "clear", "", space, "")
        await self._reset(space)
        await self.announce("reset", space)

    async def _reset(self, detail: str) -> None:
        await self._catch_up()
        self._on_reset(detail or None)

    async def _play(self, name: str) -> None:
        self._on_scenario(name)

    # Journal and addresses

    async def read_journal(self) -> None:
        """Read what all servers have added to the journal until now."""
        await self.announce("journal")
        await self.journal.send()
        await self.journal.receive()

    async def share_ports(self, ports: Iterable[int]) -> None:
        """Tell the other servers on which ports this one listens: no callback may be sent to its control API."""
        if added := sorted(ports):
            await self._server.command("SADD", "ports", *added)
            await self._read_ports()
            await self.announce("ports")

    async def _read_ports(self) -> None:
        self._ports |= {int(each) for each in await self._server.command("SMEMBERS", "ports")}


def _place_of(active: ActiveRule) -> tuple[str, str]:
    """Return where the counts of a rule are: the space of a rule that comes with calls, and the name of the counts."""
    if active.number:
        return "", str(active.number)
    return active.scope, hashlib.sha256(f"{active.source}/{active.rule}".encode()).hexdigest()[:16]
