"""The callback receiver under load and failure: repeated deliveries, slow handlers, the queue and its end."""

import asyncio
import json
import logging
import threading
import time
from typing import Any

import anyio
import httpx2
import pytest
from seedbed_client import Callback, CallbackReceiver, ConfigurationError
from seedbed_client.callbacks import parse_callback


def body_of(task_id: str) -> bytes:
    record = {"taskId": task_id, "model": "m", "state": "fail", "param": "{}", "createTime": 1, "failCode": "422"}
    return json.dumps({"code": 501, "msg": "Playground task failed.", "data": record}).encode()


async def deliver(receiver: CallbackReceiver, task_id: str = "t1") -> httpx2.Response:
    transport = httpx2.ASGITransport(receiver, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport) as http:
        return await http.post("http://here/", content=body_of(task_id))


class Handler:
    """A handler that waits to be released, and fails the first times.

    Args:
        failures: Number of calls that fail.
    """

    def __init__(self, failures: int = 0) -> None:
        self.began, self.release = asyncio.Event(), asyncio.Event()
        self.calls: list[str] = []
        self._failures = failures

    async def __call__(self, callback: Callback) -> None:
        self.calls.append(callback.task.task_id)
        self.began.set()
        await self.release.wait()
        if len(self.calls) <= self._failures:
            raise OSError("the disk is full")


@pytest.mark.parametrize(
    ("failures", "statuses", "calls"),
    [(0, {200}, 1), (1, {200, 500}, 2), (2, {200, 500}, 3), (5, {500}, 5)],
)
def test_overlapping_deliveries_have_the_outcome_of_the_handler(failures: int, statuses: set[int], calls: int) -> None:
    """Five deliveries at once: a later one takes over when an earlier one has failed, and none is confirmed falsely."""

    async def run() -> None:
        handler = Handler(failures)
        receiver = CallbackReceiver(handler)
        deliveries = [asyncio.create_task(deliver(receiver)) for _ in range(5)]
        await handler.began.wait()
        assert not any(delivery.done() for delivery in deliveries)
        handler.release.set()
        answers = [response.status_code for response in await asyncio.gather(*deliveries)]
        assert set(answers) == statuses
        assert answers.count(500) == min(failures, 5)
        assert len(handler.calls) == calls
        assert receiver._in_hand == {}

    asyncio.run(run())


def test_a_delivery_that_waits_too_long_is_asked_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seedbed_client.callbacks._PATIENCE", 0.05)

    async def run() -> None:
        handler = Handler(failures=1)
        receiver = CallbackReceiver(handler)
        first = asyncio.create_task(deliver(receiver))
        await handler.began.wait()
        again = await deliver(receiver)
        assert (again.status_code, again.headers["retry-after"]) == (503, "5")
        handler.release.set()
        assert (await first).status_code == 500
        assert (await deliver(receiver)).status_code == 200
        assert (await deliver(receiver)).status_code == 200
        assert handler.calls == ["t1", "t1"]

    asyncio.run(run())


def test_a_cancelled_delivery_is_not_remembered() -> None:
    async def run() -> None:
        handler = Handler()
        receiver = CallbackReceiver(handler)
        first = asyncio.create_task(deliver(receiver))
        await handler.began.wait()
        first.cancel()
        await asyncio.wait([first])
        handler.release.set()
        assert (await deliver(receiver)).status_code == 200
        assert handler.calls == ["t1", "t1"]

    asyncio.run(run())


def test_a_slow_function_does_not_stop_the_server() -> None:
    released = threading.Event()

    def handle(callback: Callback) -> None:
        if callback.task.task_id == "slow":
            assert released.wait(30)

    async def run() -> None:
        receiver = CallbackReceiver(handle)
        slow = asyncio.create_task(deliver(receiver, "slow"))
        assert (await deliver(receiver, "fast")).status_code == 200
        assert not slow.done()
        released.set()
        assert (await slow).status_code == 200

    asyncio.run(run())


def test_what_a_receiver_remembers_is_bounded() -> None:
    receiver = CallbackReceiver()

    async def run() -> None:
        assert (await deliver(receiver, "t" * 1000)).status_code == 200
        assert (await deliver(receiver, "t" * 1001)).status_code == 400
        for number in range(20_000):
            await receiver._accept(parse_callback(body_of(f"t{number}")))

    asyncio.run(run())
    assert len(receiver._handled._ids) == len(receiver.inbox._arrived._ids) == 10_000
    assert receiver._in_hand == {}


def test_a_queue_acknowledges_at_once_and_refuses_what_does_not_fit() -> None:
    async def run() -> None:
        handler = Handler()
        async with CallbackReceiver(handler, queue_size=2, workers=1) as receiver:
            assert (await deliver(receiver, "t0")).status_code == 200
            await handler.began.wait()
            assert [(await deliver(receiver, f"t{number}")).status_code for number in (1, 2)] == [200, 200]
            full = await deliver(receiver, "t3")
            assert (full.status_code, full.headers["retry-after"]) == (503, "5")
            assert handler.calls == ["t0"]
            handler.release.set()
        assert handler.calls == ["t0", "t1", "t2"]
        with pytest.raises(RuntimeError, match="async with receiver"):
            await receiver._accept(parse_callback(body_of("t3")))
        async with receiver:
            assert (await deliver(receiver, "t3")).status_code == 200
        assert handler.calls == ["t0", "t1", "t2", "t3"]

    asyncio.run(run())


def test_the_failure_of_a_queued_handler_is_reported_and_handled_again(caplog: pytest.LogCaptureFixture) -> None:
    reported: list[tuple[str, str]] = []

    async def on_error(callback: Callback, error: BaseException) -> None:
        reported.append((callback.task.task_id, str(error)))
        raise ValueError("on_error fails, too")

    async def run(**options: Any) -> None:
        handler = Handler(failures=1)
        handler.release.set()
        async with CallbackReceiver(handler, queue_size=5, workers=1, **options) as receiver:
            for task_id in ("t1", "t2"):
                await deliver(receiver, task_id)
        async with receiver:
            assert (await deliver(receiver, "t1")).status_code == 200
        assert handler.calls == ["t1", "t2", "t1"]

    asyncio.run(run(on_error=on_error))
    assert reported == [("t1", "the disk is full")]
    assert "on_error failed" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.ERROR, "seedbed_client"):
        asyncio.run(run())
    assert "the callback of task t1 was acknowledged" in caplog.text
    assert "OSError: the disk is full" in caplog.text


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_end_of_a_queue_is_bounded_and_names_what_is_left(backend: str) -> None:
    reported: list[tuple[str, type[BaseException]]] = []

    async def never(_: Callback) -> None:
        await anyio.sleep_forever()

    async def run() -> None:
        receiver = CallbackReceiver(
            never,
            queue_size=5,
            workers=1,
            drain_seconds=0.05,
            on_error=lambda callback, error: reported.append((callback.task.task_id, type(error))),
        )
        async with receiver:
            for task_id in ("t1", "t2"):
                assert (await receiver._accept(parse_callback(body_of(task_id))))[0] == 200
            await anyio.wait_all_tasks_blocked()

    began = time.monotonic()
    anyio.run(run, backend=backend)
    assert sorted(reported) == [("t1", TimeoutError), ("t2", TimeoutError)]
    assert time.monotonic() - began < 20


def test_a_server_starts_and_drains_a_receiver_that_is_its_application() -> None:
    handled: list[str] = []
    receiver = CallbackReceiver(lambda callback: handled.append(callback.task.task_id), queue_size=5)
    sent: list[str] = []

    async def run() -> None:
        events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        started = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message["type"])
            started.set()

        life = asyncio.create_task(receiver({"type": "lifespan"}, events.get, send))
        await events.put({"type": "lifespan.startup"})
        await started.wait()
        assert (await deliver(receiver)).status_code == 200
        await events.put({"type": "lifespan.shutdown"})
        await life

    asyncio.run(run())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert handled == ["t1"]


WRONG: list[tuple[str, list[Any]]] = [
    ("tolerance", [-1, float("nan"), float("inf"), True, "300", None]),
    ("queue_size", [0, -1, True, 1.5, 10**12]),
    ("workers", [0, -1, True, 1.5, None, 10**9]),
    ("drain_seconds", [-1, float("nan"), float("inf"), True, None]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG for value in values])
def test_an_invalid_number_is_refused_with_its_name(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"invalid {name} "):
        CallbackReceiver(print, **{"queue_size": 1, name: value})  # type: ignore[arg-type]


def test_a_queue_without_a_handler_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="pass handle"):
        CallbackReceiver(queue_size=1)
