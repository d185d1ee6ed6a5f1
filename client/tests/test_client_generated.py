"""The blocking modules are what the asynchronous ones generate."""

import shutil
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[1]


def run_generator(client: Path, *arguments: str) -> tuple[int, str]:
    """Run the generator of a copy of the client, or of the client itself, and return its exit code and its errors."""
    command = [sys.executable, str(client / "generate_sync.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode, result.stderr


def test_the_generated_modules_are_up_to_date() -> None:
    assert run_generator(CLIENT, "--check") == (0, "")


def test_a_module_that_is_not_up_to_date_is_named_and_generated_again(tmp_path: Path) -> None:
    package = tmp_path / "seedbed_client"
    package.mkdir()
    # Without its configuration, ruff would format the copy in another way.
    shutil.copy(CLIENT.parent / "pyproject.toml", tmp_path)
    shutil.copy(CLIENT / "generate_sync.py", tmp_path)
    for module in (CLIENT / "seedbed_client").glob("_*.py"):
        shutil.copy(module, package)
    stale = package / "_runner.py"
    text = stale.read_text(encoding="utf-8")
    stale.write_text(text + "\nEDITED = True\n", encoding="utf-8")
    code, errors = run_generator(tmp_path, "--check")
    assert code == 1
    assert "_runner.py" in errors
    assert "_client.py" not in errors
    assert run_generator(tmp_path) == (0, "")
    assert stale.read_text(encoding="utf-8") == text
