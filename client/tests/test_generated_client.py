"""The blocking client is generated from the asynchronous one."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "generate_sync.py"


def test_the_blocking_client_is_up_to_date() -> None:
    command = [sys.executable, str(SCRIPT), "--check"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
