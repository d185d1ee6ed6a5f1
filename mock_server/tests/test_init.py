"""``seedbed init``: what it writes works as written, and it neither changes what exists nor leaves a part behind."""

import ast
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml12
from hypothesis import given, settings
from jsonschema import Draft202012Validator
from seedbed_mock import ServerOptions, running
from seedbed_mock.cli import main, make_app
from seedbed_mock.init import project_files
from seedbed_schemas import Contract, default_contract, local
from tests.made_contracts import SHAPES, contracts

ROOT = Path(__file__).parents[2]
NOBODY = 65_534
TEST, WORKFLOW = "tests/test_seedbed.py", ".github/workflows/seedbed.yml"
FILES = {"seedbed.toml", "seedbed.schema.json", TEST, WORKFLOW}


def files_in(folder: Path) -> dict[str, bytes | str]:
    """Return everything in a folder: the contents of files, and where links lead."""
    return {
        path.relative_to(folder).as_posix(): f"a link to {path.readlink()}"
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else "a folder"
        for path in folder.rglob("*")
    }


def request_in(source: bytes) -> Any:
    """Return the request of a generated test."""
    (value,) = (
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REQUEST"
    )
    return ast.literal_eval(value)


@pytest.fixture(scope="module", name="project")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    assert main(["init", "--path", str(folder)]) == 0
    return folder


def test_an_empty_folder_gets_all_files(project: Path) -> None:
    assert {name for name, content in files_in(project).items() if content != "a folder"} == FILES


@pytest.mark.slow
def test_the_example_passes_for_contracts_of_every_shape(project: Path, tmp_path: Path) -> None:
    folders = [project]
    for number, contract in enumerate([*SHAPES.values()][::5]):
        file = tmp_path / "contracts" / f"{number}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(contract.document), encoding="utf-8")
        folders.append(tmp_path / str(number))
        assert main(["init", "--path", str(folders[-1]), "--contract", str(file)]) == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "error"]
    options = ["--import-mode=importlib", "-o", "asyncio_default_fixture_loop_scope=function"]
    result = subprocess.run(
        [*command, *options, *map(str, folders)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{3 * len(folders)} passed" in result.stdout


def test_the_request_of_the_example_keeps_to_any_contract() -> None:
    drawn: list[Contract] = []

    @settings(max_examples=25)
    @given(contracts())
    def draw(contract: Contract) -> None:
        drawn.append(contract)

    draw()
    # Not while they are drawn: a text for a pattern is itself found by Hypothesis.
    for contract in drawn:
        files = {file.path: file.content for file in project_files(contract)}
        assert contract.request.accepts(request_in(files[TEST]))
        assert Contract(json.loads(files["seedbed.contract.json"])).model == contract.model
        assert tomllib.loads(files["seedbed.toml"].decode())["contract"] == ["seedbed.contract.json"]


def test_a_contract_without_a_possible_example_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(json.dumps(default_contract().document))
    document["$defs"]["request"]["properties"]["input"] = {"type": "object", "minProperties": 5}
    file = tmp_path / "contract.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    assert main(["init", "--path", str(tmp_path / "project"), "--contract", str(file)]) == 2
    assert "Cannot make an example" in capsys.readouterr().err
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize("is_made", [False, True], ids=["built in", "made"])
def test_an_editor_finds_no_mistake_in_the_config_file(is_made: bool) -> None:  # noqa: FBT001
    contract = next(iter(SHAPES.values())) if is_made else None
    files = {file.path: file.content.decode() for file in project_files(contract)}
    (schema,) = re.findall(r"^#:schema \./(\S+)$", files["seedbed.toml"], re.MULTILINE)
    Draft202012Validator.check_schema(json.loads(files[schema]))
    Draft202012Validator(json.loads(files[schema])).validate(tomllib.loads(files["seedbed.toml"]))


def test_serve_reads_the_config_file_of_its_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[ServerOptions] = []
    monkeypatch.setattr(
        "seedbed_mock.serve.serve_until_signal", lambda app, *_: served.append(app.state.service.options)
    )
    text = (project / "seedbed.toml").read_text(encoding="utf-8")
    (tmp_path / "seedbed.toml").write_text(text.replace("credits = 80", "credits = 7"), encoding="utf-8")
    (tmp_path / "other.toml").write_text("seed = 3", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for arguments in ([], ["--config", "other.toml"]):
        assert main(["serve", "--port", "0", *arguments]) == 0
    found, named = served
    assert ([str(each.credits) for each in found.accounts], found.seed) == (["7"], 0)
    assert ([str(each.credits) for each in named.accounts], named.seed) == (["None"], 3)
    assert capsys.readouterr().err.count("options from seedbed.toml") == 1
    (tmp_path / "seedbed.toml").write_text("ports = 3", encoding="utf-8")
    assert main(["serve", "--port", "0"]) == 2
    assert "ports" in capsys.readouterr().err


def test_the_workflow_uses_what_exists(project: Path) -> None:
    workflow: Any = yaml12.parse_yaml((project / WORKFLOW).read_text(encoding="utf-8"))
    ours: Any = yaml12.parse_yaml((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    action: Any = yaml12.parse_yaml((ROOT / "action.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    used = {step["uses"]: step.get("with", {}) for step in job["steps"] if "uses" in step}
    known = {step["uses"] for each in ours["jobs"].values() for step in each["steps"] if "uses" in step}
    arguments = used.pop("seedbed/seedbed@main")
    assert set(used) <= known
    assert set(arguments) <= set(action["inputs"])
    serve = shlex.split(arguments["arguments"])
    flags = {name for argument in make_app()["serve"].assemble_argument_collection() for name in argument.names}
    assert {word for word in serve if word.startswith("--")} <= flags
    assert all((project / word).is_file() for word in serve if word.endswith(".toml"))
    commands = [shlex.split(step["run"]) for step in job["steps"] if "run" in step]
    assert [command[0] for command in commands] == ["python", "pytest", "curl"]
    assert all((project / word).is_file() for word in commands[1][1:])
    with running() as server:
        command = [word.replace("$KIE_BASE_URL", server.url) for word in commands[2]]
        if shutil.which("curl"):
            subprocess.run(command, check=True, capture_output=True)
        assert httpx2.get(command[-1], trust_env=False).status_code == 200
    outputs = set(re.findall(r"steps\.seedbed\.outputs\.(\w+)", str(workflow)))
    assert outputs == {"url", "key"}
    assert outputs <= set(action["outputs"])


def make_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine", encoding="utf-8")


def make_folder(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


def make_link_to_nothing(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("nowhere")


def make_link_to_outside(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/full")


@pytest.mark.parametrize("make", [make_file, make_folder, make_link_to_nothing, make_link_to_outside])
@pytest.mark.parametrize("name", sorted(FILES))
def test_what_exists_is_left_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / name)
    before = files_in(tmp_path)
    for _ in range(2):
        assert main(["init", "--path", str(tmp_path)]) == 0
        after = files_in(tmp_path)
        assert {path: after[path] for path in before} == before
        assert after.keys() >= FILES
        assert f"{name}: exists" in capsys.readouterr().out


def block_with_file(folder: Path) -> None:
    (folder / "tests").write_text("mine", encoding="utf-8")


def block_with_deep_file(folder: Path) -> None:
    (folder / ".github").mkdir()
    (folder / ".github/workflows").write_text("mine", encoding="utf-8")


def lead_outside(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / ".github").symlink_to("../elsewhere")


def lead_outside_within(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / ".github").mkdir()
    (folder / ".github/workflows").symlink_to(folder.parent / "elsewhere")


def lead_nowhere(folder: Path) -> None:
    (folder / "tests").symlink_to("nowhere")


def lead_round(folder: Path) -> None:
    (folder / "tests").symlink_to("tests")


@pytest.mark.parametrize("arguments", [[], ["--dry-run"]], ids=["real", "dry"])
@pytest.mark.parametrize(
    "block", [block_with_file, block_with_deep_file, lead_outside, lead_outside_within, lead_nowhere, lead_round]
)
def test_a_folder_that_cannot_be_used_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], block: Callable[[Path], None], arguments: list[str]
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    block(folder)
    before = files_in(tmp_path)
    assert main(["init", "--path", str(folder), *arguments]) == 2
    assert files_in(tmp_path) == before
    assert re.search(r"is not a folder|leads out of the project", capsys.readouterr().err)


def test_a_link_within_the_project_is_followed(tmp_path: Path) -> None:
    (tmp_path / "src/tests").mkdir(parents=True)
    (tmp_path / "tests").symlink_to("src/tests")
    assert main(["init", "--path", str(tmp_path)]) == 0
    assert (tmp_path / "src/tests/test_seedbed.py").is_file()


@pytest.mark.parametrize("place", ["file", "file/inside", "\0", "x" * 300])
def test_a_path_that_cannot_be_a_project_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    before = files_in(tmp_path)
    assert main(["init", "--path", str(tmp_path / place)]) == 2
    assert files_in(tmp_path) == before
    assert capsys.readouterr().err.startswith("seedbed init: ")


@pytest.mark.parametrize("size", [0, 1, 300, 5000])
def test_a_full_disk_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int) -> None:
    (tmp_path / "project").mkdir()
    make_file(tmp_path / "project/own.txt")
    before = files_in(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for folder in ("project", "new/project"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            code = main(["init", "--path", str(tmp_path / folder)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert code == 2
        assert files_in(tmp_path) == before
        assert "Nothing was written" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights for a test")
@pytest.mark.parametrize("closed", ["", "tests", ".github/workflows"])
def test_a_folder_without_write_permission_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], closed: str
) -> None:
    folder = tmp_path_factory.mktemp("rights")
    (folder / ".github/workflows").mkdir(parents=True)
    (folder / "tests").mkdir()
    for path in (folder, *folder.rglob("*"), *folder.parents[:2]):
        path.chmod(0o755 if path in folder.parents else 0o777)
    (folder / closed).chmod(0o555)
    before = files_in(folder)
    os.seteuid(NOBODY)
    try:
        code = main(["init", "--path", str(folder)])
    finally:
        os.seteuid(0)
    assert code == 2
    assert files_in(folder) == before
    assert "Permission denied" in capsys.readouterr().err


def test_a_file_that_appears_meanwhile_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.open

    def other_program_first(path: Path, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        if mode == "xb" and path.name == "test_seedbed.py":
            path.write_bytes(b"theirs")
        return write(path, mode, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", other_program_first)
    assert main(["init", "--path", str(tmp_path)]) == 0
    assert (tmp_path / TEST).read_bytes() == b"theirs"


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_file(tmp_path / TEST)
    before = files_in(tmp_path)
    assert main(["init", "--dry-run", "--json", "--path", str(tmp_path)]) == 0
    assert files_in(tmp_path) == before
    shown = json.loads(capsys.readouterr().out)
    assert shown["dry_run"] is True
    assert {file["path"]: file["status"] for file in shown["files"]} == {
        name: "exists" if name == TEST else "missing" for name in FILES
    }


def test_the_files_name_the_defaults_of_the_server() -> None:
    (config,) = (tomllib.loads(file.content.decode()) for file in project_files() if file.path == "seedbed.toml")
    assert (config["port"], config["key"][0]["name"]) == (local.PORT, local.KEY)
