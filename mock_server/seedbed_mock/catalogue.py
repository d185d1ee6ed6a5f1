"""The models that are played: each with its contract and what else is known of it, and the codes they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from seedbed_schemas.contract import default_contract, shipped_contracts
from seedbed_schemas.profile import profile_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seedbed_schemas import Code, Contract
    from seedbed_schemas.profile import Profile


@dataclass(frozen=True, slots=True)
class Model:
    """One model.

    Attributes:
        contract: What its page promises.
        profile: What else is known of it.
    """

    contract: Contract
    profile: Profile


class Catalogue:
    """The shipped models, which are those of the folder ``contracts``, and more.

    Args:
        more: Contracts of further models; one for a model that is known already takes its place.
    """

    def __init__(self, more: Iterable[Contract] = ()) -> None:
        contracts = {contract.model: contract for contract in (default_contract(), *shipped_contracts(), *more)}
        self.models = {name: Model(contract, profile_of(contract)) for name, contract in contracts.items()}
        self.shipped = self.models[default_contract().model]
        self.codes: dict[str, Code] = {}
        for contract in (*contracts.values(), default_contract()):
            for code in contract.codes:
                self.codes.setdefault(code.name, code)
