"""Callbacks: parsing, verification, receiving them inside Starlette, and waiting for them."""

import asyncio
import base64
import contextlib
import email.message
import hashlib
import hmac
import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPMessage
from typing import Any

import httpx2
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from requests.structures import CaseInsensitiveDict
from seedbed_client import (
    AsyncSeedreamClient,
    Callback,
    CallbackReceiver,
    ConfigurationError,
    GenerationFailedError,
    InvalidCallbackError,
    SeedreamClient,
    SignatureMismatchError,
    StaleCallbackError,
    TaskState,
    WaitTimeoutError,
    parse_callback,
    verify_callback,
)
from seedbed_mock import MockServer, running
from seedbed_schemas import job_api
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.routing import Mount

KEY, NOW, RULES = "whsec-1", 1_765_166_238, job_api().callback
RECORD = {"taskId": "t1", "model": "m", "state": "fail", "param": "{}", "createTime": 1, "failCode": "422"}
BODY = json.dumps({"code": 501, "msg": "Playground task failed.", "data": RECORD}).encode()


def signed(task_id: str = "t1", key: str = KEY, at: int = NOW) -> dict[str, str]:
    digest = hmac.digest(key.encode(), f"{task_id}.{at}".encode(), hashlib.sha256)
    return {RULES.timestamp_header: str(at), RULES.signature_header: base64.b64encode(digest).decode()}


def test_a_callback_is_parsed() -> None:
    callback = parse_callback(BODY)
    assert (callback.code, callback.message) == (501, "Playground task failed.")
    assert (callback.task.task_id, callback.task.state, callback.task.fail_code) == ("t1", TaskState.FAIL, "422")


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"code": 200}', b'{"code": 200, "data": {}}', b"[" * 9999])
def test_a_malformed_callback_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidCallbackError):
        parse_callback(body)
    with pytest.raises(InvalidCallbackError):
        verify_callback(signed(), body, KEY, now=NOW)


@pytest.mark.parametrize("headers", [signed(), {name.lower(): value for name, value in signed().items()}])
@pytest.mark.parametrize("key", [KEY, KEY.encode()])
def test_a_callback_with_a_recent_signature_is_accepted(headers: dict[str, str], key: str | bytes) -> None:
    assert verify_callback(headers, BODY, key, now=NOW + 299).task.task_id == "t1"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {RULES.timestamp_header: str(NOW)},
        {**signed(), RULES.signature_header: ""},
        {**signed(), RULES.signature_header: "é"},
        {**signed(), RULES.timestamp_header: "soon"},
        {**signed(), RULES.timestamp_header: str(NOW + 1)},
        signed("t2"),
        signed(key="another"),
    ],
)
def test_a_callback_with_a_wrong_signature_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureMismatchError):
        verify_callback(headers, BODY, KEY, now=NOW)


@pytest.mark.parametrize(("now", "message"), [(NOW + 301, "301 s ago"), (NOW - 301, "in the future")])
def test_a_callback_with_an_old_or_future_signature_is_stale(now: float, message: str) -> None:
    with pytest.raises(StaleCallbackError, match=message):
        verify_callback(signed(), BODY, KEY, now=now)
    assert verify_callback(signed(), BODY, KEY, now=now, tolerance=400)


def test_a_signature_made_by_the_vendors_sample_is_refused_with_the_reason() -> None:
    """The sample signs ``data.task_id``, which does not exist, so its signature would hold for every task."""
    with pytest.raises(SignatureMismatchError, match=r"data\.task_id"):
        verify_callback(signed("undefined"), BODY, KEY, now=NOW)
    with_snake_case = BODY.replace(b"taskId", b"task_id")
    with pytest.raises(InvalidCallbackError):
        verify_callback(signed(), with_snake_case, KEY, now=NOW)


class FrameworkHeaders:
    """Headers as werkzeug has them: pairs with ``items()``, and not a mapping."""

    def __init__(self, values: dict[str, str]) -> None:
        self._pairs = list(values.items())

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    def items(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)


def message_of(cls: type[email.message.Message], values: dict[str, str]) -> email.message.Message:
    message = cls()
    for name, value in values.items():
        message[name] = value
    return message


def environ_of(values: dict[str, str]) -> dict[str, Any]:
    variables = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in values.items()}
    return {"REQUEST_METHOD": "POST", "wsgi.version": (1, 0), **variables}


FORMS: dict[str, Callable[[dict[str, str]], Any]] = {
    "dict": dict,
    "bytes": lambda values: {name.encode(): value.encode() for name, value in values.items()},
    "lists": lambda values: {name: [value] for name, value in values.items()},
    "pairs": lambda values: list(values.items()),
    "generator": lambda values: (pair for pair in values.items()),
    "asgi": lambda values: [(name.lower().encode(), value.encode()) for name, value in values.items()],
    "asgi lists": lambda values: tuple([name.encode(), value.encode()] for name, value in values.items()),
    "asgi scope": lambda values: {"type": "http", "headers": [(k.encode(), v.encode()) for k, v in values.items()]},
    "wsgi": environ_of,
    "email": lambda values: message_of(email.message.Message, values),
    "http.client": lambda values: message_of(HTTPMessage, values),
    "werkzeug": FrameworkHeaders,
    "starlette": Headers,
    "aiohttp": CIMultiDict,
    "requests": CaseInsensitiveDict,
    "httpx2": httpx2.Headers,
}


@settings(max_examples=150)
@given(form=st.sampled_from(sorted(FORMS)), chance=st.randoms(use_true_random=False))
def test_headers_of_any_form_and_case_are_read(form: str, chance: random.Random) -> None:
    def any_case(values: dict[str, str]) -> dict[str, str]:
        return {
            "".join(chance.choice((char.lower(), char.upper())) for char in name): value
            for name, value in values.items()
        }

    others = {"Content-Type": "application/json", "X-Webhook": "1"}
    headers = FORMS[form](any_case({**others, **signed()}))
    assert verify_callback(headers, BODY, KEY, now=NOW).task.task_id == "t1"
    with pytest.raises(SignatureMismatchError, match="not signed;"):
        verify_callback(FORMS[form](any_case(others)), BODY, KEY, now=NOW)


@pytest.mark.parametrize("name", [RULES.signature_header, RULES.timestamp_header])
def test_a_header_with_two_values_is_refused(name: str) -> None:
    headers = list(signed().items())
    assert verify_callback([*headers, *headers], BODY, KEY, now=NOW)
    with pytest.raises(SignatureMismatchError, match="several headers"):
        verify_callback([*headers, (name.lower(), "1")], BODY, KEY, now=NOW)


@pytest.mark.parametrize("headers", [None, 3, "X-Name: value", b"x", [1], ["name"], {1, 2}])
def test_headers_of_another_type_are_refused_with_a_sentence(headers: Any) -> None:
    with pytest.raises(TypeError, match="pass the headers of the request"):
        verify_callback(headers, BODY, KEY, now=NOW)


@pytest.mark.parametrize("body", [json.loads(BODY), [], None, 3, Callback, {}])
def test_a_parsed_body_is_refused_with_a_sentence(body: Any) -> None:
    with pytest.raises(TypeError, match="pass the raw request body"):
        verify_callback(signed(), body, KEY, now=NOW)
    with pytest.raises(TypeError, match="pass the raw request body"):
        parse_callback(body)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, bytes.decode])
def test_a_raw_body_may_be_bytes_or_text(kind: Callable[[bytes], Any]) -> None:
    assert verify_callback(signed(), kind(BODY), KEY, now=NOW).task.task_id == "t1"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), True, "300"])
def test_a_tolerance_or_a_time_that_is_no_number_is_refused(number: Any) -> None:
    """A comparison with ``nan`` is always false, so it would accept a signature of any age."""
    with pytest.raises(ConfigurationError, match="invalid tolerance"):
        verify_callback(signed(), BODY, KEY, now=NOW + 10**6, tolerance=number)
    with pytest.raises(ConfigurationError, match="invalid now"):
        verify_callback(signed(), BODY, KEY, now=number)


@pytest.mark.parametrize("key", ["", b""])
def test_an_empty_signing_key_is_refused(key: str | bytes) -> None:
    with pytest.raises(ValueError, match="signing key"):
        verify_callback(signed(key=""), BODY, key, now=NOW)
    with pytest.raises(ValueError, match="signing key"):
        CallbackReceiver(signing_key=key)


@contextlib.contextmanager
def served(receiver: CallbackReceiver) -> Iterator[str]:
    """Serve a receiver inside a Starlette application on a real socket, and yield its URL."""
    app = Starlette(routes=[Mount("/hooks/seedream", app=receiver)])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/hooks/seedream/"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running() as server:
        yield server


def configure(server: MockServer, **options: Any) -> None:
    defaults: dict[str, Any] = {"key": f"k:signing-key={KEY}", "task_seconds": 0, "rate_limit": "off", "credits": 10**6}
    server.play(**{**defaults, **options})


def test_a_receiver_verifies_callbacks_and_handles_each_once(server: MockServer) -> None:
    configure(server)
    received: list[Callback] = []
    with served(CallbackReceiver(received.append, signing_key=KEY)) as url, SeedreamClient(server.url, "k") as client:
        task_id = client.create_task("a hill", callback_url=url)
        while server.control("GET", "callbacks")["callbacks"][0]["outcome"] == "pending":
            pass
        server.control("POST", f"callbacks/{task_id}/redeliver")
    assert [(callback.code, callback.task.task_id) for callback in received] == [(200, task_id)]


def test_a_delivery_is_confirmed_only_after_an_earlier_one_was_handled(server: MockServer) -> None:
    """The handler is slower than the service waits, and then fails: the second delivery must not hide that."""
    configure(server)
    began, release = threading.Event(), threading.Event()
    calls: list[str] = []

    def handle(callback: Callback) -> None:
        calls.append(callback.task.task_id)
        if len(calls) == 1:
            began.set()
            assert release.wait(30)
            raise OSError("the disk is full")

    with served(CallbackReceiver(handle, signing_key=KEY)) as url, SeedreamClient(server.url, "k") as client:
        task_id = client.create_task("a hill", callback_url=url)
        assert began.wait(30)
        again = threading.Thread(target=server.control, args=("POST", f"callbacks/{task_id}/redeliver"))
        again.start()
        release.set()
        again.join()
        while len(calls) < 2 or any(
            attempt["status"] is None for attempt in server.control("GET", "callbacks")["callbacks"][0]["attempts"]
        ):
            pass
        statuses = [each["status"] for each in server.control("GET", "callbacks")["callbacks"][0]["attempts"]]
    assert sorted(statuses) == [200, 500]
    assert calls == [task_id, task_id]


@pytest.mark.parametrize("rule", ["", "callback.twice", "callback.unlike"])
def test_wait_for_callback_returns_the_fetched_task(server: MockServer, rule: str) -> None:
    configure(server)
    if rule:
        server.add_faults(rule)
    receiver = CallbackReceiver(signing_key=KEY)
    with served(receiver) as url, SeedreamClient(server.url, "k") as client:
        task_id = client.create_task("a hill", callback_url=url)
        assert client.wait_for_callback(task_id, receiver, timeout=30).succeeded
        assert client.wait_for_callback(task_id, receiver, timeout=30).succeeded


def test_wait_for_callback_does_not_poll(server: MockServer) -> None:
    configure(server, task_seconds=0.3)
    receiver = CallbackReceiver(signing_key=KEY)
    with served(receiver) as url, SeedreamClient(server.url, "k") as client:
        task_id = client.create_task("a hill", callback_url=url)
        assert client.wait_for_callback(task_id, receiver, timeout=30).succeeded
    assert sum(call["operation"] == "recordInfo" for call in server.calls) == 2


def test_the_async_client_waits_for_many_callbacks_at_once(server: MockServer) -> None:
    configure(server, task_seconds=0.3)
    receiver = CallbackReceiver(signing_key=KEY)

    async def run(url: str) -> list[bool]:
        async with AsyncSeedreamClient(server.url, "k") as client:

            async def one(number: int) -> bool:
                task_id = await client.create_task(f"hill {number}", callback_url=url)
                return (await client.wait_for_callback(task_id, receiver, timeout=30)).succeeded

            return await asyncio.gather(*(one(number) for number in range(20)))

    with served(receiver) as url:
        assert all(asyncio.run(run(url)))


def test_wait_for_callback_raises_the_error_of_a_failed_task(server: MockServer) -> None:
    configure(server)
    server.add_faults("task.fail code=422 after=0")
    receiver = CallbackReceiver(signing_key=KEY)
    with served(receiver) as url, SeedreamClient(server.url, "k") as client:
        task_id = client.create_task("a hill", callback_url=url)
        with pytest.raises(GenerationFailedError):
            client.wait_for_callback(task_id, receiver, timeout=30)


def test_wait_for_callback_times_out_without_a_callback(server: MockServer) -> None:
    configure(server, task_seconds=3600)
    receiver = CallbackReceiver(signing_key=KEY)

    async def wait(task_id: str) -> None:
        async with AsyncSeedreamClient(server.url, "k") as client:
            await client.wait_for_callback(task_id, receiver, timeout=0.2)

    with SeedreamClient(server.url, "k") as client:
        task_id = client.create_task("a hill")
        with pytest.raises(WaitTimeoutError) as error:
            client.wait_for_callback(task_id, receiver, timeout=0.2)
    assert error.value.task.state is TaskState.WAITING
    with pytest.raises(WaitTimeoutError):
        asyncio.run(wait(task_id))
    assert receiver.inbox._listeners == {}


def status_of(receiver: CallbackReceiver, **options: Any) -> int:
    async def call() -> int:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(receiver)) as http:
            return (
                await http.request(url="http://here/", **{"method": "POST", "content": BODY, **options})
            ).status_code

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"headers": signed()}, 200),
        ({"method": "GET"}, 405),
        ({}, 401),
        ({"headers": signed(at=NOW - 3600)}, 401),
        ({"headers": signed(), "content": b"{}"}, 400),
        ({"headers": signed(), "content": b"x" * 2_000_000}, 413),
    ],
)
def test_a_receiver_responds_with_the_right_status(options: dict[str, Any], status: int) -> None:
    received: list[Callback] = []
    assert status_of(CallbackReceiver(received.append, signing_key=KEY, clock=lambda: NOW), **options) == status
    assert bool(received) == (status == 200)


def test_a_receiver_without_a_key_accepts_unsigned_callbacks() -> None:
    assert status_of(CallbackReceiver()) == 200


def test_a_callback_whose_handling_failed_is_handled_when_it_is_sent_again() -> None:
    attempts: list[str] = []

    async def handle(callback: Callback) -> None:
        attempts.append(callback.task.task_id)
        if len(attempts) == 1:
            raise OSError("the disk is full")

    receiver = CallbackReceiver(handle)
    with pytest.raises(OSError, match="full"):
        status_of(receiver)
    assert status_of(receiver) == status_of(receiver) == 200
    assert attempts == ["t1", "t1"]


def test_a_receiver_refuses_websockets() -> None:
    with pytest.raises(NotImplementedError):
        asyncio.run(CallbackReceiver()({"type": "websocket"}, None, None))  # type: ignore[arg-type]
