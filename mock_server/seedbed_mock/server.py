"""A fake on a real socket: for as long as a process lives, or for as long as a ``with`` block runs."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import uvicorn
from seedbed_schemas import local
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from seedbed_mock.addresses import base_url
from seedbed_mock.app import create_app
from seedbed_mock.settings import DEFAULTS, HttpStatus, Rate, Settings, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from decimal import Decimal

    from seedbed_schemas import Contract
    from starlette.applications import Starlette

    from seedbed_mock.clock import Clock

_UPGRADE = re.compile(rb"(?i)\r\nupgrade:[^\r\n]*")

_GRACE_SECONDS = 0.5
"""How long answers under way may take to end when the server is told to stop."""


class ListenError(OSError):
    """The server cannot listen where it was told to; the message is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Attributes:
        url: Its base URL.
        key: A key that it lets in.
    """

    url: str
    key: str


@contextlib.contextmanager
def running(
    *,
    host: str = local.HOST,
    port: int = 0,
    key: str | Iterable[str] = local.KEY,
    http_status: HttpStatus = "envelope",
    dialect: str = "documented",
    task_seconds: float | str = DEFAULTS.span.least,
    credits: float | Decimal = DEFAULTS.balance,  # noqa: A002 (the name of the flag)
    rate_limit: str = str(DEFAULTS.rate),
    seed: int = DEFAULTS.seed,
    result_dir: Path | str | None = None,
    clock: Clock | None = None,
    contracts: Iterable[Contract] = (),
) -> Iterator[Running]:
    """Run a fake in a thread of this process while the block runs; the words are those of ``seedbed serve``.

    Args:
        host: Address to listen on.
        port: Port to listen on, 0 for any that is free.
        key: Key to let in, or several, each an account of its own.
        http_status: How the code of an answer shows in its HTTP status.
        dialect: Title of the dialect to answer in.
        task_seconds: How long a task takes, or between which bounds, as in ``10..60``.
        credits: Balance of each account at the start.
        rate_limit: New tasks that an account may make, as N/SECONDS, or ``off``.
        seed: Decides what is drawn at random.
        result_dir: Folder of images to give as results, cut to size, in place of drawn ones.
        clock: What time it is; real time where there is none.
        contracts: Contracts of models to play beside the shipped one, or in its place.

    Raises:
        ListenError: The address cannot be listened on.
        SettingsError: A setting cannot be used.
    """
    chosen = Settings(
        keys=(key,) if isinstance(key, str) else tuple(key),
        http_status=http_status,
        dialect=dialect,
        task_seconds=Span.parse(task_seconds) if isinstance(task_seconds, str) else task_seconds,
        credits=credits,
        rate=Rate.parse(rate_limit),
        seed=seed,
        result_dir=None if result_dir is None else Path(result_dir),
    )
    app = create_app(chosen, clock=clock, contracts=contracts)
    with listen(host, port) as listener, _served_in_thread(app, listener):
        yield Running(url_of(listener), chosen.keys[0])


@contextlib.contextmanager
def _served_in_thread(app: Starlette, listener: socket.socket) -> Iterator[None]:
    ready = threading.Event()
    server = _Server(app, ready.set)
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
    server = _Server(app, on_ready)

    def stop(*_: object) -> None:
        server.should_exit = True

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
        return socket.create_server(address[:2], family=family, backlog=2048, reuse_port=False)
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
    """

    def data_received(self, data: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:
            head, end, body = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(b"", head) + end + body
        super().data_received(data)


class _Server(uvicorn.Server):
    """A uvicorn that says when it answers."""

    def __init__(self, app: Starlette, on_ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            http=_Protocol,
            loop="asyncio" if sys.platform == "win32" else "uvloop",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            # uvicorn gives it to asyncio, which takes fractions of a second.
            timeout_graceful_shutdown=cast("int", _GRACE_SECONDS),
        )
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # A request that the end of the server cuts off is no error of the program.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)
