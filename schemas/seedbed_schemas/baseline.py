"""Baselines: files with the findings of an earlier run, so that a later run can show which of its findings are new.

``seedbed check`` and ``seedbed drill`` write and read the same form.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from seedbed_schemas.validation import Schema

if TYPE_CHECKING:
    from collections.abc import Iterable


_VERSION: Final = 1
_FIELDS: Final = ("identity", "clause", "title", "check")
_BASELINE: Final = Schema(
    {
        "type": "object",
        "required": ["version", "findings"],
        "properties": {
            "version": {"const": _VERSION},
            "findings": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": [*_FIELDS],
                    "properties": {name: {"type": "string"} for name in _FIELDS},
                },
            },
        },
    },
    name="baseline",
)


class BaselineError(ValueError):
    """A baseline that cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class KnownFinding:
    """A finding of an earlier run.

    Attributes:
        identity: Text by which the finding is recognised in another run.
        clause: ID of the clause, or name of the verdict, that is broken.
        title: Description of the finding.
        check: Name of the check, or of the scenario, that saw it.
    """

    identity: str
    clause: str
    title: str
    check: str


def read_baseline(content: bytes, name: str) -> list[KnownFinding]:
    """Return the findings of a baseline.

    Args:
        content: Content of the file.
        name: Name of the file, for messages.

    Raises:
        BaselineError: The content is not a baseline.
    """
    remedy = "write it again with --write-baseline"
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BaselineError(f"{name} is not a baseline: it is not valid JSON; {remedy}.") from error
    for violation in _BASELINE.violations(document):
        raise BaselineError(f"{name} is not a baseline: {violation.message}; {remedy}.")
    return [KnownFinding(*(entry[field] for field in _FIELDS)) for entry in document["findings"]]


def baseline_text(findings: Iterable[KnownFinding]) -> str:
    """Return a baseline with some findings, in an order that does not depend on theirs."""
    ordered = sorted(findings, key=lambda entry: (entry.clause, entry.identity))
    return json.dumps({"version": _VERSION, "findings": [asdict(entry) for entry in ordered]}, indent=2) + "\n"
