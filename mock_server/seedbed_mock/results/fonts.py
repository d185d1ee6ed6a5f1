"""The fonts of this machine: which of them has a text's characters, how wide these are, and how they look."""

from __future__ import annotations

from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, cast

from PIL import Image, ImageFont
from PIL.ImageDraw import Draw

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL._imaging import ImagingCore
    from PIL.ImageFont import FreeTypeFont

    Glyph = tuple[ImagingCore, tuple[int, int]]

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
_COMPARED_SIZE = 48
_CACHED_CHARACTERS = 20_000
_CACHED_FONTS = 64

_SMALL = 64
"""Up to this size in pixels, glyphs are kept from one image to the next, a few kilobytes each."""

_CACHED_GLYPHS = 5_000
_ABSENT = "\U0010ffff"


def font_for(text: str) -> str:
    """Return the name of the first font with all characters of the text, or else of the one with the most."""
    characters = {character for character in text if character.isprintable()}
    lacking: dict[str, int] = {}
    for name in _fonts():
        lacking[name] = sum(not has(name, character) for character in characters)
        if not lacking[name]:
            break
    return min(lacking, key=lambda name: lacking[name])


@lru_cache(_CACHED_CHARACTERS)
def has(name: str, character: str) -> bool:
    """Tell whether the font has that character: one that it lacks looks like any other that it lacks.

    Characters that nobody sees, and at which text layout may fail, count as lacking.
    """
    return character.isprintable() and (character == " " or _drawn(name, character) != _absent(name))


def advance(name: str, text: str) -> float:
    """Return the width of a text, in units of the font size."""
    return _kept_advance(name, text) if len(text) == 1 else _advance(name, text)


def glyphs(name: str, size: int) -> Callable[[str], Glyph]:
    """Return what tells how a character looks, or some that belong together, each drawn once however often asked.

    Args:
        name: Name of the font.
        size: Font size in pixels.
    """
    drawn = cache(partial(_glyph, name, size))
    # Fonts draw slower than all else here, and long texts, which are set small, have many characters in common.
    kept = partial(_kept_glyph, name, size) if size <= _SMALL else drawn
    return lambda text: kept(text) if len(text) == 1 else drawn(text)


def _advance(name: str, text: str) -> float:
    return _font(name, _MEASURED_SIZE).getlength(text) / _MEASURED_SIZE


def _glyph(name: str, size: int, text: str) -> Glyph:
    return _font(name, size).getmask2(text, "L")


# Kept from one image to the next are only single characters: few, and small where there can be many of them.
_kept_advance = lru_cache(_CACHED_CHARACTERS)(_advance)
_kept_glyph = lru_cache(_CACHED_GLYPHS)(_glyph)


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


@cache
def _absent(name: str) -> bytes:
    return _drawn(name, _ABSENT)


def _drawn(name: str, character: str) -> bytes:
    image = Image.new("1", (2 * _COMPARED_SIZE, 2 * _COMPARED_SIZE))
    Draw(image).text((0, 0), character, font=_font(name, _COMPARED_SIZE), fill=1)
    return image.tobytes()
