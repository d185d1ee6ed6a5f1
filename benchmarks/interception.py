"""A kept-alive call through interception beside the same call over plain HTTP, in turns, below one ``seedbed run``."""

import http.client
import os
import ssl
import statistics
import sys
import time

from seedbed_mock.cli import main as seedbed
from seedbed_schemas import job_api, local
from sides import HEADERS

CALLS = 2000
MOST_MILLISECONDS = 0.3


def connections() -> dict[str, http.client.HTTPConnection]:
    """Return a connection for each side."""
    server = os.environ[local.BASE_URL_VARIABLE].removeprefix("http://")
    intercepted = http.client.HTTPSConnection(server, context=ssl.create_default_context())
    intercepted.set_tunnel(job_api().server.removeprefix("https://"), 443)
    return {"plain HTTP": http.client.HTTPConnection(server), "HTTPS through interception": intercepted}


def milliseconds(connection: http.client.HTTPConnection) -> float:
    """Return how long one call takes."""
    started = time.perf_counter()
    connection.request("GET", job_api().credit.path, headers=HEADERS)
    body = connection.getresponse().read()
    taken = time.perf_counter() - started
    assert b'"code":200' in body, body
    return taken * 1000


def measure() -> int:
    """Print what each side takes, and return 1 if the median of interception is too far above that of plain HTTP."""
    sides = connections()
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(CALLS):
        for name, connection in sides.items():
            taken[name].append(milliseconds(connection))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    for name, values in taken.items():
        print(f"{name:<28} median {medians[name]:.3f} ms, least {min(values):.3f} ms")
    plain, intercepted = medians.values()
    print(f"{'difference of the medians':<28} {intercepted - plain:.3f} ms, at most {MOST_MILLISECONDS} ms")
    return int(intercepted - plain > MOST_MILLISECONDS)


if __name__ == "__main__":
    # The program of the run is this one again, so that client and server are processes of their own.
    sys.exit(measure() if "--measure" in sys.argv else seedbed(["run", "--", sys.executable, __file__, "--measure"]))
