"""Every server that breaks the contract in one way is found to, by the right clause."""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest
from tests.checked_defects import READING, Findings, findings_of
from tests.judging import found, judged
from tests.minimal_service import serve
from tests.seeded_defect import SeededDefect
from tests.seeded_defects import SEEDED_DEFECTS

QUICK = [defect for defect in SEEDED_DEFECTS if defect.name in READING]
SLOW = [defect for defect in SEEDED_DEFECTS if defect.name not in READING]
CHOSEN = SEEDED_DEFECTS if os.environ.get("SEEDBED_ALL_DEFECTS") else (*QUICK[::4], *SLOW[4::9])
AT_ONCE = 3
"""Most of a run is waiting, so several take hardly longer than one."""


@pytest.fixture(scope="module")
def judgements() -> Iterator[dict[str, Future[Findings]]]:
    """Every defect being judged, by its name, in processes of their own."""
    pool = ProcessPoolExecutor(AT_ONCE, mp_context=get_context("spawn"))
    try:
        yield {defect.name: pool.submit(findings_of, SEEDED_DEFECTS.index(defect)) for defect in CHOSEN}
    finally:
        pool.shutdown(cancel_futures=True)


def test_enough_defects_are_judged() -> None:
    assert len(CHOSEN) >= 60
    assert len({clause.partition("/")[0] for defect in CHOSEN for clause in defect.clauses}) >= 20


@pytest.mark.parametrize("defect", CHOSEN, ids=lambda defect: defect.name)
def test_a_defect_is_found_and_named_by_the_right_clause(
    defect: SeededDefect, judgements: dict[str, Future[Findings]]
) -> None:
    findings = judgements[defect.name].result()
    assert {clause for clause, _, _ in findings} & set(defect.clauses), findings


def test_a_server_that_is_said_to_answer_otherwise_than_it_does_is_found() -> None:
    with serve(replace(SEEDED_DEFECTS[0].variant, http_status="mirror", dialect="observed")) as served:
        assert "answer/http-status" in {clause for clause, _, _ in found(judged(served, http_status="envelope"))}
        clauses = {clause for clause, _, _ in found(judged(served, dialect="documented", only=("requests.refused",)))}
        assert "code/422" in clauses
