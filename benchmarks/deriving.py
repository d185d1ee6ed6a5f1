"""Time to derive a contract from a page and to load one, and to parse the page's Markdown and the contract's JSON."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from markdown_it import MarkdownIt
from seedbed_schemas import Contract
from seedbed_schemas.contract import default_contract
from seedbed_schemas.derive import derive

ROUNDS = 50


def milliseconds(work: Callable[[], object]) -> float:
    """Return the median time that the work takes, in milliseconds."""
    figures: list[float] = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        figures.append((time.perf_counter() - start) * 1000)
    return statistics.median(figures)


def parse(page: str) -> object:
    """Parse the Markdown of a page and do nothing with it."""
    return MarkdownIt("commonmark").enable("table").parse(page)


def main() -> None:
    """Measure the page named on the command line."""
    if not sys.argv[1:]:
        sys.exit("Usage: deriving.py PAGE")
    page, contract = Path(sys.argv[1]).read_text(encoding="utf-8"), json.dumps(default_contract().document)
    for name, ours, bare in (
        ("derive", lambda: derive(page), lambda: parse(page)),
        ("load", Contract.load, lambda: json.loads(contract)),
    ):
        taken, least = milliseconds(ours), milliseconds(bare)
        print(f"{name}: {taken:.2f} ms, parsing alone {least:.2f} ms, ratio {taken / least:.1f}")


if __name__ == "__main__":
    main()
