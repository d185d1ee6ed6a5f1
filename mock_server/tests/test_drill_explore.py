"""``seedbed drill --explore``: every fault with every request, what is remembered, and how a failure is repeated."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from seedbed_mock import running
from seedbed_mock.bill import Bill
from seedbed_mock.cli import main
from seedbed_mock.drill.explore import Explorer, effects_of, fault_cases
from seedbed_mock.drill.outcomes import CaseMemory, CaseOutcome
from seedbed_mock.drill.report import FORMATS, closing_line
from seedbed_mock.drill.runner import Drill, DrillCase, DrillReport, ScenarioResult
from seedbed_mock.faults.rules import EFFECTS, Rule, parse_rule
from seedbed_mock.observation import ControlRun
from seedbed_mock.options import RunOptions
from seedbed_mock.settings import SettingsError
from seedbed_mock.verdicts import verdicts_on
from seedbed_schemas import default_contract
from seedbed_schemas.baseline import KnownFinding, read_baseline
from tests.drill_mistakes import CreatesAgainAfter500
from tests.drill_worker import Worker, drilled
from tests.test_drill_command import COMMAND, program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_mock import MockServer
    from seedbed_mock.observation import Observation

CODES = [code.number for code in default_contract().codes if code.number != 200]


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "program"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module", name="server")
def start_server() -> Iterator[MockServer]:
    with running() as server:
        yield server


@pytest.fixture(name="few")
def leave_out_slow_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("answer.html", "task.fail", "task.lost", "task.orphan")
    monkeypatch.setattr("seedbed_mock.drill.explore.EFFECTS", {name: EFFECTS[name] for name in names})


@dataclass(frozen=True)
class WorkerDrill(Drill):
    """A drill of a worker, whose hours pass at once, on a server that all its runs share."""

    server: MockServer | None = None
    worker: type[Worker] = Worker
    cases: list[str] = field(default_factory=list)

    def result(self, case: DrillCase, control: ControlRun | None = None) -> ScenarioResult:
        assert self.server
        self.cases.append(case.name)
        seen = drilled(self.server, self.worker, *case.rules, task_seconds=4)
        occurred = any(each.hits for each in self.server._service.faults)
        findings = verdicts_on(seen, control or ControlRun.of(seen))
        return ScenarioResult(case.name, seen, findings, 0, Bill(), occurred=occurred)


def explored(
    server: MockServer, worker: type[Worker], budget: int = 1000, *, remembers: bool = False
) -> tuple[DrillReport, list[str]]:
    """Explore a worker, and return the report and the cases that were run, the calm one first."""
    drill = WorkerDrill(("worker",), RunOptions(), 60, server=server, worker=worker)
    return drill.run([], Explorer(budget, CaseMemory(drill, is_used=remembers))), drill.cases


class OneImage(Worker):
    prompts = ("A hill at dawn",)


class Careful(OneImage):
    uses_callbacks = False


class PaysAgain(CreatesAgainAfter500):
    prompts = OneImage.prompts
    uses_callbacks = False


@pytest.fixture(scope="module", name="calm")
def calm_run(server: MockServer) -> Observation:
    return drilled(server, OneImage)


def test_every_effect_and_every_error_code_is_tried() -> None:
    effects = list(effects_of(CODES))
    assert {type(each) for each in effects} == set(EFFECTS.values())
    rules = [str(Rule(each)) for each in effects]
    assert len(set(rules)) == len(rules)
    assert {*map(str, CODES), "wire.reset", "wire.reset at=middle", "task.stuck state=queuing"} <= set(rules)


def test_every_case_is_one_rule_for_one_call(calm: Observation) -> None:
    cases = fault_cases(calm, CODES)
    rules = [each.rule for each in cases]
    assert len(set(rules)) == len(rules)
    assert all(parse_rule(each).match.nth for each in rules)
    calls = {(each.operation, each.number) for each in cases}
    assert len(calls) == len(calm.calls)
    # The first and the last call come before those between them.
    order = list(dict.fromkeys((each.operation, each.number) for each in cases))
    assert set(order[:3]) == {("createTask", 1), ("recordInfo", 1), ("recordInfo", len(calm.calls) - 1)}
    assert {"wire.reset at=middle; op=recordInfo; nth=2", "callback.unsigned; nth=1", "task.orphan; nth=1"} <= set(
        rules
    )


def test_effects_that_change_nothing_are_no_cases(calm: Observation) -> None:
    unsigned = {each.rule for each in fault_cases(replace(calm, signs=False), CODES)}
    assert "callback.twice; nth=1" in unsigned
    assert not {"callback.unsigned; nth=1", "callback.stale; nth=1", "callback.other-id; nth=1"} & unsigned
    tasks = {name: msgspec.structs.replace(each, callback=None) for name, each in calm.tasks.items()}
    assert not any("callback" in each.rule for each in fault_cases(replace(calm, tasks=tasks), CODES))
    queries = tuple(each for each in calm.entries if each.operation == "recordInfo")
    assert {each.operation for each in fault_cases(replace(calm, entries=queries), CODES)} == {"recordInfo"}


def test_a_call_that_no_rule_counts_is_no_case(calm: Observation) -> None:
    refused = msgspec.structs.replace(calm.creations[0], handler="authenticate", task_id="")
    cases = fault_cases(replace(calm, entries=(refused, *calm.entries)), CODES)
    assert {each.number for each in cases if each.operation == "createTask"} == {1}


@pytest.mark.exhaustive
def test_no_fault_of_any_request_is_too_much_for_the_careful_program(server: MockServer) -> None:
    report, cases = explored(server, OneImage)
    assert {each.name: list(each.failed) for each in report.results} == {"calm": []}
    assert report.exploration
    assert report.exploration.runs == len(cases) - 1 == report.exploration.cases > 100
    assert closing_line(report) == f"Passed: no verdict failed in 1 run and {len(cases) - 1} cases."


@pytest.mark.usefixtures("few")
def test_a_failure_is_one_rule_and_what_was_left_out_is_named(server: MockServer) -> None:
    report, cases = explored(server, PaysAgain, 4)
    assert len(cases) == 5
    failures = {each.name: each for each in report.results[1:]}
    assert list(failures) == ["task.lost; nth=1", "task.orphan; nth=1"]
    assert list(failures["task.orphan; nth=1"].failed) == ["paid twice"]
    assert failures["task.lost; nth=1"].repeat == (
        "seedbed run --fault 'task.lost; nth=1' --calm images=1,fetches -- worker"
    )
    summary = report.exploration
    assert summary
    assert len(summary.left_out) == summary.cases - 4
    assert f"{len(summary.left_out)} were left out; pass a larger --budget" in summary.describe()
    for name, render in FORMATS.items():
        text = render(report)
        assert "task.orphan" in text, name
        assert "seedbed run --fault" in text, name
    assert json.loads(FORMATS["json_file"](report))["exploration"]["left_out"] == list(summary.left_out)


@pytest.mark.usefixtures("few")
def test_outcomes_are_remembered_until_the_program_changes(server: MockServer) -> None:
    source = Path("worker.py")
    source.write_text("one = 1\n", encoding="utf-8")
    first, _ = explored(server, PaysAgain, 4, remembers=True)
    assert first.exploration
    failed = [each.name for each in first.results[1:]]
    # Each failure is run again for its evidence; the rest of the budget goes on where the first drill ended.
    again, cases = explored(server, PaysAgain, len(failed) + 1, remembers=True)
    assert again.exploration
    assert cases == ["calm", *failed, *first.exploration.left_out[:1]]
    assert again.exploration.remembered == 4 - len(failed)
    assert [each.name for each in again.results[1:]][: len(failed)] == failed
    # A failure that there is no budget for is neither confirmed nor gone.
    some, _ = explored(server, PaysAgain, 1, remembers=True)
    assert some.exploration
    assert failed[1] in some.exploration.left_out
    assert some.exploration.failed == len(some.results) - 1 == 1
    some.compare([KnownFinding(f"paid twice: {failed[1].partition(';')[0]}", "paid twice", "", "task.orphan")])
    assert some.fixed == []
    source.write_text("one = 2\n", encoding="utf-8")
    changed, cases = explored(server, PaysAgain, 1, remembers=True)
    assert changed.exploration
    assert (changed.exploration.remembered, len(cases)) == (0, 2)


@pytest.mark.usefixtures("few")
def test_a_remembered_failure_that_is_gone_is_not_reported(server: MockServer) -> None:
    first, _ = explored(server, PaysAgain, 4, remembers=True)
    assert len(first.results) > 1
    again, _ = explored(server, Careful, 4, remembers=True)
    assert [each.name for each in again.results] == ["calm"]


def memory_of(dialect: str = "documented", *, is_used: bool = True) -> CaseMemory:
    command = (sys.executable, "app.py", "not a file", "x" * 5000, "nul\0")
    return CaseMemory(Drill(command, RunOptions(dialect=dialect), 60), is_used=is_used)


def test_what_makes_a_program_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("lib").mkdir()
    Path("lib/helper.py").write_text("a", encoding="utf-8")
    cases = {"429; nth=1": CaseOutcome((), occurred=True)}

    def remembered(dialect: str = "documented") -> bool:
        return memory_of(dialect).recall() == cases

    def keep() -> None:
        memory = memory_of()
        memory.recall()
        memory.keep(cases)
        assert memory.problem == ""

    keep()
    assert remembered()
    assert not remembered("observed")
    monkeypatch.setenv("MODE", "careless")
    assert not remembered()
    monkeypatch.delenv("MODE")
    assert memory_of(is_used=False).recall() == {}
    for path in (Path("lib/helper.py"), Path("lib/new.py"), Path("app.py")):
        assert remembered()
        path.write_text("changed", encoding="utf-8")
        assert not remembered(), path
        keep()
    Path("lib/new.py").unlink()
    assert not remembered()
    for hidden in (".git/index", "__pycache__/x.pyc", "node_modules/x.js", "venv/x.py"):
        keep()
        path = Path(hidden)
        path.parent.mkdir(exist_ok=True)
        Path("venv/pyvenv.cfg").touch() if path.parts[0] == "venv" else None
        path.write_text("anything", encoding="utf-8")
        assert remembered(), hidden


def test_what_a_program_writes_itself_makes_it_no_other_one() -> None:
    cases = {"429; nth=1": CaseOutcome((), occurred=True)}
    for number in range(3):
        memory = memory_of()
        Path("state.db").write_text(f"calm {number}", encoding="utf-8")
        assert memory.recall() == (cases if number else {})
        Path("state.db").write_text(f"later {number}", encoding="utf-8")
        Path(f"image-{number}.jpg").touch()
        memory.keep(cases)
        assert memory.problem == ""


def test_nothing_is_remembered_of_a_program_that_is_edited_meanwhile() -> None:
    Path("app.py").write_text("a", encoding="utf-8")
    memory = memory_of()
    memory.recall()
    Path("app.py").write_text("b ", encoding="utf-8")
    memory.keep({})
    assert memory.problem.startswith("Nothing is remembered: ")
    assert memory.problem.endswith("app.py changed while the drill ran.")
    assert not list(Path(os.environ["XDG_STATE_HOME"]).rglob("*.json"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"files": {}, "written": []}', b"[" * 10**5])
def test_a_damaged_memory_is_none(content: bytes) -> None:
    memory = memory_of()
    memory.recall()
    memory.keep({})
    (path,) = Path(os.environ["XDG_STATE_HOME"]).rglob("*.json")
    path.write_bytes(content)
    assert memory_of().recall() == {}


def test_too_many_files_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed_mock.drill.outcomes._MOST_FILES", 1)
    Path("a").touch()
    Path("b").touch()
    memory = memory_of()
    assert memory.recall() == {}
    memory.keep({})
    assert "too many files" in memory.problem


CONTROLS = ["images=0", "images=3,fetches", "images=1,callbacks", "images=2,fetches,callbacks,repeats=2"]


@pytest.mark.parametrize("text", CONTROLS)
def test_what_a_calm_run_shows_can_be_written_on_a_command_line(text: str) -> None:
    assert ControlRun.parse(text).describe() == text


@pytest.mark.parametrize(
    "text", ["", "images", "images=-1", "fetches", "images=1, fetches", "images=1,repeats=0", "x\0"]
)
def test_another_text_is_no_calm_run(text: str) -> None:
    with pytest.raises(SettingsError, match="write images=N"):
        ControlRun.parse(text)


# Real programs


def seedbed(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_printed_command_repeats_a_failure_and_a_baseline_makes_it_known(tmp_path: Path) -> None:
    command = program(Path.cwd(), "")
    options = ["--explore", "--budget", "1", "--task-seconds", "0.1", "--baseline", str(tmp_path / "known.json")]
    done = seedbed("drill", *options, "--write-baseline", "--json-file", str(tmp_path / "r.json"), "--", *command)
    assert done.returncode == 0, done.stderr  # the failures that are written are known from then on
    (known,) = read_baseline((tmp_path / "known.json").read_bytes(), "x")
    assert (known.identity, known.clause) == ("crashed: 401; op=createTask", "crashed")
    result = json.loads((tmp_path / "r.json").read_bytes())["scenarios"][1]
    assert (result["name"], result["outcome"]) == ("401; op=createTask; nth=1", "known")
    assert f"Repeat: {result['repeat']}" in done.stdout
    words = shlex.split(result["repeat"])
    assert words[0] == "seedbed"
    repeated = seedbed(*words[1:])
    assert "seedbed run: crashed: It ended with exit code 1" in repeated.stderr
    assert "TypeError" in repeated.stderr  # what the program prints passes
    assert "createTask, code 401 (fault 401; op=createTask; nth=1)" in repeated.stderr
    assert "seedbed run: 1 call, 0 tasks." in repeated.stderr


@pytest.mark.slow
def test_ctrl_c_gives_the_report_so_far(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMMAND, "drill", "--explore", "--task-seconds", "0.1", "--no-cache"]
    command += ["--markdown", str(tmp_path / "r.md"), "--", *program(Path.cwd(), "")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while "failed" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        shown, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "Interrupted: 1 failure in 1 run and " in shown.replace("\n", " ")
    assert "Interrupted" in (tmp_path / "r.md").read_text(encoding="utf-8")


INVALID = {
    "a fault": (["run", "--fault", "nope", "--", "true"], 'Invalid --fault: unknown effect "nope"'),
    "the code of a success": (["run", "--fault", "200", "--", "true"], "200 is the code of a success"),
    "a calm run": (["run", "--calm", "x", "--", "true"], "Invalid calm run 'x'; write images=N"),
    "a deadline": (["run", "--deadline", "0", "--", "true"], "--deadline"),
    "a budget": (["drill", "--explore", "--budget", "0", "--", "true"], "--budget"),
    "no baseline": (["drill", "--write-baseline", "--", "true"], "--write-baseline needs a file"),
    "a missing baseline": (["drill", "--baseline", "none", "--", "true"], "none: No such file"),
    "another baseline": (["drill", "--baseline", "other", "--", "true"], "other is not a baseline"),
    "one file for two": (
        ["drill", "--baseline", "other", "--json-file", "other", "--", "true"],
        "Two reports go to other",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), INVALID.values(), ids=INVALID)
def test_an_invalid_option_gets_one_sentence(
    arguments: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("other").write_text("[]", encoding="utf-8")
    assert main(arguments) == 2
    shown = capfd.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 2
    assert Path("other").read_text(encoding="utf-8") == "[]"


def test_a_run_with_a_deadline_is_stopped(capfd: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    stubborn = "trap 'sleep 2; exit 5' TERM; while true; do sleep 0.1; done"
    assert main(["run", "--deadline", "0.3", "--calm", "images=1", "--", "sh", "-c", stubborn]) == 5
    assert time.monotonic() - started < 20
    shown = capfd.readouterr().err
    assert "it was stopped after 0.3 s." in shown
    assert "hung: It sent nothing for 0 s and did not end" in shown  # the time until the deadline, not until its end
