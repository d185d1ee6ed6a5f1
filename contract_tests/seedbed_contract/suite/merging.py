"""Judgements of several processes as one."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from seedbed_contract.findings import (
    CheckResult,
    Covered,
    Finding,
    Judgement,
    NotJudged,
    Sample,
    testable_clauses,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedbed_schemas import Contract

_PARTS: Any = {"checks": CheckResult, "not_judged": NotJudged}


def packed(judgement: Judgement) -> str:
    """Return a judgement as text in ASCII."""
    coverage = [(entry.clause.id, entry.accepting, entry.refusing) for entry in judgement.coverage]
    return json.dumps({**asdict(replace(judgement, coverage=[])), "coverage": coverage})


def unpacked(text: str, contract: Contract) -> Judgement:
    """Return the judgement that was packed."""
    data, clauses = json.loads(text), testable_clauses(contract)
    for name, kind in _PARTS.items():
        data[name] = [kind(**entry) for entry in data[name]]
    data["findings"] = [Finding(**{**entry, "sample": Sample(**entry["sample"])}) for entry in data["findings"]]
    data["coverage"] = [Covered(clauses[name], *sides) for name, *sides in data["coverage"]]
    return Judgement(**data)


def merged(judgements: Sequence[Judgement]) -> Judgement:
    """Return what several judgements of one target come to."""
    first = judgements[0]
    return replace(
        first,
        requests=sum(one.requests for one in judgements),
        seconds=max(one.seconds for one in judgements),
        tasks=sum(one.tasks for one in judgements),
        spent=max(one.spent for one in judgements),  # each saw the one balance
        findings=_findings(judgements),
        checks=[check for one in judgements for check in one.checks],
        not_judged=list({entry.subject: entry for one in judgements for entry in one.not_judged}.values()),
        coverage=_coverage(judgements),
        remarks=list(dict.fromkeys(remark for one in judgements for remark in one.remarks)),
    )


def _findings(judgements: Sequence[Judgement]) -> list[Finding]:
    found: dict[tuple[str, str], Finding] = {}
    for finding in (finding for one in judgements for finding in one.findings):
        key = (finding.clause, finding.title)
        known = found.get(key)
        found[key] = replace(known, count=known.count + finding.count) if known else finding
    return list(found.values())


def _coverage(judgements: Sequence[Judgement]) -> list[Covered]:
    accepting, refusing = Counter[str](), Counter[str]()
    for entry in (entry for one in judgements for entry in one.coverage):
        accepting[entry.clause.id] += entry.accepting
        refusing[entry.clause.id] += entry.refusing or 0
    return [
        Covered(clause, accepting[clause.id], None if entry.refusing is None else refusing[clause.id])
        for entry in judgements[0].coverage
        for clause in [entry.clause]
    ]
