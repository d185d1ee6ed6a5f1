"""The history of the benchmark: the ratios of each full run, and which of them have become worse."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from costs import Cost
    from report import Row

HISTORY: Final = Path(__file__).with_name("history.json")
TOLERANCE: Final = 0.1
"""Share by which a ratio may become worse, in addition to its spread, before it counts as a regression."""


def _ratios(rows: Iterable[Row], costs: Iterable[Cost]) -> dict[str, dict[str, float]]:
    """Return the ratios of a run by name. More is better for the rate of a server, and less for a cost."""
    servers = {f"{row.case}: {row.subject}": {"ratio": row.ratio, "spread": row.spread, "better": 1} for row in rows}
    return servers | {cost.name: {"ratio": cost.ratio, "spread": cost.spread, "better": cost.better} for cost in costs}


def append_run(rows: Sequence[Row], costs: Sequence[Cost], path: Path = HISTORY) -> None:
    """Add a run to the history."""
    head = ["git", "-C", str(path.parent), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=False).stdout.strip()
    run = {"date": datetime.now(UTC).date().isoformat(), "commit": commit, "ratios": _ratios(rows, costs)}
    path.write_text(json.dumps([*_runs(path), run], indent=1) + "\n", encoding="utf-8")


def compared(rows: Iterable[Row], costs: Iterable[Cost], path: Path = HISTORY) -> list[str]:
    """Return a line for each ratio that is worse than in the last run of the history."""
    runs = _runs(path)
    before = runs[-1]["ratios"] if runs else {}
    lines: list[str] = []
    for name, now in _ratios(rows, costs).items():
        if name not in before:
            continue
        old = before[name]
        factor = now["ratio"] / old["ratio"] if now["better"] > 0 else old["ratio"] / now["ratio"]
        noise = max(now["spread"] / now["ratio"], old["spread"] / old["ratio"]) / 2
        if factor < 1 - TOLERANCE - noise:
            lines.append(f"{name}: ratio {now['ratio']:.2f}, was {old['ratio']:.2f} ({runs[-1]['commit']})")
    return lines


def _runs(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
