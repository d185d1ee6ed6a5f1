"""Requests and bodies that pass through the proxy: what is asked for, sent on as it arrives, and kept up to a size."""

from __future__ import annotations

import hashlib
import mimetypes
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from starlette.requests import ClientDisconnect

from seedbed_mock.asgi import query_parameters
from seedbed_mock.recording.archive import LARGEST_BODY
from seedbed_mock.request_body import decode_body
from seedbed_mock.settings import base_url
from seedbed_mock.state import RequestContext

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope

    from seedbed_mock.recording.archive import Redactor
    from seedbed_mock.state import Service


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
        self._path = Path()
        self._digest = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        """Note the next part of the body."""
        self.size += len(chunk)
        if self._file is None and self.size > LARGEST_IN_MEMORY and self._folder:
            descriptor, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
            self._file, self._path = os.fdopen(descriptor, "wb"), Path(name)
        if self._file is None:
            self._kept += chunk[: LARGEST_IN_MEMORY - len(self._kept)]
        elif self.size <= LARGEST_BODY:
            self._kept += chunk
            self._write(self._file, self._redactor.longest)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the body was forgotten."""
        return self.size <= (LARGEST_IN_MEMORY if self._file is None else LARGEST_BODY)

    def _write(self, file: IO[bytes], overlap: int) -> None:
        """Write what is kept, except for the end, in which a secret may begin."""
        content = self._redactor.body(bytes(self._kept))
        ready = content[: max(len(content) - overlap, 0)]
        self._kept = bytearray(content[len(ready) :])
        self._digest.update(ready)
        file.write(ready)

    def finish(self, media_type: str = "") -> tuple[bytes, str]:
        """Return the body, or the name of the file that it was written to."""
        if self._file is None:
            return bytes(self._kept), ""
        self._write(self._file, 0)
        self._file.close()
        suffix = mimetypes.guess_extension(media_type) or ".bin"
        name = self._digest.hexdigest()[:32] + suffix
        self.size = self._path.replace(self._path.with_name(name)).stat().st_size
        return b"", name


def operation_of(service: Service, method: str, path: str) -> str:
    """Return the name of the operation that a request calls, empty if it calls none."""
    shared = service.shared
    creations = (model.contract.operation for model in service.catalogue.models.values())
    if any((each.method, each.path) == (method, path) for each in creations):
        return "createTask"
    others = {
        "recordInfo": shared.record_info,
        "credit": shared.credit,
        "downloadUrl": shared.download_url,
        "models": shared.models,
    }
    for name, endpoint in others.items():
        if (endpoint.method, endpoint.path) == (method, path):
            return name
    before, _, after = shared.model_schema.path.partition("{model}")
    is_schema = path.startswith(before) and path.endswith(after) and len(path) > len(before + after)
    return "modelSchema" if is_schema and method == shared.model_schema.method else ""


def context_of(service: Service, scope: Scope, operation: str, sent: SentBody) -> RequestContext:
    """Return what the handlers of the mock server need to know of a request."""
    headers = dict(scope["headers"])
    key = next((headers[name] for name, _ in service.credentials if name in headers), b"").decode("latin-1")
    body: bytes | None = sent.head if sent.is_complete else None
    problem = ""
    if body and (encoding := headers.get(b"content-encoding")):
        try:
            body = decode_body(body, encoding)
        except ValueError as error:
            problem = str(error)
    space = service.spaces.default
    return RequestContext(
        headers=headers,
        query=query_parameters(scope["query_string"].decode("latin-1")),
        path={},
        operation=operation,
        body=body,
        base_url=base_url(*scope["server"], scope.get("scheme", "http")),
        server=scope["server"],
        names_server=False,
        space=space,
        now=service.now(),
        account=space.implicit_account(key.rpartition(" ")[2]),
        body_problem=problem,
    )
