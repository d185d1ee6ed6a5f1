"""Fetching results: streamed, bounded, and held to what a whole image looks like."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx2
import msgspec
from seedbed_schemas.files import check_writable, file_mode
from seedbed_schemas.messages import Envelope
from seedbed_schemas.validation import for_display

from seedbed_client._flow import HttpRequest
from seedbed_client._polling import passes
from seedbed_client.errors import DownloadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_client._flow import ClientOperation
    from seedbed_client._operations import Context
    from seedbed_client.models import Task


LARGEST_RESULT: Final = 100 * 1024 * 1024
"""In bytes; an image of 4K has some millions."""

_EDGES: Final = ((b"\xff\xd8\xff", b"\xff\xd9"), (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"), (b"RIFF", b""))
"""How the images begin and end that the service is known to give, or may: JPEG, PNG, WebP."""

_EDGE_BYTES: Final = 16
_TOLD_BYTES: Final = 4096


class ImageCheck:
    """Sees a result pass, and tells whether it is a whole image.

    Args:
        url: Where it is.
        write: Given what passes.
    """

    def __init__(self, url: str, write: Callable[[bytes], object]) -> None:
        self._url, self._write = url, write
        self._head = self._tail = b""
        self._told: bytearray | None = None
        self._status, self._kind = 0, ""

    def begin(self, response: httpx2.Response) -> None:
        """Look at the headers of the answer."""
        self._status, self._kind = response.status_code, response.headers.get("content-type", "")
        if not response.is_success or not self._kind.startswith("image/"):
            self._told = bytearray()

    def take(self, part: bytes) -> None:
        """Pass on a part of the image; of what is none, the first words are kept for the error."""
        if self._told is not None:
            self._told += part[: _TOLD_BYTES - len(self._told)]
            return
        self._head = (self._head + part[:_EDGE_BYTES])[:_EDGE_BYTES]
        self._tail = (self._tail + part[-_EDGE_BYTES:])[-_EDGE_BYTES:]
        self._write(part)

    def end(self) -> None:
        """Judge what passed.

        Raises:
            DownloadError: It is no whole image.
        """
        if self._told is not None:
            reason = f"{self._url} gave {self._kind or 'nothing'} in place of an image{_words(bytes(self._told))}"
            raise DownloadError(self._status, reason)
        if not any(self._head.startswith(first) and self._tail.endswith(last) for first, last in _EDGES):
            raise DownloadError(self._status, f"{self._url} gave no whole image, or none of a known kind")


def _words(content: bytes) -> str:
    """Return what an answer in place of a file says, where it is one of the service."""
    try:
        message = msgspec.json.decode(content, type=Envelope).msg
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return f": {message}" if message else ""


def in_memory(context: Context, url: str) -> ClientOperation[bytes]:
    """Return a result; it is fetched without the key, which it does not need."""

    def fetch() -> ClientOperation[bytes]:
        content = bytearray()
        yield from _fetch(url, ImageCheck(url, content.extend))
        return bytes(content)

    return (yield from context.retries.run(fetch, _is_worth_another_try))


def into_file(context: Context, url: str, path: Path) -> ClientOperation[Path]:
    """Write a result to a file, which is there as a whole or not at all, and return the path."""
    check_writable(path)
    target = path.resolve()  # a link is followed
    if target.exists() and not target.is_file():  # such as a pipe
        target.write_bytes((yield from in_memory(context, url)))
        return path

    def fetch() -> ClientOperation[Path]:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:32]}.")
        draft = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield from _fetch(url, ImageCheck(url, file.write))
                file.flush()
                os.fsync(file.fileno())
            draft.chmod(file_mode(target))
            draft.replace(target)
            return path
        finally:
            draft.unlink(missing_ok=True)

    return (yield from context.retries.run(fetch, _is_worth_another_try))


def all_in_memory(context: Context, task: Task) -> ClientOperation[tuple[bytes, ...]]:
    """Return all results of a task."""
    if not task.result_urls:
        raise DownloadError(0, f"{task.task_id} is {task.state}, and has no result")
    images = []
    for url in task.result_urls:
        images += [(yield from in_memory(context, url))]
    return tuple(images)


def _fetch(url: str, check: ImageCheck) -> ClientOperation[None]:
    _check_url(url)
    yield HttpRequest("GET", url, largest=LARGEST_RESULT, begin=check.begin, sink=check.take)
    check.end()


def _check_url(url: str) -> None:
    try:
        parsed = httpx2.URL(url)
        is_one = parsed.scheme in {"http", "https"} and bool(parsed.host.encode("idna"))
    except (httpx2.InvalidURL, ValueError, TypeError):
        is_one = False
    if not is_one:
        raise DownloadError(0, f"{for_display(str(url))!r} is not the URL of a result")


def _is_worth_another_try(error: BaseException) -> bool:
    """Tell whether a result may be there the next time: what came whole, and is no image, stays so."""
    is_settled = isinstance(error, DownloadError) and error.http_status in _SETTLED
    return not is_settled and passes(error)


_SETTLED: Final = frozenset({0, 200})
