"""A small program for drills, careful or with one mistake, which sleeps by the clock of its server.

It sends real requests over sockets and receives callbacks on one. Its time is that of the manual clock, so that hours
pass at once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import traceback
from collections import deque
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, cast
from urllib.parse import urlsplit

from seedbed_mock.observation import ControlRun, Observation, ProgramExit, observe
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.openapi import example_of

if TYPE_CHECKING:
    from seedbed_mock import MockServer

SECRET = "worker-secret"  # noqa: S105 (signs nothing but tests)
KEY = "worker"
CONTRACT, SHARED = default_contract(), job_api()
EXAMPLE: dict[str, Any] = example_of(CONTRACT.part("request"))
LONGEST = 4000.0


class StoppedError(BaseException):
    """The drill stops the program."""


class AnswerError(Exception):
    """There is no usable response."""


class Crash(Exception):  # noqa: N818 (the program dies of it)
    """The program is ended by a signal."""


class Worker:
    """The careful program. It makes an image of each prompt, one after another, and returns an exit code."""

    deadline = 900.0
    prompts: tuple[str, ...] = ("A hill at dawn", "A lake at noon")
    uses_callbacks = True
    retry_after = 0.0
    polls = True
    refused_creations: ClassVar[set[int]] = {429, 455}

    def __init__(self, server: MockServer) -> None:
        self.server = server
        self.started = self.now()
        self.queue: deque[dict[str, Any]] = deque()
        self.seen: set[str] = set()
        parts = urlsplit(server.url)
        self.host, self.port = str(parts.hostname), parts.port
        self.connection = HTTPConnection(self.host, self.port, timeout=5)
        self.receiver = _Receiver(self) if self.uses_callbacks else None

    def close(self) -> None:
        self.connection.close()
        if self.receiver:
            self.receiver.shutdown()
            self.receiver.server_close()

    def now(self) -> float:
        return self.server._service.clock.now()

    def sleep(self, seconds: float) -> None:
        if self.now() - self.started > LONGEST:
            raise StoppedError
        self.server.advance(seconds)

    # Requests

    def send(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        try:
            self.connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = self.connection.getresponse()
            self.retry_after = float(response.headers.get("Retry-After", 0))
            return response.status, response.read()
        except (OSError, HTTPException) as error:
            self.connection.close()
            raise AnswerError(str(error)) from error

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        _, text = self.send(method, path, body)
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise AnswerError(str(error)) from error
        if not isinstance(answer, dict) or not isinstance(answer.get("code"), int):
            raise AnswerError("no code")
        return answer

    # The program

    def run(self) -> int:
        made = [self.make(prompt) for prompt in self.prompts]
        made = [done or self.recover(prompt) for done, prompt in zip(made, self.prompts, strict=True)]
        return 0 if all(made) else 1

    def recover(self, prompt: str) -> bool:
        """Fetch the image of a task whose callback came after the program had given it up."""
        for late in self.queue:
            if prompt in late["param"] and not self.is_locked_out and (record := self.wait(late["taskId"])):
                return record["state"] == SHARED.states.success and self.fetch(record)
        return False

    def make(self, prompt: str) -> bool:
        task_id = self.create(prompt) or self.found_by_callback(prompt)
        if task_id is None:
            return False
        record = self.wait(task_id)
        if record is None or record["state"] != SHARED.states.success:
            return False
        return self.fetch(record)

    is_in_doubt = False
    is_locked_out = False

    def found_by_callback(self, prompt: str) -> str | None:
        """Wait for the callback of a task whose ID was lost with the response."""
        begun = self.now()
        while self.is_in_doubt and self.receiver and self.now() - begun < self.deadline:
            for record in self.queue:
                if prompt in record["param"]:
                    return str(record["taskId"])
            self.sleep(20)
        return None

    def body(self, prompt: str) -> dict[str, Any]:
        body = {**EXAMPLE, "input": {**EXAMPLE["input"], "prompt": prompt}}
        body.pop(SHARED.fields.callback, None)
        return body | ({SHARED.fields.callback: self.receiver.url} if self.receiver else {})

    def create(self, prompt: str) -> str | None:
        self.is_in_doubt = False
        for attempt in range(8):
            try:
                answer = self.call("POST", CONTRACT.operation.path, self.body(prompt))
            except AnswerError:
                return self.in_doubt(prompt)
            self.is_in_doubt = answer["code"] == 500
            if answer["code"] in self.refused_creations:
                self.sleep(self.pause_after_refusal(attempt))
                continue
            data = answer.get("data") if answer["code"] == 200 else None
            task_id = data.get("taskId") if isinstance(data, dict) else None
            return task_id if isinstance(task_id, str) and task_id else self.refused(answer, prompt)
        return None

    def pause_after_refusal(self, attempt: int) -> float:
        return max(self.retry_after, float(min(max(10, 2**attempt), 60)))

    def in_doubt(self, prompt: str) -> str | None:
        self.is_in_doubt = True
        return None

    def refused(self, answer: dict[str, Any], prompt: str) -> str | None:
        return None

    def query(self, task_id: str) -> dict[str, Any] | None:
        """Return the record, ``None`` without one."""
        answer = self.call("GET", f"{SHARED.record_info.path}?{SHARED.record_info.query}={task_id}")
        if answer["code"] == 401:
            raise PermissionError
        if answer["code"] == 429:
            self.limited()
        record = answer.get("data") if answer["code"] == 200 else None
        return record if isinstance(record, dict) and isinstance(record.get("state"), str) else None

    def limited(self) -> None:
        self.sleep(max(self.retry_after, 30))

    def wait(self, task_id: str) -> dict[str, Any] | None:
        begun, failures = self.now(), 0
        while True:
            record = None
            if self.polls or self.told(task_id):
                try:
                    record = self.query(task_id)
                except AnswerError:
                    record = None
                except PermissionError:
                    self.is_locked_out = True
                    return None
                failures = 0 if record else failures + 1
            if record and self.is_final(record):
                return record
            if self.now() - begun >= self.deadline:
                return None
            self.sleep(max(self.interval(self.now() - begun), self.backoff(failures)))

    def told(self, task_id: str) -> bool:
        return any(each["taskId"] == task_id for each in self.queue)

    def is_final(self, record: dict[str, Any]) -> bool:
        return record["state"] in {SHARED.states.success, SHARED.states.failure}

    def backoff(self, failures: int) -> float:
        return float(min(2**failures, 30)) if failures else 0.0

    def interval(self, waited: float) -> float:
        return 2.5 if waited < 30 else 8.0 if waited < 120 else 20.0

    def fetch(self, record: dict[str, Any]) -> bool:
        with suppress(ValueError, TypeError, KeyError, IndexError):
            url = json.loads(record["resultJson"])["resultUrls"][0]
            for attempt in range(3):
                if url and self.download(url):
                    return True
                self.sleep(2.0**attempt)
        return False

    def download(self, url: str) -> bool:
        try:
            status, image = self.send("GET", urlsplit(url).path)
        except AnswerError:
            return False
        return status == 200 and self.is_whole(image)

    def is_whole(self, image: bytes) -> bool:
        return image.endswith(b"\xff\xd9")

    # Callbacks

    def receive(self, headers: dict[str, str], body: bytes) -> int:
        """Return the HTTP status of the response to a callback."""
        try:
            record = json.loads(body)["data"]
            task_id = record["taskId"]
        except (ValueError, TypeError, KeyError):
            return 400
        if not self.is_genuine(headers, task_id):
            return 401
        if task_id not in self.seen:
            self.seen.add(task_id)
            self.keep(record)
        return 200

    def keep(self, record: dict[str, Any]) -> None:
        self.queue.append(record)

    def is_genuine(self, headers: dict[str, str], task_id: str) -> bool:
        return self.is_recent(headers) and self.is_signed(headers, task_id)

    def is_recent(self, headers: dict[str, str]) -> bool:
        timestamp = headers.get(SHARED.callback.timestamp_header.lower(), "")
        return timestamp.isdecimal() and abs(self.now() - int(timestamp)) < 300

    def is_signed(self, headers: dict[str, str], task_id: str) -> bool:
        timestamp = headers.get(SHARED.callback.timestamp_header.lower(), "")
        digest = hmac.digest(SECRET.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256)
        return headers.get(SHARED.callback.signature_header.lower(), "") == base64.b64encode(digest).decode()


class _Receiver(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.send_response(cast("_Receiver", self.server).worker.receive(headers, body))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any, **options: Any) -> None:
        pass


def drilled(server: MockServer, worker: type[Worker], *rules: str, seed: int = 0, **options: Any) -> Observation:
    """Run a worker on a server that starts over with some fault rules, and return what the server saw."""
    settings = {"task_seconds": 20, "rate_limit": "off", "credits": 10_000, "seed": seed, **options}
    server.play(clock="manual", sign_with="clock", key=f"{KEY}:signing-key={SECRET}", **settings)
    if rules:
        server.add_faults(*rules)
    service = server._service
    begun = service.now()
    program = worker(server)
    try:
        ended = ProgramExit(program.run())
    except StoppedError:
        ended = ProgramExit(None)
    except Crash:
        ended = ProgramExit(-11)
    except Exception:
        ended = ProgramExit(1, traceback.format_exc())
    finally:
        program.close()
    return server._app.run(lambda: observe(service, ended, begun, service.now()))


def control_of(server: MockServer, worker: type[Worker]) -> ControlRun:
    """Return what a worker does when nothing goes wrong."""
    return ControlRun.of(drilled(server, worker))
