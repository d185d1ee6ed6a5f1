"""The strategies, and through them every clause of the contract, against a live fake."""

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


def ask(service: httpx2.Client, body: bytes, headers: Headers = JSON) -> dict[str, object]:
    response = service.post(URL, content=body, headers=list(headers))
    assert response.status_code == 200
    answer: dict[str, object] = response.json()
    return answer


@given(request=requests())
def test_a_request_that_keeps_the_contract_is_accepted(service: httpx2.Client, request: object) -> None:
    answer = ask(service, json.dumps(request).encode())
    assert answer["code"] == SUCCESS
    assert CONTRACT.answer.violations(answer) == []


@pytest.mark.parametrize("clause", breakable_clauses())
def test_a_request_that_breaks_a_clause_is_refused_by_name(service: httpx2.Client, clause: str) -> None:
    @given(violation=violations(clauses=[clause]))
    def check(violation: BrokenRequest) -> None:
        answer = ask(service, violation.payload)
        assert answer["code"] == REFUSED
        assert _field_of(violation.clause) in str(answer["msg"])

    check()


def _field_of(clause: str) -> str:
    return clause.rpartition("/")[2] if "/required/" in clause else clause.partition("/")[0]


@given(body=raw_bodies())
def test_a_raw_body_is_treated_as_it_is_meant(service: httpx2.Client, body: RawBodyCase) -> None:
    code = ask(service, body.body, body.headers)["code"]
    assert code in {"refuse": {REFUSED}, "accept": {SUCCESS}, "either": {REFUSED, SUCCESS}}[body.expected]


@given(way=keys("sk-Seedbed-0123"))
def test_what_is_drawn_for_a_key_never_is_the_key(way: KeyHeaderCase) -> None:
    assert way.headers != ((CONTRACT.operation.header, "Bearer sk-Seedbed-0123"),)
    assert "sk-Seedbed-0123" not in repr(way)


@given(request=requests())
def test_requests_say_only_what_the_page_speaks_of(request: Any) -> None:
    assert CONTRACT.request.violations(request) == []
    assert request.keys() == {"model", "input"}
    assert request["input"].keys() == set(CONTRACT.input_fields)
    assert request["input"]["prompt"].strip()


@given(request=requests(unstated=True))
def test_requests_may_say_what_no_rule_forbids(request: object) -> None:
    assert CONTRACT.request.violations(request) == []


@given(request=requests(callback="http://127.0.0.1:9/done"))
def test_only_the_given_url_is_asked_to_be_called(request: Any) -> None:
    assert request.get("callBackUrl", "http://127.0.0.1:9/").startswith("http://127.0.0.1:9/")


@given(violation=violations())
def test_a_violation_breaks_the_clause_that_it_names_and_no_other_field(violation: BrokenRequest) -> None:
    found = CONTRACT.request.violations(violation.request)
    assert violation.clause in {each.clause for each in found}
    assert len({each.field for each in found}) == 1
    assert not CONTRACT.request.accepts(violation.request)


def test_every_rule_of_the_page_can_be_broken() -> None:
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


def test_an_unknown_clause_cannot_be_broken() -> None:
    with pytest.raises(KeyError):
        violations(clauses=["input.prompt/nonsense"])
    with pytest.raises(ValueError, match="no clause to break"):
        violations(clauses=[])


def test_each_limit_is_among_the_first_examples() -> None:
    lengths: set[int] = set()

    @settings(max_examples=100, database=None, derandomize=True)
    @given(request=requests())
    def look(request: Any) -> None:
        lengths.add(len(request["input"]["prompt"]))

    @settings(max_examples=100, database=None, derandomize=True)
    @given(violation=violations())
    def look_beyond(violation: BrokenRequest) -> None:
        if violation.clause == "input.prompt/maxLength":
            lengths.add(len(violation.request["input"]["prompt"]))

    look()
    look_beyond()
    assert {LONGEST - 1, LONGEST, LONGEST + 1} <= lengths


@pytest.mark.parametrize(
    ("is_defect", "smallest"),
    [
        (lambda length: length == LONGEST + 1, LONGEST + 1),
        (lambda length: length > LONGEST, LONGEST + 1),
        (lambda length: length >= LONGEST * 2, LONGEST * 2),
    ],
)
def test_what_is_too_long_shrinks_to_one_plain_character_many_times(
    is_defect: Callable[[int], bool], smallest: int
) -> None:
    def is_found(violation: BrokenRequest) -> bool:
        return violation.clause == "input.prompt/maxLength" and is_defect(len(violation.request["input"]["prompt"]))

    found = find(violations(), is_found, settings=settings(max_examples=3000, database=None))
    prompt = found.request["input"].pop("prompt")
    assert prompt in {"a" * smallest, "0" * smallest}
    assert found.request == {"model": CONTRACT.model, "input": {"aspect_ratio": "1:1", "quality": "basic"}}


def test_an_accepted_limit_shrinks_as_well() -> None:
    found = find(requests(), lambda request: len(request["input"]["prompt"]) > 2000, settings=settings(database=None))
    assert len(set(found["input"]["prompt"])) == 1


def test_a_test_may_change_what_it_has_drawn() -> None:
    listed = repr(accepted()), repr(refused())

    @settings(max_examples=100, database=None)
    @given(request=requests(), violation=violations())
    def spoil(request: Any, violation: BrokenRequest) -> None:
        for drawn in (request, violation.request):
            if isinstance(drawn, dict):
                drawn.pop("model", None)
            if isinstance(drawn, dict) and isinstance(drawn.get("input"), dict):
                drawn["input"].clear()

    spoil()
    assert (repr(accepted()), repr(refused())) == listed
