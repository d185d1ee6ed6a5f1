"""The reports of a drill over made runs: the time line, and every format with hostile texts."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console
from seedbed_mock import MockServer, SettingsError
from seedbed_mock.bill import Bill
from seedbed_mock.drill.command import ReportFiles
from seedbed_mock.drill.console import RunningTable, show_report
from seedbed_mock.drill.report import FORMATS, closing_line, to_dict, to_html, to_junit, to_markdown
from seedbed_mock.drill.runner import CALM, DrillReport, ScenarioResult
from seedbed_mock.drill.timeline import WIDTH, timeline_of
from seedbed_mock.observation import ControlRun, key_of
from seedbed_mock.options import RunOptions
from seedbed_mock.verdicts import verdicts_on
from tests.test_drill_rules import ONE, TWO, callback, create, query, run, task

if TYPE_CHECKING:
    from seedbed_mock.observation import Observation

NASTY = "<script>alert(1)</script> | `x` & \x00\x1b[31m \ud800"
CONTROL = ControlRun(Counter({key_of(create(0)): 1}), 1, fetches=True, acts_on_callbacks=True)
GOOD = run(create(0), query(5, ONE), callback(10), query(11, ONE, "success"), fetches=[(11, ONE)], ended=12)
TWICE = run(
    create(0, fault="wire.reset; op=createTask (rule 1)"),
    create(5, TWO),
    query(16, TWO, "success"),
    tasks=[task(), task(TWO)],
    fetches=[(16, TWO)],
    ended=20,
    errors=NASTY,
)


def result(name: str, seen: Observation, *notes: str) -> ScenarioResult:
    return ScenarioResult(name, seen, verdicts_on(seen, CONTROL), 12.3, Bill(), notes)


REPORT = DrillReport(
    ("python", NASTY.replace("\x00", ""), "a b"), [result(CALM, GOOD), result(NASTY, TWICE, f"It left {NASTY}.")]
)
PASSED = DrillReport(("true",), [result(CALM, GOOD)])
EMPTY = DrillReport(("true",), [result(CALM, run(tasks=[]))], "The program never called the API.")


def test_a_time_line_shows_requests_states_images_and_callbacks_on_one_axis() -> None:
    line = timeline_of(GOOD)
    assert [lane.label for lane in line.lanes] == ["createTask", "recordInfo", "images", "callbacks", "task 1"]
    lanes = {lane.label: lane.marks for lane in line.lanes}
    assert line.seconds == 12
    assert [mark.start for mark in lanes["recordInfo"]] == [round(5 / 12 * WIDTH, 1), round(11 / 12 * WIDTH, 1)]
    assert [mark.kind for mark in lanes["task 1"]] == ["waiting", "queuing", "generating", "success"]
    assert all(one.end == other.start for one, other in zip(lanes["task 1"], lanes["task 1"][1:], strict=False))
    assert lanes["task 1"][-1].end == WIDTH
    assert lanes["callbacks"][0].title == "10.0 s: callback of task_1, attempt 1, HTTP 200"
    assert [label for _, label in line.ticks] == ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s", "12 s"]


def test_a_time_line_marks_faults_and_refusals() -> None:
    lanes = {lane.label: lane.marks for lane in timeline_of(TWICE).lanes}
    assert [mark.kind for mark in lanes["createTask"]] == ["fault", "good"]
    assert lanes["createTask"][0].title == "0.0 s: createTask of task_1, code 200, fault wire.reset; op=createTask"
    refused = timeline_of(run(callback(3, status=401), tasks=[task(ends=1, fails=True)], ended=4))
    assert [mark.kind for lane in refused.lanes for mark in lane.marks] == [
        *("bad", "waiting", "queuing", "generating", "fail"),
    ]


@pytest.mark.parametrize("seconds", [0, 0.001, 0.5, 7, 59, 60, 100, 3600, 86_400])
def test_a_time_line_of_any_length_has_a_few_round_ticks(seconds: float) -> None:
    line = timeline_of(run(create(0), ended=seconds))
    assert 1 <= len(line.ticks) <= 12
    assert all(0 <= position <= WIDTH for position, _ in line.ticks)
    assert all(0 <= mark.start <= mark.end <= WIDTH for lane in line.lanes for mark in lane.marks)


def test_a_run_with_many_tasks_says_how_many_have_no_row() -> None:
    many = timeline_of(run(tasks=[task(f"task_{number}") for number in range(100)]))
    assert (len(many.lanes), many.hidden) == (30, 70)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("report", [REPORT, PASSED, EMPTY], ids=["failed", "passed", "empty"])
def test_every_format_is_written_and_can_be_encoded(name: str, report: DrillReport, tmp_path: Path) -> None:
    reports: dict[str, Any] = {name: tmp_path / "report"}
    ReportFiles(**reports).write(report)
    assert (tmp_path / "report").stat().st_size > 100


def test_json_has_every_verdict_with_its_rule_and_evidence() -> None:
    content = json.loads(FORMATS["json_file"](REPORT))
    assert content["passed"] is False
    verdicts = {each["name"]: each for each in content["scenarios"][1]["verdicts"]}
    assert len(verdicts) == 13
    assert verdicts["paid twice"]["outcome"] == "failed"
    assert verdicts["paid twice"]["evidence"][0] == {
        "seconds": 0.0,
        "what": "createTask of task_1, code 200 (fault wire.reset; op=createTask)",
    }
    assert verdicts["hung"]["rule"]


def test_junit_has_a_case_for_each_verdict() -> None:
    root = ET.fromstring(to_junit(REPORT))  # noqa: S314 (our own report)
    suites = root.findall("testsuite")
    assert [suite.get("failures") for suite in suites] == ["0", "1"]
    assert {suite.get("tests") for suite in suites} == {"13"}
    (failure,) = root.iter("failure")
    assert failure.get("message") == "The same request was paid for 2 times."
    assert "5.0 s: createTask of task_2, code 200" in str(failure.text)
    broken = ET.fromstring(to_junit(EMPTY))  # noqa: S314 (as above)
    assert [each.get("message") for each in broken.iter("error")] == ["The program never called the API."]


def test_markdown_escapes_what_would_be_markup() -> None:
    text = to_markdown(REPORT)
    assert "<script>" not in text
    assert all(line.count("|") - line.count("\\|") == 6 for line in text.splitlines() if line.startswith("|"))
    assert "**" in text


def test_html_is_one_file_that_loads_nothing_and_escapes_everything() -> None:
    page = to_html(REPORT)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page)
    assert page.count('<svg viewBox="0 0 1160') == 2
    assert "default-src 'none'" in page
    assert "5.0 s: createTask of task_2, code 200" in page


def test_the_closing_line_says_what_came_of_the_drill() -> None:
    assert closing_line(PASSED) == "Passed: no verdict failed in 1 runs."
    assert closing_line(EMPTY) == "Nothing can be concluded. The program never called the API."
    many = DrillReport(("x",), [result(f"s{number}", TWICE) for number in range(6)])
    assert closing_line(many).endswith("6 of 6 runs have a verdict against the program: s0, s1, s2, s3 and 2 more.")
    assert to_dict(EMPTY)["scenarios"][0]["outcome"] == "failed"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_fits_any_terminal(width: int) -> None:
    console = Console(width=width, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115 (closed with the test)
    show_report(REPORT, RunOptions(), console)
    console.file.close()
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    assert any("paid twice" in " ".join(lines[number : number + 2]) for number in range(len(lines)))


def test_on_a_terminal_the_results_appear_in_a_table(tmp_path: Path) -> None:
    with (tmp_path / "terminal").open("w+", encoding="utf-8") as file:
        console = Console(file=file, force_terminal=True, width=80)
        with RunningTable(console, ["storm"]) as running:
            running.add(result(CALM, GOOD))
            running.add(result("storm", TWICE))
        file.seek(0)
        shown = file.read()
    assert "failed (paid twice), exit 0 after 12.3 s" in shown


def test_two_reports_in_one_file_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Two reports go to"):
        ReportFiles(json_file=tmp_path / "x", html=tmp_path / "x").check()
    with pytest.raises(FileNotFoundError):
        ReportFiles(json_file=tmp_path / "no" / "x").check()


@pytest.mark.seedbed_scenario("double-charge")
@pytest.mark.seedbed(seed=0)
def test_a_marker_sets_the_scenario_and_the_server_gives_a_verdict(seedbed: MockServer) -> None:
    assert seedbed.control("GET", "faults")["scenario"]["name"] == "double-charge"
    found = seedbed.verdict()
    assert found.failed == {}
    found.check()


def test_a_verdict_names_what_a_test_has_lost(seedbed: MockServer, create: object) -> None:
    assert callable(create)
    seedbed.verdict().check()
    create()
    with pytest.raises(
        AssertionError, match=r"lost result: The task .* succeeded, and the program never learned of it"
    ):
        seedbed.verdict().check()
    assert "learned of 0 of 1 images" in seedbed.verdict(images=1).failed["claimed success wrongly"].reason
