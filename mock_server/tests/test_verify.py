"""The verdicts on what was called, and how they read."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from seedbed_mock import MockServer
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of

CONTRACT, SHARED = default_contract(), job_api()
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
CREATE, CREDIT = CONTRACT.operation.path, SHARED.credit.path
PROMPT: int = CONTRACT.part("request")["properties"]["input"]["properties"]["prompt"]["maxLength"]

HILL = {"model": CONTRACT.model, "input": {"prompt": "a hill", "aspect_ratio": "1:1", "quality": "basic"}}

Control = Callable[..., tuple[int, Any]]
Call = Callable[..., dict[str, Any]]


def entries(control: Control, **query: object) -> list[dict[str, Any]]:
    status, content = control("GET", "/journal", **query)
    assert status == 200
    found: list[dict[str, Any]] = content["entries"]
    return found


def asked(prompt: str) -> dict[str, Any]:
    return {**GOOD, "input": {**GOOD["input"], "prompt": prompt}}


def verdict(control: Control, **wanted: object) -> tuple[bool, str]:
    status, content = control("POST", "/verify", wanted)
    assert status == 200, content
    return content["verified"], content["message"]


@pytest.mark.parametrize(
    ("calls", "wanted", "verified"),
    [
        (0, {}, False),
        (1, {}, True),
        (3, {}, True),
        (0, {"times": 0}, True),
        (1, {"times": 0}, False),
        (2, {"times": 2}, True),
        (3, {"times": 2}, False),
        (1, {"at_least": 2}, False),
        (2, {"at_least": 2}, True),
        (0, {"at_most": 1}, True),
        (2, {"at_most": 1}, False),
        (2, {"at_least": 1, "at_most": 3}, True),
        (4, {"at_least": 1, "at_most": 3}, False),
        (0, {"at_least": 0}, True),
    ],
)
def test_calls_are_counted(control: Control, call: Call, calls: int, wanted: dict[str, int], verified: bool) -> None:  # noqa: FBT001
    for _ in range(calls):
        call("GET", CREDIT)
    content = control("POST", "/verify", {"operation": "credit", **wanted})[1]
    assert (content["verified"], content["matched"]) == (verified, calls)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, "createTask was called twice, as it should have been."),
        ({"times": 1}, "createTask was called twice; it should have been called once."),
        ({"times": 0}, "createTask was called twice; it should never have been called."),
        ({"at_least": 3}, "createTask was called twice; it should have been called at least 3 times."),
        ({"at_most": 1}, "createTask was called twice; it should have been called at most once."),
        ({"at_most": 0}, "createTask was called twice; it should never have been called."),
        (
            {"at_least": 3, "at_most": 5},
            "createTask was called twice; it should have been called at least 3 times and at most 5 times.",
        ),
        (
            {"operation": "recordInfo"},
            "recordInfo was never called; it should have been called at least once."
            " What was called: createTask twice, credit once.",
        ),
        (
            {"code": 200, "request": {"input": {"prompt": "a lake"}}},
            'createTask with input.prompt "a lake" and code 200 was never called; it should have been called at least'
            ' once. The nearest call, entry N, had input.prompt "a hill", not "a lake".',
        ),
        (
            {"request": {"input": {"prompt": "a hill", "seed": 7}, "callBackUrl": None}, "code": 422},
            'createTask with input.prompt "a hill", input.seed 7, callBackUrl null and code 422 was never called; it'
            " should have been called at least once. The nearest call, entry N, had code 200, not 422; no input.seed,"
            " not 7; no callBackUrl, not null.",
        ),
        (
            {"request": {"input": "a hill"}},
            'createTask with input "a hill" was never called; it should have been called at least once. The nearest'
            f' call, entry N, had input {json.dumps(HILL["input"])[:60]}..., not "a hill".',
        ),
        (
            {"request": ["x"]},
            'createTask with body ["x"] was never called; it should have been called at least once. The nearest call,'
            f' entry N, had body {json.dumps(HILL)[:60]}..., not ["x"].',
        ),
    ],
)
def test_a_verdict_reads_as_a_sentence(control: Control, call: Call, wanted: dict[str, Any], message: str) -> None:
    for _ in range(2):
        call("POST", CREATE, HILL)
    call("GET", CREDIT)
    number = entries(control, operation="createTask")[0]["number"]
    assert verdict(control, **wanted)[1] == message.replace("entry N", f"entry {number}")


def test_nothing_called_at_all_is_told_so(control: Control) -> None:
    told = "createTask was never called; it should have been called at least once. Nothing was called at all."
    assert verdict(control) == (False, told)
    assert verdict(control, times=0) == (True, "createTask was never called, as it should have been.")


def test_the_nearest_misses_come_first_with_how_they_differ(control: Control, call: Call) -> None:
    for prompt, quality in (("a", "basic"), ("b", "high"), ("b", "basic"), ("c", "high"), ("d", "high")):
        call("POST", CREATE, {**GOOD, "input": {**GOOD["input"], "prompt": prompt, "quality": quality}})
    content = control("POST", "/verify", {"request": {"input": {"prompt": "a", "quality": "high"}}})[1]
    first = entries(control)[0]["number"]
    assert [miss["entry"] - first for miss in content["near_misses"]] == [0, 1, 3]
    assert content["near_misses"][0]["differences"] == [
        {"where": "input.quality", "expected": "high", "found": "basic"}
    ]


def test_what_is_missing_is_found_nowhere_and_what_is_null_is(control: Control, call: Call) -> None:
    call("POST", CREATE, {**GOOD, "extra": None})
    wanted = {"request": {"extra": 1, "callBackUrl": 1}}
    differences = control("POST", "/verify", wanted)[1]["near_misses"][0]["differences"]
    assert differences == [{"where": "extra", "expected": 1, "found": None}, {"where": "callBackUrl", "expected": 1}]


@pytest.mark.parametrize(
    ("sent", "wanted", "is_like"),
    [
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": False}, {"a": 0}, False),
        ({"a": [1, True]}, {"a": [1, 1]}, False),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 1}]}, True),
        ({"a": {"b": {}}}, {"a": {"b": {}}}, True),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": {}}, {"a": None}, False),
    ],
)
def test_values_are_alike_as_json_has_it(
    control: Control,
    call: Call,
    sent: dict[str, Any],
    wanted: dict[str, Any],
    is_like: bool,  # noqa: FBT001
) -> None:
    call("POST", CREATE, {**GOOD, "more": sent})
    assert verdict(control, request={"more": wanted})[0] is is_like


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"times": 1, "at_least": 1}, "not both"),
        ({"times": 1, "at_most": 1}, "not both"),
        ({"at_least": 2, "at_most": 1}, "less than"),
        ({"times": -1}, "times"),
        ({"times": 1.5}, "times"),
        ({"times": "1"}, "times"),
        ({"operation": "createTsk"}, "createTask, recordInfo"),
        ({"operation": ""}, "createTask, recordInfo"),
        ({"operation": "x" * 5000}, "createTask, recordInfo"),
    ],
)
def test_what_could_never_be_is_refused(control: Control, wanted: dict[str, Any], words: str) -> None:
    status, content = control("POST", "/verify", wanted)
    assert status == 422
    assert words in content["error"]
    assert len(content["error"]) < 300


def test_a_journal_of_an_operation_that_there_is_not_is_refused(control: Control) -> None:
    assert "createTask" in control("GET", "/journal", operation="createTsk")[1]["error"]
    assert entries(control, operation="callback") == []


def test_a_long_prompt_is_cut_in_a_verdict(control: Control, call: Call) -> None:
    call("POST", CREATE, asked("灯" * PROMPT))
    assert len(verdict(control, request={"input": {"prompt": "x" * PROMPT}})[1]) < 500


def test_a_verdict_may_ask_for_an_account_and_a_space(control: Control, call: Call) -> None:
    call("GET", CREDIT, X_Seedbed_Space="mine")
    account = entries(control)[0]["account"]
    assert verdict(control, operation="credit", account=account)[0]
    assert verdict(control, operation="credit", space="mine")[0]
    assert not verdict(control, operation="credit", space="default")[0]
    refused, told = verdict(control, operation="credit", account="key-other")
    assert not refused
    assert told.endswith(f'had account "{account}", not "key-other".')
    headers = {"X-Seedbed-Space": "default"}
    assert not control("POST", "/verify", {"operation": "credit"}, headers=headers)[1]["verified"]


def test_a_test_may_check_its_calls_in_a_line(seedbed: MockServer, call: Call) -> None:
    call("POST", CREATE, asked("a hill"))
    seedbed.assert_called()
    seedbed.assert_called("createTask", 1, prompt="a hill", model=CONTRACT.model, code=200)
    seedbed.assert_called("recordInfo", times=0)
    with pytest.raises(AssertionError, match=r'had input\.prompt "a hill", not "a lake"'):
        seedbed.assert_called(prompt="a lake")
    assert [each["operation"] for each in seedbed.calls] == ["createTask"]
