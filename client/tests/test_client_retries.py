"""When a request is retried, after how long, and when it is not."""

import asyncio
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest
from seedbed_client import (
    ApiError,
    AsyncSeedreamClient,
    InvalidResponseError,
    MaintenanceError,
    PollingSchedule,
    PollingStep,
    RateLimitError,
    SeedreamClient,
    SubmissionUnknownError,
    WaitTimeoutError,
)
from seedbed_mock import ManualClock

CREATED = {"code": 200, "msg": "success", "data": {"taskId": "t1"}}
BALANCE = {"code": 200, "msg": "success", "data": 7}
WAITING = {"taskId": "t1", "model": "m", "state": "waiting", "param": "{}", "createTime": 1}


def code(number: int, **headers: str) -> httpx2.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(200, json={"code": number, "msg": "no", "data": None}, headers=names)


class Script:
    """Returns responses in turn, the last one repeatedly, and counts the calls and the pauses between them."""

    def __init__(self, *responses: Any) -> None:
        self.left, self.calls, self.pauses, self.clock = list(responses), 0, list[float](), ManualClock()

    def respond(self, request: httpx2.Request) -> httpx2.Response:
        self.calls += 1
        response = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if isinstance(response, Exception):
            raise response
        return (
            response if isinstance(response, httpx2.Response) else httpx2.Response(200, json=response, request=request)
        )

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.advance(seconds)

    def client(self, **options: Any) -> SeedreamClient:
        transport = httpx2.MockTransport(self.respond)
        return SeedreamClient(transport=transport, sleep=self.sleep, clock=self.clock.now, **options)


SAFE = [code(429), code(455), httpx2.ConnectError("refused"), httpx2.ConnectTimeout("slow"), httpx2.PoolTimeout("full")]
UNSAFE = [
    code(500),
    httpx2.ReadTimeout("slow"),
    httpx2.ReadError("reset"),
    httpx2.WriteError("reset"),
    httpx2.RemoteProtocolError("closed"),
    httpx2.Response(502, html="<html>"),
    httpx2.Response(503, headers={"Retry-After": "1"}),
]
FINAL = [code(401), code(402), code(422), code(505), code(433)]


def test_a_local_server_that_refuses_connections_is_not_waited_for_long() -> None:
    script = Script(httpx2.ConnectError("refused"))
    with pytest.raises(httpx2.ConnectError):
        script.client().credits()
    assert (script.calls, sum(script.pauses) < 2) == (5, True)
    far = Script(httpx2.ConnectError("refused"))
    with pytest.raises(httpx2.ConnectError):
        far.client(base_url="http://seedbed.example").credits()
    assert (far.calls, sum(far.pauses) > 5) == (5, True)


@pytest.mark.parametrize("response", SAFE, ids=str)
def test_a_submission_is_retried_if_no_task_can_have_been_created(response: Any) -> None:
    script = Script(response, response, CREATED)
    assert script.client().create_task("a hill") == "t1"
    assert script.calls == 3
    assert script.pauses[0] < script.pauses[1]


@pytest.mark.parametrize("response", UNSAFE, ids=str)
def test_a_submission_is_not_retried_if_a_task_may_have_been_created(response: Any) -> None:
    script = Script(response, CREATED)
    with pytest.raises(SubmissionUnknownError):
        script.client().create_task("a hill")
    assert (script.calls, script.pauses) == (1, [])


@pytest.mark.parametrize("response", FINAL, ids=lambda response: response.text[8:11])
def test_a_refused_submission_is_not_retried(response: Any) -> None:
    script = Script(response, CREATED)
    with pytest.raises(ApiError):
        script.client().create_task("a hill")
    assert script.calls == 1


@pytest.mark.parametrize("response", [response for response in [*SAFE, *UNSAFE] if response is not None], ids=str)
def test_reads_are_retried_after_any_temporary_error(response: Any) -> None:
    script = Script(response, response, BALANCE)
    assert script.client().credits() == 7
    assert script.calls == 3


@pytest.mark.parametrize("most", [0, 2])
def test_max_retries_limits_the_retries(most: int) -> None:
    script = Script(code(429))
    with pytest.raises(RateLimitError):
        script.client(max_retries=most).create_task("a hill")
    assert script.calls == most + 1


@pytest.mark.parametrize("seconds", ["7", "31"])
def test_retry_after_is_honoured(seconds: str) -> None:
    script = Script(code(429, Retry_After=seconds), CREATED)
    script.client().create_task("a hill")
    assert script.pauses == [pytest.approx(float(seconds))]


def test_retry_after_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    script = Script(code(455, Retry_After=date), CREATED)
    script.client().create_task("a hill")
    assert 30 < script.pauses[0] <= 40


@pytest.mark.parametrize("text", ["soon", "-3", "1e3", "Mon, 99 Foo 2026", ""])
def test_an_invalid_retry_after_is_ignored(text: str) -> None:
    script = Script(code(429, Retry_After=text), CREATED)
    script.client().create_task("a hill")
    assert 2 <= script.pauses[0] <= 3


def test_a_very_long_retry_after_is_raised_and_not_waited_for() -> None:
    script = Script(code(455, Retry_After="86400"), CREATED)
    with pytest.raises(MaintenanceError) as error:
        script.client().create_task("a hill")
    assert error.value.retry_after == 86400
    assert (script.calls, script.pauses) == (1, [])


def test_a_retry_beyond_the_timeout_of_generate_is_not_waited_for() -> None:
    script = Script(code(429, Retry_After="20"), CREATED)
    began = script.clock.now()
    with pytest.raises(RateLimitError):
        script.client().generate("a hill", timeout=15)
    assert script.clock.now() == began


def test_a_fetch_is_delayed_by_retry_after() -> None:
    done = {**WAITING, "state": "success", "resultJson": '{"resultUrls": []}'}
    script = Script(code(429, Retry_After="33"), {"code": 200, "msg": "", "data": done})
    assert script.client().wait("t1").succeeded
    assert script.pauses == [33]


@pytest.mark.parametrize("response", [code(429, Retry_After="500"), {"code": 200, "msg": "", "data": WAITING}], ids=str)
def test_a_wait_ends_at_its_timeout(response: Any) -> None:
    script = Script(response)
    began = script.clock.now()
    with pytest.raises(WaitTimeoutError):
        script.client().wait("t1", timeout=100)
    assert script.clock.now() - began == pytest.approx(100)


def test_a_custom_polling_schedule_is_used() -> None:
    script = Script({"code": 200, "msg": "", "data": WAITING})
    polling = PollingSchedule(steps=(PollingStep(0, 1, 1), PollingStep(3, 4, 4)), timeout=11)
    with pytest.raises(WaitTimeoutError, match="after 11 s"):
        script.client(polling=polling).wait("t1")
    assert script.pauses == pytest.approx([1, 1, 1, 4, 4])


def test_the_default_schedule_follows_the_documentation() -> None:
    ranges = [
        (PollingSchedule().pause(elapsed, min), PollingSchedule().pause(elapsed, max))
        for elapsed in (0, 29, 30, 119, 120, 899)
    ]
    assert ranges == [(2, 3), (2, 3), (5, 10), (5, 10), (15, 30), (15, 30)]
    assert PollingSchedule().timeout == 15 * 60


@pytest.mark.parametrize("unknown", [404, 422])
def test_an_unknown_task_is_polled_for_the_grace_period(unknown: int) -> None:
    script = Script(code(unknown), code(unknown), {"code": 200, "msg": "", "data": {**WAITING, "state": "success"}})
    assert script.client().wait("t1").succeeded
    lost = Script(code(unknown))
    with pytest.raises(ApiError) as error:
        lost.client().wait("t1")
    assert 60 <= sum(lost.pauses) < 80
    assert error.value.__notes__ == ["The task ID is t1"]


REFUSED = [code(402), code(404), code(422), code(433), httpx2.Response(404, html="<html>"), httpx2.Response(302)]


@pytest.mark.parametrize("response", REFUSED, ids=str)
@pytest.mark.parametrize("before", [0, 30])
def test_a_refused_fetch_does_not_lose_a_paid_task(response: Any, before: int) -> None:
    pending, done = ({"code": 200, "msg": "", "data": {**WAITING, "state": state}} for state in ("waiting", "success"))
    script = Script(*[pending] * before, response, response, done)
    assert script.client().wait("t1").succeeded
    assert script.calls == before + 3


@pytest.mark.parametrize("response", REFUSED, ids=str)
def test_a_wait_ends_if_fetches_are_refused_for_the_grace_period(response: Any) -> None:
    script = Script(*[{"code": 200, "msg": "", "data": WAITING}] * 30, response)
    with pytest.raises((ApiError, InvalidResponseError)):
        script.client().wait("t1")
    assert 60 <= sum(script.pauses[30:]) < 120


def test_a_refused_key_ends_a_wait_at_once() -> None:
    script = Script({"code": 200, "msg": "", "data": WAITING}, code(401), {"code": 200, "msg": "", "data": WAITING})
    with pytest.raises(ApiError, match="401"):
        script.client().wait("t1")
    assert script.calls == 2


def test_the_async_client_retries_in_the_same_way() -> None:
    script = Script(code(429, Retry_After="7"), CREATED)

    async def sleep(seconds: float) -> None:
        script.sleep(seconds)

    async def create() -> str:
        async with AsyncSeedreamClient(transport=httpx2.MockTransport(script.respond), sleep=sleep) as client:
            return await client.create_task("a hill")

    assert asyncio.run(create()) == "t1"
    assert script.pauses == [7]


class Drip(httpx2.SyncByteStream):
    """A body that never ends."""

    def __init__(self, part: bytes) -> None:
        self.part = part

    def __iter__(self) -> Iterator[bytes]:
        return itertools.repeat(self.part)


def test_an_endless_slow_response_times_out() -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Drip(b" ")))
    client = SeedreamClient(transport=transport, timeout=0.05, max_retries=0)
    with pytest.raises(httpx2.ReadTimeout, match="too long"):
        client.credits()


def test_an_endless_fast_response_is_refused() -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Drip(bytes(100_000))))
    client = SeedreamClient(transport=transport, max_retries=0)
    with pytest.raises(InvalidResponseError, match="larger than"):
        client.credits()
