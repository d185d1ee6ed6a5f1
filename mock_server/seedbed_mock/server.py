"""A mock service on a real socket: for the lifetime of a process, or of a ``with`` block."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from email.utils import formatdate
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import uvicorn
from seedbed_schemas import local

from seedbed_mock.app import build_app
from seedbed_mock.direct_protocol import DirectProtocol
from seedbed_mock.options import ServerOptions, keywords_of
from seedbed_mock.protocol import LimitedConfig
from seedbed_mock.sockets import listen, ports_of, url_of
from seedbed_mock.swappable import SwappableApp
from seedbed_mock.testing import AsyncMockServer, MockServer

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
    from types import FrameType

    from starlette.applications import Starlette

    from seedbed_mock.interception.front import ConnectionFront
    from seedbed_mock.interception.setup import Interception


_Result = TypeVar("_Result")

_GRACE_SECONDS = 0.5
"""How long requests may take to finish when the server stops."""

_END_SECONDS = 5.0
"""How long the server may take to stop before its process ends all the same."""

_TICKS_PER_SECOND = 10
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


_START_SECONDS: Final = 30
_STOP_SECONDS: Final = 10


@keywords_of(ServerOptions)
@contextlib.contextmanager
def running(**options: Any) -> Iterator[MockServer]:
    """Run a mock server in a thread while the block runs, on a free port by default.

    Args:
        options: The fields of :class:`seedbed_mock.options.ServerOptions`, which are the options of ``seedbed serve``
            with underscores; ``clock`` also takes a clock of your own, and ``contracts`` takes contracts.

    Raises:
        ListenError: The server cannot listen on the address.
        SettingsError: An option is unknown or invalid.
        StoreError: The file of ``db`` cannot be used.
    """
    with start_server(ServerOptions.from_keywords(options)) as server:
        yield server


@keywords_of(ServerOptions)
@contextlib.asynccontextmanager
async def running_async(**options: Any) -> AsyncIterator[AsyncMockServer]:
    """Run a mock server in a thread while the block runs, with a handle whose methods are awaited.

    It works with asyncio and trio. The server has an event loop of its own, so that yours can receive callbacks.

    Args:
        options: The options of :func:`running`.

    Raises:
        ListenError: The server cannot listen on the address.
        SettingsError: An option is unknown or invalid.
        StoreError: The file of ``db`` cannot be used.
    """
    from anyio import CancelScope, to_thread  # imported late: most servers are used without it

    server = await to_thread.run_sync(start_server, ServerOptions.from_keywords(options))
    try:
        yield AsyncMockServer(server)
    finally:
        # Also when the block is cancelled: otherwise the thread and its socket would stay.
        with CancelScope(shield=True):
            await to_thread.run_sync(server.stop)


def start_server(
    options: ServerOptions,
    interception: Interception | None = None,
    build: Callable[[ServerOptions], Starlette] = build_app,
) -> MockServer:
    """Start a mock server in a thread; it runs until ``stop()`` is called or its ``with`` block ends.

    Args:
        options: Options of the server.
        interception: What it intercepts; by default what the options say.
        build: Returns its application.

    Raises:
        ListenError: The server cannot listen on the address.
        RuntimeError: The server does not start.
        SettingsError: An option is invalid.
        StoreError: The file of ``db`` cannot be used.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(options.host, options.port))
        app = SwappableApp(build(options))
        stack.callback(app.abandon)
        thread = _ServerThread(app, listener, interception or interception_of(options))
        url = url_of(listener)
        thread.start()
        stack.pop_all()
    return MockServer(url, app, thread.stop, thread.intercept)


def interception_of(options: ServerOptions, write: Callable[[str], None] | None = None) -> Interception | None:
    """Return what the options of a server let it intercept, ``None`` for nothing.

    Args:
        options: The options, which are checked.
        write: Takes what is reported about connections; by default it is logged.

    Raises:
        SettingsError: An option is invalid, or its files cannot be used.
    """
    if not options.has_tls:
        return None
    from seedbed_mock.interception.setup import Interception, Reporter  # cryptography takes 30 ms to load

    return Interception.of_options(options, Reporter(write))


class _ServerThread:
    """A server in a thread; what happens in the thread is raised in the thread that starts and stops it.

    Args:
        app: The application.
        listener: The listening socket, which the server closes.
        interception: What the server intercepts.
    """

    def __init__(self, app: SwappableApp, listener: socket.socket, interception: Interception | None) -> None:
        self._ready = threading.Event()
        self._server = _UvicornServer(app, self._on_ready, app.app.state.service.options, interception)
        self._thread = threading.Thread(target=self._run, args=(listener,), name="seedbed", daemon=True)
        self._error: BaseException | None = None

    def _run(self, listener: socket.socket) -> None:
        try:
            # uvicorn's own run() makes the coroutine before the loop, and never awaits it if there is no loop.
            with asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
                runner.get_loop()
                runner.run(self._server.serve([listener]))
            if not self._ready.is_set():
                self._error = RuntimeError("The server ended before it was ready.")
        except BaseException as error:
            self._error = error
        finally:
            listener.close()
            self._ready.set()

    async def _on_ready(self) -> None:
        self._ready.set()

    def start(self) -> None:
        """Start the thread and return when the server is ready."""
        # With green threads, the event loop of the server would stop all others, and no deadline would ever end.
        if not isinstance(_thread.get_ident, BuiltinFunctionType):
            raise NotImplementedError(
                "gevent or eventlet has replaced the threads of this process, and a server needs a real one; run "
                "seedbed serve as a process of its own."
            )
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            self._server.stop()
            raise RuntimeError(f"The server is not ready after {_START_SECONDS} seconds.")
        self._raise_error()

    def stop(self) -> None:
        """Stop the server and return when its thread has ended."""
        self._server.stop()
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError(f"The server has not stopped after {_STOP_SECONDS} seconds.")
        self._raise_error()

    def intercept(self, interception: Interception) -> tuple[str, Callable[[], None]]:
        """Intercept on a further port of this machine, and return its URL and a function that ends it.

        Raises:
            RuntimeError: The server has stopped.
        """
        if not self._thread.is_alive():
            raise RuntimeError("The server has stopped; it can intercept until then.")
        server, listener = self._server, listen(local.HOST, 0)
        opening = asyncio.run_coroutine_threadsafe(server.open_front(listener, interception), server.loop)
        url, front = url_of(listener), opening.result(_START_SECONDS)

        def end() -> None:
            # The server may have stopped, and the front with it.
            with contextlib.suppress(RuntimeError):
                server.loop.call_soon_threadsafe(server.close_front, front)

        return url, end

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if isinstance(error, Exception):
            raise error
        if error:
            raise RuntimeError(f"The thread of the server ended with {error!r}.") from error


def serve_until_signal(
    app: Starlette,
    listeners: Sequence[socket.socket],
    on_ready: Callable[[], Coroutine[Any, Any, None]],
    interception: Interception | None = None,
) -> None:
    """Serve on sockets until SIGINT or SIGTERM. A second signal ends the process at once.

    Args:
        app: The application.
        listeners: The listening sockets.
        on_ready: Awaited when the server accepts requests.
        interception: What the server intercepts.
    """
    server = _UvicornServer(SwappableApp(app), on_ready, app.state.service.options, interception)

    def stop(number: int, _: FrameType | None) -> None:
        if server.should_exit:
            os._exit(128 + number)
        # A second signal ends the process even while no Python code can run.
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        # A thread of the system that needs no lock of Python: it ends the process whatever the server is doing.
        faulthandler.dump_traceback_later(_END_SECONDS, file=nowhere, exit=True)
        server.stop()

    # Imported modules stay in memory; searching them for garbage would delay responses by 50 ms each time.
    gc.freeze()
    gc.enable()
    server.on_signal = stop
    for number in _SIGNALS:
        signal.signal(number, stop)
    # Open until the process ends, since the interpreter can wait for threads after this function.
    nowhere = open(os.devnull, "w")  # noqa: SIM115, PTH123
    server.run(list(listeners))


class _OwnRecords(logging.Filter):
    """Drops what uvicorn logs below a level in the thread of one server; other servers of the process log as before.

    Attributes:
        thread: Identifier of the thread.
        least: Level from which on records are logged.
    """

    least = logging.WARNING

    def __init__(self) -> None:
        super().__init__()
        self.thread = 0

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self.thread or record.levelno >= self.least


class _UvicornServer(uvicorn.Server):
    """uvicorn with the lifetime of a :class:`SwappableApp`, and with an end that nothing can delay.

    Args:
        app: The application.
        on_ready: Awaited in the event loop when the server accepts requests.
        options: Options of the server.
        interception: What the server intercepts.
    """

    def __init__(
        self,
        app: SwappableApp,
        on_ready: Callable[[], Coroutine[Any, Any, None]],
        options: ServerOptions | None = None,
        interception: Interception | None = None,
    ) -> None:
        options = options or ServerOptions()
        config = LimitedConfig(
            options,
            app=app,
            http=DirectProtocol,
            interface="asgi3",
            loop="asyncio" if sys.platform == "win32" else "uvloop",
            ws="none",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            # Typed as int, but uvicorn passes it to asyncio, which takes fractions of a second.
            timeout_keep_alive=cast("int", options.keep_alive),
        )
        super().__init__(config)
        self._app = app
        self._on_ready = on_ready
        self._limits = options
        self._interception = interception
        self._quiet = _OwnRecords()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()
        self.on_signal: Callable[[int, FrameType | None], None] = super().handle_exit

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._quiet.thread, log = threading.get_ident(), logging.getLogger("uvicorn.error")
        log.addFilter(self._quiet)
        try:
            await super().serve(sockets)
        except BaseException:
            # uvicorn skips its shutdown, and the sockets and the deliveries would stay.
            for each in getattr(self, "servers", ()):
                each.close()
            await self._app.close()
            raise
        finally:
            log.removeFilter(self._quiet)

    def stop(self) -> None:
        """Stop the server, from any thread or a signal handler."""
        self.should_exit = True
        # The loop may be closed already.
        with contextlib.suppress(RuntimeError):
            if self._loop:
                self._loop.call_soon_threadsafe(self._stopped.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Do what the process does for a signal; uvicorn calls this while it runs in the main thread."""
        self.on_signal(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_default_executor(_DaemonThreads())
        await super().startup([] if self._interception else sockets)
        if self._interception:
            for listener in sockets or ():
                await self.open_front(listener, self._interception)
        await self._app.start(ports_of(sockets or ()))
        await self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        # Not uvicorn's own date, which is that of a test that has replaced the time.
        date = formatdate(self._app.shown_time(), usegmt=True).encode()
        must_exit = await super().on_tick(counter)
        front = self._app.app.state.front
        # What stands in front may pass the Date of another server on.
        own = [] if front and front.passes_date else [(b"date", date)]
        self.server_state.default_headers = [*own, *self.config.encoded_headers]
        return must_exit

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the server, which has started."""
        assert self._loop  # as the caller knows
        return self._loop

    async def open_front(self, listener: socket.socket, interception: Interception) -> ConnectionFront:
        """Accept the connections of a socket with interception."""
        from seedbed_mock.interception.front import ConnectionFront, FrontedProtocol  # most servers intercept nothing

        front = ConnectionFront(
            listener,
            interception,
            lambda front: FrontedProtocol(front, config=self.config, server_state=self.server_state, app_state={}),
            self._limits,
        )
        self.servers.append(cast("asyncio.Server", front))
        return front

    def close_front(self, front: ConnectionFront) -> None:
        """Accept no further connections with interception; those that are open stay."""
        front.close()
        with contextlib.suppress(ValueError):
            self.servers.remove(cast("asyncio.Server", front))

    async def main_loop(self) -> None:
        seconds = 0.0
        while not await self.on_tick(round(seconds * _TICKS_PER_SECOND)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1 / _TICKS_PER_SECOND):
                    await self._stopped.wait()
            seconds += 1 / _TICKS_PER_SECOND

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's own version always sleeps for 0.1 s.
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        self._app.end_streams()
        connections = list(self.server_state.connections)
        for connection in connections:
            connection.shutdown()
        if requests := tuple(self.server_state.tasks):
            await asyncio.wait(requests, timeout=_GRACE_SECONDS)
        for request in tuple(self.server_state.tasks):
            request.cancel()
        await self._app.close()
        for connection in connections:
            connection.transport.abort()


class _DaemonThreads(ThreadPoolExecutor):
    """Threads for calls that cannot be interrupted, such as looking up a host name; a server that stops does not wait.

    Few calls need a thread, so that each gets a new one.
    """

    def submit(self, fn: Callable[..., _Result], /, *args: Any, **kwargs: Any) -> Future[_Result]:
        future = Future[_Result]()

        def run() -> None:
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # passed on to the caller
                future.set_exception(error)
            else:
                future.set_result(result)

        future.set_running_or_notify_cancel()
        threading.Thread(target=run, name="seedbed call", daemon=True).start()
        return future
