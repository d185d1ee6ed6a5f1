"""What a run has found: findings once each, clauses as they were exercised, and what could not be judged."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from seedbed_contract.findings import Covered, Finding, NotJudged, place_of, statement_of, testable_clauses

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from typing import Any

    from seedbed_schemas import Clause, Contract

    from seedbed_contract.answers import Flaw
    from seedbed_contract.findings import Sample, Side

BEGINNING: Final = "beginning"
"""Stands for the check that notes what the first questions of a run show."""
_MOST_ALSO: Final = 8


class Ledger:
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
        self._not_judged: dict[str, NotJudged] = {}
        self._exercised: dict[Side, Counter[str]] = {"accepting": Counter(), "refusing": Counter()}
        self._lock = threading.Lock()

    def find(self, flaw: Flaw, check: str, sample: Sample, also: str = "", *, side: str = "service") -> None:
        """Note a finding; one that is known already is counted, and shown by the smaller sample."""
        key = (flaw.clause, flaw.kind or flaw.title)
        with self._lock:
            known = self._findings.get(key)
            if known is None:
                says, place = self._stated(flaw.clause)
                known = Finding(flaw.clause, flaw.title, says, place, check, sample, count=0, side=side)
                self._findings[key] = known
            known.count += 1
            if known.check == BEGINNING:
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

    def cannot_judge(self, subject: str, reason: str) -> None:
        """Note that something could not be judged; the first reason stays."""
        with self._lock:
            self._not_judged.setdefault(subject, NotJudged(subject, reason))

    def remark(self, text: str) -> None:
        """Note what was found out about the target."""
        if text not in self.remarks:
            self.remarks.append(text)

    def is_found(self, clause: str) -> bool:
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
    def not_judged(self) -> list[NotJudged]:
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
