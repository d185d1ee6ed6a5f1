"""A mock service on a real socket: for the lifetime of a process, or of a ``with`` block."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import gc
import logging
import os
import re
import signal
import socket
import sys
import threading
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seedbed_mock.app import SwappableApp, build_app
from seedbed_mock.faults.connection import TRANSPORT
from seedbed_mock.options import ServerOptions, keywords_of
from seedbed_mock.settings import base_url
from seedbed_mock.testing import AsyncMockServer, MockServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.applications import Starlette
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


_UPGRADE = re.compile(rb"(?i)\r\nupgrade:[^\r\n]*")

_GRACE_SECONDS = 0.5
"""How long requests may take to finish when the server stops."""


_START_SECONDS: Final = 30
_STOP_SECONDS: Final = 10


class ListenError(OSError):
    """The server cannot listen on the address; the message says why."""


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


def start_server(options: ServerOptions) -> MockServer:
    """Start a mock server in a thread; it runs until ``stop()`` is called or its ``with`` block ends.

    Args:
        options: Options of the server.

    Raises:
        ListenError: The server cannot listen on the address.
        RuntimeError: The server does not start.
        SettingsError: An option is invalid.
        StoreError: The file of ``db`` cannot be used.
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(options.host, options.port))
        app = SwappableApp(build_app(options))
        stack.callback(app.abandon)
        thread = _ServerThread(app, listener)
        server = MockServer(url_of(listener), app, thread.stop)
        thread.start()
        stack.pop_all()
    return server


class _ServerThread:
    """A server in a thread; what happens in the thread is raised in the thread that starts and stops it.

    Args:
        app: The application.
        listener: The listening socket, which the server closes.
    """

    def __init__(self, app: SwappableApp, listener: socket.socket) -> None:
        self._ready = threading.Event()
        self._server = _UvicornServer(app, self._ready.set)
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
            self._server.should_exit = True
            raise RuntimeError(f"The server is not ready after {_START_SECONDS} seconds.")
        self._raise_error()

    def stop(self) -> None:
        """Stop the server and return when its thread has ended."""
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError(f"The server has not stopped after {_STOP_SECONDS} seconds.")
        self._raise_error()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if isinstance(error, Exception):
            raise error
        if error:
            raise RuntimeError(f"The thread of the server ended with {error!r}.") from error


def serve_until_signal(app: Starlette, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve on a socket until SIGINT or SIGTERM.

    Args:
        app: The application.
        listener: The listening socket.
        on_ready: Called when the server accepts requests.
    """
    server = _UvicornServer(SwappableApp(app), on_ready)

    def stop(*_: object) -> None:
        server.should_exit = True

    # Imported modules stay in memory; searching them for garbage would delay responses by 50 ms each time.
    gc.freeze()
    gc.enable()
    # uvicorn sets its own handlers while it runs; these are for a signal before or after that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    server.run([listener])


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        ListenError: The server cannot listen on the address.
    """
    try:
        name = host.removeprefix("[").removesuffix("]")
        family, *_, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048, reuse_port=False)
        # asyncio disables Nagle's algorithm only on sockets whose protocol is TCP, and Python leaves it at 0.
        return socket.socket(listener.family, listener.type, socket.IPPROTO_TCP, listener.detach())
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)
        raise ListenError(f"cannot listen on {host} port {port}: {reason}") from error


def url_of(listener: socket.socket) -> str:
    """Return the base URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return base_url(host, port)


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 for the mock server.

    It differs from uvicorn's protocol in three ways:

    - It lends its transport to faults that break the connection.
    - When the client leaves, it ends every request of the connection. uvicorn ends only the last one, so that a request
      with pipelined ones behind it would never end.
    - It ignores an offer to switch to another protocol (RFC 9110, section 7.8). The parser would drop the body of such
      a request, and Java's HTTP client and curl make one for HTTP/2.
    """

    # uvicorn does not document the names used here; a test checks that they exist.
    _earlier: tuple[RequestResponseCycle, ...] = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        # uvicorn looks only for handlers of the process, which may be there for another server.
        self.access_log = False
        self._extensions: dict[str, dict[object, object]] = {TRANSPORT: {"transport": transport}}

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions

    def on_headers_complete(self) -> None:
        previous = self.cycle
        super().on_headers_complete()
        if previous is not None and not previous.response_complete:
            self._earlier = (*(each for each in self._earlier if not each.response_complete), previous)

    def connection_lost(self, exc: Exception | None) -> None:
        for cycle in self._earlier:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if b"upgrade:" in data.lower() and (self.cycle is None or self.cycle.response_complete):
            head, end, body = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(b"", head) + end + body
        super().data_received(data)


class _Config(uvicorn.Config):
    """The settings of uvicorn, which leave the loggers of the process as they are."""

    def configure_logging(self) -> None:
        pass


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
    """uvicorn with the lifetime of a :class:`SwappableApp`."""

    def __init__(self, app: SwappableApp, on_ready: Callable[[], None]) -> None:
        config = _Config(
            app,
            http=_Protocol,
            loop="asyncio" if sys.platform == "win32" else "uvloop",
            ws="none",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            # Typed as int, but uvicorn passes it to asyncio, which takes fractions of a second.
            timeout_graceful_shutdown=cast("int", _GRACE_SECONDS),
        )
        super().__init__(config)
        self._app = app
        self._on_ready = on_ready
        self._quiet = _OwnRecords()

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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._app.start()
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn would log an error for each request that the end of the server interrupts.
        self._quiet.least = logging.CRITICAL
        await super().shutdown(sockets)
        await self._app.close()
