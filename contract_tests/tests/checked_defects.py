"""The check of one seeded defect, in a module that a worker process can import."""

from typing import Final

from seedbed_schemas.clauses import Level
from tests.checking import found, run_against, warned
from tests.seeded_defects import SEEDED_DEFECTS
from tests.seeded_defects_bodies import BODIES
from tests.seeded_defects_careless import CARELESS_READING
from tests.seeded_defects_fields import FIELDS
from tests.seeded_defects_keys import KEYS
from tests.seeded_defects_values import VALUES

READING: Final = frozenset(defect.name for defect in (*FIELDS, *VALUES, *BODIES, *KEYS))
"""Defects in reading requests; the checker finds them without waiting for a task."""
TIME_LIMIT, LONG_TIME_LIMIT = 20, 45
"""Seconds that a run may take. The checks of retried and of missing callbacks and of the rate wait up to 30 seconds."""

Findings = list[tuple[str, str, str]]


def findings_of(index: int) -> dict[Level, Findings]:
    """Check the seeded defect with this index; a defect itself cannot be pickled for a worker process.

    Returns:
        The findings by level.
    """
    defect = SEEDED_DEFECTS[index]
    required = frozenset({"callbacks"} if defect.variant.callbacks else ())
    waits = "again" in defect.name or bool({"createTask/rate", "callback/sent"} & set(defect.clauses))
    waits = waits or defect.level == "warning"
    limit = LONG_TIME_LIMIT if waits else TIME_LIMIT
    only: tuple[str, ...] = ("requests.*", "authorisation.*", "records.unknown") if defect.name in READING else ()
    if defect in CARELESS_READING:
        only = ("requests.r*", "authorisation.keys", "records.unknown", "robustness.*")
    with defect.serve() as served:
        report = run_against(served, required=required, only=only, time_limit=limit, **defect.known)
    assert all(finding.says and finding.place for finding in report.findings)
    return {"error": found(report), "warning": warned(report)}
