"""The respx router: a caller of the paid service sees what it would see over a socket of its own."""

import asyncio
import contextlib
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import httpx2
import pytest
from seedbed_mock import MockServer, running
from seedbed_mock.faults.rules import EFFECTS
from seedbed_mock.respx_router import SeedbedRouter
from seedbed_schemas import default_contract
from seedbed_schemas.openapi import example_of

CONTRACT = default_contract()
SERVICE, PATH = CONTRACT.operation.server, CONTRACT.operation.path
BODY = {**example_of(CONTRACT.part("request")), "callBackUrl": "http://127.0.0.1:9/callback"}
LIBRARIES = [httpx, httpx2]
PATIENCE = 20.0
IMPATIENCE = 0.2
# No call needs certificates, and loading them for each client would take most of the time.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

RULES: dict[str, tuple[str, float]] = {
    **{name: (name, PATIENCE) for name in EFFECTS},
    "CODE": ("429; p=1", PATIENCE),
    "wire.hang": ("wire.hang", IMPATIENCE),
    "wire.trickle": ("wire.trickle seconds=0.001", PATIENCE),
    "wire.trickle, impatient": ("wire.trickle seconds=1", IMPATIENCE),
    "wire.reset in the middle": ("wire.reset at=middle", PATIENCE),
    "delay": ("delay seconds=3", IMPATIENCE),
    "delay, patient": ("delay seconds=0.01", PATIENCE),
}
BROKEN = {
    "wire.reset": "ReadError",
    "wire.reset in the middle": "ReadError",
    "wire.nothing": "RemoteProtocolError",
    "wire.close": "RemoteProtocolError",
    "wire.cut-short": "RemoteProtocolError",
    "wire.hang": "ReadTimeout",
    "wire.trickle, impatient": "ReadTimeout",
    "delay": "ReadTimeout",
}


@pytest.fixture(scope="module", name="server")
def start_server() -> Iterator[MockServer]:
    with running(task_seconds=60, rate_limit="off", credits=1_000_000) as server:
        yield server


def call(library: ModuleType, url: str, timeout: Any, *, is_async: bool, rule: str = "") -> tuple[str, Any]:
    """Return the type and the request of the exception, or the status and the form of the response."""
    headers = {"Authorization": "Bearer seedbed-key"} | ({"X-Seedbed-Fault": rule} if rule else {})
    request = {"url": url + PATH, "json": BODY, "headers": headers}

    async def post() -> Any:
        async with library.AsyncClient(timeout=timeout, trust_env=False, verify=TLS) as client:
            return await client.post(**request)

    try:
        if is_async:
            response = asyncio.run(post())
        else:
            with library.Client(timeout=timeout, trust_env=False, verify=TLS) as client:
                response = client.post(**request)
    except library.HTTPError as error:
        return type(error).__name__, (type(error).__module__, error.request.url.path)
    assert isinstance(response, library.Response)
    headers = {name: value for name, value in response.headers.items() if name != "date"}
    return str(response.status_code), (headers, len(response.content))


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case in BROKEN else pytest.mark.slow) for case in RULES]
)
def test_a_caller_sees_what_it_would_see_on_a_socket(
    server: MockServer, case: str, library: ModuleType, *, is_async: bool
) -> None:
    rule, timeout = RULES[case]
    expected = call(library, server.url, timeout, is_async=is_async, rule=rule)
    with server.respx_router():
        assert call(library, SERVICE, timeout, is_async=is_async, rule=rule) == expected
    assert expected[0] == BROKEN.get(case, expected[0])
    assert expected[0].isdecimal() or case in BROKEN


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_a_connection_that_cannot_be_made_is_an_error_of_the_library(library: ModuleType, *, is_async: bool) -> None:
    with running() as stopped:
        pass
    with stopped.respx_router():
        assert call(library, SERVICE, PATIENCE, is_async=is_async)[0] == "ConnectError"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse a connection that the queue has no room for")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_a_server_that_accepts_no_connection_is_a_time_out(library: ModuleType, *, is_async: bool) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        url = "http://{}:{}".format(*listener.getsockname())
        assert call(library, url, IMPATIENCE, is_async=is_async)[0] == "ConnectTimeout"
        with SeedbedRouter(url):
            assert call(library, SERVICE, IMPATIENCE, is_async=is_async)[0] == "ConnectTimeout"


@pytest.mark.parametrize("using", ["httpx", "httpcore", "httpcore2"])
def test_any_mocker_of_respx_can_be_used(server: MockServer, using: str) -> None:
    library = httpx2 if using == "httpcore2" else httpx
    with server.respx_router(using=using) as router:
        for is_async in (False, True):
            assert call(library, SERVICE, PATIENCE, is_async=is_async, rule="wire.reset")[0] == "ReadError"
            assert call(library, SERVICE, PATIENCE, is_async=is_async)[0] == "200"
            assert router.calls.last.response.json()["code"] == 200


def test_the_recorded_calls_are_those_of_the_caller_and_have_their_responses(server: MockServer) -> None:
    with server.respx_router() as router:
        call(httpx, SERVICE, PATIENCE, is_async=False)
        call(httpx2, SERVICE, PATIENCE, is_async=True)
        call(httpx, SERVICE, PATIENCE, is_async=True, rule="wire.nothing")
        assert [recorded.request.url.host for recorded in router.calls] == ["api.kie.ai"] * 3
        assert [recorded.response.json()["code"] for recorded in router.calls if recorded.has_response] == [200, 200]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_a_response_arrives_while_it_is_sent(server: MockServer, library: ModuleType) -> None:
    headers = {"Authorization": "Bearer seedbed-key", "X-Seedbed-Fault": "wire.trickle seconds=0.001"}
    with server.respx_router() as router, library.Client() as client:
        with client.stream("POST", SERVICE + PATH, json=BODY, headers=headers) as response:
            pieces = list(response.iter_raw())
        assert len(pieces) > 5
        assert json.loads(b"".join(pieces))["code"] == 200
        with client.stream("POST", SERVICE + PATH, json=BODY, headers=headers) as response:
            assert next(response.iter_raw())
        assert router.calls.last.request.content


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_many_async_calls_wait_at_once_and_can_be_cancelled(server: MockServer, library: ModuleType) -> None:
    async def main() -> float:
        async with library.AsyncClient(timeout=PATIENCE, limits=library.Limits(max_connections=None)) as client:

            async def post(rule: str) -> Any:
                headers = {"Authorization": "Bearer seedbed-key", "X-Seedbed-Fault": rule}
                return (await client.post(SERVICE + PATH, json=BODY, headers=headers)).json()["code"]

            hanging = [asyncio.create_task(post("wire.hang")) for _ in range(50)]
            # A loop that is blocked would never come to the second call, nor to the cancellation.
            assert await asyncio.gather(*(post("delay seconds=0.01") for _ in range(50))) == [200] * 50
            assert not any(task.done() for task in hanging)
            began = time.monotonic()
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
            assert all(task.cancelled() for task in hanging)
            return time.monotonic() - began

    with server.respx_router():
        assert asyncio.run(main()) < PATIENCE / 2


def test_threads_share_a_router(server: MockServer) -> None:
    seen: list[str] = []
    with server.respx_router():
        threads = [
            threading.Thread(
                target=lambda library=library: seen.append(call(library, SERVICE, PATIENCE, is_async=False)[0])
            )
            for library in LIBRARIES * 5
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == ["200"] * 10


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_left_out(
    server: MockServer, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with server.respx_router():
        for library in LIBRARIES:
            assert library.get(f"{SERVICE}/api/v1/chat/credit").json()["code"] == 401


@pytest.mark.parametrize("path", ["/a%2Fb?x=%20y&z", "/a//b", "/%E4?q=[1]"])
def test_the_path_arrives_as_it_was_written(server: MockServer, path: str) -> None:
    expected = [library.get(server.url + path).text for library in LIBRARIES]
    with server.respx_router():
        assert [library.get(SERVICE + path).text for library in LIBRARIES] == expected
    assert expected[0] == expected[1]
