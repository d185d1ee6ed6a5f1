"""Bodies that pass through the proxy: sent on as they arrive, and kept without secrets up to a size."""

from __future__ import annotations

import hashlib
import mimetypes
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from starlette.requests import ClientDisconnect

from seedbed_mock.recording.har import LARGEST_BODY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive

    from seedbed_mock.recording.har import Redactor


LARGEST_IN_MEMORY = 1024 * 1024
"""In bytes: a larger body is written to a file while it arrives, or forgotten if nothing is recorded."""


@dataclass(slots=True)
class SentBody:
    """The body of a request.

    Attributes:
        head: Its beginning, the whole body if it is not large.
        is_complete: Whether that is the whole body.
        receive: Receive channel of the request, for the rest.
    """

    head: bytes
    is_complete: bool
    receive: Receive

    @classmethod
    async def read(cls, receive: Receive, most: int) -> SentBody:
        """Read the beginning of a body.

        Args:
            receive: Receive channel of the request.
            most: Number of bytes beyond which the rest is left for later.

        Raises:
            ClientDisconnect: The client left before that.
        """
        head, more = bytearray(), True
        while more and len(head) <= most:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            head += message.get("body", b"")
            more = message.get("more_body", False)
        return cls(bytes(head), not more, receive)

    def content(self) -> bytes | AsyncIterator[bytes]:
        """Return the body to send on: the bytes, or a stream of a large one."""
        return self.head if self.is_complete else self._stream()

    async def _stream(self) -> AsyncIterator[bytes]:
        yield self.head
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            yield message.get("body", b"")
            if not message.get("more_body"):
                return


class BodyKeeper:
    """Keeps a body that passes by: a small one in memory, a large one in a file of the recording.

    Args:
        redactor: Removes secrets, also where a chunk ends in the middle of one.
        folder: Directory of the recording; without one, only the beginning of a large body is kept.

    Attributes:
        size: Number of bytes that have passed by.
    """

    def __init__(self, redactor: Redactor, folder: Path | None) -> None:
        self.size = 0
        self._redactor = redactor
        self._folder = folder
        self._kept = bytearray()
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        """Note the next part of the body."""
        self.size += len(chunk)
        if self._file is None and self.size > LARGEST_IN_MEMORY and self._folder:
            self._file = tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False)  # noqa: SIM115
        if self._file is None:
            self._kept += chunk[: LARGEST_IN_MEMORY - len(self._kept)]
        elif self.size <= LARGEST_BODY:
            self._kept += chunk
            self._write(self._redactor.longest)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the body was forgotten."""
        return self.size <= (LARGEST_IN_MEMORY if self._file is None else LARGEST_BODY)

    def _write(self, overlap: int) -> None:
        """Write what is kept, except for the end, in which a secret may begin."""
        assert self._file  # noqa: S101 (opened before)
        content = self._redactor.body(bytes(self._kept))
        ready = content[: max(len(content) - overlap, 0)]
        self._kept = bytearray(content[len(ready) :])
        self._digest.update(ready)
        self._file.write(ready)

    def finish(self, media_type: str = "") -> tuple[bytes, str]:
        """Return the body, or the name of the file that it was written to."""
        if self._file is None:
            return bytes(self._kept), ""
        self._write(0)
        self._file.close()
        suffix = mimetypes.guess_extension(media_type) or ".bin"
        path = Path(self._file.name)
        name = self._digest.hexdigest()[:32] + suffix
        os.replace(path, path.with_name(name))  # noqa: PTH105 (replaces a file of the same content)
        self.size = path.with_name(name).stat().st_size
        return b"", name
