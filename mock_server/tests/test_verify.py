"""Verification of calls, and the messages about missing ones."""

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


def request_with(prompt: str) -> dict[str, Any]:
    return {**GOOD, "input": {**GOOD["input"], "prompt": prompt}}


def verdict(control: Control, **expected: object) -> tuple[bool, str]:
    status, content = control("POST", "/verify", expected)
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
        ({}, "createTask was called twice, as expected."),
        ({"times": 1}, "Expected createTask to be called once; it was called twice."),
        ({"times": 0}, "Expected createTask never to be called; it was called twice."),
        ({"at_least": 3}, "Expected createTask to be called at least 3 times; it was called twice."),
        ({"at_most": 1}, "Expected createTask to be called at most once; it was called twice."),
        ({"at_most": 0}, "Expected createTask never to be called; it was called twice."),
        (
            {"at_least": 3, "at_most": 5},
            "Expected createTask to be called at least 3 times and at most 5 times; it was called twice.",
        ),
        (
            {"operation": "recordInfo"},
            "Expected recordInfo to be called at least once; it was never called."
            " Calls so far: createTask twice, credit once.",
        ),
        (
            {"code": 200, "request": {"input": {"prompt": "a lake"}}},
            'Expected createTask with input.prompt "a lake" and code 200 to be called at least once; it was never'
            ' called. In the nearest call, entry N, input.prompt is "a hill", not "a lake".',
        ),
        (
            {"request": {"input": {"prompt": "a hill", "seed": 7}, "callBackUrl": None}, "code": 422},
            'Expected createTask with input.prompt "a hill", input.seed 7, callBackUrl null and code 422 to be called'
            " at least once; it was never called. In the nearest call, entry N, code is 200, not 422; input.seed is"
            " missing, not 7; callBackUrl is missing, not null.",
        ),
        (
            {"request": {"input": "a hill"}},
            'Expected createTask with input "a hill" to be called at least once; it was never called. In the nearest'
            f' call, entry N, input is {json.dumps(HILL["input"])[:60]}..., not "a hill".',
        ),
        (
            {"request": ["x"]},
            'Expected createTask with body ["x"] to be called at least once; it was never called. In the nearest call,'
            f' entry N, body is {json.dumps(HILL)[:60]}..., not ["x"].',
        ),
    ],
)
def test_a_verdict_reads_as_a_sentence(control: Control, call: Call, wanted: dict[str, Any], message: str) -> None:
    for _ in range(2):
        call("POST", CREATE, HILL)
    call("GET", CREDIT)
    number = entries(control, operation="createTask")[0]["number"]
    assert verdict(control, **wanted)[1] == message.replace("entry N", f"entry {number}")


def test_a_verdict_without_any_calls(control: Control) -> None:
    message = "Expected createTask to be called at least once; it was never called. There were no calls."
    assert verdict(control) == (False, message)
    assert verdict(control, times=0) == (True, "createTask was never called, as expected.")


def test_the_nearest_calls_come_first_with_their_differences(control: Control, call: Call) -> None:
    for prompt, quality in (("a", "basic"), ("b", "high"), ("b", "basic"), ("c", "high"), ("d", "high")):
        call("POST", CREATE, {**GOOD, "input": {**GOOD["input"], "prompt": prompt, "quality": quality}})
    content = control("POST", "/verify", {"request": {"input": {"prompt": "a", "quality": "high"}}})[1]
    first = entries(control)[0]["number"]
    assert [miss["entry"] - first for miss in content["near_misses"]] == [0, 1, 3]
    assert content["near_misses"][0]["differences"] == [
        {"where": "input.quality", "expected": "high", "found": "basic"}
    ]


def test_a_missing_field_differs_from_a_null_one(control: Control, call: Call) -> None:
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
def test_values_are_compared_as_json(
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
        ({"times": 1, "at_least": 1}, "one or the other"),
        ({"times": 1, "at_most": 1}, "one or the other"),
        ({"at_least": 2, "at_most": 1}, "less than"),
        ({"times": -1}, "times"),
        ({"times": 1.5}, "times"),
        ({"times": "1"}, "times"),
        ({"operation": "createTsk"}, "createTask, recordInfo"),
        ({"operation": ""}, "createTask, recordInfo"),
        ({"operation": "x" * 5000}, "createTask, recordInfo"),
    ],
)
def test_contradicting_expectations_are_refused(control: Control, wanted: dict[str, Any], words: str) -> None:
    status, content = control("POST", "/verify", wanted)
    assert status == 422
    assert words in content["error"]
    assert len(content["error"]) < 300


def test_the_journal_of_an_unknown_operation_is_refused(control: Control) -> None:
    assert "createTask" in control("GET", "/journal", operation="createTsk")[1]["error"]
    assert entries(control, operation="callback") == []


def test_a_long_prompt_is_truncated_in_a_message(control: Control, call: Call) -> None:
    call("POST", CREATE, request_with("灯" * PROMPT))
    assert len(verdict(control, request={"input": {"prompt": "x" * PROMPT}})[1]) < 500


def test_calls_of_one_account_and_one_space_are_verified(control: Control, call: Call) -> None:
    call("GET", CREDIT, X_Seedbed_Space="mine")
    account = entries(control)[0]["account"]
    assert verdict(control, operation="credit", account=account)[0]
    assert verdict(control, operation="credit", space="mine")[0]
    assert not verdict(control, operation="credit", space="default")[0]
    is_verified, message = verdict(control, operation="credit", account="key-other")
    assert not is_verified
    assert message.endswith(f'account is "{account}", not "key-other".')
    headers = {"X-Seedbed-Space": "default"}
    assert not control("POST", "/verify", {"operation": "credit"}, headers=headers)[1]["verified"]


def test_assert_called(seedbed: MockServer, call: Call) -> None:
    call("POST", CREATE, request_with("a hill"))
    seedbed.assert_called()
    seedbed.assert_called("createTask", 1, prompt="a hill", model=CONTRACT.model, code=200)
    seedbed.assert_called("recordInfo", times=0)
    with pytest.raises(AssertionError, match=r'input\.prompt is "a hill", not "a lake"'):
        seedbed.assert_called(prompt="a lake")
    assert [each["operation"] for each in seedbed.calls] == ["createTask"]
