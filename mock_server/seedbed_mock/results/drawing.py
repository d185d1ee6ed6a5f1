"""The fonts of this machine: which of them has a text's characters, how wide these are, and how they look."""

from __future__ import annotations

import colorsys
import io
import math
import random
import re
from bisect import bisect_right
from functools import cache, lru_cache, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Final, cast

from PIL import ExifTags, Image, ImageDraw, ImageFont
from PIL.ImageDraw import Draw
from seedbed_schemas import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL._imaging import ImagingCore
    from PIL.ImageDraw import ImageDraw as Canvas
    from PIL.ImageFont import FreeTypeFont

    from seedbed_mock.results.picture import Picture

    Glyph = tuple[ImagingCore, tuple[int, int]]
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


def set_text(canvas: Canvas, text: str, *, box: Box, largest: int, smallest: int, fill: int | Color) -> None:
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


_BANDS = 12
_PAPER = (250, 250, 245)
_INK = 255


def draw(picture: Picture) -> Image.Image:
    """Return the picture as an RGB image of its size."""
    # One byte a pixel until all is drawn: bands and letters then cost a fraction of what they would in colour.
    image = Image.new("L", picture.size)
    _lay_bands(image)
    canvas = ImageDraw.Draw(image)
    width, height = picture.size
    margin, line = min(width, height) // 16, min(width, height) // 32
    # Letters over all of the image would make a long prompt no easier to read, and cost twice as much to draw.
    inside = (margin, margin, width - margin, height * 2 // 5)
    smallest = round(math.sqrt(width * height)) // 128
    set_text(canvas, picture.caption, box=inside, largest=min(width, height) // 10, smallest=smallest, fill=_INK)
    foot = (margin, height - margin - line, width - margin, height - margin)
    set_text(canvas, f"Seedbed: {picture.label}", box=foot, largest=line, smallest=line // 4, fill=_INK)
    image.putpalette(_palette(picture))
    return image.convert("RGB")


def _lay_bands(image: Image.Image) -> None:
    """Fill the image with bands of the levels that stand for their colours."""
    width, height = image.size
    for band in range(_BANDS):
        image.paste(band, (0, band * height // _BANDS, width, (band + 1) * height // _BANDS))


def _palette(picture: Picture) -> bytes:
    """Return a colour for each level: those of the bands, and from there on a ramp up to that of the letters."""
    bands = _band_colors(picture)
    ground = bands[_BANDS // 2]
    ramp = [_mixed(ground, _PAPER, level / _INK) for level in range(_BANDS, _INK + 1)]
    return bytes(part for color in (*bands, *ramp) for part in color)


def _band_colors(picture: Picture) -> list[Color]:
    """Return colours next to each other on the wheel, all dark enough for light letters."""
    chance = random.Random(picture.identity)  # noqa: S311 (colours are no secret)
    hue, spread = chance.random(), chance.uniform(0.1, 0.3)
    shades = (
        colorsys.hsv_to_rgb((hue + spread * band / _BANDS) % 1, 0.55, 0.25 + 0.25 * band / _BANDS)
        for band in range(_BANDS)
    )
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in shades]


def _mixed(first: Color, second: Color, share: float) -> Color:
    """Return a colour between two, by the share of the second."""
    red, green, blue = (round(one + (other - one) * share) for one, other in zip(first, second, strict=True))
    return red, green, blue


QUALITY: Final = 85
"""Pillow's measure of how much of the image is kept."""

_SOFTWARE = f"Seedbed {__version__}"
_MARK = "Made by Seedbed, a test bed. No model was asked."

_MOST_CHARACTERS = 64_000
"""A segment of a JPEG file has 65,533 bytes; the rest is for what stands around a request."""

_CUT = "... (cut)"


def encode(image: Image.Image, picture: Picture) -> bytes:
    """Return an RGB image as a JPEG file.

    Args:
        image: The image.
        picture: What it shows.
    """
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY, comment=_MARK.encode(), exif=_exif(picture))
    return content.getvalue()


def _exif(picture: Picture) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = _within_segment(picture.request)
    exif[ExifTags.Base.Software] = _SOFTWARE
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + _MARK.encode()
    return exif


def _within_segment(text: str) -> str:
    """Return a text cut to a length that fits into a segment of the file."""
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - len(_CUT)] + _CUT
