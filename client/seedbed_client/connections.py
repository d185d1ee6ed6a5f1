"""The HTTP clients of a client: made when needed, since one that can do TLS costs 20 ms and more."""

from __future__ import annotations

import os
import ssl
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

import httpx2
from seedbed_schemas import __version__

from seedbed_client.errors import UnreadableAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from seedbed_client.deadline import Limit
    from seedbed_client.steps import Call

C = TypeVar("C")

HEADERS = {"User-Agent": f"seedbed-client/{__version__}"}
"""Guards in front of services turn away programs that do not say who they are."""


class Connections(Generic[C]):
    """One HTTP client for ``http://``, which has no certificates and so trusts nobody, and one for ``https://``.

    Args:
        make: Makes an HTTP client, given whom it trusts.
        given: One to use for all in their place; it belongs to whoever gave it.
    """

    def __init__(self, make: Callable[[ssl.SSLContext | bool], C], given: C | None = None) -> None:
        self._make, self._given, self._lock = make, given, threading.Lock()
        # By process, too: what was made before a fork has connections that the other process goes on using.
        self._made: dict[tuple[int, bool], C] = {}
        self._is_closed = False

    def for_url(self, url: str) -> C:
        """Return the one that asks a URL."""
        if self._given is not None:
            return self._given
        is_secure = not url.lower().startswith("http://")
        with self._lock:
            if self._is_closed:
                raise RuntimeError("The client is closed: make another, or use it inside its with block.")
            mine = os.getpid(), is_secure
            if mine not in self._made:
                trusted = True if is_secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                self._made[mine] = self._make(trusted)
            return self._made[mine]

    def take_all(self) -> list[C]:
        """Return those that were made, to be closed, and make no more."""
        with self._lock:
            self._is_closed = True
            return [self._made.pop(key) for key in tuple(self._made) if key[0] == os.getpid()]


class Intake:
    """Takes an answer in, part by part: only so much of it, and only for so long.

    Args:
        call: What is answered.
        response: The answer, whose body is still to come.
        limit: How long it may take.
    """

    def __init__(self, call: Call, response: httpx2.Response, limit: Limit) -> None:
        self._call, self._response, self._limit = call, response, limit
        self._size, self._parts = 0, bytearray()
        self._sink = call.sink or self._parts.extend
        if call.begin:
            call.begin(response)

    def take(self, part: bytes) -> None:
        """Take a part.

        Raises:
            httpx2.ReadTimeout: The answer takes too long, however quickly its parts follow one another.
            UnreadableAnswer: It is too large.
        """
        self._size += len(part)
        if self._size > self._call.largest:
            raise UnreadableAnswer(self._response.status_code, f"it is larger than {self._call.largest} bytes")
        if self._call.sink:
            self._limit.extend(len(part))
        if self._limit.left < 0:
            raise httpx2.ReadTimeout("the answer takes too long", request=self._response.request)
        self._sink(part)

    def end(self) -> httpx2.Response:
        """Return the answer with its body."""
        kept = {"Retry-After", "Content-Type"}
        headers = {name: self._response.headers[name] for name in kept if name in self._response.headers}
        return httpx2.Response(self._response.status_code, headers=headers, content=bytes(self._parts))
