"""Direct responses: how an operation responds to a whole request before a task of the event loop runs."""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from starlette.types import Receive, Scope, Send

    from seedbed_mock.responses import ApiResponse

    Outcome = tuple[ApiResponse, Any]


_END_OF_HEAD: Final = b"\r\n\r\n"


class DirectOperation(Protocol):
    """What responds to a request that has arrived whole."""

    def handle(self, scope: Scope, body: bytes, /) -> Coroutine[Any, Any, Outcome]:
        """Return the response, and the fault that changes how it is sent."""
        ...

    async def send(self, response: ApiResponse, fault: Any, scope: Scope, receive: Receive, send: Send, /) -> None:
        """Send a response with a fault."""
        ...


class AwaitedResult(asyncio.Future[Any]):
    """A result for which an operation can wait without a task: what gives it needs nothing of its caller."""


class KnownHead:
    """The head of a request that got its response directly, as bytes and as it was parsed.

    A client that keeps its connection often sends the same head again. What follows from it need not be found again.

    Args:
        operation: What responded.
        scope: ASGI scope of the request.
        head: Its head as the client sent it.
        size: Size of the whole request in bytes.
    """

    __slots__ = ("head", "length", "operation", "scope", "size")

    def __init__(self, operation: DirectOperation, scope: Scope, head: bytes, size: int) -> None:
        self.operation = operation
        self.scope = scope
        self.head = head
        self.length = len(head)
        self.size = size

    @classmethod
    def of(cls, operation: DirectOperation, scope: Scope, body: bytes, data: bytes) -> KnownHead | None:
        """Return the head of a request, ``None`` if the data has more than its head and its body as it is.

        Args:
            operation: What responded.
            scope: ASGI scope of the request.
            body: Its body.
            data: What the client sent.
        """
        length = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        # A body in chunks is larger in the data, and so are two requests.
        return cls(operation, scope, data[:length], len(data)) if length + len(body) == len(data) else None


async def ended(outcome: Outcome) -> Outcome:
    """Return an outcome that is known already."""
    return outcome


async def whole(coroutine: Coroutine[Any, Any, Outcome], awaited: Any) -> Outcome:
    """Go on with a coroutine that has begun without a task, and return its result.

    Args:
        coroutine: The coroutine.
        awaited: What it awaits first.
    """
    outcome: Outcome = await _continued(coroutine, awaited)
    return outcome


@types.coroutine
def _continued(coroutine: Coroutine[Any, Any, Outcome], awaited: Any) -> Generator[Any, Any, Any]:
    resume: Callable[[Any], Any]
    while True:
        try:
            value = yield awaited
        except BaseException as error:  # among them the cancellation, which the coroutine must see
            resume, value = coroutine.throw, error
        else:
            resume = coroutine.send
        try:
            awaited = resume(value)
        except StopIteration as end:
            return end.value
