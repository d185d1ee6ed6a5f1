"""How the clients read responses: malformed ones, broken connections, failed tasks."""

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


def client_receiving(*responses: object) -> SeedreamClient:
    """Return a client that receives these responses in turn, the last one repeatedly. An exception is raised."""
    left, clock = list(responses), ManualClock()

    def handle(request: httpx2.Request) -> httpx2.Response:
        response = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(response, Exception):
            raise response
        if isinstance(response, httpx2.Response):
            return response
        return httpx2.Response(200, json=response, request=request)

    return SeedreamClient(transport=httpx2.MockTransport(handle), sleep=clock.advance, clock=clock.now)


def record(**changes: object) -> dict[str, object]:
    return envelope({**RECORD, **changes})


MALFORMED = [
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


@pytest.mark.parametrize("response", MALFORMED, ids=lambda response: repr(response.content[:12]))
def test_a_malformed_response_is_not_an_api_error(response: httpx2.Response) -> None:
    with client_receiving(response) as client:
        for call in (lambda: client.get_task("t1"), client.credits):
            with pytest.raises(InvalidResponseError) as error:
                call()
            assert error.value.http_status == response.status_code


@pytest.mark.parametrize("response", MALFORMED, ids=lambda response: repr(response.content[:12]))
def test_after_a_malformed_response_the_submission_is_unknown(response: httpx2.Response) -> None:
    with client_receiving(response) as client, pytest.raises(SubmissionUnknownError):
        client.create_task("a hill")


BROKEN = [
    httpx2.ReadTimeout,
    httpx2.ReadError,
    httpx2.RemoteProtocolError,
    httpx2.WriteError,
    httpx2.DecodingError,
]


@pytest.mark.parametrize("error", BROKEN)
def test_after_a_broken_connection_the_submission_is_unknown(error: type[Exception]) -> None:
    with client_receiving(error("broken")) as client, pytest.raises(SubmissionUnknownError, match="broken"):
        client.create_task("a hill")


@pytest.mark.parametrize("error", [httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout])
def test_a_failed_connection_raises_the_error_of_httpx2(error: type[Exception]) -> None:
    with client_receiving(error("refused")) as client, pytest.raises(error):
        client.create_task("a hill")


def test_generate_submits_a_task_once_after_a_server_error() -> None:
    requests = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return httpx2.Response(200, json=envelope(None, 500, "down"))

    with SeedreamClient(transport=httpx2.MockTransport(handle)) as client, pytest.raises(SubmissionUnknownError):
        client.generate("a hill")
    assert len(requests) == 1


def test_an_undocumented_code_is_an_api_error() -> None:
    with client_receiving(envelope(None, 433, "sub-key over its limit")) as client, pytest.raises(ApiError) as error:
        client.credits()
    assert type(error.value) is ApiError
    assert error.value.code == 433


@pytest.mark.parametrize(
    "temporary",
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
def test_a_wait_continues_after_temporary_errors(temporary: object) -> None:
    done = record(state="success", resultJson=json.dumps({"resultUrls": [URL]}), costTime=3, completeTime=4)
    with client_receiving(*[temporary] * 4, record(), *[temporary] * 4, done) as client:
        assert client.wait("t1").result_urls == (URL,)


def test_an_async_wait_continues_after_a_broken_connection() -> None:
    left = [httpx2.ReadError("broken"), record(state="success", resultJson="")]

    def handle(request: httpx2.Request) -> httpx2.Response:
        response = left.pop(0)
        if isinstance(response, Exception):
            raise response
        return httpx2.Response(200, json=response, request=request)

    async def no_time(_: float) -> None:
        return None

    async def wait() -> bool:
        async with AsyncSeedreamClient(transport=httpx2.MockTransport(handle), sleep=no_time) as client:
            return (await client.wait("t1")).succeeded

    assert asyncio.run(wait())


def test_a_wait_with_only_errors_times_out_with_the_last_error_as_its_cause() -> None:
    with (
        client_receiving(envelope(None, 429, "slow down")) as client,
        pytest.raises(WaitTimeoutError, match="t1") as error,
    ):
        client.wait("t1")
    assert isinstance(error.value.__cause__, RateLimitError)
    assert error.value.task.state is TaskState.UNKNOWN


def test_a_permanent_error_ends_a_wait_at_once() -> None:
    with (
        client_receiving(envelope(None, 401, "key revoked"), record()) as client,
        pytest.raises(SeedreamError, match="401"),
    ):
        client.wait("t1")


def test_a_failed_task_raises_an_error_with_its_record() -> None:
    failed = record(state="fail", failCode="422", failMsg="blocked", resultJson="", costTime=None, completeTime=None)
    with client_receiving(record(), failed) as client, pytest.raises(GenerationFailedError, match="blocked") as error:
        client.wait("t1")
    assert (error.value.fail_code, error.value.fail_msg) == ("422", "blocked")
    assert error.value.task
    assert error.value.task.failed


def test_null_and_empty_fields_count_as_missing() -> None:
    nulls = record(resultJson="", failCode=None, failMsg=None, costTime=None, completeTime=None)
    with client_receiving(nulls) as client, client_receiving(record()) as other:
        assert client.get_task("t1") == other.get_task("t1")


@pytest.mark.parametrize("results", ["{", '{"resultUrls": 3}', "[]"])
def test_unreadable_results_are_an_invalid_response(results: str) -> None:
    with client_receiving(record(state="success", resultJson=results)) as client, pytest.raises(InvalidResponseError):
        client.get_task("t1")


@pytest.mark.parametrize("response", [httpx2.Response(404, json={}), httpx2.Response(200, html="<html>login</html>")])
def test_a_download_that_is_not_an_image_is_an_error(response: httpx2.Response) -> None:
    with client_receiving(response) as client, pytest.raises(InvalidResponseError, match="expected an image"):
        client.download(URL)


def test_a_download_error_quotes_the_message_of_the_service() -> None:
    response = httpx2.Response(500, json={"code": 500, "msg": "The image a.jpg is gone.", "data": None})
    with (
        client_receiving(response) as client,
        pytest.raises(InvalidResponseError, match=r": The image a\.jpg is gone\."),
    ):
        client.download(URL)


def test_the_key_is_sent_to_the_service_but_not_to_the_host_of_a_result(httpx2_mock: respx.Router) -> None:
    balance = httpx2_mock.get("http://127.0.0.1:8721/api/v1/chat/credit").respond(json=envelope(5916.25))
    image = httpx2_mock.get("https://cdn.example/x.jpg").respond(content=JPEG, content_type="image/jpeg")
    with SeedreamClient(api_key="k1") as client:
        assert client.credits() == 5916.25
        assert client.download("https://cdn.example/x.jpg") == JPEG
    assert balance.calls.last.request.headers["Authorization"] == "Bearer k1"
    assert "Authorization" not in image.calls.last.request.headers
