"""Contracts of every shape: cases and strategies keep to them, and a mock server that plays one passes its check."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seedbed_contract import breakable_clauses, requests, violations
from seedbed_contract.cases import accepted, raw, refused
from seedbed_contract.checker import Options, run_checks
from seedbed_contract.checks.result_images import image_defects
from seedbed_contract.findings import Report
from seedbed_contract.generation.violations import IMPLIED_BY_TYPE
from seedbed_contract.http import TargetResponse
from seedbed_contract.target import HttpStatus, target_of
from seedbed_mock import running
from seedbed_schemas import Contract
from tests.checking import found
from tests.made_contracts import SHAPES, contracts

NAMES = sorted(SHAPES)
MODES: tuple[HttpStatus, ...] = ("envelope", "mirror")
SLOW = [
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
    HealthCheck.nested_given,  # strategies of a contract draw with checks of their own
]


def check_draws(contract: Contract, data: st.DataObject) -> None:
    """Check that every case and every drawn request is what it says."""
    assert all(contract.request.accepts(json.loads(case.payload)) for case in accepted(contract))
    assert not any(contract.request.accepts(case.request) for case in refused(contract))
    assert all(contract.request.accepts(json.loads(body.body)) for body in raw(contract) if body.expected == "accept")
    assert "request/type" in breakable_clauses(contract)
    for strategy in (requests(contract), requests(contract, unstated=True)):
        assert contract.request.accepts(data.draw(strategy))
    broken = data.draw(violations(contract))
    assert {broken.clause, *broken.also} == {
        violation.clause for violation in contract.request.violations(broken.request)
    }
    assert not broken.also or broken.clause.endswith("/type")


def check_mock_server(contract: Contract, dialect: str, http_status: HttpStatus) -> Report:
    with running(
        contracts=[contract],
        dialect=dialect,
        http_status=http_status,
        rate_limit="off",
        credits=10**6,
        task_seconds=0,
    ) as server:
        return run_checks(target_of(server.url, server.key), Options(contract=contract, max_examples=20))


@pytest.mark.parametrize("name", NAMES)
def test_cases_and_strategies_keep_to_a_contract_of_any_shape(name: str) -> None:
    @settings(max_examples=10)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        check_draws(SHAPES[name], data)

    check()


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=SLOW)
@given(contracts(), st.data())
def test_cases_and_strategies_keep_to_a_made_contract(contract: Contract, data: st.DataObject) -> None:
    check_draws(contract, data)


@pytest.mark.exhaustive
@settings(max_examples=500, suppress_health_check=SLOW)
@given(contracts(), st.data())
def test_cases_and_strategies_keep_to_many_made_contracts(contract: Contract, data: st.DataObject) -> None:
    check_draws(contract, data)


def test_drawn_violations_break_one_clause_except_for_types_of_listed_values() -> None:
    """Of many draws, only the type of a field with listed values is broken together with another clause."""
    counts = {"single": 0, "with the options": 0, "other": 0}

    @settings(max_examples=600, database=None, derandomize=True)
    @given(violations())
    def count(broken: Any) -> None:
        field, _, keyword = broken.clause.rpartition("/")
        implied = {f"{field}/{name}" for name in IMPLIED_BY_TYPE}
        others = {each.clause for each in default.request.violations(broken.request)} - {broken.clause}
        kind = "single" if not others else "with the options" if keyword == "type" and others <= implied else "other"
        counts[kind] += 1
        assert others == set(broken.also)

    default = Contract.load()
    count()
    assert counts["other"] == 0
    assert counts["single"] > counts["with the options"] > 0


@pytest.mark.parametrize(
    ("media_type", "body", "is_image", "is_found"),
    [
        ("video/mp4", b"\0\0\0\x20ftypisom", False, False),
        ("audio/mpeg", b"ID3", False, False),
        ("application/octet-stream", b"\0", False, False),
        ("video/mp4", b"", False, True),
        ("text/html", b"<html>", False, True),
        ("application/json", b"{}", False, True),
        ("", b"x", False, True),
        ("video/mp4", b"\0\0\0\x20ftypisom", True, True),
    ],
)
def test_a_result_must_be_an_image_only_of_a_model_that_makes_images(
    media_type: str, body: bytes, *, is_image: bool, is_found: bool
) -> None:
    response = TargetResponse(200, (("content-type", media_type),), body)
    assert bool(list(image_defects(response, None, is_image=is_image))) is is_found


def test_no_clause_is_breakable_that_no_request_can_break() -> None:
    clauses = set(breakable_clauses(SHAPES["rules that cannot be broken"]))
    assert not {"input.text/minLength", "input.image_urls/minItems"} & clauses
    assert "input.image_urls/maxItems" in clauses


def mark_of(name: str, dialect: str, http_status: HttpStatus) -> tuple[pytest.MarkDecorator, ...]:
    """Return the mark of a run: one is quick, some are slow, and the rest is exhaustive."""
    if (name, dialect, http_status) == ("no input", "observed", "envelope"):
        return ()
    slow = {"callback required": "documented", "more answer fields": "observed", "video": "observed"}
    is_slow = http_status == "mirror" and slow.get(name) == dialect
    return (pytest.mark.slow if is_slow else pytest.mark.exhaustive,)


@pytest.mark.parametrize(
    ("name", "dialect", "http_status"),
    [
        pytest.param(name, dialect, http_status, marks=mark_of(name, dialect, http_status))
        for name in NAMES
        for dialect in ("documented", "observed")
        for http_status in MODES
    ],
)
def test_a_mock_server_passes_the_check_by_its_own_contract(name: str, dialect: str, http_status: HttpStatus) -> None:
    report = check_mock_server(SHAPES[name], dialect, http_status)
    assert found(report) == []
    assert report.dialect == dialect
    assert report.tasks


@pytest.mark.exhaustive
@settings(max_examples=100, suppress_health_check=SLOW)
@given(contracts(), st.sampled_from(("documented", "observed")), st.sampled_from(MODES))
def test_a_mock_server_passes_the_check_by_any_made_contract(
    contract: Contract, dialect: str, http_status: HttpStatus
) -> None:
    assert found(check_mock_server(contract, dialect, http_status)) == []
