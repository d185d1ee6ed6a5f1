"""What a result shows, told without drawing it: cheap enough to be made with every task."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seedbed_schemas.profile import Profile, Size


RESULTS = "/results"
"""Folder of the result images on the server."""


class ResultError(Exception):
    """A result cannot be shown; the message is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What an image shows.

    Attributes:
        caption: The prompt.
        label: A line that says what was asked for.
        size: Width and height in pixels.
        seed: Chooses the colours, together with the rest.
        request: What was asked for, as JSON in ASCII.
    """

    caption: str
    label: str
    size: Size
    seed: int
    request: str = "{}"

    @property
    def identity(self) -> bytes:
        """Bytes that are the same for the same picture in any process, and others for any other."""
        return sha256(repr(self).encode()).digest()


def picture_of(profile: Profile, model: str, input_values: object, seed: int) -> Picture:
    """Return what the result of a request shows.

    Args:
        profile: What is known of the model.
        model: Name of the model.
        input_values: The request's input, which is an object wherever the contract wants one.
        seed: The server's.
    """
    values: dict[str, Any] = input_values if isinstance(input_values, dict) else {}
    width, height = profile.size(values)
    options = "".join(f"{values[name]}, " for name in profile.size_fields if name in values)
    return Picture(
        caption=str(values.get(profile.caption, "")),
        label=f"{model}, {options}{width} x {height}",
        size=(width, height),
        seed=seed,
        request=json.dumps({"model": model, "input": input_values}, sort_keys=True, separators=(",", ":")),
    )
