"""Start and stop the two sides of a comparison."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
from seedbed_schemas import default_contract, local
from seedbed_schemas.openapi import example_of

# Containers often set this, and each start of a checkout would then compile every module. Those of an installed package
# are compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

CONTRACT = default_contract()
CREATE = CONTRACT.operation.path
HEADERS = {
    CONTRACT.operation.header: f"{CONTRACT.operation.scheme} {local.KEY}",
    "Content-Type": "application/json",
}
REQUEST = example_of(CONTRACT.part("request"))

SUCCESS = CONTRACT.code_named("success").number

_COMMAND = "import sys; from seedbed_mock.__main__ import command; sys.exit(command(sys.argv[1:]))"
SEEDBED = [sys.executable, "-c", _COMMAND]
"""The command ``seedbed`` of this Python, wherever its scripts are."""

BARE = [sys.executable, str(Path(__file__).with_name("bare.py"))]
SERVE = [sys.executable, "-m", "seedbed_mock", "--rate-limit", "off", "--credits", "1000000000"]

_POLL = 0.002


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind((local.HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def commands(port: int) -> dict[str, list[str]]:
    """Return the command of each side."""
    return {"bare Starlette": [*BARE, str(port)], "seedbed serve": [*SERVE, "--port", str(port)]}


@contextlib.contextmanager
def started(command: list[str], port: int) -> Iterator[float]:
    """Run a side while the block runs; yield the seconds from its start to its first response."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for_answer(port)
        yield time.perf_counter() - began
    finally:
        process.terminate()
        process.wait()


def wait_for_answer(port: int) -> None:
    """Wait until a server answers.

    Raises:
        TimeoutError: It does not.
    """
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((local.HOST, port)):
            response = httpx2.post(
                f"http://{local.HOST}:{port}{CREATE}", json=REQUEST, headers=HEADERS, trust_env=False
            )
            assert response.json()["code"] == SUCCESS
            return
        time.sleep(_POLL)
    raise TimeoutError("the server did not respond within 30 seconds")
