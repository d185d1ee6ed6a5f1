"""What the commands print: to full disks, closed pipes and narrow encodings, and what people meet first."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from seedbed_mock import MockServer
from seedbed_mock.accounts import fingerprint
from seedbed_mock.cli import main
from seedbed_schemas import Contract, default_contract, job_api, local
from seedbed_schemas.openapi import example_of

CONTRACT = default_contract()
GOOD: dict[str, Any] = example_of(CONTRACT.part("request"))
FULL = Path("/dev/full")
COMMANDS = ["check", "clauses", "credits", "derive", "generate", "health", "openapi", "serve", "stop", "task", "wait"]
COMMANDS += ["accounts list", "accounts top-up", "accounts reset", "faults list", "faults add", "faults clear"]
SEEDBED = [sys.executable, "-c", "import sys; from seedbed_mock.__main__ import command; sys.exit(command())"]

needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@needs_full
@pytest.mark.parametrize(
    "arguments",
    [["--help"], *(pytest.param(each, marks=pytest.mark.slow) for each in (["faults", "scenarios"], ["clauses"]))],
)
def test_a_full_disk_is_one_sentence(arguments: list[str]) -> None:
    with FULL.open("w") as full:
        result = subprocess.run([*SEEDBED, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert "No space left on device." in result.stderr
    assert result.stderr.count("\n") == 2


@needs_full
def test_a_server_that_cannot_print_its_banner_serves() -> None:
    command = [*SEEDBED, "serve", "--port", "0"]
    with (
        FULL.open("w") as full,
        subprocess.Popen(command, stdout=full, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr
        assert process.stderr.readline() == (
            "seedbed serve: cannot print to standard output: No space left on device.\n"
        )
        assert process.stderr.readline() == "docs: troubleshooting#output\n"
        url = process.stderr.readline().split()[-1]
        assert httpx2.get(f"{url}/__seedbed/health", trust_env=False).status_code == 200
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(20) == 0
    assert "Traceback" not in rest


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_needs_no_standard_streams(closed: str) -> None:
    command = f"{shlex.join(SEEDBED)} faults scenarios {closed}"
    assert subprocess.run(["sh", "-c", command], check=False, stderr=subprocess.PIPE).returncode == 0


def test_a_closed_pipe_is_no_error() -> None:
    process = subprocess.Popen([*SEEDBED, "faults", "scenarios"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(20) == 141


@pytest.mark.parametrize("encoding", ["cp1252", pytest.param("ascii", marks=pytest.mark.slow)])
def test_a_narrow_encoding_gets_escapes(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    result = subprocess.run([*SEEDBED, "clauses"], capture_output=True, env=environment, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"\\u" in result.stdout
    assert result.stdout.isascii() or encoding == "cp1252"


# Byte order marks, as editors on Windows write them


def test_files_may_begin_with_a_byte_order_mark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, scenario, contract = (tmp_path / name for name in ("seedbed.toml", "storm.toml", "contract.json"))
    config.write_text("\ufeffport = 99999\n", encoding="utf-8")
    assert main(["serve", "--config", str(config)]) == 2
    assert "TOML" not in capsys.readouterr().err
    scenario.write_text('\ufeffdescription = "x"\n[[phase]]\nname = "a"\nrules = ["429"]\n', encoding="utf-8")
    assert main(["serve", "--scenario", str(scenario), "--host", "256.0.0.1"]) == 2
    source = Path(str(sys.modules["seedbed_schemas.contract"].__file__)).parent / "contracts"
    text = (source / "seedream-4.5-text-to-image.json").read_text(encoding="utf-8")
    contract.write_text("\ufeff" + text, encoding="utf-8")
    assert Contract.load(contract).model == CONTRACT.model
    assert main(["serve", "--contract", str(contract), "--host", "256.0.0.1"]) == 2
    assert "cannot listen" in capsys.readouterr().err


# Accounts


@pytest.mark.seedbed(key=["one:credits=80", "two:credits=6.5"])
def test_accounts_are_listed_topped_up_and_reset(seedbed: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        assert main(["accounts", *arguments, "--url", seedbed.url]) == code
        printed = capsys.readouterr()
        return printed.out if code == 0 else printed.err

    one, two = fingerprint("one"), fingerprint("two")
    assert run("list").splitlines() == [
        "Account           Space    Credits  Signs callbacks",
        f"{one}  default  80       no",
        f"{two}  default  6.5      no",
    ]
    assert f"{one}  default  180 " in run("top-up", "100")
    assert f"{two}  default  7 " in run("top-up", "0.5", "--key", "two")
    assert f"{two}  default  8 " in run("top-up", "1", "--key", two)
    assert f"{two}  default  6.5 " in run("reset", "--key", "two")
    assert f"{one}  default  80 " in run("reset")
    assert "has no account key-" in run("reset", "--key", "three", code=1)
    assert run("top-up", "-5", code=2).startswith("seedbed accounts: ")
    assert main(["accounts", "list", "--url", "http://127.0.0.1:9"]) == 5
    assert capsys.readouterr().err.startswith("seedbed accounts: cannot connect to http://127.0.0.1:9 (")


@pytest.mark.seedbed(credits=6)
def test_402_says_how_to_top_up(seedbed: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    headers = {"Authorization": f"Bearer {seedbed.key}"}
    response = httpx2.post(seedbed.url + CONTRACT.operation.path, json=GOOD, headers=headers, trust_env=False).json()
    assert response["code"] == 402
    command = re.search(r"seedbed (accounts top-up \d+)", response["msg"])
    assert command
    assert main([*command[1].split(), "--url", seedbed.url]) == 0
    assert "106" in capsys.readouterr().out


# What people meet first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ([], "Credits: 80, enough for 12 tasks at 6.5 each"),
        (["--key", "a:credits=100000", "--key", "b"], "Credits: 100000, 80"),
        (["--credits", "6.50"], "Credits: 6.5, enough for 1 task at 6.5 each"),
        (["--credits", "0"], "Credits: 0, enough for 0 tasks at 6.5 each"),
    ],
)
def test_the_banner_shows_what_the_balance_pays_for(keys: list[str], line: str) -> None:
    command = [*SEEDBED, "serve", "--port", "0", *keys]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        printed = [process.stdout.readline().rstrip() for _ in range(13)]
        process.send_signal(signal.SIGTERM)
    assert line in printed


def test_added_rules_are_numbered_from_1(seedbed: MockServer) -> None:
    headers = {"Authorization": f"Bearer {seedbed.key}"}
    for rule in ("429", "402", "500"):
        httpx2.get(seedbed.url + job_api().credit.path, headers={**headers, local.FAULT_HEADER: rule}, trust_env=False)
    for _ in range(2):
        seedbed.add_faults("429", "delay")
        seedbed.add_faults("402")
        assert [each["number"] for each in seedbed.control("GET", "faults")["faults"]] == [1, 2, 3]
        seedbed.clear_faults()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", ["40", "80"])
def test_the_help_shows_no_defaults_of_python(
    command: str, columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main([*command.split(), "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert not re.search(r"default: ?(\(\)|None|\[\]|''|\"\"|\])", text)


def test_the_help_lists_all_commands_and_choices(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main(["--help"])
    listed = re.findall(r"│ (\w+) ", capsys.readouterr().out)
    assert listed == [
        "accounts",
        "callbacks",
        "check",
        "clauses",
        "credits",
        "derive",
        "docs",
        "drill",
        "durations",
        "env",
        "faults",
        "generate",
        "har",
        "health",
        "init",
        "mcp",
        "openapi",
        "proxy",
        "reconcile",
        "run",
        "serve",
        "stop",
        "task",
        "wait",
    ]
    main(["serve", "--help"])
    assert "[choices: documented, observed]" in capsys.readouterr().out


def test_a_task_is_shown_without_microseconds(seedbed: MockServer, capsys: pytest.CaptureFixture[str]) -> None:
    headers = {"Authorization": f"Bearer {seedbed.key}"}
    url = seedbed.url + CONTRACT.operation.path
    task_id = httpx2.post(url, json=GOOD, headers=headers, trust_env=False).json()["data"]["taskId"]
    assert main(["task", task_id, "--url", seedbed.url, "--key", seedbed.key]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^created +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", printed, re.MULTILINE)
    assert re.search(r"^took +[\d.]+ s$", printed, re.MULTILINE)
