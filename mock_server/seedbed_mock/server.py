"""A fake on a real socket: for as long as a process lives, or for as long as a ``with`` block runs."""

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
from typing import TYPE_CHECKING, cast

import uvicorn
from seedbed_schemas import local
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seedbed_mock.app import app_of
from seedbed_mock.faults.connection import TRANSPORT
from seedbed_mock.settings import base_url
from seedbed_mock.testing import MockServer, SwappableApp

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator
    from typing import Unpack

    from seedbed_schemas import Contract
    from starlette.applications import Starlette
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from seedbed_mock.clock import Clock
    from seedbed_mock.options import ServerKeywords
    from seedbed_mock.settings import ClockKind


_UPGRADE = re.compile(rb"(?i)\r\nupgrade:[^\r\n]*")

_GRACE_SECONDS = 0.5
"""How long answers under way may take to end when the server is told to stop."""


class ListenError(OSError):
    """The server cannot listen where it was told to; the message is one sentence that says why."""


@contextlib.contextmanager
def running(
    *, clock: Clock | ClockKind = "real", contracts: Iterable[Contract] = (), **words: Unpack[ServerKeywords]
) -> Iterator[MockServer]:
    """Run a fake in a thread of this process while the block runs, on any free port where none is named.

    Args:
        clock: What time it is: a clock of your own, or which of those of the flag ``--clock``.
        contracts: Contracts of models to play beside the shipped one, or in its place.
        words: The flags of ``seedbed serve``, without their dashes; see :class:`seedbed_mock.options.ServerOptions`.

    Raises:
        ListenError: The address cannot be listened on.
        SettingsError: A setting cannot be used.
        StoreError: The file of ``db`` cannot be used.
    """
    with listen(words.get("host", local.HOST), words.get("port", 0)) as listener:
        stage = SwappableApp(app_of(words, clock, contracts))
        with _served_in_thread(stage, listener):
            yield MockServer(url_of(listener), stage)


@contextlib.contextmanager
def _served_in_thread(stage: SwappableApp, listener: socket.socket) -> Iterator[None]:
    ready = threading.Event()
    server = _UvicornServer(stage, ready.set)
    thread = threading.Thread(target=server.run, args=([listener],), name="seedbed", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def serve_until_signal(app: Starlette, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Answer on a socket until SIGINT or SIGTERM, then return."""
    server = _UvicornServer(SwappableApp(app), on_ready)

    def stop(*_: object) -> None:
        server.should_exit = True

    # What was imported stays: going through it again and again for garbage would hold up answers, 50 ms at a time.
    gc.freeze()
    gc.enable()
    # uvicorn has handlers of its own while it runs; these are for before and after.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    server.run([listener])


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        ListenError: The address cannot be listened on.
    """
    try:
        name = host.removeprefix("[").removesuffix("]")
        family, *_, address = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048, reuse_port=False)
        # asyncio sends small answers at once on sockets only that are said to be TCP, which Python leaves unsaid.
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
    """HTTP/1.1 that ignores offers to go on in another protocol, as RFC 9110 section 7.8 has it.

    The parser would drop the body of a request that makes one, and Java's own client and curl do, for HTTP/2.

    It lends its transport to what spoils answers, and tells the request under way when the client leaves, though others
    wait behind it: uvicorn tells the last alone.
    """

    _under_way: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._extensions: dict[str, dict[object, object]] = {TRANSPORT: {"transport": transport}}

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = self._extensions

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._under_way = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._under_way and not self._under_way.response_complete:
            self._under_way.disconnected = True
            self._under_way.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if b"upgrade:" in data.lower() and (self.cycle is None or self.cycle.response_complete):
            head, end, body = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(b"", head) + end + body
        super().data_received(data)


class _UvicornServer(uvicorn.Server):
    """A uvicorn that says when it answers."""

    def __init__(self, stage: SwappableApp, on_ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            stage,
            http=_Protocol,
            loop="asyncio" if sys.platform == "win32" else "uvloop",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            # uvicorn gives it to asyncio, which takes fractions of a second.
            timeout_graceful_shutdown=cast("int", _GRACE_SECONDS),
        )
        super().__init__(config)
        self._stage = stage
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._stage.open()
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A request that the end of the server cuts off is no error of the program.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)
        await self._stage.close()
