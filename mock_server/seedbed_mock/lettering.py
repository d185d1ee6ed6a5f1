"""Text set into a box: the largest size at which it fits, broken into lines, in a font that has its characters."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, cast

from PIL import Image, ImageFont
from PIL.ImageDraw import Draw

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

    Box = tuple[int, int, int, int]
    Color = tuple[int, int, int]

_SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "PingFang.ttc",
    "msyh.ttc",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DejaVuSans.ttf",
)
"""Fonts that many systems have, for the characters that Pillow's own font lacks."""

_MEASURED_SIZE = 100
_LEADING = 1.25
_STEP = 0.85
_CACHED_CHARACTERS = 20_000
_CACHED_FONTS = 64
_ABSENT = "\U0010ffff"


def set_text(canvas: ImageDraw, text: str, *, box: Box, largest: int, smallest: int, fill: Color) -> None:
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
    font_name = _font_for(text)
    shown = _drawable(text, font_name)
    size = max(largest, 1)
    while (lines := _lines(shown, font_name, (right - left) / size)) and (
        len(lines) * size * _LEADING > bottom - top and size * _STEP >= max(smallest, 1)
    ):
        size = int(size * _STEP)
    room = max(int((bottom - top) / (size * _LEADING)), 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], lines[room - 1][:-3] + "..."]
    for number, line in enumerate(lines):
        canvas.text((left, top + number * size * _LEADING), line, font=_font(font_name, size), fill=fill)


def _lines(text: str, font_name: str, width: float) -> list[str]:
    """Break text into lines of at most that width, in units of the font size."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for part in (part for word in paragraph.split(" ") for part in _parts(word, font_name, width)):
            longer = f"{line} {part}" if line else part
            if _width(longer, font_name) <= width:
                line = longer
            else:
                lines.append(line)
                line = part
        lines.append(line)
    return lines


def _parts(word: str, font_name: str, width: float) -> list[str]:
    """Break a word that is wider than a line."""
    parts, used = [""], 0.0
    for character in word:
        used += (advance := _advance(font_name, character))
        if used > width and parts[-1]:
            parts.append("")
            used = advance
        parts[-1] += character
    return parts


def _width(text: str, font_name: str) -> float:
    return sum(_advance(font_name, character) for character in text)


@lru_cache(_CACHED_CHARACTERS)
def _advance(font_name: str, character: str) -> float:
    """Return the width of a character, in units of the font size; kerning is small enough to leave out."""
    return _font(font_name, _MEASURED_SIZE).getlength(character) / _MEASURED_SIZE


def _drawable(text: str, font_name: str) -> str:
    return "".join(char if char == "\n" or _has(font_name, char) else f"[U+{ord(char):04X}]" for char in text)


def _font_for(text: str) -> str:
    """Return the name of the first font with all characters of the text, or else of the one with the most."""
    characters = set(text) - {"\n"}
    lacking = {name: sum(not _has(name, char) for char in characters) for name in _fonts()}
    return min(lacking, key=lambda name: lacking[name])


@cache
def _fonts() -> tuple[str, ...]:
    """Return the names of the fonts that this machine has; the empty name is Pillow's own."""
    names = [""]
    for name in _SYSTEM_FONTS:
        try:
            _font(name, _MEASURED_SIZE)
        except OSError:
            continue
        names.append(name)
    return tuple(names)


@lru_cache(_CACHED_FONTS)
def _font(name: str, size: int) -> FreeTypeFont:
    if name:
        return ImageFont.truetype(name, size)
    # Every wheel of Pillow can draw text of a given size, and so has this kind of font as its own.
    return cast("FreeTypeFont", ImageFont.load_default(size))


@lru_cache(_CACHED_CHARACTERS)
def _has(font_name: str, character: str) -> bool:
    """Tell whether the font has that character: one that it lacks looks like any other that it lacks."""
    return character == " " or _drawn(font_name, character) != _drawn(font_name, _ABSENT)


def _drawn(font_name: str, character: str) -> bytes:
    image = Image.new("1", (2 * _MEASURED_SIZE, 2 * _MEASURED_SIZE))
    Draw(image).text((0, 0), character, font=_font(font_name, _MEASURED_SIZE), fill=1)
    return image.tobytes()
