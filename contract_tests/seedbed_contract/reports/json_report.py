"""The report for programs: a JSON document whose form ``report.schema.json`` states."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from seedbed_contract.reports import wording

if TYPE_CHECKING:
    from seedbed_contract.findings import Covered, Report


SCHEMA: Final = Path(__file__).parent / "report.schema.json"
"""The JSON Schema of the document."""

_VERSION: Final = 1


def report(judgement: Report) -> str:
    """Return a judgement as a JSON document, every text as the target sent it.

    All of it is ASCII: characters beyond, lone surrogates too, are written as escapes.
    """
    return json.dumps(as_data(judgement), indent=2) + "\n"


def as_data(judgement: Report) -> dict[str, Any]:
    """Return a judgement as the JSON document has it."""
    whole = {"version": _VERSION, "outcome": wording.outcome(judgement), **asdict(judgement)}
    return {**whole, "coverage": _coverage(judgement)}


def _coverage(judgement: Report) -> dict[str, Any]:
    sides = {
        side.name: {"exercised": side.exercised, "total": side.total, "missing": list(side.missing)}
        for side in wording.coverage(judgement)
    }
    return {**sides, "clauses": [_covered(entry) for entry in judgement.coverage]}


def _covered(entry: Covered) -> dict[str, Any]:
    return {"clause": entry.clause.id, "accepting": entry.accepting, "refusing": entry.refusing}
