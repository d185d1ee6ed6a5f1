"""The journal of a fleet: what each server adds goes to Redis, and what a server shows comes from there.

No call waits for it. Entries are sent together a moment later, or at once when any server is about to show the journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from seedbed_mock.journal import MOST_ENTRIES, MOST_ENTRIES_OF_ALL, Journal, JournalEntry, SharedJournal
from seedbed_mock.stores.store import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from seedbed_mock.journal import JournalBudget
    from seedbed_mock.stores.redis_server import RedisServer


_log = logging.getLogger("seedbed")

_SEND_SECONDS: Final = 0.05
_SENT_AT_ONCE: Final = 200
_READ_AT_ONCE: Final = 500

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(JournalEntry).decode


class FleetJournal:
    """Sends the entries of one server to Redis, and reads those of all.

    Args:
        server: The server of Redis.

    Attributes:
        journal_of: Returns the journal of a space.
        on_evicted: Called with the name of a space that gives way to newer ones.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.journal_of: Callable[[str], Journal]
        self.on_evicted: Callable[[str], Awaitable[None]]
        # Without a bound, they would fill the memory while Redis is lost.
        self._outbox: deque[tuple[str, JournalEntry]] = deque(maxlen=MOST_ENTRIES)
        self._own: deque[tuple[int, tuple[Journal, JournalEntry | None]]] = deque(maxlen=MOST_ENTRIES)
        self._own_numbers = count(1)
        self._read = -1
        self._sender: asyncio.Task[None] | None = None
        self._sending, self._reading = asyncio.Lock(), asyncio.Lock()

    def make(self, budget: JournalBudget, space: str) -> Journal:
        """Return the journal of a space, which hands its entries over to this one."""
        return SharedJournal(budget, space, self._take)

    def _take(self, journal: SharedJournal, entry: JournalEntry) -> None:
        self._own.append((next(self._own_numbers), (journal, entry)))
        self._outbox.append((journal.space, entry))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_later(), name="seedbed journal of the fleet")

    async def _send_later(self) -> None:
        await asyncio.sleep(_SEND_SECONDS)
        try:
            await self.send()
        except StoreUnavailableError as error:
            _log.warning("%s", error)

    def own_entries(self) -> Iterator[tuple[int, tuple[Journal, JournalEntry | None]]]:
        """Yield the latest entries of this server alone, newest first, for its own log."""
        return iter(tuple(self._own)[::-1])

    async def send(self) -> None:
        """Send the entries that have not been sent yet.

        Raises:
            StoreUnavailableError: Redis cannot be used now; the entries are kept.
        """
        evicted = list[bytes]()
        async with self._sending:
            while self._outbox:
                entries = [self._outbox.popleft() for _ in range(min(len(self._outbox), _SENT_AT_ONCE))]
                arguments = [each for space, entry in entries for each in (space, _encode(entry))]
                try:
                    evicted = await self._server.run("journal", token_hex(8), *arguments)
                except StoreUnavailableError:
                    self._outbox.extendleft(reversed(entries[: MOST_ENTRIES - len(self._outbox)]))
                    raise
        for space in evicted:
            await self.on_evicted(space.decode())

    async def receive(self) -> None:
        """Read what all servers have sent since the last time.

        Raises:
            StoreUnavailableError: Redis cannot be used now.
        """
        async with self._reading:
            largest = self._read + 1
            while self._read < largest:
                found: list[Any] = await self._server.run("entries", self._read + 1, self._read + _READ_AT_ONCE)
                largest = int(found[0])
                if largest - self._read > MOST_ENTRIES_OF_ALL:
                    # No more are kept, so that reading from the beginning would be in vain.
                    self._read = largest - MOST_ENTRIES_OF_ALL
                    continue
                for space, number, entry in sorted(found[1:], key=lambda each: int(each[1])):
                    journal = self.journal_of(space.decode())
                    if isinstance(journal, SharedJournal):
                        journal.receive(replace(_decode(entry), number=int(number)))
                self._read = min(self._read + _READ_AT_ONCE, largest)

    def forget(self, space: str | None) -> None:
        """Drop the entries of a space, or of all, that have not been sent yet."""
        kept = [each for each in self._outbox if space is not None and each[0] != space]
        self._outbox.clear()
        self._outbox.extend(kept)

    async def close(self) -> None:
        """Send what is left."""
        if self._sender:
            self._sender.cancel()
            await asyncio.wait([self._sender])
        try:
            await self.send()
        except StoreUnavailableError as error:
            _log.warning("%s", error)
