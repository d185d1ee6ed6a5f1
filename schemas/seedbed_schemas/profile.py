"""Model profiles: facts about a model that its page does not state, such as its price and the size of its images."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_schemas.contract import Contract


Size = tuple[int, int]
"""Width and height in pixels."""

_FOLDER: Final = Path(__file__).with_name("profiles")

_SHAPED: Final = frozenset({"enum", "const", "format", "pattern"})
_MEDIA: Final = {
    **dict.fromkeys(("image", "images"), "image"),
    **dict.fromkeys(("video", "videos"), "video"),
    **dict.fromkeys(("audio", "speech", "music", "sound", "song"), "audio"),
}

_DEFAULT_PRICE: Final = Decimal(1)
_DEFAULT_SIDE: Final = 1024
# JPEG encodes blocks of 8 by 8 pixels. An image of the maximum size already takes about 200 MB of memory.
_STEP: Final = 8
_MINIMUM_SIDE, _MAXIMUM_SIDE = 16, 8192


@dataclass(frozen=True)
class Profile:
    """Facts about one model; the files in the directory ``profiles`` name their sources.

    Attributes:
        model: Name of the model.
        credits: Price of one task.
        caption: Name of the input field that describes the image; empty if there is none.
        size_fields: Names of the input fields that determine the size, outermost first.
        pixels: Size by the values of those fields.
        media: What the model makes, as far as its name says: ``image``, ``video``, ``audio`` or an empty text.
        images: Images that a task makes; 0 if that is unknown.
    """

    model: str
    credits: Decimal = _DEFAULT_PRICE
    caption: str = ""
    size_fields: tuple[str, ...] = ()
    pixels: Mapping[str, Any] = field(default_factory=dict)
    media: str = ""
    images: int = 0

    def size(self, values: Mapping[str, Any]) -> Size:
        """Return the size of the image for an input.

        Without a known size, a value such as ``1280x720`` or ``16:9`` determines it; otherwise it is a square.
        """
        pixels: Any = self.pixels
        for name in self.size_fields:
            value = values.get(name)
            pixels = pixels.get(value) if isinstance(value, str) and pixels else None
        if pixels:
            width, height = pixels
            return width, height
        for value in values.values():
            if isinstance(value, str) and (match := re.fullmatch(r"(\d{1,4})([x×*:])(\d{1,4})", value)):
                width, height = max(int(match[1]), 1), max(int(match[3]), 1)
                # A ratio determines only the shape. The area is that of the default square.
                scale = 1.0 if match[2] != ":" else _DEFAULT_SIDE / math.sqrt(width * height)
                return _side(width * scale), _side(height * scale)
        return _DEFAULT_SIDE, _DEFAULT_SIDE


def _side(length: float) -> int:
    return min(max(round(length / _STEP) * _STEP, _MINIMUM_SIDE), _MAXIMUM_SIDE)


def profile_of(contract: Contract) -> Profile:
    """Return the profile of a contract's model.

    A model without a profile file gets default values, and its first free-text input field is the caption.
    """
    files = {path.stem: path for path in _FOLDER.glob("*.json")}
    slug = contract.model.replace("/", "-")
    if slug in files:
        return _load(files[slug])
    free_text = (
        name
        for name, schema in contract.input_fields.items()
        if schema.get("type") == "string" and schema.get("maxLength") != 0 and _SHAPED.isdisjoint(schema)
    )
    return Profile(contract.model, caption=next(free_text, ""), media=_media_of(contract.model))


def _media_of(model: str) -> str:
    """Return what a model makes, from a name such as ``maker/2-image-to-video``."""
    name = model.lower()
    makes = re.search(r"to-(\w+)", name)
    words = re.findall(r"[a-z]+", makes[1] if makes else name)
    return next((_MEDIA[word] for word in words if word in _MEDIA), "")


@cache
def default_profile() -> Profile:
    """Return the profile of the shipped model; it is loaded once."""
    return _load(_FOLDER / "seedream-4.5-text-to-image.json")


def _load(path: Path) -> Profile:
    document = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    size = document["size"]
    return Profile(
        model=document["model"],
        credits=Decimal(document["credits"]),
        caption=document["caption"],
        size_fields=tuple(size["fields"]),
        pixels=size["pixels"],
        media="image",
        images=document["images"],
    )
