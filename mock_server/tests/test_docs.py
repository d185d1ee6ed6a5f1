"""The examples of README.md and docs run as printed, and the reference tables match the program."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml12
from PIL import Image
from seedbed_mock import running
from seedbed_mock.cli import main, make_app
from seedbed_mock.faults.rules import EFFECTS, Match, parse_rule
from seedbed_mock.faults.scenarios import load_scenario, shipped_scenarios
from seedbed_schemas import job_api, local

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cyclopts import App
    from seedbed_mock import MockServer

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}

NOT_RUN = {
    "pip install": "installs packages over the network",
    "python3 -m venv": "creates an environment that the test does not need",
    "source .venv/bin/activate": "activates that environment",
    "seedbed generate --live": "calls the paid service",
    "seedbed check https://": "calls a server on another machine",
    "pytest -m slow": "takes minutes",
    "pytest -m exhaustive": "takes an hour",
    "uvx": "installs packages over the network",
    "properdocs": "builds this site, which is a step of .ci/run",
}
"""How the commands begin that no test runs, and why."""

LANGUAGES = {"python", "console", "text", "toml", "json", "rules", "html", "yaml"}


@dataclass(frozen=True)
class Example:
    """A fenced block of a page.

    Attributes:
        page: Name of the page.
        line: Line of the opening fence.
        language: Word after the opening fence.
        code: Content.
        output: Content of the ``text`` block that follows directly, ``None`` without one.
    """

    page: str
    line: int
    language: str
    code: str
    output: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def examples_of(page: str) -> Iterator[Example]:
    text = PAGES[page]
    for match in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        output = re.compile(r"\s*^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE).match(text, match.end())
        line = text.count("\n", 0, match.start()) + 1
        yield Example(page, line, match[1], match[2], output[1] if output else None)


EXAMPLES = [example for page in PAGES for example in examples_of(page)]
COMMAND_PAGES = sorted({example.page for example in EXAMPLES if example.language == "console"})


def in_language(language: str) -> list[Any]:
    return [pytest.param(example, id=str(example)) for example in EXAMPLES if example.language == language]


def test_every_block_has_a_language_that_is_checked() -> None:
    assert [str(example) for example in EXAMPLES if example.language not in LANGUAGES] == []


PROGRAMS = [example for example in EXAMPLES if example.language == "python" and "def test_" not in example.code]
TESTS = [example for example in EXAMPLES if example.language == "python" and "def test_" in example.code]


@pytest.mark.parametrize("example", PROGRAMS, ids=str)
def test_a_program_prints_what_its_page_shows(example: Example, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(example.code, str(example), "exec"), {"__name__": "example"})  # noqa: S102 (the page is ours)
    assert capsys.readouterr().out == (example.output or "")


@pytest.mark.slow
def test_the_tests_on_the_pages_pass(tmp_path: Path) -> None:
    for example in TESTS:
        name = re.sub(r"\W", "_", str(example))
        (tmp_path / f"test_{name}.py").write_text(example.code, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(TESTS) > 1


@pytest.mark.slow
@pytest.mark.parametrize("page", COMMAND_PAGES)
@pytest.mark.skipif(not all(map(shutil.which, ("bash", "curl", "jq"))), reason="needs bash, curl and jq")
def test_the_commands_of_a_page_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    provide_files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with running(task_seconds=0) as server:
        monkeypatch.setenv("SEEDBED_BASE_URL", server.url)
        for example in examples_of(page):
            if example.language == "console":
                printed = "".join(run(command, server, capsys) for command in commands_of(example))
                if example.output is not None:
                    assert printed.replace(server.url, local.BASE_URL).rstrip("\n") == example.output.rstrip("\n")


def provide_files(page: str, folder: Path) -> None:
    """Write the files that the commands of a page read: the TOML blocks that begin with a name, and inputs of users."""
    for example in examples_of(page):
        if example.language == "toml" and (first := re.match(r"# (\S+\.toml)\n", example.code)):
            (folder / first[1]).write_text(example.code, encoding="utf-8")
        elif example.language == "json" and '"$defs"' in example.code:
            (folder / "longer-prompts.json").write_text(example.code, encoding="utf-8")
    vendor_page = ROOT / "schemas/tests/pages/tables.zh.md"
    for name in ("page.md", "other-page.md"):
        shutil.copy(vendor_page, folder / name)
    (folder / "prompts.txt").write_text("A hill at dawn\nA lake at noon\n", encoding="utf-8")
    (folder / "images").mkdir()
    Image.new("RGB", (64, 64), "navy").save(folder / "images/own.png")
    (folder / "recordings").mkdir()
    for name in ("traffic.har", "recordings/traffic.har"):
        (folder / name).write_text(json.dumps(recorded_traffic()), encoding="utf-8")


def recorded_traffic() -> dict[str, Any]:
    request = {
        "method": "GET",
        "url": f"{local.BASE_URL}{job_api().credit.path}",
        "httpVersion": "HTTP/1.1",
        "headers": [{"name": "Authorization", "value": f"Bearer {local.KEY}"}],
        "queryString": [],
        "cookies": [],
        "headersSize": -1,
        "bodySize": 0,
    }
    response = {
        "status": 200,
        "statusText": "OK",
        "httpVersion": "HTTP/1.1",
        "headers": [{"name": "Content-Type", "value": "application/json"}],
        "content": {"size": 38, "mimeType": "application/json", "text": '{"code":200,"msg":"success","data":80}'},
        "cookies": [],
        "redirectURL": "",
        "headersSize": -1,
        "bodySize": 38,
    }
    entry = {
        "startedDateTime": "2026-01-01T00:00:00.000Z",
        "time": 1,
        "request": request,
        "response": response,
        "cache": {},
        "timings": {"send": 0, "wait": 1, "receive": 0},
    }
    return {"log": {"version": "1.2", "creator": {"name": "test", "version": "1"}, "entries": [entry]}}


def commands_of(example: Example) -> list[str]:
    """Return the commands of an example that a test can run."""
    lines = [line for line in example.code.replace("\\\n", " ").splitlines() if line.strip()]
    return [line for line in lines if not any(line.startswith(prefix) for prefix in NOT_RUN)]


def run(command: str, server: MockServer, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command in the current folder and return what it prints."""
    if "seedbed serve --daemon" in command:
        return run_in_background(command, server)
    if "seedbed serve" in command or command.startswith("seedbed proxy"):
        return start_server(command)
    if command.startswith("seedbed stop"):
        return ""  # see run_in_background()
    if re.match(r"seedbed faults (list|add|clear)", command):
        command += f" --url {server.url}"
    if command.startswith("seedbed check"):
        command += " --max-examples 5"
    command = command.replace(local.BASE_URL, server.url)
    # The output of a program that seedbed run starts is not that of this process.
    if command.startswith("seedbed ") and not command.startswith("seedbed run"):
        code = main(shlex.split(command)[1:])  # a process of its own would take ten times as long
        printed = capsys.readouterr()
        assert code == 0, f"{command}\n{printed.out}{printed.err}"
        return printed.out
    if socket := re.search(r"--unix-socket (\S+)", command):
        lines = (f"seedbed serve --uds {socket[1]} --daemon >&2", command, f"seedbed stop --uds {socket[1]} >&2")
        command = " && ".join(lines)
    result = subprocess.run(
        ["bash", "-c", command], env=command_environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def command_environment() -> dict[str, str]:
    folder = Path(sys.executable).parent
    return os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"}


def run_in_background(command: str, server: MockServer) -> str:
    """Start a server in the background on a free port, and stop it."""
    folder = Path.cwd() / "state"
    environment = command_environment() | {"XDG_STATE_HOME": str(folder)}
    for line in (f"{command} --port 0", "seedbed stop"):
        done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert server.url not in done.stdout
    return ""


def start_server(command: str) -> str:
    """Start a server on a free port, wait until it is ready, and stop it."""
    with subprocess.Popen(
        ["bash", "-c", f"{command.replace('seedbed serve', 'exec seedbed serve')} --port 0"],
        env=command_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        first = process.stdout.readline()
        process.terminate()
        assert "Seedbed is ready on " in first, f"{command}: {first}{process.stderr.read()}"
    return ""


@pytest.mark.parametrize("example", in_language("json"))
def test_json_is_valid(example: Example) -> None:
    json.loads(example.code)


@pytest.mark.parametrize("example", in_language("yaml"))
def test_yaml_is_valid(example: Example) -> None:
    assert isinstance(yaml12.parse_yaml(example.code), dict)


@pytest.mark.parametrize("example", in_language("toml"))
def test_toml_is_valid(example: Example, tmp_path: Path) -> None:
    content = tomllib.loads(example.code)
    if "phase" in content:
        file = tmp_path / "scenario.toml"
        file.write_text(example.code, encoding="utf-8")
        assert load_scenario(file).phases


@pytest.mark.parametrize("example", in_language("rules"))
def test_fault_rules_are_valid(example: Example) -> None:
    assert [parse_rule(line) for line in example.code.splitlines()]


def test_every_command_that_is_not_run_is_still_documented() -> None:
    lines = [line for page in PAGES.values() for line in page.splitlines()]
    assert [prefix for prefix in NOT_RUN if not any(line.startswith(prefix) for line in lines)] == []


def test_the_two_commands_that_set_everything_up_are_in_the_readme() -> None:
    lines = PAGES["README.md"].splitlines()
    assert "pip install . && seedbed serve" in lines
    assert "pip install -e '.[dev]' && pytest" in lines


def test_the_first_image_has_the_size_that_the_readme_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (command,) = (line for line in PAGES["README.md"].splitlines() if line.startswith("seedbed generate"))
    monkeypatch.chdir(tmp_path)
    with running(task_seconds=0) as server:
        monkeypatch.setenv("SEEDBED_BASE_URL", server.url)
        run(command, server, capsys)
    with Image.open("hill.jpg") as image:
        assert f"{image.width} × {image.height} pixels" in PAGES["README.md"]


def test_every_test_that_holds_a_promise_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    assert len(named) > 20
    for path, name in named:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), name


def test_every_page_is_in_the_navigation_and_linked_files_exist() -> None:
    navigation = (ROOT / "properdocs.yml").read_text(encoding="utf-8")
    for page, text in PAGES.items():
        assert page == "README.md" or page.removeprefix("docs/") in navigation
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"


def table_after(marker: str) -> list[list[str]]:
    """Return the cells of the rows of the one table that follows a marker such as ``<!-- flags: serve -->``."""
    (text,) = (text.split(f"<!-- {marker} -->")[1] for text in PAGES.values() if f"<!-- {marker} -->" in text)
    lines = text.lstrip().splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:end]]


def words_in(cell: str) -> list[str]:
    """Return the name at the start of each piece of code in a cell."""
    return [re.split("[ =]", code)[0] for code in re.findall(r"`([^`]+)`", cell)]


def commands(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    for name in app:
        if not name.startswith("-"):
            inner = list(commands(app[name], (*path, name)))
            yield from inner or [((*path, name), app[name])]


COMMANDS = dict(commands(make_app()))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_flags_of_a_command_are_documented(path: tuple[str, ...]) -> None:
    flags = {
        name
        for argument in COMMANDS[path].assemble_argument_collection()
        for name in argument.names
        if argument.parse and name.startswith("-") and (name == argument.name or not name.startswith("--no-"))
    }
    rows = table_after(f"flags: {' '.join(path)}") if flags else []
    if path == ("run",):  # its other flags are those of the server
        flags -= {word for row in table_after("flags: serve") for word in words_in(row[0])} - {"--port", "--json"}
    assert {word for row in rows for word in words_in(row[0])} == flags


def test_the_default_values_of_the_server_flags_are_documented() -> None:
    defaults = {
        argument.names[0]: argument.field_info.default
        for argument in COMMANDS["serve",].assemble_argument_collection()
        if argument.names[0].startswith("--")
    }
    for flag, _, default in table_after("flags: serve"):
        value = defaults[words_in(flag)[0]]
        shown = value[0] if isinstance(value, tuple) and value else value
        assert default == (
            "" if shown in (None, "", ()) else f"`{shown:g}`" if isinstance(shown, float) else f"`{shown}`"
        )


def test_every_fault_effect_is_documented_with_its_options() -> None:
    documented = {words_in(effect)[0]: set(words_in(options)) for effect, options, *_ in table_after("effects")}
    fields = {
        name: {field.encode_name for field in msgspec.structs.fields(effect)} - ({"code"} if name == "CODE" else set())
        for name, effect in EFFECTS.items()
    }
    assert documented == fields


def test_every_condition_is_documented() -> None:
    documented = {words_in(condition)[0] for condition, *_ in table_after("conditions")}
    assert documented == {field.encode_name for field in msgspec.structs.fields(Match)}


def test_every_built_in_scenario_is_documented() -> None:
    assert [words_in(name)[0] for name, *_ in table_after("scenarios")] == shipped_scenarios()


def test_every_call_of_the_control_api_is_documented() -> None:
    with running() as server:
        document = server.control("GET", "openapi.json")
    calls = {
        f"{method.upper()} {path.removeprefix('/__seedbed/')}"
        for path, operations in document["paths"].items()
        for method in operations
        if method in {"get", "post", "delete"}
    }
    assert {call.strip("`") for call, *_ in table_after("control api")} == calls
