"""``seedbed generate`` for many images: where prompts come from, names, JSON, exit codes, and going on after an end."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from seedbed_mock import MockServer, running
from seedbed_mock.cli import main


@pytest.fixture(scope="module", name="server")
def make_server() -> Iterator[MockServer]:
    with running() as server:
        yield server


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: MockServer) -> None:
    server.play(task_seconds=0, rate_limit="off", credits=10**6)
    monkeypatch.setenv("SEEDBED_BASE_URL", server.url)
    monkeypatch.delenv("SEEDBED_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)


def made(server: MockServer) -> list[str]:
    return sorted(call["request"]["input"]["prompt"] for call in server.calls if call["operation"] == "createTask")


def names() -> set[str]:
    return {path.name for path in Path().iterdir()}


def test_prompts_come_from_arguments_files_and_standard_input(
    server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("prompts.txt").write_text("\ufeffthree\n\n  four  \n", encoding="utf-8")
    assert main(["generate", "one", "two", "--from", "prompts.txt", "-o", "{index}.jpg"]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("five\nsix\n"))
    assert main(["generate", "--from", "-", "-o", "1{index}.jpg"]) == 0
    assert made(server) == sorted(["one", "two", "three", "four", "five", "six"])
    assert names() == {"prompts.txt", *(f"{number}.jpg" for number in (1, 2, 3, 4, 11, 12))}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{index:03}-{prompt}.jpg", {"001-A-hill-at-dawn.jpg", "002-Zwölf-Äpfel.jpg"}),
        ("{prompt}.jpg", {"A-hill-at-dawn.jpg", "Zwölf-Äpfel.jpg"}),
    ],
)
def test_names_follow_the_pattern(pattern: str, expected: set[str]) -> None:
    assert main(["generate", "A hill, at dawn!", "../Zwölf Äpfel", "-o", pattern]) == 0
    assert names() == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["one", "two", "-o", "out.jpg"], "{index}"),
        (["one", "one", "-o", "{prompt}.jpg"], "{index}"),
        (["one", "-o", "{name}.jpg"], "{task_id}"),
        (["one", "-o", "{index.__class__}.jpg"], "{task_id}"),
        (["one", "two", "-o", "nowhere/{index}.jpg"], "no such folder"),
        (["--from", "nowhere.txt"], "nowhere.txt"),
        (["--from", "latin.txt"], "UTF-8"),
        (["--from", "empty.txt"], "PROMPT"),
        (["one", "--resume", "latin.txt"], "not a progress file"),
        (["one", "--resume", "."], "directory"),
    ],
)
def test_a_mistake_is_one_sentence_and_costs_nothing(
    server: MockServer, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    Path("latin.txt").write_bytes(b"\xff\xe9")
    Path("empty.txt").write_bytes(b"\n")
    assert main(["generate", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert words in errors
    assert made(server) == []


def test_json_is_a_line_for_each_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "one", "two", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(each["prompt"] for each in told) == ["one", "two"]
    for each in told:
        assert each["files"] == [f"{each['task_id']}.jpg"]
        assert (each["status"], each["exit_code"], each["error"]) == ("saved", 0, "")


@pytest.mark.parametrize(
    ("rules", "code", "words"),
    [
        (["task.fail code=422 after=0; prompt=one"], 1, "failed with 422"),
        (["402; op=createTask; prompt=one"], 1, "402"),
        (["task.orphan; prompt=one"], 3, "not known whether the task was created"),
        (["task.stuck; prompt=one"], 4, "is still running"),
        (["task.orphan; prompt=one", "402; op=createTask; prompt=two"], 3, "402"),
    ],
)
def test_the_exit_code_tells_what_went_wrong(
    server: MockServer, capsys: pytest.CaptureFixture[str], rules: list[str], code: int, words: str
) -> None:
    server.add_faults(*rules)
    assert main(["generate", "one", "two", "three", "--timeout", "0.3"]) == code
    output, errors = capsys.readouterr()
    assert words in errors
    assert output.count("Saved") == 3 - len(rules)


def state() -> list[tuple[str, str]]:
    return [(job["prompt"], job["status"]) for job in json.loads(Path("run.json").read_bytes())["jobs"]]


def test_a_run_goes_on_where_the_last_one_ended(server: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.add_faults("402; op=createTask; prompt=two", "task.orphan; prompt=three", "task.stuck; prompt=four")
    command = ["generate", "one", "two", "three", "four", "--resume", "run.json", "--timeout", "0.3"]
    assert main(command) == 3
    assert state() == [("one", "saved"), ("two", "new"), ("three", "submitting"), ("four", "submitted")]
    asked = len(made(server))
    server.clear_faults()
    (task_id,) = (
        job["task_id"] for job in json.loads(Path("run.json").read_bytes())["jobs"] if job["prompt"] == "four"
    )
    server.finish(task_id)
    capsys.readouterr()
    assert main(["generate", "--resume", "run.json"]) == 3
    assert state() == [("one", "saved"), ("two", "saved"), ("three", "submitting"), ("four", "saved")]
    assert made(server).count("two") == 2
    assert len(made(server)) == asked + 1
    assert "not known whether the task was created" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["other"], ["one", "--quality", "high"], ["one", "--url", "http://127.0.0.1:1"]])
def test_the_file_of_another_run_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(["generate", "one", "--resume", "run.json"]) == 0
    kept = Path("run.json").read_bytes()
    assert main(["generate", *arguments, "--resume", "run.json"]) == 2
    assert Path("run.json").read_bytes() == kept
    assert "run.json is of a run" in capsys.readouterr().err


STARTED = """
import signal, sys
from seedbed_mock.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_image_is_paid_twice_after_an_end_by_force(server: MockServer, number: signal.Signals) -> None:
    server.play(task_seconds=3600, rate_limit="off", credits=10**6)
    command: list[Any] = [sys.executable, "-c", STARTED, "generate", "one", "two", "three", "--resume", "run.json"]
    with subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        waiting: set[str] = set()
        while len(waiting) < 3:
            line = process.stderr.readline()
            waiting |= {line} if "waiting" in line else set()
        assert main(["generate", "--resume", "run.json"]) == 2  # it is being used
        process.send_signal(number)
        errors = process.stderr.read()
    assert "Traceback" not in errors
    assert state() == [("one", "submitted"), ("two", "submitted"), ("three", "submitted")]
    for job in json.loads(Path("run.json").read_bytes())["jobs"]:
        server.finish(job["task_id"])
    assert main(["generate", "one", "two", "three", "--resume", "run.json"]) == 0
    assert made(server) == ["one", "three", "two"]
    assert state() == [("one", "saved"), ("two", "saved"), ("three", "saved")]


def test_a_task_is_shown_and_watched(server: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "one", "--json"]) == 0
    task_id = json.loads(capsys.readouterr().out)["task_id"]
    assert main(["task", task_id]) == 0
    assert "success" in capsys.readouterr().out
    assert main(["task", task_id, "--watch", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "success"
    server.add_faults("task.fail code=422 after=0")
    assert main(["generate", "two", "--json"]) == 1
    task_id = json.loads(capsys.readouterr().out)["task_id"]
    assert main(["task", task_id]) == 1
    assert "failed with" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["task", "task_seedream_0"], 1, "404"),
        (["task", "task_seedream_0", "--key", "wrong"], 1, "401"),
        (["task"], 2, "TASK_ID"),
        (["credits", "--key", "wrong"], 1, "401"),
        (["credits", "--live"], 2, "SEEDBED_API_KEY"),
        (["credits", "--url", "http://127.0.0.1:1", "--max-retries", "0"], 1, "seedbed serve"),
    ],
)
def test_a_question_that_cannot_be_answered_is_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert main(arguments) == code
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert words in errors


def test_a_watch_ends_on_time(server: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.add_faults("task.stuck")
    assert main(["generate", "one", "--json", "--timeout", "0"]) == 4
    task_id = json.loads(capsys.readouterr().out)["task_id"]
    assert main(["task", task_id, "--watch", "--timeout", "0"]) == 4


def test_the_balance_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["credits"]) == 0
    assert main(["credits", "--json"]) == 0
    assert capsys.readouterr().out == '1000000\n{"credits": 1000000.0}\n'


@pytest.mark.parametrize("command", ["generate", "task", "credits"])
def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    assert "Exit codes: 0" in capsys.readouterr().out


def test_a_run_that_goes_on_keeps_its_names(server: MockServer) -> None:
    server.add_faults("402; op=createTask; prompt=two")
    assert main(["generate", "one", "two", "-o", "{index:03}.jpg", "--resume", "run.json"]) == 1
    server.clear_faults()
    assert main(["generate", "--resume", "run.json"]) == 0
    assert names() == {"001.jpg", "002.jpg", "run.json"}


def test_a_run_that_is_ended_before_its_request_is_sent_again_was_not_asked_for(server: MockServer) -> None:
    server.add_faults("429 retry-after=50; op=createTask")
    command: list[Any] = [sys.executable, "-c", STARTED, "generate", "one", "--resume", "run.json"]
    with subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True) as process:
        while not (Path("run.json").exists() and made(server) and state() == [("one", "new")]):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr
        assert "may have been" not in process.stderr.read()
    server.clear_faults()
    assert main(["generate", "--resume", "run.json"]) == 0


@pytest.mark.parametrize(
    "arguments", [["a\udcff"], ["one", "-o", "a\udcff.jpg"], ["one", "--timeout", "nan"]], ids=ascii
)
def test_what_is_no_text_or_no_number_costs_nothing(
    server: MockServer, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["generate", *arguments, "--resume", "run.json"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert made(server) == []


def test_a_terminal_that_cannot_write_a_name_is_told_it_in_escapes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTED, "generate", "丘", "-o", "{prompt}.jpg"]
    found = subprocess.run(
        command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout[:16]) == (0, "Saved \\u4e18.jpg")
    assert (tmp_path / "丘.jpg").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full here")
def test_an_image_that_cannot_be_saved_is_told_of_with_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "one", "-o", "/dev/full"]) == 1
    errors = capsys.readouterr().err
    assert "None" not in errors
    assert "No space left on device" in errors
    assert "The image is still at http://" in errors


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of the size of files on Windows")
def test_a_disk_that_is_full_loses_no_name_of_a_task(server: MockServer) -> None:
    server.add_faults("task.stuck")
    program = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150)){STARTED}"
    command = [sys.executable, "-c", program, "generate", "one", "--resume", "run.json"]
    # What measures the coverage of tests would find the disk full, too.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert "File too large" in found.stderr
