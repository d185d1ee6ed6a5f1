"""What a server sees of a program: its requests, the callbacks it receives, the images it fetches, and how it ends.

Nothing of the program itself is known. What a rule finds in it is a :class:`RuleFinding`. Times of the clock are in
Unix milliseconds; what is said of the program is in its own seconds, those of the clock divided by the clock's speed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import parse_qs, urlsplit

from seedbed_schemas import default_contract, job_api

from seedbed_mock.bill import request_key
from seedbed_mock.durations import DurationProfile
from seedbed_mock.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_mock.journal import JournalEntry
    from seedbed_mock.options import ServerOptions
    from seedbed_mock.state import Service
    from seedbed_mock.tasks import Task


CREATE: Final = "createTask"
QUERY: Final = "recordInfo"

PATIENCE_SECONDS: Final = 900.0
"""How long a program must wait for a task: the vendor advises to give up after 10 to 15 minutes (one good source)."""

LONGEST_PAUSE_SECONDS: Final = 30.0
"""Longest pause between two queries of a task: the vendor advises 15 to 30 seconds in the end (one good source)."""

_SHARE: Final = 0.99
_MOST_TASKS: Final = 10_000
_CONTROL: Final = re.compile(
    r"images=(?P<images>\d{1,9})(?P<fetches>,fetches)?(?P<acts>,callbacks)?(,repeats=(?P<times>[1-9]\d{0,8}))?"
)
_STATES: Final = job_api().states
_DONE: Final = "done"
_CONFIRMED: Final = range(200, 300)
RuleOutcome = Literal["passed", "failed", "not judged"]

_UNCERTAIN: Final = ("wire.", "delay", "answer.")
"""Effects after which nobody but the program knows whether it has read the response."""

_WHOLE: Final = ("wire.trickle", "delay", "answer.type")
"""Those of them that send a whole response."""

_CODES: Final = {code.name: code.number for code in default_contract().codes}
_PASSING: Final = frozenset({_CODES["rate_limited"], _CODES["service_unavailable"]})
_REFUSALS: Final = frozenset(_CODES.values()) - {_CODES["success"], _CODES["server_error"]}
"""Codes of a createTask request that certainly created no task; after any other error, a task may exist."""
_UNAUTHORIZED: Final = _CODES["unauthorized"]
_UNKNOWN: Final = frozenset({_CODES["not_found"], _CODES["validation_error"]})
"""Codes of a query for a task that does not exist, the one of the documented and the one of the observed dialect."""


@dataclass(frozen=True, slots=True)
class ProgramExit:
    """How a program ended.

    Attributes:
        code: Its exit code, negative for a signal; ``None`` if it did not end by itself.
        errors: The end of what it printed to standard error.
    """

    code: int | None
    errors: str = ""


@dataclass(frozen=True, slots=True)
class ImageFetch:
    """An image that was fetched.

    Attributes:
        at: When it was requested, in Unix milliseconds.
        task_id: ID of its task.
    """

    at: int
    task_id: str


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a server saw of one run of a program.

    Attributes:
        entries: The journal, oldest first.
        tasks: The tasks by ID, also those of which the program was not told.
        fetches: The images that were fetched, oldest first.
        begun: When the program started, in Unix milliseconds.
        ended: When it ended or was stopped, in Unix milliseconds.
        speed: Seconds of the clock in one second of the program.
        patience: Seconds for which the program must wait for a task.
        signs: Whether the callbacks are signed.
        exit: How the program ended.
    """

    entries: tuple[JournalEntry, ...]
    tasks: Mapping[str, Task]
    fetches: tuple[ImageFetch, ...] = ()
    begun: int
    ended: int
    speed: float = 1
    patience: float = PATIENCE_SECONDS
    signs: bool = False
    exit: ProgramExit = field(default_factory=lambda: ProgramExit(0))

    def seconds(self, start: int, end: int) -> float:
        """Return the time between two moments of the clock, in seconds of the program."""
        return (end - start) / 1000 / self.speed

    @cached_property
    def calls(self) -> tuple[JournalEntry, ...]:
        """The requests to operations of the service."""
        return tuple(each for each in self.entries if each.kind == "call")

    @cached_property
    def creations(self) -> tuple[JournalEntry, ...]:
        """The createTask requests."""
        return tuple(each for each in self.calls if each.operation == CREATE)

    @cached_property
    def queries(self) -> dict[str, list[JournalEntry]]:
        """The recordInfo requests by the ID that they ask for."""
        found: dict[str, list[JournalEntry]] = {}
        for each in self.calls:
            if each.operation == QUERY:
                found.setdefault(each.task_id or queried_id(each), []).append(each)
        return found

    @cached_property
    def callbacks(self) -> dict[str, list[JournalEntry]]:
        """The attempts to deliver callbacks, by the ID of the task."""
        found: dict[str, list[JournalEntry]] = {}
        for each in self.entries:
            if each.kind == "callback":
                found.setdefault(each.task_id, []).append(each)
        return found

    @cached_property
    def paid(self) -> dict[int, list[JournalEntry]]:
        """The createTask requests that were paid for, by what they paid for; a failed task costs nothing."""
        found: dict[int, list[JournalEntry]] = {}
        for each in self.creations:
            task = self.tasks.get(each.task_id)
            if (task and not task.failure) or each.fault.startswith("task.lost"):
                found.setdefault(key_of(each), []).append(each)
        return found

    @cached_property
    def known_tasks(self) -> tuple[Task, ...]:
        """The tasks whose ID the program certainly has: it read the response, or it used the ID."""
        known = {
            each.task_id for each in self.creations if each.task_id and each.case == _DONE and not is_uncertain(each)
        }
        known |= self.queries.keys() | {
            task_id for task_id, each in self.callbacks.items() if any(map(confirmed, each))
        }
        return tuple(task for task_id, task in self.tasks.items() if task_id in known)

    def learned(self, task: Task, state: str | None = None) -> JournalEntry | None:
        """Return the entry from which the program learned that a task has ended, or ended in one state."""
        states = {state} if state else {_STATES.success, _STATES.failure}
        for each in self.entries:
            if each.task_id != task.task_id:
                continue
            is_told = each.operation == QUERY and self._has_read(each) and state_in(each.answer) in states
            if is_told or (each.kind == "callback" and confirmed(each) and state_in(each.request) in states):
                return each
        return None

    def _has_read(self, query: JournalEntry) -> bool:
        """Return whether what followed shows that the program read the response to a query."""
        if not is_uncertain(query) or any(each.at >= query.at for each in self.fetched(query.task_id)):
            return True
        return query.fault.startswith(_WHOLE) and query is self.queries[query.task_id][-1]

    @property
    def judged_until(self) -> int:
        """Time after which a program owes no consequence, in Unix milliseconds: the drill may have stopped it first."""
        pause = LONGEST_PAUSE_SECONDS * 1000 * self.speed if self.exit.code is None else 0
        return self.ended - round(pause)

    def fetched(self, task_id: str) -> list[ImageFetch]:
        """Return when the image of a task was fetched."""
        return [each for each in self.fetches if each.task_id == task_id]

    def last_sign(self, task_id: str) -> int | None:
        """Return when the program last did something with a task, in Unix milliseconds."""
        times = [each.at for each in self.queries.get(task_id, ())]
        times += [each.at for each in self.creations if each.task_id == task_id]
        times += [each.at for each in self.callbacks.get(task_id, ()) if confirmed(each)]
        times += [each.at for each in self.fetched(task_id)]
        return max(times, default=None)


async def observe(
    service: Service, exit_: ProgramExit, begun: int, ended: int, *, patience: float = PATIENCE_SECONDS
) -> Observation:
    """Return what a mock service has seen of one run.

    Args:
        service: The service.
        exit_: How the program ended.
        begun: When it started, in Unix milliseconds of the service's clock.
        ended: When it ended or was stopped, likewise.
        patience: Seconds for which the program must wait for a task.
    """
    spaces = service.spaces.all()
    entries = sorted((entry for space in spaces for entry in space.journal), key=lambda each: each.number)
    tasks = [task for _, task in await service.store.page(limit=_MOST_TASKS)]
    return Observation(
        entries=tuple(entries),
        tasks={task.task_id: task for task in reversed(tasks)},
        fetches=tuple(ImageFetch(*each) for each in service.fetches),
        begun=begun,
        ended=ended,
        # A clock that a program turns by itself shows the seconds of the program.
        speed=service.clock.speed or 1,
        patience=patience,
        signs=any(account.signing_key for space in spaces for account in space.accounts.values()),
        exit=exit_,
    )


def patience_of(options: ServerOptions) -> float:
    """Return for how many seconds a program must wait for a task: until nearly all have ended, but not for ever."""
    if not isinstance(options.duration, DurationProfile):
        return PATIENCE_SECONDS
    longest = max(each.percentile(_SHARE) for each in options.duration.quality.values())
    return min(longest, PATIENCE_SECONDS)


@dataclass(frozen=True, slots=True)
class ControlRun:
    """What a program does when nothing goes wrong.

    Attributes:
        wanted: How many images of each request it makes.
        images: How many tasks have a result that it obtains.
        fetches: Whether it fetches the images.
        acts_on_callbacks: Whether it does something visible after a callback.
        repeats: How many images of any request it may make, if ``wanted`` has no more.
    """

    wanted: Counter[int]
    images: int
    fetches: bool
    acts_on_callbacks: bool
    repeats: int = 1

    @classmethod
    def of(cls, calm: Observation) -> ControlRun:
        """Return what a calm run shows."""
        wanted = Counter({key: len(entries) for key, entries in calm.paid.items()})
        acts = any(
            acted_after(calm, each) for entries in calm.callbacks.values() for each in entries if confirmed(each)
        )
        fetches = bool(calm.fetches)
        return cls(wanted, obtained(calm, fetches=fetches), fetches, acts)

    def describe(self) -> str:
        """Return it as text for a command line, such as ``images=2,fetches,callbacks``."""
        repeats = max([self.repeats, *self.wanted.values()])
        parts = {"fetches": self.fetches, "callbacks": self.acts_on_callbacks, f"repeats={repeats}": repeats > 1}
        return ",".join([f"images={self.images}", *(name for name, holds in parts.items() if holds)])

    @classmethod
    def parse(cls, text: str) -> ControlRun:
        """Return what a text of :meth:`describe` says, which does not keep the requests apart.

        Raises:
            SettingsError: The text is invalid.
        """
        if not (match := _CONTROL.fullmatch(text)):
            raise SettingsError(
                f"Invalid calm run {text[:60]!r}; write images=N, then fetches, callbacks or repeats=N after commas."
            )
        return cls(
            Counter(), int(match["images"]), bool(match["fetches"]), bool(match["acts"]), int(match["times"] or 1)
        )


def control_of_test(seen: Observation, images: int) -> ControlRun:
    """Return what a test is measured by, which has no calm run.

    Args:
        seen: What the server saw of the test.
        images: Number of images that its program should have in the end.
    """
    by_itself = ControlRun.of(seen)
    return ControlRun(Counter(), images, by_itself.fetches, by_itself.acts_on_callbacks)


def obtained(seen: Observation, *, fetches: bool) -> int:
    """Return how many images the program has: those it fetched, or those it was told of if it never fetches any."""
    if fetches:
        # Half an image is none.
        broken = {task_id for task_id, task in seen.tasks.items() if task.result_fault.is_truncated}
        return len({each.task_id for each in seen.fetches} - broken)
    return sum(seen.learned(task, _STATES.success) is not None for task in seen.tasks.values())


def acted_after(seen: Observation, callback: JournalEntry) -> bool:
    """Return whether the program queried the record or fetched the image of a task after a callback."""
    queried = any(each.number > callback.number for each in seen.queries.get(callback.task_id, ()))
    return queried or any(each.at >= callback.at for each in seen.fetched(callback.task_id))


def excused_until(seen: Observation) -> int:
    """Return until when a program had a reason to wait without a request, in Unix milliseconds."""
    last = max((each.at for each in seen.entries), default=seen.begun)
    excuses, pause, known = [last], 2 * LONGEST_PAUSE_SECONDS, {each.task_id for each in seen.known_tasks}

    def add(since: int, seconds: float) -> None:
        excuses.append(since + round(seconds * 1000 * seen.speed))

    if seen.calls and seen.calls[-1].code in _PASSING:
        add(seen.calls[-1].at, max(pause, retry_after(seen.calls[-1])))
    for each in seen.creations:
        task = seen.tasks.get(each.task_id)
        may_exist = each.case == _DONE or is_uncertain(each) or each.code not in _REFUSALS
        if not may_exist or (task and seen.learned(task)):
            continue
        if each.task_id in known:
            add(last, pause)
        is_due = not (task and each.task_id in known and task.has_ended(seen.ended))
        # Nobody has to ask as long as a callback may come. That it was lost shows when the task has ended.
        if is_due and _parsed(each.request).get(job_api().fields.callback):
            add(each.at, seen.patience)
    return max(excuses)


def is_locked_out(seen: Observation, task: Task) -> bool:
    """Return whether the last query of a task was refused for its key, after which waiting does not help."""
    queries = seen.queries.get(task.task_id) or []
    return bool(queries) and queries[-1].code == _UNAUTHORIZED


def asked_in_vain(seen: Observation, task: Task) -> bool:
    """Return whether a program that never learned of the end of a task asked for it as long as it has to."""
    asked = [each for each in seen.queries.get(task.task_id, ()) if task.has_ended(each.at)]
    if not asked:
        return False
    last, minute = asked[-1], 2 * LONGEST_PAUSE_SECONDS
    if seen.exit.code is None:
        return seen.seconds(last.at, seen.ended) <= minute
    return seen.seconds(task.created, last.at) >= (minute if last.code in _UNKNOWN else seen.patience)


def confirmed(callback: JournalEntry) -> bool:
    """Return whether the receiver responded to a callback with 2xx."""
    return callback.status in _CONFIRMED


def is_uncertain(entry: JournalEntry) -> bool:
    """Return whether a fault may have kept the program from reading the response."""
    return entry.fault.startswith(_UNCERTAIN)


def is_final(query: JournalEntry) -> bool:
    """Return whether the response to a recordInfo request certainly told the program that the task has ended."""
    return not is_uncertain(query) and state_in(query.answer) in {_STATES.success, _STATES.failure}


def key_of(creation: JournalEntry) -> int:
    """Return a number that is the same for createTask requests that pay for the same image."""
    names, request = job_api().fields, _parsed(creation.request)
    return request_key(creation.account, str(request.get(names.model)), request.get(names.input))


def retry_after(entry: JournalEntry) -> float:
    """Return the seconds that a response asked to wait, 0 if it did not."""
    match = re.search(r"retry-after=(\d+(?:\.\d+)?)", entry.fault)
    return float(match[1]) if match else 0.0


def queried_id(query: JournalEntry) -> str:
    """Return the ID that a recordInfo request asks for, empty without one."""
    values = parse_qs(urlsplit(query.target).query).get(job_api().record_info.query, [""])
    return values[-1]


def state_in(body: bytes) -> str:
    """Return the state in the record of a response or callback, empty without one."""
    record = _parsed(body).get("data")
    return str(record.get("state", "")) if isinstance(record, dict) else ""


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something that happened.

    Attributes:
        seconds: When, in seconds of the program since its start.
        what: What happened, in a few words.
    """

    seconds: float
    what: str

    def describe(self) -> str:
        """Return it in one line, such as ``12.5 s: createTask, code 500``."""
        return f"{self.seconds:.1f} s: {self.what}"


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """What a rule says of one run.

    Attributes:
        outcome: The outcome.
        reason: Why, in one sentence; empty if it passed.
        evidence: What it rests on, oldest first.
    """

    outcome: RuleOutcome
    reason: str = ""
    evidence: tuple[Evidence, ...] = ()
