"""``seedbed generate`` for many images: prompts, file names, JSON, exit codes and resuming; also ``seedbed task``."""

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
from seedbed_client import JobLog, JobLogError, LoggedJob
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


def submitted_prompts(server: MockServer) -> list[str]:
    return sorted(call["request"]["input"]["prompt"] for call in server.calls if call["operation"] == "createTask")


def file_names() -> set[str]:
    return {path.name for path in Path().iterdir()}


def test_prompts_come_from_arguments_files_and_standard_input(
    server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("prompts.txt").write_text("\ufeffthree\n\n  four  \n", encoding="utf-8")
    assert main(["generate", "one", "two", "--from", "prompts.txt", "-o", "{index}.jpg"]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("five\nsix\n"))
    assert main(["generate", "--from", "-", "-o", "1{index}.jpg"]) == 0
    assert submitted_prompts(server) == sorted(["one", "two", "three", "four", "five", "six"])
    assert file_names() == {"prompts.txt", *(f"{number}.jpg" for number in (1, 2, 3, 4, 11, 12))}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{index:03}-{prompt}.jpg", {"001-A-hill-at-dawn.jpg", "002-Zwölf-Äpfel.jpg"}),
        ("{prompt}.jpg", {"A-hill-at-dawn.jpg", "Zwölf-Äpfel.jpg"}),
    ],
)
def test_file_names_follow_the_pattern(pattern: str, expected: set[str]) -> None:
    assert main(["generate", "A hill, at dawn!", "../Zwölf Äpfel", "-o", pattern]) == 0
    assert file_names() == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["one", "two", "-o", "out.jpg"], "{index}"),
        (["one", "one", "-o", "{prompt}.jpg"], "{index}"),
        (["one", "-o", "{name}.jpg"], "{task_id}"),
        (["one", "-o", "{index.__class__}.jpg"], "{task_id}"),
        (["one", "two", "-o", "nowhere/{index}.jpg"], "no such directory"),
        (["--from", "nowhere.txt"], "nowhere.txt"),
        (["--from", "latin.txt"], "UTF-8"),
        (["--from", "empty.txt"], "the prompt is missing"),
        (["one", "--resume", "latin.txt"], "not a progress file"),
        (["one", "--resume", "."], "directory"),
        (["one", "--concurrency", "0"], "invalid --concurrency 0"),
        (["one", "--concurrency", "-1"], "from 1 to 1000"),
        (["one", "--concurrency", "1000000000"], "from 1 to 1000"),
        (["one", "--max-retries", "-1"], "invalid max_retries -1"),
        (["one", "--max-retries", "1000000"], "from 0 to 1000"),
        (["one", "--timeout", "-1"], "invalid timeout -1"),
    ],
)
def test_a_usage_error_is_one_line_and_costs_nothing(
    server: MockServer, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    Path("latin.txt").write_bytes(b"\xff\xe9")
    Path("empty.txt").write_bytes(b"\n")
    assert main(["generate", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 2)
    assert words in errors
    assert submitted_prompts(server) == []


def test_json_prints_a_line_for_each_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "one", "two", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(each["prompt"] for each in lines) == ["one", "two"]
    for each in lines:
        assert each["files"] == [f"{each['task_id']}.jpg"]
        assert (each["status"], each["exit_code"], each["error"]) == ("saved", 0, "")


@pytest.mark.parametrize(
    ("rules", "code", "words"),
    [
        (["task.fail code=422 after=0; prompt=one"], 1, "failed with 422"),
        (["402; op=createTask; prompt=one"], 1, "402"),
        (["task.orphan; prompt=one"], 4, "not known whether the task was created"),
        (["task.stuck; prompt=one"], 4, "is still running"),
        (["task.orphan; prompt=one", "402; op=createTask; prompt=two"], 4, "402"),
    ],
)
def test_the_exit_code_reports_the_worst_result(
    server: MockServer, capsys: pytest.CaptureFixture[str], rules: list[str], code: int, words: str
) -> None:
    server.add_faults(*rules)
    assert main(["generate", "one", "two", "three", "--timeout", "0.3"]) == code
    output, errors = capsys.readouterr()
    assert words in errors
    assert output.count("Saved") == 3 - len(rules)


def statuses() -> list[tuple[str, str]]:
    return [(job.prompt, job.status) for job in JobLog("run.json").jobs()]


def test_a_run_is_resumed(server: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.add_faults("402; op=createTask; prompt=two", "task.orphan; prompt=three", "task.stuck; prompt=four")
    command = ["generate", "one", "two", "three", "four", "--resume", "run.json", "--timeout", "1.5"]
    assert main(command) == 4
    assert statuses() == [("one", "saved"), ("two", "new"), ("three", "submitting"), ("four", "submitted")]
    count = len(submitted_prompts(server))
    server.clear_faults()
    (task_id,) = (job.task_id for job in JobLog("run.json").jobs() if job.prompt == "four")
    server.finish(task_id)
    capsys.readouterr()
    assert main(["generate", "--resume", "run.json"]) == 4
    assert statuses() == [("one", "saved"), ("two", "saved"), ("three", "submitting"), ("four", "saved")]
    assert submitted_prompts(server).count("two") == 2
    assert len(submitted_prompts(server)) == count + 1
    assert "not known whether the task was created" in capsys.readouterr().err


def test_a_submission_in_doubt_is_settled_or_submitted_again(
    server: MockServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.add_faults("task.orphan; prompt=two", "task.orphan; prompt=three")
    assert main(["generate", "one", "two", "three", "--resume", "run.json", "-o", "{index}.jpg"]) == 4
    errors = capsys.readouterr().err
    assert "'two': it is not known whether the task was created" in errors
    assert "then add --settle 2=TASK_ID, or --submit-again 2 if there is no task" in errors
    server.clear_faults()
    assert main(["generate", "two", "--json"]) == 0
    task_id = json.loads(capsys.readouterr().out)["task_id"]
    count = len(submitted_prompts(server))
    for words in (["--settle", f"1={task_id}"], ["--settle", "2"], ["--submit-again", "4"], ["--submit-again", "1"]):
        assert main(["generate", "--resume", "run.json", *words]) == 2
        assert capsys.readouterr().err.count("\n") == 2
    assert main(["generate", "one", "--settle", "1=t"]) == 2
    assert "add --resume FILE" in capsys.readouterr().err
    assert len(submitted_prompts(server)) == count
    assert main(["generate", "--resume", "run.json", "--settle", f"2={task_id}", "--submit-again", "3"]) == 0
    assert len(submitted_prompts(server)) == count + 1
    assert statuses() == [("one", "saved"), ("two", "saved"), ("three", "saved")]
    assert {"1.jpg", "2.jpg", "3.jpg"} < file_names()


@pytest.mark.parametrize("arguments", [["other"], ["one", "--quality", "high"], ["one", "--url", "http://127.0.0.1:1"]])
def test_the_progress_file_of_another_run_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(["generate", "one", "--resume", "run.json"]) == 0
    content = Path("run.json").read_bytes()
    assert main(["generate", *arguments, "--resume", "run.json"]) == 2
    assert Path("run.json").read_bytes() == content
    assert "run.json belongs to a run" in capsys.readouterr().err


PROGRAM = """
import signal, sys
from seedbed_mock.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_image_is_charged_twice_after_an_interrupt_or_a_kill(server: MockServer, number: signal.Signals) -> None:
    server.play(task_seconds=3600, rate_limit="off", credits=10**6)
    command: list[Any] = [sys.executable, "-c", PROGRAM, "generate", "one", "two", "three", "--resume", "run.json"]
    with subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        waiting: set[str] = set()
        while len(waiting) < 3:
            line = process.stderr.readline()
            waiting |= {line} if "waiting" in line else set()
        assert main(["generate", "--resume", "run.json"]) == 2  # in use by the other run
        process.send_signal(number)
        errors = process.stderr.read()
    assert "Traceback" not in errors
    assert statuses() == [("one", "submitted"), ("two", "submitted"), ("three", "submitted")]
    for job in JobLog("run.json").jobs():
        server.finish(job.task_id)
    assert main(["generate", "one", "two", "three", "--resume", "run.json"]) == 0
    assert submitted_prompts(server) == ["one", "three", "two"]
    assert statuses() == [("one", "saved"), ("two", "saved"), ("three", "saved")]


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
        (["task", "task_seedream_0", "--watch"], 1, "404"),
        (["task", "task_seedream_0", "--timeout", "nan"], 2, "invalid timeout nan"),
        (["task", "task_seedream_0", "--max-retries", "-1"], 2, "invalid max_retries -1"),
        (["credits", "--max-retries", "-1"], 2, "invalid max_retries -1"),
        (["task", "task_seedream_0", "--key", "wrong"], 1, "401"),
        (["task"], 2, "TASK_ID"),
        (["credits", "--key", "wrong"], 1, "401"),
        (["credits", "--live"], 2, "SEEDBED_API_KEY"),
        (["credits", "--url", "http://127.0.0.1:1", "--max-retries", "0"], 5, "seedbed serve"),
    ],
)
def test_an_error_of_task_and_credits_is_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert main(arguments) == code
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 2)
    assert words in errors


def test_watching_ends_at_the_timeout(server: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.add_faults("task.stuck")
    assert main(["generate", "one", "--json", "--timeout", "0"]) == 4
    task_id = json.loads(capsys.readouterr().out)["task_id"]
    assert main(["task", task_id, "--watch", "--timeout", "0"]) == 5


def test_the_balance_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["credits"]) == 0
    assert main(["credits", "--json"]) == 0
    assert capsys.readouterr().out == '1000000\n{"credits": 1000000.0}\n'


@pytest.mark.parametrize("command", ["generate", "task", "credits"])
def test_help_lists_the_exit_codes(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    assert "Exit codes: 0" in capsys.readouterr().out


def test_a_resumed_run_keeps_its_file_names(server: MockServer) -> None:
    server.add_faults("402; op=createTask; prompt=two")
    assert main(["generate", "one", "two", "-o", "{index:03}.jpg", "--resume", "run.json"]) == 1
    server.clear_faults()
    assert main(["generate", "--resume", "run.json"]) == 0
    assert file_names() == {"001.jpg", "002.jpg", "run.json"}


def test_a_run_interrupted_between_retries_has_not_submitted_the_job(server: MockServer) -> None:
    server.add_faults("429 retry-after=50; op=createTask")
    command: list[Any] = [sys.executable, "-c", PROGRAM, "generate", "one", "--resume", "run.json"]
    with subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True) as process:
        while not (Path("run.json").exists() and submitted_prompts(server) and statuses() == [("one", "new")]):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr
        assert "may have been" not in process.stderr.read()
    server.clear_faults()
    assert main(["generate", "--resume", "run.json"]) == 0


def test_an_interrupted_submission_is_named_once(server: MockServer) -> None:
    server.add_faults("wire.hang; op=createTask")
    command: list[Any] = [sys.executable, "-c", PROGRAM, "generate", "one", "--resume", "run.json"]
    with subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True) as process:
        while not (Path("run.json").exists() and statuses() == [("one", "submitting")]):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stderr
        errors = process.stderr.read()
        assert process.wait() == 130
    assert errors.count("created and charged") <= 1
    assert "CancelledError" not in errors


@pytest.mark.parametrize(
    "arguments", [["a\udcff"], ["one", "-o", "a\udcff.jpg"], ["one", "--timeout", "nan"]], ids=ascii
)
def test_invalid_text_or_numbers_cost_nothing(
    server: MockServer, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["generate", *arguments, "--resume", "run.json"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert submitted_prompts(server) == []


def test_characters_that_the_terminal_cannot_encode_are_escaped(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "generate", "丘", "-o", "{prompt}.jpg"]
    result = subprocess.run(
        command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout[:16]) == (0, "Saved \\u4e18.jpg")
    assert (tmp_path / "丘.jpg").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full here")
def test_a_full_disk_is_reported_with_the_url_of_the_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "one", "-o", "/dev/full"]) == 4
    errors = capsys.readouterr().err
    assert "None" not in errors
    assert "No space left on device" in errors
    assert "The image is still at http://" in errors


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits of the size of files on Windows")
def test_a_full_disk_does_not_lose_a_task_id(server: MockServer) -> None:
    server.add_faults("task.stuck")
    program = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (150, 150)){PROGRAM}"
    command = [sys.executable, "-c", program, "generate", "one", "--resume", "run.json"]
    # The measurement of coverage would find the disk full, too.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "the disk" in result.stderr
    assert submitted_prompts(server) == []


def test_tasks_that_cannot_be_recorded_are_named(
    server: MockServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up while responses arrive: each task is named, or its submission is."""
    put = JobLog.put

    def fail_later(log: JobLog, *jobs: LoggedJob, output: str | None = None) -> None:
        if any(job.status == "submitted" for job in jobs):
            raise JobLogError("run.json cannot be used as a job log (database or disk is full)")
        put(log, *jobs, output=output)

    monkeypatch.setattr(JobLog, "put", fail_later)
    assert main(["generate", "one", "two", "three", "--resume", "run.json"]) == 4
    errors = capsys.readouterr().err
    tasks = server.control("GET", "tasks")["tasks"]
    named = {task["task_id"] for task in tasks if task["task_id"] in errors}
    doubtful = {prompt for prompt in ("one", "two", "three") if f"interrupted while submitting '{prompt}'" in errors}
    assert "disk is full" in errors
    assert named
    for task in tasks:
        prompt = json.loads(task["record"]["param"])["input"]["prompt"]
        assert task["task_id"] in named or prompt in doubtful
    assert {prompt for prompt, status in statuses() if status == "submitting"} == doubtful
