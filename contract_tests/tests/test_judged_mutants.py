"""Every server that breaks the contract in one way is found to, by the right clause."""

import os
from dataclasses import replace

import pytest
from tests.judging import found, judged
from tests.minimal_service import serve
from tests.mutant import Mutant
from tests.mutants import MUTANTS
from tests.mutants_bodies import BODIES
from tests.mutants_fields import FIELDS
from tests.mutants_keys import KEYS
from tests.mutants_values import VALUES

READING = frozenset(mutant.name for mutant in (*FIELDS, *VALUES, *BODIES, *KEYS))
"""Defects in how requests are read, for which no task has to end."""
QUICK = [mutant for mutant in MUTANTS if mutant.name in READING]
SLOW = [mutant for mutant in MUTANTS if mutant.name not in READING]
CHOSEN = MUTANTS if os.environ.get("SEEDBED_ALL_MUTANTS") else (*QUICK[::8], *SLOW[7::40])
QUICKLY, ENOUGH = 15, 45
"""Seconds: the longest that a run takes is the wait for a callback that does not come again."""


def test_enough_defects_are_known() -> None:
    assert len(MUTANTS) >= 400
    assert len({clause.partition("/")[0] for mutant in MUTANTS for clause in mutant.clauses}) >= 20


# A broken server may break in its own threads, too.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("mutant", CHOSEN, ids=lambda mutant: mutant.name)
def test_a_defect_is_found_and_named_by_the_right_clause(mutant: Mutant) -> None:
    required = frozenset({"callbacks"} if mutant.variant.callbacks else ())
    limit = ENOUGH if "again" in mutant.name else QUICKLY
    only = ("requests.*", "authorisation.*", "records.unknown") if mutant.name in READING else ()
    with mutant.serve() as served:
        judgement = judged(served, required=required, only=only, time_limit=limit)
    assert {clause for clause, _, _ in found(judgement)} & set(mutant.clauses), found(judgement)
    assert all(finding.says and finding.place for finding in judgement.findings)


def test_a_server_that_is_said_to_answer_otherwise_than_it_does_is_found() -> None:
    with serve(replace(MUTANTS[0].variant, http_status="mirror", dialect="observed")) as served:
        assert "answer/http-status" in {clause for clause, _, _ in found(judged(served, http_status="envelope"))}
        clauses = {clause for clause, _, _ in found(judged(served, dialect="documented", only=("requests.refused",)))}
        assert "code/422" in clauses
