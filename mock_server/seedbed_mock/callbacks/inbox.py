"""An inbox for tests: a receiver of callbacks on a free port, which keeps what arrives and verifies its signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self, cast

from seedbed_schemas import job_api

from seedbed_mock.clock import real_monotonic

if TYPE_CHECKING:
    from collections.abc import Callable


_RULES: Final = job_api().callback
_LARGEST_BODY: Final = 16 * 1024 * 1024
_PATIENCE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.005
_CONNECTION_SECONDS: Final = 10
_TOLERANCE_SECONDS: Final = 300
"""How old the signature of a callback may be; also the default of ``seedbed_client.verify_callback``."""


@dataclass(frozen=True, slots=True)
class ReceivedCallback:
    """A callback as it arrived.

    Attributes:
        headers: Its headers, with names in lower case.
        body: Its body.
        status: HTTP status of the response.
        path: Path and query of the request.
    """

    headers: dict[str, str]
    body: bytes
    status: int
    path: str = "/"

    @property
    def content(self) -> Any:
        """The body as JSON, ``None`` if it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def code(self) -> int | None:
        """Code of the outcome, ``None`` without one."""
        content = self.content
        return content.get("code") if isinstance(content, dict) else None

    @property
    def record(self) -> dict[str, Any]:
        """Record of the task, empty without one."""
        content = self.content
        data = content.get("data") if isinstance(content, dict) else None
        return data if isinstance(data, dict) else {}

    @property
    def task_id(self) -> str:
        """ID of the task, empty without one."""
        return str(self.record.get("taskId", ""))

    def problem(self, signing_key: str, now: float) -> str:
        """Return what is wrong with the signature in one sentence, empty if nothing is.

        Args:
            signing_key: Signing key of the account.
            now: Time of the receiver in Unix seconds.
        """
        timestamp, signature = (
            self.headers.get(name.lower(), "") for name in (_RULES.timestamp_header, _RULES.signature_header)
        )
        if not timestamp.isdecimal() or not signature:
            return f"The callback of the task {self.task_id} is not signed."
        digest = hmac.digest(signing_key.encode(), f"{self.task_id}.{timestamp}".encode(), hashlib.sha256)
        if not hmac.compare_digest(base64.b64encode(digest), signature.encode("utf-8", "replace")):
            return f"The callback of the task {self.task_id} is signed for another task, or with another key."
        if abs(now - int(timestamp)) > _TOLERANCE_SECONDS:
            return (
                f"The callback of the task {self.task_id} was signed {abs(now - int(timestamp)):.0f} seconds away from "
                f"the present; {_TOLERANCE_SECONDS} are tolerated."
            )
        return ""


class Inbox:
    """A receiver of callbacks on a free port of this machine; use ``url`` as the callback URL of a task.

    It responds with 200, or first with the statuses that are given. Leaving it as a context manager closes it; so does
    the end of the test, if ``seedbed.inbox()`` has made it.

    Args:
        statuses: HTTP statuses of the first responses.
        signing_key: Signing key of the account, empty without one.
        now: Returns the time of the signatures in Unix seconds.

    Attributes:
        url: URL of the inbox.
    """

    def __init__(
        self, *statuses: int, signing_key: str = "", now: Callable[[], float] = time.time, path: str = "/callback"
    ) -> None:
        self._statuses = list(statuses)
        self._signing_key = signing_key
        self._now = now
        self._received: list[ReceivedCallback] = []
        self._lock = threading.Lock()
        self._server = _InboxServer(("127.0.0.1", 0), self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{path}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop receiving; what has arrived stays."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    @property
    def all(self) -> list[ReceivedCallback]:
        """All deliveries so far, oldest first; a repeated callback is in the list each time."""
        return list(self._received)

    def wait_for(
        self, task_id: str | None = None, *, number: int = 1, timeout: float = _PATIENCE_SECONDS
    ) -> ReceivedCallback:
        """Wait for a delivery and return it.

        Args:
            task_id: ID of the task; by default, any.
            number: Which delivery to return: 1 for the first, 2 for its repetition.
            timeout: Seconds to wait, in real time.

        Raises:
            TimeoutError: It has not arrived; the message says what has.
        """
        end = real_monotonic() + timeout
        while True:
            found = [each for each in self.all if task_id is None or each.task_id == task_id]
            if len(found) >= number:
                return found[number - 1]
            if real_monotonic() >= end:
                break
            time.sleep(_POLL_SECONDS)
        wanted = f"{number} deliver{'y' if number == 1 else 'ies'}" + (f" of the task {task_id}" if task_id else "")
        others = ", ".join(dict.fromkeys(each.task_id or "no task" for each in self.all)) or "nothing"
        raise TimeoutError(
            f"Expected {wanted} within {timeout:g} seconds, and {len(found)} arrived; the inbox has received {others}. "
            "Advance the clock, or check that the task was created with the URL of the inbox."
        )

    def verify(self, callback: ReceivedCallback | None = None, *, signing_key: str | None = None) -> None:
        """Check the signature of a callback, or of all that have arrived.

        Args:
            callback: The callback; by default, all.
            signing_key: Signing key; by default that of the server's account.

        Raises:
            AssertionError: A signature is missing, wrong or too old.
            ValueError: The account has no signing key.
        """
        key = self._signing_key if signing_key is None else signing_key
        if not key:
            raise ValueError("The account has no signing key; give it one, as in key='my-key:signing-key=SECRET'.")
        for each in self.all if callback is None else [callback]:
            if problem := each.problem(key, self._now()):
                raise AssertionError(problem)

    def keep(self, headers: dict[str, str], body: bytes, path: str) -> int:
        """Keep a delivery and return the HTTP status of the response."""
        with self._lock:
            status = self._statuses.pop(0) if self._statuses else 200
            self._received.append(ReceivedCallback(headers, body, status, path))
        return status


class AsyncInbox:
    """A receiver of callbacks for async tests; it does the same as an ``Inbox``.

    Args:
        inbox: The receiver.

    Attributes:
        url: URL of the inbox.
    """

    def __init__(self, inbox: Inbox) -> None:
        self.url = inbox.url
        self.verify = inbox.verify
        self._inbox = inbox

    @property
    def all(self) -> list[ReceivedCallback]:
        """All deliveries so far, oldest first."""
        return self._inbox.all

    async def wait_for(
        self, task_id: str | None = None, *, number: int = 1, timeout: float = _PATIENCE_SECONDS
    ) -> ReceivedCallback:
        """Wait for a delivery and return it: see ``Inbox.wait_for``."""
        from anyio import to_thread  # imported late: blocking tests do not need it

        wait = partial(self._inbox.wait_for, task_id, number=number, timeout=timeout)
        return await to_thread.run_sync(wait, abandon_on_cancel=True)


class _InboxServer(ThreadingHTTPServer):
    # A sender that keeps its connection open must not keep a test from ending.
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], inbox: Inbox) -> None:
        self.inbox = inbox
        super().__init__(address, _InboxHandler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore the error: a sender may leave early."""


class _InboxHandler(BaseHTTPRequestHandler):
    timeout = _CONNECTION_SECONDS

    def do_POST(self) -> None:
        """Keep a callback and respond."""
        length = 0
        with suppress(ValueError):
            length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(max(0, min(length, _LARGEST_BODY)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        server = cast("_InboxServer", self.server)
        self.send_response(server.inbox.keep(headers, body, self.path))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any, **options: Any) -> None:
        """Write nothing to standard error."""
