"""Servers that differ from each other in ways that every standard and page allows; none of them breaks a clause."""

import gzip
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from tests.minimal_requests import RefusalError
from tests.minimal_service import Call, Response, Service, picture
from tests.minimal_tasks import Account, Task
from tests.seeded_defect import MIRROR, OBSERVED, PLAIN, SeededDefect


def _each_response(change: Callable[[Response], Response]) -> Callable[..., Response]:
    return lambda self, call: change(Service.handle(self, call))


def _headers(**headers: str) -> Callable[..., Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return _each_response(lambda response: replace(response, headers={**named, **response.headers}))


def _of_json(change: Callable[[bytes], bytes], **headers: str) -> Callable[..., Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def changed(response: Response) -> Response:
        if "json" not in response.headers.get("Content-Type", ""):
            return response
        return replace(response, body=change(response.body), headers={**response.headers, **named})

    return _each_response(changed)


def _chunked(body: bytes) -> bytes:
    half = len(body) // 2
    parts = [part for part in (body[:half], body[half:]) if part]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def _reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _reordered(value[name]) for name in sorted(value, reverse=True)}
    return [_reordered(item) for item in value] if isinstance(value, list) else value


def _messages(self: Service, call: Call, code: Any, message: Any, data: Any) -> dict[str, Any]:
    del message
    text = "成功 – 👍" if code == 200 else "请求无效: «nicht möglich» " + "x" * 300
    return Service.envelope(self, call, code, text, data)


def _empty_message(self: Service, call: Call, code: Any, message: Any, data: Any) -> dict[str, Any]:
    return Service.envelope(self, call, code, "" if code == 200 else message, data)


def _slowly(self: Service, call: Call) -> Response:
    time.sleep(0.01)
    return Service.handle(self, call)


def _with_methods(self: Service, call: Call) -> Response:
    if call.method == "OPTIONS":
        return Response(204, b"", {"Allow": "GET, POST", "Access-Control-Allow-Origin": "*"})
    if call.method == "HEAD":
        return Response(200, b"", {"Content-Type": "application/json"})
    return Service.handle(self, call)


def _small_bodies_only(self: Service, call: Call) -> Response:
    if len(call.body) > 65_536:
        return Response(413, b"too large", {"Content-Type": "text/plain", "Connection": "close"})
    return Service.handle(self, call)


def _compact_param(self: Service, task: Task) -> str:
    return json.dumps(json.loads(Service.param(self, task)), separators=(",", ":"), ensure_ascii=False)


def _param_with_defaults(self: Service, task: Task) -> str:
    param = json.loads(Service.param(self, task))
    return json.dumps({**param, "input": {"nsfw_checker": False, **param["input"]}, "version": 1})


def _record_with(**fields: Any) -> Callable[..., dict[str, Any]]:
    return lambda self, task: {**Service.record(self, task), **fields}


def _null_results(self: Service, task: Task, state: str) -> dict[str, Any]:
    return {"resultJson": None, **Service.outcome(self, task, state)}


def _signed_url(self: Service, task: Task) -> str:
    return f"{Service.result_url(self, task)}?signature={time.time_ns()}"


def _file_by_path(self: Service, call: Call) -> Response:
    tasks = (task for account in self.accounts for task in list(account.tasks))
    task = next((task for task in tasks if urlsplit(self.result_url(task)).path == call.path), None)
    return self.image(task) if task else Response(404, b"", {})


def _download_by_path(self: Service, account: Account, call: Call) -> Any:
    given = self.parse(call.body)
    url = given.get("url") if isinstance(given, dict) else None
    own = [urlsplit(self.result_url(task)).path for task in account.tasks if self.state(task) == "success"]
    if not isinstance(url, str) or not url.startswith(self.url) or urlsplit(url).path not in own:
        raise RefusalError(422, "url is wrong")
    return url


def _moved_file(self: Service, call: Call) -> Response:
    if call.query("moved"):
        return Service.file(self, replace(call, target=call.path))
    return Response(302, b"", {"Location": f"{call.path}?moved=1"})


def _png(_: Service, task: Task) -> Response:
    return Response(200, picture(task.size, "PNG"), {"Content-Type": "image/png; charset=binary"})


def _whole_seconds(self: Service, task: Task, state: str) -> dict[str, Any]:
    times = Service.times(self, task, state)
    whole = {"createTime", "updateTime", "completeTime"}
    return {name: ms // 1000 * 1000 if name in whole and ms is not None else ms for name, ms in times.items()}


def _late_callback(self: Service, task: Task) -> float:
    return self.variant.seconds - self.age(task) + 0.5


def _listed_alone(self: Service, account: Account, call: Call) -> Any:
    (model,) = (each for each in Service.models(self, account, call)["models"] if each["model"] != "other/1.0")
    return {"total": 1, "models": [{**model, "taskType": [], "price": {"credits": 6.5}}], "page": 1}


def _lawful(name: str, variant: Any = PLAIN, **hooks: Callable[..., Any]) -> SeededDefect:
    return SeededDefect(name, (), variant, hooks)


LAWFUL: Final[tuple[SeededDefect, ...]] = (
    _lawful("gzip responses", handle=_of_json(lambda body: gzip.compress(body, 1, mtime=0), Content_Encoding="gzip")),
    _lawful("responses in chunks", handle=_of_json(_chunked, Transfer_Encoding="chunked")),
    _lawful("spaces in the media type", content_type=lambda *_: "application/json ; charset=utf-8  "),
    _lawful("a media type in capitals", content_type=lambda *_: "Application/JSON;charset=UTF-8"),
    _lawful(
        "cookies and other headers",
        handle=_headers(Set_Cookie="a=b", Server="a/1", Cache_Control="no-store, max-age=0", Vary="*"),
    ),
    _lawful("fields in another order", handle=_of_json(lambda body: json.dumps(_reordered(json.loads(body))).encode())),
    _lawful(
        "fields in another order, mirror",
        MIRROR,
        handle=_of_json(lambda body: json.dumps(_reordered(json.loads(body))).encode()),
    ),
    _lawful("a line end after the JSON text", handle=_of_json(lambda body: b"\n " + body + b"\r\n")),
    _lawful("other messages", envelope=_messages),
    _lawful("other messages, as observed", OBSERVED, envelope=_messages),
    _lawful("an empty msg of successes", envelope=_empty_message),
    _lawful("slow responses", handle=_slowly),
    _lawful("HEAD and OPTIONS answered", handle=_with_methods),
    _lawful("small bodies only", handle=_small_bodies_only),
    _lawful("param without blanks", param=_compact_param),
    _lawful("param with defaults", param=_param_with_defaults),
    _lawful("more fields in records", record=_record_with(progress=100, logs=[], owner={"id": None})),
    _lawful("null for no results", outcome=_null_results),
    _lawful("URLs that are signed anew", result_url=_signed_url, file=_file_by_path, download_url=_download_by_path),
    _lawful("results behind a redirect", file=_moved_file),
    _lawful("PNG results", image=_png),
    _lawful("times in whole seconds", times=_whole_seconds),
    _lawful("callbacks half a second late", callback_delay=_late_callback),
    _lawful("one model", models=_listed_alone),
)
"""Two dozen more of them, each with one lawful difference."""
