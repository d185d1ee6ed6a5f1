"""What is no request, no answer and no name of a task: one clear error for each, and nothing sent."""

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from seedbed_client import (
    CallbackReceiver,
    ConfigurationError,
    DownloadError,
    GenerationFailedError,
    InvalidResponseError,
    RateLimitError,
    SeedreamClient,
    SeedreamError,
    SubmissionUnknownError,
    Task,
    ValidationError,
    WaitTimeoutError,
    verify_callback,
)
from seedbed_client.cli.service_options import ServiceOptions
from seedbed_client.cli.tasks import task as show_task


def unreached(request: httpx2.Request) -> httpx2.Response:
    raise AssertionError(f"nothing was to be sent, and {request.url} was")


def offline() -> SeedreamClient:
    return SeedreamClient(transport=httpx2.MockTransport(unreached), max_retries=0)


@pytest.mark.parametrize("task_id", ["", "\ud800", "a\nb", "x" * 70_000, None, 5], ids=ascii)
def test_what_cannot_be_the_name_of_a_task_is_not_asked_for(task_id: Any) -> None:
    with pytest.raises(ConfigurationError, match="invalid task ID"):
        offline().get_task(task_id)
    with pytest.raises(ConfigurationError, match="invalid task ID"):
        offline().wait(task_id)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "http://",
        "//host/x",
        "http://\x00",
        "http://\ud800/x",
        f"http://{'a' * 300}/",
        "",
        None,
        5,
    ],
    ids=ascii,
)
def test_what_is_not_the_url_of_a_result_is_not_fetched(url: Any) -> None:
    with pytest.raises(DownloadError, match="not an http or https URL"):
        offline().download(url)
    with pytest.raises(DownloadError):
        offline().result_images(Task("t1", result_urls=(url,)))


@pytest.mark.parametrize("headers", [{"X\n": "a"}, {"": "a"}, {"X": "a\r\nY: b"}, {"X": "é"}, {"X y": "a"}], ids=ascii)
def test_a_header_that_cannot_be_sent_makes_no_task(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="header"):
        offline().create_task("a hill", extra_headers=headers)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"x"], ids=["nan", "inf", "object", "bytes"])
@pytest.mark.parametrize("validate", [True, False])
def test_what_is_no_json_is_refused_whether_or_not_it_is_held_to_a_contract(value: object, validate: bool) -> None:  # noqa: FBT001
    with pytest.raises(ValidationError):
        offline().submit(model="seedream/4.5-text-to-image", input={"prompt": "x", "more": value}, validate=validate)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), None, "3"])
def test_a_client_has_a_time_for_its_requests(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="invalid timeout"):
        SeedreamClient(timeout=timeout)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_wait_that_has_no_end_or_no_beginning_costs_nothing(timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="invalid timeout"):
        offline().generate("a hill", timeout=timeout)


def test_a_password_in_the_url_of_a_service_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError) as error:
        SeedreamClient("http://me:hush@127.0.0.1:9")
    assert "hush" not in str(error.value)


@pytest.mark.parametrize("state", [[], [1], {}, {"a": 1}, 5, None, "\x1b[31m"], ids=ascii)
def test_a_state_of_any_type_is_shown(state: object, capsys: pytest.CaptureFixture[str]) -> None:
    answer = json.dumps({"code": 200, "msg": "", "data": {"taskId": "t1", "state": state}})

    class Flags(ServiceOptions):
        def client(self, cls: Any, **_: Any) -> Any:
            return cls(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, text=answer)))

    assert show_task("t1", service=Flags()) == 0
    assert "\x1b" not in capsys.readouterr().out


ERRORS: list[SeedreamError] = [
    WaitTimeoutError(Task("t1"), 3),
    RateLimitError(429, "no", retry_after=3),
    GenerationFailedError.of(Task("t1", fail_code="422")),
    InvalidResponseError(502, "html", retry_after=1),
    DownloadError(200, "no image"),
    SubmissionUnknownError("unknown"),
    ConfigurationError("no"),
]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_comes_whole_from_another_process(error: SeedreamError, again: Callable[[Any], Any]) -> None:
    error.add_note("The task is t1")
    found = again(error)
    assert (type(found), str(found), vars(found)) == (type(error), str(error), vars(error))


def test_a_signing_key_may_be_any_bytes_and_does_not_show_where_it_fails() -> None:
    body, key = b'{"code": 200, "msg": "", "data": {"taskId": "t"}}', b"\xff\xfe key"
    # From: printf t.1 | openssl dgst -sha256 -mac hmac -macopt hexkey:fffe206b6579 -binary | base64
    headers = {"X-Webhook-Timestamp": "1", "X-Webhook-Signature": SIGNATURE}
    assert verify_callback(headers, body, key, now=1).task.task_id == "t"
    assert "key" not in repr(vars(CallbackReceiver(signing_key=key))["_key"])


SIGNATURE = "jqg9OtmjnsZ6/8nLh8BAnf7dS95yRbUEa2pj4slEEh4="
