"""What happened: the latest calls and callbacks of one space, in a ring that never grows beyond its bound."""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import count
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator


CALLBACK = "callback"
"""The operation of an entry that is a callback."""

KEPT_ENTRIES = 1000
MOST_BYTES = 64 * 1024 * 1024
LARGEST_TEXT = 64 * 1024
"""In bytes; what is longer is kept cut, and says so."""


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that happened.

    Attributes:
        number: Its place in the order of all that happened.
        at: When it was, in Unix milliseconds.
        kind: A call to the service, or one of its callbacks.
        operation: Which operation was called; of a callback, ``callback``.
        account: Fingerprint of the key, empty where it was refused.
        method: HTTP method.
        target: Path and query that were asked for; of a callback, where it went.
        request: The body that was sent, as text.
        code: The code in the answer's body; ``None`` for a callback.
        status: HTTP status of the answer, ``None`` where there was none.
        case: Which case the answer is, as the dialect names it.
        answer: The body of the answer, as text; of a callback, why there was none.
        violations: Clauses of the contract that the request broke.
        fault: The fault that was asked for, empty where none was.
        task_id: The task that it is about, empty where it is about none.
        attempt: Which attempt of a callback it is, 0 for a call.
    """

    number: int
    at: int
    kind: Literal["call", "callback"]
    operation: str
    account: str = ""
    method: str = "POST"
    target: str = ""
    request: bytes = b""
    code: int | None = None
    status: int | None = None
    case: str = ""
    answer: bytes = b""
    violations: tuple[str, ...] = ()
    fault: str = ""
    task_id: str = ""
    attempt: int = 0

    @property
    def size(self) -> int:
        """How much room its bodies take, in bytes."""
        return len(self.request) + len(self.answer)


class JournalBudget:
    """What the journals of all spaces share: the numbers of their entries, and the room that these may take.

    Args:
        most_bytes: How much the bodies in all of them may take; beyond it, the journal that was not written in for
            longest loses its oldest entries.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._left = most_bytes
        self._journals: OrderedDict[Journal, None] = OrderedDict()
        self.numbers = count(1)

    def take(self, journal: Journal, size: int) -> None:
        """Take room for an entry of a journal, in bytes."""
        self._journals[journal] = None
        self._journals.move_to_end(journal)
        self._left -= size
        while self._left < 0:
            resting = next(iter(self._journals))
            self._left += resting.drop()
            if not resting:
                del self._journals[resting]

    def give_back(self, journal: Journal, size: int) -> None:
        """Give back the room of all entries of a journal, in bytes."""
        self._journals.pop(journal, None)
        self._left += size


class Journal:
    """The latest entries of one space.

    Args:
        room: What it shares with those of the other spaces.
    """

    def __init__(self, room: JournalBudget) -> None:
        self._entries: deque[JournalEntry] = deque()
        self._room = room

    def next_number(self) -> int:
        """Return the number for the next entry."""
        return next(self._room.numbers)

    def add(self, entry: JournalEntry) -> None:
        """Write one entry; the oldest makes room where there are too many."""
        size = entry.size
        self._entries.append(entry)
        if len(self._entries) > KEPT_ENTRIES:
            size -= self.drop()
        self._room.take(self, size)

    def drop(self) -> int:
        """Forget the oldest entry and return how much room it took, in bytes."""
        return self._entries.popleft().size

    def clear(self) -> None:
        """Forget all entries."""
        self._room.give_back(self, sum(entry.size for entry in self._entries))
        self._entries.clear()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __iter__(self) -> Iterator[JournalEntry]:
        """Go through the entries, oldest first."""
        return iter(tuple(self._entries))


def truncated(text: bytes) -> bytes:
    """Return so much of a text as an entry has room for."""
    if len(text) <= LARGEST_TEXT:
        return text
    return b"%s... (cut: it had %d bytes)" % (text[:LARGEST_TEXT], len(text))
