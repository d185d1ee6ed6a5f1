"""Accounts and spaces: who pays for what, how often who may ask, and what nobody else sees."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from seedbed_mock import MockServer, SettingsError
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


def test_each_key_has_the_options_that_it_was_given(seedbed: MockServer, call: Call) -> None:
    seedbed.play(
        key=["plain", "rich:credits=1000.5", "slow:rate=1/10,credits=13", "free:rate=off", "signs:signing-key=a,b=c:d"],
        credits=80,
        rate_limit="2/10",
        clock="manual",
    )
    balances = {"plain": 80, "rich": 1000.5, "slow": 13, "free": 80, "signs": 80}
    assert {key: balance(call, key=key) for key in balances} == balances
    made = {key: [call("POST", CREATE, GOOD, key=key)["code"] for _ in range(3)] for key in balances}
    refused = {key: codes.count(429) for key, codes in made.items()}
    assert refused == {"plain": 1, "rich": 1, "slow": 2, "free": 0, "signs": 1}
    signing = {each["signs"] for each in seedbed.control("GET", "accounts")["accounts"][-1:]}
    assert signing == {True}


@pytest.mark.parametrize(
    ("key", "words"),
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
def test_a_key_that_cannot_be_used_is_one_sentence(seedbed: MockServer, key: Any, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        seedbed.play(key=key)
    assert str(caught.value).endswith(".")
    assert seedbed.calls == []


@pytest.mark.parametrize(
    "key", ["k:credits=80,signing_key=SECRET", "k:rate=1/2,SECRET", "k:signing_key=SECRET", "k:credit=80"]
)
def test_an_option_that_is_mistaken_shows_no_secret(seedbed: MockServer, key: str) -> None:
    with pytest.raises(SettingsError, match="credits, rate, signing-key") as caught:
        seedbed.play(key=key)
    assert "SECRET" not in str(caught.value)


# Money


@pytest.mark.parametrize("http_status", ["envelope", "mirror"])
@pytest.mark.parametrize("dialect", ["documented", "observed"])
def test_what_cannot_be_paid_for_changes_nothing(
    seedbed: MockServer, http: httpx2.Client, control: Control, dialect: str, http_status: Any
) -> None:
    seedbed.play(**with_credits(PRICE - 0.01), dialect=dialect, http_status=http_status)
    headers = {"Authorization": f"Bearer {seedbed.key}"}
    answer = http.post(seedbed.url + CREATE, json={**GOOD, "callBackUrl": "http://127.0.0.1:9/"}, headers=headers)
    assert answer.json()["code"] == 402
    assert answer.status_code == (402 if http_status == "mirror" else 200)
    assert control("GET", "/tasks")[1] == {"tasks": []}
    assert control("GET", "/callbacks")[1] == {"callbacks": []}
    assert http.get(seedbed.url + CREDIT, headers=headers).json()["data"] == PRICE - 0.01


def test_what_is_not_paid_for_counts_for_no_rate(seedbed: MockServer, call: Call, control: Control) -> None:
    seedbed.play(clock="manual", credits=0, rate_limit="1/10")
    assert [call("POST", CREATE, GOOD)["code"] for _ in range(3)] == [402] * 3
    account = control("GET", "/accounts")[1]["accounts"][0]["account"]
    control("POST", f"/accounts/{account}/top-up", {"credits": 100})
    assert [call("POST", CREATE, GOOD)["code"] for _ in range(2)] == [200, 429]


def test_a_balance_is_spent_to_the_last_credit(seedbed: MockServer, call: Call) -> None:
    seedbed.play(**with_credits(2 * PRICE))
    assert [call("POST", CREATE, GOOD)["code"] for _ in range(3)] == [200, 200, 402]
    assert call("GET", CREDIT)["data"] == 0


def test_tenths_are_spent_exactly(seedbed: MockServer, call: Call) -> None:
    seedbed.play(**with_credits("100.3"))
    for _ in range(15):
        call("POST", CREATE, GOOD)
    assert call("GET", CREDIT)["data"] == 2.8


def test_a_failure_gives_the_price_back_for_the_next_task(seedbed: MockServer, call: Call) -> None:
    seedbed.play(**with_credits(PRICE))
    task_id = call("POST", CREATE, GOOD)["data"]["taskId"]
    assert call("POST", CREATE, GOOD)["code"] == 402
    seedbed.fail(task_id)
    assert [call("POST", CREATE, GOOD)["code"] for _ in range(2)] == [200, 402]


def test_creations_at_once_never_overdraw(seedbed: MockServer, control: Control) -> None:
    seedbed.play(**with_credits(12 * PRICE + 1))

    async def create_many() -> list[dict[str, Any]]:
        limits = httpx2.Limits(max_connections=50)
        headers = {"Authorization": f"Bearer {seedbed.key}"}
        async with httpx2.AsyncClient(trust_env=False, limits=limits, headers=headers, timeout=60) as client:
            answers = await asyncio.gather(*(client.post(seedbed.url + CREATE, json=GOOD) for _ in range(200)))
        return [answer.json() for answer in answers]

    answers = asyncio.run(create_many())
    made = [answer["data"]["taskId"] for answer in answers if answer["code"] == 200]
    assert len(made) == len(set(made)) == 12
    assert sum(answer["code"] == 402 for answer in answers) == 188
    assert control("GET", "/accounts")[1]["accounts"][0]["balance"] == 1
    assert {task["task_id"] for task in control("GET", "/tasks")[1]["tasks"]} == set(made)


# What others see


@pytest.mark.parametrize("http_status", ["envelope", "mirror"])
@pytest.mark.parametrize(("dialect", "code"), [("documented", 404), ("observed", 422)])
def test_a_task_of_another_account_is_as_one_that_never_was(
    seedbed: MockServer, http: httpx2.Client, dialect: str, code: int, http_status: Any
) -> None:
    seedbed.play(**MANUAL, key=["one", "two"], dialect=dialect, http_status=http_status)
    task_id = http.post(seedbed.url + CREATE, json=GOOD, headers={"Authorization": "Bearer one"}).json()["data"][
        "taskId"
    ]
    answers = []
    for name in (task_id, task_id[:-1] + ("0" if task_id[-1] != "0" else "1")):
        answer = http.get(seedbed.url + RECORD, params={"taskId": name}, headers={"Authorization": "Bearer two"})
        answers.append((answer.status_code, answer.json()["code"], answer.json()["msg"].replace(name, "")))
    assert answers[0] == answers[1]
    assert answers[0][:2] == (code if http_status == "mirror" else 200, code)


# Rates


def test_new_tasks_slide_through_a_window_for_each_account(seedbed: MockServer, call: Call) -> None:
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


def test_what_is_refused_counts_for_no_rate(seedbed: MockServer, call: Call) -> None:
    seedbed.play(clock="manual", rate_limit="1/10")
    refused = [call("POST", CREATE, body)["code"] for body in (b"{", {}, {**GOOD, "model": "none"})]
    refused.append(call("POST", CREATE, GOOD, X_Seedbed_Fault="500")["code"])
    assert 200 not in refused
    assert [call("POST", CREATE, GOOD)["code"] for _ in range(2)] == [200, 429]


def test_queries_have_a_rate_of_their_own(seedbed: MockServer, call: Call) -> None:
    seedbed.play(clock="manual", poll_rate_limit="10/1", key=["one", "two"])
    codes = [call("GET", f"{RECORD}?taskId=x", key="one")["code"] for _ in range(12)]
    assert codes == [404] * 10 + [429] * 2
    assert call("GET", f"{RECORD}?taskId=x", key="two")["code"] == 404
    assert balance(call, key="one") == 80
    seedbed.advance(1)
    assert call("GET", f"{RECORD}?taskId=x", key="one")["code"] == 404


def test_queries_have_no_rate_where_none_is_asked_for(seedbed: MockServer, call: Call) -> None:
    seedbed.play(clock="manual")
    assert {call("GET", f"{RECORD}?taskId=x")["code"] for _ in range(100)} == {404}


# Spaces


@pytest.mark.parametrize("door", ["header", "key"])
def test_a_space_has_its_own_tasks_balance_and_journal(
    seedbed: MockServer, call: Call, control: Control, door: str
) -> None:
    seedbed.play(**MANUAL)

    def named(space: str) -> dict[str, str]:
        return {"X_Seedbed_Space": space} if door == "header" else {"key": f"{space}:{seedbed.key}"}

    task_id = call("POST", CREATE, GOOD, **named("a"))["data"]["taskId"]
    assert balance(call, **named("a")) == 80 - PRICE
    assert balance(call, **named("b")) == balance(call) == 80
    codes = [call("GET", f"{RECORD}?taskId={task_id}", **where)["code"] for where in (named("a"), named("b"), {})]
    assert codes == [200, 404, 404]
    journals = {space: control("GET", "/journal", space=space)[1]["entries"] for space in ("a", "b", "default")}
    assert [len(entries) for entries in journals.values()] == [3, 2, 2]
    assert call("POST", CREATE, GOOD, X_Seedbed_Space="a")["code"] == 200
    assert balance(call, **named("a")) == 80 - 2 * PRICE


def test_a_space_draws_what_it_draws_alone(seedbed: MockServer, call: Call) -> None:
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


def test_a_space_has_rates_of_its_own(seedbed: MockServer, call: Call) -> None:
    seedbed.play(clock="manual", rate_limit="1/10")
    codes = [call("POST", CREATE, GOOD, X_Seedbed_Space=space)["code"] for space in ("a", "a", "b", "b")]
    assert codes == [200, 429, 200, 429]


@pytest.mark.parametrize("space", ["a b", "x" * 65, "../x", "a\tb", "é", "a\\b", '"'])
@pytest.mark.parametrize("door", ["header", "key"])
def test_a_name_that_no_space_can_have_is_refused(
    seedbed: MockServer, http: httpx2.Client, space: str, door: str
) -> None:
    key = seedbed.key if door == "header" else f"{space}:{seedbed.key}"
    headers = [(b"Authorization", b"Bearer " + key.encode("latin-1"))]
    headers += [(b"X-Seedbed-Space", space.encode("latin-1"))] if door == "header" else []
    answer = http.get(seedbed.url + CREDIT, headers=headers).json()
    assert answer["code"] == 422
    assert "letters, digits, dots" in answer["msg"]
    assert ("X-Seedbed-Space" if door == "header" else "Authorization") in answer["msg"]
    assert seedbed.key not in answer["msg"]
    assert [entry["case"] for entry in seedbed.calls] == ["space_malformed"]


@pytest.mark.parametrize("space", ["a", "A.b_c-9", "x" * 64, "...", "default"])
def test_a_name_that_a_space_can_have_is_let_in(seedbed: MockServer, call: Call, space: str) -> None:
    assert call("GET", CREDIT, X_Seedbed_Space=space)["code"] == 200
    assert call("GET", CREDIT, key=f"{space}:{seedbed.key}")["code"] == 200


def test_a_key_with_a_colon_is_no_space(seedbed: MockServer, call: Call) -> None:
    seedbed.play(key=["a:b", "b"], credits=80)
    call("POST", CREATE, GOOD, key="a:b")
    assert [entry["space"] for entry in seedbed.calls] == ["default"]
    assert balance(call, key="b") == 80
    assert call("GET", CREDIT, key="c:a:b")["code"] == 200
    assert seedbed.calls[-1]["space"] == "c"
    assert [call("GET", CREDIT, key=key)["code"] for key in ("c:d", ":b", "b:", ":")] == [401, 422, 401, 401]


@pytest.mark.parametrize("inside", ["b", "c", "no space"])
def test_a_space_in_the_header_wins_over_one_in_the_key(seedbed: MockServer, call: Call, inside: str) -> None:
    assert call("GET", CREDIT, key=f"{inside}:{seedbed.key}", X_Seedbed_Space="b")["code"] == 200
    assert [entry["space"] for entry in seedbed.calls] == ["b"]


def test_thousands_of_spaces_are_kept_within_bounds(seedbed: MockServer, http: httpx2.Client, control: Control) -> None:
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
