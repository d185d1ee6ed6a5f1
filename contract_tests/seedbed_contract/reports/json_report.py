"""The report as a JSON document for programs; the schema of ``seedbed check --json`` describes it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.commands import schema_path

from seedbed_contract.reports import wording
from seedbed_contract.reports.verdict import status_counts, status_of, verdict_of

if TYPE_CHECKING:
    from seedbed_contract.findings import Report


SCHEMA: Final = schema_path("check")
"""Path of the JSON Schema of the document."""

_VERSION: Final = 1


def render(report: Report) -> str:
    """Return a report as a JSON document in ASCII, with every text as the target sent it.

    Characters outside ASCII, including lone surrogates, are written as escapes.
    """
    return json.dumps(to_json(report), indent=2) + "\n"


def to_json(report: Report) -> dict[str, Any]:
    """Return the JSON document as Python objects."""
    verdict = verdict_of(report)
    document = {"version": _VERSION, **asdict(report), "outcome": verdict.outcome}
    document |= {"exit_code": verdict.exit_code, "verdict": verdict.line, "is_complete": report.stop is None}
    document["checks"] = [{**asdict(check), "status": status_of(check, report)} for check in report.checks]
    document["findings"] = [{**asdict(finding), "identity": finding.identity} for finding in report.findings]
    document["statuses"] = status_counts(report)
    document["coverage"] = {
        side.name: {"exercised": side.exercised, "total": side.total, "missing": list(side.missing)}
        for side in wording.coverage(report)
    } | {
        "clauses": [
            {"clause": entry.clause.id, "accepting": entry.accepting, "refusing": entry.refusing}
            for entry in report.coverage
        ]
    }
    return document
