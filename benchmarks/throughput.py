"""Requests per second of createTask: the fake beside a bare Starlette route that answers the same bytes."""

import json
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

from seedbed_schemas import local
from sides import CREATE, HEADERS, REQUEST, commands, free_port, started

ROUNDS = 3
SECONDS = 6
SERVER_CORE, LOAD_CORE = "0", "1"


def load(port: int) -> float:
    """Return the requests per second that the server on a port answers."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f'wrk.method = "POST"\nwrk.body = [[{json.dumps(REQUEST)}]]\n')
        script.writelines(f'wrk.headers["{name}"] = "{value}"\n' for name, value in HEADERS.items())
        script.flush()
        url = f"http://{local.HOST}:{port}{CREATE}"
        command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", "-c32", f"-d{SECONDS}s", "-s", script.name, url]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in report, report
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", report)[0])


def main() -> None:
    """Measure both sides in turn, some rounds each, and print the medians and their ratio."""
    results: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        port = free_port()
        for side, command in commands(port).items():
            with started(["taskset", "-c", SERVER_CORE, *command], port):
                results.setdefault(side, []).append(load(port))
    medians = {side: statistics.median(figures) for side, figures in results.items()}
    for side, figure in medians.items():
        print(f"{side}: {figure:,.0f} requests/s (of {', '.join(f'{each:,.0f}' for each in results[side])})")
    bare, seedbed = medians.values()
    print(f"ratio: {seedbed / bare:.2f}")


if __name__ == "__main__":
    assert Path("/proc").exists(), "taskset pins processes on Linux alone"
    main()
