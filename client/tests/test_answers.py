"""How the clients read what comes back: strange answers, broken connections, tasks that fail."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import respx
from seedbed_client import (
    ApiError,
    AsyncSeedreamClient,
    GenerationFailedError,
    InvalidResponseError,
    RateLimitError,
    SeedreamClient,
    SeedreamError,
    SubmissionUnknownError,
    TaskState,
    WaitTimeoutError,
)
from seedbed_mock import ManualClock

Handler = Callable[[httpx2.Request], httpx2.Response]

RECORD: dict[str, Any] = {
    "taskId": "t1",
    "model": "m",
    "state": "waiting",
    "param": "{}",
    "createTime": 1,
}
JPEG = b"\xff\xd8\xff\xe0 an image \xff\xd9"
URL = "http://127.0.0.1:9/results/x.jpg"


def envelope(data: object, code: int = 200, msg: str = "success") -> dict[str, object]:
    return {"code": code, "msg": msg, "data": data}


def answering(*answers: object) -> SeedreamClient:
    """Return a client that is given these answers in turn, the last one again and again; an error is raised."""
    left, clock = list(answers), ManualClock()

    def handle(request: httpx2.Request) -> httpx2.Response:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx2.Response):
            return answer
        return httpx2.Response(200, json=answer, request=request)

    return SeedreamClient(transport=httpx2.MockTransport(handle), sleep=clock.advance, clock=clock.now)


def record(**changes: object) -> dict[str, object]:
    return envelope({**RECORD, **changes})


UNREADABLE = [
    httpx2.Response(502, html="<html>bad gateway</html>"),
    httpx2.Response(403, text=""),
    httpx2.Response(200, content=b"\xff\xfe"),
    httpx2.Response(200, json=[]),
    httpx2.Response(200, json={"msg": "no code"}),
    httpx2.Response(200, json={"code": "200", "data": 3}),
    httpx2.Response(200, json=envelope("neither record nor number")),
    httpx2.Response(200, json=envelope({"taskId": 3})),
    httpx2.Response(200, content=b'{"code": 200, "data": ' + b"[" * 100_000),
]


@pytest.mark.parametrize("response", UNREADABLE, ids=lambda response: repr(response.content[:12]))
def test_an_answer_in_another_form_is_told_apart_from_a_refusal(response: httpx2.Response) -> None:
    with answering(response) as client:
        for ask in (lambda: client.get_task("t1"), client.credits):
            with pytest.raises(InvalidResponseError) as error:
                ask()
            assert error.value.http_status == response.status_code


@pytest.mark.parametrize("response", UNREADABLE, ids=lambda response: repr(response.content[:12]))
def test_after_an_unreadable_answer_it_is_not_known_whether_the_task_was_made(response: httpx2.Response) -> None:
    with answering(response) as client, pytest.raises(SubmissionUnknownError):
        client.create_task("a hill")


BROKEN = [
    httpx2.ReadTimeout,
    httpx2.ReadError,
    httpx2.RemoteProtocolError,
    httpx2.WriteError,
    httpx2.DecodingError,
]


@pytest.mark.parametrize("error", BROKEN)
def test_after_a_broken_connection_it_is_not_known_whether_the_task_was_made(error: type[Exception]) -> None:
    with answering(error("broken")) as client, pytest.raises(SubmissionUnknownError, match="broken"):
        client.create_task("a hill")


@pytest.mark.parametrize("error", [httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout])
def test_without_a_connection_no_task_was_made_and_the_error_is_httpx2s_own(error: type[Exception]) -> None:
    with answering(error("refused")) as client, pytest.raises(error):
        client.create_task("a hill")


def test_a_task_is_asked_for_once_whatever_happens() -> None:
    asked = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, json=envelope(None, 500, "down"))

    with SeedreamClient(transport=httpx2.MockTransport(handle)) as client, pytest.raises(SubmissionUnknownError):
        client.generate("a hill")
    assert len(asked) == 1


def test_a_code_that_is_not_documented_is_an_api_error() -> None:
    with answering(envelope(None, 433, "sub-key over its limit")) as client, pytest.raises(ApiError) as error:
        client.credits()
    assert type(error.value) is ApiError
    assert error.value.code == 433


@pytest.mark.parametrize(
    "passing",
    [
        envelope(None, 429, "slow down"),
        envelope(None, 500, "oops"),
        envelope(None, 455, "maintenance"),
        httpx2.Response(502, html="<html>"),
        httpx2.ReadTimeout("slow"),
        httpx2.ConnectError("down"),
        httpx2.DecodingError("not gzip"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_wait_outlasts_what_passes_by_itself(passing: object) -> None:
    done = record(state="success", resultJson=json.dumps({"resultUrls": [URL]}), costTime=3, completeTime=4)
    with answering(*[passing] * 4, record(), *[passing] * 4, done) as client:
        assert client.wait("t1").result_urls == (URL,)


def test_an_async_wait_outlasts_a_broken_connection() -> None:
    left = [httpx2.ReadError("broken"), record(state="success", resultJson="")]

    def handle(request: httpx2.Request) -> httpx2.Response:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(200, json=answer, request=request)

    async def no_time(_: float) -> None:
        return None

    async def wait() -> bool:
        async with AsyncSeedreamClient(transport=httpx2.MockTransport(handle), sleep=no_time) as client:
            return (await client.wait("t1")).succeeded

    assert asyncio.run(wait())


def test_a_wait_that_only_fails_ends_with_the_last_failure_and_names_the_task() -> None:
    with answering(envelope(None, 429, "slow down")) as client, pytest.raises(WaitTimeoutError, match="t1") as error:
        client.wait("t1")
    assert isinstance(error.value.__cause__, RateLimitError)
    assert error.value.task.state is TaskState.UNKNOWN


def test_a_wait_ends_at_once_with_what_does_not_pass() -> None:
    with answering(envelope(None, 401, "key revoked"), record()) as client, pytest.raises(SeedreamError, match="401"):
        client.wait("t1")


def test_a_task_that_failed_is_raised_with_its_record() -> None:
    failed = record(state="fail", failCode="422", failMsg="blocked", resultJson="", costTime=None, completeTime=None)
    with answering(record(), failed) as client, pytest.raises(GenerationFailedError, match="blocked") as error:
        client.wait("t1")
    assert (error.value.fail_code, error.value.fail_msg) == ("422", "blocked")
    assert error.value.task
    assert error.value.task.failed


def test_nulls_and_empty_strings_stand_for_what_is_not_there() -> None:
    nulls = record(resultJson="", failCode=None, failMsg=None, costTime=None, completeTime=None)
    with answering(nulls) as client, answering(record()) as other:
        assert client.get_task("t1") == other.get_task("t1")


@pytest.mark.parametrize("results", ["{", '{"resultUrls": 3}', "[]"])
def test_results_that_cannot_be_read_are_told(results: str) -> None:
    with answering(record(state="success", resultJson=results)) as client, pytest.raises(InvalidResponseError):
        client.get_task("t1")


@pytest.mark.parametrize("response", [httpx2.Response(404, json={}), httpx2.Response(200, html="<html>login</html>")])
def test_a_result_that_is_no_image_is_told(response: httpx2.Response) -> None:
    with answering(response) as client, pytest.raises(InvalidResponseError, match="expected an image"):
        client.download(URL)


def test_a_result_that_is_no_image_is_told_in_the_words_of_the_service() -> None:
    response = httpx2.Response(500, json={"code": 500, "msg": "The image a.jpg is gone.", "data": None})
    with answering(response) as client, pytest.raises(InvalidResponseError, match=r": The image a\.jpg is gone\."):
        client.download(URL)


def test_the_key_goes_to_the_service_and_not_to_where_the_result_is(httpx2_mock: respx.Router) -> None:
    balance = httpx2_mock.get("http://127.0.0.1:8721/api/v1/chat/credit").respond(json=envelope(5916.25))
    image = httpx2_mock.get("https://cdn.example/x.jpg").respond(content=JPEG, content_type="image/jpeg")
    with SeedreamClient(api_key="k1") as client:
        assert client.credits() == 5916.25
        assert client.download("https://cdn.example/x.jpg") == JPEG
    assert balance.calls.last.request.headers["Authorization"] == "Bearer k1"
    assert "Authorization" not in image.calls.last.request.headers
