"""What the tests of the judge share: a run over a server that the tests serve."""

from typing import Any

from seedbed_contract.checker import Options, run_checks
from seedbed_contract.findings import Report
from seedbed_contract.target import target_of
from tests.minimal_service import Served


def run_against(
    served: Served, *, seed: int = 0, time_limit: float = 30, only: tuple[str, ...] = (), **known: Any
) -> Report:
    """Judge a server with all that its users know of it."""
    told = {
        "second_key": served.second_key or "",
        "signing_key": served.signing_key or "",
        "fail_prompt": served.fail_prompt or "",
        "dialect": served.variant.dialect,
        "http_status": served.variant.http_status,
    }
    target = target_of(served.url, served.key, **{**told, **known})
    return run_checks(target, Options(seed=seed, time_limit=time_limit, only=only))


def found(report: Report) -> list[tuple[str, str, str]]:
    """Return what a report found, in a form that a failing test shows well."""
    return [(finding.clause, finding.title, finding.sample.response) for finding in report.findings]
