"""The tasks of recorded traffic: their states, callbacks, models, and the requests that the service keeps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.made_contracts import contract_of
from tests.recorder import CREATE, REQUEST, Recorder, envelope, found, only, record, with_input

if TYPE_CHECKING:
    from seedbed_contract.findings import Report


def poll_states(*polled: tuple[str, float]) -> Report:
    recorder = Recorder()
    recorder.add_creation()
    for state, seconds in polled:
        recorder.add_poll(content=envelope(record(state=state)), seconds=seconds)
    return recorder.check()


def test_a_task_that_goes_back_is_a_finding() -> None:
    assert found(poll_states(("generating", 0.1), ("waiting", 0.1))) == {("service", "life/forward")}
    assert found(poll_states(("success", 0.1), ("generating", 0.1))) == {("service", "life/final")}


def test_concurrent_polls_have_no_order() -> None:
    assert poll_states(("generating", 5.0), ("waiting", 0.1)).conforms


def test_polls_are_checked_in_order_of_time() -> None:
    recorder = Recorder()
    recorder.add_creation()
    recorder.add_poll(content=envelope(record(state="waiting")))
    recorder.add_poll()
    recorder.entries.reverse()
    assert recorder.check().conforms


def test_a_task_may_appear_late_but_not_vanish() -> None:
    late, gone = Recorder(), Recorder()
    late.add_creation()
    late.add_poll(content=envelope(None, 422))
    late.add_poll()
    gone.add_creation()
    gone.add_poll()
    gone.add_poll(content=envelope(None, 422))
    assert late.check().conforms
    assert found(gone.check()) == {("service", "createTask/usable")}


@pytest.mark.parametrize("key", ["Bearer another-key", "Bearer [REDACTED]", None])
def test_a_task_may_be_unknown_to_another_key(key: str | None) -> None:
    recorder = Recorder()
    recorder.add_creation()
    recorder.add_poll()
    recorder.add_poll(content=envelope(None, 422), key=key)
    assert recorder.check().conforms


CALLED = {**REQUEST, "callBackUrl": "http://caller.example/called?x=1"}


def called_back(message: Any, *, times: int = 1, method: str = "POST", state: str = "success") -> Report:
    recorder = Recorder()
    recorder.add_creation(body=CALLED)
    recorder.add_poll(content=envelope(record(state=state, param=json.dumps(CALLED))))
    for _ in range(times):
        recorder.add("", message, "ok", request={"url": CALLED["callBackUrl"], "method": method}, key=None)
    return recorder.check()


def test_a_callback_is_compared_with_the_record_of_its_task() -> None:
    data = record(param=json.dumps(CALLED))
    report = called_back(envelope(data))
    assert report.conforms
    assert [entry.subject for entry in report.not_checked] == ["authorisation"]
    assert found(called_back(envelope(data, 501))) == {("service", "callback/code")}
    assert found(called_back(envelope({**data, "costTime": 4000}))) == {("service", "callback/same")}
    assert found(called_back(envelope({**data, "state": "waiting"}))) == {("service", "callback/final")}
    assert found(called_back(envelope(data), method="PUT")) == {("service", "callback/form")}
    assert found(called_back(envelope(data), times=2)) == {("service", "callback/once")}
    finding = only(called_back(envelope(data, 501)))
    assert (finding.check, finding.sample.curl) == ("traffic.callbacks", "")
    assert "POST /called?x=1" in finding.sample.response


@pytest.mark.parametrize(
    "message", ["", "[]", {"data": 1}, {"data": {"taskId": []}}, envelope({"taskId": "task-9"}, 501)]
)
def test_other_requests_to_the_callback_url_are_not_callbacks(message: Any) -> None:
    report = called_back(message)
    assert report.conforms
    assert {check.name for check in report.checks if not check.is_checked} == {"traffic.callbacks"}
    assert "1 exchange" in {entry.subject for entry in report.not_checked}


def test_a_repeated_task_id_is_a_finding_but_an_exchange_recorded_twice_is_not() -> None:
    recorder = Recorder()
    recorder.add_creation()
    recorder.entries.append(recorder.entries[0])
    assert recorder.check().conforms
    recorder.add_creation()
    assert found(recorder.check()) == {("service", "createTask/unique")}


def test_a_task_created_before_the_recording_is_checked_by_its_records() -> None:
    recorder = Recorder()
    recorder.add_poll(content=envelope(record()))
    assert recorder.check().conforms
    recorder.add_poll(content=envelope(record(state="fail")))
    assert ("service", "life/final") in found(recorder.check())


@pytest.mark.parametrize(
    ("body", "code", "is_found"),
    [
        (REQUEST, 422, True),
        (with_input(prompt=" "), 422, False),
        (with_input(extra=1), 422, False),
        ({**REQUEST, "callBackUrl": "http://127.0.0.1/"}, 422, False),
        (REQUEST, 401, False),
        (REQUEST, 402, False),
        (REQUEST, 429, False),
        (REQUEST, 455, False),
        (REQUEST, 500, False),
    ],
)
def test_a_refusal_is_a_finding_if_the_page_requires_acceptance(body: Any, code: int, *, is_found: bool) -> None:
    recorder = Recorder()
    recorder.add(CREATE, body, envelope(None if code != 200 else {"taskId": "a"}, code))
    recorder.add_poll("b", envelope(record("b")))
    assert found(recorder.check()) == ({("service", f"code/{code}")} if is_found else set())
    recorder.entries[0]["request"]["headers"][1]["value"] = "text/plain"
    assert recorder.check().conforms


@pytest.mark.parametrize(
    ("model", "code", "is_found"),
    [
        ("seedream/4.5", 422, True),
        ("Seedream-4.5-text-to-image", 422, True),
        ("seedream/4.5-edit", 422, False),
        ("seedream/4.5", 200, False),
        ("another/model", 200, False),
    ],
)
def test_a_request_for_another_model_is_not_checked(model: str, code: int, *, is_found: bool) -> None:
    recorder = Recorder()
    recorder.add(
        CREATE, {"model": model, "input": REQUEST["input"]}, envelope({"taskId": "a"} if code == 200 else None, code)
    )
    report = recorder.check()
    assert found(report) == ({("caller", "model/const")} if is_found else set())
    assert (f"tasks of {model}" in {entry.subject for entry in report.not_checked}) is not is_found


def test_tasks_of_models_without_a_contract_are_left_out_of_every_check() -> None:
    """Every message about the task of the other model is wrong, and nobody says so."""
    url = "https://caller.example/done"
    other = {"model": "another/model", "input": {}, "callBackUrl": url}
    wrong = record("task-2", "nonsense", model="another/model", failCode=7)
    recorder = Recorder()
    recorder.add_creation()
    recorder.add(CREATE, other, {"code": 200, "msg": "", "data": {"taskId": "task-2", "state": 7}}, key="Basic x")
    recorder.add_poll("task-2", envelope(wrong), status=500, kind="text/html")
    recorder.add_poll("task-3", envelope({**wrong, "taskId": "task-3"}))
    recorder.base = "https://caller.example"
    recorder.add("/done", {"code": 1, "msg": 7, "data": wrong})
    report = recorder.check()
    assert found(report) == set()
    assert "tasks of another/model" in {entry.subject for entry in report.not_checked}
    assert report.tasks == 1


def test_a_record_with_another_model_than_the_request_is_still_a_finding() -> None:
    recorder = Recorder()
    recorder.add_creation()
    recorder.add_poll(content=envelope(record(model="another/model")))
    assert ("service", "record/model/same") in found(recorder.check())


NORMALISED = contract_of(
    {
        "properties": {
            "input": {
                "type": "object",
                "properties": {
                    "duration": {"type": "integer"},
                    "size": {"type": "string", "enum": ["6", "10"]},
                    "sound": {"type": "boolean"},
                    "shots": {"type": "array", "items": {"type": "object"}},
                },
            },
            "callBackUrl": {"type": "string"},
        }
    }
)


@pytest.mark.parametrize(
    ("sent", "kept", "is_same"),
    [
        ({"duration": "6"}, {"duration": 6}, True),
        ({"duration": "6"}, {"duration": 6.0}, True),
        ({"size": "6"}, {"size": 6}, True),
        ({"sound": "true"}, {"sound": True, "nsfw_checker": False}, True),
        ({"shots": [{"a": "1.5"}]}, {"shots": [{"a": 1.5, "b": 2}]}, True),
        ({"duration": 6}, {"duration": 6.0}, True),
        ({"duration": "6"}, {"duration": 7}, False),
        ({"size": "6"}, {"size": "six"}, False),
        ({"duration": 6}, {"duration": "6"}, False),
        ({"sound": "true"}, {"sound": 1}, False),
        ({"sound": True}, {"sound": 1}, False),
        ({"duration": "6"}, {}, False),
        ({"shots": [{"a": 1}]}, {"shots": []}, False),
    ],
)
def test_a_stored_request_is_compared_as_the_service_keeps_it(sent: Any, kept: Any, *, is_same: bool) -> None:
    model = NORMALISED.model
    param = json.dumps({"input": json.dumps(kept), "model": model})
    recorder = Recorder()
    recorder.add(CREATE, {"model": model, "input": sent, "callBackUrl": ""}, envelope({"taskId": "task-1"}))
    recorder.add_poll(content=envelope(record(model=model, param=param, costTime=5)))
    service = {clause for side, clause in found(recorder.check(contract=NORMALISED)) if side == "service"}
    assert service == (set() if is_same else {"record/param/same"})
