"""Accounts and spaces: balances, rate limits and isolation."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from seedbed_mock import ControlError, MockServer, SettingsError
from seedbed_mock.stores.memory import MemoryStore
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import default_profile

CONTRACT, SHARED, PRICE = default_contract(), job_api(), float(default_profile().credits)
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
CREATE, RECORD, CREDIT = CONTRACT.operation.path, SHARED.record_info.path, SHARED.credit.path
MANUAL: dict[str, Any] = {"clock": "manual", "task_seconds": 30, "rate_limit": "off", "credits": 80}


def with_credits(amount: float | str) -> dict[str, Any]:
    return {**MANUAL, "credits": amount}


Control = Callable[..., tuple[int, Any]]
Call = Callable[..., dict[str, Any]]


def balance(call: Call, **more: str) -> float:
    return float(call("GET", CREDIT, **more)["data"])


# Keys and their options


def test_each_key_has_its_own_options(seedbed: MockServer, call: Call) -> None:
    seedbed.play(
        key=["plain", "rich:credits=1000.5", "slow:rate=1/10,credits=13", "free:rate=off", "signs:signing-key=a,b=c:d"],
        credits=80,
        rate_limit="2/10",
        clock="manual",
    )
    balances = {"plain": 80, "rich": 1000.5, "slow": 13, "free": 80, "signs": 80}
    assert {key: balance(call, key=key) for key in balances} == balances
    created = {key: [call("POST", CREATE, GOOD, key=key)["code"] for _ in range(3)] for key in balances}
    refusals = {key: codes.count(429) for key, codes in created.items()}
    assert refusals == {"plain": 1, "rich": 1, "slow": 2, "free": 0, "signs": 1}
    signing = {each["signs"] for each in seedbed.control("GET", "accounts")["accounts"][-1:]}
    assert signing == {True}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("k:credits=", "with a value"),
        ("k:credits=-1", "number"),
        ("k:credits=80,credits=90", "once"),
        ("k:credits=many", "number"),
        ("k:rate=20", "N/SECONDS"),
        ("k:rate=", "with a value"),
        ("k:signing-key=", "with a value"),
        (":credits=80", "visible ASCII"),
        ("", "visible ASCII"),
        ("a b", "visible ASCII"),
        ("x" * 257, "256"),
        (["k", "k:credits=5"], "once"),
        ([], "At least one key"),
    ],
)
def test_an_invalid_key_is_refused_with_one_sentence(seedbed: MockServer, key: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        seedbed.play(key=key)
    assert str(caught.value).endswith(".")
    assert seedbed.calls == []


@pytest.mark.parametrize(
    "key", ["k:credits=80,signing_key=SECRET", "k:rate=1/2,SECRET", "k:signing_key=SECRET", "k:credit=80"]
)
def test_the_message_about_a_mistyped_option_contains_no_secret(seedbed: MockServer, key: str) -> None:
    with pytest.raises(SettingsError, match="credits, rate, signing-key") as caught:
        seedbed.play(key=key)
    assert "SECRET" not in str(caught.value)


# Balances


@pytest.mark.parametrize("http_status", ["envelope", "mirror"])
@pytest.mark.parametrize("dialect", ["documented", "observed"])
def test_a_task_that_cannot_be_paid_for_has_no_effect(
    seedbed: MockServer, http: httpx2.Client, control: Control, dialect: str, http_status: Any
) -> None:
    seedbed.play(**with_credits(PRICE - 0.01), dialect=dialect, http_status=http_status)
    headers = {"Authorization": f"Bearer {seedbed.key}"}
    response = http.post(seedbed.url + CREATE, json={**GOOD, "callBackUrl": "http://127.0.0.1:9/"}, headers=headers)
    assert response.json()["code"] == 402
    assert response.status_code == (402 if http_status == "mirror" else 200)
    assert control("GET", "/tasks")[1] == {"tasks": []}
    assert control("GET", "/callbacks")[1] == {"callbacks": []}
    assert http.get(seedbed.url + CREDIT, headers=headers).json()["data"] == PRICE - 0.01


def test_an_unpaid_task_does_not_count_towards_the_rate_limit(
    seedbed: MockServer, call: Call, control: Control
) -> None:
    seedbed.play(clock="manual", credits=0, rate_limit="1/10")
    assert [call("POST", CREATE, GOOD)["code"] for _ in range(3)] == [402] * 3
    account = control("GET", "/accounts")[1]["accounts"][0]["account"]
    control("POST", f"/accounts/{account}/top-up", {"credits": 100})
    assert [call("POST", CREATE, GOOD)["code"] for _ in range(2)] == [200, 429]


def test_a_balance_can_be_spent_completely(seedbed: MockServer, call: Call) -> None:
    seedbed.play(**with_credits(2 * PRICE))
    assert [call("POST", CREATE, GOOD)["code"] for _ in range(3)] == [200, 200, 402]
    assert call("GET", CREDIT)["data"] == 0


def test_decimal_fractions_are_charged_exactly(seedbed: MockServer, call: Call) -> None:
    seedbed.play(**with_credits("100.3"))
    for _ in range(15):
        call("POST", CREATE, GOOD)
    assert call("GET", CREDIT)["data"] == 2.8


def test_a_failed_task_is_refunded(seedbed: MockServer, call: Call) -> None:
    seedbed.play(**with_credits(PRICE))
    task_id = call("POST", CREATE, GOOD)["data"]["taskId"]
    assert call("POST", CREATE, GOOD)["code"] == 402
    seedbed.fail(task_id)
    assert [call("POST", CREATE, GOOD)["code"] for _ in range(2)] == [200, 402]


def test_concurrent_requests_never_overdraw_a_balance(seedbed: MockServer, control: Control) -> None:
    seedbed.play(**with_credits(12 * PRICE + 1))

    async def create_many() -> list[dict[str, Any]]:
        limits = httpx2.Limits(max_connections=50)
        headers = {"Authorization": f"Bearer {seedbed.key}"}
        async with httpx2.AsyncClient(trust_env=False, limits=limits, headers=headers, timeout=60) as client:
            responses = await asyncio.gather(*(client.post(seedbed.url + CREATE, json=GOOD) for _ in range(200)))
        return [response.json() for response in responses]

    responses = asyncio.run(create_many())
    created = [response["data"]["taskId"] for response in responses if response["code"] == 200]
    assert len(created) == len(set(created)) == 12
    assert sum(response["code"] == 402 for response in responses) == 188
    assert control("GET", "/accounts")[1]["accounts"][0]["balance"] == 1
    assert {task["task_id"] for task in control("GET", "/tasks")[1]["tasks"]} == set(created)


# Isolation


@pytest.mark.parametrize("http_status", ["envelope", "mirror"])
@pytest.mark.parametrize(("dialect", "code"), [("documented", 404), ("observed", 422)])
def test_a_task_of_another_account_looks_like_an_unknown_task(
    seedbed: MockServer, http: httpx2.Client, dialect: str, code: int, http_status: Any
) -> None:
    seedbed.play(**MANUAL, key=["one", "two"], dialect=dialect, http_status=http_status)
    task_id = http.post(seedbed.url + CREATE, json=GOOD, headers={"Authorization": "Bearer one"}).json()["data"][
        "taskId"
    ]
    responses = []
    for name in (task_id, task_id[:-1] + ("0" if task_id[-1] != "0" else "1")):
        response = http.get(seedbed.url + RECORD, params={"taskId": name}, headers={"Authorization": "Bearer two"})
        responses.append((response.status_code, response.json()["code"], response.json()["msg"].replace(name, "")))
    assert responses[0] == responses[1]
    assert responses[0][:2] == (code if http_status == "mirror" else 200, code)


# Rate limits


def test_each_account_has_a_sliding_window_for_new_tasks(seedbed: MockServer, call: Call) -> None:
    requests, seconds = SHARED.rate
    seedbed.play(clock="manual", credits=10_000, key=["one", "two"], rate_limit=f"{requests}/{seconds}")

    def codes(count: int, key: str) -> list[int]:
        return [call("POST", CREATE, GOOD, key=key)["code"] for _ in range(count)]

    assert codes(requests // 2, "one") == [200] * (requests // 2)
    seedbed.advance(seconds / 2)
    assert codes(requests // 2 + 1, "one") == [200] * (requests // 2) + [429]
    assert codes(requests, "two") == [200] * requests
    seedbed.advance(seconds / 2 - 0.001)
    assert codes(1, "one") == [429]
    seedbed.advance(0.001)
    assert codes(requests // 2 + 1, "one") == [200] * (requests // 2) + [429]


def test_a_refused_request_does_not_count_towards_the_rate_limit(seedbed: MockServer, call: Call) -> None:
    seedbed.play(clock="manual", rate_limit="1/10")
    refusals = [call("POST", CREATE, body)["code"] for body in (b"{", {}, {**GOOD, "model": "none"})]
    refusals.append(call("POST", CREATE, GOOD, X_Seedbed_Fault="500")["code"])
    assert 200 not in refusals
    assert [call("POST", CREATE, GOOD)["code"] for _ in range(2)] == [200, 429]


def test_polls_have_their_own_rate_limit(seedbed: MockServer, call: Call) -> None:
    seedbed.play(clock="manual", poll_rate_limit="10/1", key=["one", "two"])
    codes = [call("GET", f"{RECORD}?taskId=x", key="one")["code"] for _ in range(12)]
    assert codes == [404] * 10 + [429] * 2
    assert call("GET", f"{RECORD}?taskId=x", key="two")["code"] == 404
    assert balance(call, key="one") == 80
    seedbed.advance(1)
    assert call("GET", f"{RECORD}?taskId=x", key="one")["code"] == 404


def test_polls_have_no_rate_limit_by_default(seedbed: MockServer, call: Call) -> None:
    seedbed.play(clock="manual")
    assert {call("GET", f"{RECORD}?taskId=x")["code"] for _ in range(100)} == {404}


# Spaces


@pytest.mark.parametrize("source", ["header", "key"])
def test_a_space_has_its_own_tasks_balance_and_journal(
    seedbed: MockServer, call: Call, control: Control, source: str
) -> None:
    seedbed.play(**MANUAL)

    def named(space: str) -> dict[str, str]:
        return {"X_Seedbed_Space": space} if source == "header" else {"key": f"{space}:{seedbed.key}"}

    task_id = call("POST", CREATE, GOOD, **named("a"))["data"]["taskId"]
    assert balance(call, **named("a")) == 80 - PRICE
    assert balance(call, **named("b")) == balance(call) == 80
    codes = [call("GET", f"{RECORD}?taskId={task_id}", **where)["code"] for where in (named("a"), named("b"), {})]
    assert codes == [200, 404, 404]
    journals = {space: control("GET", "/journal", space=space)[1]["entries"] for space in ("a", "b", "default")}
    assert [len(entries) for entries in journals.values()] == [3, 2, 2]
    assert call("POST", CREATE, GOOD, X_Seedbed_Space="a")["code"] == 200
    assert balance(call, **named("a")) == 80 - 2 * PRICE


def test_random_values_of_a_space_do_not_depend_on_other_spaces(seedbed: MockServer, call: Call) -> None:
    def ends(*others: str) -> list[int]:
        seedbed.play(clock="manual", task_seconds="10..60", rate_limit="off", credits=1000, seed=7)
        begun, found = seedbed.control("GET", "clock")["now"], []
        for _ in range(4):
            found.append(
                seedbed.task(call("POST", CREATE, GOOD, X_Seedbed_Space="a")["data"]["taskId"])["ends"] - begun
            )
            for other in others:
                call("POST", CREATE, GOOD, X_Seedbed_Space=other)
        return found

    alone = ends()
    assert alone == ends("b", "c") == ends("default")
    assert len(set(alone)) == 4


def test_each_space_has_its_own_rate_limits(seedbed: MockServer, call: Call) -> None:
    seedbed.play(clock="manual", rate_limit="1/10")
    codes = [call("POST", CREATE, GOOD, X_Seedbed_Space=space)["code"] for space in ("a", "a", "b", "b")]
    assert codes == [200, 429, 200, 429]


@pytest.mark.parametrize("space", ["a b", "x" * 65, "../x", "a\tb", "é", "a\\b", '"'])
@pytest.mark.parametrize("source", ["header", "key"])
def test_an_invalid_name_of_a_space_is_refused(
    seedbed: MockServer, http: httpx2.Client, space: str, source: str
) -> None:
    key = seedbed.key if source == "header" else f"{space}:{seedbed.key}"
    headers = [(b"Authorization", b"Bearer " + key.encode("latin-1"))]
    headers += [(b"X-Seedbed-Space", space.encode("latin-1"))] if source == "header" else []
    response = http.get(seedbed.url + CREDIT, headers=headers).json()
    assert response["code"] == 422
    assert "letters, digits, dots" in response["msg"]
    assert ("X-Seedbed-Space" if source == "header" else "Authorization") in response["msg"]
    assert seedbed.key not in response["msg"]
    assert [entry["case"] for entry in seedbed.calls] == ["space_malformed"]


@pytest.mark.parametrize("space", ["a", "A.b_c-9", "x" * 64, "...", "default"])
def test_a_valid_name_of_a_space_is_accepted(seedbed: MockServer, call: Call, space: str) -> None:
    assert call("GET", CREDIT, X_Seedbed_Space=space)["code"] == 200
    assert call("GET", CREDIT, key=f"{space}:{seedbed.key}")["code"] == 200


def test_a_configured_key_may_contain_a_colon(seedbed: MockServer, call: Call) -> None:
    seedbed.play(key=["a:b", "b"], credits=80)
    call("POST", CREATE, GOOD, key="a:b")
    assert [entry["space"] for entry in seedbed.calls] == ["default"]
    assert balance(call, key="b") == 80
    assert call("GET", CREDIT, key="c:a:b")["code"] == 200
    assert seedbed.calls[-1]["space"] == "c"
    assert [call("GET", CREDIT, key=key)["code"] for key in ("c:d", ":b", "b:", ":")] == [401, 422, 401, 401]


@pytest.mark.parametrize("inside", ["b", "c", "no space"])
def test_the_space_in_the_header_takes_precedence_over_the_key(seedbed: MockServer, call: Call, inside: str) -> None:
    assert call("GET", CREDIT, key=f"{inside}:{seedbed.key}", X_Seedbed_Space="b")["code"] == 200
    assert [entry["space"] for entry in seedbed.calls] == ["b"]


@pytest.mark.slow
def test_the_number_of_spaces_is_bounded(seedbed: MockServer, http: httpx2.Client, control: Control) -> None:
    seedbed.play(**MANUAL)
    headers = {"Authorization": f"Bearer {seedbed.key}"}
    for number in range(2000):
        http.post(seedbed.url + CREATE, json=GOOD, headers={**headers, "X-Seedbed-Space": f"space-{number}"})
        if number % 100 == 0:
            http.get(seedbed.url + CREDIT, headers={**headers, "X-Seedbed-Space": "space-0"})
    spaces = control("GET", "/health")[1]["spaces"]
    assert len(spaces) == 1001
    assert {"default", "space-0", "space-1999"} <= set(spaces)
    assert control("GET", "/tasks", space="space-500")[1] == {"tasks": []}
    assert len(control("GET", "/tasks", space="space-0")[1]["tasks"]) == 1
    assert json.dumps(spaces).count("space-") == 1000


# What refused calls leave behind


@pytest.mark.parametrize("db", [None, "tasks.db"])
def test_calls_without_a_key_evict_no_space(
    seedbed: MockServer, call: Call, http: httpx2.Client, tmp_path: Path, db: str | None
) -> None:
    seedbed.play(**MANUAL, db=tmp_path / db if db else None)
    task_id = call("POST", CREATE, GOOD, **{"X-Seedbed-Space": "mine"})["data"]["taskId"]
    for number in range(1001):
        headers = {"Authorization": "Bearer wrong", "X-Seedbed-Space": f"made-up-{number}"}
        assert http.get(seedbed.url + CREDIT, headers=headers).json()["code"] == 401
    assert seedbed.control("GET", "health")["spaces"] == ["default", "mine"]
    assert call("GET", f"{RECORD}?taskId={task_id}", **{"X-Seedbed-Space": "mine"})["code"] == 200
    assert balance(call, **{"X-Seedbed-Space": "mine"}) == 80 - PRICE


def test_the_control_api_makes_no_space_for_an_unknown_account(seedbed: MockServer) -> None:
    with pytest.raises(ControlError, match="has no account"):
        seedbed.control("GET", "accounts/key-000000000000", space="made-up")
    assert seedbed.control("GET", "health")["spaces"] == ["default"]


def test_the_balance_of_an_old_implicit_account_is_deleted(seedbed: MockServer, call: Call) -> None:
    seedbed.play(**MANUAL)
    for number in range(150):
        assert call("POST", CREATE, GOOD, key=f"seedbed-402; nth={number + 2}")["code"] == 200
    store = seedbed._service.store
    assert isinstance(store, MemoryStore)
    assert len(store._balances) <= 101
    assert len(seedbed.control("GET", "accounts")["accounts"]) <= 101
