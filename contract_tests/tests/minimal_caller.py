"""The two sides of the independent server in tests: a caller with a key, and a receiver of callbacks."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx2
from tests.minimal_service import Served
from tests.minimal_variants import ENDS, MODEL

GOOD: dict[str, Any] = {"model": MODEL, "input": {"prompt": "a café 🎨", "aspect_ratio": "4:3", "quality": "basic"}}
CREATE, RECORD_INFO, CREDIT = "/api/v1/jobs/createTask", "/api/v1/jobs/recordInfo", "/api/v1/chat/credit"


def with_prompt(prompt: Any, **fields: Any) -> dict[str, Any]:
    return {**GOOD, "input": {**GOOD["input"], "prompt": prompt}, **fields}


def with_input(**fields: Any) -> dict[str, Any]:
    return {**GOOD, "input": {**GOOD["input"], **fields}}


def without(*path: str) -> dict[str, Any]:
    request: dict[str, Any] = {**GOOD, "input": dict(GOOD["input"])}
    holder = request
    for name in path[:-1]:
        holder = holder[name]
    del holder[path[-1]]
    return request


class Caller:
    """A client of the server with one API key."""

    def __init__(self, served: Served, client: httpx2.Client, key: str | None = None) -> None:
        self.served, self.client = served, client
        self.headers = {"Authorization": f"Bearer {key or served.key}"}

    def send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return self.client.request(method, self.served.url + path, headers=self.headers, **options)

    def create(self, request: Any = GOOD) -> dict[str, Any]:
        response: dict[str, Any] = self.send("POST", CREATE, json=request).json()
        return response

    def fetch(self, task_id: str) -> dict[str, Any]:
        response: dict[str, Any] = self.send("GET", RECORD_INFO, params={"taskId": task_id}).json()
        return response

    def wait_until_finished(self, request: Any = GOOD) -> dict[str, Any]:
        task_id = self.create(request)["data"]["taskId"]
        return self.poll_until(task_id, lambda record: record.get("state") in ENDS)

    def poll_until(self, task_id: str, is_enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            record: dict[str, Any] = self.fetch(task_id)["data"] or {}
            if is_enough(record):
                return record
            time.sleep(0.002)

    def balance(self) -> float:
        return float(self.send("GET", CREDIT).json()["data"])


@dataclass(frozen=True)
class Received:
    """A received callback."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Receiver(ThreadingHTTPServer):
    """A server for callbacks that answers the first ones with an error, or with other HTTP statuses.

    A redirect leads to the same path with an appended ``-moved``.

    Attributes:
        arrived: Released once for each callback.
        calls: The callbacks in the order of their arrival.
    """

    def __init__(self, errors: int = 0, *, statuses: tuple[int, ...] = ()) -> None:
        statuses = statuses or (500,) * errors
        self.arrived = threading.Semaphore(0)
        self.calls: list[Received] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def respond(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                receiver.calls.append(Received(self.command, self.path, dict(self.headers), body))
                status = (*statuses, *(200,) * len(receiver.calls))[len(receiver.calls) - 1]
                self.send_response(status)
                if status == 307:
                    self.send_header("Location", f"{receiver.url}{self.path}-moved")
                self.send_header("Content-Length", "0")
                self.end_headers()
                receiver.arrived.release()

            do_GET = do_POST = do_PUT = respond  # noqa: N815  named by http.server

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  named by http.server
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.005})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()
