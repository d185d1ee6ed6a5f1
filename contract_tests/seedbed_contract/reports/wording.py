"""The figures and the coverage of a report as text, and text that is safe to display."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from seedbed_schemas.validation import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seedbed_contract.findings import Covered, Finding, Report


_STRING_START: Final = 40
_LONG_STRING: Final = re.compile(r'(?<=")(?:[^"\\]|\\+u[0-9a-fA-F]{4}){160,}')

# Text. Responses of a target are untrusted: they may hold terminal escapes, bidirectional marks or line breaks.


def on_one_line(text: str) -> str:
    """Return an untrusted text as one line without control characters."""
    return printable(text)


def on_lines(text: str) -> str:
    """Return an untrusted text with its line breaks, but without other control characters."""
    return "\n".join(map(printable, text.replace("\r\n", "\n").split("\n")))


def clipped(text: str, characters: int) -> str:
    """Return a text, shortened to a number of characters, with a note of how many were left out."""
    left = len(text) - characters
    return text if left <= 0 else f"{text[:characters]}... ({counted(left, 'more character')})"


def abridged(text: str) -> str:
    """Return a JSON text with the middle of its long strings left out, so that the other fields are in view."""
    return _LONG_STRING.sub(lambda run: f"{run[0][:_STRING_START]}... ({len(run[0]) - _STRING_START:,} more) ...", text)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``2 findings``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(names: list[str] | tuple[str, ...], limit: int) -> str:
    """Return names separated by commas; names beyond the limit are only counted."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more:,} more" if more > 0 else "")


# Figures


def numbers(report: Report) -> str:
    """Return the number of findings, by level if there are warnings, such as ``2 errors and 1 warning``."""
    errors, warnings = report.errors, report.warnings
    if not warnings:
        return counted(len(errors), "finding")
    counts = [counted(len(found), noun) for found, noun in ((errors, "error"), (warnings, "warning")) if found]
    return " and ".join(counts)


def figures(report: Report) -> str:
    """Return the requests, tasks, credits and seconds of a run as a line of text."""
    parts = [counted(report.requests, "request"), counted(report.tasks, "task")]
    if report.spent:
        parts.append(f"{report.spent:,.10g} credits")
    return ", ".join((*parts, f"{report.seconds:.1f} s"))


def basis(report: Report) -> str:
    """Return the dialect, the HTTP status mode and the seed of a run as a line of text."""
    dialect, status = on_one_line(report.dialect), on_one_line(report.http_status)
    seed = "" if report.is_recorded else f", seed {report.seed}"
    return f"dialect {dialect}, HTTP status {status}{seed}"


def circumstances(finding: Finding, report: Report, seed_option: str = "--seed") -> str:
    """Return how often a check saw a finding, and the option that repeats the run, as a line of text."""
    often = "once" if finding.count == 1 else f"{finding.count:,} times"
    again = "" if report.is_recorded else f"; repeat with {seed_option} {report.seed}"
    known = "known from the baseline; " if finding.is_known else ""
    return f"{known}seen {often} by {on_one_line(finding.check)}{again}"


# Coverage


@dataclass(frozen=True, slots=True)
class SideCovered:
    """How many clauses were exercised on one side.

    Attributes:
        name: ``accepting`` or ``refusing``.
        exercised: Number of clauses that were exercised.
        total: Number of clauses that can be exercised.
        missing: IDs of the clauses that were not exercised, in the order of the page.
    """

    name: str
    exercised: int
    total: int
    missing: tuple[str, ...]


def coverage(report: Report) -> tuple[SideCovered, SideCovered]:
    """Return the coverage of the accepting side and of the refusing side."""
    accepting = [(entry.clause.id, entry.accepting) for entry in report.coverage]
    refusing = [(entry.clause.id, entry.refusing) for entry in report.coverage if entry.refusing is not None]
    return _side("accepting", accepting), _side("refusing", refusing)


def _side(name: str, counts: list[tuple[str, int]]) -> SideCovered:
    missing = tuple(on_one_line(clause) for clause, count in counts if not count)
    return SideCovered(name, len(counts) - len(missing), len(counts), missing)


def coverage_line(report: Report) -> str:
    """Return the number of exercised clauses of each side as a line of text."""
    accepting, refusing = coverage(report)
    return (
        f"clauses: {accepting.exercised} of {accepting.total} exercised (accepting), "
        f"{refusing.exercised} of {refusing.total} (refusing)"
    )


def by_clause(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Return findings grouped by their clause, in the order of the first finding of each."""
    grouped: dict[str, list[Finding]] = {}
    for finding in findings:
        grouped.setdefault(finding.clause, []).append(finding)
    return grouped


def subjects(report: Report) -> dict[str, list[Covered]]:
    """Return the coverage grouped by the subject of the clauses, in the order of the page."""
    grouped: dict[str, list[Covered]] = {}
    for entry in report.coverage:
        grouped.setdefault(entry.clause.id.partition("/")[0], []).append(entry)
    return grouped


def not_checked(report: Report) -> dict[str, list[str]]:
    """Return what was not checked besides whole checks, grouped by reason: one reason often applies to many clauses."""
    grouped: dict[str, list[str]] = {}
    checks = {check.name for check in report.checks}
    for entry in report.not_checked:
        if entry.subject in checks:
            continue
        names = grouped.setdefault(on_one_line(entry.reason), [])
        if (name := on_one_line(entry.subject)) not in names:
            names.append(name)
    return grouped
