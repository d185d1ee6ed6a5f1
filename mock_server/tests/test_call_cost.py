"""What a call costs: it does not grow with tasks, spaces, rules and entries of the journal that others have caused.

The steps of a call are the instructions of Python that it takes, in place of the time.
"""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from seedbed_mock import MockServer, create_app
from seedbed_mock.bill import MOST_TASKS
from seedbed_mock.faults.rules import parse_rule
from seedbed_mock.journal import MOST_ENTRIES, Journal, JournalEntry
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of
from tests.call_steps import steps_of

CREATE, GOOD = default_contract().operation.path, example_of(default_contract().part("request"))
RECORD = job_api().record_info

Create = Callable[..., str]
Start = Callable[..., "Caller"]


class Caller:
    """Sends requests to an application in this process, without a server."""

    def __init__(self, **options: Any) -> None:
        self.app = create_app(rate_limit="off", credits=10**9, clock="manual", **options)
        self.service = self.app.state.service
        self.loop = asyncio.new_event_loop()

    def post(self, space: str = "default", **more: object) -> dict[str, Any]:
        return self.call("POST", CREATE, b"", json.dumps({**GOOD, **more}).encode(), space)

    def call(self, method: str, path: str, query: bytes = b"", body: bytes = b"", space: str = "") -> dict[str, Any]:
        headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {local.KEY}".encode())]
        headers += [(local.SPACE_HEADER.lower().encode(), space.encode())] if space else []
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": headers,
            "server": ("127.0.0.1", 80),
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        self.loop.run_until_complete(self.app(scope, receive, send))
        answer: dict[str, Any] = json.loads(sent[1]["body"])
        return answer

    def close(self) -> None:
        self.loop.run_until_complete(self.app.state.dispatcher.close())
        self.loop.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Caller]]:
    started: list[Caller] = []

    def start(**options: Any) -> Caller:
        started.append(Caller(**options))
        return started[-1]

    yield start
    for caller in started:
        caller.close()


def fill_journals(caller: Caller) -> None:
    journals = [caller.service.spaces.default.journal, *(each.journal for each in caller.service.spaces.all())]
    for journal in journals:
        for _ in range(MOST_ENTRIES):
            journal.add(JournalEntry(number=journal.next_number(), at=0, kind="call", operation="credit"))


def add_rules(caller: Caller, text: str, space: str = "") -> None:
    caller.service.faults.add([parse_rule(text)] * 1000, "control", space)


def create_many(caller: Caller, **more: Any) -> None:
    for _ in range(3000):
        caller.post(**more)


def use_spaces(caller: Caller) -> None:
    for number in range(1000):
        caller.post(space=f"space-{number}")


def create_more_than_the_ledger_holds(caller: Caller) -> None:
    for number in range(MOST_TASKS + 500):
        caller.service.ledger.note_task(f"old-{number}", "default", number, Decimal(1), 1, is_free=False)


LOADS: dict[str, Callable[[Caller], None]] = {
    "unfinished tasks": create_many,
    "tasks with callbacks": lambda caller: create_many(caller, callBackUrl="https://hook.test/"),
    "spaces": use_spaces,
    "a long bill": create_more_than_the_ledger_holds,
    "a full journal": fill_journals,
    "rules of another operation": lambda caller: add_rules(caller, "429; op=models"),
    "rules of another space": lambda caller: add_rules(caller, "429", "elsewhere"),
    "rules for another space": lambda caller: add_rules(caller, "429; space=elsewhere"),
}


@pytest.mark.parametrize("load", LOADS)
def test_a_call_costs_the_same_whatever_others_have_caused(start: Start, load: str) -> None:
    caller = start()

    def call_often() -> None:
        for _ in range(10):
            task_id = caller.post(callBackUrl="https://hook.test/")["data"]["taskId"]
            caller.call("GET", RECORD.path, f"{RECORD.query}={task_id}".encode())

    call_often()
    before = steps_of(call_often)
    LOADS[load](caller)
    call_often()
    # The journal drops an entry for each new one when it is full, and the journals share one budget.
    assert steps_of(call_often) <= before * 1.15


@pytest.mark.slow
def test_a_new_space_costs_the_same_whatever_others_have_caused(start: Start) -> None:
    caller = start()
    use_spaces(caller)

    def steps(space: str) -> int:
        return steps_of(lambda: caller.post(space=space))

    before = steps("first-new")
    create_many(caller)
    add_rules(caller, "429; op=models")
    # It evicts another space, with its tasks, its balances, its journal and its rules.
    assert steps("second-new") <= before * 1.15


# Callbacks that no receiver may get


class Lookups:
    """A name server that counts what it is asked."""

    def __init__(self, address: str | None) -> None:
        self.address = address
        self.asked: list[str] = []
        self._system = socket.getaddrinfo

    def __call__(self, host: Any, *arguments: Any, **keywords: Any) -> Any:
        if not str(host).endswith(".test"):
            return self._system(host, *arguments, **keywords)
        self.asked.append(host)
        if self.address is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._system(self.address, *arguments, **keywords)


@pytest.mark.seedbed(rate_limit="off", credits=10**6, clock="manual", task_seconds=1)
@pytest.mark.parametrize("address", [None, "192.0.2.1"])
def test_callbacks_to_a_refused_host_cost_one_lookup_and_keep_no_task(
    seedbed: MockServer, create: Create, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    names = Lookups(address)
    monkeypatch.setattr(socket, "getaddrinfo", names)
    for number in range(60):
        create(callBackUrl=f"https://hook.test/{'same' if number < 40 else number}")
    seedbed.advance(2)
    create(callBackUrl="https://hook.test/same")
    seedbed.advance(2)
    listed = seedbed.callbacks
    assert len(listed) == 61
    assert {(each["outcome"], each["due"], len(each["attempts"])) for each in listed} == {("refused", None, 1)}
    assert len(names.asked) <= 5
    entries = seedbed.control("GET", "journal", kind="callback", limit=1000)["entries"]
    assert len(entries) == 61
    assert {entry["request"]["code"] for entry in entries} == {200}
    assert all("hook.test" in entry["answer"] for entry in entries)


@pytest.mark.seedbed(clock="manual", task_seconds=1, callback_allow=["10.0.0.0/8"])
def test_a_host_that_may_be_allowed_once_it_is_found_is_tried_again(
    seedbed: MockServer, create: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Lookups(None))
    create(callBackUrl="https://hook.test/")
    seedbed.advance(3600)
    (callback,) = seedbed.callbacks
    assert (callback["outcome"], len(callback["attempts"])) == ("failed", 4)


def test_a_task_wakes_the_dispatcher_only_if_it_wakes_for_no_earlier_one(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = start(task_seconds=30)
    dispatcher, looked = caller.app.state.dispatcher, list[int]()
    store = caller.service.store
    claim = store.claim

    def counting(*arguments: Any, **keywords: Any) -> Any:
        looked.append(1)
        return claim(*arguments, **keywords)

    monkeypatch.setattr(store, "claim", counting)
    for _ in range(50):
        caller.post(callBackUrl="https://hook.test/")
        caller.loop.run_until_complete(asyncio.sleep(0))
    assert len(looked) <= 3
    assert dispatcher._wakes_at == caller.loop.run_until_complete(store.next_due())


def test_an_account_is_found_by_its_name_without_a_search(start: Start) -> None:
    caller = start(key=[f"key-{number}" for number in range(500)])
    space = caller.service.spaces.default
    names = [account.name for account in space.accounts.values()]
    assert steps_of(lambda: space.account(names[-1])) == steps_of(lambda: space.account(names[0])) < 50
    assert isinstance(space.journal, Journal)
