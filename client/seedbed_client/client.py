"""The clients: shells that put HTTP around the flows, one that blocks and one that does not."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from typing import TYPE_CHECKING, TypeVar

import httpx2

from seedbed_client import flows
from seedbed_client.config import Endpoint, live_endpoint, local_endpoint
from seedbed_client.flows import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from seedbed_schemas import Contract

    from seedbed_client.flows import Flow, Pause
    from seedbed_client.models import Task

T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds that one HTTP request may take."""

PATIENCE = 900.0
"""Seconds after which a task is given up; the service's documentation advises 10 to 15 minutes."""


class SeedreamClient:
    """A client that blocks.

    Args:
        base_url: Where the service is; else ``SEEDBED_BASE_URL``, else the local fake. Never the paid service.
        api_key: Key; else ``SEEDBED_API_KEY``, else the local fake's own.
        contract: Contract of the model to ask, by default the shipped one.
        timeout: Seconds that one HTTP request may take.
        transport: What carries the requests, such as ``httpx2.MockTransport``.
        sleep: What waits, given seconds.
        clock: What tells the time while it waits, in seconds.

    Raises:
        ConfigurationError: The URL or the key cannot be used.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        contract: Contract | None = None,
        timeout: float = TIMEOUT,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = local_endpoint(base_url, api_key, contract)
        self._http = httpx2.Client(timeout=timeout, transport=transport, trust_env=_trusts_proxies(self._endpoint))
        self._sleep, self._clock = sleep, clock

    @classmethod
    def live(
        cls,
        api_key: str,
        *,
        contract: Contract | None = None,
        timeout: float = TIMEOUT,
        transport: httpx2.BaseTransport | None = None,
    ) -> Self:
        """Return a client of the paid service, where every task costs credits.

        Args:
            api_key: A key of the paid service.
            contract: Contract of the model to ask, by default the shipped one.
            timeout: Seconds that one HTTP request may take.
            transport: What carries the requests.

        Raises:
            ConfigurationError: There is no key.
        """
        client = cls.__new__(cls)
        client._endpoint = live_endpoint(api_key, contract)
        client._http = httpx2.Client(timeout=timeout, transport=transport)
        client._sleep, client._clock = time.sleep, time.monotonic
        return client

    def create_task(self, prompt: str, /, *, callback_url: str | None = None, **options: object) -> str:
        """Ask for a task, once, and return its name.

        Args:
            prompt: What the image shows.
            callback_url: Where the service shall POST the finished task.
            options: Fields of the input by their documented names; what is left out has its documented default.

        Raises:
            ApiError: The service refused.
            CreationUnknown: It cannot be told whether the task was made.
        """
        return self._run(flows.create_task(self._endpoint, prompt, callback_url=callback_url, options=options))

    def get_task(self, task_id: str) -> Task:
        """Return a task as it is now.

        Raises:
            ApiError: The service refused.
            UnreadableAnswer: It answered in no form of its own.
        """
        return self._run(flows.get_task(self._endpoint, task_id))

    def wait(
        self, task_id: str, *, timeout: float = PATIENCE, on_update: Callable[[Task], object] | None = None
    ) -> Task:
        """Look at a task until it has succeeded.

        Args:
            task_id: Its name.
            timeout: Seconds after which to give up.
            on_update: Called with the task after each look.

        Raises:
            TaskFailed: It ended without a result.
            WaitTimeout: It had not ended in time.
            ApiError: The service refused, for a reason that does not pass by itself.
        """
        return self._run(flows.wait(self._endpoint, task_id, timeout=timeout, on_update=on_update, clock=self._clock))

    def generate(
        self,
        prompt: str,
        /,
        *,
        callback_url: str | None = None,
        timeout: float = PATIENCE,
        on_update: Callable[[Task], object] | None = None,
        **options: object,
    ) -> Task:
        """Ask for a task and wait for it: :meth:`create_task`, then :meth:`wait`."""
        task_id = self.create_task(prompt, callback_url=callback_url, **options)
        return self.wait(task_id, timeout=timeout, on_update=on_update)

    def download(self, url: str) -> bytes:
        """Return a result image.

        Raises:
            UnreadableAnswer: There is no image at that URL.
        """
        return self._run(flows.download(url))

    def credits(self) -> float:
        """Return the balance, in credits."""
        return self._run(flows.get_credits(self._endpoint))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                try:
                    response = self._do(step)
                except httpx2.RequestError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    def _do(self, step: Call | Pause) -> httpx2.Response | None:
        if isinstance(step, Call):
            return self._http.request(
                step.method, step.url, headers=step.headers, params=step.params, content=step.content
            )
        self._sleep(step.seconds)
        return None


class AsyncSeedreamClient:
    """A client that does not block; its methods are those of :class:`SeedreamClient`, to be awaited.

    Args:
        base_url: As for :class:`SeedreamClient`.
        api_key: As for :class:`SeedreamClient`.
        contract: As for :class:`SeedreamClient`.
        timeout: As for :class:`SeedreamClient`.
        transport: What carries the requests, such as ``httpx2.ASGITransport``.
        sleep: What waits, given seconds, when awaited.
        clock: What tells the time while it waits, in seconds.

    Raises:
        ConfigurationError: The URL or the key cannot be used.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        contract: Contract | None = None,
        timeout: float = TIMEOUT,
        transport: httpx2.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = local_endpoint(base_url, api_key, contract)
        self._http = httpx2.AsyncClient(timeout=timeout, transport=transport, trust_env=_trusts_proxies(self._endpoint))
        self._sleep, self._clock = sleep, clock

    @classmethod
    def live(
        cls,
        api_key: str,
        *,
        contract: Contract | None = None,
        timeout: float = TIMEOUT,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> Self:
        """Return a client of the paid service, as :meth:`SeedreamClient.live` does."""
        client = cls.__new__(cls)
        client._endpoint = live_endpoint(api_key, contract)
        client._http = httpx2.AsyncClient(timeout=timeout, transport=transport)
        client._sleep, client._clock = asyncio.sleep, time.monotonic
        return client

    async def create_task(self, prompt: str, /, *, callback_url: str | None = None, **options: object) -> str:
        """Ask for a task, as :meth:`SeedreamClient.create_task` does."""
        return await self._run(flows.create_task(self._endpoint, prompt, callback_url=callback_url, options=options))

    async def get_task(self, task_id: str) -> Task:
        """Return a task as it is now, as :meth:`SeedreamClient.get_task` does."""
        return await self._run(flows.get_task(self._endpoint, task_id))

    async def wait(
        self, task_id: str, *, timeout: float = PATIENCE, on_update: Callable[[Task], object] | None = None
    ) -> Task:
        """Look at a task until it has succeeded, as :meth:`SeedreamClient.wait` does."""
        flow = flows.wait(self._endpoint, task_id, timeout=timeout, on_update=on_update, clock=self._clock)
        return await self._run(flow)

    async def generate(
        self,
        prompt: str,
        /,
        *,
        callback_url: str | None = None,
        timeout: float = PATIENCE,
        on_update: Callable[[Task], object] | None = None,
        **options: object,
    ) -> Task:
        """Ask for a task and wait for it: :meth:`create_task`, then :meth:`wait`."""
        task_id = await self.create_task(prompt, callback_url=callback_url, **options)
        return await self.wait(task_id, timeout=timeout, on_update=on_update)

    async def download(self, url: str) -> bytes:
        """Return a result image, as :meth:`SeedreamClient.download` does."""
        return await self._run(flows.download(url))

    async def credits(self) -> float:
        """Return the balance, in credits."""
        return await self._run(flows.get_credits(self._endpoint))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                try:
                    response = await self._do(step)
                except httpx2.RequestError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _do(self, step: Call | Pause) -> httpx2.Response | None:
        if isinstance(step, Call):
            return await self._http.request(
                step.method, step.url, headers=step.headers, params=step.params, content=step.content
            )
        await self._sleep(step.seconds)
        return None


def _trusts_proxies(endpoint: Endpoint) -> bool:
    """Tell whether the environment's proxies are for this service: a proxy cannot reach this machine's loopback."""
    host = httpx2.URL(endpoint.base_url).host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host != "localhost"
    return not (address.is_loopback or address.is_unspecified)
