"""What the client costs beside httpx2: to import, and to make for an address without TLS."""

import statistics
import subprocess
import sys

ROUNDS = 25

IMPORTS = """
import time
began = time.perf_counter(); import httpx2
middle = time.perf_counter(); import seedbed_client
print(middle - began, time.perf_counter() - middle)
"""
CLIENTS = """
import time, httpcore2, httpx2
from seedbed_schemas import default_contract
from seedbed_client import SeedreamClient
default_contract()
began = time.perf_counter(); httpx2.Client(trust_env=False)
middle = time.perf_counter()
client = SeedreamClient("http://127.0.0.1:9", "key"); client._runner._http.for_url(client.base_url)
print(middle - began, time.perf_counter() - middle)
"""


def measured(program: str) -> tuple[float, float, float]:
    """Return the medians of what a program prints, in ms, and of their ratio, over some processes of their own."""
    lines = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(ROUNDS)
    ]
    pairs = [(float(one), float(other)) for one, other in lines]
    ratio = statistics.median(other / one for one, other in pairs)
    return statistics.median(one for one, _ in pairs) * 1e3, statistics.median(other for _, other in pairs) * 1e3, ratio


def main() -> None:
    """Measure both, some rounds each, and print the medians and their ratio."""
    for what, program in (("import", IMPORTS), ("make and open for http://", CLIENTS)):
        bare, ours, ratio = measured(program)
        print(f"{what}: httpx2 {bare:.1f} ms, the client beside it {ours:.1f} ms, ratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
