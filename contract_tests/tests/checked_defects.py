"""One defect checked, in a module that a process of its own can import."""

from typing import Final

from tests.checking import found, run_against
from tests.seeded_defects import SEEDED_DEFECTS
from tests.seeded_defects_bodies import BODIES
from tests.seeded_defects_fields import FIELDS
from tests.seeded_defects_keys import KEYS
from tests.seeded_defects_values import VALUES

READING: Final = frozenset(defect.name for defect in (*FIELDS, *VALUES, *BODIES, *KEYS))
"""Defects in how requests are read, for which no task has to end."""
QUICKLY, ENOUGH = 15, 45
"""Seconds: the longest that a run takes is the wait for a callback that does not come again."""

Findings = list[tuple[str, str, str]]


def findings_of(number: int) -> Findings:
    """Judge one of the defects, which are told by their number since they cannot be sent to a process."""
    defect = SEEDED_DEFECTS[number]
    required = frozenset({"callbacks"} if defect.variant.callbacks else ())
    limit = ENOUGH if "again" in defect.name else QUICKLY
    only = ("requests.*", "authorisation.*", "records.unknown") if defect.name in READING else ()
    with defect.serve() as served:
        report = run_against(served, required=required, only=only, time_limit=limit)
    assert all(finding.says and finding.place for finding in report.findings)
    return found(report)
