"""Result images: bands of colour with the prompt as text, encoded as JPEG.

The same picture always gives the same bytes on one machine. A 4K image with a long prompt takes less than twice as
long as its JPEG encoding, which explains the caches and the single-channel canvas.
"""

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
from seedbed_schemas import __version__

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

    from seedbed_mock.results.picture import Picture

    Glyph = tuple[Image.Image, tuple[int, int]]
    Box = tuple[int, int, int, int]
    Color = tuple[int, int, int]

QUALITY: Final = 85
"""JPEG quality, as Pillow counts it."""

_SOFTWARE = f"Seedbed {__version__}"
_COMMENT = "Made by Seedbed, a test bed. No image model was run."

_MAX_EXIF_CHARACTERS = 64_000
"""A segment of a JPEG file has at most 65,533 bytes, and the other EXIF fields need some of them."""

_TRUNCATION_MARK = "... (truncated)"

_BANDS = 12
_PAPER = (250, 250, 245)
_INK = 255

_LEADING = 1.25

_FONT_SIZES = tuple(round(8 * 1.06**step) for step in range(80, -1, -1))
"""Font sizes in pixels, largest first. There are few of them, so that the cached glyphs fit many texts."""

_MAX_LETTERS = 3000
"""More letters would be too small to read, and would take longer to draw than the image to encode."""

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
"""Fonts that many systems have, for characters that Pillow's own font lacks."""

_MEASURED_SIZE = 100
_COMPARED_SIZE = 48
_CACHED_CHARACTERS = 20_000
_CACHED_FONTS = 64
_CACHED_GLYPHS = 5_000
_LARGEST_CACHED_SIZE = 64
"""In pixels: a glyph up to this size takes a few kilobytes, so that thousands can be cached between images."""

_UNASSIGNED = "\U0010ffff"
"""A character that no font has."""

_STANDALONE = (
    r"[ -\u02ff\u0370-\u0482\u048a-\u058f\u1e00-\u1fff"  # Latin, Greek, Cyrillic, Armenian
    r"\u2010-\u2027\u2030-\u205e\u20a0-\u20bf"  # punctuation, currencies
    r"\u2e80-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff01-\uffee]"  # Chinese, Japanese, Korean
)
"""Characters that look the same whatever precedes or follows them, so that they can be drawn one by one."""

_JOINED = _STANDALONE.replace("[", "[^", 1)
_PIECES = re.compile(rf"{_STANDALONE}(?!{_JOINED})|{_STANDALONE}?{_JOINED}+(?: {_JOINED}+)*")


def draw(picture: Picture) -> Image.Image:
    """Return a picture as an RGB image."""
    # A canvas of one byte per pixel, coloured by a palette at the end, takes a fraction of the time of an RGB canvas.
    image = Image.new("L", picture.size)
    width, height = picture.size
    for band in range(_BANDS):
        image.paste(band, (0, band * height // _BANDS, width, (band + 1) * height // _BANDS))
    margin, line = min(width, height) // 16, min(width, height) // 32
    # Text on the whole image would not make a long prompt easier to read, and would take twice as long to draw.
    box = (margin, margin, width - margin, height * 2 // 5)
    smallest = round(math.sqrt(width * height)) // 128
    draw_text(image, picture.caption, box=box, largest=min(width, height) // 10, smallest=smallest, fill=_INK)
    footer = (margin, height - margin - line, width - margin, height - margin)
    draw_text(image, f"Seedbed: {picture.label}", box=footer, largest=line, smallest=line // 4, fill=_INK)
    image.putpalette(_palette(picture))
    return image.convert("RGB")


def _palette(picture: Picture) -> bytes:
    """Return the colour of each level: first the bands, then a ramp from the middle band to the letters."""
    source = random.Random(picture.identity)  # noqa: S311 (the same picture has to get the same colours)
    hue, spread = source.random(), source.uniform(0.1, 0.3)
    # Neighbours on the colour wheel, all dark enough for light letters.
    shades = (
        colorsys.hsv_to_rgb((hue + spread * band / _BANDS) % 1, 0.55, 0.25 + 0.25 * band / _BANDS)
        for band in range(_BANDS)
    )
    bands = [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in shades]
    ground = bands[_BANDS // 2]
    # The edges of the letters have levels between those of the bands and the ink.
    ramp = [
        tuple(round(one + (other - one) * level / _INK) for one, other in zip(ground, _PAPER, strict=True))
        for level in range(_BANDS, _INK + 1)
    ]
    return bytes(part for color in (*bands, *ramp) for part in color)


def encode(image: Image.Image, picture: Picture) -> bytes:
    """Return an RGB image as a JPEG file whose metadata contain the request.

    Args:
        image: Image to encode.
        picture: What the image shows.
    """
    exif = Image.Exif()
    request = picture.request
    if len(request) > _MAX_EXIF_CHARACTERS:
        request = request[: _MAX_EXIF_CHARACTERS - len(_TRUNCATION_MARK)] + _TRUNCATION_MARK
    exif[ExifTags.Base.ImageDescription] = request
    exif[ExifTags.Base.Software] = _SOFTWARE
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + _COMMENT.encode()
    content = io.BytesIO()
    image.save(content, "JPEG", quality=QUALITY, comment=_COMMENT.encode(), exif=exif)
    return content.getvalue()


def draw_text(image: Image.Image, text: str, *, box: Box, largest: int, smallest: int, fill: int | Color) -> None:
    """Draw text into a box, in the largest font size in which it fits.

    Text that does not fit in the smallest size is truncated. A character that no font of this machine has is shown as
    its code point.

    Args:
        image: Image to draw on.
        text: Text to draw.
        box: Left, top, right and bottom of the text in pixels.
        largest: Largest font size in pixels.
        smallest: Smallest font size in pixels.
        fill: Colour of the letters.
    """
    left, top, right, bottom = box
    font = _font_for(text[:_MAX_LETTERS])
    # One letter more than is drawn, so that a longer text ends in an ellipsis.
    unified = text[: _MAX_LETTERS + 1].replace("\r\n", "\n").replace("\r", "\n")
    drawable = "".join(char if char == "\n" or _has(font, char) else f"[U+{ord(char):04X}]" for char in unified)
    shown = _truncated(drawable, _MAX_LETTERS)
    size, lines = _fit(shown, font, (right - left, bottom - top), largest, smallest)
    # Drawing a glyph takes longer than all other steps, and each character occurs many times in a long text.
    glyph = cache(partial(_glyph, font, size))
    for number, line in enumerate(lines):
        x, y = float(left), round(top + number * size * _LEADING)
        for piece in _PIECES.findall(line):
            is_cached = len(piece) == 1 and size <= _LARGEST_CACHED_SIZE
            mask, (offset_x, offset_y) = _cached_glyph(font, size, piece) if is_cached else glyph(piece)
            image.paste(fill, (round(x) + offset_x, y + offset_y), mask)
            x += _advance(font, piece) * size


def _fit(text: str, font: str, room: tuple[int, int], largest: int, smallest: int) -> tuple[int, list[str]]:
    """Return the font size in pixels in which a text fits, and its lines."""
    width, height = room
    ends = list(accumulate((char != "\n" and _advance(font, char) for char in text), initial=0.0))
    # The size in which the text would fill the box without a gap at the end of any line.
    bound = min(largest, math.ceil(math.sqrt(width * height / _LEADING / max(ends[-1], 1))))
    sizes = [*(size for size in _FONT_SIZES if smallest <= size <= bound), max(smallest, 1)]
    fitting = (size for size in sizes if len(_lines(text, ends, width / size)) * size * _LEADING <= height)
    size = next(fitting, sizes[-1])
    lines, most = _lines(text, ends, width / size), max(int(height / size / _LEADING), 1)
    if len(lines) > most:
        lines = [*lines[: most - 1], _truncated(lines[most - 1] + "...", len(lines[most - 1]))]
    return size, lines


def _lines(text: str, ends: list[float], width: float) -> list[str]:
    """Break a text at line feeds and spaces, and within words that are longer than a line.

    Args:
        text: Text to break.
        ends: Width of the text up to each character, in units of the font size; kerning is negligible.
        width: Width of a line in the same units.
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


def _truncated(text: str, length: int) -> str:
    return text if len(text) <= length else text[: max(length - 3, 0)] + "..."


def _font_for(text: str) -> str:
    """Return the name of the first font that has all characters of a text, or else of the one that has the most."""
    characters = {character for character in text if character.isprintable()}
    lacking: dict[str, int] = {}
    for name in _font_names():
        lacking[name] = sum(not _has(name, character) for character in characters)
        if not lacking[name]:
            break
    return min(lacking, key=lambda name: lacking[name])


@lru_cache(_CACHED_CHARACTERS)
def _has(name: str, character: str) -> bool:
    """Return whether a font has a character; one that it lacks looks like any other that it lacks.

    Invisible characters, for which text layout may fail, count as lacking.
    """
    return character.isprintable() and (character == " " or _bitmap(name, character) != _bitmap(name, _UNASSIGNED))


# The cache keeps the unassigned character, with which each other one is compared; `_has` caches the comparisons.
@lru_cache(_CACHED_FONTS)
def _bitmap(name: str, character: str) -> bytes:
    image = Image.new("1", (2 * _COMPARED_SIZE, 2 * _COMPARED_SIZE))
    ImageDraw.Draw(image).text((0, 0), character, font=_font(name, _COMPARED_SIZE), fill=1)
    return image.tobytes()


def _advance(name: str, text: str) -> float:
    """Return the width of a text, in units of the font size."""
    return _cached_advance(name, text) if len(text) == 1 else _measure(name, text)


def _measure(name: str, text: str) -> float:
    return _font(name, _MEASURED_SIZE).getlength(text) / _MEASURED_SIZE


def _glyph(name: str, size: int, text: str) -> Glyph:
    """Return some characters as a mask, and its offset in pixels from the place where they are drawn."""
    font = _font(name, size)
    left, top, right, bottom = map(round, font.getbbox(text))
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).text((-left, -top), text, font=font, fill=255)
    return mask, (left, top)


# Cached between images are only single characters: there are few of them, and pieces of several rarely occur again.
_cached_advance = lru_cache(_CACHED_CHARACTERS)(_measure)
_cached_glyph = lru_cache(_CACHED_GLYPHS)(_glyph)


@cache
def _font_names() -> tuple[str, ...]:
    """Return the names of the fonts that this machine has; the empty name is Pillow's own font."""
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
    # Without FreeType, load_default would return a bitmap font, but all wheels of Pillow include FreeType.
    return cast("FreeTypeFont", ImageFont.load_default(size))
