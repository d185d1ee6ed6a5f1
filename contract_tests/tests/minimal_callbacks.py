"""Callbacks of the independent server: one thread for each task, and only to receivers on loopback."""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import threading
import time
from math import isinf
from typing import Any
from urllib.parse import urlsplit

from tests.minimal_tasks import Task, Tasks
from tests.minimal_variants import ENDS, SIGNING_KEY

_TRIES = 4
_TIMEOUT = 15
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Callbacks(Tasks):
    """Sends a callback for each task that requests one, and retries it after an error."""

    def __init__(self) -> None:
        super().__init__()
        self.stopping = threading.Event()
        self.senders: list[threading.Thread] = []
        self.connections: set[http.client.HTTPConnection] = set()

    def schedule_callback(self, task: Task) -> None:
        """Start a thread that sends the callback of a task once the task has ended, if the task requests one."""
        if self.variant.callbacks and self.has_receiver(task) and not isinf(self.variant.seconds):
            sender = threading.Thread(target=self.deliver_when_due, args=(task,))
            sender.start()
            self.senders.append(sender)  # only now: a server that stops joins every sender

    def has_receiver(self, task: Task) -> bool:
        return self.callback_host(task) in _LOOPBACK

    def callback_host(self, task: Task) -> str | None:
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            parts = urlsplit(task.callback_url)
            return parts.hostname if parts.scheme.lower() == "http" else None
        return None

    def deliver_when_due(self, task: Task) -> None:
        if not self.stopping.wait(self.callback_delay(task)):
            self.send_until_accepted(task)

    def callback_delay(self, task: Task) -> float:
        return max(self.variant.seconds, self.variant.late) - self.age(task) + 0.002

    def send_until_accepted(self, task: Task) -> None:
        for _ in range(_TRIES):
            if self.send(task) or self.stopping.wait(self.variant.retry_seconds):
                return

    def send(self, task: Task) -> bool:
        """Send a callback once and return whether the receiver accepted it."""
        try:
            return 200 <= self.post(task, json.dumps(self.callback(task)).encode()) < 300
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def post(self, task: Task, body: bytes) -> int:
        headers = {"Content-Type": "application/json", **self.signature(task, body)}
        return self.post_to(task.callback_url, self.callback_target(task), body, headers)

    def post_to(self, url: str, target: str, body: bytes, headers: dict[str, str]) -> int:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_TIMEOUT)
        self.connections.add(connection)
        try:
            connection.request(self.callback_method(), target, body, headers)
            return connection.getresponse().status
        finally:
            self.connections.discard(connection)
            connection.close()

    def callback_method(self) -> str:
        return "POST"

    def callback_target(self, task: Task) -> str:
        parts = urlsplit(task.callback_url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def callback(self, task: Task) -> dict[str, Any]:
        record = self.callback_record(task)
        message = ("done", "The generation failed.")[record["state"] == "fail"]
        return {"code": self.callback_code(record["state"]), "msg": message, "data": record}

    def callback_code(self, state: str) -> Any:
        return 501 if state == ENDS[1] else 200

    def callback_record(self, task: Task) -> dict[str, Any]:
        record = self.record(task)
        return record | {"updateTime": self.update_time(task, record.get("state") or self.state(task))}

    def signature(self, task: Task, body: bytes) -> dict[str, str]:
        if not self.variant.signs:
            return {}
        stamp = self.timestamp()
        signed = self.sign(SIGNING_KEY, self.signed_text(task, stamp, body))
        return {"X-Webhook-Timestamp": stamp, "X-Webhook-Signature": signed}

    def timestamp(self) -> str:
        return str(int(time.time()))

    def signed_text(self, task: Task, stamp: str, body: bytes) -> bytes:
        return f"{task.id}.{stamp}".encode()

    def sign(self, key: str, text: bytes) -> str:
        return base64.b64encode(hmac.digest(key.encode(), text, hashlib.sha256)).decode()

    def stop_callbacks(self) -> None:
        self.stopping.set()
        for connection in list(self.connections):
            with contextlib.suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        for sender in self.senders:
            sender.join()
