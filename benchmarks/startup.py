"""Time from the start of the process to the first response: the mock server and a bare Starlette route on uvicorn."""

import statistics

from sides import commands, free_port, started

ROUNDS = 7


def main() -> None:
    """Start both sides alternately, and print the medians and their ratio."""
    results: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        port = free_port()
        for side, command in commands(port).items():
            with started(command, port) as seconds:
                results.setdefault(side, []).append(seconds)
    medians = {side: statistics.median(figures) for side, figures in results.items()}
    for side, figure in medians.items():
        print(f"{side}: {figure * 1000:.0f} ms")
    bare, seedbed = medians.values()
    print(f"ratio: {seedbed / bare:.2f}")


if __name__ == "__main__":
    main()
