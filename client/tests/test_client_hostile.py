"""Invalid arguments raise one clear error each, and nothing is sent."""

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from seedbed_client import (
    AsyncSeedreamClient,
    CallbackReceiver,
    ConfigurationError,
    DownloadError,
    GenerationFailedError,
    InvalidResponseError,
    PollingSchedule,
    PollingStep,
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


def unexpected(request: httpx2.Request) -> httpx2.Response:
    raise AssertionError(f"unexpected request to {request.url}")


def offline() -> SeedreamClient:
    return SeedreamClient(transport=httpx2.MockTransport(unexpected), max_retries=0)


@pytest.mark.parametrize("task_id", ["", "\ud800", "a\nb", "x" * 70_000, None, 5], ids=ascii)
def test_an_invalid_task_id_is_refused_before_sending(task_id: Any) -> None:
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
def test_an_invalid_result_url_is_refused_before_sending(url: Any) -> None:
    with pytest.raises(DownloadError, match="not an http or https URL"):
        offline().download(url)
    with pytest.raises(DownloadError):
        offline().result_images(Task("t1", result_urls=(url,)))


@pytest.mark.parametrize("headers", [{"X\n": "a"}, {"": "a"}, {"X": "a\r\nY: b"}, {"X": "é"}, {"X y": "a"}], ids=ascii)
def test_an_invalid_header_is_refused_before_sending(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="header"):
        offline().create_task("a hill", extra_headers=headers)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"x"], ids=["nan", "inf", "object", "bytes"])
@pytest.mark.parametrize("validate", [True, False])
def test_input_that_json_cannot_represent_is_refused(value: object, *, validate: bool) -> None:
    with pytest.raises(ValidationError):
        offline().submit(model="seedream/4.5-text-to-image", input={"prompt": "x", "more": value}, validate=validate)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), None, "3", True])
def test_an_invalid_request_timeout_is_refused(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="invalid timeout"):
        SeedreamClient(timeout=timeout)


@pytest.mark.parametrize(
    "timeout", [-1, float("nan"), True, "3", -(10**400), 10**400, pytest.param(10**5000, id="endless")]
)
def test_an_invalid_wait_timeout_is_refused_before_sending(timeout: Any) -> None:
    with pytest.raises(ConfigurationError, match="invalid timeout"):
        offline().generate("a hill", timeout=timeout)
    with pytest.raises(ConfigurationError, match="invalid timeout"):
        offline().wait("t1", timeout=timeout)
    with pytest.raises(ConfigurationError, match="invalid timeout"):
        PollingSchedule(timeout=timeout)
    with pytest.raises(ConfigurationError, match="invalid grace"):
        PollingSchedule(grace=timeout)


@pytest.mark.parametrize("number", [-1, float("nan"), float("inf"), 1.5, True, None, "3", 10**400])
def test_an_invalid_number_of_retries_is_refused(number: Any) -> None:
    with pytest.raises(ConfigurationError, match="invalid max_retries"):
        SeedreamClient(max_retries=number)
    with pytest.raises(ConfigurationError, match="invalid max_retries"):
        AsyncSeedreamClient.live("key", max_retries=number)


@pytest.mark.parametrize(
    ("begins", "least", "most"),
    [(-1, 1, 1), (0, -1, 1), (0, 2, 1), (float("nan"), 1, 1), (0, float("nan"), 1), (0, 1, float("inf")), (0, True, 1)],
)
def test_an_invalid_polling_step_is_refused(begins: float, least: float, most: float) -> None:
    with pytest.raises(ConfigurationError, match=r"invalid (begins|least|most) "):
        PollingStep(begins, least, most)


@pytest.mark.parametrize("begins", [(), (1,), (0, 30, 20)])
def test_polling_steps_must_begin_at_0_and_be_in_order(begins: tuple[float, ...]) -> None:
    with pytest.raises(ConfigurationError, match="invalid steps"):
        PollingSchedule(tuple(PollingStep(each, 1, 2) for each in begins))


def test_a_url_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError) as error:
        SeedreamClient("http://me:hush@127.0.0.1:9")
    assert "hush" not in str(error.value)


@pytest.mark.parametrize("state", [[], [1], {}, {"a": 1}, 5, None, "\x1b[31m"], ids=ascii)
def test_a_state_of_any_type_is_shown(state: object, capsys: pytest.CaptureFixture[str]) -> None:
    body = json.dumps({"code": 200, "msg": "", "data": {"taskId": "t1", "state": state}})

    class Options(ServiceOptions):
        def client(self, cls: Any, **_: Any) -> Any:
            return cls(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, text=body)))

    assert show_task("t1", service=Options()) == 0
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


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_can_be_copied_and_pickled(error: SeedreamError, copied: Callable[[Any], Any]) -> None:
    error.add_note("The task ID is t1")
    result = copied(error)
    assert (type(result), str(result), vars(result)) == (type(error), str(error), vars(error))


def test_a_signing_key_may_be_any_bytes_and_stays_hidden() -> None:
    body, key = b'{"code": 200, "msg": "", "data": {"taskId": "t"}}', b"\xff\xfe key"
    # From: printf t.1 | openssl dgst -sha256 -mac hmac -macopt hexkey:fffe206b6579 -binary | base64
    headers = {"X-Webhook-Timestamp": "1", "X-Webhook-Signature": SIGNATURE}
    assert verify_callback(headers, body, key, now=1).task.task_id == "t"
    assert "key" not in repr(vars(CallbackReceiver(signing_key=key))["_key"])


SIGNATURE = "jqg9OtmjnsZ6/8nLh8BAnf7dS95yRbUEa2pj4slEEh4="
