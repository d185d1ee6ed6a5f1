"""A local mock of the Seedream job API, with every documented response and without network access or cost."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from seedbed_mock.app import create_app
    from seedbed_mock.bill import Bill
    from seedbed_mock.clock import Clock, ManualClock, RealClock
    from seedbed_mock.options import ServerOptions
    from seedbed_mock.server import running, running_async
    from seedbed_mock.settings import KeySettings, Rate, SettingsError, Span
    from seedbed_mock.sockets import ListenError
    from seedbed_mock.testing import AsyncMockServer, ControlError, MockServer


__all__ = [
    "AsyncMockServer",
    "Bill",
    "Clock",
    "ControlError",
    "KeySettings",
    "ListenError",
    "ManualClock",
    "MockServer",
    "Rate",
    "RealClock",
    "ServerOptions",
    "SettingsError",
    "Span",
    "create_app",
    "running",
    "running_async",
]

_MODULES: Final = {
    "app": ("create_app",),
    "bill": ("Bill",),
    "clock": ("Clock", "ManualClock", "RealClock"),
    "options": ("ServerOptions",),
    "server": ("running", "running_async"),
    "settings": ("KeySettings", "Rate", "SettingsError", "Span"),
    "sockets": ("ListenError",),
    "testing": ("AsyncMockServer", "ControlError", "MockServer"),
}


def __getattr__(name: str) -> Any:
    # Imported on first use: pytest imports this package for its plugin in every test run where it is installed.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"seedbed_mock.{module}"), name)
    raise AttributeError(f"module 'seedbed_mock' has no attribute {name!r}")
