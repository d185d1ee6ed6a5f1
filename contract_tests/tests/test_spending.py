"""A run against a remote server never spends more than ``--spend`` allows."""

import os
import pty
import subprocess
from collections.abc import Iterator
from decimal import Decimal

import pytest
from seedbed_contract.checker import Options, run_checks
from seedbed_contract.findings import Report
from seedbed_contract.target import Target, target_of
from seedbed_mock import MockServer, running
from seedbed_schemas import job_api
from tests.minimal_service import serve
from tests.seeded_defect import PLAIN
from tests.seeded_defects import SEEDED_DEFECTS

PRICE = Decimal("6.5")


@pytest.fixture(autouse=True)
def remote(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat servers on this machine as remote, with rates that never limit."""
    monkeypatch.setattr(Target, "is_local", property(lambda _: False))
    monkeypatch.setattr(job_api(), "rate", (10_000, 10))
    monkeypatch.setattr(job_api(), "poll_rate", (10_000, 10))


@pytest.fixture
def paid() -> Iterator[MockServer]:
    with running(credits=80, task_seconds=0, rate_limit="off") as server:
        yield server


def check(server: MockServer, spend: str) -> Report:
    return run_checks(target_of(server.url, server.key, spend=Decimal(spend)), Options(time_limit=20))


def created(server: MockServer) -> int:
    return sum(call["operation"] == "createTask" and call["code"] == 200 for call in server.calls)


def test_by_default_only_requests_that_must_be_refused_are_sent(paid: MockServer) -> None:
    report = check(paid, "0")
    assert created(paid) == report.tasks == report.spent == 0
    assert report.conforms
    assert {"requests.accepted", "requests.more"} <= {each.subject for each in report.not_checked}
    assert any("--spend" in each.reason for each in report.not_checked)


@pytest.mark.parametrize(("spend", "tasks"), [("6.4", 0), ("6.5", 1), ("20", 3)])
def test_a_run_spends_no_more_than_allowed(paid: MockServer, spend: str, tasks: int) -> None:
    report = check(paid, spend)
    assert created(paid) == report.tasks == tasks
    assert report.spent == float(PRICE * tasks)
    assert report.conforms


def test_a_wrongly_accepted_request_counts_and_ends_a_run_without_a_budget() -> None:
    (defect,) = [defect for defect in SEEDED_DEFECTS if defect.name == "no limit to the prompt"]
    with defect.serve() as served:
        target = target_of(served.url, served.key, dialect="documented", http_status="envelope")
        report = run_checks(target, Options(time_limit=20))
    assert report.tasks == 1
    assert report.spent == float(PRICE)
    assert [finding.clause for finding in report.findings] == ["input.prompt/maxLength"]


def test_a_target_that_overcharges_gets_no_more_requests_than_the_budget_covers() -> None:
    (defect,) = [defect for defect in SEEDED_DEFECTS if defect.name == "a task charged twice"]
    with defect.serve() as served:
        target = target_of(served.url, served.key, dialect="documented", http_status="envelope", spend=PRICE * 4)
        report = run_checks(target, Options(time_limit=20))
    assert report.tasks == 2
    assert report.spent <= float(PRICE * 4)


def test_the_command_asks_on_a_terminal_before_it_spends_credits() -> None:
    with serve(PLAIN) as served:
        words = ["check", served.url.replace("127.0.0.1", "localhost.localdomain"), "--key", "k", "--spend", "13"]
        printed, _ = run_on_a_terminal(words, reply=b"n\n")
    assert "2 tasks, which cost up to 13 credits" in printed
    assert "Continue? [y/N]" in printed
    assert "nothing was sent" in printed


def run_on_a_terminal(words: list[str], reply: bytes) -> tuple[str, int]:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(["seedbed", *words], stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    os.write(controller, reply)
    printed = b""
    try:
        while part := os.read(controller, 4096):
            printed += part
    except OSError:  # the other end is closed
        pass
    os.close(controller)
    return printed.decode(), process.wait()
