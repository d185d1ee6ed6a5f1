"""The listed cases: their content, and how the mock server handles each of them."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from seedbed_contract import breakable_clauses
from seedbed_contract.cases import Headers, KeyHeaderCase, accepted, raw, refused, wrong_keys
from seedbed_mock import running
from seedbed_schemas import Contract, default_contract

CONTRACT = default_contract()
FIELDS = CONTRACT.input_fields
LONGEST = FIELDS["prompt"]["maxLength"]
RATIOS, QUALITIES = FIELDS["aspect_ratio"]["enum"], FIELDS["quality"]["enum"]
PLAIN = {"model": CONTRACT.model, "input": {"prompt": "a", "aspect_ratio": "1:1", "quality": "basic"}}
SUCCESS = CONTRACT.code_named("success").number
REFUSED = CONTRACT.code_named("validation_error").number
UNKNOWN = CONTRACT.code_named("unauthorized").number
KEY = "sk-Seedbed-0123"
JSON = (("Content-Type", "application/json"),)

Send = Callable[[bytes, Headers], object]


@pytest.fixture(scope="module")
def send() -> Iterator[Send]:
    with (
        running(rate_limit="off", credits=10**9, key=KEY) as server,
        httpx2.Client(base_url=server.url, trust_env=False) as client,
    ):

        def post(body: bytes, headers: Headers) -> object:
            return client.post(CONTRACT.operation.path, content=body, headers=list(headers)).json()["code"]

        yield post


def with_key(headers: Headers = JSON) -> Headers:
    return (*headers, (CONTRACT.operation.header, f"{CONTRACT.operation.scheme} {KEY}"))


def test_a_service_accepts_every_accepted_case(send: Send) -> None:
    assert [case.name for case in accepted() if send(case.payload, with_key()) != SUCCESS] == []


def test_a_service_refuses_every_refused_case(send: Send) -> None:
    assert [case.name for case in refused() if send(case.payload, with_key()) != REFUSED] == []


def test_a_service_handles_every_raw_body_as_expected(send: Send) -> None:
    expected = {"refuse": {REFUSED}, "accept": {SUCCESS}, "either": {REFUSED, SUCCESS}}
    assert [case.name for case in raw() if send(case.body, with_key(case.headers)) not in expected[case.expected]] == []


def test_a_service_refuses_every_wrong_key(send: Send) -> None:
    body = json.dumps(PLAIN).encode()
    expected = {"refuse": {UNKNOWN}, "either": {UNKNOWN, SUCCESS}}
    wrong = [case for case in wrong_keys(KEY) if send(body, (*JSON, *_sendable(case))) not in expected[case.expected]]
    assert [case.name for case in wrong] == []


def _sendable(case: KeyHeaderCase) -> Headers:
    """Return the headers as an HTTP client agrees to send them."""
    return tuple((name, value.strip()) for name, value in case.headers)


@pytest.mark.parametrize("scheme", ["", "token", "Token", "BASIC", "Bearer"])
def test_no_valid_spelling_of_a_key_has_to_be_refused(scheme: str) -> None:
    document = json.loads(json.dumps(CONTRACT.document))
    document["x-operation"]["scheme"] = scheme
    refused_values = [
        case.headers[0][1]
        for case in wrong_keys(KEY, contract=Contract(document))
        if case.expected == "refuse" and case.headers
    ]
    assert f"{scheme} {KEY}".strip().lower() not in {value.lower() for value in refused_values if KEY in value}
    assert all(value == value.strip() for value in refused_values)
    assert {f"{scheme} {KEY.upper()}".strip(), f"{scheme} {KEY.lower()}".strip()} <= set(refused_values)


@pytest.mark.parametrize("cases", [accepted(), refused(), raw(), wrong_keys(KEY)], ids=["yes", "no", "raw", "keys"])
def test_the_names_of_cases_are_unique(cases: Sequence[Any]) -> None:
    assert [name for name, count in Counter(case.name for case in cases).items() if count > 1] == []


def test_every_clause_has_refused_cases() -> None:
    assert {case.clause for case in refused()} == set(breakable_clauses())
    assert 200 < len(refused()) < 500
    assert len({json.dumps(case.request) for case in refused()}) == len(refused())


@pytest.mark.parametrize("case", refused(), ids=lambda case: case.name)
def test_a_refused_case_is_the_smallest_request_with_one_change(case: Any) -> None:
    found = CONTRACT.request.violations(case.request)
    assert case.clause in {each.clause for each in found}
    assert len({each.field for each in found}) == 1
    field = found[0].field
    if field:
        assert _without(case.request, field) == _without(PLAIN, field)


def _without(request: Any, field: str) -> Any:
    top, _, inside = field.partition(".")
    if not inside:
        return {name: value for name, value in request.items() if name != top}
    return {**request, top: {name: value for name, value in request[top].items() if name != inside}}


def test_prompts_around_the_limit_are_listed_in_three_scripts() -> None:
    kept = {case.request["input"]["prompt"] for case in accepted()}
    broken = {case.request["input"]["prompt"] for case in refused() if case.clause == "input.prompt/maxLength"}
    for letter in "a山🌄":
        assert {letter * (LONGEST - 1), letter * LONGEST} <= kept
        assert {letter * (LONGEST + more) for more in (1, 2, 100)} <= broken
        assert {letter * (LONGEST * times // 2) for times in (3, 4, 8)} <= broken
    (one_over,) = (case for case in refused() if case.name == f"input.prompt of {LONGEST + 1} characters")
    assert one_over.request == {**PLAIN, "input": {**PLAIN["input"], "prompt": "a" * (LONGEST + 1)}}  # type: ignore[dict-item]


def test_every_pair_of_options_is_accepted() -> None:
    pairs = {(case.request["input"]["aspect_ratio"], case.request["input"]["quality"]) for case in accepted()}
    assert pairs == set(itertools.product(RATIOS, QUALITIES))


@pytest.mark.parametrize(
    "value",
    [
        "BASIC",
        "Basic",
        " basic",
        "basic ",
        "ba sic",
        "ｂａｓｉｃ",
        "",
        "basi",
        "basic0",
        "1:1",
        "0",
        "basic\0",
        ["basic"],
    ],
)
def test_qualities_near_an_allowed_one_are_refused(value: object) -> None:
    assert value in [case.request["input"].get("quality") for case in _with_input(refused())]


@pytest.mark.parametrize("value", ["16:10", "9:21", " 1:1", "1：1", "1/1", "1x1", 0, 1, None, [], {}, True])
def test_ratios_near_an_allowed_one_are_refused(value: object) -> None:
    assert repr(value) in [repr(case.request["input"].get("aspect_ratio")) for case in _with_input(refused())]


def _with_input(cases: Sequence[Any]) -> list[Any]:
    return [case for case in cases if isinstance(case.request, dict) and isinstance(case.request.get("input"), dict)]


@pytest.mark.parametrize("request_body", [None, [], "", 0, False, [PLAIN], json.dumps(PLAIN)])
def test_a_request_that_is_not_an_object_is_refused(request_body: object) -> None:
    assert repr(request_body) in [repr(case.request) for case in refused() if case.clause == "request/type"]


def test_texts_that_a_lenient_parser_takes_for_a_uri_are_not_listed() -> None:
    texts = {case.request["callBackUrl"] for case in refused() if case.clause == "callBackUrl/format"}
    assert {"", "not a uri", "/callback", "//example.com/callback", "example.com/callback", "callback"} <= texts
    assert not [text for text in texts if "://" in text]


def test_a_callback_is_requested_only_with_a_url() -> None:
    assert not [case.name for case in accepted() if "callBackUrl" in case.request]
    urls_or_none = [case.request.get("callBackUrl") for case in accepted(callback="http://127.0.0.1:9/done?a=1")]
    urls = {url for url in urls_or_none if url}
    assert len(urls) == 3
    assert {urlsplit(url)[:2] for url in urls} == {("http", "127.0.0.1:9")}
    assert all(CONTRACT.request.accepts({**PLAIN, "callBackUrl": url}) for url in urls)


def test_the_accepted_cases_keep_every_clause_of_a_request() -> None:
    kept = {clause for case in accepted(callback="http://127.0.0.1:9/") for clause in case.clauses}
    stated = {clause.id for clause in CONTRACT.clauses() if not clause.id.startswith(("answer", "code/", "operation"))}
    assert kept == stated


def test_other_spellings_are_the_same_json() -> None:
    bodies = [case for case in accepted() if case.body is not None]
    assert len(bodies) > 5
    assert all(json.loads(case.body or b"") == case.request for case in bodies)
    assert [case for case in bodies if b"\\ud83c\\udf04" in (case.body or b"").lower()]


def test_a_raw_body_to_refuse_is_not_a_valid_request() -> None:
    for case in raw():
        if case.expected == "refuse":
            assert not CONTRACT.request.accepts(_parse(case.body))


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def test_the_repr_of_a_large_body_is_short() -> None:
    assert all(len(repr(case)) < 2500 for case in raw())


@pytest.mark.parametrize("key", ["a", "aba", "AB12", "sk-x_~.", "undefined", "0" * 200])
def test_a_wrong_key_is_never_the_valid_key(key: str) -> None:
    right = f"{CONTRACT.operation.scheme} {key}"
    refused_cases = [case for case in wrong_keys(key) if case.expected == "refuse"]
    assert len(refused_cases) > 8
    assert not [case for case in refused_cases if right in [value.strip() for _, value in case.headers]]
    assert not [case for case in wrong_keys("sk-Very-Secret-1") if "sk-Very-Secret-1" in repr(case)]


@pytest.mark.parametrize("key", ["", " a", "a\n", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="pass a key that the service accepts"):
        wrong_keys(key)


def test_a_contract_without_a_scheme_does_not_list_the_bare_key_as_wrong() -> None:
    operation = {**CONTRACT.document["x-operation"], "scheme": ""}
    cases = wrong_keys(KEY, contract=Contract({**CONTRACT.document, "x-operation": operation}))
    assert not [case for case in cases if case.headers == ((CONTRACT.operation.header, KEY),)]
