"""Recorded traffic is checked on both sides, and what a recording does not show is not reported."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from seedbed_contract.cases import raw, refused, wrong_keys
from seedbed_contract.http import RequestBuilder, TargetRequest
from seedbed_contract.reports import html_report, json_report, junit_report, markdown_report
from seedbed_contract.traffic import HarError
from seedbed_mock import ManualClock, running
from seedbed_schemas import default_contract
from tests.minimal_service import serve
from tests.minimal_variants import CONFORMING, Variant
from tests.recorder import BASE, CREATE, KEY, RECORD, REQUEST, Recorder, envelope, found, only, record, with_input

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@pytest.mark.slow
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
