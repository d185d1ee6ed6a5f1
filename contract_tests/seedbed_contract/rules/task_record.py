"""A task with its records, and the rules for them: one record alone, and the changes from one poll to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import job_api
from seedbed_schemas.validation import for_display

from seedbed_contract.http import NOT_JSON, parse_json
from seedbed_contract.rules.envelope import Defect, shape_defects
from seedbed_contract.rules.practices import ONE_DIALECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_contract.http import Exchange, RequestBuilder
    from seedbed_contract.target import Expectations

Record = Mapping[str, Any]
STATES: Final = job_api().states
ENDED: Final = frozenset({STATES.success, STATES.failure})
APPEARS_WITHIN: Final = 10.0
"""Seconds for which a new task may be unknown. The real service has a short delay; its page gives no limit."""

_ORDER: Final = {state: place for place, state in enumerate(STATES.pending)}
_EMPTY: Final = (None, "")
_TIMES: Final = ("createTime", "updateTime", "completeTime")
_FINAL_FIELDS: Final = ("model", "param", "failCode", "failMsg", *_TIMES[1:], "costTime", "creditsConsumed")
_FIRST_MILLISECOND, _LAST_MILLISECOND = 10**12, 10**13
"""Range of times in Unix milliseconds (2001 to 2286); a time in seconds or microseconds is outside of it."""
_SECOND: Final = 1000
_HALF_A_SECOND: Final = 500
_QUARTER_HOUR, _DAY, _TOLERANCE = 900, 86_400, 5


@dataclass(eq=False)
class TrackedTask:
    """A task of a run.

    Attributes:
        name: Name of the case that created it.
        request: Body of the request that created it.
        exchange: Exchange that created it.
        builder: Builds requests with the key that created it.
        task_id: ID of the task.
        callback_path: Path that its callback is expected at; empty if none was requested.
        is_followed: Whether it is polled until it ends.
        is_meant_to_fail: Whether its prompt makes it fail.
        is_odd: Whether its request can be read in several ways, so that no record of it can be wrong.
        polls: Fetched records, each with its exchange, in order.
        polled_at: Time of the last poll, by the monotonic clock.
        ended_at: Time when it was first seen to have ended, in Unix seconds; 0 before.
    """

    name: str
    request: Record
    exchange: Exchange
    builder: RequestBuilder
    task_id: str
    callback_path: str = ""
    is_followed: bool = True
    is_meant_to_fail: bool = False
    is_odd: bool = False
    polls: list[tuple[Record, Exchange]] = field(default_factory=list)
    polled_at: float = 0.0
    ended_at: float = 0.0

    @property
    def record(self) -> Record:
        """The last record; empty before the first poll."""
        return self.polls[-1][0] if self.polls else {}

    @property
    def state(self) -> str:
        """The state in the last record; empty before the first poll."""
        return str(self.record.get("state", ""))

    @property
    def has_ended(self) -> bool:
        """Whether the last record is that of a task that has ended."""
        return self.state in ENDED


def record_defects(data: Any, task_id: str, request: Record, expected: Expectations) -> Iterator[Defect]:
    """Yield the defects of a record alone.

    Args:
        data: The data of the response.
        task_id: ID of the task that was requested.
        request: Request that created the task.
        expected: Expectations on the responses of the target.
    """
    yield from _shape_defects(data)
    if not isinstance(data, dict):
        return
    if isinstance(data.get("taskId"), str) and data["taskId"] != task_id:
        yield Defect("record/taskId/same", "the taskId of a record is not the requested one")
    if isinstance(data.get("model"), str) and data["model"] != request.get(job_api().fields.model):
        yield Defect("record/model/same", "the model of a record is not that of the request")
    if isinstance(data.get("param"), str):
        yield from _param_defects(data["param"], request, expected)
    yield from _outcome_defects(data)
    yield from _time_defects(data)
    yield from _cost_time_defects(data, expected)


def dialect_defects(record: Record, expected: Expectations) -> Iterator[Defect]:
    """Yield a costTime in the unit of another dialect than the detected one, for a task that took long enough."""
    times = [record.get(name) for name in ("costTime", "createTime", "completeTime")]
    if expected.is_dialect_given or not all(map(_is_integer, times)):
        return
    cost, lifetime = record["costTime"], record["completeTime"] - record["createTime"]
    in_seconds, in_milliseconds = (abs(cost * unit - lifetime) <= _SECOND for unit in (_SECOND, 1))
    if lifetime >= 2 * _SECOND and in_seconds != in_milliseconds and in_seconds != (_cost_unit(expected) == _SECOND):
        name = "seconds" if in_seconds else "milliseconds"
        title = f"costTime is in {name}, unlike in the detected dialect"
        yield Defect(ONE_DIALECT, title)


def change_defects(before: Record, after: Record) -> Iterator[Defect]:
    """Yield the changes between two records of a task that must not happen."""
    was, now = before.get("state"), after.get("state")
    if was in ENDED and now != was:
        yield Defect("life/final", f"a task that ended as {for_display(was)} is {for_display(now)} later")
        return
    if was in _ORDER and now in _ORDER and _ORDER[now] < _ORDER[was]:
        yield Defect("life/forward", f"a task goes back from {was} to {now}")
    if before.get("createTime") != after.get("createTime"):
        yield Defect("record/times/order", "createTime changes between two polls")
    if _is_earlier(after.get("updateTime"), before.get("updateTime")):
        yield Defect("record/times/order", "updateTime goes back between two polls")
    if was in ENDED:
        changed = [name for name in _FINAL_FIELDS if before.get(name) != after.get(name)]
        yield from (Defect("recordInfo/same", f"{name} changes after the task has ended") for name in changed)
        if result_paths(before) != result_paths(after):
            yield Defect("recordInfo/same", "the results change after the task has ended")
    elif before.get("param") != after.get("param") or before.get("model") != after.get("model"):
        yield Defect("recordInfo/same", "param or model changes between two polls")


def time_zone_defects(record: Record, sent: float) -> Iterator[Defect]:
    """Yield a createTime that is off by a time zone; Unix time has none.

    Args:
        record: The record.
        sent: Time when the task was requested, in Unix seconds.
    """
    created = record.get("createTime")
    if not isinstance(created, int) or isinstance(created, bool):
        return
    offset = abs(created / _SECOND - sent)
    # All time zones differ from UTC by a multiple of a quarter of an hour.
    remainder = offset % _QUARTER_HOUR
    if _QUARTER_HOUR <= offset <= _DAY and min(remainder, _QUARTER_HOUR - remainder) < _TOLERANCE:
        yield Defect("record/times/unit", "createTime is off by a time zone, so it is not in Unix milliseconds")


def exercised_clauses(record: Record) -> Iterator[str]:
    """Yield the behaviour clauses that a record exercises."""
    yield from ("record/taskId/same", "record/model/same", "record/param/same", "record/times/unit")
    yield from ("record/resultJson/only-success", "record/failure/only-fail", "record/times/only-ended")
    if {"updateTime", "completeTime"} & record.keys():
        yield "record/times/order"
    if record.get("state") == STATES.success:
        yield "record/costTime/unit"


def result_urls(record: Record) -> list[str]:
    """Return the result URLs of a record; empty if there are none, or if they cannot be read."""
    text = record.get("resultJson")
    results = parse_json(text) if isinstance(text, str) and text else None
    urls = results.get("resultUrls") if isinstance(results, dict) else None
    return [url for url in urls if isinstance(url, str)] if isinstance(urls, list) else []


def result_paths(record: Record) -> list[str]:
    """Return the result URLs without their queries, which may hold a signature that is new in each response."""
    return [url.partition("?")[0] for url in result_urls(record)]


def _shape_defects(data: Any) -> Iterator[Defect]:
    """Yield the defects of the shape, some of them under the clause on behaviour that explains them better."""
    for defect in shape_defects("record", data):
        name = defect.clause.split("/")[-1]
        if defect.clause == "record/resultJson/type" and data["resultJson"] is None and data.get("state") not in ENDED:
            continue  # before the end, null means the same as the documented empty text
        if defect.clause == "record/required/resultJson":
            yield defect._replace(clause="record/resultJson/only-success")
        elif defect.clause.startswith("record/required/") and name in {"costTime", "completeTime"}:
            yield defect._replace(clause="record/times/only-ended")
        else:
            yield defect


def _param_defects(text: str, request: Record, expected: Expectations) -> Iterator[Defect]:
    fields, clause = job_api().fields, "record/param/same"
    # The observed service stores the whole request as a JSON string, and the input in it as another one.
    param = parse_json(text)
    if not isinstance(param, dict):
        yield Defect(clause, "param is not a JSON object")
        return
    stored = param.get(fields.input)
    if expected.is_dialect_given and isinstance(stored, str) != expected.dialect.input_is_text:
        form = "a JSON string" if expected.dialect.input_is_text else "an object"
        yield Defect(clause, f"the input in param is not {form}")
    is_sent = fields.input in request
    if is_sent and not _contains(parse_json(stored) if isinstance(stored, str) else stored, request[fields.input]):
        yield Defect(clause, "the input in param is not that of the request")
    for name in (fields.model, fields.callback):
        # Clients send an empty callback URL for none.
        if request.get(name) and param.get(name, NOT_JSON) != request[name]:
            yield Defect(clause, f"{name} in param is not that of the request")


def _contains(stored: Any, sent: Any) -> bool:
    """Return whether a stored value contains what was sent.

    A server may add fields, and may store a number or a boolean that was sent as a text as its value.
    """
    if isinstance(sent, dict):
        return isinstance(stored, dict) and all(name in stored and _contains(stored[name], sent[name]) for name in sent)
    if isinstance(sent, list):
        return isinstance(stored, list) and len(stored) == len(sent) and all(map(_contains, stored, sent))
    if isinstance(sent, str) and isinstance(stored, bool | int | float):
        meant = parse_json(sent)
        return isinstance(meant, bool | int | float) and _contains(stored, meant)
    if isinstance(sent, bool) or isinstance(stored, bool):
        return sent is stored
    # 1 and 1.0 are the same number in JSON.
    is_number = isinstance(sent, int | float) and isinstance(stored, int | float)
    return (is_number or type(stored) is type(sent)) and bool(stored == sent)


def _outcome_defects(data: Record) -> Iterator[Defect]:
    """Yield the defects of the results and of the failure: each belongs to one state only."""
    text, state = data.get("resultJson"), data.get("state")
    if state != STATES.success and text not in _EMPTY:
        yield Defect("record/resultJson/only-success", f"a task in state {for_display(state)} has results")
    elif state == STATES.success and isinstance(text, str):  # another type is a defect of the shape
        results = parse_json(text)
        if results is NOT_JSON:
            yield Defect("record/resultJson/only-success", "the resultJson of a successful task is not valid JSON")
        else:
            yield from shape_defects("results", results)
    for name in ("failCode", "failMsg"):
        is_empty = data.get(name) in _EMPTY
        if state == STATES.failure and is_empty:
            yield Defect("record/failure/only-fail", f"a failed task has no {name}")
        elif state != STATES.failure and not is_empty:
            yield Defect("record/failure/only-fail", f"a task that has not failed has a {name}")


def _time_defects(data: Record) -> Iterator[Defect]:
    """Yield the defects of the times: their unit, their order, and their presence before and after the end."""
    times = {name: data[name] for name in _TIMES if _is_integer(data.get(name))}
    for name, time in times.items():
        if (time or name == "createTime") and not _FIRST_MILLISECOND <= time < _LAST_MILLISECOND:
            yield Defect("record/times/unit", f"{name} is not in Unix milliseconds")
        if _is_earlier(time, times.get("createTime")):
            yield Defect("record/times/order", f"{name} is before createTime")
    # A server may cut one of the times to whole seconds.
    slack = _HALF_A_SECOND if times.get("completeTime", 0) % _SECOND else _SECOND
    if "completeTime" in times and _is_earlier(times["completeTime"] + slack, times.get("updateTime")):
        yield Defect("record/times/order", "updateTime is after completeTime, although the state no longer changes")
    for name, empty in (("completeTime", (None, "")), ("costTime", (None, 0, ""))):
        if data.get("state") in STATES.pending and data.get(name) not in empty:
            yield Defect("record/times/only-ended", f"a task that has not ended has a {name}")
    if data.get("state") == STATES.success and not data.get("completeTime"):
        yield Defect("record/times/only-ended", "a successful task has no completeTime")


def _cost_time_defects(data: Record, expected: Expectations) -> Iterator[Defect]:
    is_complete = all(_is_integer(data.get(name)) for name in ("costTime", "createTime", "completeTime"))
    if data.get("state") != STATES.success or not is_complete:
        return
    cost: int = data["costTime"]
    lifetime: int = data["completeTime"] - data["createTime"]
    looks_like_seconds = lifetime >= _SECOND and abs(cost * _SECOND - lifetime) <= _SECOND
    unit = _SECOND if looks_like_seconds else 1
    if expected.is_dialect_given:
        unit = _cost_unit(expected)
    if cost * unit > lifetime + 2 * _SECOND:
        name = "seconds" if unit == _SECOND else "milliseconds"
        yield Defect("record/costTime/unit", f"costTime in {name} is longer than the lifetime of the task")
    elif cost == 0 and lifetime >= 2 * _SECOND:
        title = f"costTime is 0 for a task that took {lifetime} milliseconds"
        yield Defect("record/costTime/unit", title, kind="zero")
    elif unit == 1 and looks_like_seconds:
        yield Defect("record/costTime/unit", "costTime is in seconds, not in milliseconds")


def _cost_unit(expected: Expectations) -> int:
    """Return the unit of costTime in milliseconds."""
    # A dialect only converts milliseconds to its own unit, so a round number shows the factor.
    probe = 10**6
    written = expected.dialect.record_field("costTime", probe, STATES.success)
    return probe // written if isinstance(written, int) and written else 1


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_earlier(one: Any, other: Any) -> bool:
    """Return whether a time is before another; a time of 0 means that it is not set."""
    return _is_integer(one) and _is_integer(other) and 0 < one < other
