"""The handle of a running mock server, with which a test inspects and controls it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from seedbed_schemas import job_api

from seedbed_mock.app import build_app
from seedbed_mock.control.client import ControlError, call_control_api
from seedbed_mock.options import ServerOptions, method_keywords_of
from seedbed_mock.settings import SettingsError

if TYPE_CHECKING:
    from collections import deque

    from respx import MockRouter

    from seedbed_mock.app import SwappableApp
    from seedbed_mock.state import InternalError, Service


__all__ = ["ControlError", "MockServer"]

# The largest limit that the control API accepts.
_MOST_CALLS = 1000


class MockServer:
    """A running mock server.

    Args:
        url: Base URL of the server.
        app: Its application.

    Attributes:
        url: Base URL of the server.
    """

    def __init__(self, url: str, app: SwappableApp) -> None:
        self.url = url
        self._app = app

    @property
    def _service(self) -> Service:
        service: Service = self._app.app.state.service
        return service

    @property
    def key(self) -> str:
        """An API key that the server accepts."""
        return self._service.options.accounts[0].key

    @property
    def errors(self) -> deque[InternalError]:
        """Internal errors of the server, which no request should be able to cause. Clear it to ignore them."""
        return self._service.errors

    @method_keywords_of(ServerOptions)
    def play(self, **options: Any) -> None:
        """Start over at the same address with other options: no tasks, full balances, an empty journal.

        Args:
            options: The options of :func:`seedbed_mock.running`, except ``host`` and ``port``.

        Raises:
            SettingsError: An option is unknown or invalid.
            StoreError: The file of ``db`` cannot be used.
        """
        # The socket belongs to running(), and clients know its address.
        if fixed := next((name for name in ("host", "port") if name in options), None):
            raise SettingsError(f"A running server keeps its {fixed}; pass {fixed} to running().")
        self._app.replace(build_app(ServerOptions.from_keywords(options)))

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The latest requests, oldest first: journal entries with ``operation``, ``request``, ``code`` and more."""
        entries: list[dict[str, Any]] = self.control("GET", "journal", kind="call", limit=_MOST_CALLS)["entries"]
        return entries

    def advance(self, seconds: float) -> None:
        """Advance the clock; callbacks that become due meanwhile are delivered, each at its time.

        Raises:
            ControlError: The clock cannot advance by this number of seconds.
        """
        self.control("POST", "clock", {"advance": seconds})

    def task(self, task_id: str) -> dict[str, Any]:
        """Return a task with its record and what the service does not show, such as its callback and its refund.

        Raises:
            ControlError: There is no such task.
        """
        return self.control("GET", f"tasks/{quote(task_id, safe='')}")

    def finish(self, task_id: str) -> None:
        """End a task successfully now.

        Raises:
            ControlError: There is no such task, or it has ended.
        """
        self.control("POST", f"tasks/{quote(task_id, safe='')}/finish")

    def fail(self, task_id: str, code: str | int | None = None, message: str | None = None) -> None:
        """Let a task fail now, which refunds its price.

        Args:
            task_id: ID of the task.
            code: ``failCode`` of its record; by default one that the real service is known to send.
            message: ``failMsg`` of its record.

        Raises:
            ControlError: There is no such task, or it has ended.
        """
        self.control("POST", f"tasks/{quote(task_id, safe='')}/fail", {"code": code, "message": message})

    def reset(self, space: str | None = None) -> None:
        """Delete tasks, balances, the journal and added faults of one space, or of all."""
        self.control("POST", "reset", {"space": space})

    def add_faults(self, *rules: str, space: str | None = None) -> None:
        """Add fault rules, such as ``429; p=0.2``, for one space or for all.

        Raises:
            ControlError: A rule is invalid; none is added.
        """
        self.control("POST", "faults", {"rules": rules, "space": space})

    def clear_faults(self, space: str | None = None) -> None:
        """Remove the fault rules that were added, those of one space or all."""
        query: dict[str, Any] = {"space": space} if space else {}
        self.control("DELETE", "faults", **query)

    def assert_called(
        self,
        operation: str = "createTask",
        times: int | None = None,
        *,
        code: int | None = None,
        request: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Assert that an operation was called, at least once or an exact number of times.

        Args:
            operation: Name of the operation.
            times: Exact number of calls.
            code: Code of the response.
            request: Values in the request body; the body may have more.
            fields: Values in the input of the request, or ``model`` and ``callBackUrl`` beside it.

        Raises:
            AssertionError: The calls were not made as expected; the message describes the nearest one.
        """
        names = job_api().fields
        body = {
            **(request or {}),
            **{name: fields.pop(name) for name in (names.model, names.callback) if name in fields},
        }
        if fields:
            body[names.input] = fields
        wanted = {"operation": operation, "times": times, "code": code, "request": body}
        verdict = self.control("POST", "verify", wanted)
        if not verdict["verified"]:
            raise AssertionError(verdict["message"])

    def respx_router(self, **options: Any) -> MockRouter:
        """Return a respx router that sends requests for the paid service to this server.

        It works for programs that use httpx, and for httpx2 if pytest-httpx2 is installed.

        Args:
            options: Options of ``respx.MockRouter``.

        Raises:
            ModuleNotFoundError: respx is not installed.
        """
        from seedbed_mock.respx_router import SeedbedRouter  # respx is an optional dependency

        return SeedbedRouter(self.url, **options)

    def control(self, method: str, path: str, body: dict[str, Any] | None = None, **query: Any) -> dict[str, Any]:
        """Send a request to the control API and return the body of the response.

        Args:
            method: HTTP method.
            path: Path below ``/__seedbed/``.
            body: JSON body.
            query: Query parameters.

        Raises:
            ControlError: The control API refuses the request.
        """
        return call_control_api(self.url, self._service.options.control_token or "", method, path, body, query)
