"""A local Seedream job API: every documented answer, no network, no cost."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from seedbed_mock.app import create_app
    from seedbed_mock.clock import Clock, ManualClock, RealClock
    from seedbed_mock.options import ServerOptions
    from seedbed_mock.server import ListenError, running
    from seedbed_mock.settings import Rate, Settings, SettingsError, Span
    from seedbed_mock.testing import ControlError, MockServer


__all__ = [
    "Clock",
    "ControlError",
    "ListenError",
    "ManualClock",
    "MockServer",
    "Rate",
    "RealClock",
    "ServerOptions",
    "Settings",
    "SettingsError",
    "Span",
    "create_app",
    "running",
]

_MODULES: Final = {
    "app": ("create_app",),
    "clock": ("Clock", "ManualClock", "RealClock"),
    "options": ("ServerOptions",),
    "testing": ("ControlError", "MockServer"),
    "server": ("ListenError", "running"),
    "settings": ("Rate", "Settings", "SettingsError", "Span"),
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: the pytest plugin is in this package, and in every test run beside which it is installed.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"seedbed_mock.{module}"), name)
    raise AttributeError(f"module 'seedbed_mock' has no attribute {name!r}")
