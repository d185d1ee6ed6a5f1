"""What happens to people: keys that resemble each other, a key mistyped, a model of another page, a time too short."""

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


def test_keys_that_differ_by_a_character_are_two_good_keys() -> None:
    with running(key=("key-a", "key-b"), task_seconds=0) as server:
        for others in ({}, {"second_key": "key-b"}):
            target = target_of(server.url, "key-a", **others)
            assert found(run_checks(target, Options(only=("authorisation.*",)))) == []


def test_a_key_that_is_refused_is_a_mistake_and_no_fault_of_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    with running() as server:
        assert main(["check", server.url, "--key", "mistyped"]) == 2
        assert main(["check", server.url, "--key", ""]) == 2
    printed = capsys.readouterr()
    assert "the key is refused" in printed.err
    assert "needs a key" in printed.err
    assert printed.out == ""


def test_a_second_key_that_is_refused_is_told_and_not_judged() -> None:
    with running(task_seconds=0) as server:
        target = target_of(server.url, server.key, second_key="mistyped")
        report = run_checks(target, Options(only=("authorisation.accounts",)))
    assert report.conforms
    assert any("second key" in each.reason for each in report.not_checked)


def test_another_model_whose_page_has_a_shorter_table_of_codes_is_judged_by_its_own_contract() -> None:
    document = json.loads(json.dumps(default_contract().document).replace(default_contract().model, "meadow/1-sketch"))
    document["x-codes"] = [row for row in document["x-codes"] if row["code"] not in {404, 455, 505}]
    contract = Contract(document)
    with running(contracts=[contract], task_seconds=0) as server:
        report = run_checks(target_of(server.url, server.key), Options(contract=contract))
    assert found(report) == []
    assert report.tasks > 3


@pytest.mark.parametrize("limit", [0.8, 1.5, 2.5])
def test_a_run_whose_time_is_too_short_ends_in_time_and_does_not_pass(
    limit: float, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(task_seconds=30) as server:
        assert main(["check", server.url, "--time-limit", str(limit), "--quiet"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_server_that_calls_no_loopback_address_back_is_not_judged_by_its_callbacks() -> None:
    def refuse(*_: object) -> None:
        raise RefusalError(422, "callBackUrl must not point to a private network")

    with seeded("no loopback", check_callback=refuse).serve() as served:
        report = run_against(served, only=("requests.accepted", "callbacks.*"))
    assert [clause for clause, _, _ in found(report)] == []
    assert any("refuses callbacks to this machine" in each.reason for each in report.not_checked)


@pytest.mark.parametrize(
    "told",
    [
        "java.lang.NullPointerException\n\tat com.kie.Jobs.create(Jobs.java:12)",
        'Traceback (most recent call last):\n  File "/app/main.py", line 3, in create',
        "Error: no\n    at create (/app/jobs.js:10:5)",
        "SQLSTATE[42S02]: Base table or view not found",
        "#0 /app/index.php:12 Stack trace:",
    ],
)
def test_the_inside_of_a_server_is_known_in_every_language(told: str) -> None:
    answer = TargetResponse(200, (), json.dumps({"code": 500, "msg": told}).encode())
    assert [flaw.clause for flaw in leak_defects(answer, ())] == ["answer/no-stack-trace"]


def test_a_short_key_is_not_shown_either(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with running(key="k1") as server:
        server.add_faults("answer.type; op=createTask")
        words = ["--key", "k1", "--only", "requests.raw", "--json", str(report)]
        main(["check", server.url, *words])
    curls = [finding["sample"]["curl"] for finding in json.loads(report.read_text())["findings"]]
    assert curls
    assert not [curl for curl in curls if "Bearer k1" in curl]


def test_two_reports_do_not_go_to_one_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = str(tmp_path / "report")
    assert main(["check", "http://127.0.0.1:9", "--json", report, "--html", report]) == 2
    assert "a place of its own" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_does_not_change_the_verdict() -> None:
    with running() as server:
        check = f"seedbed check {server.url} --key {server.key} --only operations.paths"
        command = f"{check} | head -n 1; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, env=os.environ, check=False)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
