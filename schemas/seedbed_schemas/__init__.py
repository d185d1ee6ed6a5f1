"""The contract of the Seedream job API, derived from the vendor's documentation page."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.job_api import JobApi, job_api

if TYPE_CHECKING:
    from seedbed_schemas.clauses import Clause
    from seedbed_schemas.contract import Code, Contract, ContractError, Operation, default_contract, shipped_contracts
    from seedbed_schemas.validation import Schema, Violation


__all__ = [
    "Clause",
    "Code",
    "Contract",
    "ContractError",
    "JobApi",
    "Operation",
    "Schema",
    "Violation",
    "default_contract",
    "job_api",
    "shipped_contracts",
]

__version__ = "0.1.0"

_MODULES: Final = {
    "clauses": ("Clause",),
    "contract": ("Code", "Contract", "ContractError", "Operation", "default_contract", "shipped_contracts"),
    "validation": ("Schema", "Violation"),
}


def __getattr__(name: str) -> Any:
    # Validation imports two JSON Schema libraries. A client that has not sent anything yet must not wait for them,
    # so these names are imported when they are first used.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"seedbed_schemas.{module}"), name)
    raise AttributeError(f"module 'seedbed_schemas' has no attribute {name!r}")
