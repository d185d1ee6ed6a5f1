"""What every report for people says in the same words: the verdict, the coverage, and text that is safe to show."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from seedbed_schemas.validation import printable

if TYPE_CHECKING:
    from seedbed_contract.findings import Covered, Finding, Report


Outcome = Literal["conforms", "findings", "not judged"]
"""What a run comes to; a target of which nothing was judged does not conform."""


@dataclass(frozen=True, slots=True)
class SideCovered:
    """How many clauses were exercised on one side.

    Attributes:
        name: ``accepting`` or ``refusing``.
        exercised: How many clauses were.
        total: How many could be.
        missing: Ids of those that were not, in the order of the page.
    """

    name: str
    exercised: int
    total: int
    missing: tuple[str, ...]


def on_one_line(text: str) -> str:
    """Return a text of whatever origin as one line without anything that acts on what shows it."""
    return printable(text)


def on_lines(text: str) -> str:
    """Return a text of whatever origin, with its lines kept, without anything that acts on what shows it."""
    return "\n".join(map(printable, text.replace("\r\n", "\n").split("\n")))


def clipped(text: str, characters: int) -> str:
    """Return a text, cut where it is longer, which then says how much is left out."""
    left = len(text) - characters
    return text if left <= 0 else f"{text[:characters]}... ({counted(left, 'more character')})"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``2 findings``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def outcome(judgement: Report) -> Outcome:
    """Return what a run comes to, in a word."""
    if judgement.findings:
        return "findings"
    return "conforms" if any(check.judged for check in judgement.checks) else "not judged"


def verdict(judgement: Report) -> str:
    """Return what a run comes to, in a line."""
    kind, left_out = outcome(judgement), len(judgement.not_judged)
    if kind == "findings":
        return counted(len(judgement.findings), "finding")
    if kind == "not judged":
        return f"not judged: {_main_reason(judgement)}"
    return f"conforms, as far as it was judged ({left_out:,} not judged)" if left_out else "conforms"


def _main_reason(judgement: Report) -> str:
    given = [entry.reason for entry in judgement.not_judged]
    reasons = Counter(given or [check.reason for check in judgement.checks if check.reason])
    return on_one_line(reasons.most_common(1)[0][0]) if reasons else "no check was run"


def figures(judgement: Report) -> str:
    """Return what a run took, in a line."""
    parts = [counted(judgement.requests, "request"), counted(judgement.tasks, "task")]
    if judgement.spent:
        parts.append(f"{judgement.spent:,.10g} credits")
    return ", ".join((*parts, f"{judgement.seconds:.1f} s"))


def basis(judgement: Report) -> str:
    """Return what a run was judged by, in a line."""
    dialect, status = on_one_line(judgement.dialect), on_one_line(judgement.http_status)
    seed = "" if judgement.is_recorded else f", seed {judgement.seed}"
    return f"dialect {dialect}, HTTP status {status}{seed}"


def circumstances(finding: Finding, judgement: Report, flag: str = "--seed") -> str:
    """Return who found something, how often and how to see it again, in a line; the flag is what takes the seed."""
    often = "once" if finding.count == 1 else f"{finding.count:,} times"
    again = "" if judgement.is_recorded else f", repeat with {flag} {judgement.seed}"
    return f"seen {often} by {on_one_line(finding.check)}{again}"


def coverage(judgement: Report) -> tuple[SideCovered, SideCovered]:
    """Return how the clauses were exercised, on the accepting and on the refusing side."""
    accepting = [(entry.clause.id, entry.accepting) for entry in judgement.coverage]
    refusing = [(entry.clause.id, entry.refusing) for entry in judgement.coverage if entry.refusing is not None]
    return _side("accepting", accepting), _side("refusing", refusing)


def _side(name: str, counts: list[tuple[str, int]]) -> SideCovered:
    missing = tuple(on_one_line(clause) for clause, count in counts if not count)
    return SideCovered(name, len(counts) - len(missing), len(counts), missing)


def coverage_line(judgement: Report) -> str:
    """Return how many clauses were exercised on each side, in a line."""
    accepting, refusing = coverage(judgement)
    return (
        f"clauses: {accepting.exercised} of {accepting.total} exercised (accepting), "
        f"{refusing.exercised} of {refusing.total} (refusing)"
    )


def subjects(judgement: Report) -> dict[str, list[Covered]]:
    """Return the coverage by what the clauses are about, in the order of the page."""
    found: dict[str, list[Covered]] = {}
    for entry in judgement.coverage:
        found.setdefault(entry.clause.id.partition("/")[0], []).append(entry)
    return found


def not_judged(judgement: Report) -> dict[str, list[str]]:
    """Return what was not judged, by reason: one reason often stands in the way of much."""
    found: dict[str, list[str]] = {}
    for entry in judgement.not_judged:
        subjects_of_reason = found.setdefault(on_one_line(entry.reason), [])
        if (subject := on_one_line(entry.subject)) not in subjects_of_reason:
            subjects_of_reason.append(subject)
    return found


def listed(names: list[str] | tuple[str, ...], most: int) -> str:
    """Return names with commas between, the last ones of a long list only counted."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
