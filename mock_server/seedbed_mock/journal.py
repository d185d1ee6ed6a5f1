"""The journal: the latest requests and callbacks of each space, within a size limit that all spaces share."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import OrderedDict, deque
from itertools import chain, count, islice, takewhile
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


CALLBACK: Final = "callback"
"""``operation`` of an entry that is a callback."""

UNMATCHED: Final = "unmatched"
"""``operation`` of an entry that is a request to no operation of the service."""

MOST_ENTRIES: Final = 1000
"""Number of entries that the journal of one space keeps."""

MOST_ENTRIES_OF_ALL: Final = 50_000
"""Number of entries that the journals of all spaces keep together; besides its bodies, each takes about a kilobyte."""

MOST_BYTES: Final = 64 * 1024 * 1024
"""Size of the bodies that the journals of all spaces keep together."""

LARGEST_TEXT: Final = 64 * 1024
"""Size in bytes beyond which a body is truncated."""

_SPARE_PLACES = 1000

DURATIONS: Final = (0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
"""Upper bounds of the durations that are counted together, in milliseconds."""

_MOST_COUNTED = 500
_MOST_HEADERS = 100
_LONGEST_HEADER = 1024

_MOST_REMEMBERED = 256
_LONGEST_REMEMBERED = 2048

_SECRET_HEADERS = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"x-api-key", b"api-key"})
_SCHEMES = frozenset({"", "basic", "bearer", "digest", "token"})
"""Words that may stand before a secret. In a value of another form, any word may be secret."""

Headers = tuple[tuple[bytes, bytes], ...]


class KeptHeaders(NamedTuple):
    """Headers as the journal keeps them.

    Attributes:
        fields: Names and values.
        size: Their size in bytes.
    """

    fields: Headers = ()
    size: int = 0

    @classmethod
    def of(cls, fields: Headers) -> KeptHeaders:
        """Return headers with their size."""
        return cls(fields, _size(fields))


NO_HEADERS: Final = KeptHeaders()


# Without garbage collection: an entry is part of no cycle, and thousands of them would slow each collection down.
class JournalEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request to the service, or one attempt to deliver a callback.

    Attributes:
        number: Position in the order of all entries of all spaces.
        at: When it happened, in Unix milliseconds.
        kind: ``call`` for a request, ``callback`` for a callback, ``unmatched`` for a request to no operation.
        operation: Name of the operation; the kind if there is none.
        account: Fingerprint of the key, empty if it was refused.
        method: HTTP method.
        target: Path and query of the request; URL of the callback.
        headers: Headers of a request, with fingerprints in place of keys.
        request: Request body.
        code: Code in the response body; ``None`` for a callback.
        status: HTTP status of the response, ``None`` if there was none.
        case: Case of the dialect that the response is; empty for a callback.
        answer: Response body; for a callback, the reason why there was no response.
        violations: IDs of the contract's clauses that the request breaks.
        fault: Fault rule that matched the request, empty if there was none.
        task_id: ID of the task, empty if there is none.
        attempt: Number of the attempt to deliver a callback; 0 for a request.
        nearest: Operation that an unmatched request was likely meant for, empty if none is likely.
        hint: What is wrong with an unmatched request, in one sentence; empty if that is not known.
        duration: Milliseconds of real time until the response was ready, or until the attempt had ended.
        handler: Name of the handler that refused the request, empty if none did.
        reason: Why the request was refused and what to do, whatever the dialect says; empty if it was not.
    """

    number: int
    at: int
    kind: Literal["call", "callback", "unmatched"]
    operation: str
    account: str = ""
    method: str = "POST"
    target: str = ""
    headers: KeptHeaders = NO_HEADERS
    request: bytes = b""
    code: int | None = None
    status: int | None = None
    case: str = ""
    answer: bytes = b""
    violations: tuple[str, ...] = ()
    fault: str = ""
    task_id: str = ""
    attempt: int = 0
    nearest: str = ""
    hint: str = ""
    duration: float = 0
    handler: str = ""
    reason: str = ""

    @property
    def size(self) -> int:
        """Size of the bodies, the headers and the target in bytes."""
        return len(self.request) + len(self.answer) + len(self.target) + self.headers.size


def truncated(text: bytes) -> bytes:
    """Return a body as the journal keeps it: whole, or the beginning and a note that says its size."""
    if len(text) <= LARGEST_TEXT:
        return text
    return b"%s... (cut: it had %d bytes)" % (text[:LARGEST_TEXT], len(text))


class HeaderKeeper:
    """Turns the headers of requests into what the journal keeps of them.

    It remembers the latest results: most requests of a client have the same headers, and their entries then share one
    value. It remembers no headers with a secret that the server does not hold anyway: that may be a real key, sent by
    mistake.

    Args:
        fingerprint: Returns what is kept in place of a secret.
        is_held: Returns whether the server holds a secret anyway.
        credentials: Further headers with a secret, each with the word before it, in lower case.
    """

    def __init__(
        self,
        fingerprint: Callable[[str], str],
        is_held: Callable[[str], bool],
        credentials: Iterable[tuple[bytes, str]] = (),
    ) -> None:
        credentials = tuple(credentials)
        self._fingerprint = fingerprint
        self._is_held = is_held
        self._secret_headers = _SECRET_HEADERS.union(header for header, _ in credentials)
        self._schemes = _SCHEMES.union(scheme for _, scheme in credentials)
        self._remembered: dict[Headers, KeptHeaders] = {}

    def kept(self, headers: Iterable[tuple[bytes, bytes]]) -> KeptHeaders:
        """Return headers without secrets, and truncated; their names are in lower case."""
        sent: Headers = tuple(headers)
        try:
            found = self._remembered.get(sent)
        except TypeError:
            # ASGI allows any iterables here, and some servers pass lists, which have no hash.
            return self.kept([(name, value) for name, value in sent])
        if found:
            return found
        kept, is_safe = [], True
        for name, value in sent[:_MOST_HEADERS]:
            if name in self._secret_headers:
                text = value.decode("latin-1").strip()
                scheme, _, secret = text.rpartition(" ")
                if scheme.rstrip().lower() not in self._schemes:
                    scheme, secret = "", text
                kept.append((name, f"{scheme} {self._fingerprint(secret)}".strip().encode("latin-1")))
                is_safe = is_safe and self._is_held(secret)
            else:
                kept.append((name, value[:_LONGEST_HEADER]))
        result = KeptHeaders.of(tuple(kept))
        if is_safe and _size(sent) <= _LONGEST_REMEMBERED:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[sent] = result
        return result


def _size(headers: Iterable[tuple[bytes, bytes]]) -> int:
    return sum(map(len, chain.from_iterable(headers)))


_number_of = attrgetter("number")


class Tally:
    """Counts of all entries ever, by what they are and how long they took; the journal itself forgets old entries."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int | None, bool], list[float]] = {}

    def count(self, entry: JournalEntry) -> None:
        """Count an entry; this takes the same time however many there are."""
        code = entry.status if entry.code is None else entry.code
        key = (entry.operation, code, entry.fault != "")
        # A fault can give a response any code.
        if (counts := self._counts.get(key)) is None:
            key = key if len(self._counts) < _MOST_COUNTED else (entry.operation, None, key[2])
            counts = self._counts.setdefault(key, [0.0] * (len(DURATIONS) + 2))
        counts[bisect_left(DURATIONS, entry.duration)] += 1
        counts[-1] += entry.duration

    def items(self) -> list[tuple[tuple[str, int | None, bool], list[float]]]:
        """Return the counts by operation, code (``None`` for none, or for rare ones) and whether a fault applied.

        Each list has the number of entries up to each of ``DURATIONS``, the number above, and the sum of all durations.
        """
        return [(key, list(counts)) for key, counts in tuple(self._counts.items())]


class JournalBudget:
    """The size limit and the numbers that the journals of all spaces share.

    Beyond the limit, the journal that was not written to for the longest time loses its oldest entries.

    Args:
        most_bytes: Size limit for the bodies of all entries.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = self._left = most_bytes
        self._entries = 0
        # The numbers of all entries and their journals, in their order. The places of dropped entries stay for a while.
        self._numbers = array("q")
        self._owners: list[Journal] = []
        self._journals: OrderedDict[Journal, None] = OrderedDict()
        self._latest: Journal | None = None
        self.numbers = count(1)
        self.tally = Tally()

    @property
    def size(self) -> tuple[int, int]:
        """Number of entries and bytes of bodies that all journals keep."""
        return self._entries, self._most_bytes - self._left

    def spend(self, journal: Journal, number: int, size: int, entries: int = 1) -> None:
        """Take a number of bytes for an entry of a journal; ``entries`` is 0 if another one was dropped for it."""
        self._numbers.append(number)
        self._owners.append(journal)
        if journal is not self._latest:
            self._latest = journal
            self._journals[journal] = None
            self._journals.move_to_end(journal)
        self._left -= size
        self._entries += entries
        while self._left < 0 or self._entries > MOST_ENTRIES_OF_ALL:
            stalest = next(iter(self._journals))
            self._left += stalest.drop()
            if not stalest:
                self._forget(stalest)
        if len(self._numbers) > 2 * self._entries + _SPARE_PLACES:
            self._remove_empty_places()

    def _remove_empty_places(self) -> None:
        # Each time as many entries have been added as places are looked at, so that an entry costs the same always.
        places = zip(self._numbers, self._owners, strict=True)
        kept = [(number, owner) for number, owner in places if number >= owner.first_number]
        self._numbers = array("q", [number for number, _ in kept])
        self._owners = [owner for _, owner in kept]

    def newest_first(self, before: int | None = None) -> Iterator[tuple[int, tuple[Journal, JournalEntry | None]]]:
        """Yield the numbers, journals and entries of all spaces, newest first; ``None`` for a dropped entry.

        Args:
            before: Only entries with smaller numbers. Those from this number on cost nothing.
        """
        end = len(self._numbers) if before is None else bisect_left(self._numbers, before)
        for place in range(end - 1, -1, -1):
            number, journal = self._numbers[place], self._owners[place]
            yield number, (journal, journal.find(number))

    def drop(self) -> None:
        """Note that an entry was dropped."""
        self._entries -= 1

    def give_back(self, journal: Journal, size: int) -> None:
        """Give back the bytes of all entries of a journal."""
        self._forget(journal)
        self._left += size

    def _forget(self, journal: Journal) -> None:
        self._journals.pop(journal, None)
        if journal is self._latest:
            self._latest = None


class Journal:
    """The latest entries of one space.

    Args:
        budget: Size limit that the journals of all spaces share.
        space: Name of the space.
    """

    def __init__(self, budget: JournalBudget, space: str = "") -> None:
        self.space = space
        self._entries: deque[JournalEntry] = deque()
        # Kept beside the entries, since each is needed twice on the path of a call.
        self._sizes = deque[int]()
        self._budget = budget

    def __bool__(self) -> bool:
        return bool(self._entries)

    def __iter__(self) -> Iterator[JournalEntry]:
        """Iterate over the entries, oldest first."""
        # Over a copy: a request may add an entry while the control API iterates.
        return iter(tuple(self._entries))

    @property
    def first_number(self) -> float:
        """Number of the oldest entry, infinite if there is none: entries are dropped in their order."""
        return self._entries[0].number if self._entries else inf

    def find(self, number: int) -> JournalEntry | None:
        """Return the entry with this number, ``None`` if it was dropped."""
        place = bisect_left(self._entries, number, key=_number_of)
        found = self._entries[place] if place < len(self._entries) else None
        return found if found and found.number == number else None

    def newest_first(self, before: int | None = None) -> Iterator[tuple[int, tuple[Journal, JournalEntry | None]]]:
        """Yield the entries as :meth:`JournalBudget.newest_first` does; nothing may be added meanwhile."""
        end = len(self._entries) if before is None else bisect_left(self._entries, before, key=_number_of)
        for place in range(end - 1, -1, -1):
            entry = self._entries[place]
            yield entry.number, (self, entry)

    def next_number(self) -> int:
        """Return the number of the next entry."""
        return next(self._budget.numbers)

    def add(self, entry: JournalEntry) -> None:
        """Add an entry; beyond ``MOST_ENTRIES`` the oldest is dropped."""
        self._budget.tally.count(entry)
        self._keep(entry)

    def _keep(self, entry: JournalEntry) -> None:
        size = entry.size
        self._entries.append(entry)
        self._sizes.append(size)
        if len(self._entries) > MOST_ENTRIES:
            self._entries.popleft()
            self._budget.spend(self, entry.number, size - self._sizes.popleft(), entries=0)
        else:
            self._budget.spend(self, entry.number, size)

    def drop(self) -> int:
        """Drop the oldest entry and return the size of its bodies in bytes."""
        self._budget.drop()
        self._entries.popleft()
        return self._sizes.popleft()

    def clear(self) -> None:
        """Drop all entries."""
        self._budget.give_back(self, sum(self.drop() for _ in range(len(self._entries))))


class SharedJournal(Journal):
    """A journal of a fleet: entries are handed to the fleet, which returns those of all servers in one order.

    Args:
        budget: Size limit that the journals of all spaces share.
        space: Name of the space.
        hand_over: Takes the journal and a new entry.
    """

    def __init__(
        self, budget: JournalBudget, space: str, hand_over: Callable[[SharedJournal, JournalEntry], None]
    ) -> None:
        super().__init__(budget, space)
        self._hand_over = hand_over

    def add(self, entry: JournalEntry) -> None:
        """Count an entry, and hand it over."""
        self._budget.tally.count(entry)
        self._hand_over(self, entry)

    def receive(self, entry: JournalEntry) -> None:
        """Keep an entry of any server, whose number is larger than those of all entries before it."""
        self._keep(entry)


class JournalReader:
    """Reads what was added since it last read. Those who add entries know nothing of it.

    Args:
        newest_first: Yields the entries as :meth:`JournalBudget.newest_first` does.
    """

    def __init__(self, newest_first: Callable[[], Iterable[tuple[int, tuple[Journal, JournalEntry | None]]]]) -> None:
        self._newest_first = newest_first
        self._read = self.newest()

    def newest(self) -> int:
        """Return the number of the entry that was added last, 0 if there is none."""
        return next((number for number, _ in self._newest_first()), 0)

    def read(self, limit: int) -> tuple[list[tuple[str, JournalEntry]], int]:
        """Return the new entries with the names of their spaces, oldest first, and how many are left out.

        Args:
            limit: Largest number of entries; the newest are returned.
        """
        read, self._read = self._read, max(self._read, self.newest())
        new = islice(takewhile(lambda place: place[0] > read, self._newest_first()), limit)
        found = [(journal.space, entry) for _, (journal, entry) in new if entry][::-1]
        return found, self._read - read - len(found)
