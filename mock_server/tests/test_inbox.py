"""``seedbed.inbox()``: it receives the callbacks of a test, waits for them and verifies their signatures."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from seedbed_mock import AsyncMockServer, MockServer
from seedbed_mock.callbacks.inbox import Inbox
from seedbed_mock.callbacks.sender import DeliveryError, send_callback
from seedbed_mock.callbacks.targets import AllowList, resolve

SIGNED = "worker:signing-key=secret"
Create = Callable[..., str]


@pytest.mark.seedbed(key=SIGNED)
def test_an_inbox_receives_and_verifies_a_callback(seedbed: MockServer, create: Create) -> None:
    inbox = seedbed.inbox()
    task_id = create(callBackUrl=inbox.url)
    callback = inbox.wait_for(task_id)
    assert (callback.task_id, callback.code, callback.record["state"]) == (task_id, 200, "success")
    assert callback.headers["content-type"] == "application/json"
    inbox.verify()
    inbox.verify(callback)
    assert inbox.all == [callback]


@pytest.mark.seedbed(key=SIGNED)
@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("callback.unsigned", "is not signed"),
        ("callback.wrong-signature", "another key"),
        ("callback.other-id", "another task"),
        ("callback.stale", "seconds away"),
    ],
)
def test_a_false_callback_is_not_verified(seedbed: MockServer, create: Create, rule: str, words: str) -> None:
    seedbed.add_faults(rule)
    inbox = seedbed.inbox()
    inbox.wait_for(create(callBackUrl=inbox.url))
    with pytest.raises(AssertionError, match=words):
        inbox.verify()


def test_verification_needs_a_key(seedbed: MockServer) -> None:
    with pytest.raises(ValueError, match="no signing key"):
        seedbed.inbox().verify()


@pytest.mark.seedbed(clock="manual", task_seconds=60)
def test_an_inbox_that_fails_once_gets_the_callback_again(seedbed: MockServer, create: Create) -> None:
    inbox = seedbed.inbox(500)
    task_id = create(callBackUrl=inbox.url)
    with pytest.raises(TimeoutError, match=r"Expected 1 delivery of the task .* received nothing\. Advance the clock"):
        inbox.wait_for(task_id, timeout=0)
    seedbed.advance(60)
    assert inbox.wait_for(task_id).status == 500
    seedbed.advance(2)
    assert inbox.wait_for(task_id, number=2).status == 200
    assert len(inbox.all) == 2


@pytest.mark.seedbed(clock="manual", task_seconds=60, key=SIGNED, sign_with="clock")
def test_the_time_of_a_signature_is_that_of_the_servers_clock(seedbed: MockServer, create: Create) -> None:
    seedbed.advance(86_400)
    inbox = seedbed.inbox()
    create(callBackUrl=inbox.url)
    seedbed.advance(60)
    inbox.wait_for()
    inbox.verify()


def test_each_inbox_has_its_own_callbacks(seedbed: MockServer, create: Create) -> None:
    one, other = seedbed.inbox(), seedbed.inbox()
    task_id = create(callBackUrl=other.url)
    assert other.wait_for(task_id).task_id == task_id
    assert one.all == []


def test_an_inbox_is_closed_when_the_server_starts_over(seedbed_factory: Callable[..., MockServer]) -> None:
    with seedbed_factory() as server:
        inbox = server.inbox()
        server.play()
        with pytest.raises(DeliveryError, match="refused"):
            send(inbox, b"{}")


def send(inbox: Inbox, body: bytes) -> int:
    async def deliver() -> int:
        return (await send_callback(await resolve(inbox.url, AllowList()), body, {})).status

    return asyncio.run(deliver())


@pytest.mark.parametrize("body", [b"", b"callback", b"[]", b"7", b'{"data": 7}', b"\xff", b"[" * 100_000])
def test_anything_that_arrives_is_kept(body: bytes) -> None:
    with Inbox() as inbox:
        assert send(inbox, body) == 200
        (callback,) = inbox.all
    assert (callback.body, callback.task_id, callback.code, callback.record) == (body, "", None, {})
    with suppress(ValueError, RecursionError):
        assert callback.content == json.loads(body)


@pytest.mark.anyio
@pytest.mark.seedbed(key=SIGNED)
async def test_an_async_inbox_leaves_the_loop_free(aseedbed: AsyncMockServer, create: Create) -> None:
    inbox = aseedbed.inbox()
    task_id = create(callBackUrl=inbox.url)
    callback = await inbox.wait_for(task_id)
    inbox.verify(callback)
    assert inbox.all == [callback]
