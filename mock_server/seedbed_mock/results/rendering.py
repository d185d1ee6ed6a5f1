"""Result images, each rendered once: kept while there is room, and shared by all who ask for one at the same time."""

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


_MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rendered:
    """A result image as a file.

    Attributes:
        content: The JPEG.
        etag: Its entity tag, which no other content has.
    """

    content: bytes
    etag: str

    def cut(self) -> Rendered:
        """Return its first half, as a file that was cut short on its way to where it is kept."""
        return Rendered(self.content[: len(self.content) // 2], f'"cut-{self.etag[1:]}')


def render(picture: Picture, gallery: Gallery | None = None) -> Rendered:
    """Return a picture as a file: drawn, or an image of the gallery where there is one.

    Raises:
        ResultError: The gallery's image cannot be read.
    """
    # Imported at the first image, since Pillow takes longer to load than many a run of the server needs it.
    from seedbed_mock.results.drawing import draw, encode  # noqa: PLC0415

    content = encode(gallery.show(picture) if gallery else draw(picture), picture)
    return Rendered(content, f'"{sha256(content).hexdigest()}"')


class Renderer:
    """Renders beside the event loop, and keeps what it rendered, the last asked for longest.

    Args:
        gallery: Where to take images from; they are drawn where there is none.
        most_bytes: How much to keep.
    """

    def __init__(self, gallery: Gallery | None = None, most_bytes: int = _MOST_BYTES) -> None:
        self._gallery = gallery
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Picture, Rendered] = OrderedDict()
        self._bytes = 0
        # A lock is here for as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[Picture, Lock] = WeakValueDictionary()
        # More at a time would draw no faster, and keep the server from ending when it is told to.
        self._painters = CapacityLimiter(os.cpu_count() or 1)

    async def render(self, picture: Picture) -> Rendered:
        """Return a picture as a file.

        Raises:
            ResultError: The gallery's image cannot be read.
        """
        async with self._locks.setdefault(picture, Lock()):
            if picture not in self._kept:
                rendered = await to_thread.run_sync(
                    render, picture, self._gallery, limiter=self._painters, abandon_on_cancel=True
                )
                self._keep(picture, rendered)
                return rendered
            self._kept.move_to_end(picture)
            return self._kept[picture]

    def _keep(self, picture: Picture, rendered: Rendered) -> None:
        self._kept[picture] = rendered
        self._bytes += len(rendered.content)
        while self._bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.content)
