"""A project outside of this repository, whose tests use the fixtures together with many other libraries."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).with_name("outside_project")
# What each of its test modules uses, so that a missing library fails the test and does not skip it.
LIBRARIES = ("anyio", "freezegun", "pytest_asyncio", "pytest_freezer", "respx", "time_machine", "trio", "vcr", "xdist")


@pytest.mark.slow
def test_the_fixtures_work_beside_other_libraries_with_warnings_as_errors(tmp_path: Path) -> None:
    project = shutil.copytree(PROJECT, tmp_path / "posters", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COVERAGE_"))}
    imports = f"import {', '.join(LIBRARIES)}"
    subprocess.run([sys.executable, "-c", imports], check=True, env=environment)
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-ra"]
    result = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    text = "".join(file.read_text(encoding="utf-8") for file in PROJECT.rglob("test_*.py"))
    written = len(re.findall(r"^(?:async )?def test_", text, re.MULTILINE))
    passed = re.search(r"^(\d+) passed in", output, re.MULTILINE)
    assert passed, output
    # The tests with anyio run with asyncio and trio, and the faults are three.
    assert int(passed[1]) == written + 2 + 2
