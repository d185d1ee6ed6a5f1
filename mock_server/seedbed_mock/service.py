"""The service: what is done with a call, step by step in the order in which the real one checks."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from seedbed_schemas.refusals import shown
from seedbed_schemas.wire import Created

from seedbed_mock.accounts import Account, open_accounts
from seedbed_mock.answers import Refusal
from seedbed_mock.bodies import parse_json
from seedbed_mock.store import MemoryStore
from seedbed_mock.tasks import Picture, Task, record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from seedbed_schemas import Contract, JobApi
    from seedbed_schemas.dialect import Dialect
    from seedbed_schemas.profile import Profile

    from seedbed_mock.clock import Clock
    from seedbed_mock.settings import Settings

    Step = Callable[["Service", "Call"], None]

FAULT_HEADER = "X-Seedbed-Fault"
"""Request header that asks for the answer with that code."""

_SHOWN_VIOLATIONS = 3


@dataclass(slots=True, kw_only=True)
class Call:
    """One request on its way through the steps, each of which adds what it found.

    Attributes:
        headers: Request headers, names in lower case.
        query: Query parameters.
        body: The body, ``None`` where it was too large to take in.
        base_url: Where the server is reached.
        account: Who calls.
        request: The body as a value.
        text: The body as the text it was.
        data: What the call gives back.
    """

    headers: Mapping[bytes, bytes]
    query: Mapping[str, str]
    body: bytes | None
    base_url: str
    account: Account = field(init=False)
    request: Any = None
    text: str = ""
    data: Any = None


class Service:
    """Accounts, tasks and the rules by which they come about.

    Args:
        settings: How to play.
        clock: What time it is.
        contract: What the page promises of the model.
        profile: What else is known of the model.
        shared: What all models share.
        dialect: With which words to answer.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        clock: Clock,
        contract: Contract,
        profile: Profile,
        shared: JobApi,
        dialect: Dialect,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.contract = contract
        self.profile = profile
        self.shared = shared
        self.dialect = dialect
        self.accounts = open_accounts(settings)
        self.store = MemoryStore()
        self._last_task = 0
        self.key_header = contract.operation.header.lower().encode()
        self.fault_header = FAULT_HEADER.lower().encode()
        self.faults = {str(code.number): dialect.case_of_code(code.name) for code in contract.codes}
        del self.faults[str(contract.code_named(dialect.cases["done"].code).number)]

    def now(self) -> int:
        """Return the time in Unix milliseconds."""
        return int(self.clock.now() * 1000)

    def result(self, name: str) -> Picture | None:
        """Return what the result of that file name shows, once its task has ended."""
        task = self.store.find_result(name)
        return task.picture if task and task.completed <= self.now() else None

    def next_task_id(self, now: int) -> str:
        """Return a name that no task has: the documented form counts milliseconds, so two in one need the next."""
        self._last_task = max(now, self._last_task + 1)
        family = self.contract.model.partition("/")[0]
        return self.dialect.task_id.format(family=family, milliseconds=self._last_task)


def let_in(service: Service, call: Call) -> None:
    """Find the account of the key."""
    operation = service.contract.operation
    scheme, _, key = call.headers.get(service.key_header, b"").decode("latin-1").partition(" ")
    account = service.accounts.get(key.strip()) if scheme.lower() == operation.scheme.lower() else None
    if account is None:
        raise Refusal("key_refused", header=operation.header, scheme=operation.scheme)
    call.account = account


def limit_rate(service: Service, call: Call) -> None:
    """Count the call, and refuse it where there are too many."""
    window = call.account.window
    if window and not window.admit(service.clock.now()):
        raise Refusal("rate_exceeded", requests=window.rate.requests, seconds=f"{window.rate.seconds:g}")


def break_on_request(service: Service, call: Call) -> None:
    """Answer with the code that the caller wishes to see."""
    if (value := call.headers.get(service.fault_header)) is None:
        return
    code = value.decode("latin-1").strip()
    if code not in service.faults:
        raise Refusal("fault_malformed", header=FAULT_HEADER, known=", ".join(service.faults), value=shown(code))
    raise Refusal(service.faults[code])


def read_request(_: Service, call: Call) -> None:
    """Read the body as JSON."""
    call.request, call.text = parse_json(call.body)


def know_model(service: Service, call: Call) -> None:
    """Refuse a model that is not played; a request that names none is for the contract to refuse."""
    field_name = service.shared.fields.model
    model = call.request.get(field_name) if isinstance(call.request, dict) else None
    if isinstance(model, str) and model != service.contract.model:
        raise Refusal("model_unknown", field=field_name, model=shown(model), known=service.contract.model)


def keep_contract(service: Service, call: Call) -> None:
    """Refuse a request that breaks the contract, naming every field and rule."""
    schema = service.contract.request
    if not schema.accepts(call.request) and (violations := schema.violations(call.request)):
        messages = [violation.message for violation in violations[:_SHOWN_VIOLATIONS]]
        raise Refusal("request_invalid", problem="; ".join(messages))


def charge(service: Service, call: Call) -> None:
    """Take the price of the task, or refuse where the balance does not cover it."""
    price, account = service.profile.credits, call.account
    if account.balance < price:
        raise Refusal("credits_insufficient", price=price, balance=account.balance)
    account.balance -= price


def create_task(service: Service, call: Call) -> None:
    """Fix the timeline of a task and keep it."""
    now = service.now()
    task = Task(
        task_id=service.next_task_id(now),
        account=call.account,
        model=service.contract.model,
        param=call.text,
        picture=_picture(service, call.request[service.shared.fields.input]),
        result_name=f"{secrets.token_urlsafe(16)}.jpg",
        created=now,
        duration=round(service.settings.task_seconds * 1000),
    )
    service.store.add(task, now)
    call.data = Created(task.task_id)


def _picture(service: Service, values: Mapping[str, Any]) -> Picture:
    profile = service.profile
    size = profile.size(values)
    options = ", ".join(str(values[name]) for name in profile.size_fields)
    label = f"{profile.model}, {options}, {size[0]} x {size[1]}"
    return Picture(values[profile.caption], label, size, service.settings.seed)


def show_task(service: Service, call: Call) -> None:
    """Show the record of a task of this account."""
    parameter = service.shared.record_info.query
    if not (task_id := call.query.get(parameter, "")):
        raise Refusal("task_id_missing", parameter=parameter)
    task = service.store.find(task_id)
    if task is None or task.account is not call.account:
        raise Refusal("task_unknown", task_id=shown(task_id))
    call.data = record(
        task, service.now(), base_url=call.base_url, states=service.shared.states, dialect=service.dialect
    )


def show_balance(_: Service, call: Call) -> None:
    """Show what the account may still spend, as a bare number."""
    balance = call.account.balance
    call.data = int(balance) if balance == int(balance) else float(balance)


CREATE_TASK: tuple[Step, ...] = (
    let_in,
    limit_rate,
    break_on_request,
    read_request,
    know_model,
    keep_contract,
    charge,
    create_task,
)
RECORD_INFO: tuple[Step, ...] = (let_in, break_on_request, show_task)
CREDIT: tuple[Step, ...] = (let_in, break_on_request, show_balance)
