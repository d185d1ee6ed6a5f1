"""The time line of one run: requests, states, images, callbacks and faults on one axis, as shapes without a drawing.

Positions are thousandths of the width. What a shape shows is its title, so that nothing depends on its colour.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from seedbed_schemas import job_api

from seedbed_mock.observation import CREATE, QUERY, confirmed, queried_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_mock.journal import JournalEntry
    from seedbed_mock.observation import Observation
    from seedbed_mock.tasks import Task


WIDTH: Final = 1000.0
_LEAST_SECONDS: Final = 0.1
_MOST_TICKS: Final = 6
_MOST_TASKS: Final = 30
_STATES: Final = job_api().states
_DONE: Final = "done"


@dataclass(frozen=True, slots=True)
class Mark:
    """Something on the time line.

    Attributes:
        start: Where it begins.
        end: Where it ends; equal to ``start`` for a moment.
        kind: How it is drawn: ``good``, ``bad``, ``fault``, or as a state.
        title: What it is, in one line.
    """

    start: float
    end: float
    kind: str
    title: str


@dataclass(slots=True)
class Lane:
    """A row of the time line.

    Attributes:
        label: What it shows.
        marks: The marks in their order.
    """

    label: str
    marks: list[Mark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The time line of one run.

    Attributes:
        lanes: The rows.
        ticks: Positions on the axis and their labels.
        seconds: Length of the axis in seconds of the program.
        hidden: Number of tasks without a row of their own.
    """

    lanes: tuple[Lane, ...]
    ticks: tuple[tuple[float, str], ...]
    seconds: float
    hidden: int = 0


def timeline_of(seen: Observation) -> Timeline:
    """Return the time line of a run; lanes in which nothing happened are left out."""
    seconds = max(seen.seconds(seen.begun, max([seen.ended, *(each.at for each in seen.entries)])), _LEAST_SECONDS)

    def at(moment: int) -> float:
        return round(min(max(seen.seconds(seen.begun, moment) / seconds, 0), 1) * WIDTH, 1)

    lanes = [Lane("createTask"), Lane("recordInfo"), Lane("other"), Lane("images"), Lane("callbacks")]
    for each in seen.entries:
        is_call = each.kind == "call"
        lane = lanes[4] if each.kind == "callback" else lanes[2]
        if is_call and each.operation in (CREATE, QUERY):
            lane = lanes[0 if each.operation == CREATE else 1]
        lane.marks.append(Mark(at(each.at), at(each.at), _kind(each), _title(seen, each)))
    for fetch in seen.fetches:
        title = f"{seen.seconds(seen.begun, fetch.at):.1f} s: image of {fetch.task_id}"
        lanes[3].marks.append(Mark(at(fetch.at), at(fetch.at), "good", title))
    tasks = list(seen.tasks.values())
    lanes += [Lane(f"task {number}", _states(seen, task, at)) for number, task in enumerate(tasks[:_MOST_TASKS], 1)]
    ticks = tuple((round(second / seconds * WIDTH, 1), f"{second:g} s") for second in _ticks(seconds))
    shown = tuple(lane for lane in lanes if lane.marks)
    return Timeline(shown, ticks, seconds, max(len(tasks) - _MOST_TASKS, 0))


def _kind(entry: JournalEntry) -> str:
    if entry.fault:
        return "fault"
    is_good = confirmed(entry) if entry.kind == "callback" else entry.case == _DONE
    return "good" if is_good else "bad"


def _title(seen: Observation, entry: JournalEntry) -> str:
    if entry.kind == "callback":
        what = f"callback of {entry.task_id}, attempt {entry.attempt}, "
        what += f"HTTP {entry.status}" if entry.status else "no response"
    else:
        task_id = entry.task_id or (queried_id(entry) if entry.operation == QUERY else "")
        what = f"{entry.operation}{f' of {task_id}' if task_id else ''}, code {entry.code}"
    fault = f", fault {entry.fault.partition(' (')[0]}" if entry.fault else ""
    return f"{seen.seconds(seen.begun, entry.at):.1f} s: {what}{fault}"


def _states(seen: Observation, task: Task, at: Callable[[int], float]) -> list[Mark]:
    """Return the states of a task up to the end of the run, each from its beginning to that of the next."""
    moments = [moment for moment in (task.created, *task.timeline) if moment <= seen.ended]
    names = [*_STATES.pending, _STATES.failure if task.failure else _STATES.success]
    ends = [*moments[1:], seen.ended]
    fault = f", fault {task.fault_rule}" if task.fault_rule else ""
    return [
        Mark(at(start), at(end), name, f"{task.task_id}: {name} from {_since(seen, start)} s{fault}")
        for start, end, name in zip(moments, ends, names, strict=False)
        if end > start or name in (_STATES.success, _STATES.failure)
    ]


def _since(seen: Observation, moment: int) -> str:
    return f"{seen.seconds(seen.begun, moment):.1f}"


def _ticks(seconds: float) -> list[float]:
    """Return round numbers of seconds from 0 to the end."""
    power = 10 ** math.floor(math.log10(seconds / _MOST_TICKS))
    steps = [power * factor for factor in (1, 2, 5, 10)]
    step = steps[bisect_left(steps, seconds / _MOST_TICKS)]
    return [round(number * step, 6) for number in range(math.floor(seconds / step) + 1)]
