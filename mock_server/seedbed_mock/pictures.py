"""Result images: real JPEGs of the documented size that show the prompt; the same request gives the same bytes."""

from __future__ import annotations

import colorsys
import hashlib
import io
import random
from functools import lru_cache
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from seedbed_mock.lettering import set_text

if TYPE_CHECKING:
    from seedbed_mock.tasks import Picture

_BANDS = 12
_CACHED_PICTURES = 32
_PAPER = (250, 250, 245)
_MARK = b"Made by Seedbed, a test bed. No model was asked."


@lru_cache(_CACHED_PICTURES)
def render(picture: Picture) -> bytes:
    """Return the picture as a JPEG."""
    image = Image.new("RGB", picture.size)
    canvas = ImageDraw.Draw(image)
    _draw_field(canvas, picture)
    width, height = picture.size
    margin = min(width, height) // 16
    line = min(width, height) // 32
    inside = (margin, margin, width - margin, height - margin - 3 * line)
    set_text(canvas, picture.caption, box=inside, largest=min(width, height) // 10, smallest=line // 2, fill=_PAPER)
    foot = (margin, height - margin - line, width - margin, height - margin)
    set_text(canvas, f"Seedbed: {picture.label}", box=foot, largest=line, smallest=line // 4, fill=_PAPER)
    return _encode(image)


def _draw_field(canvas: ImageDraw.ImageDraw, picture: Picture) -> None:
    """Fill the image with bands, like a seedbed seen from above, all dark enough for light letters."""
    width, height = picture.size
    digest = hashlib.sha256(repr(picture).encode("utf-8", "surrogatepass")).digest()
    draw = random.Random(digest)  # noqa: S311 (colours are no secret)
    hue, spread = draw.random(), draw.uniform(0.1, 0.3)
    for band in range(_BANDS):
        shade = colorsys.hsv_to_rgb((hue + spread * band / _BANDS) % 1, 0.55, 0.25 + 0.25 * band / _BANDS)
        red, green, blue = (round(255 * part) for part in shade)
        top, bottom = band * height // _BANDS, (band + 1) * height // _BANDS
        canvas.rectangle((0, top, width, bottom), fill=(red, green, blue))


def _encode(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=85, comment=_MARK)
    return content.getvalue()
