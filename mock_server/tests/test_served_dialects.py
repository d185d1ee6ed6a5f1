"""The same service in another dialect: as it is known to behave, and not as its documentation has it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from seedbed_client import SeedreamClient
from seedbed_mock import ManualClock, running
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of

CONTRACT, SHARED = default_contract(), job_api()
CREATE, RECORD = CONTRACT.operation.path, SHARED.record_info.path
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))


class Observed:
    """A fake in the observed dialect, and its clock."""

    def __init__(self, url: str, key: str, clock: ManualClock) -> None:
        self.http = httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False)
        self.clock = clock

    def create(self, **changes: object) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.post(CREATE, json={**GOOD, **changes}).json()
        return answer

    def record(self, task_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.http.get(RECORD, params={"taskId": task_id}).json()
        return answer


@pytest.fixture(name="service")
def make_service() -> Iterator[Observed]:
    clock = ManualClock()
    with running(dialect="observed", clock=clock, task_seconds=9.7, rate_limit="3/10", credits=1000) as server:
        service = Observed(server.url, server.key, clock)
        yield service
        service.http.close()


def test_a_task_has_a_name_of_32_hex_digits_under_two_names(service: Observed) -> None:
    data = service.create()["data"]
    assert data["taskId"] == data["recordId"]
    assert len(data["taskId"]) == 32
    assert set(data["taskId"]) <= set("0123456789abcdef")


def test_a_pending_record_has_nulls_and_an_empty_result(service: Observed) -> None:
    record = service.record(service.create()["data"]["taskId"])["data"]
    assert record["resultJson"] == ""
    assert [record[name] for name in ("failCode", "failMsg", "costTime", "completeTime")] == [None] * 4
    assert "updateTime" not in record


def test_a_finished_record_tells_its_cost_in_whole_seconds(service: Observed) -> None:
    task_id = service.create()["data"]["taskId"]
    service.clock.advance(10)
    record = service.record(task_id)["data"]
    assert record["state"] == "success"
    assert record["costTime"] == 9
    assert record["completeTime"] - record["createTime"] == 9700
    assert SHARED.shape("record").violations(record) == []


def test_the_input_in_a_record_is_a_text_inside_the_text(service: Observed) -> None:
    task_id = service.create(callBackUrl="http://127.0.0.1:9/done")["data"]["taskId"]
    param = json.loads(service.record(task_id)["data"]["param"])
    assert list(param) == ["input", "callBackUrl", "model"]
    assert json.loads(param["input"]) == GOOD["input"]


@pytest.mark.parametrize(
    ("field", "value", "code", "message"),
    [
        ("input", {**GOOD["input"], "quality": "best"}, 500, "quality is not within the range of allowed options"),
        ("input", {**GOOD["input"], "prompt": "x" * 3001}, 500, "The text length cannot exceed the maximum limit"),
        ("input", {"prompt": "x", "quality": "basic"}, 500, "aspect_ratio is required"),
        ("model", "nope", 422, "The model name you specified is not supported"),
    ],
)
def test_a_refusal_has_the_code_and_words_that_were_seen(
    service: Observed, field: str, value: object, code: int, message: str
) -> None:
    answer = service.create(**{field: value})
    assert answer["code"] == code
    assert message in answer["msg"]


def test_an_answer_to_a_wrong_key_has_no_data_at_all(service: Observed) -> None:
    answer = service.http.get(RECORD, headers={"Authorization": "Bearer wrong"}).json()
    assert answer.keys() == {"code", "msg"}
    assert answer["code"] == 401


def test_an_unknown_task_is_a_record_that_is_null(service: Observed) -> None:
    assert service.record("nope") == {"code": 422, "msg": "recordInfo is null", "data": None}


def test_too_many_tasks_are_refused_in_the_words_that_were_seen(service: Observed) -> None:
    assert [service.create()["code"] for _ in range(4)] == [200, 200, 200, 429]
    assert service.create()["msg"] == "Your call frequency is too high. Please try again later."


def test_maintenance_travels_as_500(service: Observed) -> None:
    answer = service.http.post(CREATE, json=GOOD, headers={"X-Seedbed-Fault": "455"}).json()
    assert answer["code"] == 500
    assert "maintained" in answer["msg"]


def test_the_client_reads_both_dialects_alike() -> None:
    tasks = []
    for dialect in ("documented", "observed"):
        with running(dialect=dialect, task_seconds=0, seed=5) as server, SeedreamClient(server.url) as client:
            task = client.generate("a hill")
            tasks.append((task.state, task.model, task.fail_code, client.download(task.result_urls[0])))
    assert tasks[0] == tasks[1]
