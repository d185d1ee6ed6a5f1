"""The mock server in the observed dialect."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from seedbed_client import SeedreamClient
from seedbed_mock import ManualClock, running
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of
from tests.made_contracts import contract_of

CONTRACT, SHARED = default_contract(), job_api()
CREATE, RECORD = CONTRACT.operation.path, SHARED.record_info.path
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))


class ObservedService:
    """A mock server in the observed dialect, and its clock."""

    def __init__(self, url: str, key: str, clock: ManualClock) -> None:
        self.http = httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False)
        self.clock = clock

    def create(self, **changes: object) -> dict[str, Any]:
        response: dict[str, Any] = self.http.post(CREATE, json={**GOOD, **changes}).json()
        return response

    def record(self, task_id: str) -> dict[str, Any]:
        response: dict[str, Any] = self.http.get(RECORD, params={"taskId": task_id}).json()
        return response


@pytest.fixture(name="service")
def make_service() -> Iterator[ObservedService]:
    clock = ManualClock()
    with running(dialect="observed", clock=clock, task_seconds=9.7, rate_limit="3/10", credits=1000) as server:
        service = ObservedService(server.url, server.key, clock)
        yield service
        service.http.close()


def test_a_task_id_has_32_hex_digits_and_two_fields(service: ObservedService) -> None:
    data = service.create()["data"]
    assert data["taskId"] == data["recordId"]
    assert len(data["taskId"]) == 32
    assert set(data["taskId"]) <= set("0123456789abcdef")


def test_a_pending_record_has_nulls_and_an_empty_result(service: ObservedService) -> None:
    record = service.record(service.create()["data"]["taskId"])["data"]
    assert record["resultJson"] == ""
    assert [record[name] for name in ("failCode", "failMsg", "costTime", "completeTime")] == [None] * 4
    assert "updateTime" not in record


def test_the_cost_time_of_a_record_is_in_whole_seconds(service: ObservedService) -> None:
    task_id = service.create()["data"]["taskId"]
    service.clock.advance(10)
    record = service.record(task_id)["data"]
    assert record["state"] == "success"
    assert record["costTime"] == 9
    assert record["completeTime"] - record["createTime"] == 9700
    assert SHARED.shape("record").violations(record) == []


def test_the_input_in_a_record_is_a_json_string(service: ObservedService) -> None:
    task_id = service.create(callBackUrl="http://127.0.0.1:9/done")["data"]["taskId"]
    param = json.loads(service.record(task_id)["data"]["param"])
    assert list(param) == ["input", "callBackUrl", "model"]
    assert json.loads(param["input"]) == GOOD["input"]


NUMBERS = {
    "count": {"type": "integer", "minimum": 1, "default": 2},
    "safe": {"type": "boolean", "default": False},
    "shots": {"type": "array", "items": {"type": "object", "properties": {"seconds": {"type": "number"}}}},
    "note": {"type": "string", "maxLength": 9, "default": None},
    "zone": {"type": "string", "maxLength": 9},
}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"zone": "b", "count": "6"}, {"count": 6, "safe": False, "zone": "b"}),
        ({"zone": "6", "safe": "true"}, {"count": 2, "safe": True, "zone": "6"}),
        ({"shots": [{"seconds": "1.5"}], "count": 1}, {"count": 1, "safe": False, "shots": [{"seconds": 1.5}]}),
        ({"count": "0"}, None),
        ({"count": "six"}, None),
        ({"safe": "yes"}, None),
    ],
)
def test_a_record_has_the_request_as_the_service_keeps_it(sent: dict[str, Any], kept: dict[str, Any] | None) -> None:
    contract = contract_of({"properties": {"input": {"type": "object", "properties": NUMBERS}}})
    with (
        running(dialect="observed", contracts=[contract], task_seconds=0) as server,
        httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.key}"}) as http,
    ):
        created = http.post(CREATE, json={"input": sent, "model": contract.model}).json()
        if kept is None:
            assert created["code"] == 500
            return
        record = http.get(RECORD, params={"taskId": created["data"]["taskId"]}).json()["data"]
    values = json.dumps(kept, separators=(",", ":"))
    assert record["param"] == json.dumps({"input": values, "model": contract.model}, separators=(",", ":"))


def test_every_response_has_the_observed_content_type(service: ObservedService) -> None:
    responses = [
        service.http.post(CREATE, json=GOOD),
        service.http.post(CREATE, content=b"{"),
        service.http.get(RECORD, params={"taskId": "nope"}),
        service.http.get(SHARED.credit.path),
        service.http.get("/api/v1/no-such-path"),
        service.http.get(SHARED.models.path, headers={"Authorization": "Bearer wrong"}),
    ]
    assert {response.headers["content-type"] for response in responses} == {"application/json;charset=UTF-8"}


@pytest.mark.parametrize("dialect", ["documented", "observed"])
def test_a_missing_task_id_has_the_code_of_the_documentation(dialect: str) -> None:
    with running(dialect=dialect) as server:
        response = httpx2.get(server.url + RECORD, headers={"Authorization": f"Bearer {server.key}"}).json()
    assert (response["code"], response["msg"]) == (400, "taskId parameter is required")


@pytest.mark.parametrize(
    ("field", "value", "code", "message"),
    [
        ("input", {**GOOD["input"], "quality": "best"}, 500, "quality is not within the range of allowed options"),
        ("input", {**GOOD["input"], "prompt": "x" * 3001}, 500, "The text length cannot exceed the maximum limit"),
        ("input", {"prompt": "x", "quality": "basic"}, 500, "aspect_ratio is required"),
        ("model", "nope", 422, "The model name you specified is not supported"),
    ],
)
def test_an_error_has_the_observed_code_and_message(
    service: ObservedService, field: str, value: object, code: int, message: str
) -> None:
    response = service.create(**{field: value})
    assert response["code"] == code
    assert response["msg"].startswith(message)


def test_the_response_to_a_wrong_key_has_no_data(service: ObservedService) -> None:
    response = service.http.get(RECORD, headers={"Authorization": "Bearer wrong"}).json()
    assert response.keys() == {"code", "msg"}
    assert response["code"] == 401


def test_an_unknown_task_has_a_null_record(service: ObservedService) -> None:
    assert service.record("nope") == {"code": 422, "msg": "recordInfo is null", "data": None}


def test_the_rate_limit_has_the_observed_message(service: ObservedService) -> None:
    assert [service.create()["code"] for _ in range(4)] == [200, 200, 200, 429]
    assert service.create()["msg"] == "Your call frequency is too high. Please try again later."


def test_maintenance_gets_500(service: ObservedService) -> None:
    response = service.http.post(CREATE, json=GOOD, headers={"X-Seedbed-Fault": "455"}).json()
    assert response["code"] == 500
    assert "maintained" in response["msg"]


def test_the_client_reads_both_dialects() -> None:
    tasks = []
    for dialect in ("documented", "observed"):
        with running(dialect=dialect, task_seconds=0, seed=5) as server, SeedreamClient(server.url) as client:
            task = client.generate("a hill")
            tasks.append((task.state, task.model, task.fail_code, client.download(task.result_urls[0])))
    assert tasks[0] == tasks[1]
