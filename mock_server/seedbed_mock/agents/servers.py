"""The servers on which the tools act: the one in which the endpoint runs, or those of ``seedbed mcp``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from seedbed_schemas import Contract
from seedbed_schemas.contract import ContractError

from seedbed_mock.agents.answers import ToolError
from seedbed_mock.agents.reach import AppDoor, Door, LoopbackUrl

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Scope

    from seedbed_mock.agents.tool_inputs import StartServer


class Servers(Protocol):
    """Where the tools find the server of a call."""

    async def door(self, url: str | None) -> Door:
        """Return a server.

        Args:
            url: Its base URL, ``None`` for the usual one.

        Raises:
            ToolError: There is none, or calls to it may cost money.
        """
        ...

    async def checked_url(self, url: str | None) -> str:
        """Return the base URL of any server on this machine, to check it; the errors are those of :meth:`door`."""
        ...

    async def start(self, wanted: StartServer, /) -> Door:
        """Start a server.

        Raises:
            ToolError: It cannot be started.
        """
        ...

    async def stop(self, url: str | None, /) -> str:
        """Stop a server that was started here, and return its base URL.

        Raises:
            ToolError: There is none.
        """
        ...


def load_contract(path: str) -> Contract:
    """Return the contract in a file.

    Raises:
        ToolError: It cannot be read.
    """
    try:
        return Contract.load(Path(path))
    except OSError as error:
        raise ToolError(f"The contract cannot be read ({error.strerror}).", fix="Pass the path of a file.") from error
    except ContractError as error:
        fix = "Make one with derive_contract and its output_path."
        raise ToolError("The file is not a contract.", fix=fix, reason=str(error)) from error


class OwnServer:
    """The server in which the endpoint runs, as one request reaches it.

    Args:
        app: Its application.
        scope: Scope of the request that calls a tool.
        url: Base URL that the caller used.
    """

    def __init__(self, app: Starlette, scope: Scope, url: str) -> None:
        self._door = AppDoor(app, scope, url)

    async def door(self, url: str | None) -> Door:
        """Return this server."""
        if url is not None and url.rstrip("/") != self._door.url:
            raise ToolError(
                "This endpoint acts on its own server, and calls no other one.",
                fix="Omit the url, or use seedbed mcp for several servers.",
            )
        return self._door

    async def checked_url(self, url: str | None) -> str:
        """Return the base URL of this server, at its loopback address."""
        door = await self.door(url)
        return await LoopbackUrl.parse(door.url).connected()

    async def start(self, _: StartServer) -> Door:
        """Refuse: this server runs already."""
        raise ToolError("This endpoint starts no servers.", fix="Use seedbed mcp, or this server.")

    async def stop(self, _: str | None) -> str:
        """Refuse: the user stops this server."""
        raise ToolError("This endpoint stops no servers.", fix="The user stops it.")
