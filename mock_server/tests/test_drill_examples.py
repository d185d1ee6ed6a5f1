"""The programs of ``examples/`` and the client in real drills: which verdicts each of them earns in each scenario."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from seedbed_mock import running
from seedbed_mock.cli import main
from seedbed_mock.faults.scenarios import shipped_scenarios
from seedbed_mock.verdicts import RULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs process groups and sh")

FOLDER = Path(__file__).parents[2] / "examples"
PROMPTS = (
    *("A hill at dawn", "A lake at noon", "A blood moon", "A grey cat"),
    *("A red door", "A steep path", "A quiet port", "An old tree"),
)
"""Moderation refuses one of them."""

SIGNING_KEY = "whsec-local"

RUNNERS: Mapping[str, list[str]] = {".py": [sys.executable], ".mjs": ["node"], ".sh": ["bash"]}
NEEDED = {".py": (), ".mjs": ("node",), ".sh": ("bash", "curl", "jq", "sha256sum")}
CLIENTS = ("client_sync.py", "client_async.py", "seedbed generate")
SEEDBED = "import sys; from seedbed_mock.cli import main; sys.exit(main())"
GENERATE = (
    f'exec {shlex.quote(sys.executable)} -c "{SEEDBED}" generate --output "$SEEDBED_DRILL_FOLDER/{{task_id}}" "$@"'
)
PAIRS = ("httpx2.py", "requests.py", "node.mjs", "shell.sh", "callbacks.py")
NAIVE, CAREFUL = ([pair.replace(".", f"_{kind}.") for pair in PAIRS] for kind in ("naive", "careful"))


def command_of(program: str) -> list[str]:
    """Return the command of a program, or skip the test where something that it needs is missing."""
    if program == "seedbed generate":
        return ["sh", "-c", GENERATE, "sh"]
    path = FOLDER / program
    for needed in NEEDED[path.suffix]:
        if shutil.which(needed) is None:
            pytest.skip(f"needs {needed}")
    return [*RUNNERS[path.suffix], str(path)]


def drill(program: str, folder: Path, *options: str, prompts: tuple[str, ...] = PROMPTS) -> dict[str, set[str]]:
    """Drill a program, and return the verdicts against it by scenario."""
    report, key = folder / "report.json", f"seedbed-key:signing-key={SIGNING_KEY}"
    arguments = ["--key", key] if program.startswith("callbacks") else []
    main(["drill", *arguments, "--json-file", str(report), *options, "--", *command_of(program), *prompts])
    content = json.loads(report.read_text(encoding="utf-8"))
    assert content["problem"] == ""
    return {
        Path(each["name"]).stem: {verdict["name"] for verdict in each["verdicts"] if verdict["outcome"] == "failed"}
        for each in content["scenarios"]
    }


@pytest.fixture(autouse=True)
def _set_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDREAM_SIGNING_KEY", SIGNING_KEY)
    for name in ("SEEDREAM_BASE_URL", "SEEDREAM_API_KEY", "CALLBACK_URL", "SEEDBED_API_KEY"):
        monkeypatch.delenv(name, raising=False)


ACCIDENTS = {
    "httpx2.py": ("wire.reset; op=createTask; times=1", "paid twice"),
    "requests.py": ("task.fail; times=1", "claimed success wrongly"),
    "node.mjs": ("500; op=createTask; times=1", "crashed"),
    "shell.sh": ("task.fail", "polled for ever"),
    "callbacks.py": ("callback.unsigned; times=1", "believed a false callback"),
}
"""One fault for each pair, and the verdict that the naive program earns."""


def some_slow(programs: Iterable[str], *slow: str) -> list[Any]:
    """Return parameters of which some are slow tests and the others exhaustive ones, since all take a minute."""
    marks = {name: pytest.mark.slow if name in slow else pytest.mark.exhaustive for name in programs}
    return [pytest.param(name, marks=mark) for name, mark in marks.items()]


def drill_one(program: str, rule: str, folder: Path, deadline: int = 40) -> set[str]:
    """Drill a program with one fault, and return the verdicts against it."""
    scenario = folder / "accident.toml"
    rules = json.dumps([rule])
    scenario.write_text(f'description = "x"\n[[phase]]\nname = "all"\nrules = {rules}\n', encoding="utf-8")
    options = ["--scenario", str(scenario), "--deadline", str(deadline), "--task-seconds", "0.5"]
    return drill(program, folder, *options, prompts=PROMPTS[:1])["accident"]


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_a_naive_program_earns_the_verdict_of_its_accident(pair: str, tmp_path: Path) -> None:
    rule, verdict = ACCIDENTS[pair]
    # What never ends by itself is stopped.
    deadline = 12 if verdict == "polled for ever" else 40
    assert verdict in drill_one(pair.replace(".", "_naive."), rule, tmp_path, deadline)


@pytest.mark.parametrize("pair", some_slow(PAIRS, "httpx2.py", "shell.sh"))
def test_a_careful_program_survives_the_accident_of_the_naive_one(pair: str, tmp_path: Path) -> None:
    assert drill_one(pair.replace(".", "_careful."), ACCIDENTS[pair][0], tmp_path) == set()


@pytest.mark.parametrize("program", some_slow(CLIENTS, "seedbed generate"))
def test_the_client_pays_once_after_a_lost_response(program: str, tmp_path: Path) -> None:
    assert drill_one(program, ACCIDENTS["httpx2.py"][0], tmp_path) == set()


@pytest.mark.parametrize("program", some_slow(CAREFUL[:4], "httpx2_careful.py"))
def test_a_careful_program_pays_once_over_several_runs(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = [*command_of(program), PROMPTS[0]]
    monkeypatch.setenv("SEEDBED_DRILL_FOLDER", str(tmp_path))
    with running(task_seconds=0) as server:
        monkeypatch.setenv("SEEDREAM_BASE_URL", server.url)
        server.add_faults("wire.reset; op=createTask; times=1")
        # The response is lost, and the next run does not know either.
        assert [subprocess.run(command, check=False).returncode for _ in range(2)] == [1, 1]
        assert capfd.readouterr().err.count("its task may exist") == 2
        (record,) = tmp_path.glob("*.task")
        # A person has looked it up.
        record.write_text(server.calls[0]["task_id"], encoding="utf-8")
        assert [subprocess.run(command, check=False).returncode for _ in range(2)] == [0, 0]
        assert [call["operation"] for call in server.calls].count("createTask") == 1
    (image,) = tmp_path.glob("*.jpg")
    assert image.read_bytes().endswith(b"\xff\xd9")


VERDICTS: Mapping[str, tuple[str, ...]] = {
    "calm": ("", "", "hammered", "", ""),
    "broke": ("polled for ever", "retried the hopeless, claimed success wrongly", "hammered", "hammered", ""),
    "callback-chaos": ("", "", "hammered", "", "lost result, handled a callback twice, lost a callback"),
    "double-charge": ("paid twice", "paid twice", "gave up early, crashed", "hammered", ""),
    "flaky-network": ("paid twice", "claimed success wrongly", "gave up early, crashed", "paid twice", "crashed"),
    "maintenance": ("hammered, claimed success wrongly", "hammered", "hammered", "hammered", ""),
    "moderation": (
        "polled for ever",
        "claimed success wrongly",
        "crashed",
        "polled for ever",
        "claimed success wrongly",
    ),
    "slow-day": ("gave up early", "gave up early, claimed success wrongly", "gave up early, crashed", "hammered", ""),
    "storm": ("hammered, claimed success wrongly", "hammered, claimed success wrongly", "hammered", "hammered", ""),
}
"""The verdicts that each naive program earns at least, in the order of ``NAIVE``; others depend on how fast it runs."""

TAKES_LONG = "slow-day"
"""One prompt is enough there: a program that gives up after 240 seconds would take longer than that for each."""


def test_the_readme_shows_what_the_naive_programs_earn() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    lines = page.partition("<!-- verdicts -->\n\n")[2].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert cells[0] == ["Scenario", *[f"`{name}`" for name in NAIVE]]
    assert {row[0].strip("`"): tuple(row[1:]) for row in cells[2:]} == VERDICTS


def test_the_table_knows_every_scenario_and_every_verdict() -> None:
    assert set(VERDICTS) == {"calm", *shipped_scenarios()}
    found = {name for row in VERDICTS.values() for cell in row for name in cell.split(", ") if name}
    assert found | {verdict for _, verdict in ACCIDENTS.values()} <= {each.name for each in RULES}


def test_the_readme_names_every_program() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    programs = {path.name for path in FOLDER.iterdir() if path.suffix in RUNNERS}
    assert set(re.findall(r"\]\(([\w.]+)\)", page)) == programs == {*NAIVE, *CAREFUL, *CLIENTS[:2]}


@pytest.mark.exhaustive
@pytest.mark.parametrize("program", NAIVE)
def test_a_naive_program_earns_its_verdicts_in_each_scenario(program: str, tmp_path: Path) -> None:
    usual = [f"--scenario={name}" for name in shipped_scenarios() if name != TAKES_LONG]
    found = drill(program, tmp_path, "--jobs", "8", *usual)
    options = ["--scenario", TAKES_LONG, "--deadline", "300"]
    found |= drill(program, tmp_path, *options, prompts=PROMPTS[:1])
    expected = {name: set(filter(None, row[NAIVE.index(program)].split(", "))) for name, row in VERDICTS.items()}
    assert all(expected[name] <= found[name] for name in expected), found


@pytest.mark.exhaustive
@pytest.mark.parametrize("program", [*CAREFUL, *CLIENTS])
def test_no_verdict_is_against_a_careful_program_or_the_client(program: str, tmp_path: Path) -> None:
    found = drill(program, tmp_path, "--jobs", "8")
    assert found.keys() == {"calm", *shipped_scenarios()}
    assert not any(found.values()), found


@pytest.mark.exhaustive
@pytest.mark.parametrize("program", [*CAREFUL, *CLIENTS])
def test_no_single_fault_earns_a_careful_program_or_the_client_a_verdict(program: str, tmp_path: Path) -> None:
    options = ["--explore", "--no-cache", "--budget", "400", "--jobs", "8", "--task-seconds", "1"]
    assert drill(program, tmp_path, *options, prompts=PROMPTS[:1]) == {"calm": set()}
    explored = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["exploration"]
    assert explored["runs"] == explored["cases"] > 70
    assert explored["failed"] == 0, explored["summary"]


EXAMPLE = re.compile(r"^```text\n\$ (seedbed drill .*\\\n.*examples/.*)\n((?s:.*?))^```$", re.MULTILINE)
ENVIRONMENT = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"}
WALKTHROUGH = EXAMPLE.findall((FOLDER.parent / "docs/drill.md").read_text(encoding="utf-8"))


@pytest.mark.exhaustive
@pytest.mark.parametrize(("command", "shown"), WALKTHROUGH, ids=["naive", "careful"])
def test_the_page_shows_what_a_drill_prints(command: str, shown: str, tmp_path: Path) -> None:
    command = command.replace("drill.html", str(tmp_path / "drill.html"))
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=FOLDER.parent,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ("Failed:" in done.stdout), done.stderr
    # Times, IDs and numbers of queries differ from run to run, and dots stand for lines that are left out.
    parts = [re.escape(part).replace(re.escape("#"), r"#") for part in without_numbers(shown).split("...\n")]
    assert re.fullmatch(r"(?s:.*)".join(parts), without_numbers(done.stdout)), done.stdout


def without_numbers(text: str) -> str:
    """Return a text with ``#`` for every number, and without padding."""
    return re.sub(r" +$", "", re.sub(r"(?<=\S) +", " ", re.sub(r"\d+(\.\d+)?", "#", text)), flags=re.MULTILINE)
