"""What is known of a model beyond its page: its price and the size of its images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True)
class Profile:
    """Facts of one model, each with its source in the folder ``profiles``.

    Attributes:
        model: Name of the model.
        credits: Price of one task.
        caption: Name of the input field that tells what the picture shows.
        size_fields: Names of the input fields that decide the size, outermost first.
        pixels: Size by the values of those fields.
    """

    model: str
    credits: Decimal
    caption: str
    size_fields: tuple[str, ...]
    pixels: Mapping[str, Any]

    def size(self, values: Mapping[str, Any]) -> Size:
        """Return the size of the image that a valid input asks for.

        Raises:
            KeyError: The profile does not know a value.
        """
        pixels: Any = self.pixels
        for field in self.size_fields:
            pixels = pixels[values[field]]
        width, height = pixels
        return width, height


@cache
def default_profile() -> Profile:
    """Return the profile of the shipped model, loaded once."""
    path = Path(__file__).parent / "profiles" / "seedream-4.5-text-to-image.json"
    document = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    size = document["size"]
    return Profile(
        model=document["model"],
        credits=Decimal(document["credits"]),
        caption=document["caption"],
        size_fields=tuple(size["fields"]),
        pixels=size["pixels"],
    )
