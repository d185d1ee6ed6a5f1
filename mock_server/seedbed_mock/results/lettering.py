"""Text set into a box: the largest size at which it fits, broken into lines, in a font that has its characters."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from seedbed_mock.results.fonts import advance, font_for, glyphs, has

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

    Box = tuple[int, int, int, int]
    Color = tuple[int, int, int]

_LEADING = 1.25

_SIZES = tuple(round(8 * 1.06**step) for step in range(80, -1, -1))
"""Font sizes in pixels, largest first: few, so that texts which differ a little are set alike."""

_MOST_LETTERS = 3000
"""More would be too small to read, and take longer to draw than their image to encode."""

_ALONE = (
    r"[ -\u02ff\u0370-\u0482\u048a-\u058f\u1e00-\u1fff"  # Latin, Greek, Cyrillic, Armenian
    r"\u2010-\u2027\u2030-\u205e\u20a0-\u20bf"  # punctuation, currencies
    r"\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff01-\uffee]"  # Chinese, Japanese, Korean
)
"""Characters that look the same whatever stands beside them."""

_JOINED = _ALONE.replace("[", "[^", 1)
_PIECES = re.compile(rf"{_ALONE}(?!{_JOINED})|{_ALONE}?{_JOINED}+(?: {_JOINED}+)*")


def set_text(canvas: ImageDraw, text: str, *, box: Box, largest: int, smallest: int, fill: int | Color) -> None:
    """Draw text into a box, given as left, top, right and bottom in pixels.

    Text that does not fit at the smallest size ends in an ellipsis; a character in no font of this machine is shown
    as its code point.

    Args:
        canvas: Where to draw.
        text: What to draw.
        box: Where the text may stand.
        largest: Font size to begin with, in pixels.
        smallest: Font size to end with, in pixels.
        fill: Colour of the letters.
    """
    left, top, right, bottom = box
    font = font_for(text[:_MOST_LETTERS])
    shown = _cut(_drawable(text[: _MOST_LETTERS + 1], font), _MOST_LETTERS)
    size, lines = _fit(shown, font, (right - left, bottom - top), largest, smallest)
    look = glyphs(font, size)
    ink = canvas.draw.draw_ink(fill)
    for number, line in enumerate(lines):
        x, y = float(left), round(top + number * size * _LEADING)
        for piece in _PIECES.findall(line):
            mask, (beside, below) = look(piece)
            canvas.draw.draw_bitmap((round(x) + beside, y + below), mask, ink)
            x += advance(font, piece) * size


def _fit(text: str, font: str, room: tuple[int, int], largest: int, smallest: int) -> tuple[int, list[str]]:
    """Return the size in pixels at which a text fits, and its lines."""
    width, height = room
    ends = list(accumulate((char != "\n" and advance(font, char) for char in text), initial=0.0))
    # No larger than it would be without a gap at any line's end.
    bound = min(largest, math.ceil(math.sqrt(width * height / _LEADING / max(ends[-1], 1))))
    sizes = [*(size for size in _SIZES if smallest <= size <= bound), max(smallest, 1)]
    fitting = (size for size in sizes if len(_lines(text, ends, width / size)) * size * _LEADING <= height)
    size = next(fitting, sizes[-1])
    lines, most = _lines(text, ends, width / size), max(int(height / size / _LEADING), 1)
    if len(lines) > most:
        lines = [*lines[: most - 1], _cut(lines[most - 1] + "...", len(lines[most - 1]))]
    return size, lines


def _lines(text: str, ends: list[float], width: float) -> list[str]:
    """Break a text into lines, where it says so, at a space or, where there is none, within a word.

    Args:
        text: The text.
        ends: How wide it is up to each of its characters; kerning is small enough to leave out.
        width: The most that a line may be wide, in the same units.
    """
    lines: list[str] = []
    start, end = 0, len(text)
    while start < end:
        reach = max(bisect_right(ends, ends[start] + width) - 1, start + 1)
        stop = text.find("\n", start, reach + 1)
        if stop < 0 and reach < end:
            stop = text.rfind(" ", start + 1, reach + 1)
        if stop < 0:
            stop = reach
        lines.append(text[start:stop])
        start = stop + (text[stop : stop + 1] in (" ", "\n"))
    return lines


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: max(most - 3, 0)] + "..."


def _drawable(text: str, font: str) -> str:
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char if char == "\n" or has(font, char) else f"[U+{ord(char):04X}]" for char in lines)
