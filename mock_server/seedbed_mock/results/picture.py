"""The description of a result image, which is cheap to make: it needs neither Pillow nor a drawing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seedbed_schemas.profile import Profile, Size


RESULTS = "/results"
"""Path under which the server serves result images."""


class ResultError(Exception):
    """The image of a result cannot be made; the message is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The content of a result image.

    Attributes:
        caption: Prompt.
        label: Line with the model and the options of the request.
        size: Width and height in pixels.
        seed: Seed of the colours, which depend on the other attributes as well.
        request: Model and input of the request, as JSON in ASCII.
        original: Identity of the picture that this one is a small version of, empty if it is none.
    """

    caption: str
    label: str
    size: Size
    seed: int
    request: str = "{}"
    original: bytes = field(default=b"", repr=False)

    @property
    def identity(self) -> bytes:
        """A hash of the picture that is the same in every process, unlike ``hash()``."""
        return self.original or sha256(repr(self).encode()).digest()

    def thumbnail(self, pixels: int) -> Picture:
        """Return a small version with the same colours.

        Args:
            pixels: Size of the longer side.
        """
        scale = pixels / max(self.size)
        width, height = (max(round(side * scale), 1) for side in self.size)
        return replace(self, size=(width, height), original=self.identity)


def picture_of(profile: Profile, model: str, input_values: object, seed: int) -> Picture:
    """Return the picture that a request results in.

    Args:
        profile: Profile of the model.
        model: Name of the model.
        input_values: Input of the request, which is an object unless the contract allows other values.
        seed: Seed of the server.
    """
    values: dict[str, Any] = input_values if isinstance(input_values, dict) else {}
    width, height = profile.size(values)
    options = "".join(f"{values[name]}, " for name in profile.size_fields if name in values)
    # The server draws only images, and does not pretend that one is something else.
    still = f"still image, no {profile.media}, " if profile.media not in {"", "image"} else ""
    return Picture(
        caption=str(values.get(profile.caption, "")),
        label=f"{model}, {still}{options}{width} x {height}",
        size=(width, height),
        seed=seed,
        request=json.dumps({"model": model, "input": input_values}, sort_keys=True, separators=(",", ":")),
    )
