"""Cost of the log: createTask with the log written to a file as text and as JSON, beside no log, in turns.

Three servers run at once, and wrk sends requests to one at a time. The CPU time of each server per call depends less on
the load of the machine than the throughput does.
"""

import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from load import send_load
from seedbed_schemas import local
from sides import CREATE, HEADERS, REQUEST, SERVE, free_port, wait_for_answer

ROUNDS = 15
LEAST_KEPT = 0.9
FORMATS = ("off", "text", "json")


def cpu_seconds(process_id: int) -> float:
    """Return the processor time of a process, in seconds; all its threads count."""
    threads = Path(f"/proc/{process_id}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


def main() -> int:
    """Measure in turns, print the medians, and return 1 if a log costs too much."""
    rates: dict[str, list[float]] = {name: [] for name in FORMATS}
    spent: dict[str, list[float]] = {name: [] for name in FORMATS}
    with ExitStack() as stack:
        servers: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        for name in FORMATS:
            file, port = stack.enter_context(tempfile.TemporaryFile()), free_port()
            command = [*SERVE, "--port", str(port), "--log-format", name]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            wait_for_answer(port)
            servers[name] = process, port
        for number in range(ROUNDS + 1):
            # In another order each time, and the first round is for warming up.
            for name in FORMATS if number % 2 else FORMATS[::-1]:
                process, port = servers[name]
                before = cpu_seconds(process.pid)
                load = send_load(f"http://{local.HOST}:{port}{CREATE}", HEADERS, 1, REQUEST)
                if number:
                    rates[name].append(load.rate)
                    spent[name].append((cpu_seconds(process.pid) - before) / load.count * 1e6)
    return report(rates, spent)


def report(rates: dict[str, list[float]], spent: dict[str, list[float]]) -> int:
    """Print what was measured, and return 1 if a log costs too much."""
    least = 1.0
    for name in FORMATS:
        # Round by round, since the load of the machine changes in the meantime.
        kept = statistics.median(rate / without for rate, without in zip(rates[name], rates["off"], strict=True))
        least = min(least, kept)
        cost = statistics.median(spent[name])
        rate = statistics.median(rates[name])
        print(f"log {name:<4} {rate:>6.0f} calls/s, kept {kept:.3f}, {cost:.1f} µs of CPU per call")
    print(f"at least {LEAST_KEPT} of the throughput has to be kept")
    return int(least < LEAST_KEPT)


if __name__ == "__main__":
    sys.exit(main())
