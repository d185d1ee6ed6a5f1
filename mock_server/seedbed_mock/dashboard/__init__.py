"""The dashboard: web pages that show what happens on a server, and that can control it.

Its modules are imported when a browser asks for the first page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse
from starlette.routing import Match, Route

from seedbed_mock.settings import CONTROL_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from seedbed_mock.dashboard.site import Dashboard


def dashboard_routes(open_dashboard: Callable[[], Dashboard]) -> list[Route]:
    """Return the routes of a dashboard, to be placed before those of the control API.

    Args:
        open_dashboard: Returns the dashboard; it is called for the first request.
    """
    site = _LazySite(open_dashboard)
    return [
        _PageRoute("/", _ToDashboard()),
        _PageRoute(CONTROL_ROOT, _ToDashboard()),
        _PageRoute(f"{CONTROL_ROOT}/", site),
        _PageRoute(f"{CONTROL_ROOT}/docs", site),
        Route(f"{CONTROL_ROOT}/dashboard/{{rest:path}}", site),
    ]


class _PageRoute(Route):
    """A route that only browsers take: a program that calls this path by mistake gets the error that it always got."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether the route takes a request."""
        accepted = dict(scope.get("headers", ())).get(b"accept", b"")
        is_page = scope.get("method") in {"GET", "HEAD"} and b"text/html" in accepted
        return super().matches(scope) if is_page else (Match.NONE, {})


class _ToDashboard:
    """Sends a browser to the dashboard."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = RedirectResponse(f"{scope.get('root_path', '')}{CONTROL_ROOT}/", 307)
        await response(scope, receive, send)


class _LazySite:
    """Opens the dashboard with the first request."""

    def __init__(self, open_dashboard: Callable[[], Dashboard]) -> None:
        self._open = open_dashboard
        self._site: Dashboard | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._site is None:
            self._site = self._open()
        await self._site(scope, receive, send)
