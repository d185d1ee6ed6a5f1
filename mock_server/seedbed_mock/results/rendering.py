"""Rendering of result images: each is rendered once, outside of the event loop, and cached."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, Lock, to_thread

if TYPE_CHECKING:
    from seedbed_mock.results.gallery import Gallery
    from seedbed_mock.results.picture import Picture


_CACHE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rendered:
    """The file of a result image.

    Attributes:
        content: JPEG file.
        etag: Entity tag, which depends on the content alone.
    """

    content: bytes
    etag: str

    def truncated(self) -> Rendered:
        """Return the first half of the file, as an interrupted upload leaves it."""
        return Rendered(self.content[: len(self.content) // 2], f'"truncated-{self.etag[1:]}')


def render(picture: Picture, gallery: Gallery | None = None) -> Rendered:
    """Return the file of a picture: an image of the gallery, or a drawing without a gallery.

    Raises:
        ResultError: The image of the gallery cannot be read.
    """
    # Imported with the first image: Pillow would double the start-up time, and many runs fetch no image.
    from seedbed_mock.results.drawing import draw, encode

    content = encode(gallery.show(picture) if gallery else draw(picture), picture)
    return Rendered(content, f'"{sha256(content).hexdigest()}"')


class Renderer:
    """Renders pictures in threads, and caches the most recently used files.

    Args:
        gallery: Images to use instead of drawings.
        cache_bytes: Size of the cache.
    """

    def __init__(self, gallery: Gallery | None = None, cache_bytes: int = _CACHE_BYTES) -> None:
        self._gallery = gallery
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[Picture, Rendered] = OrderedDict()
        self._used_bytes = 0
        # Weak, so that a lock is freed when no request holds it or waits for it.
        self._locks: WeakValueDictionary[Picture, Lock] = WeakValueDictionary()
        # More threads than processors would not draw faster, but delay the end of the server.
        self._limiter = CapacityLimiter(os.cpu_count() or 1)

    async def render(self, picture: Picture) -> Rendered:
        """Return the file of a picture.

        Raises:
            ResultError: The image of the gallery cannot be read.
        """
        # The lock lets simultaneous requests for one picture share a single rendering.
        async with self._locks.setdefault(picture, Lock()):
            if picture in self._cache:
                self._cache.move_to_end(picture)
                return self._cache[picture]
            rendered = self._cache[picture] = await to_thread.run_sync(
                render, picture, self._gallery, limiter=self._limiter, abandon_on_cancel=True
            )
            self._used_bytes += len(rendered.content)
            while self._used_bytes > self._cache_bytes:
                _, oldest = self._cache.popitem(last=False)
                self._used_bytes -= len(oldest.content)
            return rendered
