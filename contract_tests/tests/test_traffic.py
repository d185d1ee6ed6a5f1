"""Recorded traffic is judged on both sides, and nothing is said of what a recording does not tell."""

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


class Tape:
    """Writes a HAR file, an exchange a second."""

    def __init__(self, base: str = BASE) -> None:
        self.base = base
        self.entries: list[dict[str, Any]] = []

    def add(
        self,
        path: str,
        body: Any = None,
        answer: Any = None,
        *,
        status: int = 200,
        key: str | None = f"Bearer {KEY}",
        kind: str = "application/json",
        seconds: float = 0.1,
        **own: Any,
    ) -> None:
        """Add an exchange; bodies are texts, or values that are written as JSON."""
        started = datetime.fromtimestamp(MILLISECONDS / 1000 + len(self.entries), UTC).isoformat()
        request: dict[str, Any] = {"method": "GET" if body is None else "POST", "url": f"{self.base}{path}"}
        request["headers"] = [{"name": "Authorization", "value": key}] if key is not None else []
        if body is not None:
            request["headers"].append({"name": "content-type", "value": "application/json"})
            request["postData"] = {"mimeType": "application/json", "text": text_of(body)}
        text = text_of(answer)
        response = {
            "status": status,
            "headers": [{"name": "Content-Type", "value": kind}],
            "content": {"size": len(text), "mimeType": kind, "text": text},
        }
        own_request = own.pop("request", {})
        times = {"startedDateTime": started, "time": seconds * 1000}
        self.entries.append({**times, "request": request | own_request, "response": response} | own)

    def sent(self, ask: TargetRequest, answer: httpx2.Response) -> None:
        """Add an exchange as it went over the wire, byte by byte."""
        encoded = {"text": base64.b64encode(ask.body or b"").decode(), "encoding": "base64"}
        headers = [{"name": name, "value": value} for name, value in ask.headers]
        request = {"method": ask.method, "headers": headers} | ({"postData": encoded} if ask.body is not None else {})
        kind = answer.headers.get("content-type", "")
        self.add(ask.target, None, answer.text, status=answer.status_code, kind=kind, request=request)

    def created(self, task_id: str = "task-1", body: Any = REQUEST, **own: Any) -> None:
        self.add(CREATE, body, envelope({"taskId": task_id}), **own)

    def looked(self, task_id: str = "task-1", answer: Any = None, **own: Any) -> None:
        self.add(f"{RECORD}?taskId={task_id}", None, answer or envelope(record(task_id)), **own)

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
    told = {
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
        told["resultJson"] = json.dumps({"resultUrls": ["https://files.example/1.jpg"]})
        told |= {"completeTime": MILLISECONDS + 5000, "costTime": 5000}
    return told | changed


def found(report: Report) -> set[tuple[str, str]]:
    return {(finding.side, finding.clause) for finding in report.findings}


def only(report: Report) -> Finding:
    (finding,) = report.findings
    return finding


@pytest.mark.parametrize("dialect", ["documented", "observed"])
@pytest.mark.parametrize("http_status", ["envelope", "mirror"])
def test_traffic_of_a_conforming_service_has_findings_of_the_caller_alone(dialect: Any, http_status: Any) -> None:
    clock = ManualClock()
    with running(dialect=dialect, http_status=http_status, clock=clock, task_seconds=8, key=KEY) as server:
        tape = Tape(server.url)
        for call in calls_of_a_caller(clock):
            play(tape, *call)
    for named in ({}, {"dialect": dialect, "http_status": http_status}):
        report = tape.check(**named)
        assert (report.dialect, report.http_status) == (dialect, http_status)
        assert found(report) == {("caller", "input.prompt/maxLength"), ("caller", "recordInfo/missing")}
        assert report.tasks == 1
        covered = {entry.clause.id for entry in report.coverage if entry.accepting}
        assert {"life/forward", "record/param/same", "input.quality/enum/basic", "creditAnswer/data/type"} <= covered


def calls_of_a_caller(clock: ManualClock) -> Iterator[tuple[str, Any]]:
    yield CREATE, REQUEST
    yield CREATE, with_input(prompt="a" * 3001)
    for _ in range(6):
        yield RECORD, None
        clock.advance(2)
    yield f"{RECORD}?taskId=", None
    yield f"{RECORD}?taskId=task_of_another", None
    yield "/api/v1/chat/credit", None
    yield "/api/v1/models", None


def play(tape: Tape, path: str, body: Any) -> None:
    """Send a request to the server of a tape, and write both down."""
    if path == RECORD:
        path = f"{RECORD}?taskId={json.loads(tape.entries[0]['response']['content']['text'])['data']['taskId']}"
    content = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    method = "GET" if body is None else "POST"
    with httpx2.Client(trust_env=False, verify=False) as client:
        answer = client.request(method, tape.base + path, headers=headers, content=content)
    tape.add(path, body, answer.text, status=answer.status_code, kind=answer.headers["content-type"])


@pytest.mark.parametrize("variant", CONFORMING[::4], ids=lambda variant: variant.name)
def test_no_conforming_service_is_blamed_for_what_callers_send_it(variant: Variant) -> None:
    with serve(replace(variant, seconds=0, late=0)) as served, httpx2.Client(trust_env=False, verify=False) as client:
        tape = Tape(served.url)
        for ask in asks_of_bad_callers(served.key):
            answer = client.request(ask.method, served.url + ask.target, headers=list(ask.headers), content=ask.body)
            tape.sent(ask, answer)
    report = tape.check()
    assert report.requests > 300
    assert [finding for finding in report.findings if finding.side != "caller"] == []
    assert len(report.findings) > 10


def asks_of_bad_callers(key: str) -> Iterator[TargetRequest]:
    asks = RequestBuilder(default_contract(), (("Authorization", f"Bearer {key}"),))
    yield from (asks.create(case.payload) for case in refused())
    yield from (asks.create(body.body, body.headers) for body in raw() if len(body.body) < 1 << 16)
    wrong = [header for header in wrong_keys(key) if all(value == value.strip() for _, value in header.headers)]
    yield from (asks.with_authorization(header.headers).record("nobody") for header in wrong)
    yield from (asks.record(name) for name in (None, "", "nobody", ["a", "b"]))
    yield TargetRequest("createTask", "PUT", CREATE, asks.authorization, b"{}")


def test_a_clean_recording_conforms_and_says_what_it_cannot_tell() -> None:
    tape = Tape()
    tape.created()
    tape.looked(answer=envelope(record(state="waiting")))
    tape.looked()
    report = tape.check()
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
def test_a_broken_request_is_the_callers_fault_and_its_acceptance_the_services(body: Any, clause: str) -> None:
    refused, accepted = Tape(), Tape()
    refused.add(CREATE, body, envelope(None, 422))
    accepted.created(body=body)
    assert ("caller", clause) in found(refused.check())
    assert {side for side, _ in found(refused.check())} == {"caller"}
    assert {("caller", clause), ("service", clause)} <= found(accepted.check())
    assert accepted.check().tasks == 1


TWICE = json.dumps(REQUEST).replace('"quality": "basic"', '"quality": "best", "quality": "basic"')


@pytest.mark.parametrize(
    "body", ["\ufeff" + json.dumps(REQUEST), json.dumps(REQUEST)[:-1] + ",}", TWICE, TWICE.replace("best", "high")]
)
def test_what_a_lenient_parser_may_take_may_be_taken_or_refused(body: str) -> None:
    taken, refused_ = Tape(), Tape()
    taken.created(body=body)
    refused_.add(CREATE, body, envelope(None, 422))
    assert {side for side, _ in found(taken.check()) | found(refused_.check())} <= {"caller"}


def test_the_sample_of_a_finding_is_a_command_with_a_variable_in_place_of_the_key() -> None:
    tape = Tape()
    tape.add(CREATE, with_input(quality="best"), envelope(None, 422))
    finding = only(tape.check())
    assert '"Authorization: Bearer ${SEEDBED_API_KEY}"' in finding.sample.curl
    assert f"{BASE}{CREATE}" in finding.sample.curl
    assert '"best"' in finding.sample.curl
    assert "HTTP 200" in finding.sample.response
    assert (finding.side, finding.check) == ("caller", "traffic.requests")


def test_the_same_fault_is_one_finding_however_often_it_is_made() -> None:
    tape = Tape()
    for more in (1, 2, 3):
        tape.add(CREATE, with_input(prompt="a" * (3000 + more)), envelope(None, 422))
    finding = only(tape.check())
    assert finding.count == 3
    assert "3001" in finding.also[0]


@pytest.mark.parametrize(
    ("answer", "own", "clause"),
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
def test_a_wrong_answer_is_the_services_fault(answer: Any, own: dict[str, Any], clause: str) -> None:
    tape = Tape()
    tape.created()
    tape.looked(answer=answer, **own)
    assert ("service", clause) in found(tape.check(http_status="envelope"))


def states(*told: tuple[str, float]) -> Report:
    tape = Tape()
    tape.created()
    for state, seconds in told:
        tape.looked(answer=envelope(record(state=state)), seconds=seconds)
    return tape.check()


def test_a_task_that_goes_back_is_found() -> None:
    assert found(states(("generating", 0.1), ("waiting", 0.1))) == {("service", "life/forward")}
    assert found(states(("success", 0.1), ("generating", 0.1))) == {("service", "life/final")}


def test_of_two_looks_at_the_same_time_none_is_the_earlier() -> None:
    assert states(("generating", 5.0), ("waiting", 0.1)).conforms


def test_looks_are_taken_in_order_of_time_and_not_of_the_file() -> None:
    tape = Tape()
    tape.created()
    tape.looked(answer=envelope(record(state="waiting")))
    tape.looked()
    tape.entries.reverse()
    assert tape.check().conforms


def test_a_task_that_vanishes_is_found_and_one_that_is_late_to_appear_is_not() -> None:
    late, gone = Tape(), Tape()
    late.created()
    late.looked(answer=envelope(None, 422))
    late.looked()
    gone.created()
    gone.looked()
    gone.looked(answer=envelope(None, 422))
    assert late.check().conforms
    assert found(gone.check()) == {("service", "createTask/usable")}


@pytest.mark.parametrize("key", ["Bearer another-key", "Bearer [REDACTED]", None])
def test_a_task_may_be_unknown_to_another_key(key: str | None) -> None:
    tape = Tape()
    tape.created()
    tape.looked()
    tape.looked(answer=envelope(None, 422), key=key)
    assert tape.check().conforms


def test_of_two_keys_of_which_one_begins_like_the_other_neither_is_shown() -> None:
    tape = Tape()
    tape.created(key=f"Bearer {KEY[:-1]}")
    tape.created("task-2", with_input(quality="best"), key=f"Bearer {KEY}")
    for finding in tape.check().findings:
        assert "Bearer ${SEEDBED_API_KEY_2}" in finding.sample.curl


def test_a_word_that_is_no_key_is_left_in_the_answers() -> None:
    tape = Tape()
    tape.created(key="Bearer msg")
    tape.looked(answer="<html> msg", key="Bearer Bearer")
    finding = only(tape.check())
    assert finding.clause == "answer/json"
    assert "<html> msg" in finding.sample.response


CALLED = {**REQUEST, "callBackUrl": "http://caller.example/called?x=1"}


def called_back(message: Any, *, times: int = 1, method: str = "POST", state: str = "success") -> Report:
    tape = Tape()
    tape.created(body=CALLED)
    tape.looked(answer=envelope(record(state=state, param=json.dumps(CALLED))))
    for _ in range(times):
        tape.add("", message, "ok", request={"url": CALLED["callBackUrl"], "method": method}, key=None)
    return tape.check()


def test_a_callback_is_judged_beside_the_record_of_its_task() -> None:
    told = record(param=json.dumps(CALLED))
    report = called_back(envelope(told))
    assert report.conforms
    assert [entry.subject for entry in report.not_checked] == ["authorisation"]
    assert found(called_back(envelope(told, 501))) == {("service", "callback/code")}
    assert found(called_back(envelope({**told, "costTime": 4000}))) == {("service", "callback/same")}
    assert found(called_back(envelope({**told, "state": "waiting"}))) == {("service", "callback/final")}
    assert found(called_back(envelope(told), method="PUT")) == {("service", "callback/form")}
    assert found(called_back(envelope(told), times=2)) == {("service", "callback/once")}
    finding = only(called_back(envelope(told, 501)))
    assert (finding.check, finding.sample.curl) == ("traffic.callbacks", "")
    assert "POST /called?x=1" in finding.sample.response


@pytest.mark.parametrize(
    "message", ["", "[]", {"data": 1}, {"data": {"taskId": []}}, envelope({"taskId": "task-9"}, 501)]
)
def test_what_else_comes_to_the_caller_is_none_of_the_services_callbacks(message: Any) -> None:
    report = called_back(message)
    assert report.conforms
    assert {check.name for check in report.checks if not check.is_checked} == {"traffic.callbacks"}
    assert "1 exchange" in {entry.subject for entry in report.not_checked}


def test_two_tasks_of_one_name_are_found_and_one_exchange_recorded_twice_is_not() -> None:
    tape = Tape()
    tape.created()
    tape.entries.append(tape.entries[0])
    assert tape.check().conforms
    tape.created()
    assert found(tape.check()) == {("service", "createTask/unique")}


def test_a_task_made_before_the_recording_began_is_judged_by_its_record_alone() -> None:
    told = {"model": "another/model", "param": json.dumps({**REQUEST, "model": "another/model"})}
    tape = Tape()
    tape.looked(answer=envelope(record(**told)))
    assert tape.check().conforms
    tape.looked(answer=envelope(record(state="fail", **told)))
    assert ("service", "life/final") in found(tape.check())


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
def test_a_refusal_is_a_fault_where_the_page_leaves_no_room_for_it(body: Any, code: int, *, is_found: bool) -> None:
    tape = Tape()
    tape.add(CREATE, body, envelope(None if code != 200 else {"taskId": "a"}, code))
    tape.looked("b", envelope(record("b")))
    assert found(tape.check()) == ({("service", f"code/{code}")} if is_found else set())
    tape.entries[0]["request"]["headers"][1]["value"] = "text/plain"
    assert tape.check().conforms


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
def test_a_request_for_another_model_is_not_judged_by_this_contract(model: str, code: int, *, is_found: bool) -> None:
    tape = Tape()
    tape.add(
        CREATE, {"model": model, "input": REQUEST["input"]}, envelope({"taskId": "a"} if code == 200 else None, code)
    )
    report = tape.check()
    assert found(report) == ({("caller", "model/const")} if is_found else set())
    assert (f"tasks of {model}" in {entry.subject for entry in report.not_checked}) is not is_found


@pytest.mark.parametrize("key", [None, "Bearer [REDACTED]", "Bearer ***", "Bearer", "<hidden>", "Basic <redacted>"])
def test_a_key_that_the_recorder_took_out_is_nobodys_fault(key: str | None) -> None:
    tape = Tape()
    tape.created(key=key)
    tape.add(CREATE, with_input(quality="best"), envelope(None, 422), key=key)
    finding = only(tape.check())
    assert finding.clause == "input.quality/enum"
    assert "SEEDBED_API_KEY}" in finding.sample.curl


def test_a_key_in_another_scheme_is_the_callers_fault() -> None:
    tape = Tape()
    tape.created(key=f"Basic {KEY}")
    assert found(tape.check()) == {("caller", "operation/scheme")}


def test_another_method_is_the_callers_fault_and_how_it_is_refused_is_the_services_affair() -> None:
    tape = Tape()
    tape.add(CREATE, REQUEST, "no such method", status=405, kind="text/plain", request={"method": "PUT"})
    tape.add(RECORD, {}, "no such method", status=405, kind="text/plain")
    assert found(tape.check()) == {("caller", "operation/method"), ("caller", "recordInfo/missing")}


def test_what_is_not_of_the_service_is_counted_and_left_out() -> None:
    tape = Tape()
    tape.created()
    tape.created(request={"url": f"https://other.example{CREATE}"})
    tape.add("/style.css", None, "body {}", kind="text/css")
    tape.add("/logo.png", None, "", kind="image/png")
    tape.looked(response={"status": 0, "headers": [], "content": {}})
    tape.looked(response={"status": 200, "headers": [], "content": {"size": 40}})
    tape.looked(_resourceType="websocket")
    report = tape.check()
    assert report.conforms
    assert report.requests == 1
    told = {entry.reason: entry.subject for entry in report.not_checked}
    assert told["it goes elsewhere than to an operation of the service"] == "2 exchanges"
    assert len(told) == 6


def test_the_service_can_be_named_and_may_stand_under_a_path() -> None:
    tape = Tape(f"{BASE}/proxy")
    tape.created()
    tape.add(CREATE, REQUEST, "<html>", request={"url": f"https://other.example{CREATE}"})
    assert tape.check().remarks == [f"The traffic of {BASE}/proxy as it was recorded; nothing was sent."]
    assert found(tape.check(base_url="https://other.example/")) == {("service", "answer/json")}
    with pytest.raises(HarError, match="no call of this service: of its 2 exchanges none goes to http://nowhere/"):
        tape.check(base_url="http://nowhere")


def test_a_recording_of_something_else_cannot_be_judged() -> None:
    tape = Tape()
    tape.add("/index.html", None, "<html>", kind="text/html")
    with pytest.raises(HarError, match="of its 1 exchanges none goes to a path such as"):
        tape.check()


def test_who_waits_is_told_how_it_gets_on() -> None:
    tape = Tape()
    tape.created()
    tape.looked()
    told: list[int] = []
    tape.check(noted=told.append)
    assert sum(told) == 2
