"""Seeded defects in the form of responses: envelope, JSON, headers, status, and secrets in messages."""

import json
from collections.abc import Callable
from typing import Any, Final

from tests.minimal_requests import RefusalError
from tests.minimal_service import Call, Response, Service
from tests.minimal_tasks import Task
from tests.minimal_variants import KEY
from tests.seeded_defect import MIRROR, SeededDefect, seeded

_CODE, _MSG = ("envelope/code/type", "answer/code/type"), ("envelope/msg/type", "answer/msg/type")
_NO_CODE = ("envelope/required/code", *_CODE)
_NO_MSG = ("envelope/required/msg", *_MSG)
_DATA, _TASK_ID = "answer/data/type", "answer/data.taskId/type"
_STATUS, _HTML = "answer/http-status", b"<html><body><h1>It did not work</h1></body></html>"

When = Callable[[Call, Any], Any]


def _always(call: Call, code: Any) -> bool:
    return True


def _on_refusal(call: Call, code: Any) -> Any:
    return code != 200


def _on_code(wanted: int) -> When:
    return lambda _, code: code == wanted


def on_path(part: str) -> When:
    return lambda call, _: part in call.target


def _envelope(change: Callable[[dict[str, Any]], dict[str, Any]], when: When = _always) -> Callable[..., Any]:
    def envelope(self: Service, call: Call, code: Any, message: Any, data: Any) -> dict[str, Any]:
        document = Service.envelope(self, call, code, message, data)
        return change(document) if when(call, code) else document

    return envelope


def _without(name: str, when: When = _always) -> Callable[..., Any]:
    return _envelope(lambda document: {key: value for key, value in document.items() if key != name}, when)


def _with(name: str, value: Any, when: When = _always) -> Callable[..., Any]:
    return _envelope(lambda document: {**document, name: value}, when)


def _status(status: int, when: When) -> Callable[..., int]:
    return lambda self, call, code: status if when(call, code) else Service.status(self, call, code)


def _type(kind: str, when: When = _always) -> Callable[..., Any]:
    def respond(self: Service, call: Call, code: Any, *rest: Any, **options: Any) -> Response:
        reply = Service.respond(self, call, code, *rest, **options)
        return Response(reply.status, reply.body, {"Content-Type": kind}) if kind and when(call, code) else reply

    return respond


def _page(when: When) -> Callable[..., Any]:
    def respond(self: Service, call: Call, code: Any, *rest: Any, **options: Any) -> Response:
        if when(call, code):
            return Response(self.status(call, code), _HTML, {"Content-Type": "text/html"})
        return Service.respond(self, call, code, *rest, **options)

    return respond


def _created(data: Callable[[Task], Any]) -> Callable[..., Any]:
    return lambda _, task: data(task)


def _body(change: Callable[[bytes], bytes], when: When = _always) -> Callable[..., Any]:
    def encode(self: Service, call: Call, document: Any) -> bytes:
        body = Service.encode(self, call, document)
        return change(body) if when(call, document.get("code")) else body

    return encode


def _nan(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "took": float("nan")}


def _with_message(message: Callable[[Call], str], when: When) -> Callable[..., Any]:
    def envelope(self: Service, call: Call, code: Any, old: Any, data: Any) -> dict[str, Any]:
        return Service.envelope(self, call, code, message(call) if when(call, code) else old, data)

    return envelope


def _echo(call: Call) -> str:
    return f"Cannot do this for {call.headers.get('Authorization')}."


def _trace(call: Call) -> str:
    line = f'  File "/srv/app/service.py", line 88, in {call.method.lower()}\n'
    return f"Traceback (most recent call last):\n{line}    self.check(request)\nValueError: invalid"


def _new_task(self: Service, call: Call, refusal: RefusalError) -> Response:
    data = {"taskId": "task_seedream_1765166238716"} if "createTask" in call.target else None
    return self.respond(call, refusal.code, refusal.message, data)


def _refusal_as_success(self: Service, call: Call, refusal: RefusalError) -> Response:
    return self.respond(call, 200, refusal.message, None)


_CODES: Final = (
    seeded(
        "the code as text", *_CODE, envelope=_envelope(lambda document: {**document, "code": str(document["code"])})
    ),
    seeded(
        "the code of refusals as text",
        *_CODE,
        envelope=_envelope(lambda document: {**document, "code": str(document["code"])}, _on_refusal),
    ),
    seeded("the code with a fraction", *_CODE, envelope=_envelope(lambda d: {**d, "code": d["code"] + 0.5})),
    seeded("no code", *_NO_CODE, envelope=_without("code")),
    seeded("no code in records", *_NO_CODE, envelope=_without("code", on_path("recordInfo"))),
    seeded("no code in refusals", *_NO_CODE, envelope=_without("code", _on_refusal)),
    seeded("no message", *_NO_MSG, envelope=_without("msg")),
    seeded("no message in refusals", *_NO_MSG, envelope=_without("msg", _on_refusal)),
    seeded("the message as a number", *_MSG, envelope=_with("msg", 0)),
    seeded("null for a message of refusal", *_MSG, envelope=_with("msg", None, _on_refusal)),
    seeded("an empty message of refusal", *_MSG, envelope=_with("msg", "", _on_refusal)),
    seeded("a list of messages", *_MSG, envelope=_with("msg", ["one"], _on_refusal)),
    seeded("code 0 for success", "code/200", "answer/code/enum", envelope=_with("code", 0, _on_code(200))),
    seeded(
        "code 201 for a new task", "code/200", "answer/code/enum", envelope=_with("code", 201, on_path("createTask"))
    ),
    seeded("a refusal with code 200", "code/422", "request/type", "request/json", refusal_response=_refusal_as_success),
    seeded(
        "403 for a wrong key",
        *("code/401", "answer/code/enum", "authorisation/wrong", "authorisation/missing"),
        envelope=_with("code", 403, _on_code(401)),
    ),
    seeded(
        "500 for a wrong key",
        *("code/401", "authorisation/wrong", "authorisation/missing"),
        envelope=_with("code", 500, _on_code(401)),
    ),
)

_DATAS: Final = (
    seeded(
        "no data for a new task", _DATA, _TASK_ID, "createTask/usable", envelope=_without("data", on_path("createTask"))
    ),
    seeded(
        "null for the data of a new task", _DATA, _TASK_ID, "createTask/usable", creation_data=_created(lambda _: None)
    ),
    seeded("a list for the data of a new task", _DATA, _TASK_ID, creation_data=_created(lambda task: [task.id])),
    seeded("the bare name for the data of a new task", _DATA, _TASK_ID, creation_data=_created(lambda task: task.id)),
    seeded(
        "no taskId", _TASK_ID, "createTask/usable", _DATA, creation_data=_created(lambda task: {"recordId": task.id})
    ),
    seeded(
        "an empty taskId",
        _TASK_ID,
        "createTask/usable",
        "createTask/unique",
        "record/taskId/minLength",
        creation_data=_created(lambda _: {"taskId": ""}),
    ),
    seeded("null for a taskId", _TASK_ID, "createTask/usable", creation_data=_created(lambda _: {"taskId": None})),
    seeded("taskId as a number", _TASK_ID, creation_data=_created(lambda task: {"taskId": task.number})),
    seeded("task_id", _TASK_ID, "createTask/usable", _DATA, creation_data=_created(lambda task: {"task_id": task.id})),
    seeded(
        "a taskId that cannot be fetched",
        "createTask/usable",
        creation_data=_created(lambda task: {"taskId": task.id[::-1]}),
    ),
    seeded(
        "a taskId for all", "createTask/unique", "createTask/usable", "record/param/same", new_id=lambda *_: "task_1"
    ),
    seeded(
        "a taskId twice",
        "createTask/unique",
        "createTask/usable",
        "record/param/same",
        new_id=lambda _, number: f"task_{number // 2}",
    ),
    seeded("a task handed out by a refusal", "answer/refused/no-task", refusal_response=_new_task),
)

_FORMS: Final = (
    seeded("text/html for a type", "answer/content-type", content_type=lambda *_: "text/html"),
    seeded("text/plain for a type", "answer/content-type", content_type=lambda *_: "text/plain; charset=utf-8"),
    seeded("text/plain for refusals", "answer/content-type", respond=_type("text/plain", _on_refusal)),
    seeded(
        "no real type for records",
        "answer/content-type",
        respond=_type("application/octet-stream", on_path("recordInfo")),
    ),
    seeded("a page of HTML for refusals", "answer/json", "answer/content-type", respond=_page(_on_refusal)),
    seeded(
        "a page of HTML for a wrong key", "answer/json", "answer/content-type", "code/401", respond=_page(_on_code(401))
    ),
    seeded(
        "a page of HTML for an unknown task",
        "answer/json",
        "answer/content-type",
        "recordInfo/unknown",
        respond=_page(lambda call, code: code == 404 and "recordInfo" in call.target),
    ),
    seeded("no body for a wrong key", "answer/json", encode=_body(lambda _: b"", _on_code(401))),
    seeded("no body for refusals", "answer/json", encode=_body(lambda _: b"", _on_refusal)),
    seeded("NaN in responses", "answer/json", envelope=_envelope(_nan)),
    seeded("NaN in records", "answer/json", envelope=_envelope(_nan, on_path("recordInfo"))),
    seeded("JSON cut short", "answer/json", encode=_body(lambda body: body[:-1], _on_refusal)),
    seeded("JSON in UTF-16", "answer/json", encode=_body(lambda body: body.decode().encode("utf-16"))),
    seeded("JSON with something after it", "answer/json", encode=_body(lambda body: body + b";")),
    seeded("JSON twice", "answer/json", encode=_body(lambda body: body * 2, on_path("recordInfo"))),
    seeded(
        "bytes that are not UTF-8 in messages",
        "answer/json",
        encode=_body(lambda body: body.replace(b'"msg": "', b'"msg": "\xe9 '), _on_refusal),
    ),
    seeded("a list for a response", "envelope/type", "answer/type", encode=_body(lambda body: b"[" + body + b"]")),
    seeded(
        "text for a refusal",
        "envelope/type",
        "answer/type",
        encode=_body(lambda body: json.dumps(body.decode()).encode(), _on_refusal),
    ),
)

_STATUSES: Final = (
    seeded("HTTP 422 for a 422 alone", _STATUS, status=_status(422, _on_code(422))),
    seeded("HTTP 401 for a wrong key alone", _STATUS, status=_status(401, _on_code(401))),
    seeded(
        "HTTP 404 for an unknown task alone",
        _STATUS,
        status=_status(404, lambda call, code: code == 404 and "recordInfo" in call.target),
    ),
    seeded("HTTP 500 for a 422", _STATUS, status=_status(500, _on_code(422))),
    seeded(
        "HTTP 201 for a new task",
        _STATUS,
        status=_status(201, lambda call, code: code == 200 and "createTask" in call.target),
    ),
    seeded("HTTP 200 for a 422 alone", _STATUS, variant=MIRROR, status=_status(200, _on_code(422))),
    seeded("HTTP 400 for a 422", _STATUS, variant=MIRROR, status=_status(400, _on_code(422))),
    seeded("HTTP 403 for a 401", _STATUS, variant=MIRROR, status=_status(403, _on_code(401))),
    seeded(
        "HTTP 200 for an unknown task alone",
        _STATUS,
        variant=MIRROR,
        status=_status(200, lambda call, code: code == 404 and "recordInfo" in call.target),
    ),
)

_SECRETS: Final = (
    seeded("the key in refusals", "answer/no-secret", envelope=_with_message(_echo, _on_code(422))),
    seeded("the wrong key in refusals of it", "answer/no-secret", envelope=_with_message(_echo, _on_code(401))),
    seeded(
        "the key in records",
        "answer/no-secret",
        envelope=_envelope(lambda document: {**document, "caller": KEY}, on_path("recordInfo")),
    ),
    seeded(
        "the key in the response for a new task",
        "answer/no-secret",
        envelope=_envelope(lambda document: {**document, "caller": KEY}, on_path("createTask")),
    ),
    seeded("a stack trace in refusals", "answer/no-stack-trace", envelope=_with_message(_trace, _on_code(422))),
    seeded("a stack trace for an unknown task", "answer/no-stack-trace", envelope=_with_message(_trace, _on_code(404))),
)

RESPONSES: Final[tuple[SeededDefect, ...]] = (*_CODES, *_DATAS, *_FORMS, *_STATUSES, *_SECRETS)
