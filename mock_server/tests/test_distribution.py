"""The distribution: a wheel that works outside the checkout, and types that checkers know in any folder."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import seedbed_schemas
import yaml12

ROOT = Path(__file__).parents[2]
PACKAGES = ("seedbed_schemas", "seedbed_mock", "seedbed_client", "seedbed_contract")


def build(source: Path, folder: Path, *kinds: str) -> list[Path]:
    """Build distributions from a checkout or an unpacked sdist, and return their paths."""
    command = [sys.executable, "-m", "build", *kinds, "--no-isolation", "--outdir", str(folder), str(source)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module", name="wheel")
def build_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (wheel,) = build(ROOT, tmp_path_factory.mktemp("wheel"), "--wheel")
    return wheel


def test_the_wheel_contains_the_four_packages_with_their_data_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    folders = [next(ROOT.glob(f"*/{package}")) for package in PACKAGES]
    files = {
        path.relative_to(folder.parent).as_posix()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    pages = {f"seedbed_schemas/docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert names == files | pages
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert not [
        name for name in names if re.search(r"(^|/)(tests|benchmarks|__pycache__)/|\.pyc$|/conftest\.py$", name)
    ]


@pytest.mark.slow
def test_a_build_can_be_reproduced_from_the_checkout_and_from_the_sdist(wheel: Path, tmp_path: Path) -> None:
    (first,) = build(ROOT, tmp_path / "one", "--sdist")
    with tarfile.open(first) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / first.name.removesuffix(".tar.gz")
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    for path in unpacked.rglob("*"):
        os.utime(path, (0, 0))
    again = {path.name: path.read_bytes() for path in build(unpacked, tmp_path / "two", "--sdist", "--wheel")}
    assert again == {each.name: each.read_bytes() for each in (first, wheel)}
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        assert names - {"PKG-INFO"} <= set(listed.stdout.splitlines())
    assert {"LICENSE", "README.md", "CHANGELOG.md", "mock_server/tests/test_distribution.py"} <= names


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")  # noqa: S202 (we made it)
    code = (
        "import seedbed_mock, seedbed_client, seedbed_contract, seedbed_schemas;"
        "server = seedbed_mock.running(task_seconds=0); running = server.__enter__();"
        "client = seedbed_client.SeedreamClient(running.url, running.key);"
        "task = client.generate('a hill'); print(len(client.download(task.result_urls[0])) > 1000);"
        "client.close(); server.__exit__(None, None, None); print(seedbed_schemas.__file__);"
        "from seedbed_schemas.documentation import topic_of; print(topic_of('cannot listen on x port 1: in use'))"
    )
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": ""}
    result = run([sys.executable, "-P", "-c", code], tmp_path, environment)
    worked, place, topic = result.stdout.split()
    assert topic == "troubleshooting#address-in-use"
    assert worked == "True"
    assert Path(place).is_relative_to(tmp_path)


# Releases


PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def workflow(name: str) -> dict[str, Any]:
    content: Any = yaml12.parse_yaml((ROOT / ".github/workflows" / name).read_text(encoding="utf-8"))
    return dict(content)


def test_each_python_that_is_tested_has_a_classifier() -> None:
    named = [each.rpartition(" :: ")[2] for each in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", each)]
    assert named == workflow("ci.yml")["jobs"]["checks"]["strategy"]["matrix"]["python"]
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert sys.version_info[:2] < (3, 14) or "3.14" in named or "is_new" in str(workflow("ci.yml"))


def test_the_version_is_stated_in_one_place(wheel: Path) -> None:
    assert wheel.name.split("-")[1] == seedbed_schemas.__version__
    assert "version" not in PROJECT
    statement = re.compile(rf"(?<![\d.]){re.escape(seedbed_schemas.__version__)}(?![\d.])")
    folders = [next(ROOT.glob(f"*/{package}")) for package in PACKAGES]
    files = [
        *(each for folder in folders for each in folder.rglob("*.py")),
        ROOT / "pyproject.toml",
        ROOT / "Dockerfile",
    ]
    stating = [path for path in files if statement.search(path.read_text(encoding="utf-8"))]
    assert [path.relative_to(ROOT).as_posix() for path in stating] == ["schemas/seedbed_schemas/__init__.py"]


def test_the_changelog_has_a_section_and_a_link_for_each_version() -> None:
    titles = re.findall(r"^## \[(.+?)\](.*)$", CHANGELOG, re.MULTILINE)
    versions = [title for title, _ in titles]
    assert versions[0] == "Unreleased"
    assert len(set(versions)) == len(versions)
    assert all(re.fullmatch(r" - \d{4}-\d\d-\d\d", date) for _, date in titles[1:])
    # Before its first release, a version has only what is not released.
    assert seedbed_schemas.__version__ in versions or versions == ["Unreleased"]
    assert re.findall(r"^\[(.+)\]: https://\S+$", CHANGELOG, re.MULTILINE) == versions


def test_a_release_is_tested_before_it_is_published_without_a_password() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert (jobs["test"]["needs"], jobs["publish"]["needs"]) == ("build", "test")
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    matrix = workflow("ci.yml")["jobs"]["checks"]["strategy"]["matrix"]
    tested = [*matrix["python"], *(each["python"] for each in matrix["include"])]
    assert jobs["test"]["strategy"]["matrix"]["python"] == tested
    text = (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
    assert "NOT VERIFIED" in text
    assert "secrets." not in text
    for program in re.findall(r"run: (\.ci/\S+)", text):
        assert os.access(ROOT / program, os.X_OK)


USER_PROGRAM = """
from typing import assert_type

from seedbed_client import SeedreamClient, Task
from seedbed_contract import requests
from seedbed_mock import MockServer, running
from seedbed_schemas import Contract, default_contract

with running(task_seconds=0) as server:
    assert_type(server, MockServer)
    client = SeedreamClient(server.url, server.key)
    assert_type(client.create_task("a hill", aspect_ratio="16:9"), str)
    assert_type(client.generate("a hill"), Task)
    assert_type(client.credits(), float)
assert_type(default_contract(), Contract)
requests(contract=default_contract())
client.create_task(3)  # WRONG
running(speed="fast")  # WRONG
"""


@pytest.mark.parametrize(
    "checker",
    [
        pytest.param(["mypy", "--strict"], id="mypy", marks=pytest.mark.exhaustive),
        pytest.param(["pyright"], id="pyright", marks=pytest.mark.slow),
    ],
)
def test_type_checkers_know_the_packages_from_another_folder(tmp_path: Path, checker: list[str]) -> None:
    program = tmp_path / "user.py"
    program.write_text(USER_PROGRAM)
    options = ["--pythonpath", sys.executable] if checker[0] == "pyright" else ["--cache-dir", str(tmp_path / "cache")]
    result = run([sys.executable, "-m", *checker, *options, str(program)], tmp_path, None)
    wrong = [number for number, line in enumerate(USER_PROGRAM.splitlines(), 1) if line.endswith("# WRONG")]
    reported = [line for line in result.stdout.splitlines() if "error" in line and "user.py:" in line]
    assert len(reported) == len(wrong), result.stdout
    for line, number in zip(reported, wrong, strict=True):
        assert f"user.py:{number}:" in line


def run(command: Iterable[str], folder: Path, environment: dict[str, str] | None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*command], cwd=folder, env=environment, capture_output=True, text=True, check=False)
