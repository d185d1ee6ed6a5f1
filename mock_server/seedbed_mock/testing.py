"""What a server shows: one fake after another, each with settings of its own, while the address stays."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from seedbed_schemas import job_api

from seedbed_mock.app import app_of
from seedbed_mock.control.client import ControlError, call_control_api
from seedbed_mock.settings import SettingsError

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterable
    from typing import Unpack

    from respx import MockRouter
    from seedbed_schemas import Contract
    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

    from seedbed_mock.clock import Clock
    from seedbed_mock.options import ServerKeywords
    from seedbed_mock.settings import ClockKind, Settings


class SwappableApp:
    """An ASGI application that plays another, which can be changed while the server runs.

    Args:
        app: The first fake to play.
    """

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def open(self) -> None:
        """Begin, in the event loop of the server: what a server before this one left undelivered goes out."""
        self._loop = asyncio.get_running_loop()
        self.app.state.dispatcher.wake()

    def show(self, app: Starlette) -> None:
        """Play another fake from now on; for a thread beside that of the server, and done when it returns.

        Raises:
            RuntimeError: The server has ended.
        """
        if self._loop is None or self._loop.is_closed():
            raise RuntimeError("the server has ended; play within the block of running()")
        asyncio.run_coroutine_threadsafe(self._change(app), self._loop).result()

    async def _change(self, app: Starlette) -> None:
        before, self.app = self.app, app
        await _end(before)
        app.state.dispatcher.wake()

    async def close(self) -> None:
        """End: what is not delivered is kept for who goes on."""
        await _end(self.app)


async def _end(app: Starlette) -> None:
    await app.state.dispatcher.close()
    app.state.service.store.close()


__all__ = ["ControlError", "MockServer"]

_MOST = 1000


class MockServer:
    """A server that answers.

    Args:
        url: Its base URL.
        stage: Where it plays.
    """

    def __init__(self, url: str, stage: SwappableApp) -> None:
        self.url = url
        """Its base URL."""
        self._stage = stage

    @property
    def key(self) -> str:
        """A key that it lets in."""
        return self._settings.accounts[0].key

    @property
    def _settings(self) -> Settings:
        settings: Settings = self._stage.app.state.service.settings
        return settings

    @property
    def errors(self) -> deque[Exception]:
        """Errors of the server itself, which no request should be able to cause, until somebody takes them out."""
        errors: deque[Exception] = self._stage.app.state.service.errors
        return errors

    def play(
        self, *, clock: Clock | ClockKind = "real", contracts: Iterable[Contract] = (), **words: Unpack[ServerKeywords]
    ) -> None:
        """Begin afresh on the same address: other settings, no tasks, full accounts, an empty journal.

        Args:
            clock: What time it is: a clock of your own, or which of those of the flag ``--clock``.
            contracts: Contracts of models to play beside the shipped one, or in its place.
            words: As for ``running``.

        Raises:
            SettingsError: A setting cannot be used.
            StoreError: The file of ``db`` cannot be used.
        """
        if mistaken := next((word for word in ("host", "port") if word in words), None):
            raise SettingsError(f"A server that runs keeps its address; leave out {mistaken}, or give it to running().")
        self._stage.show(app_of(words, clock, contracts))

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The calls to the service, oldest first, as the journal has them: ``operation``, ``request``, ``code`` ..."""
        entries: list[dict[str, Any]] = self.control("GET", "journal", kind="call", limit=_MOST)["entries"]
        return entries

    def advance(self, seconds: float) -> None:
        """Turn the clock forward; callbacks that come due on the way are delivered, each at its time.

        Raises:
            ControlError: The clock cannot be turned by so much.
        """
        self.control("POST", "clock", {"advance": seconds})

    def task(self, task_id: str) -> dict[str, Any]:
        """Return a task with what the service would not tell of it.

        Raises:
            ControlError: There is no such task.
        """
        return self.control("GET", f"tasks/{quote(task_id, safe='')}")

    def finish(self, task_id: str) -> None:
        """End a task now, and well.

        Raises:
            ControlError: There is no such task, or it has ended.
        """
        self.control("POST", f"tasks/{quote(task_id, safe='')}/finish")

    def fail(self, task_id: str, code: str | int | None = None, message: str | None = None) -> None:
        """Let a task fail now, which gives its price back.

        Args:
            task_id: Its name.
            code: What its record has as ``failCode``; one that was seen of the service where there is none.
            message: What it has as ``failMsg``.

        Raises:
            ControlError: There is no such task, or it has ended.
        """
        self.control("POST", f"tasks/{quote(task_id, safe='')}/fail", {"code": code, "message": message})

    def reset(self, space: str | None = None) -> None:
        """Forget all that happened, in one space or everywhere."""
        self.control("POST", "reset", {"space": space})

    def add_faults(self, *rules: str, space: str | None = None) -> None:
        """Put rules of what goes wrong in force, such as ``429; p=0.2``, for one space or for all.

        Raises:
            ControlError: One of them is no rule; none is in force.
        """
        self.control("POST", "faults", {"rules": rules, "space": space})

    def clear_faults(self, space: str | None = None) -> None:
        """Take the rules that were added out of force, those of one space or all."""
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
        """Check that an operation was called: so often, or at least once.

        Args:
            operation: Which.
            times: How often.
            code: The code that was answered.
            request: Values that the body had, among others.
            fields: Values that the input had, or ``model`` and ``callBackUrl`` beside it.

        Raises:
            AssertionError: It was not; the message tells what came nearest.
        """
        wanted = {"operation": operation, "times": times, "code": code, "request": _body(request or {}, fields)}
        verdict = self.control("POST", "verify", wanted)
        if not verdict["verified"]:
            raise AssertionError(verdict["message"])

    def respx_router(self, **options: Any) -> MockRouter:
        """Return a router of respx that answers for the paid service, by asking this server.

        Programs may use httpx, and httpx2 where pytest-httpx2 is installed.

        Args:
            options: For ``respx.MockRouter``.

        Raises:
            ModuleNotFoundError: respx is not installed.
        """
        from seedbed_mock.respx_router import SeedbedRouter  # noqa: PLC0415 (respx is there for those who use it)

        return SeedbedRouter(self.url, **options)

    def control(self, method: str, path: str, body: dict[str, Any] | None = None, **query: Any) -> dict[str, Any]:
        """Call the control API.

        Args:
            method: HTTP method.
            path: Path below ``/__seedbed/``.
            body: What to tell it.
            query: What to ask for.

        Raises:
            ControlError: It refused.
        """
        return call_control_api(self.url, self._settings.control_token or "", method, path, body, query)


def _body(request: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Return what a request's body had, where the fields of its input stand beside those of the whole."""
    names = job_api().fields
    beside = {name: value for name, value in fields.items() if name in {names.model, names.callback}}
    inside = {name: value for name, value in fields.items() if name not in beside}
    return {**request, **beside, **({names.input: inside} if inside else {})}
