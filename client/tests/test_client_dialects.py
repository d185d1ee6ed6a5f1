"""Responses of each dialect, with the code in the body or as HTTP status, are read without configuration."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, get_args

import httpx2
import pytest
from seedbed_client import (
    ERRORS,
    ApiError,
    AuthenticationError,
    InsufficientCreditsError,
    InvalidResponseError,
    MaintenanceError,
    NotFoundError,
    RateLimitError,
    SeedreamClient,
    ServerError,
    SubmissionUnknownError,
    TaskState,
    ValidationError,
)
from seedbed_mock import ManualClock, MockServer, running
from seedbed_mock.settings import HttpStatus

LONG_AGO = 1_765_166_238_000
DIALECTS = list(product(["documented", "observed"], get_args(HttpStatus)))


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running() as server:
        yield server


@pytest.mark.parametrize(("dialect", "http_status"), DIALECTS)
def test_a_task_is_the_same_in_every_dialect(server: MockServer, dialect: str, http_status: HttpStatus) -> None:
    clock = ManualClock()
    server.play(clock=clock, dialect=dialect, http_status=http_status, task_seconds=30)
    with SeedreamClient(server.url, server.key, sleep=clock.advance, clock=clock.now) as client:
        changes = [(task.state, task) for task in client.iter_states(client.create_task("a hill", aspect_ratio="3:2"))]
        balance = client.credits()
    states, tasks = zip(*changes, strict=True)
    assert states == (TaskState.WAITING, TaskState.QUEUING, TaskState.GENERATING, TaskState.SUCCESS)
    assert tasks[-1].input == {"prompt": "a hill", "aspect_ratio": "3:2", "quality": "basic"}
    assert tasks[0].cost_time is tasks[0].complete_time is None
    assert tasks[0].result_urls == ()
    assert tasks[-1].cost_time == timedelta(seconds=30)
    assert tasks[-1].complete_time - tasks[-1].create_time == timedelta(seconds=30)
    assert tasks[-1].create_time.tzinfo is UTC
    assert len(tasks[-1].result_urls) == 1
    assert balance == 73.5


@pytest.mark.parametrize(("dialect", "http_status"), DIALECTS)
def test_an_error_has_the_same_class_in_every_dialect(
    server: MockServer, dialect: str, http_status: HttpStatus
) -> None:
    server.play(dialect=dialect, http_status=http_status, credits=0, rate_limit="off")
    with SeedreamClient(server.url, server.key, max_retries=0) as client:
        with pytest.raises(InsufficientCreditsError):
            client.create_task("a hill")
        with pytest.raises(NotFoundError):
            client.get_task("task_seedream_0")
        with pytest.raises(ValidationError):
            client.submit(model="nobody/knows", input={}, validate=False)
        with pytest.raises(ValidationError):
            client.download_url("https://elsewhere.example/a.jpg")
        server.add_faults("455; times=1")
        with pytest.raises(MaintenanceError):
            client.create_task("a hill")
    with SeedreamClient(server.url, "wrong") as other, pytest.raises(AuthenticationError):
        other.credits()


@pytest.mark.parametrize("field", ["prompt", "aspect_ratio"])
def test_a_validation_error_sent_as_500_is_recognised(server: MockServer, field: str) -> None:
    server.play(dialect="observed")
    given = {"prompt": "x" * 3001, "aspect_ratio": "1:1", "quality": "basic"} | (
        {} if field == "prompt" else {field: "5"}
    )
    with SeedreamClient(server.url, server.key) as client, pytest.raises(ValidationError) as error:
        client.submit(model="seedream/4.5-text-to-image", input=given, validate=False)
    assert error.value.code == 500


def client_receiving(status: int, content: object, **headers: str) -> SeedreamClient:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, content=body, headers=names))
    return SeedreamClient(transport=transport, max_retries=0, sleep=lambda _: None)


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (200, {"data": 3}, None),
        (200, {"code": 200, "message": "fine", "data": 3}, None),
        (200, {"code": 200, "data": 3, "since": "tomorrow"}, None),
        (401, {"message": "no"}, AuthenticationError),
        (404, {}, NotFoundError),
        (429, b"<html>slow down</html>", RateLimitError),
        (429, b"", RateLimitError),
        (503, {"msg": "away"}, ApiError),
        (500, {"message": "broken"}, ServerError),
        (200, {"msg": "no code"}, InvalidResponseError),
        (502, b"<html>bad gateway</html>", InvalidResponseError),
        (403, b"", InvalidResponseError),
        (200, {"code": True, "data": 3}, InvalidResponseError),
    ],
)
def test_bodies_of_other_implementations_are_read(
    status: int, content: object, expected: type[Exception] | None
) -> None:
    with client_receiving(status, content) as client:
        if expected is None:
            assert client.credits() == 3
            return
        with pytest.raises(expected) as error:
            client.credits()
    assert type(error.value) is expected


def test_the_field_message_is_read_like_msg() -> None:
    with (
        client_receiving(200, {"code": 401, "message": "who are you"}) as client,
        pytest.raises(AuthenticationError) as error,
    ):
        client.credits()
    assert error.value.message == "who are you"


@pytest.mark.parametrize("data", [{"taskId": "task_seedream_1"}, {"taskId": "0" * 32}, {"recordId": "r"}])
def test_a_task_id_is_read_in_every_form(data: dict[str, str]) -> None:
    with client_receiving(200, {"code": 200, "msg": "", "data": data}) as client:
        assert client.create_task("a hill") in data.values()


@pytest.mark.parametrize("data", [None, {}, {"taskId": ""}, {"taskId": 3}, [], "task"])
def test_a_success_without_a_task_id_is_an_unknown_submission(data: object) -> None:
    with client_receiving(200, {"code": 200, "msg": "", "data": data}) as client, pytest.raises(SubmissionUnknownError):
        client.create_task("a hill")


@pytest.mark.parametrize("code", sorted({500, 502, 503, 504, 524}))
def test_a_server_error_is_an_unknown_submission(code: int) -> None:
    with client_receiving(200, {"code": code, "msg": "oops"}) as client, pytest.raises(SubmissionUnknownError) as error:
        client.create_task("a hill")
    assert isinstance(error.value.__cause__, ApiError)


@pytest.mark.parametrize("code", [*sorted(set(ERRORS) - {500, 429, 455}), 400, 433])
def test_other_codes_mean_that_no_task_was_created(code: int) -> None:
    with client_receiving(200, {"code": code, "msg": "no"}) as client, pytest.raises(ApiError) as error:
        client.create_task("a hill")
    assert error.value.code == code


def record(**fields: Any) -> dict[str, Any]:
    values = {"taskId": "t", "model": "m", "state": "success", "param": "{}", "createTime": LONG_AGO, **fields}
    return {"code": 200, "msg": "success", "data": {name: value for name, value in values.items() if value is not ...}}


RESULTS = json.dumps({"resultUrls": ["https://cdn.example/a.jpg"]})


@pytest.mark.parametrize("empty", ["", None, ...], ids=["empty", "null", "absent"])
def test_missing_results_are_empty(empty: object) -> None:
    with client_receiving(200, record(state="waiting", resultJson=empty, failCode=empty, costTime=None)) as client:
        task = client.get_task("t")
    assert (task.result_urls, task.fail_code, task.fail_msg, task.cost_time) == ((), "", "", None)


@pytest.mark.parametrize(
    ("cost", "lasted", "seconds"),
    [
        (30_000, 30_000, 30),
        (30, 30_000, 30),
        (20, 60_000, 20),
        (20_000, 60_000, 20),
        (0, 0, 0),
        (7, 7, 0.007),
        (12_500, None, 12.5),
        (-1, 5, None),
        (10**15, 5, None),
        ("30", 30_000, None),
    ],
)
def test_the_unit_of_cost_time_is_inferred_from_the_other_times(
    cost: object, lasted: int | None, seconds: float | None
) -> None:
    ended = None if lasted is None else LONG_AGO + lasted
    with client_receiving(200, record(resultJson=RESULTS, costTime=cost, completeTime=ended)) as client:
        assert client.get_task("t").cost_time == (None if seconds is None else timedelta(seconds=seconds))


def test_unknown_fields_and_states_are_kept() -> None:
    with client_receiving(
        200, record(state="dreaming", mood="calm", createTime=10**30, model=3, resultJson="{")
    ) as client:
        task = client.get_task("t")
    assert task.state is TaskState.UNKNOWN
    assert (task.record["state"], task.record["mood"]) == ("dreaming", "calm")
    assert not task.succeeded
    assert not task.failed
    assert (task.create_time, task.model) == (None, "")


def test_times_have_a_time_zone() -> None:
    with client_receiving(200, record(resultJson=RESULTS, updateTime=LONG_AGO + 1)) as client:
        task = client.get_task("t")
    assert task.create_time == datetime(2025, 12, 8, 3, 57, 18, tzinfo=UTC)
    assert task.update_time == datetime(2025, 12, 8, 3, 57, 18, 1000, tzinfo=UTC)


@pytest.mark.parametrize(
    "param",
    ['{"input": {"prompt": "x"}}', '{"input": "{\\"prompt\\": \\"x\\"}"}', {"input": {"prompt": "x"}}],
)
def test_the_input_is_read_in_every_form(param: object) -> None:
    with client_receiving(200, record(resultJson=RESULTS, param=param)) as client:
        assert client.get_task("t").input == {"prompt": "x"}
