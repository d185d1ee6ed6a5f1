"""``seedbed drill`` with real programs: what it concludes, and that nothing of a program is left running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from secrets import token_hex
from textwrap import dedent

import pytest
from seedbed_mock.cli import main

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs process groups and sh")

PROGRAM = """
import json, os, sys, time, urllib.request

BASE = os.environ["SEEDBED_BASE_URL"]

def call(path, body=None):
    request = urllib.request.Request(BASE + path, None if body is None else json.dumps(body).encode(), {
        "Authorization": "Bearer seedbed-key", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return json.load(response)

def create():
    return call("/api/v1/jobs/createTask", {"model": "seedream/4.5-text-to-image", "input": {
        "prompt": "hill", "aspect_ratio": "1:1", "quality": "basic"}})

answer = create()
ON_ERROR
task_id = answer["data"]["taskId"]
while True:
    record = call("/api/v1/jobs/recordInfo?taskId=" + task_id)["data"]
    if record["state"] == "success":
        urllib.request.urlopen(json.loads(record["resultJson"])["resultUrls"][0]).read()
        sys.exit(0)
    if record["state"] == "fail":
        sys.exit(1)
    time.sleep(1.05)
"""
COMMAND = "import sys; from seedbed_mock.cli import main; sys.exit(main())"
ORPHAN = 'description = "An orphan."\n[[phase]]\nname = "all"\nrules = ["task.orphan; times=1"]\n'


@pytest.fixture(name="scenario")
def write_scenario(tmp_path: Path) -> str:
    path = tmp_path / "orphan.toml"
    path.write_text(ORPHAN, encoding="utf-8")
    return str(path)


def program(tmp_path: Path, on_error: str = "if answer['code'] != 200: sys.exit(1)") -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.replace("ON_ERROR", on_error), encoding="utf-8")
    return [sys.executable, str(path)]


def drill(*command: str, scenario: str, deadline: float = 20) -> int:
    options = ["--scenario", scenario, "--deadline", str(deadline), "--task-seconds", "0.1"]
    return main(["drill", *options, "--", *command])


@pytest.fixture(autouse=True)
def _mark(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests of this file may run at the same time, each with programs of its own.
    monkeypatch.setenv("DRILL_TEST", token_hex(8))


def left_running() -> list[int]:
    found, mark = [], f"DRILL_TEST={os.environ['DRILL_TEST']}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            is_marked = mark in path.read_bytes().split(b"\0")
        except OSError:
            continue
        if is_marked and path.parent.name != str(os.getpid()):
            found.append(int(path.parent.name))
    return found


def test_a_careful_program_passes(tmp_path: Path, scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert drill(*program(tmp_path), scenario=scenario) == 0
    shown = capsys.readouterr()
    assert shown.out.rstrip().endswith("Passed: no verdict failed in 2 runs.")
    assert "calm: passed, exit 0" in shown.err
    assert "orphan.toml: passed, exit 1" in shown.err.replace("\n", "")


def test_a_program_that_retries_pays_twice(
    tmp_path: Path, scenario: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    command = program(tmp_path, "if answer['code'] != 200: answer = create()")
    assert drill(*command, scenario=scenario) == 1
    shown = capsys.readouterr().out
    assert "paid twice: The same request was paid for 2 times." in shown
    assert "code 500 (fault task.orphan; times=1)" in shown
    assert "Rule: The same request is not paid for more often than when nothing goes wrong. Source: recorded" in shown
    assert "Failed: 1 of 2 runs have a verdict against the program" in shown


def test_every_run_has_an_empty_folder_which_is_removed(tmp_path: Path, scenario: str) -> None:
    folders = tmp_path / "folders"
    remember = f"ls -A $SEEDBED_DRILL_FOLDER >> {tmp_path}/found; echo $SEEDBED_DRILL_FOLDER >> {folders}"
    script = f"{remember}; touch $SEEDBED_DRILL_FOLDER/done; exec {' '.join(program(tmp_path))}"
    assert drill("sh", "-c", script, scenario=scenario) == 0
    assert (tmp_path / "found").read_text(encoding="utf-8") == ""
    names = folders.read_text(encoding="utf-8").split()
    assert len(set(names)) == 2
    assert not any(Path(name).exists() for name in names)


@pytest.mark.slow
def test_a_program_that_hangs_after_an_error_is_stopped(
    tmp_path: Path, scenario: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = program(tmp_path, "if answer['code'] != 200: time.sleep(1000)")
    assert drill(*command, scenario=scenario, deadline=8) == 1
    assert "hung: It sent nothing for" in capsys.readouterr().out
    assert left_running() == []


CONTROLS = {
    "never calls": ("true", "The program never called the API"),
    "ignores the base URL and the proxy": ("env -i sh -c 'exit 0'", "takes no account of the proxy"),
    "ends with an error": (
        "echo 'no such key' >&2; exit 3",
        "never called the API, and ended with exit code 3 (no such",
    ),
    "ends without a word": ("exit 3", "never called the API, and ended with exit code 3 (it printed no error)."),
    "does not end": ("sleep 1000", "never called"),
}


@pytest.mark.parametrize(("script", "sentence"), CONTROLS.values(), ids=CONTROLS)
def test_a_program_of_which_nothing_can_be_concluded(
    script: str, sentence: str, scenario: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert drill("sh", "-c", script, scenario=scenario, deadline=0.5) == 2
    shown = capsys.readouterr()
    assert "Nothing can be concluded." in shown.out
    assert sentence in shown.out
    assert "orphan" not in shown.err
    assert left_running() == []


@pytest.mark.slow
def test_the_calm_run_says_why_it_failed(
    tmp_path: Path, scenario: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert drill(*program(tmp_path, "sys.exit('the disk is full')"), scenario=scenario) == 2
    assert "Without any fault, the program ended with exit code 1 (the disk is full)." in capsys.readouterr().out
    assert drill(*program(tmp_path, "sys.exit(0)"), scenario=scenario) == 2
    assert "ended with exit code 0 and got no image." in capsys.readouterr().out
    assert drill(*program(tmp_path, "time.sleep(99)"), scenario=scenario, deadline=1) == 2
    assert "did not end within 1 s; pass a longer --deadline." in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid")
def test_children_that_are_left_are_ended(tmp_path: Path, scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = " ".join(program(tmp_path))
    script = (
        f"sleep 1000 & setsid sleep 1000 & trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 1000' & exec {command}"
    )
    assert drill("sh", "-c", script, scenario=scenario) == 0
    assert "processes running, which were ended." in capsys.readouterr().out
    assert left_running() == []


@pytest.mark.slow
def test_a_program_may_print_any_amount(tmp_path: Path, scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = f"head -c 105000000 /dev/zero; head -c 5000000 /dev/zero >&2; exec {' '.join(program(tmp_path))}"
    assert drill("sh", "-c", script, scenario=scenario) == 0
    assert "It printed 105 MiB, of which only the end is kept." in capsys.readouterr().out


@pytest.mark.slow
def test_a_program_that_ignores_sigterm_is_killed(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = "trap '' TERM; while true; do sleep 0.1; done"
    assert drill("sh", "-c", script, scenario=scenario, deadline=0.5) == 2
    assert "It was stopped after 0.5 s, and ignored SIGTERM." in capsys.readouterr().out
    assert left_running() == []


INVALID = {
    "no command": (["drill"], "name a program"),
    "an unknown command": (["drill", "--", "no-such-program"], "no-such-program was not found"),
    "an unknown scenario": (["drill", "--scenario", "nope", "--", "true"], "nope: No such file"),
    "an invalid key": (["drill", "--key", "a b", "--", "true"], "Invalid key"),
    "an invalid duration": (["drill", "--task-seconds", "soon", "--", "true"], "Invalid time 'soon'"),
    "no time": (["drill", "--deadline", "0", "--", "true"], "--deadline"),
    "no jobs": (["drill", "--jobs", "0", "--", "true"], "--jobs"),
    "an invalid speed": (["drill", "--speed", "0", "--", "true"], "Invalid speed"),
}


@pytest.mark.parametrize(("arguments", "words"), INVALID.values(), ids=INVALID)
def test_an_invalid_command_line_gets_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.count("\n") == 2
    assert shown.out == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_drill_and_its_program(number: int, tmp_path: Path, scenario: str) -> None:
    started = tmp_path / "started"
    script = f"touch {started}; trap '' TERM; while true; do sleep 0.1; done"
    command = [sys.executable, "-c", COMMAND, "drill", "--scenario", scenario, "--", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        end = time.monotonic() + 30
        while not started.exists() and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[signal.Signals(number)]
    assert b"Traceback" not in errors
    assert left_running() == []


@pytest.mark.slow
def test_options_may_stand_in_a_file(tmp_path: Path, scenario: str) -> None:
    config = tmp_path / "drill.toml"
    config.write_text(
        dedent(f"""
            scenario = ["{scenario}"]
            deadline = 20
            task-seconds = "0.1"
            jobs = 2
        """),
        encoding="utf-8",
    )
    assert main(["drill", "--config", str(config), "--", *program(tmp_path)]) == 0
