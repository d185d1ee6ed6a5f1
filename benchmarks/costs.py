"""What the other parts cost: client, checks, strategies, images, deriving and callbacks, each beside a bare side."""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import deriving
import httpx2
import images
import strategies
from hypothesis.strategies import SearchStrategy
from load import SERVER_CORE, send_load
from seedbed_contract import requests, violations
from seedbed_schemas import local
from seedbed_schemas.derive import derive
from sides import CREATE, SEEDBED, free_port, started
from subjects import FIELDS, HEADERS, REQUEST, seedbed

import client

PAGE: Final = Path(__file__).parents[1] / "schemas/tests/pages/tables.zh.md"
_CALLBACK_SECONDS: Final = 2
_DELIVERY_SECONDS: Final = 60
_BARE_CONNECTIONS: Final = 32


@dataclass(frozen=True)
class Cost:
    """A cost, or a rate, and its ratio to that of a bare side in the same run.

    Attributes:
        name: Name in tables.
        value: The median.
        unit: Unit of the value.
        against: The bare side.
        ratio: Median of the ratios of the rounds.
        spread: Difference of the largest and the smallest ratio.
        better: 1 if a higher ratio is better, -1 if a lower one is.
    """

    name: str
    value: float
    unit: str
    against: str
    ratio: float
    spread: float
    better: int

    def describe(self) -> str:
        """Return the cost as a line of text."""
        return (
            f"{self.name}: {self.value:,.1f} {self.unit}, {self.ratio:.2f} of {self.against} (spread {self.spread:.2f})"
        )


def measure_all(rounds: int) -> list[Cost]:
    """Measure every cost in turn."""
    return [
        _cost("importing the client in addition to httpx2", "ms", "importing httpx2", _import, rounds),
        _cost("seedbed check of the mock server", "s", "importing httpx2 and Hypothesis", _check, rounds),
        _cost("deriving a contract from a page", "ms", "parsing its Markdown", _derive, rounds),
        _cost("rendering a 4K image", "ms", "a plain JPEG of the size", _image, rounds),
        _cost(
            "strategy requests()", "examples/s", "Hypothesis's text", lambda: _strategy(requests()), rounds, better=1
        ),
        _cost(
            "strategy violations()",
            "examples/s",
            "Hypothesis's text",
            lambda: _strategy(violations()),
            rounds,
            better=1,
        ),
        _cost("callbacks delivered", "per s", "POSTs of httpx2 on 32 connections", _callbacks, rounds, better=1),
    ]


def _cost(  # noqa: PLR0917 (a row of the table above)
    name: str, unit: str, against: str, measure: Callable[[], tuple[float, float]], rounds: int, better: int = -1
) -> Cost:
    print(f"[costs] {name}", file=sys.stderr, flush=True)
    pairs = [measure() for _ in range(rounds)]
    ratios = [ours / bare for ours, bare in pairs]
    value = statistics.median(ours for ours, _ in pairs)
    return Cost(name, value, unit, against, statistics.median(ratios), max(ratios) - min(ratios), better)


def _import() -> tuple[float, float]:
    bare, ours, _ = client.measure(client.IMPORTS, rounds=5)
    return ours, bare


def _check() -> tuple[float, float]:
    port = free_port()
    command = seedbed("").command(port, Path())
    with started(command, port):
        ours = _seconds([*SEEDBED, "check", f"http://{local.HOST}:{port}", "--quiet"])
    return ours, _seconds([sys.executable, "-c", "import httpx2, hypothesis"])


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - began


def _derive() -> tuple[float, float]:
    page = PAGE.read_text(encoding="utf-8")
    return deriving.milliseconds(lambda: derive(page)), deriving.milliseconds(lambda: deriving.parse(page))


def _image() -> tuple[float, float]:
    return images.medians("Latin", images.RATIOS[-1], rounds=3)


def _strategy(strategy: SearchStrategy[object]) -> tuple[float, float]:
    return strategies.rate(strategy), strategies.rate(strategies.LONGEST_TEXT)


def _callbacks() -> tuple[float, float]:
    """Return the callbacks that arrive per second while they are due, and the rate of a bare client."""
    receiver, port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).with_name("receiver.py")), str(receiver)]
        process = subprocess.Popen(command)
        try:
            url = f"http://{local.HOST}:{receiver}"
            _await(url)
            with started(["taskset", "-c", SERVER_CORE, *seedbed("").command(port, Path(folder))], port):
                body = {**REQUEST, FIELDS.callback: f"{url}/done"}
                sent = send_load(f"http://{local.HOST}:{port}{CREATE}", HEADERS, _CALLBACK_SECONDS, body)
                ours = _delivered(url, sent.count)
            asyncio.run(_post(f"{url}/done", body))
            return ours, _delivered(url, 1)
        finally:
            process.terminate()
            process.wait()


def _delivered(url: str, expected: int) -> float:
    """Wait until no more callbacks arrive, and return their rate."""
    count, seconds, deadline = 0, 0.0, time.monotonic() + _DELIVERY_SECONDS
    while count < expected and time.monotonic() < deadline:
        time.sleep(1)
        found = httpx2.get(url, trust_env=False).json()
        if not found["count"] and count:
            break
        count, seconds = count + found["count"], seconds + found["seconds"]
    return count / seconds


async def _post(url: str, body: object) -> None:
    ends = time.monotonic() + _CALLBACK_SECONDS

    async def post_all(http: httpx2.AsyncClient) -> None:
        while time.monotonic() < ends:
            await http.post(url, json=body)

    async with httpx2.AsyncClient(trust_env=False) as http:
        await asyncio.gather(*(post_all(http) for _ in range(_BARE_CONNECTIONS)))


def _await(url: str) -> None:
    for _ in range(600):
        try:
            httpx2.get(url, trust_env=False)
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the receiver at {url} did not start")
