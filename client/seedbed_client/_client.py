# Generated from _async_client.py by client/generate_sync.py: do not edit.
"""A blocking client of the service: it runs the operations over HTTP."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, overload

from seedbed_client import _downloads, _operations
from seedbed_client._config import Secret, live_endpoint, local_endpoint
from seedbed_client._operations import Context, Submission, text_to_image
from seedbed_client._polling import DEFAULT_SCHEDULE, MAX_RETRIES, Retries
from seedbed_client._runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, Self

    import httpx2
    from seedbed_schemas import Contract

    from seedbed_client._polling import PollingSchedule
    from seedbed_client.callbacks import CallbackReceiver
    from seedbed_client.models import Task


TIMEOUT = 30.0
"""Seconds that one HTTP request may take."""


class SeedreamClient:
    """A blocking client of the Seedream job API; threads may share it.

    Args:
        base_url: Where the service is; else ``SEEDBED_BASE_URL``, else the local fake. Never the paid service.
        api_key: Key; else ``SEEDBED_API_KEY``, else the local fake's own.
        contracts: Contracts of models to submit to, beside the shipped ones.
        timeout: Seconds that one HTTP request may take.
        max_retries: How often a call is made again that ended with what passes; see :mod:`seedbed_client._polling`.
        rhythm: How often to look at a task that is waited for, and for how long.
        transport: What carries the requests, such as ``httpx2.MockTransport``.
        http_client: An HTTP client of yours to use, which you close.
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
        contracts: Iterable[Contract] = (),
        timeout: float = TIMEOUT,
        max_retries: int = MAX_RETRIES,
        rhythm: PollingSchedule = DEFAULT_SCHEDULE,
        transport: httpx2.BaseTransport | None = None,
        http_client: httpx2.Client | None = None,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        key, api_key = Secret(api_key or ""), None  # so that no traceback shows it
        endpoint = local_endpoint(base_url, key)
        self._context = Context(endpoint, tuple(contracts), Retries(max_retries, clock), rhythm, timeout, clock)
        self._shell = Runner(self._context, transport, http_client, sleep)

    @classmethod
    def live(
        cls,
        api_key: str,
        *,
        contracts: Iterable[Contract] = (),
        timeout: float = TIMEOUT,
        max_retries: int = MAX_RETRIES,
        rhythm: PollingSchedule = DEFAULT_SCHEDULE,
        transport: httpx2.BaseTransport | None = None,
        http_client: httpx2.Client | None = None,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Return a client of the paid service, where every task costs credits; the rest is as for the class.

        Raises:
            ConfigurationError: There is no key.
        """
        key, api_key = Secret(api_key), ""
        client, endpoint = cls.__new__(cls), live_endpoint(key)
        client._context = Context(endpoint, tuple(contracts), Retries(max_retries, clock), rhythm, timeout, clock)
        client._shell = Runner(client._context, transport, http_client, sleep)
        return client

    def create_task(
        self,
        prompt: str,
        /,
        *,
        aspect_ratio: str = "1:1",
        quality: str = "basic",
        callback_url: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> str:
        """Ask for an image and return the name of its task.

        Args:
            prompt: What the image shows.
            aspect_ratio: Width to height.
            quality: Size class, ``basic`` for 2K or ``high`` for 4K.
            callback_url: Where the service shall POST the finished task.
            extra_headers: Headers beside those of every request.

        Raises:
            ValidationError: The request breaks the contract; nothing was sent.
            ApiError: The service refused; nothing was made.
            SubmissionUnknownError: It cannot be told whether the task was made; it is not asked for again.
            httpx2.ConnectError: Nothing answers there; nothing was made.
        """
        submission = text_to_image(prompt, aspect_ratio, quality, callback_url, extra_headers)
        return self._shell.run(_operations.create_task(self._context, submission))

    def submit(
        self,
        *,
        model: str,
        input: Mapping[str, Any],  # noqa: A002 (the service's own word)
        callback_url: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        validate: bool = True,
    ) -> str:
        """Ask any model for a task and return its name; :meth:`create_task` for the errors.

        Args:
            model: The model.
            input: What it is asked.
            callback_url: Where the service shall POST the finished task.
            extra_headers: Headers beside those of every request.
            validate: Whether to hold the request to the model's contract first, and to fill in its defaults.

        Raises:
            ConfigurationError: There is no contract of the model.
        """
        submission = Submission(model, input, callback_url, extra_headers, validate)
        return self._shell.run(_operations.create_task(self._context, submission))

    def generate(
        self,
        prompt: str,
        /,
        *,
        aspect_ratio: str = "1:1",
        quality: str = "basic",
        callback_url: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        on_update: Callable[[Task], object] | None = None,
    ) -> Task:
        """Ask for an image and wait for it, all within ``timeout``: :meth:`create_task`, then :meth:`wait`."""
        submission = text_to_image(prompt, aspect_ratio, quality, callback_url, extra_headers)
        return self._shell.run(_operations.generate(self._context, submission, timeout=timeout, on_update=on_update))

    def get_task(self, task_id: str) -> Task:
        """Return a task as it is now.

        Raises:
            ApiError: The service refused.
            InvalidResponseError: It answered in no form of its own.
        """
        return self._shell.run(_operations.get_task(self._context, task_id))

    def wait(
        self,
        task: Task | str,
        *,
        timeout: float | None = None,
        on_update: Callable[[Task], object] | None = None,
    ) -> Task:
        """Look at a task until it has succeeded.

        Args:
            task: The task, or its name.
            timeout: Seconds after which to give up; else those of the rhythm.
            on_update: Called with the task after each look.

        Raises:
            GenerationFailedError: It ended without a result.
            WaitTimeoutError: It had not ended in time.
            ApiError: The service refused, for a reason that does not pass by itself.
        """
        return self._shell.run(_operations.begin(self._context, task, timeout=timeout, on_update=on_update).run())

    def wait_for_callback(
        self,
        task: Task | str,
        receiver: CallbackReceiver,
        *,
        timeout: float | None = None,
        on_update: Callable[[Task], object] | None = None,
    ) -> Task:
        """Wait until a callback tells that a task has ended, and return what its record then says.

        A callback that never comes is made up for by a rare look; the errors are those of :meth:`wait`.

        Args:
            task: The task, or its name.
            receiver: Where the service POSTs the callback, served by another thread.
            timeout: Seconds after which to give up; else those of the rhythm.
            on_update: Called with the task after each look.
        """
        mailbox = receiver.mailbox
        wait = _operations.begin(self._context, task, timeout=timeout, on_update=on_update, mailbox=mailbox)
        return self._shell.run(wait.run())

    def iter_states(self, task: Task | str, *, timeout: float | None = None) -> Iterator[Task]:
        """Yield a task each time that its state has changed, until it has ended, well or not.

        Raises:
            WaitTimeoutError: It had not ended in time.
            ApiError: The service refused, for a reason that does not pass by itself.
        """
        wait = _operations.begin(self._context, task, timeout=timeout)
        while (seen := self._shell.run(wait.next_change())) is not None:
            yield seen

    @overload
    def download(self, url: str, /) -> bytes: ...
    @overload
    def download(self, url: str, /, *, to: Path | str) -> Path: ...
    def download(self, url: str, /, *, to: Path | str | None = None) -> bytes | Path:
        """Return a result, or write it to a file, which is there as a whole or not at all, and return its path.

        Raises:
            DownloadError: There is no whole image at that URL.
            OSError: The file cannot be written.
        """
        if to is None:
            return self._shell.run(_downloads.in_memory(self._context, url))
        return self._shell.run(_downloads.into_file(self._context, url, Path(to)))

    def result_images(self, task: Task | str) -> tuple[bytes, ...]:
        """Return all images of a task that has succeeded.

        Raises:
            DownloadError: It has none, or one is not whole.
        """
        known = self.get_task(task) if isinstance(task, str) else task
        return self._shell.run(_downloads.all_in_memory(self._context, known))

    def download_url(self, url: str, /) -> str:
        """Return a URL at which anybody can have a result for some minutes.

        Raises:
            ValidationError: The URL is none of a result of this service.
        """
        return self._shell.run(_operations.download_url(self._context, url))

    def credits(self) -> float:
        """Return the balance, in credits."""
        return self._shell.run(_operations.get_credits(self._context))

    def close(self) -> None:
        """Close the connections, except those of an HTTP client that was given."""
        self._shell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """Where the service is, without a slash at the end."""
        return self._context.endpoint.base_url

    def __repr__(self) -> str:
        # Tracebacks that show locals ask even one that could not be made.
        where = repr(self.base_url) if hasattr(self, "_context") else "not made"
        return f"{type(self).__name__}({where})"
