"""Seeded defects in task records: wrong values, wrong times, and wrong forms."""

import html
import json
import time
import unicodedata
from collections.abc import Callable
from typing import Any, Final

from tests.minimal_service import Service
from tests.minimal_tasks import Task
from tests.minimal_variants import ENDS, Variant
from tests.seeded_defect import OBSERVED, SeededDefect, seeded

_PARAM, _SAME = "record/param/same", "recordInfo/same"
_UNIT, _ORDER, _ENDED = "record/times/unit", "record/times/order", "record/times/only-ended"
_COST = "record/costTime/unit"
_RESULTS = "record/resultJson/only-success"
_FAILURE = "record/failure/only-fail"
_LONG: Final = Variant(name="long", seconds=2)
Record = dict[str, Any]


def _record(change: Callable[[Record, Task], Record], *states: str) -> Callable[..., Record]:
    """Change the record in some states, by default in all."""

    def record(self: Service, task: Task) -> Record:
        shown = Service.record(self, task)
        return shown | change(shown, task) if not states or shown["state"] in states else shown

    return record


def _without(name: str, *states: str) -> Callable[..., Record]:
    def record(self: Service, task: Task) -> Record:
        shown = Service.record(self, task)
        dropped = not states or shown["state"] in states
        return {field: value for field, value in shown.items() if field != name or not dropped}

    return record


def _each(names: tuple[str, ...], change: Callable[[int], Any]) -> Callable[..., Record]:
    return _record(lambda shown, _: {name: change(shown[name]) for name in names if shown.get(name) is not None})


def _set(name: str, value: Any, *states: str) -> Callable[..., Record]:
    return _record(lambda *_: {name: value}, *states)


def _prompt(change: Callable[[str], str]) -> Callable[..., str]:
    def param(self: Service, task: Task) -> str:
        given = task.request["input"]
        changed = {**given, "prompt": change(given["prompt"])}
        return Service.param(self, Task(task.id, 0, {**task.request, "input": changed}, 0, 0))

    return param


def _param_without(*path: str) -> Callable[..., str]:
    def param(self: Service, task: Task) -> str:
        request = json.loads(json.dumps(task.request))
        holder = request["input"] if path[0] == "input" else request
        holder.pop(path[-1], None)
        return Service.param(self, Task(task.id, 0, request, 0, 0)) if "input" in request else json.dumps(request)

    return param


def _param_of_a_neighbour(self: Service, task: Task) -> str:
    tasks = [other for account in self.accounts for other in account.tasks]
    near = (other for other in tasks if other is not task and abs(other.started - task.started) < 0.1)
    return Service.param(self, next(near, task))


def _results(change: Callable[[Service, Task], Any]) -> Callable[..., Record]:
    def record(self: Service, task: Task) -> Record:
        shown = Service.record(self, task)
        return shown | {"resultJson": change(self, task)} if shown["state"] == "success" else shown

    return record


def _urls(change: Callable[[str], Any]) -> Callable[..., Record]:
    return _results(lambda self, task: json.dumps({"resultUrls": change(self.result_url(task))}))


def _now() -> int:
    return int(time.time() * 1000)


_FIELDS: Final = (
    *(
        seeded(f"a record without {name}", f"record/required/{name}", *more, record=_without(name))
        for name, *more in (
            *(("taskId", "record/taskId/same"), ("model", "record/model/same"), ("state", "record/state/enum")),
            *(("param", _PARAM), ("createTime",)),
        )
    ),
    *(
        seeded(f"{name} in records: {value!r}", f"record/{name}/type", *more, record=_set(name, value, *states))
        for name, value, states, *more in (
            ("taskId", 7, (), "record/taskId/same"),
            ("model", None, (), "record/model/same"),
            ("param", {"model": "x"}, (), _PARAM),
            ("createTime", "2026-11-22T20:00:00Z", (), _UNIT),
            ("createTime", None, (), _UNIT),
            ("updateTime", "just now", (), _UNIT),
            ("completeTime", "1765166238716", ("success",), _UNIT),
            ("costTime", "300", ENDS, _COST),
            ("costTime", 0.3, ENDS, _COST),
            ("failCode", 422, ("fail",), _FAILURE),
            ("failMsg", {"text": "blocked"}, ("fail",), _FAILURE),
            ("creditsConsumed", "6.5", ENDS),
        )
    ),
    seeded("costTime below zero", "record/costTime/minimum", _COST, record=_set("costTime", -1, *ENDS)),
    seeded("creditsConsumed below zero", "record/creditsConsumed/minimum", record=_set("creditsConsumed", -6.5, *ENDS)),
    seeded("another taskId", "record/taskId/same", record=_record(lambda shown, _: {"taskId": shown["taskId"] + "0"})),
    seeded("another model", "record/model/same", record=_set("model", "bytedance/seedream-v4")),
    seeded("a shortened model", "record/model/same", record=_set("model", "4.5-text-to-image")),
)

_PARAMS: Final = (
    *(
        seeded(name, _PARAM, param=_prompt(change))
        for name, change in (
            ("a prompt without white space at its ends", str.strip),
            ("a prompt in lower case", str.lower),
            ("another prompt", lambda _: "a cat"),
            ("the first 1000 characters of a prompt", lambda prompt: prompt[:1000]),
            ("question marks for letters beyond ASCII", lambda prompt: prompt.encode("ascii", "replace").decode()),
            ("letters beyond the BMP left out", lambda prompt: "".join(c for c in prompt if c <= "\uffff")),
            ("a prompt as HTML has it", html.escape),
            ("a prompt in one line", lambda prompt: " ".join(prompt.split(" ")).replace("\n", " ")),
            ("a prompt in compatible letters", lambda prompt: unicodedata.normalize("NFKC", prompt)),
        )
    ),
    seeded("a param without callBackUrl", _PARAM, param=_param_without("callBackUrl")),
    seeded("a param without model", _PARAM, param=_param_without("model")),
    seeded("a param without quality", _PARAM, param=_param_without("input", "quality")),
    seeded("a param with only the input", _PARAM, param=lambda _, task: json.dumps(task.request["input"])),
    seeded("a param as Python writes it", _PARAM, param=lambda _, task: repr(task.request)),
    seeded("an empty param", _PARAM, param=lambda *_: ""),
    seeded("a param of another concurrent task", _PARAM, param=_param_of_a_neighbour),
)

_RESULT_JSON: Final = (
    seeded(
        "results before the end",
        _RESULTS,
        record=_set("resultJson", '{"resultUrls": ["http://127.0.0.1/a"]}', "waiting", "generating"),
    ),
    seeded(
        "results of a failure", _RESULTS, record=_set("resultJson", '{"resultUrls": ["http://127.0.0.1/a"]}', "fail")
    ),
    seeded(
        "no resultJson",
        _RESULTS,
        "results/required/resultUrls",
        record=_without("resultJson", "success"),
    ),
    seeded("an empty resultJson", _RESULTS, "results/type", "record/resultJson/type", record=_results(lambda *_: "")),
    seeded(
        "an invalid resultJson",
        _RESULTS,
        "results/type",
        "record/resultJson/type",
        record=_results(lambda self, task: self.result_url(task)),
    ),
    seeded(
        "an object for resultJson",
        "record/resultJson/type",
        record=_results(lambda self, task: {"resultUrls": [self.result_url(task)]}),
    ),
    seeded(
        "a list in resultJson", "results/type", record=_results(lambda self, task: json.dumps([self.result_url(task)]))
    ),
    seeded("no resultUrls", "results/required/resultUrls", record=_results(lambda *_: "{}")),
    seeded(
        "resultUrl",
        "results/required/resultUrls",
        record=_results(lambda self, task: json.dumps({"resultUrl": self.result_url(task)})),
    ),
    seeded("an empty list of resultUrls", "results/resultUrls/minItems", record=_urls(lambda _: [])),
    seeded("one text for resultUrls", "results/resultUrls/type", record=_urls(lambda url: url)),
    seeded("objects for resultUrls", "results/resultUrls[]/type", record=_urls(lambda url: [{"url": url}])),
    seeded(
        "relative resultUrls",
        "results/resultUrls[]/format",
        "results/given",
        record=_urls(lambda url: ["/files/" + url.rpartition("/")[2]]),
    ),
    seeded("resultUrls with a space", "results/resultUrls[]/format", record=_urls(lambda url: [url + "?name=a b"])),
    seeded(
        "another result at every poll", _SAME, "life/final", record=_urls(lambda url: [f"{url}-{time.monotonic_ns()}"])
    ),
)

_FAILURES: Final = (
    seeded("no failCode", _FAILURE, record=_without("failCode", "fail")),
    seeded("no failMsg", _FAILURE, record=_without("failMsg", "fail")),
    seeded("an empty failCode", _FAILURE, record=_set("failCode", "", "fail")),
    seeded("null for failCode and failMsg", _FAILURE, variant=OBSERVED, failure=lambda *_: (None, None)),
    seeded("a failCode of success", _FAILURE, record=_set("failCode", "0", "success")),
    seeded("a failMsg of success", _FAILURE, record=_set("failMsg", "success", "success")),
    seeded("a failCode before the end", _FAILURE, record=_set("failCode", "500", "waiting", "generating")),
)

_TIMES: Final = (
    seeded(
        "times in seconds", _UNIT, record=_each(("createTime", "updateTime", "completeTime"), lambda ms: ms // 1000)
    ),
    seeded(
        "times in microseconds", _UNIT, record=_each(("createTime", "updateTime", "completeTime"), lambda ms: ms * 1000)
    ),
    seeded("completeTime in seconds", _UNIT, _ORDER, record=_each(("completeTime",), lambda ms: ms // 1000)),
    seeded("createTime in seconds", _UNIT, record=_each(("createTime",), lambda ms: ms // 1000)),
    seeded("updateTime in seconds", _UNIT, _ORDER, record=_each(("updateTime",), lambda ms: ms // 1000)),
    seeded(
        "times of another time zone",
        _UNIT,
        _ORDER,
        record=_each(("createTime", "updateTime", "completeTime"), lambda ms: ms + 8 * 3_600_000),
    ),
    seeded(
        "completeTime before createTime",
        _ORDER,
        record=_record(lambda shown, _: {"completeTime": shown["createTime"] - 1000}, *ENDS),
    ),
    seeded(
        "updateTime before createTime",
        _ORDER,
        record=_record(lambda shown, _: {"updateTime": shown["createTime"] - 1000}),
    ),
    seeded(
        "updateTime after completeTime",
        _ORDER,
        record=_record(lambda shown, _: {"updateTime": shown["completeTime"] + 1000}, *ENDS),
    ),
    seeded("a createTime that changes", _ORDER, _SAME, "life/final", record=_record(lambda *_: {"createTime": _now()})),
    seeded(
        "a completeTime that changes",
        _SAME,
        "life/final",
        _COST,
        record=_record(lambda *_: {"completeTime": _now()}, *ENDS),
    ),
    seeded(
        "an updateTime that changes",
        _SAME,
        "life/final",
        _ORDER,
        record=_record(lambda *_: {"updateTime": _now()}, *ENDS),
    ),
    seeded(
        "a costTime that changes",
        _SAME,
        "life/final",
        _COST,
        record=_record(lambda shown, _: {"costTime": _now() - shown["createTime"]}, *ENDS),
    ),
    seeded(
        "a completeTime before the end",
        _ENDED,
        record=_record(lambda shown, _: {"completeTime": shown["createTime"] + 1}, "waiting", "generating"),
    ),
    seeded("completeTime 0 before the end", _ENDED, record=_set("completeTime", 0, "waiting", "generating")),
    seeded("a costTime before the end", _ENDED, record=_set("costTime", 5, "generating")),
    seeded(
        "no completeTime",
        _ENDED,
        _ORDER,
        "record/completeTime/type",
        record=_without("completeTime", "success"),
    ),
    seeded(
        "no costTime",
        _COST,
        _ENDED,
        "record/costTime/type",
        record=_without("costTime", "success"),
    ),
    seeded(
        "null for completeTime at the end",
        "record/completeTime/type",
        _ENDED,
        _ORDER,
        variant=OBSERVED,
        record=_set("completeTime", None, *ENDS),
    ),
    seeded("costTime in seconds", _COST, variant=_LONG, record=_each(("costTime",), lambda ms: ms // 1000)),
    seeded("costTime in microseconds", _COST, record=_each(("costTime",), lambda ms: ms * 1000)),
    seeded("costTime in milliseconds, as observed", _COST, variant=OBSERVED, record=_set("costTime", 300, *ENDS)),
    seeded("a costTime longer than the task", _COST, record=_each(("costTime",), lambda ms: ms + 60_000)),
)

RECORDS: Final[tuple[SeededDefect, ...]] = (*_FIELDS, *_PARAMS, *_RESULT_JSON, *_FAILURES, *_TIMES)
