"""The verdict on a run: the status of each check, the outcome with its exit code, and the baseline of known findings.

Every report and the exit code of the command take the verdict from here, so they always agree.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from seedbed_schemas.baseline import KnownFinding, baseline_text

from seedbed_contract.reports.wording import counted, numbers, on_one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedbed_contract.findings import CheckResult, Finding, Report


Outcome = Literal["conforms", "known findings", "findings", "not checked", "interrupted", "internal error"]
"""The outcome of a run. A target that was not checked at all does not conform, nor does one with known errors."""
Status = Literal["passed", "failed", "warned", "skipped"]
"""The status of a check. A check that judged nothing was skipped; one with a reason that passed judged only a part."""

EXIT_CODES: Final[dict[Outcome, int]] = {
    "conforms": 0,
    "known findings": 0,
    "findings": 1,
    "not checked": 2,
    "internal error": 3,
    "interrupted": 130,
}
_TERMINATED: Final = 143
"""Exit code after SIGTERM, as shells report it."""


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """The verdict on a run.

    Attributes:
        outcome: The outcome.
        exit_code: Exit code of the command.
        line: The outcome as a line of text.
    """

    outcome: Outcome
    exit_code: int
    line: str


def verdict_of(report: Report) -> RunVerdict:
    """Return the verdict on a run."""
    stop = report.stop
    if stop and stop.kind in {"interrupted", "terminated"}:
        code = _TERMINATED if stop.kind == "terminated" else EXIT_CODES["interrupted"]
        return RunVerdict("interrupted", code, f"{on_one_line(stop.reason)}, {_so_far(report)}")
    if stop and stop.kind == "internal error":
        line = f"internal error: {on_one_line(stop.reason)}; {_so_far(report)}"
        return RunVerdict("internal error", EXIT_CODES["internal error"], line)
    if report.failures:
        incomplete = f" (incomplete: {on_one_line(stop.reason)})" if stop else ""
        return RunVerdict("findings", EXIT_CODES["findings"], f"{numbers(report)}{_known(report)}{incomplete}")
    if reason := _why_undecided(report):
        found = f"; {_so_far(report)}" if report.findings else ""
        return RunVerdict("not checked", EXIT_CODES["not checked"], f"not checked: {on_one_line(reason)}{found}")
    outcome: Outcome = "known findings" if report.errors else "conforms"
    return RunVerdict(outcome, EXIT_CODES[outcome], _passing_line(outcome, report))


def _why_undecided(report: Report) -> str:
    """Return why a run without failures does not show that the target conforms; empty if it does."""
    if report.stop:
        return report.stop.reason
    if report.undecided or any(check.is_checked for check in report.checks):
        return report.undecided
    reasons = Counter(
        [entry.reason for entry in report.not_checked] or [check.reason for check in report.checks if check.reason]
    )
    return reasons.most_common(1)[0][0] if reasons else "no check was run"


def _so_far(report: Report) -> str:
    """Return how far an incomplete run came."""
    done = sum(check.is_checked for check in report.checks)
    found = f"{numbers(report)}{_known(report)}" if report.findings else "no findings"
    return f"{found} so far; {done} of {counted(len(report.checks), 'check')} judged something"


def _known(report: Report) -> str:
    known = sum(finding.is_known for finding in report.findings)
    return f" ({known:,} known)" if known else ""


def _passing_line(outcome: Outcome, report: Report) -> str:
    found = f"{numbers(report)}{_known(report)}" if report.findings else ""
    line = f"no new findings: {found}" if outcome == "known findings" else "conforms"
    line += f", with {found}" if outcome == "conforms" and found else ""
    left_out = len(report.not_checked)
    if not left_out:
        return line
    return f"{line}, but {counted(left_out, 'item')} {'was' if left_out == 1 else 'were'} not checked"


# Checks


def findings_seen(check: CheckResult, report: Report) -> list[Finding]:
    """Return the findings that a check has seen, including those that an earlier check saw first."""
    return [found for found in report.findings if found.check == check.name or found.identity in check.seen]


def status_of(check: CheckResult, report: Report) -> Status:
    """Return the status of a check: a check that judged nothing is skipped, unless it has findings."""
    seen = findings_seen(check, report)
    failing = {finding.identity for finding in report.failures}
    if any(finding.identity in failing for finding in seen):
        return "failed"
    if seen:
        return "warned"
    return "passed" if check.is_checked else "skipped"


def describe_status(check: CheckResult, report: Report) -> str:
    """Return the number of findings of a check, and why it was skipped or only partly run; empty if neither."""
    seen = findings_seen(check, report)
    elsewhere = sorted({found.check for found in seen if found.check != check.name})
    where = f", listed under {', '.join(map(on_one_line, elsewhere))}" if elsewhere else ""
    parts = [counted(len(seen), "finding") + where] if seen else []
    if check.reason:
        partly = "partly judged: " if check.is_checked else ""
        parts.append(f"{partly}{on_one_line(check.reason)}")
    return "; ".join(parts)


def status_counts(report: Report) -> dict[Status, int]:
    """Return the number of checks of each status."""
    counts = Counter(status_of(check, report) for check in report.checks)
    statuses: tuple[Status, ...] = ("passed", "failed", "warned", "skipped")
    return {status: counts[status] for status in statuses}


# Baseline


def compare(report: Report, known: Sequence[KnownFinding]) -> Report:
    """Return a report in which the findings of a baseline are marked as known, and those that are gone are listed."""
    identities = {entry.identity for entry in known}
    found = {finding.identity for finding in report.findings}
    judged = _completed_checks(report)
    return replace(
        report,
        findings=[replace(finding, is_known=finding.identity in identities) for finding in report.findings],
        # A check that was skipped or cut short says nothing about the findings of earlier runs.
        fixed=[entry for entry in known if entry.identity not in found and entry.check in judged],
    )


def baseline_of(report: Report, known: Sequence[KnownFinding]) -> str:
    """Return a baseline with the findings of a complete run, and with those of the old baseline that it did not check.

    Args:
        report: Report of the run.
        known: Findings of the old baseline.
    """
    judged = _completed_checks(report)
    entries = {entry.identity: entry for entry in known if entry.check not in judged}
    for found in report.findings:
        entries[found.identity] = KnownFinding(found.identity, found.clause, found.title, found.check)
    return baseline_text(entries.values())


def _completed_checks(report: Report) -> set[str]:
    """Return the names of the checks that were not skipped or cut short."""
    if report.stop:
        return set()
    return {check.name for check in report.checks if check.is_checked}
