"""An application that can be replaced and called while its server runs, from other threads too."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Final, TypeVar

from seedbed_mock.clock import FollowingClock, real_time
from seedbed_mock.in_process import call_in_process

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

    from seedbed_mock.asgi import OperationEndpoint
    from seedbed_mock.clock import Clock


_Result = TypeVar("_Result")

_CALL_SECONDS: Final = 60
_CONNECTION: Final = {"type": "http", "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", None)}


class SwappableApp:
    """An ASGI application that can be replaced while the server runs.

    Args:
        app: The first application.
    """

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self._ports: frozenset[int] = frozenset()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Pass a request on."""
        return self.app(scope, receive, send)

    def endpoint_at(self, method: str, path: str) -> OperationEndpoint | None:
        """Return the operation that may respond before a task of the event loop runs."""
        # Another application may stand around the mock service.
        find: Callable[[str, str], OperationEndpoint | None] | None = getattr(self.app, "endpoint_at", None)
        return find(method, path) if find else None

    async def start(self, ports: Iterable[int] = ()) -> None:
        """Start in the event loop of the server; callbacks that an earlier server did not deliver are sent.

        Args:
            ports: Ports on which the server listens.

        Raises:
            StoreError: The store cannot be used.
        """
        self._loop, self._ports = asyncio.get_running_loop(), frozenset(ports)
        await _begin(self.app, self._ports)

    def replace(self, app: Starlette) -> None:
        """Replace the application, from a thread other than the server's, and return when it is replaced.

        Raises:
            RuntimeError: The server has stopped.
        """

        async def swap() -> None:
            before, self.app = self.app, app
            await _close(before)
            await _begin(app, self._ports)

        self.run(swap)

    def call(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Send a request without a socket, from a thread other than the server's, and return its status and body.

        Tests replace sockets and HTTP clients, to record what their programs send or to forbid it.

        Raises:
            ConnectionError: The server ends the connection without a response.
            RuntimeError: The server has stopped.
            TimeoutError: There is no response within a minute.
        """
        response = self.run(lambda: call_in_process(self.app, _CONNECTION, method, target, headers=headers, body=body))
        return response.status, response.body

    def run(self, function: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """Run a function in the event loop of the server, from another thread, and return its result.

        Raises:
            RuntimeError: The server has stopped.
            TimeoutError: The function has not ended within a minute.
        """
        if self._loop is None or self._loop.is_closed():
            raise RuntimeError("The server has stopped; its handle works until then.")
        future = asyncio.run_coroutine_threadsafe(function(), self._loop)
        try:
            return future.result(_CALL_SECONDS)
        except TimeoutError:
            future.cancel()
            raise TimeoutError(f"The server has not responded for {_CALL_SECONDS} seconds.") from None
        except CancelledError:
            raise RuntimeError("The server has stopped meanwhile.") from None

    def shown_time(self) -> float:
        """Return the time of the Date header, in Unix seconds: that of the system, unless the clock follows the test.

        Clients compare this header with their own time, so that a clock which is advanced or faster does not change it.
        """
        clock: Clock = self.app.state.service.clock
        return clock.now() if isinstance(clock, FollowingClock) else real_time()

    def abandon(self) -> None:
        """Release what the application holds, for a server that did not start."""
        self.app.state.service.store.abandon()

    def end_streams(self) -> None:
        """End the streams of all pages, which would otherwise go on until the server has stopped waiting for them."""
        if self.app.state.dashboard:
            self.app.state.dashboard.close()
        if self.app.state.agents:
            self.app.state.agents.end()

    async def close(self) -> None:
        """Stop; a store on disk keeps the callbacks that are not delivered."""
        await _close(self.app)


async def _begin(app: Starlette, ports: frozenset[int]) -> None:
    await app.state.service.open()
    app.state.service.ports |= ports
    if fleet := app.state.service.fleet:
        await fleet.share_ports(ports)
    app.state.dispatcher.wake()
    if isinstance(clock := app.state.service.clock, FollowingClock):
        clock.start_following(asyncio.get_running_loop())


async def _close(app: Starlette) -> None:
    if app.state.agents:
        await app.state.agents.close()
    if app.state.dashboard:
        app.state.dashboard.close()
    if isinstance(clock := app.state.service.clock, FollowingClock):
        clock.stop_following()
    if app.state.auto_advance:
        await app.state.auto_advance.close()
    await app.state.dispatcher.close()
    if app.state.front:
        await app.state.front.close()
    if app.state.service.fleet:
        await app.state.service.fleet.close()
    await app.state.service.store.close()
