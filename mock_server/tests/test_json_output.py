"""What programs read: the JSON of every command, its errors as objects, and one table of exit codes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest
from cyclopts import App
from seedbed_mock import MockServer, running
from seedbed_mock.cli import main as run_command
from seedbed_mock.cli import make_app
from seedbed_mock.subcommands import GROUPS
from seedbed_schemas import __version__, commands, default_contract, local
from seedbed_schemas.commands import ExitCode, schema_path, split_fix
from seedbed_schemas.openapi import example_of

ROOT = Path(__file__).parents[2]
SEEDBED = [sys.executable, "-c", "import sys; from seedbed_mock.__main__ import command; sys.exit(command())"]
LINES = {"serve", "proxy", "run", "generate", "task"}
"""Commands that print one JSON value on each line."""
SECRET = "sk-canary-key-1"  # noqa: S105 (a made-up key, which no output may show)
CLOSED = "http://127.0.0.1:9"


def check_output(command: str, text: str) -> list[Any]:
    """Return the values that a command has printed, which its schema describes."""
    values = [json.loads(line) for line in text.splitlines()] if command in LINES else [json.loads(text)]
    validator = jsonschema.Draft202012Validator(json.loads(schema_path(command).read_bytes()))
    for value in values:
        validator.validate(value)
    return values


def check_errors(text: str) -> list[Any]:
    """Return the objects of standard error, which has nothing else."""
    validator = jsonschema.Draft202012Validator(json.loads(schema_path("error").read_bytes()))
    errors = [json.loads(line) for line in text.splitlines()]
    for each in errors:
        validator.validate(each)
    return errors


Run = Callable[..., tuple[int, str, list[Any]]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command line, and returns its exit code, its output and its errors."""

    def call(*words: str) -> tuple[int, str, list[Any]]:
        capfd.readouterr()
        code = run_command([*words])
        printed = capfd.readouterr()
        return code, printed.out, check_errors(printed.err)

    return call


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with running(task_seconds=0, key=(f"{SECRET}:credits=1000",), credits=1000) as started:
        yield started


@pytest.fixture(autouse=True)
def place(server: MockServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEEDBED_BASE_URL", server.url)
    monkeypatch.setenv("SEEDBED_API_KEY", SECRET)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    server.clear_faults()


def all_commands(app: App, *parents: str) -> Iterator[tuple[str, App]]:
    """Yield the commands of an app and of its groups by their names."""
    for name in app:
        if name in {"--help", "-h", "--version"}:
            continue
        command = app[name]
        path = " ".join([*parents, name])
        if name in GROUPS and not parents:
            yield from all_commands(command, name)
        else:
            yield path, command


COMMANDS = dict(all_commands(make_app()))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_prints_json_that_a_strict_schema_describes(command: str) -> None:
    arguments = COMMANDS[command].assemble_argument_collection(parse_docstring=False)
    assert "--json" in [name for each in arguments for name in each.names]
    schema = json.loads(schema_path(command).read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:seedbed:output:{schema_path(command).stem}"
    assert command in schema["title"]
    for each in objects_of(schema):
        # What the service, a page or another format defines has other properties than ours.
        is_ours = "properties" in each
        assert not is_ours or (
            each["additionalProperties"] is False and set(each["required"]) <= set(each["properties"])
        )


def objects_of(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for each in schema.values():
            yield from objects_of(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from objects_of(each)


def test_no_schema_is_without_a_command() -> None:
    known = {schema_path(command).name for command in COMMANDS}
    assert {path.name for path in schema_path("error").parent.iterdir()} == known | {"error.json", "help.json"}


# Each command, from a real run

PAGE = "# Some page\n\nNothing of a service.\n"
RUNS: dict[str, tuple[list[str], int]] = {
    "accounts list": ([], 0),
    "accounts top-up": (["5"], 0),
    "accounts reset": ([], 0),
    "faults list": ([], 0),
    "faults add": (["429; p=0.2", "wire.reset; op=credit"], 0),
    "faults clear": ([], 0),
    "faults scenarios": ([], 0),
    "durations": (["--deadline", "60"], 0),
    "health": ([], 0),
    "wait": ([], 0),
    "generate": (["a hill", "丘"], 0),
    "credits": ([], 0),
    "clauses": ([], 0),
    "openapi": ([], 0),
    "har export": ([], 0),
    "env": ([], 0),
    "stop": ([], 1),
    "init": (["--dry-run"], 0),
    "docs": (["--search", "port"], 0),
    "callbacks test": ([f"{CLOSED}/callbacks"], 2),
    "run": (["--port", "0", "--fault", "429; nth=1", "--", sys.executable, "-c", "print('from the program')"], 0),
    "drill": (["--scenario", "broke", "--deadline", "30", "--", sys.executable, "-c", "pass"], 2),
}


@pytest.mark.parametrize("command", RUNS)
def test_a_run_prints_what_its_schema_describes(command: str, run: Run) -> None:
    words, expected = RUNS[command]
    call = run_apart if command == "run" else run
    code, output, errors = call(*command.split(), "--json", *words)
    assert code == expected, errors
    assert bool(errors) == (code > 0 and not output) or command == "stop"
    if code < ExitCode.USAGE or output:
        check_output(command, output)
    assert SECRET not in output


def run_apart(*words: str, **environment: str) -> tuple[int, str, list[Any]]:
    """Run a command in a process of its own, whose errors may have other lines, such as those of a program."""
    done = subprocess.run([*SEEDBED, *words], capture_output=True, check=False, env=os.environ | environment)
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("{")]
    return done.returncode, done.stdout.decode(), check_errors("\n".join(lines))


def test_a_program_under_run_does_not_print_among_the_events() -> None:
    code, output, _ = run_apart("run", "--port", "0", "--json", "--", sys.executable, "-c", "print('mine'); exit(7)")
    events = check_output("run", output)
    assert (code, [each["event"] for each in events]) == (7, ["started", "ended"])
    assert events[-1]["exit_code"] == 7


def test_tasks_are_printed_as_their_records(run: Run) -> None:
    task_id = check_output("generate", run("generate", "a hill", "--json")[1])[0]["task_id"]
    code, output, _ = run("task", task_id, "--watch", "--json")
    assert (code, check_output("task", output)[-1]["state"]) == (0, "success")


def test_the_pages_are_printed(run: Run) -> None:
    topics = check_output("docs", run("docs", "--json")[1])[0]["topics"]
    assert check_output("docs", run("docs", topics[0]["topic"], "--json")[1])[0]["markdown"]
    code, output, errors = run("docs", "--search", "xyzzy", "--json")
    assert (code, check_output("docs", output), len(errors)) == (ExitCode.NEGATIVE, [{"results": []}], 1)


def test_a_written_document_is_named(run: Run) -> None:
    for command in (["openapi"], ["har", "export"]):
        code, output, _ = run(*command, "-o", "file.json", "--json")
        assert (code, check_output(" ".join(command), output)) == (0, [{"written": "file.json"}])
    assert json.loads(Path("file.json").read_bytes())["log"]["entries"]


def test_nothing_is_an_empty_value_and_not_an_empty_output(run: Run) -> None:
    with running() as empty:
        for command, member in (("faults list", "faults"), ("har export", "log")):
            code, output, _ = run(*command.split(), "--url", empty.url, "--json")
            found = check_output(command, output)[0][member]
            assert code == 0
            assert not (found if isinstance(found, list) else found["entries"])
    Path("empty.json").write_text('{"log": {"version": "1.2", "creator": {}, "entries": []}}', encoding="utf-8")
    code, output, _ = run("reconcile", "empty.json", "--json")
    assert (code, check_output("reconcile", output)[0]["open"]) == (0, False)


def test_a_page_is_derived_as_one_object(run: Run) -> None:
    contract = Path("contract.json")
    contract.write_text(json.dumps(default_contract().document), encoding="utf-8")
    page = ROOT / "schemas" / "tests" / "pages"
    source = min(page.rglob("*.md"))
    code, output, errors = run("derive", str(source), "--check", str(contract), "--json")
    assert code in {0, 1}, errors
    assert check_output("derive", output)[0]["contract"]["$schema"]
    Path("page.md").write_text(PAGE, encoding="utf-8")
    code, output, errors = run("derive", "page.md", "--json")
    assert (code, output, len(errors)) == (2, "", 1)


@pytest.mark.slow
def test_a_check_prints_its_report_or_its_plan(run: Run, server: MockServer) -> None:
    code, output, errors = run(
        "check", server.url, "--key", SECRET, "--only", "requests.refused", "--max-examples", "5", "--json"
    )
    assert (code, errors) == (check_output("check", output)[0]["exit_code"], [])
    assert SECRET not in output
    code, output, errors = run("check", server.url, "--dry-run", "--json")
    assert (code, errors) == (0, [])
    assert check_output("check", output)[0]["requests"]
    code, output, errors = run("check", CLOSED, "--json")
    assert (code, len(errors)) == (2, 1)
    assert check_output("check", output)[0]["outcome"] == "not checked"


@pytest.mark.parametrize("command", ["serve", "proxy"])
def test_a_server_prints_events(command: str) -> None:
    words = [command, "--port", "0", "--json", *(["--key", SECRET] if command == "serve" else ["--upstream", CLOSED])]
    with subprocess.Popen([*SEEDBED, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        first = process.stdout.readline()
        url = json.loads(first)["url"]
        headers = {"Authorization": f"Bearer {SECRET}"}
        httpx2.get(f"{url}/api/v1/chat/credit", headers=headers, trust_env=False)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert [each["event"] for each in check_output(command, first + rest)] == ["ready", "stopped"]
    assert SECRET not in first + rest


# Errors

USAGE_ERRORS = {
    "an unknown command": ["nope"],
    "an unknown subcommand": ["faults", "nope"],
    "an unknown flag": ["serve", "--prot", "1"],
    "a bad value": ["serve", "--port", "no"],
    "a bad choice": ["openapi", "--http-status", "no"],
    "a missing argument": ["accounts", "top-up"],
    "a missing value": ["serve", "--port"],
    "a refused value": ["serve", "--task-seconds", "no"],
    "a missing file": ["clauses", "no.json"],
    "no program": ["run"],
    "no prompt": ["generate"],
    "no server": ["check"],
    "two places": ["stop", "--port", "1", "--all"],
    "an unknown URL": ["callbacks", "test", "no"],
    "a wrong variable": ["credits"],
}


@pytest.mark.parametrize("words", USAGE_ERRORS.values(), ids=USAGE_ERRORS)
@pytest.mark.parametrize("place_of_flag", ["before", "after"])
def test_a_usage_error_is_an_object(
    words: list[str], place_of_flag: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words == ["credits"]:
        monkeypatch.setenv("SEEDBED_CREDITS_COLOUR", "1")
    code, output, errors = run("--json", *words) if place_of_flag == "before" else run(*words, "--json")
    assert (code, output, len(errors)) == (ExitCode.USAGE, "", 1)
    assert errors[0]["error"].endswith((".", "?"))


@pytest.mark.parametrize("words", [["--help"], ["faults"], ["serve", "--help"], []])
def test_a_help_page_and_the_version_are_json(words: list[str], run: Run) -> None:
    code, output, errors = run("--json", *words)
    assert (code, errors) == (0, [])
    assert "Usage: seedbed" in check_output("help", output)[0]["help"]
    assert check_output("help", run("--version", "--json")[1]) == [{"version": __version__}]


def test_json_of_a_program_is_not_ours(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", "--", "no-such-program", "--json"]) == 127
    assert capfd.readouterr().err.startswith("seedbed run: ")


def test_the_environment_asks_for_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDBED_CREDITS_JSON", "1")
    assert check_output("credits", run("credits")[1])
    code, _, errors = run("credits", "--url", CLOSED, "--max-retries", "0")
    assert (code, errors[0]["fix"]) == (ExitCode.RETRY, "To start the mock server, run: seedbed serve.")


@pytest.mark.parametrize(
    "words",
    [
        ["faults", "list", "--url", f"http://user:{SECRET}@127.0.0.1:9"],
        ["credits", "--url", f"http://user:{SECRET}@127.0.0.1:9", "--max-retries", "0"],
        ["serve", "--key", f"{SECRET}:nope=1"],
        ["serve", "--control-token", SECRET, "--host", "256.0.0.1"],
        ["serve", "--nope", f"--key={SECRET}"],
        ["check", f"http://user:{SECRET}@127.0.0.1:9"],
        ["callbacks", "test", f"ftp://user:{SECRET}@x"],
        ["accounts", "list", "--url", CLOSED, "--control-token", SECRET],
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_error_shows_a_secret(words: list[str], form: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command([*words, *form]) in {ExitCode.USAGE, ExitCode.RETRY}
    printed = capfd.readouterr()
    assert SECRET not in printed.out + printed.err
    assert printed.err


def test_an_error_cannot_control_the_terminal(run: Run) -> None:
    for words in (["clauses", "a\x1b[31m\nb"], ["faults", "add", "\x1b]0;x\x07"], ["nope\x1b[31m"]):
        code, _, errors = run(*words, "--json")
        assert code == ExitCode.USAGE
        assert errors[0]["error"].isprintable()


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_internal_error_asks_for_a_report(
    form: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError(f"Bearer {SECRET}")

    monkeypatch.setattr("seedbed_mock.durations.duration_profiles", fail)
    assert run_command(["durations", *form]) == ExitCode.INTERNAL
    error = capfd.readouterr().err
    assert "internal error: ZeroDivisionError at " in error
    assert "report it at https://" in error
    assert "Traceback" not in error
    monkeypatch.setenv("SEEDBED_TRACEBACK", "1")
    assert run_command(["durations", *form]) == ExitCode.INTERNAL
    error += capfd.readouterr().err
    assert "Traceback" in error
    assert SECRET not in error
    if form:
        assert check_errors(error)[1]["traceback"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("no such file", ("no such file.", "")),
        ('unknown option "p; x" for 429; use ";"', ('unknown option "p; x" for 429.', 'Use ";".')),
        ("The port is taken. Choose another.", ("The port is taken.", "Choose another.")),
        ("cannot read it's file; name another?", ("cannot read it's file.", "Name another?")),
        ("version 1.2 is old", ("version 1.2 is old.", "")),
    ],
)
def test_an_error_says_what_is_wrong_and_what_to_do(text: str, parts: tuple[str, str]) -> None:
    assert split_fix(text) == parts


# Streams


def test_a_narrow_locale_gets_utf_8() -> None:
    environment = {"PYTHONIOENCODING": "ascii"}
    for command in (["clauses"], ["generate", "丘"]):
        code, output, _ = run_apart(*command, "--json", **environment)
        assert code == 0
        assert check_output(command[0], output)


def test_a_closed_output_ends_a_command_without_a_word() -> None:
    with subprocess.Popen([*SEEDBED, "clauses", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == ExitCode.OUTPUT_CLOSED


@pytest.mark.parametrize(
    "command", [["wait"], ["credits", "--url"], ["accounts", "list", "--url"], ["task", "t", "--url"]]
)
def test_ctrl_c_is_an_object(command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        words = [*command, f"http://127.0.0.1:{listener.getsockname()[1]}", "--json"]
        with (
            subprocess.Popen([*SEEDBED, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
            listener.accept()[0] as connection,
        ):
            connection.recv(1)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (ExitCode.INTERRUPTED, "")
    assert check_errors(errors)[0]["error"] == "interrupted by Ctrl-C."


def test_what_ctrl_c_interrupts_complains_no_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class HalfMade:
        def __init__(self) -> None:
            raise KeyboardInterrupt

        def __del__(self) -> None:
            raise ValueError("it is half made")

    monkeypatch.setattr("seedbed_mock.cli._call", lambda *_: HalfMade())
    before = sys.unraisablehook
    assert run_command(["credits", "--json"]) == ExitCode.INTERRUPTED
    assert check_errors(capsys.readouterr().err)[0]["error"] == "interrupted by Ctrl-C."
    assert sys.unraisablehook is before


# Exit codes

CASES: dict[ExitCode, tuple[str, list[str]]] = {
    ExitCode.DONE: ("", ["generate", "a hill"]),
    ExitCode.NEGATIVE: ("task.fail code=422 after=0", ["generate", "a hill"]),
    ExitCode.USAGE: ("", ["generate"]),
    ExitCode.IN_DOUBT: ("task.orphan", ["generate", "a hill"]),
    ExitCode.RETRY: ("429; op=createTask", ["generate", "a hill", "--max-retries", "0"]),
}


@pytest.mark.parametrize("code", CASES)
def test_each_code_comes_of_a_run(code: ExitCode, run: Run, server: MockServer) -> None:
    rule, words = CASES[code]
    if rule:
        server.add_faults(rule)
    got, output, errors = run(*words, "--json")
    assert (got, bool(errors)) == (code, code > 0), output
    if output:
        assert check_output("generate", output)[0]["exit_code"] == code


@pytest.mark.parametrize(
    ("rule", "words", "code"),
    [
        ("455; op=createTask", ["--max-retries", "0"], ExitCode.RETRY),
        ("task.stuck", ["--timeout", "0"], ExitCode.IN_DOUBT),
        ("task.stuck", ["--timeout", "0", "--resume", "run.json"], ExitCode.RETRY),
        ("402; op=createTask", [], ExitCode.NEGATIVE),
        ("429; op=createTask; prompt=two", ["two", "--max-retries", "0", "--concurrency", "1"], ExitCode.NEGATIVE),
        ("429; op=createTask; prompt=two", ["two", "--max-retries", "0", "--resume", "run.json"], ExitCode.RETRY),
    ],
)
def test_only_what_costs_nothing_again_is_safe_to_retry(
    rule: str, words: list[str], code: ExitCode, run: Run, server: MockServer
) -> None:
    server.add_faults(rule)
    assert run("generate", "one", *words, "--json")[0] == code


def test_the_page_lists_the_codes_and_the_commands() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\d+)` \| ([^|]+) \|", page, re.MULTILINE)
    assert [(int(code), meaning.strip()) for code, meaning in rows] == [(each.value, each.meaning) for each in ExitCode]
    sections = re.findall(r"^### seedbed (\S+)$", page, re.MULTILINE)
    assert sections == sorted({command.split()[0].removeprefix("--") for command in COMMANDS})
    described = re.findall(r"^\| `seedbed ([^`]+?) --json` \|", page, re.MULTILINE)
    assert sorted(described) == sorted(COMMANDS)


def test_the_help_of_every_command_names_only_codes_of_the_table() -> None:
    known = {str(each.value) for each in ExitCode} | {"126", "127", "128"}
    for command, app in COMMANDS.items():
        codes = re.findall(r"(?:^|; |: )(\d+) ", app.help_epilogue or "")
        assert set(codes) <= known, command


def test_the_key_of_the_local_server_is_no_secret() -> None:
    with commands.session(["serve", "--key", local.KEY, "--signing-key", "whsec-1234"]):
        assert commands.redacted(f"{local.KEY} whsec-1234") == f"{local.KEY} ***"
    assert commands.redacted("whsec-1234") == "whsec-1234"
    assert example_of(default_contract().part("request"))
