"""Write the figures of a run to the page ``docs/performance.md``, as a table and a plot."""

from __future__ import annotations

import html
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from costs import Cost

DOCS: Final = Path(__file__).parents[1] / "docs"
PAGE: Final = DOCS / "performance.md"
PLOT: Final = DOCS / "images" / "performance.svg"
BEGIN, END = "<!-- figures: written by benchmarks/run.py -->", "<!-- end of figures -->"

_BAR, _GAP, _LABEL, _WIDTH = 18, 6, 190, 720


@dataclass(frozen=True)
class Row:
    """The figures of one server under one load.

    Attributes:
        case: Name of the load.
        subject: Name of the server.
        figures: Medians by name, such as ``req/s``.
        ratio: Its rate as a share of that of bare Starlette; the median of the rounds.
        spread: Difference of the largest and the smallest of these ratios.
    """

    case: str
    subject: str
    figures: dict[str, float]
    ratio: float
    spread: float

    def describe(self) -> str:
        """Return the row as a line of text."""
        figures = ", ".join(f"{value:,.1f} {name}" for name, value in self.figures.items())
        return f"{self.case}: {self.subject}: {figures}; {self.ratio:.2f} of bare Starlette (spread {self.spread:.2f})"


def write_page(model: str, rows: Sequence[Row], costs: Sequence[Cost]) -> None:
    """Replace the figures on the page and the plot."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    intro = f"Measured on {datetime.now(UTC).date().isoformat()} ({machine}), with the model `{model}`.\n"
    PAGE.write_text(f"{before}{BEGIN}\n\n{intro}\n{table(rows)}\n{cost_table(costs)}\n{END}{after}", encoding="utf-8")
    PLOT.write_text(plot(rows), encoding="utf-8")


def table(rows: Iterable[Row]) -> str:
    """Return the figures of the servers as Markdown tables, one for each load."""
    parts: list[str] = []
    rows = list(rows)
    for case in dict.fromkeys(row.case for row in rows):
        mine = [row for row in rows if row.case == case]
        names = list(mine[0].figures)
        parts += [f"**{case}**", "", "| Server | " + " | ".join(names) + " | of bare Starlette | spread |"]
        parts.append("|---|" + "---:|" * (len(names) + 2))
        parts += [
            f"| {row.subject} | "
            + " | ".join(_number(value) for value in row.figures.values())
            + f" | {row.ratio:.2f} | {row.spread:.2f} |"
            for row in mine
        ]
        parts.append("")
    return "\n".join(parts)


def cost_table(costs: Iterable[Cost]) -> str:
    """Return the other figures as a Markdown table."""
    lines = ["| Cost | Median | Ratio | Compared with | Spread |", "|---|---:|---:|---|---:|"]
    lines += [
        f"| {cost.name} | {_number(cost.value)} {cost.unit} | {cost.ratio:.2f} | {cost.against} | {cost.spread:.2f} |"
        for cost in costs
    ]
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row]) -> str:
    """Return a bar chart of the rates as SVG, which follows the colours of the page."""
    highest = max(row.figures["req/s"] for row in rows)
    parts: list[str] = []
    top = 0
    for case in dict.fromkeys(row.case for row in rows):
        top += 34
        parts.append(f'<text x="0" y="{top - 10}" class="case">{html.escape(case)}, requests per second</text>')
        for row in (row for row in rows if row.case == case):
            rate = row.figures["req/s"]
            length = max(1, round(rate / highest * (_WIDTH - _LABEL - 70)))
            kind = "ours" if row.subject.startswith("Seedbed") else "other"
            middle = top + _BAR - 5
            parts += [
                f'<text x="{_LABEL - 8}" y="{middle}" text-anchor="end">{html.escape(row.subject)}</text>',
                f'<rect x="{_LABEL}" y="{top}" width="{length}" height="{_BAR}" class="{kind}"/>',
                f'<text x="{_LABEL + length + 6}" y="{middle}">{rate:,.0f}</text>',
            ]
            top += _BAR + _GAP
    style = (
        "text{font:13px sans-serif;fill:#333}.case{font-weight:bold}.ours{fill:#2f7d4f}.other{fill:#9aa5ad}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
    )
    view = f'viewBox="0 0 {_WIDTH} {top + 8}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {view} role="img"><style>{style}</style>{"".join(parts)}</svg>\n'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"  # noqa: PLR2004 (three digits are enough to read)
