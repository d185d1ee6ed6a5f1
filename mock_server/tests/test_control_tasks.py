"""The control API: tasks, their callbacks, and accounts."""

import contextlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec.structs import replace
from seedbed_mock import MockServer
from seedbed_mock.accounts import Account
from seedbed_mock.stores.memory import MemoryStore
from seedbed_mock.stores.sqlite import SqliteStore
from seedbed_mock.tasks import CallbackDelivery, Task, even_timeline
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import default_profile
from tests.stored_tasks import file_store

CONTRACT, SHARED, PRICE = default_contract(), job_api(), float(default_profile().credits)
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
CREDIT = SHARED.credit.path
LARGE: dict[str, Any] = {"task_seconds": 30, "clock": "manual", "credits": 80, "rate_limit": "off"}

Control = Callable[..., tuple[int, Any]]
Create = Callable[..., str]


def error_message(response: tuple[int, Any]) -> str:
    """Return the message of an error response."""
    message: str = response[1]["error"]
    return message


# Tasks


def test_tasks_are_listed_newest_first_by_state_and_space(
    seedbed: MockServer, control: Control, create: Create
) -> None:
    seedbed.play(**LARGE)
    old = create()
    seedbed.advance(30)
    new, other = create(), create(space="mine")

    def listed(**query: object) -> list[str]:
        return [task["task_id"] for task in control("GET", "/tasks", **query)[1]["tasks"]]

    assert listed() == [other, new, old]
    assert listed(space="mine") == [other]
    assert listed(space="default", limit=1) == [new]
    assert listed(state=SHARED.states.success) == [old]
    assert listed(state=SHARED.states.pending[0], space="default") == [new]
    assert listed(space="nobodys") == []


def test_a_task_has_more_properties_than_its_record(
    seedbed: MockServer, control: Control, create: Create, account: str
) -> None:
    seedbed.play(**LARGE)
    task_id = create(callBackUrl="http://127.0.0.1:9/done")
    shown = control("GET", f"/tasks/{task_id}")[1]
    assert (shown["account"], shown["space"], shown["state"]) == (account, "default", "waiting")
    assert (shown["price"], shown["failure"], shown["refunded"]) == (PRICE, None, False)
    assert shown["ends"] == shown["record"]["createTime"] + 30_000
    assert shown["callback"]["outcome"] == "waiting"
    assert shown["callback"]["url"] == "http://127.0.0.1:9/done"
    assert json.loads(shown["record"]["param"])["input"] == GOOD["input"]


def test_an_unknown_state_is_refused_with_the_valid_ones(control: Control) -> None:
    message = error_message(control("GET", "/tasks", state="done"))
    assert all(state in message for state in (*SHARED.states.pending, SHARED.states.success, SHARED.states.failure))


@pytest.mark.parametrize("dialect", ["documented", "observed"])
def test_a_task_can_be_finished(seedbed: MockServer, control: Control, create: Create, dialect: str) -> None:
    seedbed.play(**LARGE, dialect=dialect)
    task_id = create()
    seedbed.advance(1)
    status, shown = control("POST", f"/tasks/{task_id}/finish")
    assert (status, shown["state"], shown["failure"]) == (200, SHARED.states.success, None)
    assert shown["ends"] == shown["record"]["completeTime"] == shown["record"]["createTime"] + 1000
    assert json.loads(shown["record"]["resultJson"])["resultUrls"]


KNOWN = list(SHARED.failures.items())


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ({}, KNOWN[0]),
        ({"code": None, "message": None}, KNOWN[0]),
        *(({"code": code}, (code, message)) for code, message in KNOWN),
        ({"code": 422}, ("422", SHARED.failures["422"])),
        ({"code": "E7"}, ("E7", KNOWN[0][1])),
        ({"message": "no luck 灯"}, (KNOWN[0][0], "no luck 灯")),
        ({"code": "E7", "message": ""}, ("E7", "")),
    ],
)
def test_a_task_fails_with_the_requested_code_and_message(
    seedbed: MockServer, control: Control, create: Create, body: dict[str, Any], failure: tuple[str, str]
) -> None:
    seedbed.play(**LARGE)
    task_id = create()
    status, shown = control("POST", f"/tasks/{task_id}/fail", body)
    assert (status, shown["state"]) == (200, SHARED.states.failure)
    assert shown["failure"] == dict(zip(("code", "message"), failure, strict=True))
    assert (shown["record"]["failCode"], shown["record"]["failMsg"]) == failure


def test_a_task_fails_without_a_body(seedbed: MockServer, control: Control, create: Create) -> None:
    seedbed.play(**LARGE)
    assert control("POST", f"/tasks/{create()}/fail")[1]["state"] == SHARED.states.failure


def test_a_task_that_is_made_to_fail_is_refunded(seedbed: MockServer, control: Control, create: Create) -> None:
    seedbed.play(**LARGE)
    assert control("POST", f"/tasks/{create()}/fail")[1]["refunded"] is True


def test_a_failure_is_refunded_once(seedbed: MockServer, control: Control, create: Create, http: httpx2.Client) -> None:
    seedbed.play(**LARGE)
    task_id = create()
    headers = {"Authorization": f"Bearer {seedbed.key}"}
    assert http.get(seedbed.url + CREDIT, headers=headers).json()["data"] == 80 - PRICE
    seedbed.fail(task_id)
    for _ in range(3):
        assert http.get(seedbed.url + CREDIT, headers=headers).json()["data"] == 80
    assert control("GET", f"/tasks/{task_id}")[1]["refunded"] is True


@pytest.mark.parametrize("first", ["finish", "fail"])
@pytest.mark.parametrize("then", ["finish", "fail"])
def test_a_task_ends_once(seedbed: MockServer, control: Control, create: Create, first: str, then: str) -> None:
    seedbed.play(**LARGE)
    task_id = create()
    assert control("POST", f"/tasks/{task_id}/{first}")[0] == 200
    before = control("GET", f"/tasks/{task_id}")
    response = control("POST", f"/tasks/{task_id}/{then}")
    assert response[0] == 409
    assert error_message(response) == f"The task {task_id} has already ended."
    assert control("GET", f"/tasks/{task_id}") == before


@pytest.mark.parametrize("path", ["/tasks/{}", "/tasks/{}/finish", "/tasks/{}/fail", "/callbacks/{}/redeliver"])
@pytest.mark.parametrize("name", ["task_x_1", "%00", "%F0%9F%98%80", "..%5C", "x" * 5000])
def test_an_unknown_task_is_refused(control: Control, path: str, name: str) -> None:
    method = "GET" if path == "/tasks/{}" else "POST"
    response = control(method, path.format(name))
    assert response[0] == 404
    assert len(error_message(response)) < 200


@pytest.mark.parametrize("body", [{"code": True}, {"code": 1.5}, {"code": []}, {"message": 1}, {"reason": "x"}])
def test_an_invalid_failure_is_refused(seedbed: MockServer, control: Control, create: Create, body: object) -> None:
    seedbed.play(**LARGE)
    task_id = create()
    assert control("POST", f"/tasks/{task_id}/fail", body)[0] == 422
    assert control("GET", f"/tasks/{task_id}")[1]["failure"] is None


def test_a_task_that_is_ended_many_times_at_once_ends_once(
    seedbed: MockServer, control: Control, create: Create, account: str
) -> None:
    seedbed.play(**LARGE)
    task_id = create()
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: control("POST", f"/tasks/{task_id}/fail")[0], range(24)))
    assert sorted(statuses) == [200] + [409] * 23
    assert control("GET", f"/accounts/{account}")[1]["balance"] == 80


# Pages


def pages(control: Control, path: str, **query: object) -> list[list[str]]:
    """Follow a list to its end, and return the IDs of the tasks on each page."""
    found: list[list[str]] = []
    more: dict[str, int] = {}
    while True:
        status, page = control("GET", path, **query, **more)
        assert status == 200
        found.append([each["task_id"] for each in page[path[1:]]])
        if "before" not in page:
            return found
        assert page["before"] < more.get("before", page["before"] + 1)
        more = {"before": page["before"]}


@pytest.fixture(params=["memory", "file"])
def played(request: pytest.FixtureRequest, seedbed: MockServer, tmp_path: Path) -> MockServer:
    """Return the server with each of the stores."""
    options: dict[str, Any] = {"db": str(tmp_path / "x.db")} if request.param == "file" else {}
    seedbed.play(**LARGE, **options)
    return seedbed


@pytest.mark.parametrize("path", ["/tasks", "/callbacks"])
def test_a_list_has_pages(played: MockServer, control: Control, create: Create, path: str) -> None:
    url = "http://127.0.0.1:9/done"
    created = [create(space=("", "mine")[number == 2], callBackUrl=url) for number in range(7)][::-1]
    assert pages(control, path) == [created]
    assert pages(control, path, limit=7) == [created]
    assert pages(control, path, limit=3) == [created[:3], created[3:6], created[6:]]
    assert pages(control, path, limit=1) == [[each] for each in created]
    assert pages(control, path, space="mine", limit=1) == [[created[4]]]
    assert pages(control, path, space="default", limit=4) == [created[:4], created[5:]]
    assert control("GET", path, before=1)[1] == {path[1:]: []}
    # A new task does not move the pages.
    first = control("GET", path, limit=3)[1]
    create(callBackUrl=url)
    assert pages(control, path, before=first["before"]) == [created[3:]]
    played.reset()
    assert pages(control, path, before=first["before"]) == [[]]


@pytest.mark.parametrize(
    ("path", "query"),
    [("/tasks", {"state": SHARED.states.failure}), ("/callbacks", {"outcome": "refused"}), ("/callbacks", {})],
)
def test_a_filter_looks_at_few_tasks_at_a_time(  # noqa: PLR0917 (fixtures)
    played: MockServer,
    control: Control,
    create: Create,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    query: dict[str, str],
) -> None:
    monkeypatch.setattr("seedbed_mock.control.api._SCANNED_TASKS", 5)
    monkeypatch.setattr("seedbed_mock.control.api._TASKS_AT_ONCE", 2)
    wanted, *_others, wanted_too = (
        create(**({"callBackUrl": "http://192.0.2.1/"} if number in {0, 11} else {})) for number in range(12)
    )
    played.fail(wanted)
    played.fail(wanted_too)
    read: list[int] = []
    for store in (MemoryStore, SqliteStore):
        monkeypatch.setattr(store, "page", counting(store.page, read))
    assert pages(control, path, **query) == [[wanted_too], [], [wanted]]
    assert sum(read) <= 12 + 2 * 2
    read.clear()
    assert pages(control, path, **query, limit=1)[0] == [wanted_too]
    first, read[:] = control("GET", path, **query), []
    assert "before" in first[1]
    control("GET", path, **query)
    assert sum(read) == 6


def counting(method: Callable[..., Any], read: list[int]) -> Callable[..., Any]:
    """Return a method that notes how many tasks it returns."""

    async def page(*arguments: Any, **options: Any) -> list[Any]:
        found: list[Any] = await method(*arguments, **options)
        read.append(len(found))
        return found

    return page


def fill(path: Path, number: int, **more: Any) -> list[str]:
    """Write tasks to a database, and return their IDs, newest first."""
    with contextlib.closing(file_store(path, 10_000)) as store:
        account = Account("key-1", "default", Decimal(80), None, None, b"")
        values = {
            "task_id": "",
            "space": account.space,
            "account": account.name,
            "model": GOOD["model"],
            "request": json.dumps(GOOD),
            "result_name": "1.jpg",
            "base_url": "http://127.0.0.1:1",
            "price": Decimal(0),
            "created": 0,
            "visible": 0,
            "timeline": even_timeline(0, 0),
        }
        task = Task(**{**values, **more})
        for each in range(number):
            store.create(replace(task, task_id=f"task_{each:05}"), account)
    return [f"task_{each:05}" for each in reversed(range(number))]


def test_a_page_has_at_most_a_thousand_tasks(seedbed: MockServer, control: Control, tmp_path: Path) -> None:
    callback = CallbackDelivery(url="http://127.0.0.1:9/", due=None, outcome="delivered")
    filled = fill(tmp_path / "x.db", 2100, callback=callback)
    seedbed.play(db=str(tmp_path / "x.db"))
    for path in ("/tasks", "/callbacks"):
        assert pages(control, path, limit=1000) == [filled[:1000], filled[1000:2000], filled[2000:]]
        assert len(control("GET", path)[1][path[1:]]) == 100
    assert pages(control, "/tasks", state=SHARED.states.failure, limit=1) == [[], [], []]
    assert [each["task_id"] for each in seedbed.callbacks] == filled[::-1]
    assert len(seedbed.wait_for_callbacks()) == 2100


@pytest.mark.parametrize("text", ["x" * 100_000, '\\"' * 15_000, "\u0416" * 50_000], ids=["plain", "escaped", "wide"])
def test_a_page_of_large_tasks_ends_early(seedbed: MockServer, control: Control, tmp_path: Path, text: str) -> None:
    request = json.dumps({**GOOD, "text": text}, ensure_ascii=False)
    size = len(json.dumps(request, ensure_ascii=False).encode())
    assert size > 90_000
    filled = fill(tmp_path / "x.db", 60, request=request)
    seedbed.play(db=str(tmp_path / "x.db"))
    listed = pages(control, "/tasks", limit=1000)
    assert [each for page in listed for each in page] == filled
    assert len(listed) > 1
    assert all((len(page) - 1) * size <= 4 * 1024 * 1024 for page in listed)
    assert pages(control, "/tasks", state=SHARED.states.failure) == [[] for _ in listed]


@pytest.mark.parametrize("path", ["/tasks", "/callbacks"])
@pytest.mark.parametrize("before", ["0", "-1", "", "x", "1.5", str(2**63), str(10**30)])
def test_a_wrong_beginning_of_a_page_is_refused(control: Control, path: str, before: str) -> None:
    status, content = control("GET", path, before=before)
    assert status == 422
    assert "before" in content["error"]


# Callbacks


def test_callbacks_are_listed_by_outcome(seedbed: MockServer, control: Control, create: Create) -> None:
    seedbed.play(**LARGE)
    refused, waiting = create(callBackUrl="http://192.0.2.1/"), create(callBackUrl="http://127.0.0.1:9/")
    create()
    assert [each["task_id"] for each in control("GET", "/callbacks")[1]["callbacks"]] == [waiting, refused]
    seedbed.finish(refused)
    shown = control("GET", "/callbacks", outcome="refused")[1]["callbacks"]
    assert [each["task_id"] for each in shown] == [refused]
    assert len(shown[0]["attempts"]) == 1
    assert control("GET", "/callbacks", limit=1)[1]["callbacks"][0]["task_id"] == waiting
    assert control("GET", "/callbacks", space="other")[1] == {"callbacks": []}
    assert error_message(control("GET", "/callbacks", outcome="lost"))


def test_a_callback_is_redelivered_on_request(seedbed: MockServer, control: Control, create: Create) -> None:
    seedbed.play(**LARGE)
    task_id = create(callBackUrl="http://192.0.2.1/")
    early = control("POST", f"/callbacks/{task_id}/redeliver")
    assert early[0] == 409
    assert "has not ended yet" in error_message(early)
    seedbed.finish(task_id)
    status, shown = control("POST", f"/callbacks/{task_id}/redeliver")
    assert status == 200
    assert [attempt["is_refused"] for attempt in shown["attempts"]] == [True, True]


def test_a_task_without_a_callback_url_cannot_be_redelivered(
    seedbed: MockServer, control: Control, create: Create
) -> None:
    seedbed.play(**LARGE)
    task_id = create()
    seedbed.finish(task_id)
    response = control("POST", f"/callbacks/{task_id}/redeliver")
    assert response[0] == 409
    assert "without a callback URL" in error_message(response)


# Accounts


def test_accounts_are_listed_in_the_order_of_their_keys(seedbed: MockServer, control: Control) -> None:
    seedbed.play(key=["b", "a:credits=6.5,signing-key=s"], credits=80)
    accounts = control("GET", "/accounts")[1]["accounts"]
    assert [(each["balance"], each["signs"], each["space"]) for each in accounts] == [
        (80, False, "default"),
        (6.5, True, "default"),
    ]
    for each in accounts:
        assert control("GET", f"/accounts/{each['account']}")[1] == each


@pytest.mark.parametrize("added", [0, 0.5, 0.000000001, 6.5, 999_999_920])
def test_a_balance_is_topped_up_exactly(seedbed: MockServer, control: Control, account: str, added: float) -> None:
    seedbed.play(credits=80)
    status, shown = control("POST", f"/accounts/{account}/top-up", {"credits": added})
    assert status == 200
    assert Decimal(str(shown["balance"])) == 80 + Decimal(str(added))


def test_credits_are_added_exactly(seedbed: MockServer, control: Control, account: str) -> None:
    seedbed.play(credits=0)
    balances = [control("POST", f"/accounts/{account}/top-up", {"credits": 0.1})[1]["balance"] for _ in range(3)]
    assert balances == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("added", [-1, 999_999_921, 1e300, "5", None, True])
def test_an_invalid_amount_is_refused(seedbed: MockServer, control: Control, account: str, added: object) -> None:
    seedbed.play(credits=80)
    assert "credits" in error_message(control("POST", f"/accounts/{account}/top-up", {"credits": added}))
    assert control("GET", f"/accounts/{account}")[1]["balance"] == 80


def test_a_balance_is_reset(seedbed: MockServer, control: Control, create: Create, account: str) -> None:
    seedbed.play(**LARGE)
    create()
    status, shown = control("POST", f"/accounts/{account}/reset")
    assert (status, shown["balance"]) == (200, 80)
    control("POST", f"/accounts/{account}/top-up", {"credits": 5})
    assert control("POST", f"/accounts/{account}/reset")[1]["balance"] == 80


def test_a_reset_balance_includes_no_refund_for_an_earlier_failure(
    seedbed: MockServer, control: Control, create: Create, account: str
) -> None:
    seedbed.play(**LARGE)
    seedbed.fail(create())
    assert control("POST", f"/accounts/{account}/reset")[1]["balance"] == 80


def test_a_task_paid_before_a_reset_of_the_balance_is_not_refunded(
    seedbed: MockServer, control: Control, create: Create, account: str
) -> None:
    seedbed.play(**LARGE)
    task_id = create()
    control("POST", f"/accounts/{account}/reset")
    assert control("POST", f"/tasks/{task_id}/fail")[1]["refunded"] is False
    assert control("GET", f"/accounts/{account}")[1]["balance"] == 80


@pytest.mark.parametrize("path", ["", "/top-up", "/reset"])
def test_an_unknown_account_is_refused(control: Control, path: str) -> None:
    body = {"credits": 1} if path == "/top-up" else None
    response = control("POST" if path else "GET", f"/accounts/key-nobody{path}", body)
    assert response[0] == 404
    assert "list the accounts with GET accounts" in error_message(response)
