"""A mock service on a real socket: for the lifetime of a process, or of a ``with`` block."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seedbed_mock.app import SwappableApp, build_app
from seedbed_mock.faults.connection import TRANSPORT
from seedbed_mock.options import ServerOptions, keywords_of
from seedbed_mock.settings import base_url
from seedbed_mock.testing import MockServer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from starlette.applications import Starlette
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


_UPGRADE = re.compile(rb"(?i)\r\nupgrade:[^\r\n]*")

_GRACE_SECONDS = 0.5
"""How long requests may take to finish when the server stops."""


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
    chosen = ServerOptions.from_keywords(options)
    with listen(chosen.host, chosen.port) as listener:
        app = SwappableApp(build_app(chosen))
        ready = threading.Event()
        server = _UvicornServer(app, ready.set)
        thread = threading.Thread(target=server.run, args=([listener],), name="seedbed", daemon=True)
        thread.start()
        ready.wait()
        try:
            yield MockServer(url_of(listener), app)
        finally:
            server.should_exit = True
            thread.join()


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


class _UvicornServer(uvicorn.Server):
    """uvicorn with the lifetime of a :class:`SwappableApp`."""

    def __init__(self, app: SwappableApp, on_ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            loop="asyncio" if sys.platform == "win32" else "uvloop",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            # Typed as int, but uvicorn passes it to asyncio, which takes fractions of a second.
            timeout_graceful_shutdown=cast("int", _GRACE_SECONDS),
        )
        super().__init__(config)
        self._app = app
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._app.start()
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn would log an error for each request that the end of the server interrupts.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)
        await self._app.close()
