"""A picture drawn: bands of colour like a seedbed seen from above, the prompt on them, and who made it."""

from __future__ import annotations

import colorsys
import math
import random
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from seedbed_mock.results.lettering import set_text

if TYPE_CHECKING:
    from seedbed_mock.results.lettering import Color
    from seedbed_mock.results.picture import Picture

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
