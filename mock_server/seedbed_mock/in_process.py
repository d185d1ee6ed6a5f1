"""A request to an application in the same process, without a socket."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import ASGIApp, Message, Scope


@dataclass(frozen=True, slots=True)
class InProcessResponse:
    """A response.

    Attributes:
        status: HTTP status.
        headers: Names in lower case, and values.
        body: Body.
    """

    status: int
    headers: Iterable[tuple[bytes, bytes]]
    body: bytes


async def call_in_process(
    app: ASGIApp, connection: Scope, method: str, target: str, *, headers: Mapping[str, str], body: bytes
) -> InProcessResponse:
    """Send a request to an application and return its response.

    Args:
        app: The application.
        connection: The part of the ASGI scope that does not depend on the request. Its ``root_path`` stands before the
            path.
        method: The method.
        target: Path and query.
        headers: The headers. Without ``Host``, that of ``127.0.0.1`` is sent.
        body: The body.

    Raises:
        ConnectionError: The application ends the request without a response, as some faults do.
    """
    path, _, query = target.partition("?")
    own = {"host": "127.0.0.1", **{name.lower(): value for name, value in headers.items()}}
    scope = {
        **connection,
        "method": method,
        "path": f"{connection.get('root_path', '')}{unquote(path)}",
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in own.items()],
    }
    received: list[Message] = [{"type": "http.request", "body": body}]
    sent: list[Message] = []

    async def receive() -> Message:
        return received.pop() if received else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    # Starlette raises an error of the server again after it has sent the response to it.
    with contextlib.suppress(Exception):
        await app(scope, receive, send)
    if not sent:
        raise ConnectionError("The server closes the connection without a response.")
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return InProcessResponse(sent[0]["status"], sent[0]["headers"], content)
