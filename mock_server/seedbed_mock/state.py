"""The models that are played: each with its contract and what else is known of it, and the codes they share."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

from seedbed_schemas.contract import default_contract, shipped_contracts
from seedbed_schemas.profile import profile_of

from seedbed_mock.accounts import Spaces
from seedbed_mock.faults.engine import FaultEngine
from seedbed_mock.faults.scenarios import ScenarioRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from seedbed_schemas import Code, Contract, JobApi
    from seedbed_schemas.dialect import Dialect
    from seedbed_schemas.profile import Profile

    from seedbed_mock.accounts import Account, Space
    from seedbed_mock.clock import Clock
    from seedbed_mock.faults.engine import ActiveRule
    from seedbed_mock.settings import Settings
    from seedbed_mock.stores.store import Store
    from seedbed_mock.tasks import Task


@dataclass(frozen=True, slots=True)
class Model:
    """One model.

    Attributes:
        contract: What its page promises.
        profile: What else is known of it.
    """

    contract: Contract
    profile: Profile


class ModelCatalogue:
    """The shipped models, which are those of the folder ``contracts``, and more.

    Args:
        more: Contracts of further models; one for a model that is known already takes its place.
    """

    def __init__(self, more: Iterable[Contract] = ()) -> None:
        contracts = {contract.model: contract for contract in (default_contract(), *shipped_contracts(), *more)}
        self.models = {name: Model(contract, profile_of(contract)) for name, contract in contracts.items()}
        self.shipped = self.models[default_contract().model]
        self.codes: dict[str, Code] = {}
        for contract in (*contracts.values(), default_contract()):
            for code in contract.codes:
                self.codes.setdefault(code.name, code)


_KEPT_ERRORS = 100
_SUFFIX = ".jpg"


@dataclass(slots=True, kw_only=True, repr=False)  # a traceback that shows one must show no key
class RequestContext:
    """One request on its way through the steps, each of which adds what it found.

    Attributes:
        headers: Request headers, names in lower case.
        query: Query parameters.
        path: Path parameters.
        operation: Name of the operation.
        body: The body, ``None`` where it was too large to take in.
        base_url: Where the server is reached.
        space: In which space it is.
        now: When it came, in Unix milliseconds.
        account: Who calls.
        request: The body as a value.
        text: The body as the text it was.
        model: Which model is asked.
        data: What the call gives back.
        task_id: The task that it is about.
        violations: Clauses of the contract that it broke.
        key_rule: The rule that its key names, empty where it names none.
        fault: The fault that it meets.
        applied: The rule by which something is wrong with the task that it is about, empty where nothing is.
    """

    headers: Mapping[bytes, bytes]
    query: Mapping[str, str]
    path: Mapping[str, str]
    operation: str
    body: bytes | None
    base_url: str
    space: Space
    now: int
    account: Account | None = None
    model: Model = field(init=False)
    request: Any = None
    text: str = ""
    data: Any = None
    task_id: str = ""
    violations: tuple[str, ...] = ()
    key_rule: str = ""
    fault: ActiveRule | None = None
    applied: str = ""

    @property
    def caller(self) -> Account:
        """The account, which the first step has found."""
        assert self.account is not None, "let_in comes first"  # noqa: S101 (a promise of the order of steps)
        return self.account


class Service:
    """Accounts, tasks and the rules by which they come about.

    Args:
        settings: How to play.
        clock: What time it is.
        catalogue: The models that are played.
        shared: What all models share.
        dialect: With which words to answer.
        store: Where tasks and balances are kept.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        clock: Clock,
        catalogue: ModelCatalogue,
        shared: JobApi,
        dialect: Dialect,
        store: Store,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.catalogue = catalogue
        self.operation = catalogue.shipped.contract.operation
        self.shared = shared
        self.dialect = dialect
        self.store = store
        self.spaces = Spaces(settings, forgotten=self._forget)
        self.errors = deque[Exception](maxlen=_KEPT_ERRORS)
        """Errors of the server itself, which no request should be able to cause."""
        self.callback_is_due: Callable[[], None] = lambda: None
        """Called when a callback has become due, or will be; set by who delivers them."""
        self._last_task = store.newest()
        # Asked of the system once, for at every task that would be a good part of the time that one takes.
        self._secret = store.note_once("secret", token_bytes(32))
        self._numbers = Random()  # noqa: S311 (names are no secret)
        self.key_header = self.operation.header.lower().encode()
        self.started_at = clock.now()
        """When the server began, by its clock, in Unix seconds."""
        codes = (code.number for code in catalogue.codes.values() if dialect.case_of_code(code.name) != "done")
        self.faults = FaultEngine(settings.seed, codes)
        self.scenario_runner = ScenarioRunner(settings.scenario, self.faults, clock) if settings.scenario else None
        """Plays the scenario, where there is one."""

    def _forget(self, space: str) -> None:
        self.store.reset(space)
        self.faults.clear(scope=space)

    def now(self) -> int:
        """Return the time in Unix milliseconds."""
        return round(self.clock.now() * 1000)

    def result(self, name: str) -> Task | None:
        """Return the task whose result has that file name, once it has succeeded and as long as the result is kept."""
        task, now = self.store.find(name.partition("-")[2].removesuffix(_SUFFIX)), self.now()
        if (
            task is None
            or task.result_name != name
            or task.ends is None
            or task.failure
            or task.result_fault.is_expired
            or not task.has_ended(now)
        ):
            return None
        return task if now < task.ends + self.settings.result_ttl * 1000 else None

    def next_task_id(self, model: str, now: int) -> str:
        """Return a name that no task has: the documented form counts milliseconds, so two in one need the next."""
        self._last_task = max(now, self._last_task + 1)
        family = model.partition("/")[0]
        number = f"{self._numbers.getrandbits(128):032x}"
        return self.dialect.task_id.format(family=family, milliseconds=self._last_task, hex=number)

    def result_name(self, task_id: str) -> str:
        """Return the file name of a task's result, which nobody can guess who does not know this server's secret."""
        return f"{self.sign(task_id)}-{task_id}{_SUFFIX}"

    def sign(self, text: str) -> str:
        """Return a mark of a text that only this server can make."""
        return blake2b(text.encode(), key=self._secret, digest_size=16).hexdigest()

    def reset(self, space: str | None = None) -> None:
        """Forget all that happened, in one space or everywhere."""
        self.store.reset(space)
        self.spaces.reset(space)
        self.faults.clear(scope=space)
        if space is None:
            self.started_at = self.clock.now()
            if self.scenario_runner:
                self.scenario_runner.begin()
