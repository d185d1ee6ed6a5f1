"""What the answers of a target are held against: the contract, and which codes each case may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from seedbed_schemas import default_contract, job_api

if TYPE_CHECKING:
    from seedbed_schemas import Contract
    from seedbed_schemas.dialect import Dialect

HttpStatus = Literal["envelope", "mirror"]

OK: Final = 200
"""HTTP status of every answer in the envelope."""


@dataclass(frozen=True, slots=True)
class Expectations:
    """What a target's answers are held against.

    Attributes:
        contract: The contract.
        dialect: How the target answers.
        http_status: How it carries codes.
        is_told: Whether the dialect was named; where it was found out, a mixture of both is let pass.
    """

    contract: Contract
    dialect: Dialect
    http_status: HttpStatus
    is_told: bool = True

    @property
    def success(self) -> int:
        """The code of a call that did what it was asked to."""
        return self.contract.code_named("success").number

    def codes(self, *cases: str) -> frozenset[int]:
        """Return the codes with which any of these cases may be answered."""
        # A page that leaves a code out of its table does not change what the service answers.
        by_name = {**default_contract().codes_by_name, **self.contract.codes_by_name}
        return frozenset().union(*(self.dialect.cases[case].numbers(by_name) for case in cases))

    def codes_of_violation(self, clause: str) -> frozenset[int]:
        """Return the codes with which a request may be refused that breaks a clause."""
        field, keyword = clause.split("/")[:2]
        model = job_api().fields.model
        if field == model and keyword in {"const", "enum"}:
            return self.codes("model_unknown")
        if clause == f"request/required/{model}":
            return self.codes("model_unknown", self.dialect.case_of_violation(keyword))
        if field in {"request", model}:
            return self.codes("model_unknown", "request_invalid", "body_malformed")
        return self.codes(self.dialect.case_of_violation(keyword))

    @property
    def all_codes(self) -> frozenset[int]:
        """Every code that may travel at all: those of the page, and what stands for them in the dialect."""
        documented = {code.number for code in self.contract.codes}
        return self.codes(*self.dialect.cases).union(documented)
