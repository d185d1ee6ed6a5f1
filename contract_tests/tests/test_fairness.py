"""Mistakes of users and lawful choices of servers do not become findings."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from seedbed_contract.checker import Options, run_checks
from seedbed_contract.http import TargetResponse
from seedbed_contract.rules.envelope import leak_defects
from seedbed_contract.target import target_of
from seedbed_mock import running
from seedbed_mock.cli import main
from seedbed_schemas import Contract, default_contract
from tests.checking import found, run_against
from tests.minimal_requests import RefusalError
from tests.seeded_defect import seeded


def test_a_second_key_may_differ_from_the_first_by_one_character() -> None:
    with running(key=("key-a", "key-b"), task_seconds=0) as server:
        for others in ({}, {"second_key": "key-b"}):
            target = target_of(server.url, "key-a", **others)
            assert found(run_checks(target, Options(only=("authorisation.*",)))) == []


def test_a_refused_key_is_a_user_error_and_not_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    with running() as server:
        assert main(["check", server.url, "--key", "mistyped"]) == 2
        assert main(["check", server.url, "--key", ""]) == 2
    printed = capsys.readouterr()
    assert "refuses the key" in printed.err
    assert "The key is missing" in printed.err
    assert printed.out == ""


def test_a_refused_second_key_is_reported_as_not_checked() -> None:
    with running(task_seconds=0) as server:
        target = target_of(server.url, server.key, second_key="mistyped")
        report = run_checks(target, Options(only=("authorisation.accounts",)))
    assert report.conforms
    assert any("second key" in each.reason for each in report.not_checked)


@pytest.mark.slow  # the rate limit makes the run wait
def test_a_model_with_a_shorter_code_table_is_checked_against_its_own_contract() -> None:
    document = json.loads(json.dumps(default_contract().document).replace(default_contract().model, "meadow/1-sketch"))
    document["x-codes"] = [row for row in document["x-codes"] if row["code"] not in {404, 455, 505}]
    contract = Contract(document)
    with running(contracts=[contract], task_seconds=0) as server:
        report = run_checks(target_of(server.url, server.key), Options(contract=contract))
    assert found(report) == []
    assert report.tasks > 3


@pytest.mark.parametrize("limit", [0.8, 1.5, 2.5])
def test_a_run_with_a_short_time_limit_ends_in_time_and_does_not_pass(
    limit: float, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(task_seconds=30) as server:
        assert main(["check", server.url, "--time-limit", str(limit), "--quiet"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_callbacks_of_a_server_that_refuses_loopback_urls_are_not_checked() -> None:
    def refuse(*_: object) -> None:
        raise RefusalError(422, "callBackUrl must not point to a private network")

    with seeded("no loopback", check_callback=refuse).serve() as served:
        report = run_against(served, only=("requests.accepted", "callbacks.*"))
    assert [clause for clause, _, _ in found(report)] == []
    assert any("refuses callbacks to this machine" in each.reason for each in report.not_checked)


@pytest.mark.parametrize(
    "trace",
    [
        "java.lang.NullPointerException\n\tat com.kie.Jobs.create(Jobs.java:12)",
        'Traceback (most recent call last):\n  File "/app/main.py", line 3, in create',
        "Error: no\n    at create (/app/jobs.js:10:5)",
        "SQLSTATE[42S02]: Base table or view not found",
        "#0 /app/index.php:12 Stack trace:",
    ],
)
def test_stack_traces_are_recognised_in_several_languages(trace: str) -> None:
    response = TargetResponse(200, (), json.dumps({"code": 500, "msg": trace}).encode())
    assert [defect.clause for defect in leak_defects(response, ())] == ["answer/no-stack-trace"]


def test_a_short_key_is_not_printed_either(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with running(key="k1") as server:
        server.add_faults("answer.type; op=createTask")
        words = ["--key", "k1", "--only", "requests.raw", "--json-file", str(report)]
        main(["check", server.url, *words])
    curls = [finding["sample"]["curl"] for finding in json.loads(report.read_text())["findings"]]
    assert curls
    assert not [curl for curl in curls if "Bearer k1" in curl]


def test_two_reports_cannot_go_to_the_same_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = str(tmp_path / "report")
    assert main(["check", "http://127.0.0.1:9", "--json-file", report, "--html", report]) == 2
    assert "a different file for each report" in capsys.readouterr().err


def test_a_closed_pipe_does_not_change_the_exit_code() -> None:
    with running() as server:
        check = f"seedbed check {server.url} --key {server.key} --only operations.paths"
        command = f"{check} | head -n 1; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, env=os.environ, check=False)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
