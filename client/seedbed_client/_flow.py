"""What a flow may ask of the client that runs it.

A flow is a generator: it yields a step, and is sent what came of it, or thrown the error. The clients, one blocking
and one not, do what it says and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    import httpx2

    from seedbed_client._callback_inbox import CallbackInbox


T = TypeVar("T")

LARGEST_ANSWER = 4 * 1024 * 1024
"""In bytes; records have some thousands."""


class HttpRequest(msgspec.Struct, frozen=True):
    """An HTTP request to be made; its response is sent back.

    Attributes:
        method: HTTP method.
        url: Where it goes.
        auth: What puts the key into it.
        headers: Headers beside those of every request.
        params: Its query.
        content: Its body.
        timeout: Seconds that it may take; ``None`` for those of the client.
        largest: Bytes of an answer that are taken.
        begin: Given the response before its body, to look at its headers.
        sink: Given the body in parts, which then does not stand in the response.
    """

    method: str
    url: str
    auth: httpx2.Auth | None = None
    headers: Mapping[str, str] = {}
    params: Mapping[str, str] | None = None
    content: bytes | None = None
    timeout: float | None = None
    largest: int = LARGEST_ANSWER
    begin: Callable[[httpx2.Response], object] | None = None
    sink: Callable[[bytes], object] | None = None

    def __repr__(self) -> str:
        return f"Call({self.method} {self.url})"  # headers may hold what is secret


class Pause(msgspec.Struct, frozen=True):
    """A time to wait, in seconds."""

    seconds: float


class AwaitCallback(msgspec.Struct, frozen=True):
    """A callback to wait for; whether it came is sent back.

    Attributes:
        mailbox: Where it would come.
        task_id: Of which task.
        seconds: How long at most.
    """

    mailbox: CallbackInbox
    task_id: str
    seconds: float


Action: TypeAlias = HttpRequest | Pause | AwaitCallback

ClientOperation: TypeAlias = "Generator[Action, Any, T]"
"""A flow that ends with a T."""
