"""Cost of the fault layer without rules: createTask with and without the handler ``apply_fault``, in one run.

wrk sends requests to one server, whose createTask has the handler in every other round. The benchmark compares the CPU
time of the server per request, which depends less on the load of the machine than real time does.
"""

import json
import subprocess
import tempfile
import time

from seedbed_mock import running
from seedbed_mock.asgi import OperationEndpoint
from seedbed_mock.handlers import CREATE_TASK, apply_fault
from sides import CREATE, HEADERS, REQUEST

ROUNDS = 12
WITHOUT = tuple(handler for handler in CREATE_TASK if handler is not apply_fault)


def load(url: str) -> int:
    """Return how many requests wrk sent in one second."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f'wrk.method = "POST"\nwrk.body = [[{json.dumps(REQUEST)}]]\n')
        script.writelines(f'wrk.headers["{name}"] = "{value}"\n' for name, value in HEADERS.items())
        script.flush()
        command = ["wrk", "-t1", "-c32", "-d1s", "-s", script.name, url]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in report, report
    return int(report.partition(" requests in")[0].split()[-1])


def main() -> None:
    """Measure both alternately, and print the best round of each, which other programs disturbed least."""
    spent: dict[str, list[float]] = {"with": [], "without": []}
    with running(rate_limit="off", credits=10**9) as server:
        routes = server._app.app.routes
        endpoints = [each for route in routes if isinstance(each := getattr(route, "app", None), OperationEndpoint)]
        endpoint = next(each for each in endpoints if each._handlers is CREATE_TASK)
        load(server.url + CREATE)
        for number in range(ROUNDS):
            for side in sorted(spent, reverse=bool(number % 2)):
                endpoint._handlers = CREATE_TASK if side == "with" else WITHOUT
                began = time.process_time()
                requests = load(server.url + CREATE)
                spent[side].append((time.process_time() - began) / requests * 1e6)
    best = {side: min(figures) for side, figures in spent.items()}
    for side, figure in best.items():
        print(f"createTask {side} the fault layer: {figure:.2f} microseconds of CPU")
    print(f"throughput kept: {best['without'] / best['with']:.3f}")


if __name__ == "__main__":
    main()
