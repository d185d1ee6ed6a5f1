"""The service: what it holds, and a call on its way through it."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from secrets import token_bytes
from typing import TYPE_CHECKING, Any

from seedbed_mock.accounts import open_accounts
from seedbed_mock.store import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_schemas import JobApi
    from seedbed_schemas.dialect import Dialect

    from seedbed_mock.accounts import Account
    from seedbed_mock.catalogue import Catalogue, Model
    from seedbed_mock.clock import Clock
    from seedbed_mock.results.picture import Picture
    from seedbed_mock.settings import Settings


@dataclass(slots=True, kw_only=True)
class Call:
    """One request on its way through the steps, each of which adds what it found.

    Attributes:
        headers: Request headers, names in lower case.
        query: Query parameters.
        path: Path parameters.
        body: The body, ``None`` where it was too large to take in.
        base_url: Where the server is reached.
        account: Who calls.
        request: The body as a value.
        text: The body as the text it was.
        model: Which model is asked.
        data: What the call gives back.
    """

    headers: Mapping[bytes, bytes]
    query: Mapping[str, str]
    path: Mapping[str, str]
    body: bytes | None
    base_url: str
    account: Account = field(init=False)
    model: Model = field(init=False)
    request: Any = None
    text: str = ""
    data: Any = None


class Service:
    """Accounts, tasks and the rules by which they come about.

    Args:
        settings: How to play.
        clock: What time it is.
        catalogue: The models that are played.
        shared: What all models share.
        dialect: With which words to answer.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        clock: Clock,
        catalogue: Catalogue,
        shared: JobApi,
        dialect: Dialect,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.catalogue = catalogue
        self.operation = catalogue.shipped.contract.operation
        self.shared = shared
        self.dialect = dialect
        self.accounts = open_accounts(settings)
        self.store = MemoryStore()
        self.chance = Random(settings.seed)  # noqa: S311 (drawn again alike by the same seed, on purpose)
        self._last_task = 0
        # Asked of the system once, for at every task that would be a good part of the time that one takes.
        self._secret = token_bytes(32)
        self._numbers = Random()  # noqa: S311 (names are no secret)
        self.key_header = self.operation.header.lower().encode()
        self.faults = {
            str(code.number): dialect.case_of_code(code.name)
            for code in catalogue.codes.values()
            if code.name != dialect.cases["done"].code
        }

    def now(self) -> int:
        """Return the time in Unix milliseconds."""
        return int(self.clock.now() * 1000)

    def result(self, name: str) -> Picture | None:
        """Return what the result of that file name shows, once its task has ended."""
        task = self.store.find_result(name)
        return task.picture if task and task.completed <= self.now() else None

    def next_task_id(self, model: str, now: int) -> str:
        """Return a name that no task has: the documented form counts milliseconds, so two in one need the next."""
        self._last_task = max(now, self._last_task + 1)
        family = model.partition("/")[0]
        number = f"{self._numbers.getrandbits(128):032x}"
        return self.dialect.task_id.format(family=family, milliseconds=self._last_task, hex=number)

    def result_name(self, task_id: str) -> str:
        """Return the file name of a task's result, which nobody can guess who does not know this server's secret."""
        return f"{blake2b(task_id.encode(), key=self._secret, digest_size=16).hexdigest()}.jpg"
