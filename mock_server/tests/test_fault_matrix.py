"""Every effect from every rule source, as a client on a real socket sees it."""

import asyncio
import base64
import hashlib
import hmac
import io
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
import requests
from PIL import Image
from seedbed_mock import MockServer, running
from seedbed_mock.faults.rules import EFFECTS, parse_rule
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import default_profile

CONTRACT, SHARED, PRICE = default_contract(), job_api(), float(default_profile().credits)
CREATE, RECORD, CREDIT = CONTRACT.operation.path, SHARED.record_info.path, SHARED.credit.path
CALLBACK, STATES = SHARED.callback, SHARED.states
APPLIED = "X-Seedbed-Fault-Applied"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SECRET = "signing-secret"  # noqa: S105 (signs nothing but this test)
WORDS: dict[str, Any] = {
    "clock": "manual",
    "task_seconds": 30,
    "credits": 1000,
    "rate_limit": "off",
    "key": f"k:signing-key={SECRET}",
}
PATIENCE = 20.0
IMPATIENCE = 0.2


@dataclass
class Scene:
    """A client whose calls are subject to a fault rule."""

    server: MockServer
    http: httpx2.Client
    receive: Callable[..., Any]
    key: str = "k"
    prompt: str = "A hill at dawn"
    header: str = ""

    def request(self, url: str = "", *, plain: bool = False) -> dict[str, Any]:
        """Return the request that creates a task, with the rule of the scene or without any."""
        prompt = "A hill at dawn" if plain else self.prompt
        body = {**example_of(CONTRACT.part("request")), SHARED.fields.callback: url}
        body[SHARED.fields.input] = {**body[SHARED.fields.input], "prompt": prompt}
        if not url:
            del body[SHARED.fields.callback]
        headers = {"Authorization": f"Bearer {'k' if plain else self.key}"}
        if self.header and not plain:
            headers["X-Seedbed-Fault"] = self.header
        return {"method": "POST", "url": self.server.url + CREATE, "json": body, "headers": headers}

    def create(self, url: str = "", **options: Any) -> httpx2.Response:
        return self.http.request(**self.request(url), **options)

    def task(self, url: str = "") -> str:
        task_id: str = self.create(url).json()["data"]["taskId"]
        return task_id

    def get(self, path: str, **query: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.key}"}
        response: dict[str, Any] = self.http.get(self.server.url + path, params=query, headers=headers).json()
        return response

    def record(self, task_id: str) -> dict[str, Any]:
        record: dict[str, Any] = self.get(RECORD, taskId=task_id)["data"]
        return record

    def spent(self) -> float:
        return 1000 - float(self.get(CREDIT)["data"])

    def result(self) -> httpx2.Response:
        task_id = self.task()
        self.server.advance(30)
        record = self.record(task_id)
        assert record["state"] == STATES.success
        return self.http.get(json.loads(record["resultJson"])["resultUrls"][0])

    def callbacks(self, seconds: float = 30) -> tuple[str, list[Any]]:
        receiver = self.receive(OK)
        task_id = self.task(receiver.url)
        self.server.advance(seconds)
        return task_id, receiver.requests


# What a client sees of each effect.


def is_code(scene: Scene) -> None:
    response = scene.create()
    assert (response.status_code, response.json()["code"], response.json()["data"]) == (200, 429, None)
    assert "retry-after" not in response.headers
    assert scene.spent() == 0


def is_code_with_another_message(scene: Scene) -> None:
    response = scene.create()
    assert response.json() == {"code": 500, "msg": "Oh no", "data": None}
    assert response.headers["retry-after"] == "7"


def is_bare_status(scene: Scene) -> None:
    response = scene.create()
    assert (response.status_code, response.content, response.headers["retry-after"]) == (503, b"", "5")
    assert scene.spent() == 0


def is_page(status: int) -> Callable[[Scene], None]:
    def is_seen(scene: Scene) -> None:
        response = scene.create()
        assert response.status_code == status
        assert response.headers["content-type"].startswith("text/html")
        assert response.text.startswith("<html>")

    return is_seen


def is_empty(scene: Scene) -> None:
    response = scene.create()
    assert (response.status_code, response.content) == (200, b"")


def is_of_another_type(scene: Scene) -> None:
    response = scene.create()
    assert (response.headers["content-type"], response.json()["code"]) == ("text/plain; charset=utf-8", 200)


def is_not_json(scene: Scene) -> None:
    response = scene.create()
    assert int(response.headers["content-length"]) == len(response.content) > 0
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        response.json()


def is_a_list(scene: Scene) -> None:
    assert isinstance(scene.create().json(), list)


def has_no_data(scene: Scene) -> None:
    response = scene.create().json()
    assert response["code"] == 200
    assert "data" not in response


def breaks_as(error: type[Exception]) -> Callable[[Scene], None]:
    def is_seen(scene: Scene) -> None:
        with pytest.raises(error) as caught:
            scene.create(timeout=IMPATIENCE if error is httpx2.ReadTimeout else PATIENCE)
        assert type(caught.value) is error
        assert scene.spent() == PRICE  # the call itself is done

    return is_seen


def trickles(scene: Scene) -> None:
    with scene.http.stream(**scene.request()) as response:
        pieces = list(response.iter_raw())
    assert len(pieces) > 5
    assert json.loads(b"".join(pieces))["code"] == 200
    assert scene.spent() == PRICE


def comes_between(least: float, most: float) -> Callable[[Scene], None]:
    def is_seen(scene: Scene) -> None:
        with ThreadPoolExecutor(1) as pool:
            response = pool.submit(scene.create)
            wait_for_call(scene.server)
            scene.server.advance(least)
            assert not is_done(response, scene.server)
            scene.server.advance(most - least)
            assert response.result(PATIENCE).json()["code"] == 200

    return is_seen


def wait_for_call(server: MockServer) -> None:
    end = time.monotonic() + PATIENCE
    while not server.calls:
        assert time.monotonic() < end


def is_done(response: Future[httpx2.Response], server: MockServer) -> bool:
    """Return whether a call has its response, after the server has had time to respond to others."""
    for _ in range(30):
        server.control("GET", "health")
    return response.done()


def fails(scene: Scene) -> None:
    task_id = scene.task()
    assert scene.spent() == PRICE
    scene.server.advance(4.9)
    assert scene.record(task_id)["state"] in STATES.pending
    scene.server.advance(0.1)
    record = scene.record(task_id)
    assert (record["state"], record["failCode"], record["failMsg"]) == (STATES.failure, "422", "Not this")
    assert scene.spent() == 0


def fails_at_its_end(scene: Scene) -> None:
    task_id = scene.task()
    scene.server.advance(29)
    assert scene.record(task_id)["state"] in STATES.pending
    scene.server.advance(1)
    record = scene.record(task_id)
    assert (record["state"], {record["failCode"]: record["failMsg"]}) == (
        STATES.failure,
        dict([next(iter(SHARED.failures.items()))]),
    )


def is_stuck(scene: Scene) -> None:
    task_id = scene.task()
    scene.server.advance(1_000_000)
    assert scene.record(task_id)["state"] == "queuing"


def is_slow(scene: Scene) -> None:
    task_id = scene.task()
    scene.server.advance(599)
    assert scene.record(task_id)["state"] in STATES.pending
    scene.server.advance(1)
    assert scene.record(task_id)["state"] == STATES.success


def is_late(scene: Scene) -> None:
    task_id = scene.task()
    assert scene.get(RECORD, taskId=task_id)["code"] == 404
    scene.server.advance(2.9)
    assert scene.get(RECORD, taskId=task_id)["code"] == 404
    scene.server.advance(0.1)
    assert scene.get(RECORD, taskId=task_id)["code"] == 200


def is_lost(scene: Scene) -> None:
    receiver = scene.receive(OK)
    assert scene.create(receiver.url).json()["code"] == 500
    scene.server.advance(100)
    assert scene.spent() == PRICE
    assert receiver.requests == []


def is_orphaned(scene: Scene) -> None:
    receiver = scene.receive(OK)
    assert scene.create(receiver.url).json()["code"] == 500
    scene.server.advance(30)
    assert scene.spent() == PRICE
    task_id = json.loads(receiver.requests[0].body)["data"]["taskId"]
    assert scene.record(task_id)["state"] == STATES.success


def has_an_empty_url(scene: Scene) -> None:
    task_id = scene.task()
    scene.server.advance(30)
    assert json.loads(scene.record(task_id)["resultJson"]) == {"resultUrls": [""]}


def is_not_there(scene: Scene) -> None:
    response = scene.result()
    assert response.status_code == 404
    assert response.request.url.path.endswith(".jpg")


def is_of_another_size(scene: Scene) -> None:
    response = scene.result()
    assert APPLIED in response.headers
    assert Image.open(io.BytesIO(response.content)).size == (64, 48)


def is_cut(scene: Scene) -> None:
    response = scene.result()
    assert int(response.headers["content-length"]) == len(response.content)
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(response.content)).load()


def gets_no_callback(scene: Scene) -> None:
    task_id, received = scene.callbacks(100_000)
    assert received == []
    assert scene.record(task_id)["state"] == STATES.success


def gets_a_late_callback(scene: Scene) -> None:
    _, received = scene.callbacks(30 + 59)
    assert received == []
    scene.server.advance(1)
    assert len(received) == 1


def gets_callbacks(times: int) -> Callable[[Scene], None]:
    def is_seen(scene: Scene) -> None:
        _, received = scene.callbacks(3600)
        assert len(received) == times
        assert len({each.body for each in received}) == 1

    return is_seen


def gets_callbacks_out_of_order(scene: Scene) -> None:
    receiver = scene.receive(OK)
    first = scene.task(receiver.url)
    # Callbacks that are due at the same moment are sent at once, and can arrive in any order.
    due = scene.server.task(first)["callback"]["due"]
    assert due == scene.server.task(first)["ends"] + 60_000
    scene.server.advance(1)
    plain = scene.http.request(**scene.request(receiver.url, plain=True)).json()["data"]["taskId"]
    scene.server.advance(31)
    assert [json.loads(each.body)["data"]["taskId"] for each in receiver.requests] == [plain, first]


def gets_an_early_callback(scene: Scene) -> None:
    task_id, received = scene.callbacks(20)
    assert json.loads(received[0].body)["data"]["state"] == STATES.success
    assert scene.record(task_id)["state"] in STATES.pending
    scene.server.advance(10)
    assert scene.record(task_id)["state"] == STATES.success
    assert len(received) == 1


def signature(task_id: str, timestamp: str) -> str:
    return base64.b64encode(hmac.digest(SECRET.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256)).decode()


def signed(received: list[Any]) -> tuple[str, str]:
    headers = received[0].headers
    return headers[CALLBACK.timestamp_header.lower()], headers[CALLBACK.signature_header.lower()]


def is_unsigned(scene: Scene) -> None:
    _, received = scene.callbacks()
    assert CALLBACK.signature_header.lower() not in received[0].headers
    assert CALLBACK.timestamp_header.lower() not in received[0].headers


def is_signed_wrongly(scene: Scene) -> None:
    task_id, received = scene.callbacks()
    timestamp, found = signed(received)
    assert len(base64.b64decode(found)) == hashlib.sha256().digest_size
    assert found not in {signature(task_id, timestamp), signature("undefined", timestamp)}


def is_signed_over_another_id(scene: Scene) -> None:
    _, received = scene.callbacks()
    timestamp, found = signed(received)
    assert found == signature("undefined", timestamp)


def is_signed_long_ago(scene: Scene) -> None:
    task_id, received = scene.callbacks()
    timestamp, found = signed(received)
    assert found == signature(task_id, timestamp)
    now = time.time()
    assert now - 3660 <= int(timestamp) <= now - 3599


def gets_a_contradicting_callback(scene: Scene) -> None:
    task_id, received = scene.callbacks()
    body = json.loads(received[0].body)
    assert (body["code"], body["data"]["state"]) == (501, STATES.failure)
    assert scene.record(task_id)["state"] == STATES.success


SEEN: dict[str, Callable[[Scene], None]] = {
    "429; op=createTask": is_code,
    '500 message="Oh no" retry-after=7': is_code_with_another_message,
    "answer.status status=503 retry-after=5; op=createTask": is_bare_status,
    "answer.html": is_page(502),
    "answer.html status=403": is_page(403),
    "answer.empty": is_empty,
    "answer.type": is_of_another_type,
    "answer.not-json": is_not_json,
    "answer.shape": is_a_list,
    "answer.no-data": has_no_data,
    "wire.reset; op=createTask": breaks_as(httpx2.ReadError),
    "wire.reset at=middle; op=createTask": breaks_as(httpx2.ReadError),
    "wire.close; op=createTask": breaks_as(httpx2.RemoteProtocolError),
    "wire.cut-short; op=createTask": breaks_as(httpx2.RemoteProtocolError),
    "wire.trickle seconds=0.001; op=createTask": trickles,
    "wire.hang; op=createTask": breaks_as(httpx2.ReadTimeout),
    "wire.nothing; op=createTask": breaks_as(httpx2.RemoteProtocolError),
    "delay seconds=5": comes_between(4.9, 5),
    "delay seconds=10..20": comes_between(9.9, 20),
    "delay seconds=100 sigma=0.5": comes_between(5, 2000),
    'task.fail code=422 message="Not this" after=5': fails,
    "task.fail": fails_at_its_end,
    "task.stuck state=queuing": is_stuck,
    "task.slow seconds=600": is_slow,
    "task.late seconds=3": is_late,
    "task.lost": is_lost,
    "task.orphan": is_orphaned,
    "result.empty-url": has_an_empty_url,
    "result.dead-url": is_not_there,
    "result.expired": is_not_there,
    "result.size width=64 height=48": is_of_another_size,
    "result.cut": is_cut,
    "callback.never": gets_no_callback,
    "callback.late seconds=60": gets_a_late_callback,
    "callback.twice": gets_callbacks(2),
    "callback.out-of-order seconds=60; times=1": gets_callbacks_out_of_order,
    "callback.early seconds=10": gets_an_early_callback,
    "callback.unsigned": is_unsigned,
    "callback.wrong-signature": is_signed_wrongly,
    "callback.other-id": is_signed_over_another_id,
    "callback.stale seconds=3600": is_signed_long_ago,
    "callback.unlike": gets_a_contradicting_callback,
    "callback.again": gets_callbacks(CALLBACK.retries + 1),
}


def test_every_effect_is_tested() -> None:
    assert {parse_rule(rule).effect.name for rule in SEEN} == set(EFFECTS)


# The rule sources.


def by_header(scene: Scene, rule: str, _: Path) -> None:
    scene.header = rule


def by_key(scene: Scene, rule: str, _: Path) -> None:
    scene.key = f"seedbed-{rule}"


def by_prompt(scene: Scene, rule: str, _: Path) -> None:
    scene.prompt = f"A hill [[fault: {rule}]] at dawn"


def by_scenario(scene: Scene, rule: str, folder: Path) -> None:
    path = folder / "mine.toml"
    text = json.dumps(rule)
    path.write_text(f'description = "Mine."\n[[phase]]\nname = "all"\nrules = [{text}]\n', encoding="utf-8")
    scene.server.play(**WORDS, scenario=path)


def by_control(scene: Scene, rule: str, _: Path) -> None:
    scene.server.add_faults(rule)


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with running(**WORDS) as server:
        yield server


@pytest.fixture(name="scene")
def make_scene(server: MockServer, http: httpx2.Client, receive: Callable[..., Any]) -> Iterator[Scene]:
    server.play(**WORDS)
    yield Scene(server, http, receive)
    assert list(server.errors) == []


@pytest.mark.parametrize("source", [by_header, by_key, by_prompt, by_scenario, by_control])
@pytest.mark.parametrize("rule", SEEN)
def test_every_effect_works_from_every_source(
    scene: Scene, rule: str, source: Callable[[Scene, str, Path], None], tmp_path: Path
) -> None:
    source(scene, rule, tmp_path)
    SEEN[rule](scene)


@pytest.mark.parametrize("rule", SEEN)
def test_the_effect_is_absent_without_the_rule(scene: Scene, rule: str) -> None:
    with pytest.raises((AssertionError, IndexError, KeyError, pytest.fail.Exception)):
        SEEN[rule](scene)


@pytest.mark.parametrize("source", [by_header, by_key, by_prompt, by_scenario, by_control])
@pytest.mark.parametrize("rule", [rule for rule in SEEN if not rule.startswith(("wire", "delay"))])
def test_a_response_names_the_rule_that_changed_it(
    scene: Scene, rule: str, source: Callable[[Scene, str, Path], None], tmp_path: Path
) -> None:
    source(scene, rule, tmp_path)
    assert parse_rule(scene.create().headers[APPLIED]) == parse_rule(rule)


# Other clients.


def with_requests(scene: Scene, seconds: float) -> str:
    with requests.Session() as session:
        session.trust_env = False
        try:
            return session.request(**scene.request(), timeout=seconds).text
        except requests.RequestException as error:
            return type(error).__name__


def with_aiohttp(scene: Scene, seconds: float) -> str:
    async def call() -> str:
        limit = aiohttp.ClientTimeout(sock_read=seconds)
        async with aiohttp.ClientSession(timeout=limit) as session, session.request(**scene.request()) as response:
            return await response.text()

    try:
        return asyncio.run(call())
    except aiohttp.ClientError as error:
        return type(error).__name__


def with_curl(scene: Scene, seconds: float) -> str:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    request = scene.request()
    headers = [word for name, value in request["headers"].items() for word in ("-H", f"{name}: {value}")]
    command = ["curl", "-q", "-s", "--noproxy", "*", "--max-time", str(seconds), *headers]
    command += ["-d", json.dumps(request["json"]), request["url"]]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout if result.returncode == 0 else f"curl {result.returncode}"


OTHERS = (with_requests, with_aiohttp, with_curl)
WIRE = {
    "wire.reset": ("ConnectionError", "ClientOSError", "curl 56"),
    "wire.reset at=middle": ("ChunkedEncodingError", "ClientPayloadError", "curl 56"),
    "wire.close": ("ChunkedEncodingError", "ClientPayloadError", "curl 18"),
    "wire.cut-short": ("ChunkedEncodingError", "ClientPayloadError", "curl 18"),
    "wire.hang": ("ReadTimeout", "SocketTimeoutError", "curl 28"),
    "wire.nothing": ("ConnectionError", "ServerDisconnectedError", "curl 52"),
}


@pytest.mark.parametrize("source", [by_header, by_key, by_prompt])
@pytest.mark.parametrize(
    ("rule", "client", "outcome"),
    [(rule, *pair) for rule, outcomes in WIRE.items() for pair in zip(OTHERS, outcomes, strict=True)],
)
def test_other_clients_see_the_broken_connection(  # noqa: PLR0917 (a row of the table)
    scene: Scene,
    rule: str,
    client: Callable[[Scene, float], str],
    outcome: str,
    source: Callable[[Scene, str, Path], None],
    tmp_path: Path,
) -> None:
    source(scene, rule, tmp_path)
    assert client(scene, IMPATIENCE if rule == "wire.hang" else PATIENCE) == outcome


@pytest.mark.parametrize("client", OTHERS)
@pytest.mark.parametrize(
    ("rule", "start"),
    [
        ("429", '{"code":429,'),
        ("answer.html", "<html>"),
        ("answer.empty", ""),
        ("answer.shape", "["),
        ("answer.not-json", '{"code"'),
        ("wire.trickle seconds=0.001", '{"code":200,'),
        ("task.orphan", '{"code":500,'),
    ],
)
def test_other_clients_read_the_responses(
    scene: Scene, rule: str, start: str, client: Callable[[Scene, float], str]
) -> None:
    scene.header = rule
    assert client(scene, PATIENCE).startswith(start)
