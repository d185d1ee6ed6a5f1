"""Records exchanges with a service as a HAR file, for the tests of recorded traffic."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from seedbed_contract.traffic import check_traffic, read_har

if TYPE_CHECKING:
    import httpx2
    from seedbed_contract.findings import Finding, Report
    from seedbed_contract.http import TargetRequest


KEY = "canary-key-5d1f"
BASE = "https://api.example"
CREATE, RECORD = "/api/v1/jobs/createTask", "/api/v1/jobs/recordInfo"
REQUEST = {
    "model": "seedream/4.5-text-to-image",
    "input": {"prompt": "a hill", "aspect_ratio": "1:1", "quality": "basic"},
}
MILLISECONDS = 1_795_386_318_000


def with_input(**changed: Any) -> dict[str, Any]:
    return {**REQUEST, "input": {**REQUEST["input"], **changed}}  # type: ignore[dict-item]


class Recorder:
    """Writes a HAR file with one exchange per second."""

    def __init__(self, base: str = BASE) -> None:
        self.base = base
        self.entries: list[dict[str, Any]] = []

    def add(
        self,
        path: str,
        body: Any = None,
        content: Any = None,
        *,
        status: int = 200,
        key: str | None = f"Bearer {KEY}",
        kind: str = "application/json",
        seconds: float = 0.1,
        **own: Any,
    ) -> None:
        """Add an exchange; a body is a text, or a value to serialize as JSON."""
        started = datetime.fromtimestamp(MILLISECONDS / 1000 + len(self.entries), UTC).isoformat()
        request: dict[str, Any] = {"method": "GET" if body is None else "POST", "url": f"{self.base}{path}"}
        request["headers"] = [{"name": "Authorization", "value": key}] if key is not None else []
        if body is not None:
            request["headers"].append({"name": "content-type", "value": "application/json"})
            request["postData"] = {"mimeType": "application/json", "text": text_of(body)}
        text = text_of(content)
        response = {
            "status": status,
            "headers": [{"name": "Content-Type", "value": kind}],
            "content": {"size": len(text), "mimeType": kind, "text": text},
        }
        own_request = own.pop("request", {})
        times = {"startedDateTime": started, "time": seconds * 1000}
        self.entries.append({**times, "request": request | own_request, "response": response} | own)

    def add_sent(self, request: TargetRequest, response: httpx2.Response) -> None:
        """Add an exchange with a request of arbitrary bytes."""
        sent: dict[str, Any] = {"method": request.method}
        sent["headers"] = [{"name": name, "value": value} for name, value in request.headers]
        if request.body is not None:
            sent["postData"] = {"text": base64.b64encode(request.body).decode(), "encoding": "base64"}
        kind = response.headers.get("content-type", "")
        self.add(request.target, None, response.text, status=response.status_code, kind=kind, request=sent)

    def add_creation(self, task_id: str = "task-1", body: Any = REQUEST, **own: Any) -> None:
        self.add(CREATE, body, envelope({"taskId": task_id}), **own)

    def add_poll(self, task_id: str = "task-1", content: Any = None, **own: Any) -> None:
        self.add(f"{RECORD}?taskId={task_id}", None, content or envelope(record(task_id)), **own)

    @property
    def content(self) -> bytes:
        return json.dumps({"log": {"version": "1.2", "entries": self.entries}}).encode()

    def check(self, **named: Any) -> Report:
        return check_traffic(read_har(self.content), "traffic.har", **named)


def text_of(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body)


def envelope(data: Any = None, code: int = 200) -> dict[str, Any]:
    return {"code": code, "msg": "success" if code == 200 else "no", "data": data}


def record(task_id: str = "task-1", state: str = "success", **changed: Any) -> dict[str, Any]:
    ended = state in {"success", "fail"}
    data = {
        "taskId": task_id,
        "model": REQUEST["model"],
        "state": state,
        "param": json.dumps(REQUEST),
        "createTime": MILLISECONDS,
        "updateTime": MILLISECONDS + 5000 * ended,
        "failCode": "",
        "failMsg": "",
    }
    if state == "success":
        data["resultJson"] = json.dumps({"resultUrls": ["https://files.example/1.jpg"]})
        data |= {"completeTime": MILLISECONDS + 5000, "costTime": 5000}
    return data | changed


def found(report: Report) -> set[tuple[str, str]]:
    return {(finding.side, finding.clause) for finding in report.findings}


def only(report: Report) -> Finding:
    (finding,) = report.findings
    return finding
