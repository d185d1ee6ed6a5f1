"""Seeded defects that send wrong callbacks, or none."""

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from tests.minimal_service import Service
from tests.minimal_tasks import Task
from tests.minimal_variants import ENDS
from tests.seeded_defect import SeededDefect, seeded

_SENT, _FORM, _CODE, _ONCE = "callback/sent", "callback/form", "callback/code", "callback/once"
_FINAL, _SAME, _RETRIED, _ASKED = "callback/final", "callback/same", "callback/retried", "callback/asked"


def _only_if(is_sent: Callable[[str], bool]) -> Callable[..., None]:
    def send_until_accepted(self: Service, task: Task) -> None:
        if is_sent(self.state(task)):
            Service.send_until_accepted(self, task)

    return send_until_accepted


def _twice(self: Service, task: Task) -> None:
    Service.send_until_accepted(self, task)
    Service.send_until_accepted(self, task)


def _every_state(self: Service, task: Task) -> None:
    for part in (0, 0.6):
        if not self.stopping.wait(part * self.variant.seconds):
            self.send(task)
    Service.deliver_when_due(self, task)


def _after_success_too(self: Service, task: Task) -> None:
    for _ in range(3):
        self.send(task)


def _once_only(self: Service, task: Task) -> None:
    self.send(task)


def _early(self: Service, task: Task) -> dict[str, Any]:
    return Service.callback(
        self, Task(task.id, task.number, task.request, task.created, task.started - 2 * self.variant.seconds)
    )


def _callback(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[..., Any]:
    return lambda self, task: change(Service.callback(self, task))


def _record(change: Callable[[dict[str, Any]], dict[str, Any]], *states: str) -> Callable[..., Any]:
    def callback_record(self: Service, task: Task) -> dict[str, Any]:
        record = Service.callback_record(self, task)
        return change(record) if not states or record["state"] in states else record

    return callback_record


def _with(name: str, value: Any, *states: str) -> Callable[..., Any]:
    return _record(lambda record: {**record, name: value}, *states)


def _without(name: str, *states: str) -> Callable[..., Any]:
    return _record(lambda record: {key: value for key, value in record.items() if key != name}, *states)


def _post(change: Callable[[bytes], bytes]) -> Callable[..., int]:
    return lambda self, task, body: Service.post(self, task, change(body))


def _form(body: bytes) -> bytes:
    return urlencode({"data": body.decode()}).encode()


def _target(change: Callable[[str, str], str]) -> Callable[..., str]:
    def callback_target(self: Service, task: Task) -> str:
        parts = urlsplit(task.callback_url)
        return change(parts.path or "/", parts.query)

    return callback_target


def _unrequested(self: Service, task: Task) -> None:
    """Send a callback for a task without one, to the latest callback URL of the account."""
    asked = [other.callback_url for account in self.accounts for other in account.tasks if self.has_receiver(other)]
    if not self.has_receiver(task) and asked:
        with contextlib.suppress(TypeError):
            task.request["callBackUrl"] = asked[-1]
    Service.schedule_callback(self, task)


def _for_refusals(self: Service, request: Any) -> None:
    """Send a callback for a request that is refused afterwards."""
    try:
        Service.check(self, request)
    except Exception:
        task = Task(
            "refused", 0, {"model": "", "input": {}} | dict(request or {}), int(time.time() * 1000), time.monotonic()
        )
        Service.schedule_callback(self, task)
        raise


_SENDING: Final = (
    seeded("no callback", _SENT, send_until_accepted=lambda *_: None),
    seeded("no callback of failure", _SENT, send_until_accepted=_only_if(lambda state: state == "success")),
    seeded("no callback of success", _SENT, send_until_accepted=_only_if(lambda state: state == "fail")),
    seeded("a callback twice", _ONCE, send_until_accepted=_twice),
    seeded("a callback sent again after success", _ONCE, send_until_accepted=_after_success_too),
    seeded("a callback of every state", _FINAL, "record/state/enum", _ONCE, deliver_when_due=_every_state),
    seeded("a callback before the end", _FINAL, callback_delay=lambda *_: 0.0, callback=_early),
    seeded("a callback at the beginning", _FINAL, "callback/same", callback_delay=lambda *_: 0.0),
    seeded("a callback that is not sent again", _RETRIED, send_until_accepted=_once_only),
    seeded("an unrequested callback", _ASKED, "record/param/same", schedule_callback=_unrequested),
    seeded("a callback for a refused request", _ASKED, check=_for_refusals),
)

_FORMS: Final = (
    seeded("a callback by GET", _FORM, callback_method=lambda _: "GET"),
    seeded("a callback by PUT", _FORM, callback_method=lambda _: "PUT"),
    seeded("a callback as a form", _FORM, post=_post(_form)),
    seeded("a callback without body", _FORM, post=_post(lambda _: b"")),
    seeded("a callback cut short", _FORM, post=_post(lambda body: body[:-1])),
    seeded("a callback in a list", _FORM, "envelope/type", post=_post(lambda body: b"[" + body + b"]")),
    seeded(
        "a callback with only the record",
        *(_FORM, _CODE, _SAME, "envelope/required/code"),
        callback=_callback(lambda document: document["data"]),
    ),
    seeded(
        "a callback whose data is text",
        _FORM,
        _SAME,
        "record/type",
        callback=_callback(lambda document: {**document, "data": json.dumps(document["data"])}),
    ),
    seeded(
        "a callback without message",
        "envelope/required/msg",
        "envelope/msg/type",
        _FORM,
        callback=_callback(lambda document: {**document, "msg": None}),
    ),
    seeded(
        "a callback to another path",
        _FORM,
        _SENT,
        callback_target=_target(lambda path, query: f"{path.rstrip('/')}/done?{query}"),
    ),
    seeded("a callback without the query", _FORM, _SENT, callback_target=_target(lambda path, _: path)),
    seeded("a callback to the root", _FORM, _SENT, callback_target=_target(lambda *_: "/")),
    seeded(
        "a callback with more in its query",
        _FORM,
        callback_target=_target(lambda path, query: f"{path}?{query}&state=done"),
    ),
)

_CONTENTS: Final = (
    seeded("code 200 for failures", _CODE, callback_code=lambda *_: 200),
    seeded("code 500 for failures", _CODE, callback_code=lambda _, state: 500 if state == "fail" else 200),
    seeded("code 0 for successes", _CODE, callback_code=lambda _, state: 501 if state == "fail" else 0),
    seeded(
        "the code of callbacks as text",
        _CODE,
        "envelope/code/type",
        callback_code=lambda _, state: "501" if state == "fail" else "200",
    ),
    seeded(
        "a callback without code",
        _CODE,
        "envelope/required/code",
        callback=_callback(lambda document: {key: document[key] for key in ("msg", "data")}),
    ),
    seeded("a callback of another task", _SAME, "record/taskId/same", callback_record=_with("taskId", "another")),
    seeded(
        "a callback without taskId",
        _SAME,
        "record/required/taskId",
        "record/taskId/same",
        callback_record=_without("taskId"),
    ),
    seeded(
        "task_id in callbacks",
        _SAME,
        "record/required/taskId",
        callback_record=_record(
            lambda record: {("task_id" if key == "taskId" else key): value for key, value in record.items()}
        ),
    ),
    seeded("generating in callbacks", _FINAL, _SAME, callback_record=_with("state", "generating", *ENDS)),
    seeded("success in callbacks of failure", _SAME, _CODE, callback_record=_with("state", "success", "fail")),
    seeded(
        "a callback without results",
        _SAME,
        "record/resultJson/only-success",
        callback_record=_without("resultJson", "success"),
    ),
    seeded(
        "other results in callbacks",
        _SAME,
        callback_record=_with("resultJson", '{"resultUrls": ["http://127.0.0.1/b.jpg"]}', "success"),
    ),
    seeded(
        "a callback without param",
        _SAME,
        "record/required/param",
        "record/param/same",
        callback_record=_without("param"),
    ),
    seeded("another param in callbacks", _SAME, "record/param/same", callback_record=_with("param", "{}")),
    seeded(
        "another time in callbacks",
        _SAME,
        "record/times/order",
        callback_record=_record(lambda record: {**record, "createTime": record["createTime"] - 5000}),
    ),
    seeded(
        "seconds in callbacks",
        _SAME,
        "record/times/unit",
        callback_record=_record(lambda record: {**record, "completeTime": record["completeTime"] // 1000}),
    ),
    seeded(
        "a callback of failure without failCode",
        _SAME,
        "record/failure/only-fail",
        callback_record=_without("failCode", "fail"),
    ),
    seeded("a callback of failure with another failCode", _SAME, callback_record=_with("failCode", "500", "fail")),
    seeded("another model in callbacks", _SAME, "record/model/same", callback_record=_with("model", "seedream")),
)

CALLBACKS: Final[tuple[SeededDefect, ...]] = (*_SENDING, *_FORMS, *_CONTENTS)
