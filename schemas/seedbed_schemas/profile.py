"""What is known of a model beyond its page: its price and the size of its images."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seedbed_schemas.contract import Contract


Size = tuple[int, int]
"""Width and height in pixels."""

_FOLDER = Path(__file__).with_name("profiles")

_UNKNOWN_PRICE = Decimal(1)
_UNKNOWN_SIDE = 1024
_STEP = 8
_SMALLEST_SIDE, _LARGEST_SIDE = 16, 8192


@dataclass(frozen=True)
class Profile:
    """Facts of one model, each with its source in the folder ``profiles``.

    Attributes:
        model: Name of the model.
        credits: Price of one task.
        caption: Name of the input field that tells what the picture shows, empty where there is none.
        size_fields: Names of the input fields that decide the size, outermost first.
        pixels: Size by the values of those fields.
    """

    model: str
    credits: Decimal = _UNKNOWN_PRICE
    caption: str = ""
    size_fields: tuple[str, ...] = ()
    pixels: Mapping[str, Any] = field(default_factory=dict)

    def size(self, values: Mapping[str, Any]) -> Size:
        """Return the size of the image that an input asks for: what is known, or else what its values suggest."""
        pixels: Any = self.pixels
        for name in self.size_fields:
            value = values.get(name)
            pixels = pixels.get(value) if isinstance(value, str) and pixels else None
        if not pixels:
            return _suggested_size(values)
        width, height = pixels
        return width, height


def profile_of(contract: Contract) -> Profile:
    """Return what is known of a contract's model; of an unknown one, what its contract suggests."""
    known = {path.stem: path for path in _FOLDER.glob("*.json")}
    slug = contract.model.replace("/", "-")
    if slug in known:
        return _load(known[slug])
    return Profile(contract.model, caption=_suggested_caption(contract))


@cache
def default_profile() -> Profile:
    """Return the profile of the shipped model, loaded once."""
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
    )


def _suggested_caption(contract: Contract) -> str:
    """Return the first field of the input that holds free text."""
    return next((name for name, schema in contract.input_fields.items() if _is_free_text(schema)), "")


def _is_free_text(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "string" and not {"enum", "const", "format"} & schema.keys()


def _suggested_size(values: Mapping[str, Any]) -> Size:
    """Return the size that a value such as ``1280x720`` or ``16:9`` speaks of, or else a square."""
    for value in values.values():
        if isinstance(value, str) and (match := re.fullmatch(r"(\d{1,4})([x×*:])(\d{1,4})", value)):
            across, down = max(int(match[1]), 1), max(int(match[3]), 1)
            scale = 1.0 if match[2] != ":" else _UNKNOWN_SIDE / math.sqrt(across * down)
            return _side(across * scale), _side(down * scale)
    return _UNKNOWN_SIDE, _UNKNOWN_SIDE


def _side(length: float) -> int:
    return min(max(round(length / _STEP) * _STEP, _SMALLEST_SIDE), _LARGEST_SIDE)
