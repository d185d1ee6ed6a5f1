"""The cost of the client in addition to httpx2: importing it, and making one for a URL without TLS."""

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
# httpcore2 is imported first: both clients need it, and would otherwise be measured with its import.
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


def measure(program: str, rounds: int = ROUNDS) -> tuple[float, float, float]:
    """Return the medians, in ms, of the two times that a program prints, and of their ratio, over several processes."""
    lines = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(rounds)
    ]
    pairs = [(float(bare), float(client)) for bare, client in lines]
    ratio = statistics.median(client / bare for bare, client in pairs)
    medians = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
    return *medians, ratio


def main() -> None:
    """Run both measurements and print the medians and their ratios."""
    for title, program in (("import", IMPORTS), ("make and open for http://", CLIENTS)):
        bare, client, ratio = measure(program)
        print(f"{title}: httpx2 {bare:.1f} ms, the client in addition {client:.1f} ms, ratio: {ratio:.2f}")


if __name__ == "__main__":
    main()
