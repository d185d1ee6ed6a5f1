"""Findings, coverage and the report of a run, and the log that collects them."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from seedbed_schemas import Clause, job_api

from seedbed_contract.rules.envelope import FORM_CLAUSES
from seedbed_contract.rules.practices import PRACTICES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Any

    from seedbed_schemas import Contract
    from seedbed_schemas.baseline import KnownFinding
    from seedbed_schemas.clauses import Level

    from seedbed_contract.http import Exchange
    from seedbed_contract.rules.envelope import Defect


Side = Literal["accepting", "refusing"]
"""Whether a message that keeps a clause exercised it, or a request that breaks it and must be refused."""

DETECTION: Final = "detection"
"""Name in reports for the first requests of a run, which belong to no check."""
_MAX_CASES: Final = 8
_LONG_NUMBER: Final = re.compile(r"\d{4,}")
"""A number that differs from run to run, such as a time. Codes and limits of fewer digits stay as they are."""
_UNTESTABLE: Final = frozenset({"default", "operation/server"})
"""Clauses that no request can exercise: the default of an omitted field, and the address of the real server."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The smallest exchange that shows a finding, with placeholders for all keys.

    Attributes:
        curl: The request as a curl command; empty for a callback.
        response: The response, or the callback that was received, as text of limited length.
        size: Size of the request body in bytes, by which samples are compared.
    """

    curl: str
    response: str
    size: int = 0


@dataclass(slots=True)
class Finding:
    """One difference between a target and the contract.

    Attributes:
        clause: ID of the clause.
        title: Description of the difference, without a full stop; together with the clause it identifies the finding.
        says: Statement of the clause.
        place: Place of the clause on the vendor's page.
        check: Name of the check with the finding.
        sample: The smallest exchange that shows it.
        count: Number of times that it was seen.
        also: Names of other cases in which it was seen.
        side: Side that breaks the contract: ``service`` or, in recorded traffic, ``caller``.
        level: ``error`` if the target breaks the clause, ``warning`` if it is lawful but differs from the running
            service or from robust practice.
        kind: Name that groups differences with different titles; empty if the title alone identifies the finding.
        is_known: Whether the baseline contains the finding, so that it does not make the run fail.
    """

    clause: str
    title: str
    says: str
    place: str
    check: str
    sample: Sample
    count: int = 1
    also: list[str] = field(default_factory=list)
    side: str = "service"
    level: Level = "error"
    kind: str = ""
    is_known: bool = False

    @property
    def identity(self) -> str:
        """Identity of the finding, which is the same in every run, whatever times or IDs the title contains."""
        subject = self.kind or _LONG_NUMBER.sub("N", self.title)
        text = "\n".join((self.clause, self.side, subject))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class NotChecked:
    """Something that could not be checked; it may or may not conform.

    Attributes:
        subject: Name of a check or ID of a clause.
        reason: Why it could not be checked, without a full stop.
    """

    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: Name of the check, such as ``requests.refused``.
        about: Subject of the check.
        seconds: Duration in seconds.
        findings: Number of findings that the check saw, including those that an earlier check saw first.
        reason: Why the check was skipped or only partly run; empty otherwise.
        is_checked: Whether the check judged anything.
        seen: Identities of the findings that the check saw.
    """

    name: str
    about: str
    seconds: float
    findings: int
    reason: str = ""
    is_checked: bool = True
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ended before it was complete.

    Attributes:
        kind: ``time`` if the time limit passed, ``failures`` if ``--max-failures`` was reached, ``interrupted`` by
            Ctrl-C, ``terminated`` by SIGTERM, ``unusable`` if the target cannot be checked, or ``internal error``.
        reason: What happened, without a full stop.
    """

    kind: Literal["time", "failures", "interrupted", "terminated", "unusable", "internal error"]
    reason: str


@dataclass(frozen=True, slots=True)
class Covered:
    """How often a clause was exercised.

    Attributes:
        clause: The clause.
        accepting: Number of messages that kept it.
        refusing: Number of requests that broke it; ``None`` if no request can break it.
    """

    clause: Clause
    accepting: int
    refusing: int | None


@dataclass(slots=True)
class Report:
    """The outcome of a run.

    Attributes:
        target: Base URL, or the name of the file of recorded traffic.
        dialect: Dialect that the target was checked against.
        http_status: ``envelope`` or ``mirror``.
        seed: Seed of the run.
        requests: Number of requests that were sent.
        seconds: Duration in seconds.
        tasks: Number of tasks that were created.
        spent: Credits that the run cost, as far as they are known.
        findings: Findings, in the order of the clauses.
        checks: Results of the checks.
        not_checked: Checks and clauses that could not be checked.
        coverage: Coverage of every clause.
        remarks: Detected properties of the target, one sentence each.
        is_recorded: Whether the report is about recorded traffic, which a seed cannot repeat.
        fail_on: The weakest level of a finding that makes the run fail.
        stop: Why the run ended early; ``None`` if it is complete.
        undecided: Why the run cannot say that the target conforms, although it is complete; empty otherwise.
        fixed: Findings of the baseline that the run no longer sees.
    """

    target: str
    dialect: str
    http_status: str
    seed: int
    requests: int = 0
    seconds: float = 0.0
    tasks: int = 0
    spent: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)
    not_checked: list[NotChecked] = field(default_factory=list)
    coverage: list[Covered] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    is_recorded: bool = False
    fail_on: Level = "error"
    stop: Stop | None = None
    undecided: str = ""
    fixed: list[KnownFinding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        """Findings that break the contract or a standard."""
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """Findings that are lawful, but differ from the running service or from robust practice."""
        return [finding for finding in self.findings if finding.level == "warning"]

    @property
    def failures(self) -> list[Finding]:
        """Findings that make the run fail."""
        levels = {"error", self.fail_on}
        return [finding for finding in self.findings if finding.level in levels and not finding.is_known]

    @property
    def conforms(self) -> bool:
        """Whether there are no findings that make the run fail."""
        return not self.failures


def testable_clauses(contract: Contract) -> dict[str, Clause]:
    """Return the clauses that a request or a response can exercise, by id, in the order of the page."""
    stated = (*contract.clauses(), *job_api().clauses())
    return {clause.id: clause for clause in stated if not {clause.kind, clause.id} & _UNTESTABLE}


def place_of(clause: Clause) -> str:
    """Return the place of a clause on the vendor's page as one line."""
    place: Mapping[str, str] = clause.place
    return place.get("source") or " > ".join(place.values()) or "the contract"


def statement_of(clause: Clause) -> str:
    """Return the statement of a clause as one line."""
    return str(clause.value) if clause.kind == "behaviour" else f"{clause.kind}: {clause.value}"


class FindingLog:
    """Collects the findings and the coverage of a run. Threads may use it concurrently.

    Args:
        contract: Contract that the target is checked against.
        breakable: IDs of the clauses that a request can break.
        impossible: IDs of the clauses that nothing can exercise on this target, so that the coverage leaves them out.
    """

    def __init__(self, contract: Contract, breakable: Collection[str], impossible: Collection[str] = ()) -> None:
        self._impossible = frozenset(impossible)
        self.clauses = testable_clauses(contract)
        self.remarks: list[str] = []
        self.judged = 0
        """Number of times that the current check exercised a clause; polls in the background do not count."""
        self._breakable = frozenset(breakable)
        self._by_shape: dict[str, list[Clause]] = {}
        for clause in self.clauses.values():
            self._by_shape.setdefault(clause.id.partition("/")[0], []).append(clause)
        self._findings: dict[tuple[str, str], Finding] = {}
        self._by_check: dict[str, set[tuple[str, str]]] = {}
        self._not_checked: dict[str, NotChecked] = {}
        self._notes: dict[str, list[str]] = {}
        self._exercised: dict[Side, Counter[str]] = {"accepting": Counter(), "refusing": Counter()}
        self._lock = threading.Lock()

    def add(self, defect: Defect, check: str, sample: Sample, case: str = "", *, side: str = "service") -> None:
        """Add a finding; a known finding is counted once more and keeps the smaller sample.

        Args:
            defect: Defect to add.
            check: Name of the check.
            sample: Exchange that shows it.
            case: Name of the case that was sent.
            side: Side that breaks the contract.
        """
        key = (defect.clause, defect.kind or defect.title)
        clause = self.clauses.get(defect.clause) or PRACTICES.get(defect.clause)
        level = defect.level or (clause.level if clause else "error")
        with self._lock:
            finding = self._findings.get(key)
            if finding is None:
                says, place = (statement_of(clause), place_of(clause)) if clause else ("", "the contract")
                finding = Finding(defect.clause, defect.title, says, place, check, sample, 0, side=side, level=level)
                finding.kind = defect.kind
                self._findings[key] = finding
            finding.count += 1
            if level == "error":
                finding.level = level
            # A check describes the circumstances better than the first requests of the run do.
            if finding.check == DETECTION:
                finding.check = check
            self._by_check.setdefault(check, set()).add(key)
            if sample.size < finding.sample.size:
                finding.sample = sample
            if case and case not in finding.also and len(finding.also) < _MAX_CASES:
                finding.also.append(case)

    def exercise(self, clauses: Iterable[str], side: Side = "accepting") -> None:
        """Count clauses as exercised."""
        with self._lock:
            self._exercised[side].update(clauses)

    def exercise_shape(self, name: str, value: Mapping[str, Any]) -> None:
        """Count the clauses of a shared shape as exercised, except those of fields that the value does not have."""
        applying: list[str] = []
        for clause in self._by_shape.get(name, ()):
            field, _, rest = clause.id.partition("/")[2].partition("/")
            if clause.kind == "option":
                applies = str(value.get(field)) == rest.partition("/")[2]
            else:
                is_present = not rest or field == "required" or field.partition(".")[0].removesuffix("[]") in value
                applies = is_present and clause.kind != "behaviour"
            if applies:
                applying.append(clause.id)
        self.exercise(applying)

    def exercise_response(self, exchange: Exchange) -> None:
        """Count the clauses on the form of every response as exercised."""
        self.exercise(FORM_CLAUSES)
        if exchange.response and isinstance(exchange.response.json, dict):
            self.exercise((f"code/{exchange.code}",))
            self.exercise_shape("envelope", exchange.response.json)
            self.exercise_shape("answer", exchange.response.json)

    def mark_unchecked(self, subject: str, reason: str, check: str = "") -> None:
        """Note why something could not be checked; the first reason is kept.

        Args:
            subject: Name of a check or ID of a clause.
            reason: Why it could not be checked.
            check: Name of the check that should have checked it.
        """
        with self._lock:
            self._not_checked.setdefault(subject, NotChecked(subject, reason))
            notes = self._notes.setdefault(check or subject, [])
            if reason not in notes:
                notes.append(reason)

    def notes_of(self, check: str) -> str:
        """Return why a check could not check something, empty if there was nothing."""
        return "; ".join(self._notes.get(check, ()))

    def add_remark(self, sentence: str) -> None:
        """Add a detected property of the target."""
        if sentence not in self.remarks:
            self.remarks.append(sentence)

    def has_finding(self, clause: str) -> bool:
        """Return whether there is a finding on a clause."""
        return any(known == clause for known, _ in self._findings)

    def seen_by(self, check: str) -> list[Finding]:
        """Return the findings that a check has seen, including those that other checks saw before."""
        return [self._findings[key] for key in self._by_check.get(check, ())]

    @property
    def count(self) -> int:
        """Number of findings."""
        return len(self._findings)

    @property
    def findings(self) -> list[Finding]:
        """The findings: errors before warnings, each in the order of the clauses."""
        order = {clause: place for place, clause in enumerate((*self.clauses, *PRACTICES))}
        return sorted(
            self._findings.values(),
            key=lambda finding: (finding.level != "error", order.get(finding.clause, len(order))),
        )

    @property
    def not_checked(self) -> list[NotChecked]:
        """Checks and clauses that could not be checked, in the order of the notes."""
        return list(self._not_checked.values())

    @property
    def coverage(self) -> list[Covered]:
        """The coverage of every clause."""
        accepting, refusing = self._exercised["accepting"], self._exercised["refusing"]
        return [
            Covered(clause, accepting[clause.id], refusing[clause.id] if clause.id in self._breakable else None)
            for clause in self.clauses.values()
            if clause.id not in self._impossible or accepting[clause.id]
        ]
