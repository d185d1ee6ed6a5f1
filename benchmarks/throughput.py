"""Requests per second: the mock server with each store, and bare Starlette routes with the same responses."""

import json
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

import httpx2
from seedbed_schemas import job_api, local
from sides import BARE, CREATE, HEADERS, REQUEST, SERVE, free_port, started

ROUNDS = 3
SECONDS = 5
SERVER_CORE, LOAD_CORE = "0", "1"
RECORD = job_api().record_info


def load(port: int, target: str, body: str = "") -> float:
    """Return how many requests per second a server handles: POST with a body, or GET without one."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if body:
            script.write(f'wrk.method = "POST"\nwrk.body = [[{body}]]\n')
        script.writelines(f'wrk.headers["{name}"] = "{value}"\n' for name, value in HEADERS.items())
        script.flush()
        url = f"http://{local.HOST}:{port}{target}"
        command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", "-c32", f"-d{SECONDS}s", "-s", script.name, url]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in report, report
    return float(re.findall(r"Requests/sec:\s+([\d.]+)", report)[0])


def measure(side: str, command: list[str], port: int, record: Path) -> dict[str, float]:
    """Return the requests per second of one side by operation; the mock server's record is saved for the bare side."""
    with started(["taskset", "-c", SERVER_CORE, *command], port):
        target = f"{RECORD.path}?{RECORD.query}=task"
        if side != "bare":
            url = f"http://{local.HOST}:{port}"
            created = httpx2.post(url + CREATE, json=REQUEST, headers=HEADERS, trust_env=False).json()
            target = f"{RECORD.path}?{RECORD.query}={created['data']['taskId']}"
            record.write_bytes(httpx2.get(url + target, headers=HEADERS, trust_env=False).content)
        queries = load(port, target)
        return {"recordInfo": queries, "createTask": load(port, CREATE, json.dumps(REQUEST))}


def sides(port: int, folder: Path) -> dict[str, list[str]]:
    """Return the command of each side; the mock server comes first, since the bare side sends its record."""
    serve = [*SERVE, "--port", str(port), "--task-seconds", "0"]
    return {
        "memory": serve,
        "SQLite": [*serve, "--db", str(folder / "tasks.db")],
        "bare": [*BARE, str(port), str(folder / "record.json")],
    }


def main() -> None:
    """Measure all sides in turn, and print the medians and their ratios."""
    results: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            port = free_port()
            for side, command in sides(port, Path(folder)).items():
                for operation, figure in measure(side, command, port, Path(folder) / "record.json").items():
                    results.setdefault((operation, side), []).append(figure)
    medians = {what: statistics.median(figures) for what, figures in results.items()}
    for (operation, side), figure in sorted(medians.items()):
        print(f"{operation}, {side}: {figure:,.0f} requests/s")
    for operation, side, other in (
        ("createTask", "memory", "bare"),
        ("recordInfo", "memory", "bare"),
        ("createTask", "SQLite", "memory"),
        ("recordInfo", "SQLite", "memory"),
    ):
        print(f"{operation}, {side} to {other}: {medians[operation, side] / medians[operation, other]:.2f}")


if __name__ == "__main__":
    assert Path("/proc").exists(), "taskset exists only on Linux"
    main()
