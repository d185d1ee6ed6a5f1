"""The blocking modules are what the asynchronous ones generate."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "generate_sync.py"


def test_the_generated_modules_are_up_to_date() -> None:
    command = [sys.executable, str(SCRIPT), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
