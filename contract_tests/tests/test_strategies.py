"""The strategies, and through them every clause of the contract, against the mock server."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import find, given, settings
from seedbed_contract import BrokenRequest, breakable_clauses, keys, raw_bodies, requests, violations
from seedbed_contract.cases import Headers, KeyHeaderCase, RawBodyCase, accepted, refused
from seedbed_mock import running
from seedbed_schemas import default_contract

CONTRACT = default_contract()
URL = CONTRACT.operation.path
SUCCESS = CONTRACT.code_named("success").number
LONGEST = CONTRACT.input_fields["prompt"]["maxLength"]
JSON = (("Content-Type", "application/json"),)
REFUSED = CONTRACT.code_named("validation_error").number


@pytest.fixture(scope="module")
def service() -> Iterator[httpx2.Client]:
    with running(rate_limit="off", credits=10**9) as server:
        headers = {"Authorization": f"Bearer {server.key}"}
        with httpx2.Client(base_url=server.url, headers=headers, trust_env=False) as client:
            yield client


def send(service: httpx2.Client, body: bytes, headers: Headers = JSON) -> dict[str, object]:
    response = service.post(URL, content=body, headers=list(headers))
    assert response.status_code == 200
    envelope: dict[str, object] = response.json()
    return envelope


@given(request=requests())
def test_a_valid_request_is_accepted(service: httpx2.Client, request: object) -> None:
    response = send(service, json.dumps(request).encode())
    assert response["code"] == SUCCESS
    assert CONTRACT.answer.violations(response) == []


@pytest.mark.parametrize("clause", breakable_clauses())
def test_a_refusal_names_the_field_of_the_violated_clause(service: httpx2.Client, clause: str) -> None:
    @given(broken=violations(clauses=[clause]))
    def check(broken: BrokenRequest) -> None:
        response = send(service, broken.payload)
        assert response["code"] == REFUSED
        assert _field_of(broken.clause) in str(response["msg"])

    check()


def _field_of(clause: str) -> str:
    return clause.rpartition("/")[2] if "/required/" in clause else clause.partition("/")[0]


@given(body=raw_bodies())
def test_a_raw_body_is_handled_as_expected(service: httpx2.Client, body: RawBodyCase) -> None:
    code = send(service, body.body, body.headers)["code"]
    assert code in {"refuse": {REFUSED}, "accept": {SUCCESS}, "either": {REFUSED, SUCCESS}}[body.expected]


@given(case=keys("sk-Seedbed-0123"))
def test_a_drawn_key_is_never_the_valid_key(case: KeyHeaderCase) -> None:
    assert case.headers != ((CONTRACT.operation.header, "Bearer sk-Seedbed-0123"),)
    assert "sk-Seedbed-0123" not in repr(case)


@given(request=requests())
def test_requests_have_only_documented_fields(request: Any) -> None:
    assert CONTRACT.request.violations(request) == []
    assert request.keys() == {"model", "input"}
    assert request["input"].keys() == set(CONTRACT.input_fields)
    assert request["input"]["prompt"].strip()


@given(request=requests(unstated=True))
def test_requests_with_unstated_fields_are_valid(request: object) -> None:
    assert CONTRACT.request.violations(request) == []


@given(request=requests(callback="http://127.0.0.1:9/done"))
def test_requests_use_only_the_given_callback_url(request: Any) -> None:
    assert request.get("callBackUrl", "http://127.0.0.1:9/").startswith("http://127.0.0.1:9/")


@given(broken=violations())
def test_a_broken_request_violates_its_clause_and_no_other_field(broken: BrokenRequest) -> None:
    found = CONTRACT.request.violations(broken.request)
    assert broken.clause in {each.clause for each in found}
    assert len({each.field for each in found}) == 1
    assert not CONTRACT.request.accepts(broken.request)


def test_the_clauses_of_the_page_are_breakable() -> None:
    assert {
        "request/type",
        "request/required/model",
        "request/required/input",
        "model/const",
        "callBackUrl/format",
        "input/required/prompt",
        "input.prompt/maxLength",
        "input.aspect_ratio/enum",
        "input.quality/enum",
    } <= set(breakable_clauses())


def test_an_unknown_clause_is_an_error() -> None:
    with pytest.raises(KeyError):
        violations(clauses=["input.prompt/nonsense"])
    with pytest.raises(ValueError, match="no clause to break"):
        violations(clauses=[])


def test_the_first_hundred_examples_include_every_limit() -> None:
    lengths: set[int] = set()

    @settings(max_examples=100, database=None, derandomize=True)
    @given(request=requests())
    def collect_requests(request: Any) -> None:
        lengths.add(len(request["input"]["prompt"]))

    @settings(max_examples=100, database=None, derandomize=True)
    @given(broken=violations())
    def collect_violations(broken: BrokenRequest) -> None:
        if broken.clause == "input.prompt/maxLength":
            lengths.add(len(broken.request["input"]["prompt"]))

    collect_requests()
    collect_violations()
    assert {LONGEST - 1, LONGEST, LONGEST + 1} <= lengths


@pytest.mark.parametrize(
    ("is_defect", "smallest"),
    [
        (lambda length: length == LONGEST + 1, LONGEST + 1),
        (lambda length: length > LONGEST, LONGEST + 1),
        (lambda length: length >= LONGEST * 2, LONGEST * 2),
    ],
)
def test_a_long_prompt_shrinks_to_one_repeated_character(is_defect: Callable[[int], bool], smallest: int) -> None:
    def is_found(broken: BrokenRequest) -> bool:
        return broken.clause == "input.prompt/maxLength" and is_defect(len(broken.request["input"]["prompt"]))

    found = find(violations(), is_found, settings=settings(max_examples=3000, database=None))
    prompt = found.request["input"].pop("prompt")
    assert prompt in {"a" * smallest, "0" * smallest}
    assert found.request == {"model": CONTRACT.model, "input": {"aspect_ratio": "1:1", "quality": "basic"}}


def test_a_valid_long_prompt_shrinks_too() -> None:
    found = find(requests(), lambda request: len(request["input"]["prompt"]) > 2000, settings=settings(database=None))
    assert len(set(found["input"]["prompt"])) == 1


def test_changing_a_drawn_request_does_not_change_the_cases() -> None:
    listed = repr(accepted()), repr(refused())

    @settings(max_examples=100, database=None)
    @given(request=requests(), broken=violations())
    def spoil(request: Any, broken: BrokenRequest) -> None:
        for drawn in (request, broken.request):
            if isinstance(drawn, dict):
                drawn.pop("model", None)
            if isinstance(drawn, dict) and isinstance(drawn.get("input"), dict):
                drawn["input"].clear()

    spoil()
    assert (repr(accepted()), repr(refused())) == listed
