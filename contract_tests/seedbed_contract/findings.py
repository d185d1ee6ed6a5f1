"""What a judgement is made of: findings, what was exercised, and what could not be judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from seedbed_schemas import Clause, job_api

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_schemas import Contract

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
    answer: str
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
class NotJudged:
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
    judged: bool = True


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
class Judgement:
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
        not_judged: What could not be judged.
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
    not_judged: list[NotJudged] = field(default_factory=list)
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
