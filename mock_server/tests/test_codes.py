"""Every documented code over HTTP, by its cause and simulated, with both settings of the HTTP status."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from seedbed_mock import ManualClock, MockServer, running
from seedbed_mock.settings import HttpStatus
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of

CONTRACT, SHARED = default_contract(), job_api()
CREATE, RECORD, CREDIT = CONTRACT.operation.path, SHARED.record_info.path, SHARED.credit.path
GOOD = example_of(CONTRACT.part("request"))
REFUSALS = [code.number for code in CONTRACT.codes if code.name != "success"]


@pytest.fixture(scope="module", params=["envelope", "mirror"])
def server(request: pytest.FixtureRequest) -> Iterator[MockServer]:
    with running(http_status=request.param, rate_limit="off", key=(request.param,), credits=10**6) as server:
        yield server


def call(server: MockServer, method: str, path: str, *, key: str = "", **options: Any) -> dict[str, Any]:
    """Send a request and check the HTTP status of the response."""
    headers = {"Authorization": f"Bearer {key or server.key}", **options.pop("headers", {})}
    response = httpx2.request(method, server.url + path, headers=headers, trust_env=False, **options)
    envelope: dict[str, Any] = response.json()
    assert envelope.keys() == {"code", "msg", "data"}
    assert SHARED.shape("envelope").violations(envelope) == []
    assert response.status_code == (envelope["code"] if server.key == "mirror" else 200)
    return envelope


def test_a_valid_request_gets_200(server: MockServer) -> None:
    assert call(server, "POST", CREATE, json=GOOD)["code"] == 200


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize(("method", "path"), [("POST", CREATE), ("GET", RECORD), ("GET", CREDIT)])
def test_every_code_can_be_simulated(server: MockServer, method: str, path: str, code: int) -> None:
    envelope = call(server, method, path, headers={"X-Seedbed-Fault": str(code)})
    assert envelope["code"] == code
    assert envelope["msg"]
    assert "..." not in envelope["msg"]
    assert "{" not in envelope["msg"]
    assert envelope["data"] is None


def test_a_simulated_error_costs_nothing(server: MockServer) -> None:
    before = call(server, "GET", CREDIT)["data"]
    call(server, "POST", CREATE, json=GOOD, headers={"X-Seedbed-Fault": "500"})
    assert call(server, "GET", CREDIT)["data"] == before


@pytest.mark.parametrize("value", ["", "200", "boom", "0455", "5" * 400, "-0"])
def test_an_unknown_fault_is_refused_with_the_known_ones(server: MockServer, value: str) -> None:
    envelope = call(server, "POST", CREATE, json=GOOD, headers={"X-Seedbed-Fault": value})
    assert envelope["code"] == 422
    assert "429" in envelope["msg"]
    assert len(envelope["msg"]) < 1000


@pytest.mark.parametrize("code", [433, 418, 1, 0, -7, 204, 999, 100_001])
@pytest.mark.parametrize("http_status", ["envelope", "mirror"])
def test_a_code_that_the_page_does_not_list_can_be_simulated(http_status: HttpStatus, code: int) -> None:
    with running(http_status=http_status) as server, httpx2.Client(base_url=server.url, trust_env=False) as client:
        headers = {"Authorization": f"Bearer seedbed-{code}"}
        for more in (headers, {**headers, "X-Seedbed-Fault": f"{code} message=over"}):
            response = client.post(CREATE, json=GOOD, headers=more)
            assert response.json()["code"] == code
            assert response.status_code == (code if http_status == "mirror" and code in {433, 418} else 200)
    assert response.json()["msg"] == "over"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic seedbed-key", "seedbed-key", "Bearer a b"])
@pytest.mark.parametrize(("method", "path"), [("POST", CREATE), ("GET", RECORD), ("GET", CREDIT)])
def test_a_wrong_key_gets_401(server: MockServer, method: str, path: str, header: str) -> None:
    envelope = call(server, method, path, headers={"Authorization": header})
    assert envelope["code"] == 401
    assert "wrong" not in envelope["msg"]


def test_a_missing_key_is_refused_before_the_body_is_parsed(server: MockServer) -> None:
    response = httpx2.post(server.url + CREATE, content=b"{", trust_env=False)
    assert response.json()["code"] == 401


def test_the_scheme_of_the_key_is_case_insensitive(server: MockServer) -> None:
    assert call(server, "GET", CREDIT, headers={"Authorization": f"bearer {server.key}"})["code"] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/v1/nope"),
        ("GET", CREATE),
        ("DELETE", CREATE),
        ("POST", RECORD),
        ("GET", CREATE + "/"),
        ("GET", "/results/../../etc/passwd"),
        ("GET", "/results/a%2fb.jpg"),
        ("GET", "/%00%ff"),
    ],
)
def test_an_unknown_path_gets_404_with_the_known_ones(server: MockServer, method: str, path: str) -> None:
    envelope = call(server, method, path)
    assert envelope["code"] == 404
    assert CREATE in envelope["msg"]


@pytest.mark.parametrize("task_id", ["task_seedream_1765166238716", "x" * 5000, "\x00", "é😀", "{problem}"])
def test_an_unknown_task_gets_404(server: MockServer, task_id: str) -> None:
    envelope = call(server, "GET", RECORD, params={"taskId": task_id})
    assert envelope["code"] == 404
    assert len(envelope["msg"]) < 300


@pytest.mark.parametrize("query", ["", "?taskId=", "?other=1"])
def test_a_missing_task_id_gets_400_with_its_name(server: MockServer, query: str) -> None:
    envelope = call(server, "GET", RECORD + query)
    assert envelope["code"] == 400
    assert "taskId" in envelope["msg"]


@pytest.mark.parametrize("http_status", ["envelope", "mirror"])
def test_an_exhausted_balance_gets_402_without_side_effects(http_status: HttpStatus) -> None:
    with running(http_status=http_status, key=(http_status,), credits=20) as server:
        envelopes = [call(server, "POST", CREATE, json=GOOD) for _ in range(5)]
        assert [envelope["code"] for envelope in envelopes] == [200, 200, 200, 402, 402]
        assert "6.5" in envelopes[-1]["msg"]
        assert "0.5" in envelopes[-1]["msg"]
        assert call(server, "GET", CREDIT)["data"] == 0.5


def test_only_created_tasks_count_towards_the_rate_limit() -> None:
    with running(http_status="envelope", rate_limit="1/10", key=("envelope",), clock=ManualClock()) as server:
        assert [call(server, "POST", CREATE, json={})["code"] for _ in range(3)] == [422] * 3
        assert call(server, "POST", CREATE, json=GOOD, headers={"X-Seedbed-Fault": "500"})["code"] == 500
        assert [call(server, "POST", CREATE, json=GOOD)["code"] for _ in range(2)] == [200, 429]
        assert call(server, "POST", CREATE, json={})["code"] == 429


@pytest.mark.parametrize("http_status", ["envelope", "mirror"])
def test_tasks_above_the_rate_limit_get_429_until_the_window_has_moved(http_status: HttpStatus) -> None:
    clock = ManualClock()
    with running(http_status=http_status, key=(http_status,), rate_limit="2/10", clock=clock) as server:

        def create() -> int:
            code: int = call(server, "POST", CREATE, json=GOOD)["code"]
            return code

        assert create() == 200
        clock.advance(5)
        assert [create(), create(), create()] == [200, 429, 429]
        clock.advance(4.999)
        assert create() == 429
        clock.advance(0.001)
        assert [create(), create()] == [200, 429]
        assert call(server, "GET", CREDIT)["code"] == 200


def test_the_first_of_several_mistakes_is_reported(server: MockServer) -> None:
    envelope = call(server, "POST", CREATE, json={"model": "other/model", "input": 3})
    assert envelope["code"] == 422
    assert "other/model" in envelope["msg"]
    assert CONTRACT.model in envelope["msg"]
