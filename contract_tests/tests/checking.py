"""Helpers of the tests that run the checker against a server of their own."""

from typing import Any

from seedbed_contract.checker import Options, run_checks
from seedbed_contract.findings import Report
from seedbed_contract.target import target_of
from tests.minimal_service import Served


def run_against(
    served: Served, *, seed: int = 0, time_limit: float = 30, only: tuple[str, ...] = (), **known: Any
) -> Report:
    """Run the checker against a server with everything that its users know about it."""
    defaults = {
        "second_key": served.second_key or "",
        "signing_key": served.signing_key or "",
        "fail_prompt": served.fail_prompt or "",
        "dialect": served.variant.dialect,
        "http_status": served.variant.http_status,
        "absent": frozenset() if served.variant.callbacks else frozenset({"callbacks"}),
    }
    target = target_of(served.url, served.key, **{**defaults, **known})
    return run_checks(target, Options(seed=seed, time_limit=time_limit, only=only))


def found(report: Report) -> list[tuple[str, str, str]]:
    """Return clause, title and response of each error, which a failing test shows well."""
    return [(finding.clause, finding.title, finding.sample.response) for finding in report.errors]


def warned(report: Report) -> list[tuple[str, str, str]]:
    """Return clause, title and response of each warning."""
    return [(finding.clause, finding.title, finding.sample.response) for finding in report.warnings]
