"""Send requests to a server for some seconds with wrk, and measure the server."""

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SERVER_CORE: Final = "0"
LOAD_CORE: Final = "1"
CONNECTIONS: Final = 32

_UNITS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True)
class Load:
    """What a load of some seconds measured.

    Attributes:
        rate: Responses per second.
        p50: Median latency, in milliseconds.
        p99: 99th percentile of the latency, in milliseconds.
        count: Number of responses.
    """

    rate: float
    p50: float
    p99: float
    count: int


def send_load(url: str, headers: dict[str, str], seconds: int, body: object = None) -> Load:
    """Send requests on 32 connections from one core: POST with a JSON body, or GET without one.

    Raises:
        RuntimeError: A response had another status than 2xx, or a connection failed.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if body is not None:
            script.write(f"wrk.method = 'POST'\nwrk.body = [==[{json.dumps(body)}]==]\n")
        script.writelines(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}\n" for name, value in headers.items())
        script.flush()
        options = ["-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", script.name, url]
        command = ["taskset", "-c", LOAD_CORE, "wrk", *options]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # A response after two seconds is a time-out for wrk. Slow ones count, and a virtual machine that warms up has some.
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+)", report)
    if "Non-2xx" in report or (broken and any(map(int, broken.groups()))):
        raise RuntimeError(f"{url} did not answer all requests:\n{report}")
    return Load(
        rate=float(_only(r"Requests/sec:\s+([\d.]+)", report)),
        p50=_milliseconds(_only(r"\s50%\s+(\S+)", report)),
        p99=_milliseconds(_only(r"\s99%\s+(\S+)", report)),
        count=int(_only(r"(\d+) requests in", report)),
    )


def resident_megabytes(process_id: int) -> float:
    """Return the memory of a process and its children, in MB, as ``/proc`` reports it."""
    total = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:  # the process has ended
            continue
        if process_id in {int(fields["Pid"]), int(fields["PPid"])}:
            total += float(fields.get("VmRSS", "0 kB").split()[0]) / 1000
    return total


def _only(pattern: str, report: str) -> str:
    found = re.search(pattern, report)
    if found is None:
        raise RuntimeError(f"wrk printed no {pattern!r}:\n{report}")
    return found[1]


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]
