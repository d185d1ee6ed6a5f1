"""The pytest plugin, in the test run of somebody else's project."""

import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from seedbed_mock import Running
from seedbed_schemas import default_contract
from seedbed_schemas.example import example_of

THEIR_TEST = """
import urllib.request, json

def test_theirs(seedbed):
    request = urllib.request.Request(
        seedbed.url + "/api/v1/chat/credit", headers={"Authorization": f"Bearer {seedbed.key}"}
    )
    assert json.load(urllib.request.urlopen(request))["data"] == 1_000_000
"""


def test_the_fixture_is_a_live_server(seedbed: Running) -> None:
    contract = default_contract()
    headers = {"Authorization": f"Bearer {seedbed.key}"}
    body = example_of(contract.part("request"))
    answer = httpx2.post(seedbed.url + contract.operation.path, json=body, headers=headers, trust_env=False).json()
    assert answer["code"] == 200


def test_another_project_needs_nothing_but_the_name_of_the_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(THEIR_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in result.stdout, result.stdout


def test_a_test_run_without_the_fixture_pays_for_nothing() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import seedbed_mock.pytest_plugin;"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('seedbed_mock')))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_unknown_name_of_the_package_is_refused() -> None:
    with pytest.raises(ImportError, match="nonsense"):
        exec("from seedbed_mock import nonsense")  # noqa: S102
