"""The interface for coding agents: the tools of ``seedbed mcp`` and of the endpoint ``/__seedbed/mcp``.

The modules with the MCP SDK are imported when the first agent calls: the SDK takes a second to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seedbed_mock.settings import CONTROL_ROOT

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

    from seedbed_mock.agents.mcp_server import AgentEndpoint


AGENT_PATH = f"{CONTROL_ROOT}/mcp"
"""Path of the endpoint."""


class LazyEndpoint:
    """The endpoint of a server, which begins with its first request.

    Args:
        app: Application of the server.
    """

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._endpoint: AgentEndpoint | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if self._endpoint is None:
            from seedbed_mock.agents.mcp_server import AgentEndpoint  # see above

            options = self._app.state.service.options
            self._endpoint = AgentEndpoint(self._app, options.control_token or "", options.own_hosts)
        await self._endpoint(scope, receive, send)

    def end(self) -> None:
        """Begin to end all sessions."""
        if self._endpoint:
            self._endpoint.end()

    async def close(self) -> None:
        """End all sessions, and wait until they have ended."""
        if self._endpoint:
            await self._endpoint.close()
