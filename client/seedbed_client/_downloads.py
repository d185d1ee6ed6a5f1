"""Downloading results: streamed, limited in size, and checked for being complete images."""

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

from seedbed_client._actions import HttpRequest
from seedbed_client._polling import is_temporary
from seedbed_client.errors import DownloadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_client._actions import ClientOperation
    from seedbed_client._operations import Context
    from seedbed_client.models import Task


MAX_RESULT_BYTES: Final = 100 * 1024 * 1024
"""Largest result that is read; a 4K image has a few million bytes."""

_MARKERS: Final = {
    (".jpg", ".jpeg", ".jpe", ".jfif"): (b"\xff\xd8\xff", b"\xff\xd9"),
    (".png",): (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
    (".webp",): (b"RIFF", b""),
}
"""First and last bytes of the image formats that the service uses or may use, by the suffixes of their files."""

_MARKER_BYTES: Final = 16
_MAX_ERROR_BYTES: Final = 4096

_FINAL_STATUSES: Final = frozenset({0, 200})
"""Statuses of download errors that another attempt does not change: an unusable URL, or a file of another kind."""


class ImageCheck:
    """Checks a download for being a complete image while it is written.

    Args:
        url: URL of the result.
        write: Called with each part of the image.
    """

    def __init__(self, url: str, write: Callable[[bytes], object]) -> None:
        self._url, self._write = url, write
        self._head = self._tail = b""
        self._error_body: bytearray | None = None
        self._status, self._content_type = 0, ""

    def on_response(self, response: httpx2.Response) -> None:
        """Read the headers of the response."""
        self._status, self._content_type = response.status_code, response.headers.get("content-type", "")
        if not response.is_success or not self._content_type.startswith("image/"):
            self._error_body = bytearray()

    def feed(self, part: bytes) -> None:
        """Pass on a part of the image. If the response is not an image, keep its beginning for the error."""
        if self._error_body is not None:
            self._error_body += part[: _MAX_ERROR_BYTES - len(self._error_body)]
            return
        self._head = (self._head + part[:_MARKER_BYTES])[:_MARKER_BYTES]
        self._tail = (self._tail + part[-_MARKER_BYTES:])[-_MARKER_BYTES:]
        self._write(part)

    def finish(self) -> None:
        """Raise an error unless a complete image has passed.

        Raises:
            DownloadError: The response is not an image, or is truncated.
        """
        if self._error_body is not None:
            received = self._content_type or "no content type"
            reason = f"expected an image at {self._url}, got {received}{_message(bytes(self._error_body))}"
            raise DownloadError(self._status, reason)
        # A complete transfer may carry half an image: the server announces the length of the file that it has.
        if not any(self._head.startswith(first) and self._tail.endswith(last) for first, last in _MARKERS.values()):
            raise DownloadError(self._status, f"the image at {self._url} is truncated or of an unknown format")


def image_suffixes(path: Path) -> tuple[str, ...]:
    """Return the suffixes of the format that an image has, or an empty tuple for an unknown format.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_MARKER_BYTES)
    return next((suffixes for suffixes, (first, _) in _MARKERS.items() if head.startswith(first)), ())


def _message(content: bytes) -> str:
    """Return the message of an error response of the service, or an empty string for any other content."""
    try:
        message = msgspec.json.decode(content, type=Envelope).msg
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return f": {message}" if message else ""


def in_memory(context: Context, url: str) -> ClientOperation[bytes]:
    """Download a result and return it."""

    def attempt() -> ClientOperation[bytes]:
        content = bytearray()
        yield from _download(url, ImageCheck(url, content.extend))
        return bytes(content)

    return (yield from context.retries.run(attempt, _may_retry))


def into_file(context: Context, url: str, path: Path) -> ClientOperation[Path]:
    """Download a result into a file and return its path. The file appears only once it is complete."""
    check_writable(path)
    target = path.resolve()  # replacing a symbolic link would leave its target as it was
    if target.exists() and not target.is_file():
        # A pipe or a device cannot be replaced, only written to.
        target.write_bytes((yield from in_memory(context, url)))
        return path

    def attempt() -> ClientOperation[Path]:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:32]}.")
        draft = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield from _download(url, ImageCheck(url, file.write))
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes private files; the result gets the permissions of any new file.
            draft.chmod(file_mode(target))
            draft.replace(target)
            return path
        finally:
            draft.unlink(missing_ok=True)

    return (yield from context.retries.run(attempt, _may_retry))


def all_in_memory(context: Context, task: Task) -> ClientOperation[tuple[bytes, ...]]:
    """Download all results of a task and return them."""
    if not task.result_urls:
        raise DownloadError(0, f"task {task.task_id} has no result; its state is {task.state}")
    images = []
    for url in task.result_urls:
        images += [(yield from in_memory(context, url))]
    return tuple(images)


def _download(url: str, check: ImageCheck) -> ClientOperation[None]:
    if not _is_web_url(url):
        raise DownloadError(0, f"{for_display(str(url))!r} is not an http or https URL; use one of task.result_urls")
    # Without the API key: a result may be on another host, which has no business with it.
    yield HttpRequest("GET", url, max_bytes=MAX_RESULT_BYTES, on_response=check.on_response, sink=check.feed)
    check.finish()


def _is_web_url(url: str) -> bool:
    try:
        parsed = httpx2.URL(url)
        return parsed.scheme in {"http", "https"} and bool(parsed.host.encode("idna"))
    except (httpx2.InvalidURL, ValueError, TypeError):
        return False


def _may_retry(error: BaseException) -> bool:
    is_final = isinstance(error, DownloadError) and error.http_status in _FINAL_STATUSES
    return not is_final and is_temporary(error)
