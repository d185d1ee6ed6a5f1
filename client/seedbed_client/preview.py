"""Pictures in terminals that can show them, with a library that is there for those who install it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rich.console import Console

from seedbed_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_WIDTH = 60
"""In columns."""


def open_preview() -> Callable[[Path], None]:
    """Return what shows a picture on standard error.

    Raises:
        ConfigurationError: The library is not installed.
    """
    try:
        renderable: Any = import_module("textual_image.renderable")
    except ImportError as error:
        raise ConfigurationError("--preview needs a library: pip install 'seedbed[preview]'.") from error
    console = Console(stderr=True)
    return lambda path: console.print(renderable.Image(path, width=_WIDTH, height="auto"))
