"""The record of a task: one look at it, and what may change from one look to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import job_api
from seedbed_schemas.validation import for_display

from seedbed_contract.http import NOT_JSON, parse_json
from seedbed_contract.rules.envelope import Defect, shape_defects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from seedbed_contract.target import Expectations

    Record = Mapping[str, Any]

STATES: Final = job_api().states
APPEARS_WITHIN: Final = 10.0
"""Seconds for which a new task may be unknown; it was seen for a moment after its creation, nobody says how long."""
ENDED: Final = frozenset({STATES.success, STATES.failure})
_ORDER: Final = {state: place for place, state in enumerate(STATES.pending)}
_TIMES: Final = ("createTime", "updateTime", "completeTime")
_FIRST_MILLISECOND, _LAST_MILLISECOND = 10**12, 10**13
_STAYS: Final = ("model", "param", "failCode", "failMsg", *_TIMES[1:], "costTime", "creditsConsumed")
_NOTHING: Final = (None, "")
_SECOND: Final = 1000
_HALF_A_SECOND: Final = 500
_QUARTER, _DAY, _NEAR = 900, 86_400, 5


def record_defects(data: Any, task_id: str, request: Record, expected: Expectations) -> Iterator[Defect]:
    """Yield what is wrong with a record by itself.

    Args:
        data: What the answer gave back.
        task_id: The task that was asked for.
        request: The request that made it.
        expected: What the target's answers are held against.
    """
    yield from _form_flaws(data)
    if not isinstance(data, dict):
        return
    yield from _sameness_flaws(data, task_id, request, expected)
    yield from _result_flaws(data)
    yield from _failure_flaws(data)
    yield from _time_flaws(data)
    yield from _end_flaws(data)
    yield from _cost_flaws(data, expected)


def change_defects(before: Record, after: Record) -> Iterator[Defect]:
    """Yield what a task may not do between two looks."""
    was, now = before.get("state"), after.get("state")
    if was in ENDED and now != was:
        yield Defect("life/final", f"a task that had ended as {for_display(was)} is {for_display(now)} later")
        return
    if was in _ORDER and now in _ORDER and _ORDER[now] < _ORDER[was]:
        yield Defect("life/forward", f"a task goes back from {was} to {now}")
    if before.get("createTime") != after.get("createTime"):
        yield Defect("record/times/order", "createTime changes from one look to the next")
    if _less(after.get("updateTime"), before.get("updateTime")):
        yield Defect("record/times/order", "updateTime goes back from one look to the next")
    if was in ENDED:
        yield from _changes_after_the_end(before, after)
    elif before.get("param") != after.get("param") or before.get("model") != after.get("model"):
        yield Defect("recordInfo/same", "param or model changes from one look to the next")


def exercised_clauses(record: Record) -> Iterator[str]:
    """Yield the behaviours that a look at a record puts to the test."""
    yield from ("record/taskId/same", "record/model/same", "record/param/same", "record/times/unit")
    yield from ("record/resultJson/only-success", "record/failure/only-fail", "record/times/only-ended")
    if {"updateTime", "completeTime"} & record.keys():
        yield "record/times/order"
    if record.get("state") == STATES.success:
        yield "record/costTime/unit"


def time_zone_defects(record: Record, sent: float) -> Iterator[Defect]:
    """Yield where a time is off by what looks like a time zone; Unix time has none.

    Args:
        record: The record.
        sent: When the task was asked for, in Unix seconds.
    """
    made = record.get("createTime")
    if not isinstance(made, int) or isinstance(made, bool):
        return
    off = made / _SECOND - sent
    rest = abs(off) % _QUARTER
    if _QUARTER <= abs(off) <= _DAY and min(rest, _QUARTER - rest) < _NEAR:
        yield Defect("record/times/unit", "createTime is off by a time zone, and not in Unix milliseconds")


def result_urls(record: Record) -> list[str]:
    """Return the URLs of the results that a record tells, none where it tells none that can be read."""
    text = record.get("resultJson")
    results = parse_json(text) if isinstance(text, str) and text else None
    urls = results.get("resultUrls") if isinstance(results, dict) else None
    return [url for url in urls if isinstance(url, str)] if isinstance(urls, list) else []


def _form_flaws(data: Any) -> Iterator[Defect]:
    for flaw in shape_defects("record", data):
        name = flaw.clause.split("/")[-1]
        if flaw.clause == "record/resultJson/type" and data["resultJson"] is None and data.get("state") not in ENDED:
            continue  # null says no more than the empty text that is known
        if flaw.clause == "record/required/resultJson":
            yield flaw._replace(clause="record/resultJson/only-success")
        elif flaw.clause.startswith("record/required/") and name in {"costTime", "completeTime"}:
            yield flaw._replace(clause="record/times/only-ended")
        else:
            yield flaw


def _sameness_flaws(data: Record, task_id: str, request: Record, expected: Expectations) -> Iterator[Defect]:
    fields = job_api().fields
    if isinstance(data.get("taskId"), str) and data["taskId"] != task_id:
        yield Defect("record/taskId/same", "the record names another task than was asked for")
    if isinstance(data.get("model"), str) and data["model"] != request.get(fields.model):
        yield Defect("record/model/same", "the record names another model than the request")
    if isinstance(data.get("param"), str):
        yield from _param_flaws(data["param"], request, expected)


def _param_flaws(text: str, request: Record, expected: Expectations) -> Iterator[Defect]:
    fields, clause = job_api().fields, "record/param/same"
    param = parse_json(text)
    if not isinstance(param, dict):
        yield Defect(clause, "param is no JSON object")
        return
    told = param.get(fields.input)
    if expected.is_dialect_given and isinstance(told, str) != expected.dialect.input_is_text:
        form = "a JSON string of its own" if expected.dialect.input_is_text else "an object"
        yield Defect(clause, f"the input in param is not {form}")
    given = parse_json(told) if isinstance(told, str) else told
    sent = request.get(fields.input)
    if not _holds(given, sent):
        yield Defect(clause, "the input in param is not the one that was sent")
    others = (name for name in (fields.model, fields.callback) if name in request)
    for name in (name for name in others if param.get(name, NOT_JSON) != request[name]):
        yield Defect(clause, f"{name} in param is not the one that was sent")


def _holds(given: Any, sent: Any) -> bool:
    """Tell whether what is given back holds what was sent; a server may add to it."""
    if isinstance(sent, dict):
        return isinstance(given, dict) and all(name in given and _holds(given[name], sent[name]) for name in sent)
    return type(given) is type(sent) and bool(given == sent)


def _result_flaws(data: Record) -> Iterator[Defect]:
    text, state = data.get("resultJson"), data.get("state")
    if state != STATES.success:
        if text not in _NOTHING:
            yield Defect("record/resultJson/only-success", f"a task that is {for_display(state)} has results")
        return
    if not isinstance(text, str):
        return
    results = parse_json(text)
    if results is NOT_JSON:
        yield Defect("record/resultJson/only-success", "the resultJson of a task that succeeded is no JSON")
    else:
        yield from shape_defects("results", results)


def _failure_flaws(data: Record) -> Iterator[Defect]:
    for name in ("failCode", "failMsg"):
        value = data.get(name)
        if data.get("state") == STATES.failure and value in _NOTHING:
            yield Defect("record/failure/only-fail", f"a task that failed has no {name}")
        elif data.get("state") != STATES.failure and value not in _NOTHING:
            yield Defect("record/failure/only-fail", f"a task that has not failed has a {name}")


def _time_flaws(data: Record) -> Iterator[Defect]:
    times = {name: data[name] for name in _TIMES if _is_time(data.get(name))}
    for name, time in times.items():
        if (time or name == "createTime") and not _FIRST_MILLISECOND <= time < _LAST_MILLISECOND:
            yield Defect("record/times/unit", f"{name} is not in Unix milliseconds")
    for name in ("updateTime", "completeTime"):
        if _less(times.get(name), times.get("createTime")):
            yield Defect("record/times/order", f"{name} is before createTime")
    if "completeTime" in times and _less(times["completeTime"] + _HALF_A_SECOND, times.get("updateTime")):
        yield Defect("record/times/order", "updateTime, when the state last changed, is after completeTime")


def _end_flaws(data: Record) -> Iterator[Defect]:
    if data.get("state") in STATES.pending:
        for name, nothing in (("completeTime", (None, "")), ("costTime", (None, 0, ""))):
            if data.get(name) not in nothing:
                yield Defect("record/times/only-ended", f"a task that has not ended has a {name}")
    elif data.get("state") == STATES.success and not data.get("completeTime"):
        yield Defect("record/times/only-ended", "a task that succeeded does not tell when it ended")


def _cost_flaws(data: Record, expected: Expectations) -> Iterator[Defect]:
    known = all(_is_time(data.get(name)) for name in ("costTime", "createTime", "completeTime"))
    if data.get("state") != STATES.success or not known:
        return
    cost: int = data["costTime"]
    lived: int = data["completeTime"] - data["createTime"]
    unit = _unit(data, expected, cost, lived)
    if cost * unit > lived + 2 * _SECOND:
        yield Defect("record/costTime/unit", f"a task took longer than it lived, if costTime is in {_UNITS[unit]}")
    elif cost == 0 and lived >= 2 * _SECOND:
        yield Defect(
            "record/costTime/unit", f"costTime is 0 for a task that lived for {lived} milliseconds", kind="zero"
        )
    elif unit == 1 and _looks_like_seconds(cost, lived):
        yield Defect("record/costTime/unit", "costTime is in seconds and not in milliseconds")


_UNITS: Final = {1: "milliseconds", _SECOND: "seconds"}


def _unit(data: Record, expected: Expectations, cost: int, lived: int) -> int:
    """Return how many milliseconds the unit of the cost has; where no dialect was named, that which fits."""
    probe = 10**6
    written = expected.dialect.record_field("costTime", probe, str(data["state"]))
    unit = probe // written if isinstance(written, int) and written else 1
    if expected.is_dialect_given:
        return unit
    return _SECOND if _looks_like_seconds(cost, lived) else 1


def _looks_like_seconds(cost: int, lived: int) -> bool:
    return lived >= _SECOND and abs(cost * _SECOND - lived) <= _SECOND


def _changes_after_the_end(before: Record, after: Record) -> Iterator[Defect]:
    for name in _STAYS:
        if before.get(name) != after.get(name):
            yield Defect("recordInfo/same", f"{name} of a task that had ended changes from one look to the next")
    if [url.partition("?")[0] for url in result_urls(before)] != [url.partition("?")[0] for url in result_urls(after)]:
        yield Defect("recordInfo/same", "the results of a task that had ended change from one look to the next")


def _is_time(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _less(one: Any, other: Any) -> bool:
    return _is_time(one) and _is_time(other) and 0 < one < other
