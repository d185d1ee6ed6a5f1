"""Latency that ``seedbed proxy`` adds: the same request straight to a mock server and through a proxy, in turn."""

import statistics
import sys
import tempfile
import time

import httpx2
from seedbed_schemas import job_api, local
from sides import CREATE, HEADERS, REQUEST, SERVE, SUCCESS, free_port, started

WARM_UP = 100
CALLS = 1000
MOST_MILLISECONDS = 1.5
PROXY = [sys.executable, "-c", "from seedbed_mock.cli import main; main()", "proxy"]


def timed(client: httpx2.Client, method: str, target: str, body: object) -> float:
    """Return how long a call takes, in milliseconds."""
    begin = time.perf_counter()
    response = client.request(method, target, json=body)
    duration = (time.perf_counter() - begin) * 1000
    assert response.json()["code"] == SUCCESS
    return duration


def main() -> int:
    """Measure both sides in turn, print the medians, and return 1 if the proxy adds too much."""
    most = 0.0
    upstream, port = free_port(), free_port()
    serve = [*SERVE, "--port", str(upstream), "--task-seconds", "0"]
    calls = {"createTask": ("POST", CREATE, REQUEST), "credit": ("GET", job_api().credit.path, None)}
    with tempfile.TemporaryDirectory() as folder:
        command = [*PROXY, "--upstream", f"http://{local.HOST}:{upstream}", "--port", str(port), "--record", folder]
        with started(serve, upstream), started(command, port):
            clients = {
                name: httpx2.Client(base_url=f"http://{local.HOST}:{each}", headers=HEADERS, trust_env=False)
                for name, each in (("direct", upstream), ("proxy", port))
            }
            for operation, (method, target, body) in calls.items():
                durations: dict[str, list[float]] = {name: [] for name in clients}
                for number in range(WARM_UP + CALLS):
                    for name, client in clients.items():
                        duration = timed(client, method, target, body)
                        if number >= WARM_UP:
                            durations[name].append(duration)
                direct, proxied = (statistics.median(durations[name]) for name in clients)
                added = proxied - direct
                most = max(most, added)
                print(f"{operation}: direct {direct:.2f} ms, through the proxy {proxied:.2f} ms, added {added:.2f} ms")
    print(f"at most {MOST_MILLISECONDS} ms may be added")
    return int(most > MOST_MILLISECONDS)


if __name__ == "__main__":
    sys.exit(main())
