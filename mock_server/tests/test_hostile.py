"""The short form of ``benchmarks/hostile.py``; the benchmark itself sends a million requests."""

import subprocess
import sys
from pathlib import Path

import pytest

ATTACKS = Path(__file__).parents[2] / "benchmarks/hostile.py"
SHORT = ("--requests", "2500", "--stops", "3", "--idle", "300", "--drips", "50")
# The script leaves out the time in which other programs had the cores, but not that which a host takes from a virtual
# machine.
PATIENT = ("--slowest", "3", "--stop-within", "3")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="the memory of a process is read from /proc")
def test_no_attack_succeeds() -> None:
    command = [sys.executable, str(ATTACKS), *SHORT, *PATIENT]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 problems" in result.stdout
