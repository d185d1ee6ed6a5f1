"""When a call is made again, after how long, and when it is not."""

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

MADE = {"code": 200, "msg": "success", "data": {"taskId": "t1"}}
BALANCE = {"code": 200, "msg": "success", "data": 7}
WAITING = {"taskId": "t1", "model": "m", "state": "waiting", "param": "{}", "createTime": 1}


def code(number: int, **headers: str) -> httpx2.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(200, json={"code": number, "msg": "no", "data": None}, headers=names)


class Script:
    """Answers calls in turn, the last answer again and again, and notes the calls and the pauses between them."""

    def __init__(self, *answers: Any) -> None:
        self.left, self.calls, self.pauses, self.clock = list(answers), 0, list[float](), ManualClock()

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.calls += 1
        answer = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer, request=request)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.advance(seconds)

    def client(self, **options: Any) -> SeedreamClient:
        transport = httpx2.MockTransport(self.answer)
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


@pytest.mark.parametrize("answer", SAFE, ids=str)
def test_a_task_is_asked_for_again_where_none_can_have_been_made(answer: Any) -> None:
    script = Script(answer, answer, MADE)
    assert script.client().create_task("a hill") == "t1"
    assert script.calls == 3
    assert script.pauses[0] < script.pauses[1]


@pytest.mark.parametrize("answer", UNSAFE, ids=str)
def test_it_is_asked_for_once_where_one_may_have_been_made(answer: Any) -> None:
    script = Script(answer, MADE)
    with pytest.raises(SubmissionUnknownError):
        script.client().create_task("a hill")
    assert (script.calls, script.pauses) == (1, [])


@pytest.mark.parametrize("answer", FINAL, ids=lambda answer: answer.text[8:11])
def test_it_is_asked_for_once_where_the_answer_is_no(answer: Any) -> None:
    script = Script(answer, MADE)
    with pytest.raises(ApiError):
        script.client().create_task("a hill")
    assert script.calls == 1


@pytest.mark.parametrize("answer", [answer for answer in [*SAFE, *UNSAFE] if answer is not None], ids=str)
def test_reads_are_repeated_freely(answer: Any) -> None:
    script = Script(answer, answer, BALANCE)
    assert script.client().credits() == 7
    assert script.calls == 3


@pytest.mark.parametrize("most", [0, 2])
def test_no_more_often_than_allowed(most: int) -> None:
    script = Script(code(429))
    with pytest.raises(RateLimitError):
        script.client(max_retries=most).create_task("a hill")
    assert script.calls == most + 1


@pytest.mark.parametrize("seconds", ["7", "31"])
def test_retry_after_is_kept(seconds: str) -> None:
    script = Script(code(429, Retry_After=seconds), MADE)
    script.client().create_task("a hill")
    assert script.pauses == [pytest.approx(float(seconds))]


def test_retry_after_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    script = Script(code(455, Retry_After=date), MADE)
    script.client().create_task("a hill")
    assert 30 < script.pauses[0] <= 40


@pytest.mark.parametrize("text", ["soon", "-3", "1e3", "Mon, 99 Foo 2026", ""])
def test_a_retry_after_that_says_nothing_counts_as_none(text: str) -> None:
    script = Script(code(429, Retry_After=text), MADE)
    script.client().create_task("a hill")
    assert 2 <= script.pauses[0] <= 3


def test_who_asks_to_be_left_alone_for_a_day_is() -> None:
    script = Script(code(455, Retry_After="86400"), MADE)
    with pytest.raises(MaintenanceError) as error:
        script.client().create_task("a hill")
    assert error.value.retry_after == 86400
    assert (script.calls, script.pauses) == (1, [])


def test_nothing_is_waited_for_beyond_the_deadline() -> None:
    script = Script(code(429, Retry_After="20"), MADE)
    began = script.clock.now()
    with pytest.raises(RateLimitError):
        script.client().generate("a hill", timeout=15)
    assert script.clock.now() == began


def test_a_look_is_put_off_for_as_long_as_the_service_asks() -> None:
    done = {**WAITING, "state": "success", "resultJson": '{"resultUrls": []}'}
    script = Script(code(429, Retry_After="33"), {"code": 200, "msg": "", "data": done})
    assert script.client().wait("t1").succeeded
    assert script.pauses == [33]


@pytest.mark.parametrize("answer", [code(429, Retry_After="500"), {"code": 200, "msg": "", "data": WAITING}], ids=str)
def test_a_wait_ends_on_time_whatever_it_is_told(answer: Any) -> None:
    script = Script(answer)
    began = script.clock.now()
    with pytest.raises(WaitTimeoutError):
        script.client().wait("t1", timeout=100)
    assert script.clock.now() - began == pytest.approx(100)


def test_the_rhythm_is_that_of_the_one_who_waits() -> None:
    script = Script({"code": 200, "msg": "", "data": WAITING})
    rhythm = PollingSchedule(steps=(PollingStep(0, 1, 1), PollingStep(3, 4, 4)), timeout=11)
    with pytest.raises(WaitTimeoutError, match="after 11 s"):
        script.client(polling=rhythm).wait("t1")
    assert script.pauses == pytest.approx([1, 1, 1, 4, 4])


def test_the_advised_rhythm_is_two_to_three_then_five_to_ten_then_fifteen_to_thirty_seconds() -> None:
    looks = [
        (PollingSchedule().pause(elapsed, min), PollingSchedule().pause(elapsed, max))
        for elapsed in (0, 29, 30, 119, 120, 899)
    ]
    assert looks == [(2, 3), (2, 3), (5, 10), (5, 10), (15, 30), (15, 30)]
    assert PollingSchedule().timeout == 15 * 60


@pytest.mark.parametrize("unknown", [404, 422])
def test_a_task_that_is_not_known_yet_is_looked_for_a_while(unknown: int) -> None:
    script = Script(code(unknown), code(unknown), {"code": 200, "msg": "", "data": {**WAITING, "state": "success"}})
    assert script.client().wait("t1").succeeded
    lost = Script(code(unknown))
    with pytest.raises(ApiError) as error:
        lost.client().wait("t1")
    assert 60 <= sum(lost.pauses) < 80
    assert error.value.__notes__ == ["The task ID is t1"]


def test_the_async_client_repeats_in_the_same_way() -> None:
    script = Script(code(429, Retry_After="7"), MADE)

    async def sleep(seconds: float) -> None:
        script.sleep(seconds)

    async def create() -> str:
        async with AsyncSeedreamClient(transport=httpx2.MockTransport(script.answer), sleep=sleep) as client:
            return await client.create_task("a hill")

    assert asyncio.run(create()) == "t1"
    assert script.pauses == [7]


class Drip(httpx2.SyncByteStream):
    """A body that never ends."""

    def __init__(self, part: bytes) -> None:
        self.part = part

    def __iter__(self) -> Iterator[bytes]:
        return itertools.repeat(self.part)


def test_an_answer_that_comes_byte_by_byte_is_not_waited_for_without_end() -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Drip(b" ")))
    client = SeedreamClient(transport=transport, timeout=0.05, max_retries=0)
    with pytest.raises(httpx2.ReadTimeout, match="too long"):
        client.credits()


def test_an_answer_without_end_is_not_taken_in() -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Drip(bytes(100_000))))
    client = SeedreamClient(transport=transport, max_retries=0)
    with pytest.raises(InvalidResponseError, match="larger than"):
        client.credits()
