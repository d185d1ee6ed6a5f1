"""What a report is made of: findings, what was exercised, and what could not be judged."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from seedbed_schemas import Clause, job_api

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Any

    from seedbed_schemas import Contract

    from seedbed_contract.rules.envelope import Defect


Side = Literal["accepting", "refusing"]
"""Whether a clause was exercised by what keeps it, or by what breaks it and has to be refused."""

_UNTESTABLE: Final = frozenset({"default", "operation/server"})
"""What no request can put to the test: what stands in for a field left out, and where another server is."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The smallest exchange that shows a finding; nothing in it holds a key.

    Attributes:
        curl: The request as a command that works as pasted; empty where nothing was asked, as for a callback.
        answer: What came back, or what was received, as text of reasonable length.
        size: Length of the request in bytes, by which samples are compared.
    """

    curl: str
    response: str
    size: int = 0


@dataclass(slots=True)
class Finding:
    """One way in which a target does not keep the contract.

    Attributes:
        clause: Id of the clause.
        title: What is wrong, a sentence without full stop; with the clause it tells one finding from another.
        says: What the clause states.
        place: Where it is stated.
        check: Name of the check that found it.
        sample: The smallest exchange that shows it.
        count: How often it was seen.
        also: Further circumstances in which it was seen, such as the names of other cases.
        side: Whose fault it is: ``service`` or, in recorded traffic, ``caller``.
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


@dataclass(frozen=True, slots=True)
class NotChecked:
    """Something that could not be judged, which is not the same as being right.

    Attributes:
        subject: Name of a check, or of a clause.
        reason: Why not, a sentence without full stop.
    """

    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one check went.

    Attributes:
        name: Name of the check, such as ``requests.refused``.
        about: What it judges, in a few words.
        seconds: How long it took.
        findings: How many findings it made.
        reason: Why it was not judged, or not in whole; empty where it was.
        judged: Whether anything was judged.
    """

    name: str
    about: str
    seconds: float
    findings: int
    reason: str = ""
    is_checked: bool = True


@dataclass(frozen=True, slots=True)
class Covered:
    """How a clause was exercised.

    Attributes:
        clause: The clause.
        accepting: How often by what keeps it.
        refusing: How often by what breaks it; ``None`` where no request can break it.
    """

    clause: Clause
    accepting: int
    refusing: int | None


@dataclass(slots=True)
class Report:
    """The outcome of a run.

    Attributes:
        target: Base URL, or the name of the file of recorded traffic.
        dialect: The dialect that was judged by.
        http_status: ``envelope`` or ``mirror``.
        seed: What repeats the run.
        requests: How many requests were sent.
        seconds: How long it took.
        tasks: How many tasks were made.
        spent: Credits that the run cost, as far as is known.
        findings: What is wrong, in the order of the clauses.
        checks: How each check went.
        not_checked: What could not be judged.
        coverage: Every clause, with how it was exercised.
        remarks: What was found out about the target, such as the dialect where that was asked for.
        is_recorded: Whether it is about recorded traffic, of which no seed repeats anything.
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

    @property
    def conforms(self) -> bool:
        """Whether nothing was found that breaks the contract."""
        return not self.findings


def testable_clauses(contract: Contract) -> dict[str, Clause]:
    """Return every clause that a request or an answer can put to the test, by id, in the order of the page."""
    stated = (*contract.clauses(), *job_api().clauses())
    return {clause.id: clause for clause in stated if not {clause.kind, clause.id} & _UNTESTABLE}


def place_of(clause: Clause) -> str:
    """Return where a clause is stated, on one line."""
    place: Mapping[str, str] = clause.place
    return place.get("source") or " > ".join(place.values()) or "the contract"


def statement_of(clause: Clause) -> str:
    """Return what a clause states, on one line."""
    if clause.kind == "behaviour":
        return str(clause.value)
    return f"{clause.kind}: {clause.value}"


SETUP: Final = "beginning"
"""Stands for the check that notes what the first questions of a run show."""
_MOST_ALSO: Final = 8


class FindingLog:
    """Keeps the account of a run; may be used by several threads.

    Args:
        contract: The contract that is judged by.
        breakable: Ids of the clauses that a request can break.
    """

    def __init__(self, contract: Contract, breakable: Collection[str]) -> None:
        self.clauses = testable_clauses(contract)
        self.remarks: list[str] = []
        self._breakable = frozenset(breakable)
        self._by_shape: dict[str, list[Clause]] = {}
        for clause in self.clauses.values():
            self._by_shape.setdefault(clause.id.partition("/")[0], []).append(clause)
        self._findings: dict[tuple[str, str], Finding] = {}
        self._by_check: dict[str, set[tuple[str, str]]] = {}
        self._not_judged: dict[str, NotChecked] = {}
        self._exercised: dict[Side, Counter[str]] = {"accepting": Counter(), "refusing": Counter()}
        self._lock = threading.Lock()

    def find(self, flaw: Defect, check: str, sample: Sample, also: str = "", *, side: str = "service") -> None:
        """Note a finding; one that is known already is counted, and shown by the smaller sample."""
        key = (flaw.clause, flaw.kind or flaw.title)
        with self._lock:
            known = self._findings.get(key)
            if known is None:
                says, place = self._stated(flaw.clause)
                known = Finding(flaw.clause, flaw.title, says, place, check, sample, count=0, side=side)
                self._findings[key] = known
            known.count += 1
            if known.check == SETUP:
                known.check = check
            self._by_check.setdefault(check, set()).add(key)
            if sample.size < known.sample.size:
                known.sample = sample
            if also and also not in known.also and len(known.also) < _MOST_ALSO:
                known.also.append(also)

    def exercise(self, clauses: Iterable[str], side: Side = "accepting") -> None:
        """Note that clauses were put to the test."""
        with self._lock:
            self._exercised[side].update(clauses)

    def exercise_shape(self, name: str, value: Mapping[str, Any]) -> None:
        """Note that the clauses of a shape were put to the test, those of fields that are not there aside."""
        own = self._by_shape.get(name, ())
        self.exercise(clause.id for clause in own if _speaks_of(clause, value))

    def mark_unchecked(self, subject: str, reason: str) -> None:
        """Note that something could not be judged; the first reason stays."""
        with self._lock:
            self._not_judged.setdefault(subject, NotChecked(subject, reason))

    def remark(self, text: str) -> None:
        """Note what was found out about the target."""
        if text not in self.remarks:
            self.remarks.append(text)

    def has_finding(self, clause: str) -> bool:
        """Tell whether there is a finding on a clause."""
        return any(known == clause for known, _ in self._findings)

    def found_by(self, check: str) -> int:
        """Return how many findings a check has noted, those that others noted before included."""
        return len(self._by_check.get(check, ()))

    @property
    def exercised(self) -> int:
        """How often any clause was put to the test."""
        return sum(counter.total() for counter in self._exercised.values())

    @property
    def count(self) -> int:
        """How many findings there are."""
        return len(self._findings)

    @property
    def findings(self) -> list[Finding]:
        """The findings, in the order of the clauses."""
        order = {clause: place for place, clause in enumerate(self.clauses)}
        return sorted(self._findings.values(), key=lambda finding: order.get(finding.clause, len(order)))

    @property
    def not_checked(self) -> list[NotChecked]:
        """What could not be judged, in the order in which that was noted."""
        return list(self._not_judged.values())

    @property
    def coverage(self) -> list[Covered]:
        """Every clause, with how it was exercised."""
        return [self._covered(clause) for clause in self.clauses.values()]

    def _covered(self, clause: Clause) -> Covered:
        refusing = self._exercised["refusing"][clause.id] if clause.id in self._breakable else None
        return Covered(clause, self._exercised["accepting"][clause.id], refusing)

    def _stated(self, clause_id: str) -> tuple[str, str]:
        clause = self.clauses.get(clause_id)
        return (statement_of(clause), place_of(clause)) if clause else ("", "the contract")


def _speaks_of(clause: Clause, value: Mapping[str, Any]) -> bool:
    field, _, rest = clause.id.partition("/")[2].partition("/")
    if clause.kind == "behaviour":
        return False
    if clause.kind == "option":
        return str(value.get(field)) == rest.partition("/")[2]
    return not rest or field == "required" or field.partition(".")[0].removesuffix("[]") in value
