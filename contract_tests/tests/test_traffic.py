"""Recorded traffic is checked on both sides, and what a recording does not show is not reported."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from seedbed_contract.cases import raw, refused, wrong_keys
from seedbed_contract.http import RequestBuilder, TargetRequest
from seedbed_contract.reports import html_report, json_report, junit_report, markdown_report
from seedbed_contract.traffic import HarError, check_traffic, read_har
from seedbed_mock import ManualClock, running
from seedbed_schemas import default_contract
from tests.made_contracts import contract_of
from tests.minimal_service import serve
from tests.minimal_variants import CONFORMING, Variant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_contract.findings import Finding, Report

KEY = "canary-key-5d1f"
BASE = "https://api.example"
CREATE, RECORD = "/api/v1/jobs/createTask", "/api/v1/jobs/recordInfo"
REQUEST = {
    "model": "seedream/4.5-text-to-image",
    "input": {"prompt": "a hill", "aspect_ratio": "1:1", "quality": "basic"},
}
MILLISECONDS = 1_795_386_318_000


def with_input(**changed: Any) -> dict[str, Any]:
    return {**REQUEST, "input": {**REQUEST["input"], **changed}}  # type: ignore[dict-item]


class Recorder:
    """Writes a HAR file with one exchange per second."""

    def __init__(self, base: str = BASE) -> None:
        self.base = base
        self.entries: list[dict[str, Any]] = []

    def add(
        self,
        path: str,
        body: Any = None,
        content: Any = None,
        *,
        status: int = 200,
        key: str | None = f"Bearer {KEY}",
        kind: str = "application/json",
        seconds: float = 0.1,
        **own: Any,
    ) -> None:
        """Add an exchange; a body is a text, or a value to serialize as JSON."""
        started = datetime.fromtimestamp(MILLISECONDS / 1000 + len(self.entries), UTC).isoformat()
        request: dict[str, Any] = {"method": "GET" if body is None else "POST", "url": f"{self.base}{path}"}
        request["headers"] = [{"name": "Authorization", "value": key}] if key is not None else []
        if body is not None:
            request["headers"].append({"name": "content-type", "value": "application/json"})
            request["postData"] = {"mimeType": "application/json", "text": text_of(body)}
        text = text_of(content)
        response = {
            "status": status,
            "headers": [{"name": "Content-Type", "value": kind}],
            "content": {"size": len(text), "mimeType": kind, "text": text},
        }
        own_request = own.pop("request", {})
        times = {"startedDateTime": started, "time": seconds * 1000}
        self.entries.append({**times, "request": request | own_request, "response": response} | own)

    def add_sent(self, request: TargetRequest, response: httpx2.Response) -> None:
        """Add an exchange with a request of arbitrary bytes."""
        sent: dict[str, Any] = {"method": request.method}
        sent["headers"] = [{"name": name, "value": value} for name, value in request.headers]
        if request.body is not None:
            sent["postData"] = {"text": base64.b64encode(request.body).decode(), "encoding": "base64"}
        kind = response.headers.get("content-type", "")
        self.add(request.target, None, response.text, status=response.status_code, kind=kind, request=sent)

    def add_creation(self, task_id: str = "task-1", body: Any = REQUEST, **own: Any) -> None:
        self.add(CREATE, body, envelope({"taskId": task_id}), **own)

    def add_poll(self, task_id: str = "task-1", content: Any = None, **own: Any) -> None:
        self.add(f"{RECORD}?taskId={task_id}", None, content or envelope(record(task_id)), **own)

    @property
    def content(self) -> bytes:
        return json.dumps({"log": {"version": "1.2", "entries": self.entries}}).encode()

    def check(self, **named: Any) -> Report:
        return check_traffic(read_har(self.content), "traffic.har", **named)


def text_of(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body)


def envelope(data: Any = None, code: int = 200) -> dict[str, Any]:
    return {"code": code, "msg": "success" if code == 200 else "no", "data": data}


def record(task_id: str = "task-1", state: str = "success", **changed: Any) -> dict[str, Any]:
    ended = state in {"success", "fail"}
    data = {
        "taskId": task_id,
        "model": REQUEST["model"],
        "state": state,
        "param": json.dumps(REQUEST),
        "createTime": MILLISECONDS,
        "updateTime": MILLISECONDS + 5000 * ended,
        "failCode": "",
        "failMsg": "",
    }
    if state == "success":
        data["resultJson"] = json.dumps({"resultUrls": ["https://files.example/1.jpg"]})
        data |= {"completeTime": MILLISECONDS + 5000, "costTime": 5000}
    return data | changed


def found(report: Report) -> set[tuple[str, str]]:
    return {(finding.side, finding.clause) for finding in report.findings}


def only(report: Report) -> Finding:
    (finding,) = report.findings
    return finding


@pytest.mark.parametrize("dialect", ["documented", "observed"])
@pytest.mark.parametrize("http_status", ["envelope", "mirror"])
def test_traffic_of_a_conforming_service_has_only_findings_on_the_caller(dialect: Any, http_status: Any) -> None:
    clock = ManualClock()
    with running(dialect=dialect, http_status=http_status, clock=clock, task_seconds=8, key=KEY) as server:
        recorder = Recorder(server.url)
        for call in calls_of_one_caller(clock):
            play(recorder, *call)
    for named in ({}, {"dialect": dialect, "http_status": http_status}):
        report = recorder.check(**named)
        assert (report.dialect, report.http_status) == (dialect, http_status)
        assert found(report) == {("caller", "input.prompt/maxLength"), ("caller", "recordInfo/missing")}
        assert report.tasks == 1
        covered = {entry.clause.id for entry in report.coverage if entry.accepting}
        assert {"life/forward", "record/param/same", "input.quality/enum/basic", "creditAnswer/data/type"} <= covered


def calls_of_one_caller(clock: ManualClock) -> Iterator[tuple[str, Any]]:
    yield CREATE, REQUEST
    yield CREATE, with_input(prompt="a" * 3001)
    for _ in range(6):
        yield RECORD, None
        clock.advance(2)
    yield f"{RECORD}?taskId=", None
    yield f"{RECORD}?taskId=task_of_another", None
    yield "/api/v1/chat/credit", None
    yield "/api/v1/models", None


def play(recorder: Recorder, path: str, body: Any) -> None:
    """Send a request to the server of a recorder, and record the exchange."""
    if path == RECORD:
        path = f"{RECORD}?taskId={json.loads(recorder.entries[0]['response']['content']['text'])['data']['taskId']}"
    content = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    method = "GET" if body is None else "POST"
    with httpx2.Client(trust_env=False, verify=False) as client:
        response = client.request(method, recorder.base + path, headers=headers, content=content)
    recorder.add(path, body, response.text, status=response.status_code, kind=response.headers["content-type"])


@pytest.mark.parametrize("variant", CONFORMING[::4], ids=lambda variant: variant.name)
def test_no_conforming_service_has_findings_because_of_invalid_requests(variant: Variant) -> None:
    with serve(replace(variant, seconds=0, late=0)) as served, httpx2.Client(trust_env=False, verify=False) as client:
        recorder = Recorder(served.url)
        for request in invalid_requests(served.key):
            response = client.request(
                request.method, served.url + request.target, headers=list(request.headers), content=request.body
            )
            recorder.add_sent(request, response)
    report = recorder.check()
    assert report.requests > 300
    assert [finding for finding in report.findings if finding.side != "caller"] == []
    assert len(report.findings) > 10


def invalid_requests(key: str) -> Iterator[TargetRequest]:
    builder = RequestBuilder(default_contract(), (("Authorization", f"Bearer {key}"),))
    yield from (builder.create(case.payload) for case in refused())
    yield from (builder.create(body.body, body.headers) for body in raw() if len(body.body) < 1 << 16)
    wrong = [header for header in wrong_keys(key) if all(value == value.strip() for _, value in header.headers)]
    yield from (builder.with_authorization(header.headers).record("nobody") for header in wrong)
    yield from (builder.record(name) for name in (None, "", "nobody", ["a", "b"]))
    yield TargetRequest("createTask", "PUT", CREATE, builder.authorization, b"{}")


def test_a_clean_recording_conforms_and_lists_what_was_not_checked() -> None:
    recorder = Recorder()
    recorder.add_creation()
    recorder.add_poll(content=envelope(record(state="waiting")))
    recorder.add_poll()
    report = recorder.check()
    assert report.conforms
    assert report.requests == 3
    assert "authorisation" in {entry.subject for entry in report.not_checked}
    for form in (json_report, html_report, junit_report, markdown_report):
        assert KEY not in form.render(report)


@pytest.mark.parametrize(
    ("body", "clause"),
    [
        (with_input(prompt="a" * 3001), "input.prompt/maxLength"),
        (with_input(quality="best"), "input.quality/enum"),
        ({"model": REQUEST["model"], "input": {"prompt": "a"}}, "input/required/aspect_ratio"),
        ({**REQUEST, "callBackUrl": "nowhere"}, "callBackUrl/format"),
        ("{", "request/json"),
        ("[1]", "request/type"),
    ],
)
def test_an_invalid_request_is_a_finding_on_the_caller_and_its_acceptance_one_on_the_service(
    body: Any, clause: str
) -> None:
    refused, accepted = Recorder(), Recorder()
    refused.add(CREATE, body, envelope(None, 422))
    accepted.add_creation(body=body)
    assert ("caller", clause) in found(refused.check())
    assert {side for side, _ in found(refused.check())} == {"caller"}
    assert {("caller", clause), ("service", clause)} <= found(accepted.check())
    assert accepted.check().tasks == 1


TWICE = json.dumps(REQUEST).replace('"quality": "basic"', '"quality": "best", "quality": "basic"')


@pytest.mark.parametrize(
    "body", ["\ufeff" + json.dumps(REQUEST), json.dumps(REQUEST)[:-1] + ",}", TWICE, TWICE.replace("best", "high")]
)
def test_a_body_for_lenient_parsers_may_be_accepted_or_refused(body: str) -> None:
    taken, refused_ = Recorder(), Recorder()
    taken.add_creation(body=body)
    refused_.add(CREATE, body, envelope(None, 422))
    assert {side for side, _ in found(taken.check()) | found(refused_.check())} <= {"caller"}


def test_the_curl_command_of_a_finding_has_a_variable_in_place_of_the_key() -> None:
    recorder = Recorder()
    recorder.add(CREATE, with_input(quality="best"), envelope(None, 422))
    finding = only(recorder.check())
    assert '"Authorization: Bearer ${SEEDBED_API_KEY}"' in finding.sample.curl
    assert f"{BASE}{CREATE}" in finding.sample.curl
    assert '"best"' in finding.sample.curl
    assert "HTTP 200" in finding.sample.response
    assert (finding.side, finding.check) == ("caller", "traffic.requests")


def test_a_repeated_defect_is_one_finding() -> None:
    recorder = Recorder()
    for more in (1, 2, 3):
        recorder.add(CREATE, with_input(prompt="a" * (3000 + more)), envelope(None, 422))
    finding = only(recorder.check())
    assert finding.count == 3
    assert "3001" in finding.also[0]


@pytest.mark.parametrize(
    ("response", "own", "clause"),
    [
        ("<html>", {}, "answer/json"),
        (envelope(record()), {"kind": "text/html"}, "answer/content-type"),
        ({"code": 200, "data": record()}, {}, "envelope/required/msg"),
        (envelope(record()) | {"msg": f"hello {KEY}"}, {}, "answer/no-secret"),
        (envelope(record()), {"status": 418}, "answer/http-status"),
        (envelope(record(state="done")), {}, "record/state/enum"),
        (envelope(record(createTime=1_795_386_318)), {}, "record/times/unit"),
        (envelope(record(param="{}")), {}, "record/param/same"),
        (envelope(record("task-2")), {}, "record/taskId/same"),
        (envelope(record(resultJson="[")), {}, "record/resultJson/only-success"),
    ],
)
def test_a_wrong_response_is_a_finding_on_the_service(response: Any, own: dict[str, Any], clause: str) -> None:
    recorder = Recorder()
    recorder.add_creation()
    recorder.add_poll(content=response, **own)
    assert ("service", clause) in found(recorder.check(http_status="envelope"))


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


def test_a_key_that_starts_with_another_key_is_redacted() -> None:
    recorder = Recorder()
    recorder.add_creation(key=f"Bearer {KEY[:-1]}")
    recorder.add_creation("task-2", with_input(quality="best"), key=f"Bearer {KEY}")
    for finding in recorder.check().findings:
        assert "Bearer ${SEEDBED_API_KEY_2}" in finding.sample.curl


def test_a_word_that_is_not_a_key_is_not_redacted() -> None:
    recorder = Recorder()
    recorder.add_creation(key="Bearer msg")
    recorder.add_poll(content="<html> msg", key="Bearer Bearer")
    finding = only(recorder.check())
    assert finding.clause == "answer/json"
    assert "<html> msg" in finding.sample.response


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


@pytest.mark.parametrize(
    "response",
    [
        None,
        {"status": 0, "headers": [], "content": {}},
        {"status": 200, "headers": [], "content": {"size": 40}},
        {"status": 200, "headers": [], "content": {"text": "abcd", "encoding": "rot13", "size": 40}},
    ],
)
def test_the_caller_is_checked_where_the_response_is_unknown(response: Any) -> None:
    recorder = Recorder()
    recorder.add_creation()
    recorder.add(CREATE, with_input(quality="best"), response=response)
    report = recorder.check()
    assert found(report) == {("caller", "input.quality/enum")}
    assert (report.requests, report.tasks) == (1, 1)
    assert "1 exchange" in {entry.subject for entry in report.not_checked}


@pytest.mark.parametrize("key", [None, "Bearer [REDACTED]", "Bearer ***", "Bearer", "<hidden>", "Basic <redacted>"])
def test_a_redacted_key_is_not_a_finding(key: str | None) -> None:
    recorder = Recorder()
    recorder.add_creation(key=key)
    recorder.add(CREATE, with_input(quality="best"), envelope(None, 422), key=key)
    finding = only(recorder.check())
    assert finding.clause == "input.quality/enum"
    assert "SEEDBED_API_KEY}" in finding.sample.curl


def test_a_key_with_another_scheme_is_a_finding_on_the_caller() -> None:
    recorder = Recorder()
    recorder.add_creation(key=f"Basic {KEY}")
    assert found(recorder.check()) == {("caller", "operation/scheme")}


def test_another_method_is_a_finding_on_the_caller_whatever_the_response() -> None:
    recorder = Recorder()
    recorder.add(CREATE, REQUEST, "no such method", status=405, kind="text/plain", request={"method": "PUT"})
    recorder.add(RECORD, {}, "no such method", status=405, kind="text/plain")
    assert found(recorder.check()) == {("caller", "operation/method"), ("caller", "recordInfo/missing")}


def test_exchanges_of_other_servers_are_counted_and_skipped() -> None:
    recorder = Recorder()
    recorder.add_creation()
    recorder.add_creation(request={"url": f"https://other.example{CREATE}"})
    recorder.add("/style.css", None, "body {}", kind="text/css")
    recorder.add("/logo.png", None, "", kind="image/png")
    recorder.add_poll(response={"status": 0, "headers": [], "content": {}})
    recorder.add_poll(response={"status": 200, "headers": [], "content": {"size": 40}})
    recorder.add_poll(_resourceType="websocket")
    report = recorder.check()
    assert report.conforms
    assert report.requests == 1
    skipped = {entry.reason: entry.subject for entry in report.not_checked}
    assert skipped["the URL is not that of an operation of the service"] == "2 exchanges"
    assert len(skipped) == 6


def test_the_base_url_can_be_given_and_may_have_a_path() -> None:
    recorder = Recorder(f"{BASE}/proxy")
    recorder.add_creation()
    recorder.add(CREATE, REQUEST, "<html>", request={"url": f"https://other.example{CREATE}"})
    assert recorder.check().remarks == [f"Recorded traffic of {BASE}/proxy; nothing was sent."]
    assert found(recorder.check(base_url="https://other.example/")) == {("service", "answer/json")}
    with pytest.raises(HarError, match=r"of 2 exchanges has no call of this service\. Record calls to http://nowhere/"):
        recorder.check(base_url="http://nowhere")


def test_a_recording_without_the_service_is_refused() -> None:
    recorder = Recorder()
    recorder.add("/index.html", None, "<html>", kind="text/html")
    with pytest.raises(HarError, match="Record calls to a path such as"):
        recorder.check()


def test_progress_counts_the_checked_calls() -> None:
    recorder = Recorder()
    recorder.add_creation()
    recorder.add_poll()
    counts: list[int] = []
    recorder.check(on_checked=counts.append)
    assert sum(counts) == 2
