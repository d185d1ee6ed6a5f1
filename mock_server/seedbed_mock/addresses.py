"""Addresses as URLs."""

from __future__ import annotations

from functools import lru_cache

CONTROL_ROOT = "/__seedbed"
"""Where the control API is, apart from the documented paths."""


@lru_cache(256)
def base_url(host: str, port: int | None) -> str:
    """Return the URL of a server, whose port is left out where none is known."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}" if port is None else f"http://{name}:{port}"
