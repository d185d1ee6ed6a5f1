"""The strategies, and through them every clause of the contract, against a live fake."""

from collections.abc import Iterator

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seedbed_contract import BrokenRequest, breakable_clauses, broken_requests, malformed_bodies, requests
from seedbed_mock import running
from seedbed_schemas import default_contract

CONTRACT = default_contract()
URL = CONTRACT.operation.path
SUCCESS = CONTRACT.code_named("success").number
REFUSED = CONTRACT.code_named("validation_error").number


@pytest.fixture(scope="module")
def service() -> Iterator[httpx2.Client]:
    with running(rate_limit="off", credits=10**9) as server:
        headers = {"Authorization": f"Bearer {server.key}"}
        with httpx2.Client(base_url=server.url, headers=headers, trust_env=False) as client:
            yield client


def ask(service: httpx2.Client, body: bytes) -> dict[str, object]:
    response = service.post(URL, content=body)
    assert response.status_code == 200
    answer: dict[str, object] = response.json()
    return answer


@given(request=requests())
def test_a_request_that_keeps_the_contract_is_accepted(service: httpx2.Client, request: object) -> None:
    answer = ask(service, BrokenRequest("", request).body)
    assert answer["code"] == SUCCESS
    assert CONTRACT.answer.violations(answer) == []


@pytest.mark.parametrize("clause", breakable_clauses())
def test_a_request_that_breaks_a_clause_is_refused_by_name(service: httpx2.Client, clause: str) -> None:
    @given(broken=broken_requests(clauses=[clause]))
    def check(broken: BrokenRequest) -> None:
        answer = ask(service, broken.body)
        assert answer["code"] == REFUSED
        field = broken.clause.rpartition("/")[2] if "/required/" in broken.clause else broken.clause.partition("/")[0]
        assert field in str(answer["msg"])

    check()


@given(body=malformed_bodies())
def test_a_body_that_is_no_request_is_refused(service: httpx2.Client, body: bytes) -> None:
    answer = ask(service, body)
    assert answer["code"] == REFUSED
    assert answer["data"] is None


@given(request=requests())
def test_both_judges_agree_that_a_good_request_is_good(request: object) -> None:
    assert CONTRACT.request.accepts(request)


@given(broken=broken_requests())
def test_both_judges_agree_that_a_broken_request_is_broken(broken: BrokenRequest) -> None:
    assert not CONTRACT.request.accepts(broken.request)


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


@given(data=st.data())
def test_an_unknown_clause_cannot_be_broken(data: st.DataObject) -> None:
    with pytest.raises(KeyError):
        data.draw(broken_requests(clauses=["input.prompt/nonsense"]))
