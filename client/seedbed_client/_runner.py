"""How long an answer may take as a whole: httpx2 bounds each part of it, and of parts there may be any number."""

from __future__ import annotations

import os
import ssl
import sys
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import httpx2
from seedbed_schemas import __version__

from seedbed_client._config import without_frames
from seedbed_client._flow import AwaitCallback, HttpRequest
from seedbed_client.errors import InvalidResponseError, SeedreamError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping

    from seedbed_client._flow import Action, ClientOperation
    from seedbed_client._operations import Context

    Read = Callable[..., bytes]
    AsyncRead = Callable[..., Awaitable[bytes]]

_SLOWEST: Final = 4096
"""Bytes of a file that come in a second at least."""

_SHORTEST: Final = 0.001
"""Seconds that a read is given at least: with none at all it would not wait, and fail for another reason."""


class Limit:
    """The time that an answer may take, which begins now.

    Args:
        seconds: How long.
        begins_when_sent: Whether it begins anew when the request is sent: what is asked for may cost, so that the time
            for which the request waited for a connection is no reason to throw its answer away.
    """

    def __init__(self, seconds: float, *, begins_when_sent: bool) -> None:
        self._seconds, self._begins_when_sent = seconds, begins_when_sent
        self._ends = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._ends - time.monotonic()

    def extend(self, size: int) -> None:
        """Allow for so many bytes of a file: a large one may take longer, as long as it goes on."""
        self._ends += size / _SLOWEST

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear what httpx2 is about to do: its extension ``trace``, for clients that block."""
        self._hear(event, info, _bounded)

    async def atrace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear what httpx2 is about to do: its extension ``trace``, for those that do not."""
        self._hear(event, info, _bounded_async)

    def _hear(self, event: str, info: Mapping[str, Any], bounded: Callable[[Any], object]) -> None:
        if self._begins_when_sent and event.endswith("send_request_headers.started"):
            self._ends = time.monotonic() + self._seconds
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            stream = info["return_value"]
            stream.read = bounded(stream.read)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Bound what is read while the block runs, by this task or thread."""
        token = _in_force.set(self)
        try:
            yield
        finally:
            _in_force.reset(token)


_in_force: ContextVar[Limit | None] = ContextVar("limit of the call being made", default=None)
# Connections outlive calls, so each read asks which limit is in force just then.


def _bounded(read: Read) -> Read:
    def read_in_time(size: int, timeout: float | None = None) -> bytes:
        return read(size, _shorter(timeout))

    return read_in_time


def _bounded_async(read: AsyncRead) -> Callable[..., Coroutine[Any, Any, bytes]]:
    async def read_in_time(size: int, timeout: float | None = None) -> bytes:
        return await read(size, _shorter(timeout))

    return read_in_time


def _shorter(timeout: float | None) -> float | None:
    limit = _in_force.get()
    if limit is None:
        return timeout
    left = max(limit.left, _SHORTEST)
    return left if timeout is None else min(timeout, left)


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

    def __init__(self, call: HttpRequest, response: httpx2.Response, limit: Limit) -> None:
        self._call, self._response, self._limit = call, response, limit
        self._size, self._parts = 0, bytearray()
        self._sink = call.sink or self._parts.extend
        if call.begin:
            call.begin(response)

    def take(self, part: bytes) -> None:
        """Take a part.

        Raises:
            httpx2.ReadTimeout: The answer takes too long, however quickly its parts follow one another.
            InvalidResponseError: It is too large.
        """
        self._size += len(part)
        if self._size > self._call.largest:
            raise InvalidResponseError(self._response.status_code, f"it is larger than {self._call.largest} bytes")
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


T = TypeVar("T")

_TOLD = (httpx2.RequestError, SeedreamError, OSError)
"""Errors of a step that the flow hears of; others end it."""


class Runner:
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

    def run(self, flow: ClientOperation[T]) -> T:
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

    def _do(self, step: Action) -> object:
        if isinstance(step, HttpRequest):
            return self._call(step)
        return self._listen(step) if isinstance(step, AwaitCallback) else self._sleep(step.seconds)

    def _call(self, call: HttpRequest) -> httpx2.Response:
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
    def _listen(step: AwaitCallback) -> bool:
        came = threading.Event()
        leave = step.mailbox.watch(step.task_id, came.set)
        try:
            return came.wait(step.seconds)
        finally:
            leave()


class AsyncRunner:
    """Runs flows, and lets others run meanwhile; the arguments are as for :class:`Runner`."""

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

    async def run(self, flow: ClientOperation[T]) -> T:
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

    async def _do(self, step: Action) -> object:
        if isinstance(step, HttpRequest):
            return await self._call(step)
        return await (self._listen(step) if isinstance(step, AwaitCallback) else self._sleep(step.seconds))

    async def _call(self, call: HttpRequest) -> httpx2.Response:
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
    async def _listen(step: AwaitCallback) -> bool:
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


def _limit(call: HttpRequest, timeout: float) -> Limit:
    """Return how long a call may take; one that was given a time of its own has no more."""
    return Limit(timeout if call.timeout is None else call.timeout, begins_when_sent=call.timeout is None)


def _request(call: HttpRequest, timeout: float, trace: Callable[..., object]) -> dict[str, Any]:
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
