"""A kept-alive call through interception beside the same call over plain HTTP, interleaved in one run."""

import http.client
import ssl
import statistics
import sys
import time

from seedbed_mock import MockServer, running
from seedbed_schemas import job_api, local
from sides import HEADERS

CALLS = 2000
MOST_MILLISECONDS = 0.3


def connections(server: MockServer, proxy: str, bundle: str) -> dict[str, http.client.HTTPConnection]:
    """Return a connection for each side."""
    plain = http.client.HTTPConnection(server.url.removeprefix("http://"))
    trusting = ssl.create_default_context(cafile=bundle)
    intercepted = http.client.HTTPSConnection(proxy.removeprefix("http://"), context=trusting)
    intercepted.set_tunnel(job_api().server.removeprefix("https://"), 443)
    return {"plain HTTP": plain, "HTTPS through interception": intercepted}


def milliseconds(connection: http.client.HTTPConnection) -> float:
    """Return how long one call takes."""
    started = time.perf_counter()
    connection.request("GET", job_api().credit.path, headers=HEADERS)
    response = connection.getresponse()
    body = response.read()
    taken = time.perf_counter() - started
    assert b'"code":200' in body, body
    return taken * 1000


def main() -> int:
    """Print the median of each side, and return 1 if interception costs more than it may."""
    with running(key=local.KEY) as server, server.intercept() as intercepted:
        sides = connections(server, intercepted.url, intercepted.env["SSL_CERT_FILE"])
        for connection in sides.values():
            for _ in range(100):
                milliseconds(connection)
        taken: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(CALLS):
            for name, connection in sides.items():
                taken[name].append(milliseconds(connection))
        for connection in sides.values():
            connection.close()
    medians = {name: statistics.median(values) for name, values in taken.items()}
    for name, median in medians.items():
        print(f"{name:<28} {median:.3f} ms")
    plain, intercepting = medians.values()
    print(f"{'difference':<28} {intercepting - plain:.3f} ms (at most {MOST_MILLISECONDS})")
    return int(intercepting - plain > MOST_MILLISECONDS)


if __name__ == "__main__":
    sys.exit(main())
