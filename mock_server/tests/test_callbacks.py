"""Callbacks from the mock server to receivers on real sockets: content, time, retries and outcomes."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from seedbed_client import verify_callback
from seedbed_mock import ControlError, ManualClock, MockServer, create_app, running
from seedbed_mock.callbacks.targets import RefusedUrls
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of

SHARED, CONTRACT = job_api(), default_contract()
CREATE = CONTRACT.operation.path
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
OOPS = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
SECRET = "signing-secret"  # noqa: S105 (signs nothing but this test)

Receive = Callable[..., Any]


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with running(clock="manual") as server:
        yield server


@pytest.fixture(autouse=True)
def _new_service(server: MockServer) -> None:
    server.play(clock="manual", task_seconds=30, key=f"k:signing-key={SECRET}", rate_limit="off", credits=10_000)


def request(url: str | None) -> dict[str, Any]:
    body: dict[str, Any] = example_of(CONTRACT.part("request"))
    body.pop(SHARED.fields.callback, None)
    return body if url is None else {**body, SHARED.fields.callback: url}


def create(server: MockServer, url: str | None, **headers: str) -> str:
    all_headers = {"Authorization": f"Bearer {server.key}", **headers}
    response = httpx2.post(server.url + CREATE, json=request(url), headers=all_headers, trust_env=False).json()
    task_id: str = response["data"]["taskId"]
    return task_id


def callback(server: MockServer, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.task(task_id)["callback"]
    return found


def statuses(server: MockServer, task_id: str) -> list[int | None]:
    return [attempt["status"] for attempt in callback(server, task_id)["attempts"]]


def test_a_callback_is_sent_once_when_a_task_ends(server: MockServer, receive: Receive) -> None:
    receiver = receive(OK)
    task_id = create(server, f"{receiver.url}/done?id=7")
    server.advance(29)
    assert receiver.requests == []
    server.advance(1)
    server.advance(3600)
    (received,) = receiver.requests
    assert (received.method, received.target) == ("POST", "/done?id=7")
    assert received.headers["content-type"] == "application/json"
    body = json.loads(received.body)
    assert SHARED.shape("callback").violations(body) == []
    assert body["code"] == 200
    assert body["data"]["taskId"] == task_id
    assert body["data"]["state"] == SHARED.states.success
    assert callback(server, task_id)["outcome"] == "delivered"


def test_the_callback_of_a_failed_task_has_its_own_code(server: MockServer, receive: Receive) -> None:
    receiver = receive(OK)
    task_id = create(server, receiver.url)
    server.fail(task_id, 422, "blocked")
    body = json.loads(receiver.requests[0].body)
    assert SHARED.shape("callback").violations(body) == []
    assert body["code"] == 501
    assert (body["data"]["failCode"], body["data"]["failMsg"]) == ("422", "blocked")


def test_the_callback_of_the_observed_dialect(server: MockServer, receive: Receive) -> None:
    server.play(clock="manual", dialect="observed", task_seconds=0)
    receiver = receive(OK)
    create(server, receiver.url)
    server.advance(1)
    body = json.loads(receiver.requests[0].body)
    assert body["msg"] == "Playground task completed successfully."
    assert body["data"]["costTime"] == 0
    assert body["data"]["creditsConsumed"] == 6.5
    assert isinstance(body["data"]["updateTime"], int)


def test_the_signature_covers_the_task_id_and_the_time_of_the_clock(server: MockServer, receive: Receive) -> None:
    server.play(clock="manual", key=f"k:signing-key={SECRET}", sign_with="clock")
    receiver = receive(OK)
    task_id = create(server, receiver.url)
    server.advance(1000)
    headers = receiver.requests[0].headers
    timestamp = headers[SHARED.callback.timestamp_header.lower()]
    assert int(timestamp) * 1000 <= callback(server, task_id)["attempts"][0]["at"] < (int(timestamp) + 1) * 1000
    digest = hmac.new(SECRET.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
    assert headers[SHARED.callback.signature_header.lower()] == base64.b64encode(digest).decode()


@pytest.mark.parametrize(
    "options", [{"clock": "manual"}, {"speed": 1000}, {"speed": 0.5}, {"clock": "follow"}, {"task_seconds": 0}], ids=str
)
def test_the_client_verifies_a_callback_in_every_clock_mode(
    server: MockServer, receive: Receive, options: dict[str, Any]
) -> None:
    server.play(**{"task_seconds": 1, "key": f"k:signing-key={SECRET}", **options})
    receiver = receive(OK)
    create(server, receiver.url)
    server.advance(3600)
    assert receiver.left.acquire(timeout=20)
    [request] = receiver.requests
    assert verify_callback(request.headers, request.body, SECRET)


def test_an_account_without_a_signing_key_does_not_sign(server: MockServer, receive: Receive) -> None:
    server.play(clock="manual")
    receiver = receive(OK)
    create(server, receiver.url)
    server.advance(10)
    assert not {name for name in receiver.requests[0].headers if name.startswith("x-webhook")}


def test_a_failed_delivery_is_tried_four_times_with_growing_pauses(server: MockServer, receive: Receive) -> None:
    receiver = receive(OOPS)
    task_id = create(server, receiver.url)
    server.advance(3600)
    found = callback(server, task_id)
    assert found["outcome"] == "failed"
    assert statuses(server, task_id) == [500] * (1 + SHARED.callback.retries)
    times = [attempt["at"] for attempt in found["attempts"]]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses == sorted(pauses)
    assert len(set(pauses)) == len(pauses)
    server.advance(3600)
    assert len(receiver.requests) == 4


def test_a_receiver_that_recovers_gets_the_callback(server: MockServer, receive: Receive) -> None:
    receiver = receive(OOPS, OOPS, OK)
    task_id = create(server, receiver.url)
    server.advance(3600)
    assert statuses(server, task_id) == [500, 500, 200]
    assert callback(server, task_id)["outcome"] == "delivered"


def test_410_ends_the_retries(server: MockServer, receive: Receive) -> None:
    receiver = receive(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
    task_id = create(server, receiver.url)
    server.advance(3600)
    assert statuses(server, task_id) == [410]
    assert callback(server, task_id)["outcome"] == "failed"


def test_retry_after_is_respected(server: MockServer, receive: Receive) -> None:
    receiver = receive(b"HTTP/1.1 503 Busy\r\nRetry-After: 100\r\nContent-Length: 0\r\n\r\n", OK)
    task_id = create(server, receiver.url)
    server.advance(30 + 99)
    assert statuses(server, task_id) == [503]
    server.advance(2)
    assert statuses(server, task_id) == [503, 200]


def test_a_refused_connection_is_a_failed_attempt(server: MockServer, receive: Receive) -> None:
    receiver = receive(OK)
    receiver.close()
    task_id = create(server, receiver.url)
    server.advance(3600)
    found = callback(server, task_id)
    assert found["outcome"] == "failed"
    assert len(found["attempts"]) == 4
    assert all(attempt["error"] and attempt["status"] is None for attempt in found["attempts"])
    assert server.task(task_id)["state"] == SHARED.states.success


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://169.254.169.254/latest", "http://0.0.0.0:80/"])
def test_only_loopback_addresses_get_callbacks_by_default(server: MockServer, url: str) -> None:
    task_id = create(server, url)
    server.advance(3600)
    found = callback(server, task_id)
    assert found["outcome"] == "refused"
    (attempt,) = found["attempts"]
    assert attempt["is_refused"]
    assert url.split("/")[2].partition(":")[0] in attempt["error"]
    assert server.task(task_id)["state"] == SHARED.states.success


@pytest.mark.parametrize(
    ("host", "path"),
    [
        *((host, "/reset") for host in ("127.0.0.1", "127.0.0.2", "localhost", "[::ffff:127.0.0.1]", "[::1]")),
        *(("127.0.0.1", path) for path in ("", "/", "?a=b", "/clock?a=b#c", "%2Freset", "/tasks/x/fail")),
    ],
)
@pytest.mark.parametrize("root", ["__seedbed", "%5F_seedbed"])
def test_no_callback_is_sent_to_the_control_api_of_the_server(
    server: MockServer, host: str, path: str, root: str
) -> None:
    task_id = create(server, f"http://{host}:{server.url.rpartition(':')[2]}/{root}{path}")
    server.advance(30)
    found = callback(server, task_id)
    assert found["outcome"] == "refused"
    assert "control API" in found["attempts"][0]["error"]


@pytest.mark.parametrize("path", ["/__seedbedding", "/done/__seedbed", "/done?/__seedbed"])
def test_a_callback_can_be_sent_to_any_other_path_of_the_server(server: MockServer, path: str) -> None:
    task_id = create(server, server.url + path)
    server.advance(30)
    assert statuses(server, task_id) == [200]


def test_a_callback_can_be_sent_to_such_a_path_of_another_server(server: MockServer, receive: Receive) -> None:
    task_id = create(server, f"{receive(OK).url}/__seedbed/reset")
    server.advance(30)
    assert statuses(server, task_id) == [200]


def test_a_callback_can_be_redelivered(server: MockServer, receive: Receive) -> None:
    receiver = receive(OK)
    task_id = create(server, receiver.url)
    with pytest.raises(ControlError, match="has not ended yet"):
        server.control("POST", f"callbacks/{task_id}/redeliver")
    server.advance(30)
    again = server.control("POST", f"callbacks/{task_id}/redeliver")
    assert again["outcome"] == "delivered"
    first, second = receiver.requests
    assert first.body == second.body
    with pytest.raises(ControlError, match="without a callback"):
        server.control("POST", f"callbacks/{create(server, None)}/redeliver")


def test_a_redelivery_has_all_retries(server: MockServer, receive: Receive) -> None:
    receiver = receive(OOPS, OOPS, OOPS, OOPS, OOPS, OK)
    task_id = create(server, receiver.url)
    server.advance(3600)
    server.control("POST", f"callbacks/{task_id}/redeliver")
    server.advance(3600)
    assert statuses(server, task_id) == [500] * 5 + [200]


def test_the_journal_has_every_attempt(server: MockServer, receive: Receive) -> None:
    receiver = receive(OOPS, OK)
    task_id = create(server, receiver.url)
    server.advance(3600)
    entries = server.control("GET", "journal", kind="callback", task_id=task_id)["entries"]
    assert [(entry["attempt"], entry["status"]) for entry in entries] == [(1, 500), (2, 200)]
    assert entries[0]["target"] == receiver.url
    assert entries[0]["request"] == json.loads(receiver.requests[0].body)


def test_a_task_that_ends_by_polls_has_a_callback(server: MockServer, receive: Receive) -> None:
    server.play(clock="manual", progress="polls:2")
    receiver = receive(OK)
    task_id = create(server, receiver.url)
    for _ in range(2):
        httpx2.get(
            server.url + SHARED.record_info.path,
            params={SHARED.record_info.query: task_id},
            headers={"Authorization": f"Bearer {server.key}"},
            trust_env=False,
        )
    server.advance(0)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("progress", ["polls:1", "hand"])
def test_a_withheld_callback_is_not_sent_however_the_task_ends(
    server: MockServer, receive: Receive, progress: str
) -> None:
    server.play(clock="manual", progress=progress)
    receiver = receive(OK)
    task_id = create(server, receiver.url, **{"X-Seedbed-Fault": "callback.never"})
    if progress == "hand":
        server.finish(task_id)
    else:
        query, headers = {SHARED.record_info.query: task_id}, {"Authorization": f"Bearer {server.key}"}
        httpx2.get(server.url + SHARED.record_info.path, params=query, headers=headers, trust_env=False)
    server.advance(3600)
    assert server.task(task_id)["state"] == SHARED.states.success
    assert receiver.requests == []
    assert callback(server, task_id)["outcome"] == "withheld"


def test_callbacks_are_sent_with_a_real_clock(server: MockServer, receive: Receive) -> None:
    server.play(task_seconds=0)
    receiver = receive(OK)
    create(server, receiver.url)
    assert receiver.came.acquire(timeout=30)


def test_callbacks_are_sent_with_a_fast_clock(server: MockServer, receive: Receive) -> None:
    server.play(task_seconds=3600, speed=100_000)
    receiver = receive(OK)
    create(server, receiver.url)
    assert receiver.came.acquire(timeout=30)


def test_a_reset_deletes_callbacks_that_are_not_due_yet(server: MockServer, receive: Receive) -> None:
    receiver = receive(OK)
    create(server, receiver.url)
    server.reset()
    server.advance(3600)
    assert receiver.requests == []


# Two hundred at once

KINDS = {
    "responds-500": ("failed", 4),
    "hangs": ("failed", 4),
    "redirects": ("failed", 4),
    "sends-a-gigabyte": ("delivered", 1),
    "closes-early": ("failed", 4),
    "is-down-twice": ("delivered", 3),
    "works": ("delivered", 1),
}
TASKS = 203


class Watchdog:
    """Records for how long something blocked an event loop, without the time in which its thread had no core."""

    def __init__(self) -> None:
        self.blocked: list[float] = []

    async def watch(self) -> None:
        while True:
            before, queued = time.monotonic(), self._queued()
            await asyncio.sleep(0.001)
            lasted = time.monotonic() - before - (self._queued() - queued)
            if lasted > 0.05:
                self.blocked.append(lasted)

    @staticmethod
    def _queued() -> float:
        """Return how long this thread was ready to run and had no core, in seconds."""
        _, nanoseconds, _ = Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()
        return int(nanoseconds) / 1e9


@contextlib.contextmanager
def hostile_receiver() -> Iterator[tuple[str, Callable[[], Counter[str]]]]:
    script = Path(__file__).with_name("hostile_receiver.py")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"

        def stop() -> Counter[str]:
            process.kill()
            assert process.stdout
            return Counter(line.split("/")[1] for line in process.stdout)

        try:
            yield url, stop
        finally:
            process.kill()


async def drive(url: str) -> tuple[list[dict[str, Any]], Watchdog]:
    """Create many tasks in an application in this event loop, and advance its clock until all deliveries are over."""
    clock, watchdog = ManualClock(), Watchdog()
    app = create_app(rate_limit="off", credits=10_000, task_seconds=10, clock=clock)
    transport = httpx2.ASGITransport(app)
    watching = asyncio.create_task(watchdog.watch())
    async with httpx2.AsyncClient(transport=transport, base_url="http://seedbed") as client:
        for number in range(TASKS):
            kind = list(KINDS)[number % len(KINDS)]
            headers = {"Authorization": "Bearer seedbed-key"}
            await client.post(CREATE, json=request(f"{url}/{kind}/{number}"), headers=headers)
        turned = await client.post("/__seedbed/clock", json={"advance": 3600}, timeout=120)
        assert turned.status_code == 200
        listed = (await client.get("/__seedbed/callbacks", params={"limit": 1000})).json()["callbacks"]
    watching.cancel()
    await app.state.dispatcher.close()
    return listed, watchdog


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how long a thread had no core")
@pytest.mark.slow
def test_two_hundred_callbacks_to_hostile_receivers_do_not_block_the_loop() -> None:
    with hostile_receiver() as (url, stop):
        listed, watchdog = asyncio.run(drive(url))
        seen = stop()
    ends = {(kind, each["outcome"], len(each["attempts"])) for each in listed for kind in [each["url"].split("/")[3]]}
    assert ends == {(kind, outcome, attempts) for kind, (outcome, attempts) in KINDS.items()}
    assert len(listed) == TASKS
    assert seen == {kind: TASKS // len(KINDS) * attempts for kind, (_, attempts) in KINDS.items()}
    assert watchdog.blocked == []


def test_after_many_refused_callbacks_to_a_url_the_next_are_refused_with_their_tasks(
    server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seedbed_mock.callbacks.targets._MANY", 5)
    url, other = "http://10.1.2.3/done", "http://10.1.2.3/other"
    # The first one finds out that the URL is refused, and five more are refused when they are due.
    for _ in range(6):
        create(server, url)
        server.advance(31)
    at_once, later = create(server, url), create(server, other)
    found = callback(server, at_once)
    assert (found["outcome"], found["due"], found["url"]) == ("refused", None, url)
    assert [each["error"] for each in found["attempts"]] == [
        callback(server, create(server, url))["attempts"][0]["error"]
    ]
    assert callback(server, later)["outcome"] == "waiting"
    reasons = {each["attempts"][0]["error"] for each in server.callbacks if each["url"] == url}
    assert len(reasons) == 1
    server.advance(31)
    assert callback(server, later)["outcome"] == "refused"
    entries = server.control("GET", "journal", kind="callback")["entries"]
    assert [entry["target"] for entry in entries].count(url) < 7
    assert at_once not in {entry["task_id"] for entry in entries}


def test_a_url_of_many_tasks_is_looked_up_before_its_first_callback_is_due(
    server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seedbed_mock.callbacks.targets._MANY", 5)
    url, allowed = "http://10.1.2.3/done", "http://127.0.0.1:9/done"
    first, *_ = [create(server, each) for each in [url, allowed] * 6]
    # This waits for the lookup, and advances nothing.
    server.advance(0)
    assert callback(server, first)["outcome"] == "waiting"
    assert callback(server, create(server, url))["outcome"] == "refused"
    assert callback(server, create(server, allowed))["outcome"] == "waiting"


def test_tasks_of_one_millisecond_share_their_refused_callback() -> None:
    refused = RefusedUrls()
    for url in ("http://app.test/done", "http://other.test/done"):
        refused.add(url, "no")
        assert refused.delivery_at_once(url, 1) is None
        for _ in range(1000):
            refused.reason(url)
    first, again, later, other = (
        refused.delivery_at_once(f"http://{name}.test/done", now)
        for name, now in (("app", 1), ("app", 1), ("app", 2), ("other", 2))
    )
    assert first is not None
    assert first is again
    assert later is not None
    assert other is not None
    assert [(each.url, each.attempts[0].at) for each in (first, later, other)] == [
        ("http://app.test/done", 1),
        ("http://app.test/done", 2),
        ("http://other.test/done", 2),
    ]
    assert {each.outcome for each in (first, later, other)} == {"refused"}


def test_a_url_that_is_no_longer_refused_gets_its_callbacks_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused, monotonic = RefusedUrls(), 0.0
    monkeypatch.setattr("seedbed_mock.callbacks.targets.real_monotonic", lambda: monotonic)
    refused.add("http://app.test/done", "no")
    for _ in range(1000):
        assert refused.reason_at_once("http://app.test/done") == ""
        assert refused.reason("http://app.test/done") == "no"
    monotonic = 59.0
    # After 10 seconds a callback that is due asks again, while new tasks still take it as refused.
    assert refused.reason("http://app.test/done") == ""
    assert refused.reason_at_once("http://app.test/done") == "no"
    assert refused.reason_at_once("http://other.test/done") == ""
    monotonic = 60.0
    assert refused.reason_at_once("http://app.test/done") == ""
    refused.add("http://app.test/done", "no")
    assert refused.reason_at_once("http://app.test/done") == "no"
    refused.remove("http://app.test/done")
    assert refused.reason_at_once("http://app.test/done") == ""
