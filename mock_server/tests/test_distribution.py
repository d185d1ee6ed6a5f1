"""The distribution: a wheel that works outside the checkout, and types that checkers know in any folder."""

import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("seedbed_schemas", "seedbed_mock", "seedbed_client", "seedbed_contract")


@pytest.fixture(scope="module", name="wheel")
def build_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.iterdir()
    return wheel


def test_the_wheel_contains_the_four_packages_with_their_data_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)
    assert not [name for name in names if "tests" in name or "benchmarks" in name]
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert {name.rpartition("/")[2] for name in names if name.startswith("seedbed_schemas/docs/")} == pages
    data = (path for path in (ROOT / "schemas" / "seedbed_schemas").rglob("*.json"))
    assert {path.relative_to(ROOT / "schemas").as_posix() for path in data} <= set(names)


def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
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
