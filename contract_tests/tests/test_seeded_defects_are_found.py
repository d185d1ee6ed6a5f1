"""The checker finds every seeded defect and reports a clause that the defect violates."""

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import pytest
from tests.checked_defects import READING, Findings, findings_of
from tests.checking import found, run_against
from tests.minimal_service import serve
from tests.seeded_defect import SeededDefect
from tests.seeded_defects import SEEDED_DEFECTS

READING_DEFECTS = [defect for defect in SEEDED_DEFECTS if defect.name in READING]
OTHER_DEFECTS = [defect for defect in SEEDED_DEFECTS if defect.name not in READING]
QUICK = (*READING_DEFECTS[::4], *OTHER_DEFECTS[4::9])
"""The sample that every test run checks. ``pytest -m slow`` checks the rest."""
PROCESSES = 3
"""A run mostly waits, so three runs at once take hardly longer than one."""


@pytest.fixture(scope="module")
def all_findings(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Findings]]]:
    """Check the selected defects in parallel processes and return their findings by name."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    own = [item for item in items if item.originalname == test_a_defect_is_found.__name__]
    selected: list[Any] = [item.callspec.params["defect"] for item in own]
    # Defects hold lambdas, which cannot be pickled, so a process gets the index of its defect.
    pool = ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"))
    try:
        yield {defect.name: pool.submit(findings_of, SEEDED_DEFECTS.index(defect)) for defect in selected}
    finally:
        pool.shutdown(cancel_futures=True)


def test_the_quick_sample_is_large_enough() -> None:
    assert len(QUICK) >= 60
    assert len({clause.partition("/")[0] for defect in QUICK for clause in defect.clauses}) >= 20


@pytest.mark.parametrize(
    "defect",
    [
        pytest.param(defect, id=defect.name, marks=() if defect in QUICK else pytest.mark.slow)
        for defect in SEEDED_DEFECTS
    ],
)
def test_a_defect_is_found(defect: SeededDefect, all_findings: dict[str, Future[Findings]]) -> None:
    findings = all_findings[defect.name].result()
    assert {clause for clause, _, _ in findings} & set(defect.clauses), findings


def test_a_server_with_another_dialect_or_mode_than_stated_is_found() -> None:
    with serve(replace(SEEDED_DEFECTS[0].variant, http_status="mirror", dialect="observed")) as served:
        assert "answer/http-status" in {clause for clause, _, _ in found(run_against(served, http_status="envelope"))}
        report = run_against(served, dialect="documented", only=("requests.refused",))
        clauses = {clause for clause, _, _ in found(report)}
        assert "code/422" in clauses
