"""The asynchronous runner: it performs the actions that operations yield."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

import anyio
import httpx2

from seedbed_client._actions import AwaitCallback, HttpRequest
from seedbed_client._config import without_frames
from seedbed_client._http import HEADERS, ON_SEND, AsyncHttpClients, Deadline, ResponseReader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from seedbed_client._actions import Action, ClientOperation
    from seedbed_client._operations import Context

T = TypeVar("T")


class AsyncRunner:
    """Runs operations over HTTP.

    Args:
        context: Context of the client.
        transport: Transport for the HTTP clients that the runner makes.
        http_client: HTTP client of the user, which is used instead and not closed.
        sleep: Called for a pause, with its seconds.
    """

    def __init__(
        self,
        context: Context,
        transport: httpx2.AsyncBaseTransport | None,
        http_client: httpx2.AsyncClient | None,
        sleep: Callable[[float], Awaitable[object]] | None,
    ) -> None:
        self._http = AsyncHttpClients(self._make_http_client, http_client)
        # Only the transport of this package says when a request leaves.
        self._knows_when_sent = transport is None and http_client is None
        self._transport, self._timeout, self._sleep = transport, context.timeout, sleep or anyio.sleep
        # No proxy of the environment leads to this machine.
        self._trust_env = not context.endpoint.is_local

    async def run(self, operation: ClientOperation[T]) -> T:
        """Run an operation to its end and return its result."""
        try:
            action = next(operation)
            while True:
                try:
                    result = await self._perform(action)
                except Exception as error:
                    action = operation.throw(error)
                else:
                    action = operation.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            operation.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _perform(self, action: Action) -> object:
        if isinstance(action, HttpRequest):
            return await self._send(action)
        if isinstance(action, AwaitCallback):
            return await action.inbox.wait_async(action.task_id, action.seconds)
        return await self._sleep(action.seconds)

    async def _send(self, request: HttpRequest) -> httpx2.Response:
        outer, timeout = sys.exception(), self._timeout if request.timeout is None else request.timeout
        # The last fetches of a wait have a time of their own, and the wait ends with it, sent or not.
        deadline = Deadline(timeout, restarts_when_sent=request.timeout is None)
        extensions: dict[str, object] = {"trace": deadline.atrace}
        try:
            http_client = await self._http.for_url(request.url)
            if request.on_send and self._knows_when_sent:
                extensions[ON_SEND] = request.on_send
            elif request.on_send:
                request.on_send()
            with deadline.applied():
                async with http_client.stream(
                    request.method,
                    request.url,
                    auth=request.auth,
                    headers={**HEADERS, **request.headers},
                    params=request.params,
                    content=request.content,
                    timeout=timeout,
                    extensions=extensions,
                ) as response:
                    reader = ResponseReader(request, response, deadline)
                    async for part in response.aiter_bytes():
                        reader.feed(part)
                    return reader.result()
        except BaseException as error:
            raise without_frames(error, outer)  # noqa: B904 (it is the same error)

    def _make_http_client(self, scheme: str) -> httpx2.AsyncClient:
        transport = self._transport
        if transport is None:
            # Importing httpcore2 is slow; httpx2 also imports it with its first client.
            from seedbed_client._async_transport import AsyncDeadlineTransport  # see above

            transport = AsyncDeadlineTransport(scheme, trust_env=self._trust_env)
        return httpx2.AsyncClient(transport=transport, timeout=self._timeout, trust_env=self._trust_env)
