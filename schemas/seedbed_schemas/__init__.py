"""The contract of the Seedream job API, derived from the vendor's documentation page."""

from seedbed_schemas.contract import Code, Contract, Operation, default_contract
from seedbed_schemas.job_api import JobApi, job_api
from seedbed_schemas.schema import Schema, Violation

__all__ = ["Code", "Contract", "JobApi", "Operation", "Schema", "Violation", "default_contract", "job_api"]

__version__ = "0.1.0"
