"""Conforming servers, each with its own lawful choices, have no findings."""

from dataclasses import replace
from math import inf

import pytest
from seedbed_client import SeedreamClient
from seedbed_contract.checker import Options, run_checks
from seedbed_contract.target import HttpStatus, target_of
from seedbed_mock import running
from seedbed_schemas import default_contract, local
from tests.checking import found, run_against, warned
from tests.lawful_servers import LAWFUL
from tests.minimal_service import serve
from tests.minimal_variants import CONFORMING, Variant
from tests.seeded_defect import SeededDefect
from tests.seeded_defects_bodies import LENIENT
from tests.seeded_defects_gaps import SANDBOX

SEEDS = range(20)
ENVELOPES, MIRRORS = CONFORMING[: len(CONFORMING) // 2], CONFORMING[len(CONFORMING) // 2 :]
SAMPLED_VARIANTS = (ENVELOPES[0], MIRRORS[10])
QUICK_MODES = (("documented", "envelope"), ("observed", "mirror"))
MODES: tuple[HttpStatus, ...] = ("envelope", "mirror")
SIGNATURES = {"callback/signature", "callback/timestamp"}


def exhaustive_unless(*, is_quick: bool) -> tuple[pytest.MarkDecorator, ...]:
    """Return the mark of a case that runs only with ``pytest -m exhaustive``, unless it is one of the quick ones."""
    return () if is_quick else (pytest.mark.exhaustive,)


def slow_or_exhaustive(*, is_slow: bool) -> pytest.MarkDecorator:
    """Return the mark of a case that takes a whole run of the checks."""
    return pytest.mark.slow if is_slow else pytest.mark.exhaustive


@pytest.mark.parametrize(
    ("variant", "seed"),
    [
        pytest.param(
            variant,
            seed,
            id=f"{variant.name}-{seed}",
            marks=slow_or_exhaustive(is_slow=variant in SAMPLED_VARIANTS and seed == 0),
        )
        for variant in CONFORMING
        for seed in SEEDS
    ],
)
def test_a_conforming_server_has_no_finding(variant: Variant, seed: int) -> None:
    limit = 6 if variant.seconds == inf else 30
    with serve(variant) as served:
        assert found(run_against(served, seed=seed * 100 + CONFORMING.index(variant), time_limit=limit)) == []


@pytest.mark.slow
@pytest.mark.parametrize("variant", CONFORMING[:3], ids=lambda variant: variant.name)
@pytest.mark.parametrize("mode", MODES)
def test_the_dialect_and_the_http_status_mode_are_detected(variant: Variant, mode: HttpStatus) -> None:
    with serve(replace(variant, http_status=mode)) as served:
        report = run_against(served, dialect="auto", http_status="auto", only=("requests.refused", "records.*"))
    assert (report.dialect, report.http_status) == (variant.dialect, mode)
    assert found(report) == []
    assert len(report.remarks) == 2


@pytest.mark.parametrize("dialect", ["documented", "observed"])
def test_the_mock_server_with_a_large_balance_has_no_warning(dialect: str) -> None:
    with running(dialect=dialect, credits=10_000, rate_limit="off", task_seconds=0) as server:
        report = run_checks(target_of(server.url, local.KEY), Options(only=("robustness.*",)))
    assert found(report) == warned(report) == []
    assert all(check.is_checked for check in report.checks)


def test_a_careful_independent_server_has_no_warning() -> None:
    with serve(Variant()) as served:
        report = run_against(served, only=("requests.*", "robustness.*"))
    assert found(report) == warned(report) == []


@pytest.mark.parametrize(
    "lawful",
    [
        pytest.param(lawful, id=lawful.name, marks=slow_or_exhaustive(is_slow=number % 12 == 0))
        for number, lawful in enumerate(LAWFUL)
    ],
)
def test_a_lawful_difference_is_no_error(lawful: SeededDefect) -> None:
    with lawful.serve(seconds=0.2) as served:
        assert found(run_against(served)) == []


def test_every_code_can_be_forced_by_a_key_or_a_header() -> None:
    only = ("faults.codes",)
    with SANDBOX.serve() as served:
        forced = run_against(served, only=only, force_with="authorization: Bearer force-{code}")
    with running(task_seconds=0) as server:
        target = target_of(server.url, server.key, force_with=f"{local.FAULT_HEADER}: {{code}}")
        by_header = run_checks(target, Options(only=only))
        by_key = run_checks(replace(target, force_with="Authorization: Bearer seedbed-{code}"), Options(only=only))
    for report in (forced, by_header, by_key):
        assert found(report) == warned(report) == []
        assert [check.is_checked for check in report.checks] == [True]
        exercised = {each.clause.id for each in report.coverage if each.clause.kind == "code" and each.accepting}
        assert len(exercised) >= len(default_contract().codes) - 1


@pytest.mark.parametrize("lenient", LENIENT, ids=lambda lenient: lenient.name)
def test_behaviour_that_the_page_does_not_cover_is_not_reported(lenient: SeededDefect) -> None:
    with lenient.serve() as served:
        assert found(run_against(served, only=("requests.*",))) == []


@pytest.mark.parametrize(
    ("dialect", "http_status", "seed"),
    [
        pytest.param(
            dialect, mode, seed, marks=exhaustive_unless(is_quick=(dialect, mode) in QUICK_MODES and seed == 0)
        )
        for dialect in ("documented", "observed")
        for mode in MODES
        for seed in SEEDS
    ],
)
def test_the_mock_server_has_no_finding_and_every_clause_is_exercised(
    dialect: str, http_status: HttpStatus, seed: int
) -> None:
    with running(dialect=dialect, http_status=http_status, credits=80, rate_limit="20/10", task_seconds=1) as server:
        report = run_checks(target_of(server.url, local.KEY), Options(seed=seed))
    assert found(report) == warned(report) == []
    assert (report.dialect, report.http_status) == (dialect, http_status)
    assert [covered.clause.id for covered in report.coverage if not covered.accepting] == []
    counted = {covered.clause.id for covered in report.coverage}
    assert ("record/creditsConsumed/type" in counted) == (dialect == "observed")
    assert not counted & SIGNATURES
    assert not [covered.clause.id for covered in report.coverage if covered.refusing == 0]


@pytest.mark.slow
def test_with_all_keys_of_the_mock_server_the_remaining_clauses_are_exercised() -> None:
    keys = ("first:credits=1000,signing-key=whsec-check", "second")
    with running(key=keys, task_seconds=0, rate_limit="20/10") as server:
        target = target_of(server.url, "first", second_key="second", signing_key="whsec-check")
        report = run_checks(target, Options())
    assert found(report) == []
    exercised = {covered.clause.id for covered in report.coverage if covered.accepting}
    assert exercised >= SIGNATURES


def test_a_run_does_not_change_the_accounts_of_the_mock_server() -> None:
    with running(credits=80, task_seconds=0) as server:
        run_checks(target_of(server.url, server.key), Options(only=("requests.accepted",)))
        with SeedreamClient(server.url, server.key) as client:
            assert client.credits() == 80
