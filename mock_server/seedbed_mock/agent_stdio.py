"""The subcommand ``seedbed mcp``: the tools for coding agents over standard input and output, and their servers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import anyio
from anyio import to_thread
from cyclopts import Parameter
from seedbed_schemas.commands import ExitCode, JsonFlag, fail
from seedbed_schemas.contract import ContractError

from seedbed_mock.agents.answers import ToolError, one_line
from seedbed_mock.agents.reach import Door, HttpDoor, LoopbackUrl
from seedbed_mock.agents.servers import load_contract
from seedbed_mock.faults.scenarios import shipped_scenarios
from seedbed_mock.options import ServerOptions
from seedbed_mock.server import start_server
from seedbed_mock.settings import MISSING_AGENT_EXTRA, SettingsError
from seedbed_mock.sockets import ListenError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from seedbed_mock.agents.tool_inputs import StartServer
    from seedbed_mock.testing import MockServer


_READ_BYTES: Final = 65_536
_LONGEST_MESSAGE: Final = 4 * 1024 * 1024
_MOST_SERVERS: Final = 4


def mcp(
    *,
    url: str | None = None,
    control_token: Annotated[str, Parameter(show_default=False)] = "",
    as_json: JsonFlag = False,
) -> int:
    """Serve the tools for coding agents over standard input and output until standard input ends.

    Args:
        url: Base URL of a mock server on this machine that the tools use until they start one.
        control_token: Control token of that server.
        as_json: Print errors as JSON; standard output has the messages of the protocol in any case.
    """
    del as_json  # it acts on errors, before and after this
    if find_spec("mcp") is None:
        return fail("mcp", MISSING_AGENT_EXTRA)
    if url is not None:
        try:
            LoopbackUrl.parse(url)
        except ToolError as error:
            return fail("mcp", str(error), fix=error.fix)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="seedbed mcp: %(message)s")
    servers = StartedServers(url, control_token)
    try:
        return anyio.run(_serve, servers)
    finally:
        servers.close()


async def _serve(servers: StartedServers) -> int:
    """Serve until standard input ends or a signal comes, and return the exit code."""
    # Imported late: the SDK takes a second to load.
    from mcp.server.stdio import stdio_server

    from seedbed_mock.agents.mcp_server import ToolSession

    server = ToolSession(lambda _: servers, is_stdio=True).server()
    received: list[int] = []

    async def stop_at_signal(scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                received.append(number)
                scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(stop_at_signal, group.cancel_scope)
        lines = _Lines(os.dup(0))
        # What is started from here on finds no input, and could not take a message of the client.
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        # The SDK leads descriptor 1 to standard error, so that a stray line cannot break the protocol.
        async with stdio_server(stdin=cast("Any", lines)) as (reading, writing):
            await server.run(reading, writing, server.create_initialization_options())
        group.cancel_scope.cancel()
    if not received:
        return ExitCode.DONE
    return ExitCode.INTERRUPTED if received[0] == signal.SIGINT else ExitCode.TERMINATED


class _Lines:
    """The lines of a file descriptor.

    A thread of its own reads them: a read that waits cannot be interrupted, and must not keep the process from ending.

    Args:
        descriptor: The file descriptor.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def __aiter__(self) -> AsyncIterator[str]:
        loop, lines = asyncio.get_running_loop(), asyncio.Queue[bytes | None]()

        def read() -> None:
            rest = b""
            with contextlib.suppress(OSError, RuntimeError):  # the loop may have ended
                while (piece := os.read(self._descriptor, _READ_BYTES)) and len(rest) <= _LONGEST_MESSAGE:
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        loop.call_soon_threadsafe(lines.put_nowait, line)
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(lines.put_nowait, None)

        threading.Thread(target=read, name="seedbed mcp input", daemon=True).start()
        while (line := await lines.get()) is not None:
            if line.strip():
                yield line.decode("utf-8", "replace")


class StartedServers:
    """The servers of one process of ``seedbed mcp``, which end with it.

    Args:
        url: Base URL of a server that runs already, ``None`` for none.
        token: Its control token, empty for none.
    """

    def __init__(self, url: str | None = None, token: str = "") -> None:
        self._url = url
        self._token = token
        self._started: dict[str, tuple[MockServer, HttpDoor]] = {}
        self._starting = anyio.Lock()

    async def start(self, wanted: StartServer) -> Door:
        """Start a server in this process.

        Raises:
            ToolError: It cannot be started.
        """
        async with self._starting:
            if len(self._started) >= _MOST_SERVERS:
                raise ToolError(f"{_MOST_SERVERS} servers run already.", fix="Stop one with stop_server.")
            options = _options_of(wanted)
            try:
                server = await to_thread.run_sync(start_server, options)
            except (SettingsError, ListenError, ContractError) as error:
                raise ToolError(one_line(str(error)), fix="Choose another value, or omit it.") from error
            door = HttpDoor(server.url, contracts=tuple(options.contracts))
            self._started[server.url] = server, door
        return door

    async def stop(self, url: str | None) -> str:
        """Stop a server and return its base URL.

        Raises:
            ToolError: This process has started no such server.
        """
        if url is None and len(self._started) == 1:
            url = next(iter(self._started))
        known = ", ".join(self._started) or "none"
        if url is None or url.rstrip("/") not in self._started:
            raise ToolError(
                "This is not a server of start_server; other servers are not stopped.", fix=f"Its servers: {known}."
            )
        server, _ = self._started.pop(url.rstrip("/"))
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(server.stop)
        return server.url

    async def door(self, url: str | None) -> Door:
        """Return a server of this process, or a mock server that runs elsewhere on this machine."""
        if url is None and self._started:
            if len(self._started) > 1:
                raise ToolError("Several servers run.", fix=f"Pass the url of one: {', '.join(self._started)}.")
            return next(iter(self._started.values()))[1]
        if (url := url or self._url) is None:
            raise ToolError("No server runs.", fix="Call start_server, or pass the url of a server on this machine.")
        if found := self._started.get(url.rstrip("/")):
            return found[1]
        door = HttpDoor(await LoopbackUrl.parse(url).connected(), token=self._token if url == self._url else "")
        await door.check_mock_server()
        return door

    async def checked_url(self, url: str | None) -> str:
        """Return the base URL of a server, which need not be a mock server."""
        if url is None or url.rstrip("/") in self._started:
            return (await self.door(url)).url
        door = HttpDoor(await LoopbackUrl.parse(url).connected())
        await door.passes_on()
        return door.url

    def close(self) -> None:
        """Stop all servers."""
        while self._started:
            self._started.popitem()[1][0].stop()


def _options_of(wanted: StartServer) -> ServerOptions:
    """Return the options of a server.

    Raises:
        ToolError: The scenario is unknown, or the contract cannot be read.
    """
    # A file of scenarios is not taken: an unknown name would be the path of any file.
    if wanted.scenario is not None and wanted.scenario not in (known := shipped_scenarios()):
        raise ToolError("There is no built-in scenario of this name.", fix=f"Use one of {', '.join(known)}.")
    return ServerOptions(
        port=wanted.port,
        clock=wanted.clock,
        task_seconds=wanted.task_seconds,
        dialect=wanted.dialect,
        http_status=wanted.http_status,
        scenario=wanted.scenario or "",
        credits=wanted.credits,
        seed=wanted.seed,
        contracts=(load_contract(wanted.contract),) if wanted.contract else (),
    )
