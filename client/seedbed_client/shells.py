"""What runs flows: it makes the calls and the pauses that they ask for, and knows nothing else."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2

from seedbed_client.connections import HEADERS, Connections, Intake
from seedbed_client.deadline import Limit
from seedbed_client.errors import SeedreamError
from seedbed_client.secret import without_frames
from seedbed_client.steps import Call, Listen

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from seedbed_client.flows import Context
    from seedbed_client.steps import Flow, Step

T = TypeVar("T")

_TOLD = (httpx2.RequestError, SeedreamError, OSError)
"""Errors of a step that the flow hears of; others end it."""


class BlockingShell:
    """Runs flows, and blocks meanwhile.

    Args:
        context: Of the client.
        transport: What carries the requests.
        given: An HTTP client to use, of somebody else.
        sleep: What waits, given seconds.
    """

    def __init__(
        self,
        context: Context,
        transport: httpx2.BaseTransport | None,
        given: httpx2.Client | None,
        sleep: Callable[[float], object] | None,
    ) -> None:
        def make(verify: ssl.SSLContext | bool) -> httpx2.Client:  # noqa: FBT001 (httpx2's own)
            trusts = not context.endpoint.is_local
            return httpx2.Client(verify=verify, timeout=context.timeout, transport=transport, trust_env=trusts)

        self._http = Connections(make, given)
        self._timeout, self._sleep = context.timeout, sleep or time.sleep

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end, and return what it does."""
        try:
            step = next(flow)
            while True:
                try:
                    came = self._do(step)
                except _TOLD as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(came)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            flow.close()

    def close(self) -> None:
        """Close the connections."""
        for http in self._http.take_all():
            http.close()

    def _do(self, step: Step) -> object:
        if isinstance(step, Call):
            return self._call(step)
        return self._listen(step) if isinstance(step, Listen) else self._sleep(step.seconds)

    def _call(self, call: Call) -> httpx2.Response:
        outer, limit = sys.exception(), _limit(call, self._timeout)
        request = _request(call, self._timeout, limit.trace)
        try:
            with limit.in_force(), self._http.for_url(call.url).stream(**request) as response:
                intake = Intake(call, response, limit)
                for part in response.iter_bytes():
                    intake.take(part)
                return intake.end()
        except BaseException as error:
            raise without_frames(error, outer)  # noqa: B904 (it is the same error)

    @staticmethod
    def _listen(step: Listen) -> bool:
        came = threading.Event()
        leave = step.mailbox.watch(step.task_id, came.set)
        try:
            return came.wait(step.seconds)
        finally:
            leave()


class AsyncShell:
    """Runs flows, and lets others run meanwhile; the arguments are as for :class:`BlockingShell`."""

    def __init__(
        self,
        context: Context,
        transport: httpx2.AsyncBaseTransport | None,
        given: httpx2.AsyncClient | None,
        sleep: Callable[[float], Awaitable[object]] | None,
    ) -> None:
        def make(verify: ssl.SSLContext | bool) -> httpx2.AsyncClient:  # noqa: FBT001 (httpx2's own)
            trusts = not context.endpoint.is_local
            return httpx2.AsyncClient(verify=verify, timeout=context.timeout, transport=transport, trust_env=trusts)

        self._http = Connections(make, given)
        self._timeout, self._sleep = context.timeout, sleep or _sleep

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end, and return what it does."""
        try:
            step = next(flow)
            while True:
                try:
                    came = await self._do(step)
                except _TOLD as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(came)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            flow.close()

    async def close(self) -> None:
        """Close the connections."""
        for http in self._http.take_all():
            await http.aclose()

    async def _do(self, step: Step) -> object:
        if isinstance(step, Call):
            return await self._call(step)
        return await (self._listen(step) if isinstance(step, Listen) else self._sleep(step.seconds))

    async def _call(self, call: Call) -> httpx2.Response:
        outer, limit = sys.exception(), _limit(call, self._timeout)
        request = _request(call, self._timeout, limit.atrace)
        try:
            with limit.in_force():
                async with self._http.for_url(call.url).stream(**request) as response:
                    intake = Intake(call, response, limit)
                    async for part in response.aiter_bytes():
                        intake.take(part)
                    return intake.end()
        except BaseException as error:
            raise without_frames(error, outer)  # noqa: B904 (it is the same error)

    @staticmethod
    async def _listen(step: Listen) -> bool:
        import asyncio  # noqa: PLC0415 (most programs that import this package block)

        came, loop = asyncio.Event(), asyncio.get_running_loop()
        leave = step.mailbox.watch(step.task_id, lambda: loop.call_soon_threadsafe(came.set))
        try:
            async with asyncio.timeout(step.seconds):
                return await came.wait()
        except TimeoutError:
            return False
        finally:
            leave()


def _limit(call: Call, timeout: float) -> Limit:
    """Return how long a call may take; one that was given a time of its own has no more."""
    return Limit(timeout if call.timeout is None else call.timeout, begins_when_sent=call.timeout is None)


def _request(call: Call, timeout: float, trace: Callable[..., object]) -> dict[str, Any]:
    """Return what an HTTP client is asked for."""
    return {
        "method": call.method,
        "url": call.url,
        "auth": call.auth,
        "headers": {**HEADERS, **call.headers},
        "params": call.params,
        "content": call.content,
        "timeout": timeout if call.timeout is None else call.timeout,
        "extensions": {"trace": trace},
    }


async def _sleep(seconds: float) -> None:
    import asyncio  # noqa: PLC0415 (as above)

    await asyncio.sleep(seconds)
