"""The checker finds every seeded defect and reports a clause that the defect violates."""

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import cast

import pytest
from seedbed_schemas.clauses import Level
from tests.checked_defects import READING, Findings, findings_of
from tests.checking import found, run_against
from tests.minimal_service import serve
from tests.seeded_defect import SeededDefect
from tests.seeded_defects import SEEDED_DEFECTS

READING_DEFECTS = [defect for defect in SEEDED_DEFECTS if defect.name in READING]
OTHER_DEFECTS = [defect for defect in SEEDED_DEFECTS if defect.name not in READING]
SAMPLE = (*READING_DEFECTS[::4], *OTHER_DEFECTS[4::9])
SLOW = SAMPLE[::3]
"""The part of the sample that ``pytest -m slow`` checks; the rest is exhaustive."""
PROCESSES = 2
"""A run mostly waits, so two runs at once take hardly longer than one."""
AHEAD = 3


class Runs:
    """Checks of the selected defects in parallel processes, started a few tests before their findings are needed.

    With pytest-xdist, several workers share the tests, so a worker that started all checks would do the work of others.
    """

    def __init__(self, selected: list[SeededDefect], pool: ProcessPoolExecutor) -> None:
        self.selected, self.pool = selected, pool
        self.started: dict[str, Future[dict[Level, Findings]]] = {}

    def findings(self, defect: SeededDefect) -> dict[Level, Findings]:
        position = self.selected.index(defect)
        for each in self.selected[position : position + AHEAD]:
            if each.name not in self.started:
                # Defects hold lambdas, which cannot be pickled, so a process gets the index of its defect.
                self.started[each.name] = self.pool.submit(findings_of, SEEDED_DEFECTS.index(each))
        return self.started[defect.name].result()


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[Runs]:
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    own = [item for item in items if item.originalname == test_a_defect_is_found.__name__]
    pool = ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn"))
    try:
        yield Runs([cast("SeededDefect", item.callspec.params["defect"]) for item in own], pool)
    finally:
        pool.shutdown(cancel_futures=True)


def marks_of(defect: SeededDefect) -> tuple[pytest.MarkDecorator, ...]:
    return (pytest.mark.slow if defect in SLOW else pytest.mark.exhaustive,)


def test_the_sample_is_large_enough() -> None:
    assert len(SAMPLE) >= 60
    assert len({clause.partition("/")[0] for defect in SAMPLE for clause in defect.clauses}) >= 20


@pytest.mark.parametrize(
    "defect", [pytest.param(defect, id=defect.name, marks=marks_of(defect)) for defect in SEEDED_DEFECTS]
)
def test_a_defect_is_found(defect: SeededDefect, runs: Runs) -> None:
    findings = runs.findings(defect)
    assert {clause for clause, _, _ in findings[defect.level]} & set(defect.clauses), findings
    assert defect.level == "error" or findings["error"] == []


@pytest.mark.slow
def test_a_server_with_another_dialect_or_mode_than_stated_is_found() -> None:
    with serve(replace(SEEDED_DEFECTS[0].variant, http_status="mirror", dialect="observed")) as served:
        report = run_against(served, http_status="envelope", only=("requests.refused",))
        assert "answer/http-status" in {clause for clause, _, _ in found(report)}
        report = run_against(served, dialect="documented", only=("requests.refused",))
        clauses = {clause for clause, _, _ in found(report)}
        assert "code/422" in clauses
