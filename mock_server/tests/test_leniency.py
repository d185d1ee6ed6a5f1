"""Where the server takes what a service takes: compressed bodies, empty callback URLs, and patched contracts."""

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from seedbed_contract.target import Expectations
from seedbed_mock import MockServer, ServerOptions, running
from seedbed_mock.request_body import LARGEST_BODY, decode_body
from seedbed_mock.serve import serve
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.contract import ContractError, merged
from seedbed_schemas.dialect import dialects
from seedbed_schemas.openapi import example_of

CONTRACT, SHARED = default_contract(), job_api()
CREATE, CALLBACK, INPUT = CONTRACT.operation.path, SHARED.fields.callback, SHARED.fields.input
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
BODY = json.dumps(GOOD).encode()
Call = Callable[..., dict[str, Any]]


# Compressed bodies


def deflated(content: bytes, level: int = 9) -> bytes:
    return zlib.compress(content, level)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("deflate", deflated(BODY)),
        ("identity", BODY),
        ("", BODY),
    ],
)
def test_a_compressed_body_is_decoded(seedbed: MockServer, call: Call, encoding: str, body: bytes) -> None:
    assert call("POST", CREATE, body, Content_Encoding=encoding)["code"] == 200
    assert seedbed.calls[0]["request"] == GOOD


@pytest.mark.parametrize(
    ("encoding", "body", "problem"),
    [
        ("gzip", BODY, "the body is not valid gzip"),
        ("gzip", gzip.compress(BODY)[:-9], "the body is not whole gzip; its end is missing"),
        ("gzip", gzip.compress(BODY)[:20], "the body is not whole gzip; its end is missing"),
        ("deflate", gzip.compress(BODY), "the body is not valid deflate"),
        ("br", BODY, "the encoding br is not supported; send gzip, deflate or none"),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY)), "the encoding gzip, gzip is not supported"),
        ("gzip", gzip.compress(b"x" * (LARGEST_BODY + 1)), f"the body is larger than {LARGEST_BODY} bytes"),
        ("gzip", gzip.compress(b"0" * 50_000_000, 1), f"the body is larger than {LARGEST_BODY} bytes"),
        ("gzip", gzip.compress(b""), "the body is empty"),
        ("gzip", gzip.compress(b"{"), "the body is not JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_body_that_cannot_be_decoded_is_refused_with_the_reason(
    call: Call, encoding: str, body: bytes, problem: str
) -> None:
    response = call("POST", CREATE, body, Content_Encoding=encoding)
    assert response["code"] == 422
    assert problem in response["msg"]


def test_a_wrong_key_comes_before_a_wrong_encoding(call: Call) -> None:
    assert call("POST", CREATE, BODY, key="wrong", Content_Encoding="br")["code"] == 401
    assert call("GET", SHARED.credit.path, Content_Encoding="br")["code"] == 200


def test_no_more_than_the_limit_is_decoded() -> None:
    assert decode_body(gzip.compress(b"x" * LARGEST_BODY), b"gzip") == b"x" * LARGEST_BODY
    assert decode_body(gzip.compress(b"x" * (LARGEST_BODY + 1)), b"gzip") is None


# Empty callback URLs


@pytest.mark.parametrize("url", ["", None])
def test_an_empty_callback_url_is_invalid_as_documented_and_none_as_observed(
    seedbed: MockServer, call: Call, url: str | None
) -> None:
    assert call("POST", CREATE, {**GOOD, CALLBACK: url})["code"] == 422
    lenient: list[dict[str, Any]] = [{"dialect": "observed"}, {"accept_empty_callback": True}]
    for options in lenient:
        seedbed.play(**options)
        task_id = call("POST", CREATE, {**GOOD, CALLBACK: url})["data"]["taskId"]
        assert seedbed.task(task_id)["callback"] is None
        assert call("POST", CREATE, {**GOOD, CALLBACK: 5})["code"] in {422, 500}
        assert call("POST", CREATE, {**GOOD, CALLBACK: " "})["code"] in {422, 500}
    seedbed.play(dialect="observed")
    task_id = call("POST", CREATE, {**GOOD, CALLBACK: url})["data"]["taskId"]
    assert CALLBACK not in json.loads(seedbed.task(task_id)["record"]["param"])


def test_a_contract_that_allows_an_empty_url_makes_no_callback(seedbed: MockServer, call: Call) -> None:
    patch = {"$defs": {"request": {"properties": {CALLBACK: {"format": None, "type": ["string", "null"]}}}}}
    seedbed.play(contract_patch=patch)
    for url in ("", None):
        assert seedbed.task(call("POST", CREATE, {**GOOD, CALLBACK: url})["data"]["taskId"])["callback"] is None


@pytest.mark.parametrize(("dialect", "may_be"), [("documented", False), ("observed", True)])
def test_the_checker_allows_both_outcomes_where_the_dialect_is_lenient(dialect: str, *, may_be: bool) -> None:
    expectations = Expectations(CONTRACT, dialects()[dialect], "envelope")
    for url in ("", None):
        assert expectations.may_be_accepted({**GOOD, CALLBACK: url}) is may_be
    assert not expectations.may_be_accepted({**GOOD, CALLBACK: "no url"})
    assert not expectations.may_be_accepted({CALLBACK: ""})


# Misspelt fields


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        ("aspect_ratio", "aspectRatio"),
        ("aspect_ratio", "Aspect-Ratio"),
        ("aspect_ratio", "aspect_ration"),
        ("prompt", "promt"),
    ],
)
def test_a_misspelt_field_is_named_beside_the_missing_one(call: Call, field: str, sent: str) -> None:
    values = {sent if name == field else name: value for name, value in GOOD[INPUT].items()}
    message = call("POST", CREATE, {**GOOD, INPUT: values})["msg"]
    assert f"input.{field} is required, and {sent} is unknown: did you mean {field}?" in message


@pytest.mark.parametrize("sent", ["size", "quality", "x" * 5000, "\x1b[31m"])
def test_a_field_that_is_not_like_the_missing_one_is_not_named(call: Call, sent: str) -> None:
    values = {**{name: value for name, value in GOOD[INPUT].items() if name != "aspect_ratio"}, sent: "1:1"}
    message = call("POST", CREATE, {**GOOD, INPUT: values})["msg"]
    assert "input.aspect_ratio is required" in message
    assert "did you mean" not in message


def test_a_misspelt_top_level_field_is_named(call: Call) -> None:
    assert (
        "input is required, and inputs is unknown: did you mean input?"
        in call("POST", CREATE, {"model": CONTRACT.model, "inputs": {}})["msg"]
    )


# Patched contracts


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [  # the examples of RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_patch_is_applied_as_the_standard_says(document: Any, patch: Any, result: Any) -> None:
    before = json.dumps(document)
    assert merged(document, patch) == result
    assert json.dumps(document) == before


LONGER = {"$defs": {"request": {"properties": {INPUT: {"properties": {"prompt": {"maxLength": 5000}}}}}}}


def test_a_patch_changes_what_the_server_accepts(tmp_path: Path, seedbed: MockServer, call: Call) -> None:
    file = tmp_path / "patch.json"
    # As an editor on Windows writes it.
    file.write_text("\ufeff" + json.dumps({"title": CONTRACT.model, **LONGER}), encoding="utf-8")
    request = {**GOOD, INPUT: {**GOOD[INPUT], "prompt": "x" * 4000}}
    assert call("POST", CREATE, request)["code"] == 422
    patches: list[Any] = [file, str(file), [file], LONGER, [LONGER, {"x-note": 1}]]
    for patch in patches:
        seedbed.play(contract_patch=patch)
        assert call("POST", CREATE, request)["code"] == 200
    assert CONTRACT.part("request")["properties"][INPUT]["properties"]["prompt"]["maxLength"] < 4000


@pytest.mark.parametrize(
    ("patch", "sentence"),
    [
        ({"title": "no/model"}, "The contract patch patches the model 'no/model'; the models are "),
        ({"x-codes": None}, f"The contract patch makes the contract of {CONTRACT.model} invalid: x-codes is required."),
        ("missing.json", "No such file"),
        ("list.json", "list.json is not a contract patch: it must be a JSON object."),
        ("broken.json", "broken.json is not a contract patch: it is not JSON."),
    ],
)
def test_an_invalid_patch_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: Any, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("[]", encoding="utf-8")
    Path("broken.json").write_text("{", encoding="utf-8")
    with pytest.raises((ContractError, OSError)) as caught, running(contract_patch=patch):
        pytest.fail("the block ran")
    assert sentence in str(caught.value)


def test_serve_reports_an_invalid_patch(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(options=ServerOptions(port=0, contract_patch="missing.json")) == 2
    assert capsys.readouterr().err == (
        "seedbed serve: missing.json: No such file or directory.\ndocs: commands#seedbed-serve\n"
    )
