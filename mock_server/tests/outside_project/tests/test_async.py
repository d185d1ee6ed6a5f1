"""With pytest-asyncio and anyio."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import posters
import pytest
from anyio.abc import SocketAttribute, SocketStream
from seedbed_mock import AsyncMockServer, MockServer, running_async

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
slow = pytest.mark.seedbed(task_seconds=60, clock="manual")


@asynccontextmanager
async def inbox() -> AsyncIterator[tuple[str, list[Any]]]:
    received: list[Any] = []

    async def receive(stream: SocketStream) -> None:
        async with stream:
            content = b""
            while not content.endswith(b"}"):
                content += await stream.receive()
            received.append(json.loads(content.partition(b"\r\n\r\n")[2]))
            await stream.send(ANSWER)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, receive)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}", received  # noqa: S610
        group.cancel_scope.cancel()


async def wait_for_poster(server: AsyncMockServer) -> None:
    headers = {"Authorization": f"Bearer {server.key}"}
    async with inbox() as (url, received), httpx.AsyncClient(base_url=server.url, headers=headers) as client:
        task_id = await posters.create_async(client, "a hill", url)
        await server.advance(60)
        assert (await server.wait_for_callback(task_id))["outcome"] == "delivered"
        assert [each["data"]["taskId"] for each in received] == [task_id]
        assert [call["operation"] for call in await server.calls()] == ["createTask"]


@slow
@pytest.mark.asyncio
async def test_a_callback_arrives_with_pytest_asyncio(aseedbed: AsyncMockServer) -> None:
    await wait_for_poster(aseedbed)


@slow
@pytest.mark.anyio
async def test_a_callback_arrives_with_anyio(aseedbed: AsyncMockServer) -> None:
    await wait_for_poster(aseedbed)


@pytest.mark.anyio
async def test_a_server_of_its_own() -> None:
    async with running_async(task_seconds=60, clock="manual") as server:
        await wait_for_poster(server)


@pytest.mark.asyncio
async def test_a_blocking_method_says_what_to_use(seedbed: MockServer) -> None:
    with pytest.raises(RuntimeError, match="aseedbed"):
        seedbed.advance(1)
