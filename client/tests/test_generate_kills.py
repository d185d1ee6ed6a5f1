"""``seedbed generate --resume`` is killed at random moments: it pays for no prompt twice, and loses none."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from seedbed_client import JobLog
from seedbed_mock import MockServer, running
from seedbed_mock.cli import main

PROGRAM = "import sys; from seedbed_mock.cli import main; sys.exit(main())"
PROMPTS = [f"hill {number}" for number in range(1, 21)]
COMMAND = ["generate", "--from", "prompts.txt", "-o", "{index}.jpg", "--resume", "run.json", "--concurrency", "6"]
IN_DOUBT = Counter[str]()
"""How often a run was killed, and how often submissions were in doubt then; printed after each test."""


@pytest.fixture(scope="module", name="server")
def make_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockServer]:
    folder = tmp_path_factory.mktemp("images")
    Image.new("RGB", (16, 16)).save(folder / "small.jpg")
    with running(result_dir=folder) as server:
        yield server


def tasks_of(server: MockServer) -> list[tuple[str, str]]:
    """Return the prompt and the ID of each task."""
    tasks = server.control("GET", "tasks")["tasks"]
    return [(json.loads(task["record"]["param"])["input"]["prompt"], task["task_id"]) for task in tasks]


def prompts_of_tasks(server: MockServer) -> Counter[str]:
    """Return how many tasks the server has for each prompt."""
    return Counter(prompt for prompt, _ in tasks_of(server))


def run_and_kill(seconds: float) -> float:
    """Start the command, kill it after some seconds, and return how long it ran."""
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *COMMAND], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return time.monotonic() - began


@pytest.fixture(scope="module", name="duration")
def measure(server: MockServer, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Return the seconds that a run takes, and so the range of the moments."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("whole"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            prepare(server, patch)
            return run_and_kill(60)
    finally:
        os.chdir(before)


def prepare(server: MockServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.play(task_seconds=0, rate_limit="off", credits=10**6)
    # Requests under way are what a kill makes doubtful, so they take some time.
    server.add_faults("delay seconds=0.02..0.2; op=createTask", "429; op=createTask; every=7")
    monkeypatch.setenv("SEEDBED_BASE_URL", server.url)
    monkeypatch.delenv("SEEDBED_API_KEY", raising=False)
    Path("prompts.txt").write_text("\n".join(PROMPTS), encoding="utf-8")


MOMENTS = [
    pytest.param(number, marks=[pytest.mark.exhaustive, *([pytest.mark.slow] if number % 13 == 0 else [])])
    for number in range(50)
]


@pytest.mark.parametrize("number", MOMENTS)
def test_a_killed_run_pays_for_no_prompt_twice_and_loses_none(
    server: MockServer,
    duration: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(server, monkeypatch)
    run_and_kill(random.Random(number).uniform(0.1, duration))  # noqa: S311 (a seeded moment)
    doubtful = {job.prompt for job in JobLog("run.json").jobs() if job.status == "submitting"}
    IN_DOUBT.update(["kills", *(["kills with doubts"] if doubtful else []), *(["doubts"] * len(doubtful))])
    server.clear_faults()
    known = prompts_of_tasks(server)
    assert main(COMMAND) == (4 if doubtful else 0)
    errors = capsys.readouterr().err
    named = {prompt for prompt in PROMPTS if f"'{prompt}': an earlier run was interrupted" in errors}
    tasks = prompts_of_tasks(server)
    assert named == doubtful
    assert max(tasks.values()) == 1
    assert set(tasks) >= set(PROMPTS) - doubtful
    assert set(tasks) & doubtful == set(known) & doubtful
    # The user looks for each doubtful task, and says what is there.
    records = dict(tasks_of(server))
    words = []
    for index, prompt in enumerate(PROMPTS, start=1):
        if prompt in doubtful:
            words += ["--settle", f"{index}={records[prompt]}"] if prompt in records else ["--submit-again", str(index)]
    assert main([*COMMAND, *words]) == 0
    assert prompts_of_tasks(server) == Counter(PROMPTS)
    assert [job.status for job in JobLog("run.json").jobs()] == ["saved"] * len(PROMPTS)
    assert {path.name for path in tmp_path.glob("*.jpg")} == {f"{index}.jpg" for index in range(1, 21)}
    assert float(server.control("GET", "accounts")["accounts"][0]["balance"]) == 10**6 - 6.5 * len(PROMPTS)
    print(dict(IN_DOUBT))
