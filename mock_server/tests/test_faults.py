"""Which calls a rule applies to: conditions, shares, counts and the order of rules."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from math import log
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from seedbed_mock import ControlError, ManualClock, MockServer, create_app, running
from seedbed_mock.faults.connection import BrokenConnectionError
from seedbed_mock.faults.effects import Delay
from seedbed_mock.faults.rules import compile_pattern
from seedbed_schemas import default_contract, job_api, local
from seedbed_schemas.openapi import example_of

CONTRACT, SHARED = default_contract(), job_api()
CREATE, RECORD, CREDIT = CONTRACT.operation.path, SHARED.record_info.path, SHARED.credit.path
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
APPLIED = "X-Seedbed-Fault-Applied"
WORDS: dict[str, Any] = {"clock": "manual", "rate_limit": "off", "credits": 10**6, "key": ("k", "other")}

Control = Callable[..., tuple[int, Any]]
pytestmark = pytest.mark.seedbed(**WORDS)


class Caller:
    """Calls the service and returns the codes of the responses."""

    def __init__(self, server: MockServer, http: httpx2.Client) -> None:
        self.server = server
        self._http = http

    def request(self, method: str, path: str, *, key: str = "k", **options: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {key}", **options.pop("headers", {})}
        return self._http.request(method, self.server.url + path, headers=headers, **options)

    def create(self, prompt: str = "A hill", *, key: str = "k", space: str = "", **headers: str) -> int:
        headers |= {"X-Seedbed-Space": space} if space else {}
        code: int = self.send(prompt, key=key, **headers).json()["code"]
        return code

    def send(self, prompt: str = "A hill", *, key: str = "k", callback: str = "", **headers: str) -> httpx2.Response:
        body = {**GOOD, SHARED.fields.input: {**GOOD[SHARED.fields.input], "prompt": prompt}}
        body |= {SHARED.fields.callback: callback} if callback else {}
        return self.request("POST", CREATE, key=key, json=body, headers=headers)

    def credit(self) -> int:
        code: int = self.request("GET", CREDIT).json()["code"]
        return code

    def record(self) -> int:
        code: int = self.request("GET", RECORD, params={"taskId": "none"}).json()["code"]
        return code

    def many(self, count: int) -> str:
        return "".join("x" if self.create() == 429 else "." for _ in range(count))


@pytest.fixture(name="caller")
def make_caller(seedbed: MockServer, http: httpx2.Client) -> Caller:
    return Caller(seedbed, http)


def test_a_rule_without_conditions_applies_to_every_call(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults("455")
    assert [caller.create(), caller.credit(), caller.record()] == [455, 455, 455]


def test_the_condition_op(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults("429; op=credit")
    assert [caller.create(), caller.credit(), caller.record()] == [200, 429, 404]


def test_a_space_as_a_condition_and_as_a_scope(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults("429; space=a")
    seedbed.add_faults("455", space="b")
    assert [caller.create(), caller.create(space="a"), caller.create(space="b")] == [200, 429, 455]


def test_the_condition_key_is_never_shown(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults("402; key=other")
    assert [caller.create(), caller.create(key="other")] == [200, 402]
    assert "other" not in str(seedbed.control("GET", "faults"))


def test_the_condition_model(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults(f"500; model={CONTRACT.model}", "402; model=meadow/1")
    assert [caller.create(), caller.credit()] == [500, 200]


def test_the_conditions_prompt_and_prompt_like(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults('422; prompt="a cat"', r'455; prompt-like="(?i)^dogs?\\b"', "402; prompt-like=日本")
    prompts = ["I see a cat", "A cat", "Dog in fog", "a dog", "dogma", "日本の丘"]
    assert [caller.create(prompt) for prompt in prompts] == [422, 200, 455, 200, 200, 402]


def test_any_regular_expression_is_matched_in_linear_time(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults('422; prompt-like="(a+)+$"', "455; prompt-like=(x|x)*y")
    assert caller.create("a" * 2500 + "!") == 200


@pytest.mark.parametrize(
    ("conditions", "seen"),
    [
        ("nth=3", "..x......."),
        ("every=3", "..x..x..x."),
        ("times=2", "xx........"),
        ("every=2; times=2", ".x.x......"),
        ("p=1", "xxxxxxxxxx"),
        ("p=0", ".........."),
        ("nth=4, times=1", "...x......"),
    ],
)
def test_the_counting_conditions(seedbed: MockServer, caller: Caller, conditions: str, seen: str) -> None:
    seedbed.add_faults(f"429; {conditions}")
    assert caller.many(10) == seen


def test_the_seed_repeats_a_share(seedbed: MockServer, caller: Caller) -> None:
    def drawn(seed: int) -> str:
        seedbed.play(**WORDS, seed=seed)
        seedbed.add_faults("429; p=0.3")
        return caller.many(100)

    first = drawn(1)
    assert first == drawn(1)
    assert first != drawn(2)
    assert 15 <= first.count("x") <= 45


def test_the_share_of_a_rule_does_not_depend_on_other_rules(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults("429; p=0.3")
    alone = caller.many(50)
    seedbed.reset()
    seedbed.add_faults("455; op=credit; p=0.5", "429; p=0.3")
    assert caller.many(50) == alone


def test_the_conditions_since_and_until(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults("429; since=10; until=20")
    seen = []
    for _ in range(5):
        seen.append(caller.credit())
        seedbed.advance(5)
    assert seen == [200, 200, 429, 429, 200]


def test_all_conditions_must_be_met(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults("429; op=createTask; key=other; prompt=cat; nth=2")
    caller.create("cat")
    caller.create("dog", key="other")
    assert [caller.create("cat", key="other") for _ in range(3)] == [200, 429, 200]


def test_only_the_first_matching_rule_applies_and_counts(seedbed: MockServer, caller: Caller, control: Control) -> None:
    seedbed.add_faults("429; times=1", "455; times=1", "500; op=createTask")
    assert [caller.credit(), caller.credit(), caller.credit(), caller.create()] == [429, 455, 200, 500]
    faults = control("GET", "/faults")[1]["faults"]
    assert [(each["rule"], each["seen"], each["hits"]) for each in faults] == [
        ("429; times=1", 4, 1),
        ("455; times=1", 3, 1),
        ("500; op=createTask", 1, 1),
    ]


def test_rules_that_come_with_a_call_precede_active_ones(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults("429")
    assert caller.create("[[fault: 402]]") == 402
    assert caller.create("[[fault: 402]]", **{"X-Seedbed-Fault": "455"}) == 455


def test_only_the_first_phrase_of_a_prompt_counts(caller: Caller) -> None:
    assert caller.create("[[fault: 402]] [[fault: 500]]") == 402
    assert caller.create("[[fault: 402; nth=9]] [[fault: 500]]") == 200
    assert caller.create("[[fault: 402") == 200


def test_a_rule_in_a_header_keeps_its_counts_between_calls(caller: Caller) -> None:
    rule = {"X-Seedbed-Fault": "429; every=2"}
    assert [caller.create(**rule) for _ in range(4)] == [200, 429, 200, 429]
    assert [caller.create(space="a", **rule) for _ in range(2)] == [200, 429]


def test_a_key_with_a_rule_is_an_account_of_its_own(caller: Caller) -> None:
    assert [caller.create(key="seedbed-402; nth=2") for _ in range(3)] == [200, 402, 200]
    assert caller.create(key="seedbed-nonsense") == 401
    assert caller.create(key="seedbed-200") == 422
    assert caller.create(key="seedbed-task.fail code") == 422


@pytest.mark.parametrize(
    "send",
    [
        lambda caller: caller.create(**{"X-Seedbed-Fault": "200"}),
        lambda caller: caller.create(key="seedbed-200"),
        lambda caller: caller.create("[[fault: 200]]"),
        lambda caller: caller.create("[[fault: boom]]"),
        lambda caller: caller.create("[[fault:]]"),
    ],
)
def test_an_invalid_rule_that_comes_with_a_call_gives_422(caller: Caller, send: Callable[[Caller], int]) -> None:
    assert send(caller) == 422


@pytest.mark.parametrize("rule", ["200", "boom", "", "429; p=2", "429; prompt-like=(", "x" * 5000])
def test_an_invalid_rule_is_refused_by_the_control_api_and_none_is_added(control: Control, rule: str) -> None:
    status, response = control("POST", "/faults", {"rules": ["429", rule]})
    assert status == 422
    assert len(response["error"]) < 1200
    assert control("GET", "/faults")[1] == {"faults": [], "scenario": None}


@pytest.mark.parametrize(
    "body", [{}, {"rules": []}, {"rules": "429"}, {"rules": [4]}, {"rules": ["429"], "space": "/"}]
)
def test_a_body_of_another_shape_is_refused(control: Control, body: object) -> None:
    assert control("POST", "/faults", body)[0] == 422


def test_the_number_of_added_rules_is_limited(control: Control) -> None:
    assert control("POST", "/faults", {"rules": ["429; nth=9"] * 1000})[0] == 200
    assert control("POST", "/faults", {"rules": ["429"]})[0] == 409


def test_rules_are_removed_by_number_by_space_or_all_together(seedbed: MockServer, control: Control) -> None:
    seedbed.add_faults("429", "455")
    seedbed.add_faults("500", space="a")
    first = control("GET", "/faults")[1]["faults"][0]
    assert [each["rule"] for each in control("GET", "/faults", space="a")[1]["faults"]] == ["500"]
    left = control("DELETE", "/faults", number=first["number"])[1]["faults"]
    assert [(each["rule"], each["space"], each["source"]) for each in left] == [
        ("455", None, "control"),
        ("500", "a", "control"),
    ]
    assert control("DELETE", "/faults", number=first["number"])[0] == 404
    seedbed.clear_faults(space="a")
    assert [each["rule"] for each in control("GET", "/faults")[1]["faults"]] == ["455"]
    seedbed.clear_faults()
    assert control("GET", "/faults")[1]["faults"] == []


def test_a_reset_removes_the_rules_of_its_space(seedbed: MockServer, control: Control) -> None:
    seedbed.add_faults("429")
    seedbed.add_faults("500", space="a")
    seedbed.reset(space="a")
    assert [each["rule"] for each in control("GET", "/faults")[1]["faults"]] == ["429"]
    seedbed.reset()
    assert control("GET", "/faults")[1]["faults"] == []


def test_the_handle_raises_for_an_invalid_rule(seedbed: MockServer) -> None:
    with pytest.raises(ControlError, match='Unknown effect "boom"'):
        seedbed.add_faults("429", "boom")


def test_responses_name_the_rule_that_changed_them(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults("task.fail; prompt=cat", "429; op=credit; nth=1")
    assert APPLIED not in caller.request("GET", SHARED.models.path).headers
    assert caller.request("GET", CREDIT).headers[APPLIED] == "429; op=credit; nth=1"
    assert APPLIED not in caller.request("GET", CREDIT).headers
    response = caller.request("POST", CREATE, json={**GOOD, SHARED.fields.input: {**GOOD["input"], "prompt": "cat"}})
    assert response.headers[APPLIED] == "task.fail; prompt=cat"
    record = caller.request("GET", RECORD, params={"taskId": response.json()["data"]["taskId"]})
    assert record.headers[APPLIED] == "task.fail; prompt=cat"


def test_the_journal_shows_the_rule_and_its_source(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults("429; times=1")
    caller.create()
    caller.create(**{"X-Seedbed-Fault": "402"})
    caller.create()
    assert [call["fault"] for call in seedbed.calls] == [
        "429; times=1 (rule 1, by control)",
        "402 (by header)",
        "",
    ]


def test_a_broken_connection_without_a_socket_is_not_a_server_error() -> None:
    app = create_app()

    async def call() -> None:
        headers = {"Authorization": f"Bearer {local.KEY}", "X-Seedbed-Fault": "wire.reset"}
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
            await client.get(f"http://testserver{CREDIT}", headers=headers)

    with pytest.raises(BrokenConnectionError):
        asyncio.run(call())
    assert list(app.state.service.errors) == []


def test_delayed_calls_do_not_block_others_and_end_when_the_clock_advances(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults("delay seconds=3600; op=credit")
    address = urlsplit(seedbed.url)
    request = f"GET {CREDIT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        waiting = [
            stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=20))
            for _ in range(200)
        ]
        for each in waiting:
            each.sendall(request)
        end = time.monotonic() + 20
        while len(seedbed.calls) < len(waiting):
            assert time.monotonic() < end
        waiting.pop().close()
        assert caller.create() == 200
        seedbed.advance(3600)
        assert all(each.recv(65536).startswith(b"HTTP/1.1 200 OK") for each in waiting)


def test_delays_are_fixed_or_uniform_or_lognormal() -> None:
    def drawn(**options: Any) -> list[float]:
        random = Random(1)  # noqa: S311 (a seed has to repeat the same delays)
        return sorted(Delay(**options).draw(random) for _ in range(2001))

    assert set(drawn(seconds="5")) == {5}
    even = drawn(seconds="1..3")
    assert 1 <= even[0] < 1.01
    assert 2.99 < even[-1] <= 3
    assert even[1000] == pytest.approx(2, rel=0.05)
    lognormal = drawn(seconds="5", sigma=1)
    assert lognormal[1000] == pytest.approx(5, rel=0.1)
    assert log(lognormal[1682] / lognormal[1000]) == pytest.approx(1, rel=0.1)


@pytest.fixture(name="clocked")
def run_with_a_clock() -> Iterator[tuple[MockServer, ManualClock]]:
    clock = ManualClock()
    with running(clock=clock, key="k") as server:
        yield server, clock


def test_a_rule_counts_time_from_the_last_reset(clocked: tuple[MockServer, ManualClock]) -> None:
    server, clock = clocked
    with httpx2.Client(trust_env=False) as http:
        caller = Caller(server, http)
        clock.advance(100)
        server.reset()
        server.add_faults("429; until=10")
        assert caller.credit() == 429
        clock.advance(10)
        assert caller.credit() == 200


@pytest.mark.parametrize(
    "rule", [f"{name}; times=1" for name in ("task.fail", "task.lost", "task.orphan", "result.cut")]
)
def test_a_rule_that_could_not_touch_a_call_is_not_used_up(seedbed: MockServer, caller: Caller, rule: str) -> None:
    seedbed.add_faults(rule)
    refused = caller.send("x" * 3001)
    assert refused.json()["code"] == 422
    assert APPLIED not in refused.headers
    assert seedbed.calls[-1]["fault"] == ""
    assert [(each["seen"], each["hits"]) for each in seedbed.control("GET", "faults")["faults"]] == [(1, 0)]
    assert caller.send("A hill").headers[APPLIED] == rule
    assert seedbed.calls[-1]["fault"].startswith(rule)
    assert [(each["seen"], each["hits"]) for each in seedbed.control("GET", "faults")["faults"]] == [(2, 1)]
    assert APPLIED not in caller.send("A hill").headers


@pytest.mark.parametrize("rule", ["delay seconds=0; times=1", "wire.trickle seconds=0; times=1"])
def test_a_rule_of_the_connection_applies_to_refused_calls(seedbed: MockServer, caller: Caller, rule: str) -> None:
    seedbed.add_faults(rule)
    refused = caller.send("x" * 3001)
    assert refused.json()["code"] == 422
    assert refused.headers[APPLIED] == rule
    assert [each["hits"] for each in seedbed.control("GET", "faults")["faults"]] == [1]


def test_every_pattern_is_compiled_once(seedbed: MockServer, caller: Caller) -> None:
    seedbed.add_faults(*(f"402; prompt-like=nothing{number}" for number in range(600)))
    assert caller.create() == 200
    compiled = compile_pattern.cache_info().misses
    for _ in range(3):
        assert caller.create() == 200
    assert compile_pattern.cache_info().misses == compiled


def test_a_pattern_that_would_take_long_to_compile_is_refused(caller: Caller) -> None:
    # A fixed text of 729,000 characters, which no engine can search in a shorter form.
    assert caller.create(**{"X-Seedbed-Fault": '402; prompt-like="((a{90}){90}){90}"'}) == 422


def test_only_held_callbacks_are_looked_at_after_a_delivery(
    seedbed: MockServer, caller: Caller, receive: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(*_: object, **__: object) -> None:
        raise AssertionError("the tasks are listed")

    seedbed.play(clock="manual", task_seconds=1, rate_limit="off", key="k")
    receiver = receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    monkeypatch.setattr(seedbed._service.store, "page", listed)
    first = caller.send("A", callback=receiver.url, **{"X-Seedbed-Fault": "callback.out-of-order"})
    seedbed.advance(2)
    second, third = (caller.send("A", callback=receiver.url) for _ in range(2))
    seedbed.advance(2)
    assert not seedbed._service.held_callbacks
    bodies = [json.loads(each.body)["data"]["taskId"] for each in receiver.requests]
    assert sorted(bodies) == sorted(each.json()["data"]["taskId"] for each in (first, second, third))
    assert bodies[0] != first.json()["data"]["taskId"]
    assert not seedbed.errors


# Web pages


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:PORT"}, 421),
        ({"Host": "127.0.0.1.evil.example:PORT"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://localhost"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "localhost:PORT"}, 200),
        ({"Host": "LOCALHOST:PORT"}, 200),
        ({"Host": "seedbed:8721"}, 200),
        ({"Host": "api.localhost"}, 200),
        ({"Host": "192.0.2.7:80"}, 200),
        ({"Host": "[2001:db8::1]:80"}, 200),
        ({"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [CREATE, CREDIT])
def test_no_web_page_can_call_the_service(
    seedbed: MockServer, http: httpx2.Client, path: str, headers: dict[str, str], status: int
) -> None:
    port = str(urlsplit(seedbed.url).port)
    sent = {name: value.replace("PORT", port) for name, value in headers.items()}
    sent["Authorization"] = f"Bearer {seedbed.key}"
    method = "POST" if path == CREATE else "GET"
    response = http.request(method, seedbed.url + path, json=GOOD if path == CREATE else None, headers=sent)
    assert (response.status_code, response.json()["code"]) == (status, 200 if status == 200 else 422)
    assert bool(seedbed.control("GET", "tasks")["tasks"]) == (status == 200 and path == CREATE)


@pytest.mark.seedbed(allow_host=["app.example", "Other.example"])
@pytest.mark.parametrize("host", ["app.example", "app.example:8080", "OTHER.example"])
def test_an_allowed_host_may_be_named(seedbed: MockServer, http: httpx2.Client, host: str) -> None:
    headers = {"Host": host.replace("8080", str(urlsplit(seedbed.url).port)), "Origin": "https://app.example"}
    headers["Authorization"] = f"Bearer {seedbed.key}"
    assert http.get(seedbed.url + CREDIT, headers=headers).json()["code"] == 200
    assert http.get(f"{seedbed.url}/__seedbed/health", headers=headers).status_code == 200


@pytest.mark.seedbed(allow_host="*")
def test_any_host_may_be_allowed(seedbed: MockServer, http: httpx2.Client) -> None:
    headers = {"Host": "evil.example", "Authorization": f"Bearer {seedbed.key}"}
    assert http.get(seedbed.url + CREDIT, headers=headers).json()["code"] == 200
