"""The contract of the Seedream job API, derived from the vendor's documentation page."""

from seedbed_schemas.clauses import Clause
from seedbed_schemas.contract import Code, Contract, ContractError, Operation, default_contract, shipped_contracts
from seedbed_schemas.job_api import JobApi, job_api
from seedbed_schemas.schema import Schema, Violation

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
