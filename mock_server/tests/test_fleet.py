"""Servers on one Redis share everything, so that a client need not know which of them answers."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from seedbed_mock import MockServer, running
from seedbed_mock.options import ServerOptions
from seedbed_mock.settings import SettingsError
from seedbed_mock.state import Service
from seedbed_mock.stores.store import StoreError
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import default_profile
from tests.conftest import Receiver
from tests.redis_process import RedisProcess, redis_running

CONTRACT, SHARED, PRICE = default_contract(), job_api(), default_profile().credits
CREATE, RECORD, CREDIT = CONTRACT.operation.path, SHARED.record_info.path, SHARED.credit.path
GOOD: dict[str, Any] = {
    name: value for name, value in example_of(CONTRACT.part("request")).items() if "ack" not in name
}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
SPACE = "X-Seedbed-Space"


class Fleet:
    """Three servers on one Redis; each call goes to the next of them, as behind a load balancer."""

    def __init__(self, servers: list[MockServer], http: httpx2.Client) -> None:
        self.servers, self.http, self.turn = servers, http, 0

    def next(self) -> MockServer:
        self.turn += 1
        return self.servers[self.turn % len(self.servers)]

    def call(self, method: str, path: str, body: object = None, **headers: str) -> dict[str, Any]:
        server = self.next()
        sent = {
            "Authorization": f"Bearer {server.key}",
            **{key.replace("_", "-"): value for key, value in headers.items()},
        }
        answer: dict[str, Any] = self.http.request(method, f"{server.url}{path}", json=body, headers=sent).json()
        return answer

    def create(self, **headers: str) -> dict[str, Any]:
        return self.call("POST", CREATE, GOOD, **headers)

    def record(self, task_id: str, **headers: str) -> dict[str, Any]:
        return self.call("GET", f"{RECORD}?{SHARED.record_info.query}={task_id}", **headers)

    def balance(self, **headers: str) -> float:
        balance: float = self.call("GET", CREDIT, **headers)["data"]
        return balance

    def control(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.request(method, f"{self.next().url}/__seedbed{path}", json=body).json()
        return answer


Open = Callable[..., Fleet]


@pytest.fixture
def open_fleet(redis_server: RedisProcess) -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def open_one(size: int = 3, **options: Any) -> Fleet:
            url = redis_server.url()
            servers = [stack.enter_context(running(db=url, **options)) for _ in range(size)]
            return Fleet(servers, stack.enter_context(httpx2.Client()))

        yield open_one


def test_tasks_and_balances_are_the_same_on_all_servers(open_fleet: Open) -> None:
    fleet = open_fleet(clock="manual")
    created = [fleet.create()["data"]["taskId"] for _ in range(6)]
    assert len(set(created)) == 6
    assert {fleet.balance() for _ in range(3)} == {float(80 - 6 * PRICE)}
    fleet.servers[0].fail(created[0])
    assert {fleet.balance() for _ in range(3)} == {float(80 - 5 * PRICE)}
    states = [fleet.record(each)["data"]["state"] for each in created for _ in range(3)]
    assert states == ["fail"] * 3 + ["waiting"] * 15


def test_servers_cannot_overdraw_a_balance_together(open_fleet: Open) -> None:
    fleet = open_fleet(rate_limit="off")
    with ThreadPoolExecutor(8) as pool:
        codes = [each["code"] for each in pool.map(lambda _: fleet.create(), range(30))]
    paid = int(80 // PRICE)
    assert sorted(codes) == [200] * paid + [402] * (30 - paid)
    assert fleet.balance() == float(80 - paid * PRICE)


def test_servers_cannot_exceed_a_rate_limit_together(open_fleet: Open) -> None:
    fleet = open_fleet(credits=100_000, rate_limit="5/10", poll_rate_limit="4/1", clock="manual")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: fleet.create(), range(20)))
    assert sorted(each["code"] for each in answers) == [200] * 5 + [429] * 15
    assert fleet.balance() == float(100_000 - 5 * PRICE)
    task = next(each["data"]["taskId"] for each in answers if each["code"] == 200)
    assert [fleet.record(task)["code"] for _ in range(6)] == [200] * 4 + [429] * 2
    fleet.next().advance(10)
    assert [fleet.create()["code"] for _ in range(6)] == [200] * 5 + [429]
    # An invalid request is still refused for the limit first, as by a single server.
    assert fleet.call("POST", CREATE, {})["code"] == 429


def test_a_clock_that_is_turned_on_one_server_is_turned_on_all(open_fleet: Open) -> None:
    fleet = open_fleet(clock="manual")
    task = fleet.create()["data"]["taskId"]
    for _ in range(5):
        fleet.next().advance(1000)
        assert len({fleet.control("GET", "/clock")["now"] for _ in range(3)}) == 1
    assert {fleet.record(task)["data"]["state"] for _ in range(3)} == {"success"}


def test_a_server_that_joins_later_follows(redis_server: RedisProcess) -> None:
    url = redis_server.url()
    with running(db=url, clock="manual") as first:
        first.advance(86_400)
        first.add_faults("402; times=1")
        with running(db=url, clock="manual") as second, httpx2.Client() as http:
            clocks = [http.get(f"{each.url}/__seedbed/clock").json() for each in (first, second)]
            assert clocks[0] == clocks[1]
            assert Fleet([second], http).create()["code"] == 402
            assert Fleet([first], http).create()["code"] == 200


def test_the_clock_of_a_fleet_continues_after_its_end_and_may_have_another_speed(redis_server: RedisProcess) -> None:
    url = redis_server.url()
    with running(db=url) as server, httpx2.Client() as http:
        server.advance(86_400)
        before = http.get(f"{server.url}/__seedbed/clock").json()["now"]
        with pytest.raises(StoreError, match="use --speed 1, as the other servers do"), running(db=url, speed=2):
            pass
    with running(db=url, speed=2) as server, httpx2.Client() as http:
        assert 0 <= http.get(f"{server.url}/__seedbed/clock").json()["now"] - before < 60_000


def test_fault_rules_and_their_counts_are_shared(open_fleet: Open) -> None:
    fleet = open_fleet(credits=1000, rate_limit="off")
    fleet.control("POST", "/faults", {"rules": ["455; op=createTask; nth=3", "500; op=createTask; times=2"]})
    codes = [fleet.create()["code"] for _ in range(6)]
    assert codes == [500, 500, 455, 200, 200, 200]
    listed = [fleet.control("GET", "/faults")["faults"] for _ in range(3)]
    assert listed[0] == listed[1] == listed[2]
    assert [(each["seen"], each["hits"]) for each in listed[0]] == [(6, 1), (5, 2)]
    fleet.control("DELETE", f"/faults?number={listed[0][1]['number']}")
    assert [len(fleet.control("GET", "/faults")["faults"]) for _ in range(3)] == [1, 1, 1]


@pytest.mark.slow
def test_a_share_of_calls_is_the_same_whichever_server_they_reach(open_fleet: Open) -> None:
    codes = []
    for size in (1, 3):
        fleet = open_fleet(size, credits=1000, rate_limit="off")
        fleet.control("POST", "/faults", {"rules": ["500; p=0.5"]})
        codes.append([fleet.create()["code"] for _ in range(30)])
    assert codes[0] == codes[1]
    assert 5 < codes[0].count(500) < 25


def test_the_counts_of_a_rule_in_a_header_are_shared(open_fleet: Open) -> None:
    fleet = open_fleet()
    assert [fleet.create(X_Seedbed_Fault="402; nth=2")["code"] for _ in range(3)] == [200, 402, 200]


def test_a_rule_that_changes_nothing_is_not_counted_as_a_hit(open_fleet: Open) -> None:
    fleet = open_fleet(clock="manual")
    fleet.control("POST", "/faults", {"rules": ["task.fail; times=1"]})
    for _ in range(3):
        assert fleet.call("POST", CREATE, {"model": CONTRACT.model})["code"] == 422
    task = fleet.create()["data"]["taskId"]
    fleet.next().advance(60)
    assert fleet.record(task)["data"]["state"] == "fail"
    assert [each["hits"] for each in fleet.control("GET", "/faults")["faults"]] == [1]


def test_a_reset_on_one_server_resets_all(open_fleet: Open) -> None:
    fleet = open_fleet()
    fleet.control("POST", "/faults", {"rules": ["500; op=credit"], "space": "a"})
    for space in ("a", "b"):
        fleet.create(**{SPACE: space})
    fleet.control("POST", "/reset", {"space": "a"})
    assert {fleet.balance(**{SPACE: "a"}) for _ in range(3)} == {80}
    assert {fleet.balance(**{SPACE: "b"}) for _ in range(3)} == {float(80 - PRICE)}
    assert [len(fleet.control("GET", "/tasks")["tasks"]) for _ in range(3)] == [1, 1, 1]
    calls = [fleet.control("GET", "/journal?operation=createTask")["entries"] for _ in range(3)]
    assert [[each["space"] for each in listed] for listed in calls] == [["b"]] * 3
    fleet.control("POST", "/reset", {})
    assert [fleet.control("GET", "/journal")["entries"] for _ in range(3)] == [[], [], []]


def test_the_journal_of_all_servers_is_read_and_verified_on_any(open_fleet: Open) -> None:
    fleet = open_fleet()
    for number in range(7):
        fleet.create(**({SPACE: "other"} if number % 2 else {}))
        entries = fleet.control("GET", "/journal?operation=createTask")["entries"]
        assert len(entries) == number + 1
        verdict = fleet.control("POST", "/verify", {"operation": "createTask", "times": number + 1})
        assert verdict["verified"], verdict
    everywhere = [fleet.control("GET", "/journal")["entries"] for _ in range(3)]
    assert everywhere[0] == everywhere[1] == everywhere[2]
    numbers = [each["number"] for each in everywhere[0]]
    assert numbers == sorted(set(numbers))
    first = fleet.control("GET", "/journal?limit=3")
    second = fleet.control("GET", f"/journal?limit=9&before={first['before']}")
    assert [each["number"] for each in second["entries"] + first["entries"]] == numbers


def test_each_callback_is_delivered_by_one_server(open_fleet: Open, receive: Callable[..., Receiver]) -> None:
    fleet, received = open_fleet(clock="manual", credits=1000, rate_limit="off"), receive(OK)
    body = {**GOOD, SHARED.fields.callback: f"{received.url}/done"}
    tasks = {fleet.call("POST", CREATE, body)["data"]["taskId"] for _ in range(12)}
    fleet.next().advance(60)
    fleet.next().wait_for_callbacks(12)
    outcomes = [fleet.control("GET", "/callbacks")["callbacks"] for _ in range(3)]
    assert {each["task_id"] for each in outcomes[0]} == tasks
    assert {each["outcome"] for listed in outcomes for each in listed} == {"delivered"}
    assert len(received.requests) == 12


def test_a_server_reports_that_redis_is_lost_and_recovers_by_itself(tmp_path: Path, http: httpx2.Client) -> None:
    with (
        redis_running(tmp_path, "--appendfsync", "always") as redis,
        running(db=redis.url(), clock="manual") as server,
    ):
        fleet = Fleet([server], http)
        task = fleet.create()["data"]["taskId"]
        redis.stop()
        for answer in (fleet.create(), fleet.record(task), fleet.call("GET", CREDIT)):
            assert answer["code"] == 500
        control = http.get(f"{server.url}/__seedbed/tasks")
        assert (control.status_code, "cannot be reached" in control.text) == (503, True)
        redis.start()
        assert fleet.record(task)["data"]["state"] == "waiting"
        assert fleet.balance() == float(80 - PRICE)
        server.advance(60)
        assert fleet.record(task)["data"]["state"] == "success"
        assert not server.errors
        redis.stop()
    # It has stopped, although it could not say goodbye.


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"clock": "auto"}, "real or manual"),
        ({"clock": "follow"}, "real or manual"),
        ({"db": "postgres://u:s3cret@h/0"}, "use redis://, rediss:// or unix://"),
    ],
)
def test_options_that_a_fleet_cannot_have_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as refusal:
        ServerOptions(**{"db": "redis://:s3cret@127.0.0.1:1/0", **options}).check()
    assert "s3cret" not in str(refusal.value)
    assert "s3cret" not in repr(ServerOptions(db="redis://:s3cret@127.0.0.1:1/0"))


def test_a_space_is_known_to_all_servers(open_fleet: Open) -> None:
    fleet = open_fleet()
    fleet.create(**{SPACE: "new"})
    assert [fleet.control("GET", "/health")["spaces"] for _ in range(3)] == [["default", "new"]] * 3
    accounts = [fleet.control("GET", "/accounts?space=new")["accounts"] for _ in range(3)]
    assert [[each["balance"] for each in listed] for listed in accounts] == [[float(80 - PRICE)]] * 3


@pytest.mark.slow
def test_the_space_that_was_not_used_for_the_longest_time_gives_way_on_all_servers(
    open_fleet: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seedbed_mock.stores.redis.MOST_SPACES", 2)
    fleet = open_fleet()
    for space in ("a", "b", "a", "c", "default"):
        fleet.create(**{SPACE: space})
        # The servers report their calls with the journal, in which the order of the spaces is that of their use.
        fleet.control("GET", "/journal")
    assert [sorted(fleet.control("GET", "/health")["spaces"]) for _ in range(3)] == [["a", "c", "default"]] * 3
    assert [fleet.balance(**{SPACE: space}) for space in ("a", "c")] == [float(80 - 2 * PRICE), float(80 - PRICE)]
    spaces = [each["space"] for each in fleet.control("GET", "/tasks")["tasks"]]
    assert sorted(spaces) == ["a", "a", "c", "default"]


@pytest.mark.slow
def test_servers_that_create_tasks_at_the_same_time_take_different_ids(
    open_fleet: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    collisions, reserve_ids = list[int](), Service.reserve_ids

    async def counted(service: Service, now: int) -> None:
        collisions.append(now)
        await reserve_ids(service, now)

    monkeypatch.setattr(Service, "reserve_ids", counted)
    fleet = open_fleet(clock="manual", credits=10_000, rate_limit="off")
    with ThreadPoolExecutor(6) as pool:
        created = {each["data"]["taskId"] for each in pool.map(lambda _: fleet.create(), range(300))}
    assert len(created) == 300
    # Without a clock that runs, all servers begin with the same ID; then each reserves some.
    assert 0 < len(collisions) < 60
