# Generated from the contract by client/generate_sync.py: do not edit.
"""The values of the input of seedream/4.5-text-to-image, as types."""

from typing import Literal, TypeAlias

AspectRatio: TypeAlias = Literal["1:1", "4:3", "3:4", "16:9", "9:16", "2:3", "3:2", "21:9"]
"""Aspect ratio of the image, width to height."""
Quality: TypeAlias = Literal["basic", "high"]
"""Resolution of the image: 2K or 4K."""
