"""The parts of the benchmark that decide: its history, its page and its usage errors. The figures are not tested."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
with pytest.MonkeyPatch.context() as patch:  # the benchmarks are scripts, not a package
    patch.syspath_prepend(BENCHMARKS)
    from history import append_run, compared
    from report import Curve, Row, growth_plot, growth_table, plot, table


def row(ratio: float, *, subject: str = "Seedbed", spread: float = 0.0) -> Row:
    return Row("createTask", subject, {"req/s": 1000 * ratio, "p99 ms": 2.5}, ratio, spread)


@pytest.mark.parametrize(
    ("before", "now", "is_worse"),
    [
        (row(0.8), row(0.79), False),
        (row(0.8), row(0.9), False),
        (row(0.8), row(0.6), True),
        (row(0.8), row(0.6, spread=0.4), False),
        (row(0.8), row(0.6, subject="another server"), False),
    ],
)
def test_a_ratio_that_is_worse_by_more_than_its_spread_is_named(
    tmp_path: Path, before: Row, now: Row, *, is_worse: bool
) -> None:
    history = tmp_path / "history.json"
    assert compared([now], [], history) == []
    append_run([row(0.1)], [], history)
    append_run([before], [], history)
    lines = compared([now], [], history)
    assert bool(lines) is is_worse
    assert all("createTask: Seedbed" in line and "0.60" in line and "0.80" in line for line in lines)


def elements_of(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter())  # noqa: S314 (our own file)


def test_the_table_and_the_plot_show_every_server() -> None:
    rows = [row(1, subject="bare <Starlette>"), row(0.5)]
    assert "| Seedbed | 500 | 2.5 | 0.50 | 0.00 |" in table(rows)
    texts = [element.text for element in elements_of(plot(rows)) if element.tag.endswith("text")]
    assert {"bare <Starlette>", "Seedbed", "1,000", "500"} <= set(texts)


def test_the_table_and_the_plot_of_growth_show_every_store_and_number_of_tasks() -> None:
    curves = [
        Curve("memory", [(10_000, 20.04), (100_000, 20.5), (1_000_000, 21)], 3.21),
        Curve("<Redis>", [(10_000, 40), (100_000, 40), (1_000_000, 84)], 5),
    ]
    assert growth_table(curves).splitlines()[2:] == [
        "| 10,000 | 20.0 | 40.0 |",
        "| 100,000 | 20.5 | 40.0 |",
        "| 1,000,000 | 21.0 | 84.0 |",
        "| longest stall, ms | 3.2 | 5.0 |",
    ]
    elements = elements_of(growth_plot(curves))
    texts = [element.text for element in elements if element.tag.endswith("text")]
    assert {"memory", "<Redis>", "10,000", "100,000", "1,000,000"} <= set(texts)
    lines = [element.get("d", "") for element in elements if element.get("class") == "line"]
    heights = [[float(place.split()[1]) for place in line[1:].split("L")] for line in lines]
    # The lower a cost, the lower its place: y grows downwards.
    assert heights[1][2] < heights[1][1] == heights[1][0] < heights[0][2] <= heights[0][0]


@pytest.mark.parametrize(
    ("flags", "environment", "sentence"),
    [
        (["--quick", "--write"], {}, "a quick run is too noisy to be kept"),
        ([], {"PATH": ""}, "install wrk and taskset first"),
    ],
)
def test_a_run_that_cannot_work_ends_with_one_sentence(
    flags: list[str], environment: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, str(BENCHMARKS / "run.py"), *flags]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert sentence in result.stderr
