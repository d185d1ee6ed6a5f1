"""The handles of a running mock server, with which a test inspects and controls it: a blocking and an async one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar
from urllib.parse import quote, urlencode

from seedbed_schemas import job_api

from seedbed_mock.app import build_app
from seedbed_mock.bill import PROCESS, Bill
from seedbed_mock.clock import real_monotonic
from seedbed_mock.control.client import ControlError, read_response
from seedbed_mock.options import ServerOptions, method_keywords_of
from seedbed_mock.settings import CONTROL_ROOT, SettingsError

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from types import TracebackType

    from respx import MockRouter

    from seedbed_mock.callbacks.inbox import AsyncInbox, Inbox
    from seedbed_mock.interception.setup import Intercepted, Interception
    from seedbed_mock.settings import Egress
    from seedbed_mock.state import InternalError, Service
    from seedbed_mock.swappable import SwappableApp
    from seedbed_mock.verdicts import ProgramVerdict


__all__ = ["AsyncMockServer", "ControlError", "MockServer"]

_Result = TypeVar("_Result")

# The largest limit that the control API accepts.
_MOST_ENTRIES: Final = 1000

_PATIENCE_SECONDS: Final = 10.0
"""How long to wait for callbacks by default."""

_POLL_SECONDS: Final = 0.01


def _refuse_front(_: Interception) -> NoReturn:
    raise RuntimeError("This server is not one that can intercept; use running() or the fixture seedbed.")


class MockServer:
    """A running mock server.

    Leaving it as a context manager stops it.

    Args:
        url: Base URL of the server.
        app: Its application.
        stop: Stops the server.
        open_front: Intercepts on a further port; it returns its URL and a function that ends it.

    Attributes:
        url: Base URL of the server.
    """

    def __init__(
        self,
        url: str,
        app: SwappableApp,
        stop: Callable[[], None] = lambda: None,
        open_front: Callable[[Interception], tuple[str, Callable[[], None]]] = _refuse_front,
    ) -> None:
        self.url = url
        self._app = app
        self._stop = stop
        self._open_front = open_front
        self._at_stop = contextlib.ExitStack()
        self._earlier = Bill()
        PROCESS.open(self, lambda: self.bill)
        self._inboxes: list[Inbox] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop the server and wait until it has stopped.

        Raises:
            RuntimeError: It does not stop, or its thread ended with an error.
        """
        self._close_inboxes()
        try:
            self._stop()
        finally:
            PROCESS.close(self)
            self._at_stop.close()

    @property
    def bill(self) -> Bill:
        """What the calls since the start of the server would have cost at the real service."""
        return self._earlier + self._service.ledger.bill()

    def _close_inboxes(self) -> None:
        while self._inboxes:
            self._inboxes.pop().close()

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
        app, before = build_app(ServerOptions.from_keywords(options)), self._service.ledger
        self._app.replace(app)
        self._earlier += before.bill()
        # Those of the previous test.
        self._close_inboxes()

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The latest requests, oldest first: journal entries with ``operation``, ``request``, ``code`` and more."""
        return self._listed("journal", "entries", kind="call")

    @property
    def unmatched(self) -> list[dict[str, Any]]:
        """The latest requests to no operation, oldest first: journal entries with a ``hint`` at what is wrong."""
        return self._listed("journal", "entries", kind="unmatched")

    @property
    def callbacks(self) -> list[dict[str, Any]]:
        """The callbacks of all tasks, oldest first, with ``task_id``, ``url``, ``outcome`` and ``attempts``."""
        return self._listed("callbacks", "callbacks")

    def _listed(self, path: str, name: str, **query: str) -> list[dict[str, Any]]:
        """Return a whole list of the control API, whose pages begin with the newest items, oldest first."""
        listed: list[dict[str, Any]] = []
        page: dict[str, Any] = {}
        while not page or "before" in page:
            before = {"before": page["before"]} if page else {}
            page = self.control("GET", path, None, limit=_MOST_ENTRIES, **query, **before)
            # The entries of the journal are oldest first within a page, too.
            listed[:0] = page[name] if name == "entries" else page[name][::-1]
        return listed

    def wait_for_callback(self, task_id: str, *, timeout: float = _PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait until the callback of a task is delivered or given up, and return it.

        Args:
            task_id: ID of the task.
            timeout: Seconds to wait, in real time.

        Raises:
            ControlError: There is no such task.
            RuntimeError: The task has no callback, or an event loop runs in this thread.
            TimeoutError: The callback is still waiting; the message says what it waits for.
        """
        _refuse_in_event_loop("wait_for_callback")

        def is_done() -> dict[str, Any] | None:
            callback: dict[str, Any] | None = self.task(task_id)["callback"]
            if callback is None:
                raise RuntimeError(f"The task {task_id} was created without a callback URL.")
            return callback if _has_ended(callback) else None

        found = _poll(is_done, timeout)
        if found is None:
            task = self.task(task_id)
            raise TimeoutError(
                f"The callback of the task {task_id} is still {task['callback']['outcome']} after {timeout:g} seconds, "
                f"and its task is {task['state']}; advance the clock, or check that the receiver responds."
            )
        return found

    def wait_for_callbacks(
        self, number: int | None = None, *, timeout: float = _PATIENCE_SECONDS
    ) -> list[dict[str, Any]]:
        """Wait until callbacks are delivered or given up, and return them, oldest first.

        Args:
            number: How many to wait for; by default those of all tasks that were created.
            timeout: Seconds to wait, in real time.

        Raises:
            RuntimeError: An event loop runs in this thread.
            TimeoutError: Fewer callbacks than this are delivered or given up.
        """
        _refuse_in_event_loop("wait_for_callbacks")

        def are_done() -> list[dict[str, Any]] | None:
            callbacks = self.callbacks
            ended = [each for each in callbacks if _has_ended(each)]
            return ended if len(ended) >= (len(callbacks) if number is None else number) else None

        found = _poll(are_done, timeout)
        if found is None:
            outcomes = [each["outcome"] for each in self.callbacks]
            wanted, waiting = len(outcomes) if number is None else number, outcomes.count("waiting")
            raise TimeoutError(
                f"Expected {wanted} callbacks within {timeout:g} seconds; of {len(outcomes)}, {waiting} are still "
                "waiting. Advance the clock, or check that the receiver responds."
            )
        return found

    def inbox(self, *statuses: int) -> Inbox:
        """Return a receiver of callbacks: create tasks with its ``url``, then use ``wait_for``, ``all`` and ``verify``.

        It is closed when the server starts over or stops.

        Args:
            statuses: HTTP statuses of its first responses, such as 500 for a receiver that fails once; then it is 200.
        """
        from seedbed_mock.callbacks.inbox import Inbox  # most tests receive no callbacks

        options, clock = self._service.options, self._service.clock
        key = options.accounts[0].signing_key
        inbox = Inbox(*statuses, signing_key=key, now=clock.now if options.sign_with == "clock" else time.time)
        self._inboxes.append(inbox)
        return inbox

    def verdict(self, images: int = 0) -> ProgramVerdict:
        """Return what the calls so far would have lost at the real service: see the verdicts of ``seedbed drill``.

        Args:
            images: Number of images that the program claims to have.
        """
        from seedbed_mock.observation import ProgramExit, control_of_test, observe  # most tests need no verdict
        from seedbed_mock.verdicts import ProgramVerdict, verdicts_on

        service = self._service
        begun = round(service.started_at * 1000)
        seen = self._app.run(lambda: observe(service, ProgramExit(0), begun, service.now()))
        return ProgramVerdict(verdicts_on(seen, control_of_test(seen, images)))

    def advance(self, seconds: float) -> None:
        """Advance the clock; callbacks that become due meanwhile are delivered, each at its time.

        Raises:
            ControlError: The clock cannot advance by this number of seconds.
            RuntimeError: An event loop runs in this thread.
        """
        _refuse_in_event_loop("advance")
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
            RuntimeError: An event loop runs in this thread.
        """
        _refuse_in_event_loop("finish")
        self.control("POST", f"tasks/{quote(task_id, safe='')}/finish")

    def fail(self, task_id: str, code: str | int | None = None, message: str | None = None) -> None:
        """Let a task fail now, which refunds its price.

        Args:
            task_id: ID of the task.
            code: ``failCode`` of its record; by default one that the real service is known to send.
            message: ``failMsg`` of its record.

        Raises:
            ControlError: There is no such task, or it has ended.
            RuntimeError: An event loop runs in this thread.
        """
        _refuse_in_event_loop("fail")
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
            fields: Values in the input of a createTask request, or ``model`` and ``callBackUrl`` beside it.

        Raises:
            AssertionError: The calls were not made as expected; the message describes the nearest one.
            TypeError: No model has such a field.
        """
        names = job_api().fields
        self._check_fields(operation, fields)
        body = {
            **(request or {}),
            **{name: fields.pop(name) for name in (names.model, names.callback) if name in fields},
        }
        if fields:
            body[names.input] = {**body.get(names.input, {}), **fields}
        wanted = {"operation": operation, "times": times, "code": code, "request": body}
        verdict = self.control("POST", "verify", wanted)
        if not verdict["verified"]:
            raise AssertionError(verdict["message"])

    def _check_fields(self, operation: str, fields: dict[str, Any]) -> None:
        """Refuse a misspelt field: no call has it, so that ``times=0`` would be met by any."""
        names = job_api().fields
        if fields and operation != "createTask":
            raise TypeError(f"{operation} has no field {next(iter(fields))}; give its body with request={{...}}.")
        known = {names.model, names.callback}
        for model in self._service.catalogue.models.values():
            known |= model.contract.input_fields.keys()
        if unknown := next((name for name in fields if name not in known), None):
            nearest = get_close_matches(unknown, known, 1, 0.6)
            hint = f"did you mean {nearest[0]}?" if nearest else f"the fields are {', '.join(sorted(known))}."
            raise TypeError(f"No model has a field {unknown}; {hint} For other values of a body, use request=.")

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

    def intercept(self, *hosts: str, egress: Egress = "allow") -> Intercepted:
        """Let programs that have the address of the paid service built in reach this server.

        Start them with the ``env`` of what this returns, for example
        ``subprocess.run(command, env=seedbed.intercept().env)``.

        Args:
            hosts: Further hosts to stand in for, as ``HOST`` or ``HOST:PORT``.
            egress: What becomes of connections to other hosts: ``allow`` or ``deny``.

        Raises:
            RuntimeError: The server has stopped.
            SettingsError: A host is invalid.
        """
        from seedbed_mock.interception.setup import (
            Intercepted,
            InterceptionSession,
        )  # cryptography takes time to load

        reports: list[str] = []
        session = InterceptionSession(self._service.options.patched_contracts, hosts, egress, write=reports.append)
        try:
            url, end = self._open_front(session.interception)
        except BaseException:
            session.close()
            raise
        intercepted = Intercepted(session, url, end, reports)
        self._at_stop.callback(intercepted.close)
        return intercepted

    def control(self, method: str, path: str, body: dict[str, Any] | None = None, **query: Any) -> dict[str, Any]:
        """Call the control API and return the body of the response.

        The request goes to the server without a socket, so that nothing that a test replaces can record or block it.

        Args:
            method: HTTP method.
            path: Path below ``/__seedbed/``.
            body: JSON body.
            query: Query parameters.

        Raises:
            ControlError: The control API refuses the request.
            RuntimeError: The server has stopped.
            TimeoutError: There is no response within a minute.
        """
        target = f"{CONTROL_ROOT}/{path}{'?' if query else ''}{urlencode(query)}"
        token = self._service.options.control_token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return read_response(
            *self._app.call(method, target, headers, b"" if body is None else json.dumps(body).encode())
        )


def _has_ended(callback: dict[str, Any]) -> bool:
    return bool(callback["outcome"] != "waiting")


def _poll(find: Callable[[], _Result | None], timeout: float) -> _Result | None:
    """Return what a function finds, ``None`` if that is nothing within a number of seconds."""
    end = real_monotonic() + timeout
    while (found := find()) is None and real_monotonic() < end:
        time.sleep(_POLL_SECONDS)
    return found


def _refuse_in_event_loop(method: str) -> None:
    """Raise an error in an event loop: a receiver of callbacks in the same loop could not respond meanwhile."""
    trio = sys.modules.get("trio")
    is_in_loop = bool(trio and trio.lowlevel.in_trio_run())
    with contextlib.suppress(RuntimeError):
        is_in_loop = bool(asyncio.get_running_loop())
    if is_in_loop:
        raise RuntimeError(
            f"{method}() would block the event loop of this thread while it waits for callbacks; use the fixture "
            f"aseedbed or running_async(), and await {method}()."
        )


class AsyncMockServer:
    """A running mock server for async tests, with asyncio or trio.

    The methods do the same as those of :class:`MockServer`, and leave the event loop free meanwhile.

    Args:
        server: The server.

    Attributes:
        url: Base URL of the server.
    """

    def __init__(self, server: MockServer) -> None:
        self.url = server.url
        self._server = server

    @property
    def key(self) -> str:
        """An API key that the server accepts."""
        return self._server.key

    @property
    def errors(self) -> deque[InternalError]:
        """Internal errors of the server, which no request should be able to cause. Clear it to ignore them."""
        return self._server.errors

    async def stop(self) -> None:
        """Stop the server: see :meth:`MockServer.stop`."""
        await _in_thread(self._server.stop)

    @method_keywords_of(ServerOptions)
    async def play(self, **options: Any) -> None:
        """Start over at the same address with other options: see :meth:`MockServer.play`."""
        await _in_thread(lambda: self._server.play(**options))

    async def bill(self) -> Bill:
        """Return what the calls would have cost: see :attr:`MockServer.bill`."""
        return await _in_thread(lambda: self._server.bill)

    async def calls(self) -> list[dict[str, Any]]:
        """Return the latest requests, oldest first: see :attr:`MockServer.calls`."""
        return await _in_thread(lambda: self._server.calls)

    async def unmatched(self) -> list[dict[str, Any]]:
        """Return the latest requests to no operation: see :attr:`MockServer.unmatched`."""
        return await _in_thread(lambda: self._server.unmatched)

    async def callbacks(self) -> list[dict[str, Any]]:
        """Return the callbacks of all tasks, oldest first: see :attr:`MockServer.callbacks`."""
        return await _in_thread(lambda: self._server.callbacks)

    async def wait_for_callback(self, task_id: str, *, timeout: float = _PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait for the callback of a task: see :meth:`MockServer.wait_for_callback`."""
        return await _in_thread(lambda: self._server.wait_for_callback(task_id, timeout=timeout))

    async def wait_for_callbacks(
        self, number: int | None = None, *, timeout: float = _PATIENCE_SECONDS
    ) -> list[dict[str, Any]]:
        """Wait for several callbacks: see :meth:`MockServer.wait_for_callbacks`."""
        return await _in_thread(lambda: self._server.wait_for_callbacks(number, timeout=timeout))

    async def verdict(self, images: int = 0) -> ProgramVerdict:
        """Return what the calls so far would have lost: see :meth:`MockServer.verdict`."""
        return await _in_thread(lambda: self._server.verdict(images))

    def inbox(self, *statuses: int) -> AsyncInbox:
        """Return a receiver of callbacks: see :meth:`MockServer.inbox`."""
        from seedbed_mock.callbacks.inbox import AsyncInbox  # see MockServer.inbox

        return AsyncInbox(self._server.inbox(*statuses))

    async def advance(self, seconds: float) -> None:
        """Advance the clock: see :meth:`MockServer.advance`."""
        await _in_thread(lambda: self._server.advance(seconds))

    async def task(self, task_id: str) -> dict[str, Any]:
        """Return a task: see :meth:`MockServer.task`."""
        return await _in_thread(lambda: self._server.task(task_id))

    async def finish(self, task_id: str) -> None:
        """End a task successfully now: see :meth:`MockServer.finish`."""
        await _in_thread(lambda: self._server.finish(task_id))

    async def fail(self, task_id: str, code: str | int | None = None, message: str | None = None) -> None:
        """Let a task fail now: see :meth:`MockServer.fail`."""
        await _in_thread(lambda: self._server.fail(task_id, code, message))

    async def reset(self, space: str | None = None) -> None:
        """Delete everything that happened in one space, or in all: see :meth:`MockServer.reset`."""
        await _in_thread(lambda: self._server.reset(space))

    async def add_faults(self, *rules: str, space: str | None = None) -> None:
        """Add fault rules: see :meth:`MockServer.add_faults`."""
        await _in_thread(lambda: self._server.add_faults(*rules, space=space))

    async def clear_faults(self, space: str | None = None) -> None:
        """Remove the fault rules that were added: see :meth:`MockServer.clear_faults`."""
        await _in_thread(lambda: self._server.clear_faults(space))

    async def assert_called(self, operation: str = "createTask", times: int | None = None, **expected: Any) -> None:
        """Assert that an operation was called: see :meth:`MockServer.assert_called`."""
        await _in_thread(lambda: self._server.assert_called(operation, times, **expected))

    def respx_router(self, **options: Any) -> MockRouter:
        """Return a respx router: see :meth:`MockServer.respx_router`."""
        return self._server.respx_router(**options)

    async def intercept(self, *hosts: str, egress: Egress = "allow") -> Intercepted:
        """Let programs reach this server at the address of the paid service: see :meth:`MockServer.intercept`."""
        return await _in_thread(lambda: self._server.intercept(*hosts, egress=egress))

    async def control(self, method: str, path: str, body: dict[str, Any] | None = None, **query: Any) -> dict[str, Any]:
        """Call the control API: see :meth:`MockServer.control`."""
        return await _in_thread(lambda: self._server.control(method, path, body, **query))


async def _in_thread(function: Callable[[], _Result]) -> _Result:
    from anyio import to_thread  # imported late: blocking tests do not need it

    return await to_thread.run_sync(function, abandon_on_cancel=True)
