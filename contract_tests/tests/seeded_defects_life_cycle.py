"""Seeded defects in the states of tasks, and in result images."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tests.minimal_requests import RefusalError
from tests.minimal_service import Call, Response, Service, picture
from tests.minimal_tasks import Account, Task
from tests.minimal_variants import ENDS, SIZES
from tests.seeded_defect import PLAIN, SeededDefect, seeded

_FORWARD, _FINAL, _STATE = "life/forward", "life/final", "record/state/enum"
_GIVEN, _IMAGE, _SIZE = "results/given", "results/image", "results/size"
_JPEG: Final = {"Content-Type": "image/jpeg"}


def _called(names: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Give some states another name."""

    def record(self: Service, task: Task) -> dict[str, Any]:
        shown = Service.record(self, task)
        return shown | {"state": names.get(shown["state"], shown["state"])}

    return record


def _by_age(*parts: tuple[float, str]) -> Callable[..., str]:
    """Return the latest state whose time has come, in multiples of the duration of a task."""

    def state(self: Service, task: Task) -> str:
        lives = self.age(task) / self.variant.seconds
        now = [name for begin, name in parts if lives >= begin][-1]
        return Service.state(self, task) if now == "usual" else now

    return state


def _shown_by_age(*parts: tuple[float, str]) -> Callable[..., dict[str, Any]]:
    state = _by_age(*parts)

    def record(self: Service, task: Task) -> dict[str, Any]:
        return Service.record(self, task) | {"state": state(self, task)}

    return record


def _gone_at_the_end(self: Service, account: Account, call: Call) -> Any:
    shown = Service.record_info(self, account, call)
    if shown["state"] in ENDS:
        account.tasks = [task for task in account.tasks if task.id != shown["taskId"]]
    return shown


def _restarted_by_polls(self: Service, account: Account, call: Call) -> Any:
    shown = Service.record_info(self, account, call)
    task = next(task for task in account.tasks if task.id == shown["taskId"])
    if shown["state"] in ENDS:
        object.__setattr__(task, "started", task.started + self.age(task) - self.variant.seconds / 2)
    return shown


def _image(size: Callable[[tuple[int, int]], tuple[int, int]]) -> Callable[..., Response]:
    return lambda _, task: Response(200, picture(size(task.size)), _JPEG)


def _file(status: int, body: bytes, kind: str) -> Callable[..., Response]:
    return lambda *_: Response(status, body, {"Content-Type": kind})


def _other_quality(wanted: str, given: str) -> Callable[..., Response]:
    def image(self: Service, task: Task) -> Response:
        size = SIZES[given, task.input_text("aspect_ratio")] if task.input_text("quality") == wanted else task.size
        return Service.image(self, task) if size == task.size else Response(200, picture(size), _JPEG)

    return image


def _only_with_key(self: Service, call: Call) -> Response:
    try:
        self.authenticate(call)
    except RefusalError:
        return Response(401, b"key, please", {"Content-Type": "text/plain"})
    return Service.file(self, call)


_STATES: Final = (
    *(
        seeded(f"{name} for {state}", _STATE, record=_called({state: name}))
        for state, name in (
            *(("waiting", "pending"), ("generating", "processing"), ("success", "completed")),
            *(("success", "Success"), ("fail", "failed"), ("fail", "error")),
        )
    ),
    seeded(
        "back to waiting",
        _FORWARD,
        variant=replace(PLAIN, seconds=1),
        record=_shown_by_age((0, "generating"), (0.5, "waiting"), (1, "usual")),
    ),
    seeded(
        "a state and back",
        _FORWARD,
        variant=replace(PLAIN, seconds=2),
        record=_shown_by_age(*((n / 10, ("waiting", "generating")[n % 2]) for n in range(10)), (1, "usual")),
    ),
    seeded("generating again after the end", _FINAL, _FORWARD, record=_shown_by_age((0, "usual"), (1.5, "generating"))),
    seeded("waiting again after the end", _FINAL, _FORWARD, state=_by_age((0, "usual"), (1.5, "waiting"))),
    seeded("failure after success", _FINAL, "recordInfo/same", state=_by_age((0, "usual"), (1.5, "fail"))),
    seeded(
        "success after failure",
        _FINAL,
        "recordInfo/same",
        variant=replace(PLAIN, seconds=1),
        state=_by_age((0, "usual"), (1.5, "success")),
    ),
    seeded("a task unknown after its end was polled", "recordInfo/same", _FINAL, record_info=_gone_at_the_end),
    seeded(
        "a task that restarts after its end was polled",
        "recordInfo/same",
        _FINAL,
        _FORWARD,
        record_info=_restarted_by_polls,
    ),
)

_RESULTS: Final = (
    seeded("no such result", _GIVEN, image=_file(404, b"no such file", "text/plain")),
    seeded("500 for a result", _GIVEN, image=_file(500, b"", "text/plain")),
    seeded("a result that needs a key", _GIVEN, file=_only_with_key),
    seeded("an HTML page for a result", _IMAGE, _GIVEN, image=_file(200, b"<html></html>", "text/html")),
    seeded("an HTML page declared as JPEG", _IMAGE, image=_file(200, b"<html></html>", "image/jpeg")),
    seeded("an empty result", _IMAGE, image=_file(200, b"", "image/jpeg")),
    seeded("a result cut short", _IMAGE, image=lambda _, task: Response(200, picture(task.size)[:300], _JPEG)),
    seeded(
        "a JPEG declared as PNG",
        _IMAGE,
        image=lambda _, task: Response(200, picture(task.size), {"Content-Type": "image/png"}),
    ),
    seeded(
        "a JPEG declared as text",
        _IMAGE,
        image=lambda _, task: Response(200, picture(task.size), {"Content-Type": "text/plain"}),
    ),
    seeded("a small result", _SIZE, image=_image(lambda size: (size[0] // 4, size[1] // 4))),
    seeded("a square result always", _SIZE, image=_image(lambda _: (2048, 2048))),
    seeded("a result with width and height swapped", _SIZE, image=_image(lambda size: (size[1], size[0]))),
    seeded("2K for high", _SIZE, image=_other_quality("high", "basic")),
    seeded("4K for basic", _SIZE, image=_other_quality("basic", "high")),
    seeded("16:9 for 21:9", _SIZE, image=_image(lambda size: (2848, 1600) if size == (3136, 1344) else size)),
    seeded(
        "the size of the first task for all",
        _SIZE,
        image=lambda self, _: Response(200, picture(self.accounts[0].tasks[0].size), _JPEG),
    ),
)

LIFE_CYCLE: Final[tuple[SeededDefect, ...]] = (*_STATES, *_RESULTS)
