"""The actions that an operation asks its runner to perform.

An operation is a generator. It yields an action and receives its result, or the error that the action raised. All logic
lives in operations; the blocking and the asynchronous runner only perform actions, so they cannot disagree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    import httpx2

    from seedbed_client._callback_inbox import CallbackInbox


T = TypeVar("T")

MAX_RESPONSE_BYTES: Final = 4 * 1024 * 1024
"""Largest response of the API that is read; a record has a few thousand bytes."""


class HttpRequest(msgspec.Struct, frozen=True):
    """An HTTP request to send. Its result is the response.

    Attributes:
        method: HTTP method.
        url: Absolute URL.
        auth: Adds the API key to the request.
        headers: Headers in addition to those of every request.
        params: Query parameters.
        content: Body.
        timeout: Seconds that the request may take; by default the timeout of the client.
        max_bytes: Largest response body to read.
        on_send: Called before the first byte of the body may leave.
        on_response: Called with the response before its body is read.
        sink: Called with each part of the body. With a sink, the response that is returned has no body.
    """

    method: str
    url: str
    auth: httpx2.Auth | None = None
    headers: Mapping[str, str] = {}
    params: Mapping[str, str] | None = None
    content: bytes | None = None
    timeout: float | None = None
    max_bytes: int = MAX_RESPONSE_BYTES
    on_send: Callable[[], object] | None = None
    on_response: Callable[[httpx2.Response], object] | None = None
    sink: Callable[[bytes], object] | None = None

    def __repr__(self) -> str:
        # Tracebacks show reprs, and headers may hold secrets.
        return f"HttpRequest({self.method} {self.url})"


class Pause(msgspec.Struct, frozen=True):
    """A pause, in seconds."""

    seconds: float


class AwaitCallback(msgspec.Struct, frozen=True):
    """A wait for the callback of a task. Its result is whether the callback arrived.

    Attributes:
        inbox: Inbox in which the callback would arrive.
        task_id: ID of the task.
        seconds: Longest time to wait.
    """

    inbox: CallbackInbox
    task_id: str
    seconds: float


Action: TypeAlias = HttpRequest | Pause | AwaitCallback

ClientOperation: TypeAlias = "Generator[Action, Any, T]"
"""An operation that returns a T."""
