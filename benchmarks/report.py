"""Write the figures of a run to the page ``docs/performance.md``, as a table and a plot."""

from __future__ import annotations

import html
import math
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

GROWTH_PLOT: Final = DOCS / "images" / "growth.svg"
GROWTH_BEGIN, GROWTH_END = "<!-- growth: written by benchmarks/growth.py -->", "<!-- end of growth -->"

_BAR, _GAP, _LABEL, _WIDTH = 18, 6, 190, 720
_COLOURS = ("#2f7d4f", "#b5651d", "#7a4fa3")


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


@dataclass(frozen=True)
class Curve:
    """What a request costs with more and more tasks in one store.

    Attributes:
        store: Name of the store.
        points: Numbers of tasks and microseconds of processor time.
        stall: Longest time in which the event loop did nothing else, in milliseconds.
    """

    store: str
    points: list[tuple[int, float]]
    stall: float


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


def write_growth(curves: Sequence[Curve]) -> None:
    """Replace the figures of growth on the page, and their plot."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(GROWTH_BEGIN)
    _, _, after = rest.partition(GROWTH_END)
    PAGE.write_text(f"{before}{GROWTH_BEGIN}\n\n{growth_table(curves)}\n{GROWTH_END}{after}", encoding="utf-8")
    GROWTH_PLOT.write_text(growth_plot(curves), encoding="utf-8")


def growth_table(curves: Sequence[Curve]) -> str:
    """Return what a request costs at each number of tasks as a Markdown table, a column for each store."""
    lines = ["| Tasks | " + " | ".join(f"{each.store}, µs" for each in curves) + " |", "|---:|" + "---:|" * len(curves)]
    for place, (tasks, _) in enumerate(curves[0].points):
        lines.append(f"| {tasks:,} | " + " | ".join(f"{each.points[place][1]:.1f}" for each in curves) + " |")
    lines.append("| longest stall, ms | " + " | ".join(f"{each.stall:.1f}" for each in curves) + " |")
    return "\n".join(lines) + "\n"


def growth_plot(curves: Sequence[Curve]) -> str:
    """Return the costs of a request as SVG: a line for each store, over the number of tasks in powers of ten."""
    left, top, width, height = 60, 30, _WIDTH - 160, 240
    first, last = (math.log10(curves[0].points[place][0]) for place in (0, -1))
    highest = max(cost for each in curves for _, cost in each.points) * 1.1
    parts = ['<text x="0" y="16" class="case">Processor time of createTask in microseconds, by number of tasks</text>']
    for tasks, _ in curves[0].points:
        if math.log10(tasks).is_integer():
            x = left + width * (math.log10(tasks) - first) / max(last - first, 1)
            parts.append(f'<text x="{x:.0f}" y="{top + height + 18}" text-anchor="middle">{tasks:,}</text>')
    for share in (0, 0.5, 1):
        y = top + height * (1 - share)
        parts.append(f'<path d="M{left} {y:.0f}h{width}" class="grid"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.0f}" text-anchor="end">{highest * share:.0f}</text>')
    for number, curve in enumerate(curves):
        places = [
            (left + width * (math.log10(tasks) - first) / max(last - first, 1), top + height * (1 - cost / highest))
            for tasks, cost in curve.points
        ]
        line = "L".join(f"{x:.0f} {y:.0f}" for x, y in places)
        parts.append(f'<path d="M{line}" class="line" stroke="{_COLOURS[number % len(_COLOURS)]}"/>')
        parts.append(f'<text x="{places[-1][0] + 8:.0f}" y="{places[-1][1] + 4:.0f}">{html.escape(curve.store)}</text>')
    style = (
        "text{font:13px sans-serif;fill:#333}.case{font-weight:bold}.grid{stroke:#9aa5ad;stroke-width:.5}"
        ".line{fill:none;stroke-width:2}@media(prefers-color-scheme:dark){text{fill:#ddd}}"
    )
    view = f'viewBox="0 0 {_WIDTH} {top + height + 30}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {view} role="img"><style>{style}</style>{"".join(parts)}</svg>\n'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"  # noqa: PLR2004 (three digits are enough to read)
