"""The state of a mock service: its models, spaces, clock, store and faults, and what is known of each request."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import deque
from hashlib import blake2b
from random import Random
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, cast

import msgspec

from seedbed_mock.accounts import Account, Spaces, fingerprint
from seedbed_mock.bill import Ledger
from seedbed_mock.catalogue import CreationResponse
from seedbed_mock.clock import ContinuedClock, Reading, real_monotonic
from seedbed_mock.faults.connection import ConnectionEffect
from seedbed_mock.faults.effects import Delay
from seedbed_mock.faults.engine import FaultEngine
from seedbed_mock.faults.scenarios import ScenarioRunner, scenario_path
from seedbed_mock.journal import HeaderKeeper, Journal
from seedbed_mock.stores.store import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from seedbed_schemas import JobApi
    from seedbed_schemas.dialect import Dialect

    from seedbed_mock.accounts import Space
    from seedbed_mock.catalogue import Model, ModelCatalogue
    from seedbed_mock.clock import Clock
    from seedbed_mock.durations import DurationProfile
    from seedbed_mock.faults.engine import ActiveRule
    from seedbed_mock.fleet import Fleet
    from seedbed_mock.journal import JournalEntry
    from seedbed_mock.options import ServerOptions
    from seedbed_mock.settings import Span
    from seedbed_mock.stores.store import Store
    from seedbed_mock.tasks import CallbackDelivery, Task


_log = logging.getLogger("seedbed")

_WARNING_SECONDS = 10
_MOST_ERRORS = 100
_NEAREST = 3
_COMPARED_LENGTH = 100
_KEPT_CHARACTERS = 4000

_MOST_HELD = 1000
"""Callbacks of a space that wait for another one; beyond it, the oldest are sent when their own time has come."""

_MOST_FETCHES = 1000

_RESULT_SUFFIX = ".jpg"
_CLOCK_NOTE = "clock"

_RESERVED = 64
"""How many IDs a server of a fleet reserves at once, one for each millisecond; older ones are left out."""


# Without garbage collection: a context is part of no cycle, and each request has one.
class RequestContext(msgspec.Struct, kw_only=True, gc=False):
    """A request on its way through the handlers of its operation; each handler adds what it finds out.

    Attributes:
        headers: Request headers, with names in lower case.
        query: Query parameters.
        path: Path parameters.
        operation: Name of the operation.
        body: The body, ``None`` if it was too large.
        body_problem: Why the body could not be decoded, empty if it could.
        base_url: URL at which the server was reached.
        server: Address at which the server was reached.
        names_server: Whether the Host header gives an address or a name of this server.
        space: The space of the request.
        now: When the request arrived, in Unix milliseconds.
        account: The account of the key, ``None`` until the request is authenticated.
        model: The requested model.
        request: The parsed body.
        text: The body as text.
        data: ``data`` of the response.
        envelope: Fields of the response beside ``code``, ``msg`` and ``data``.
        task_id: ID of the task that is created or fetched, empty if there is none.
        violations: IDs of the contract's clauses that the request breaks.
        key_rule: Fault rule that is given in the key, empty if there is none.
        fault: The fault rule that matches the request.
        is_faulted: Whether its effect has changed what becomes of the request.
        task_fault: Fault rule that changed the fetched task, empty if there is none.
        refused_by: Name of the handler that refused the request or replaced its response, empty if none did.
        reason: Why the request was refused and what to do.
    """

    headers: Mapping[bytes, bytes]
    query: Mapping[str, str]
    path: Mapping[str, str]
    operation: str
    body: bytes | None
    base_url: str
    server: tuple[str, int | None]
    names_server: bool
    space: Space
    now: int
    account: Account | None = None
    model: Model = cast("Model", None)
    request: Any = None
    text: str = ""
    data: Any = None
    envelope: Mapping[str, Any] | None = None
    body_problem: str = ""
    task_id: str = ""
    violations: tuple[str, ...] = ()
    key_rule: str = ""
    fault: ActiveRule | None = None
    is_faulted: bool = False
    task_fault: str = ""
    refused_by: str = ""
    reason: str = ""

    # The headers hold the key, and a traceback may show what a frame holds.
    def __repr__(self) -> str:
        return f"RequestContext({self.operation})"

    def settle_fault(self) -> ActiveRule | None:
        """Count a hit of the rule if its effect has changed or will change something, and drop the rule otherwise."""
        fault = self.fault
        if fault and (self.is_faulted or isinstance(fault.rule.effect, ConnectionEffect | Delay)):
            fault.hits += 1
        else:
            self.fault = None
        return self.fault

    @property
    def caller(self) -> Account:
        """The account of an authenticated request."""
        assert self.account is not None, "authenticate runs first"  # a promise of the order of handlers
        return self.account


class InternalError(Exception):
    """An error of the server itself, without the frames of its traceback, which hold whole requests.

    Its notes have the traceback as text.

    Args:
        cause: The error.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause)[:_KEPT_CHARACTERS])
        frames = "".join(traceback.format_tb(cause.__traceback__))[-_KEPT_CHARACTERS:]
        self.add_note(f"Traceback of the {type(cause).__name__}:\n{frames}")


class Service:
    """The state that the handlers, the control API and the callbacks of one mock service share.

    Args:
        options: Options of the server.
        clock: Clock of the server.
        catalogue: Models of the service.
        shared: The part of the API that is the same for all models.
        dialect: Wording of the responses and form of the records.
        store: Store of tasks and balances.
        fleet: What this server shares with others beside the store, ``None`` if it shares nothing.

    Attributes:
        evicted: Spaces and accounts that gave way to newer ones, until the store has deleted what it has of them.
        is_open: Whether the service has begun with what the store has.
        errors: Internal errors, which no request should be able to cause; the oldest are dropped.
        kept_headers: Returns the headers of a request as the journal keeps them, with fingerprints in place of keys.
        ledger: What the tasks would have cost.
        fetches: When the latest images were fetched, in Unix milliseconds, and the IDs of their tasks.
        held_callbacks: IDs of the tasks whose callbacks wait for the next one of their space, by space.
        differences: Returns what the service behind a proxy does that the contract does not say.
        callback_is_due: Called with the time at which a callback is, or will be, due; the dispatcher sets it.
        refused_callback: Returns the refused callback to a URL of a task that is created at a time, ``None`` if the
            callback must be tried; the dispatcher sets it.
        visible_after: How long after its creation recordInfo begins to know a task, in milliseconds.
        keys_as_sent: The configured keys by the value that the first header for keys usually has.
        creation_responses: What the response to an accepted request contains, by model.
        started_at: When the server started, by its clock, in Unix seconds.
        scenario_runner: Runs the scenario, ``None`` without one.
    """

    def __init__(
        self,
        *,
        options: ServerOptions,
        clock: Clock,
        catalogue: ModelCatalogue,
        shared: JobApi,
        dialect: Dialect,
        store: Store,
        fleet: Fleet | None = None,
    ) -> None:
        self.options = options
        self.fleet = fleet
        self.clock = clock
        self.catalogue = catalogue
        self.operation = catalogue.shipped.contract.operation
        operations = (model.contract.operation for model in catalogue.models.values())
        # Nearly always one pair: the contracts of one service agree on how to send a key.
        self.credentials = tuple({(each.header.lower().encode(), each.scheme.lower()): None for each in operations})
        # Of which a request with several must not show one and use another.
        scheme = self.credentials[0][1]
        self.keys_as_sent = {
            f"{scheme.title()} {each.key}".strip().encode(): each.key for each in options.accounts if each.key.isascii()
        }
        self.key_headers = frozenset({b"host", *(header for header, _ in self.credentials)})
        self.shared = shared
        self.dialect = dialect
        self.store = store
        self.evicted = deque[str | Account]()
        make_journal = fleet.journal.make if fleet else Journal
        self.spaces = Spaces(options, self.evicted.append, self.evicted.append, make_journal)
        self.kept_headers = HeaderKeeper(
            lambda secret: fingerprint(self._without_space(secret)),
            lambda secret: self._without_space(secret) in self.spaces.default.accounts,
            self.credentials,
        ).kept
        self.errors = deque[InternalError](maxlen=_MOST_ERRORS)
        self.ledger = Ledger()
        self.visible_after = round(options.visible_after * 1000)
        self.ports: set[int] = set()
        self.held_callbacks: dict[str, deque[str]] = {}
        self.fetches = deque[tuple[int, str]](maxlen=_MOST_FETCHES)
        self.callback_is_due: Callable[[int | None], None] = lambda _: None
        self.refused_callback: Callable[[str, int], CallbackDelivery | None] = lambda _url, _now: None
        self._latest_text = ""
        self.differences: Callable[[], Iterable[Any]] = list
        self.started_at = clock.now()
        success = dialect.cases["done"].number(catalogue.codes)
        errors = (code.number for code in catalogue.codes.values() if code.number != success)
        self.faults = FaultEngine(options.seed, errors, success)
        if fleet:
            fleet.attach(
                self.faults,
                self.ports,
                on_reset=self._drop,
                on_scenario=lambda name: self.play_scenario(name) if name else self.stop_scenario(),
                journal_of=lambda space: self.spaces.named(space).journal,
            )
        self.scenario_runner: ScenarioRunner | None = None
        if options.scenario:
            self.play_scenario(str(options.scenario))
        self.creation_responses = {
            name: CreationResponse.of(model.contract, dialect.created) for name, model in catalogue.models.items()
        }
        self._last_warning = "", 0.0
        self.is_open = False
        self._opening = asyncio.Lock()
        self._last_task = self._reserved = 0
        self._signature = blake2b(digest_size=16)
        # What is before and after the time in the IDs of each model, unless they contain more: formatting takes long.
        self._around_time = {
            name: dialect.task_id.format(family=name.partition("/")[0], milliseconds="\n").split("\n")
            for name in catalogue.models
            if "{hex" not in dialect.task_id
        }
        # Seeded by the system once: asking it for each ID would take a good part of the time to create a task.
        self._ids = Random()  # noqa: S311 (an ID is not a secret)

    async def open(self) -> None:
        """Begin with what the store has, in the event loop in which the service runs.

        Raises:
            StoreError: The store cannot be used.
        """
        async with self._opening:
            if self.is_open:
                return
            await self.store.open()
            if self.fleet:
                await self.fleet.open()
                self.started_at = self.fleet.started_at
            if isinstance(self.clock, ContinuedClock) and (noted := await self.store.note(_CLOCK_NOTE)):
                self.clock.continue_from(msgspec.json.decode(noted, type=Reading))
                self.started_at = self.clock.now()
                if self.scenario_runner:
                    self.scenario_runner.begin()
            await self._note_clock()
            self._last_task = await self.store.newest()
            # In the store, so that URLs stay valid when a server continues with its file.
            secret = await self.store.note_once("secret", token_bytes(32))
            self._signature = blake2b(key=secret, digest_size=16)
            self.is_open = True

    async def advance(self, seconds: float) -> None:
        """Advance the clock.

        Raises:
            ValueError: The clock cannot be advanced by this time.
        """
        if self.fleet:
            await self.fleet.advance(seconds)
            return
        self.clock.advance(seconds)
        await self._note_clock()

    async def _note_clock(self) -> None:
        if isinstance(self.clock, ContinuedClock):
            await self.store.note(_CLOCK_NOTE, msgspec.json.encode(self.clock.reading()))

    def play_scenario(self, name: str) -> None:
        """Play a scenario in place of the current one.

        Args:
            name: Name of a built-in scenario, or path of a scenario file.

        Raises:
            SettingsError: The file is not a valid scenario.
        """
        self.scenario_runner = ScenarioRunner(scenario_path(name), self.faults, self.clock)

    def stop_scenario(self) -> None:
        """End the scenario; its rules no longer apply."""
        self.scenario_runner = None
        self.faults.clear(source="scenario")

    def keep_error(self, error: Exception) -> None:
        """Keep an internal error; the oldest is dropped if there are too many."""
        self.errors.append(InternalError(error))

    def report(self, error: Exception, place: str) -> None:
        """Log an error; keep it if it is one of the server, which a store that cannot be used at the moment is not."""
        if not isinstance(error, StoreUnavailableError):
            _log.error("Internal error at %s", place, exc_info=error)
            self.keep_error(error)
            return
        # Such a problem goes on for a while, and each call would repeat it.
        problem, now = str(error), real_monotonic()
        if problem != self._last_warning[0] or now - self._last_warning[1] > _WARNING_SECONDS:
            self._last_warning = problem, now
            _log.warning(problem)

    @property
    def own_journal(self) -> Callable[[], Iterable[tuple[int, tuple[Journal, JournalEntry | None]]]]:
        """Yields what this server has added to the journal, newest first, for its log."""
        return self.fleet.journal.own_entries if self.fleet else self.spaces.journal

    def hold_callback(self, task: Task) -> None:
        """Note that the callback of a task waits for the next one of its space."""
        self.held_callbacks.setdefault(task.space, deque(maxlen=_MOST_HELD)).append(task.task_id)

    async def forget_evicted(self) -> None:
        """Delete what the store has of the spaces and accounts that gave way to newer ones."""
        while self.evicted:
            evicted = self.evicted.popleft()
            if self.fleet:
                # Another server may be using it.
                continue
            try:
                await (self._forget(evicted) if isinstance(evicted, str) else self.store.forget(evicted))
            except BaseException:
                self.evicted.appendleft(evicted)
                raise

    async def _forget(self, space: str | None) -> None:
        await self.store.reset(space)
        self._settle(space)

    def _settle(self, space: str | None) -> None:
        self.ledger.settle(space)
        for name in [space] if space else list(self.held_callbacks):
            self.held_callbacks.pop(name, None)
        self.faults.clear(scope=space)

    @property
    def duration(self) -> Span | DurationProfile:
        """How long a task takes: as the scenario says, or else as the options do."""
        playing = self.scenario_runner
        return playing.duration if playing and playing.duration else self.options.duration

    def now(self) -> int:
        """Return the time in Unix milliseconds."""
        return round(self.clock.now() * 1000)

    def url_for_clients(self, base_url: str) -> str:
        """Return the base URL of the URLs in responses, for a request that reached the server at a base URL."""
        return self.options.public_base or base_url

    def _without_space(self, secret: str) -> str:
        # The key of a space has the fingerprint of its account, which is made without the name of the space.
        return self.spaces.split(secret)[1]

    def nearest_models(self, name: str) -> str:
        """Return the names of the models that are most like an unknown one, separated by commas."""
        # Imported with the first unknown model. A name can be as long as a body, and comparing takes time.
        from difflib import get_close_matches

        return ", ".join(get_close_matches(name[:_COMPARED_LENGTH], self.catalogue.models, _NEAREST, cutoff=0))

    async def find_result(self, name: str) -> Task | None:
        """Return the task whose result has this file name, if it has succeeded and the result is still kept."""
        task, now = await self.store.find(name.partition("-")[2].removesuffix(_RESULT_SUFFIX)), self.now()
        if task is None or task.result_name != name or task.failure or task.result_fault.is_expired:
            return None
        if task.ends is None or not task.has_ended(now):
            return None
        return task if now < task.ends + self.options.result_ttl * 1000 else None

    async def reserve_ids(self, now: int) -> None:
        """Let the next IDs be some that no other server of the fleet takes."""
        if self.fleet:
            first = await self.fleet.reserve_ids(now, _RESERVED)
            self._last_task, self._reserved = first - 1, first + _RESERVED

    def next_task_id(self, model: str, now: int) -> str:
        """Return an ID for a new task, in the form of the dialect.

        The documented form contains the time in milliseconds, so two tasks of one millisecond get different ones.
        """
        following = self._last_task + 1
        self._last_task = (
            following if following < self._reserved and now - following < _RESERVED else max(now, following)
        )
        if (around := self._around_time.get(model)) is None:
            number = f"{self._ids.getrandbits(128):032x}"
            family = model.partition("/")[0]
            return self.dialect.task_id.format(family=family, milliseconds=self._last_task, hex=number)
        return f"{around[0]}{self._last_task}{around[1]}"

    def shared_text(self, text: str) -> str:
        """Return a text, as the object of the latest call if it is equal: equal requests often follow each other."""
        if text != self._latest_text:
            self._latest_text = text
        return self._latest_text

    def result_name(self, task_id: str) -> str:
        """Return the file name of a task's result, which cannot be guessed from the ID."""
        return f"{self.sign(task_id)}-{task_id}{_RESULT_SUFFIX}"

    def sign(self, text: str) -> str:
        """Return a signature of a text that only a server with this store can make."""
        signature = self._signature.copy()
        signature.update(text.encode())
        return signature.hexdigest()

    async def reset(self, space: str | None = None) -> None:
        """Delete the tasks, journal, balances and added faults of one space, or of all."""
        if self.fleet:
            await self.fleet.begin_reset(space)
        await self.store.reset(space)
        self._drop(space)
        if self.fleet:
            await self.fleet.announce("reset", space or "")

    def _drop(self, space: str | None) -> None:
        """Delete what this server itself has of a space, or of all."""
        self._settle(space)
        self.spaces.reset(space)
        if space is None:
            self.started_at = self.fleet.started_at if self.fleet else self.clock.now()
            if self.scenario_runner:
                self.scenario_runner.begin()
