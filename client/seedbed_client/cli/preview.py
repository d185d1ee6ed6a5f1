"""Pictures in the terminal, with a library that is there for those who install it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from seedbed_client.cli.service_options import fail
from seedbed_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


_COLUMNS: Final = 60
_PIXELS: Final = 480
"""Width and height at most, where pixels can be shown: sixels are made by Python, one by one."""

_SIXEL_COLORS: Final = 64
_ITERM: Final = {"TERM_PROGRAM": "iTerm.app", "LC_TERMINAL": "iTerm2"}
"""What iTerm2 puts into the environment; its own form has no library that is maintained, and it reads sixels too."""


def open_preview() -> Callable[[Path], None]:
    """Return what shows a picture on standard error, where that is a terminal.

    Raises:
        ConfigurationError: The library is not installed.
    """
    try:
        import dapple.renderers  # noqa: F401, PLC0415 (there for some, and loaded for those who ask)
    except ImportError as error:
        raise ConfigurationError("--preview needs a library: pip install 'seedbed[preview]'.") from error
    return _show if sys.stderr.isatty() else lambda _: None


def _show(path: Path) -> None:
    from PIL import Image  # noqa: PLC0415 (loaded for those who ask)

    try:
        renderer, width, height = _renderer()
        colors = _pixels(path, width, height)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's, of a broken file
        fail("generate", f"{path} cannot be shown: {error}")
        return
    renderer.render(colors.mean(axis=2), colors, dest=sys.stderr)
    print(file=sys.stderr, flush=True)


def _renderer() -> tuple[Any, int, int]:
    """Return what this terminal is written to with, and the pixels that it shows at most, across and down."""
    from dapple import auto, renderers  # noqa: PLC0415 (as above)

    protocol = auto.detect_protocol()
    if protocol is auto.Protocol.KITTY:
        return renderers.kitty(columns=_COLUMNS), _PIXELS, _PIXELS
    if protocol is auto.Protocol.SIXEL or any(os.environ.get(name) == value for name, value in _ITERM.items()):
        return renderers.sixel(max_colors=_SIXEL_COLORS), _PIXELS, _PIXELS
    # Characters of a quarter's blocks, each two pixels wide and two high, and twice as high as wide.
    return renderers.quadrants, 2 * _COLUMNS, _COLUMNS


def _pixels(path: Path, width: int, height: int) -> Any:
    """Return the colours of a picture, made to fit, from 0 to 1."""
    import numpy as np  # noqa: PLC0415 (comes with the library)
    from PIL import Image  # noqa: PLC0415 (as above)

    with Image.open(path) as picture:
        scale = width / max(picture.size)
        size = (round(picture.width * scale) or 1, round(picture.height * scale * height / width) or 1)
        return np.asarray(picture.convert("RGB").resize(size), dtype=np.float32) / 255
