"""The asynchronous client: its methods run operations over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, overload

from seedbed_client import _downloads, _operations, errors
from seedbed_client._async_runner import AsyncRunner
from seedbed_client._config import Secret, live_endpoint, local_endpoint
from seedbed_client._operations import Context, TaskRequest, text_to_image
from seedbed_client._polling import DEFAULT_SCHEDULE, MAX_RETRIES, Retries, monotonic
from seedbed_client.errors import ConfigurationError, SubmissionTracker
from seedbed_client.models import Task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
    from typing import Any, Self

    import httpx2
    from seedbed_schemas import Contract

    from seedbed_client._contract_types import AspectRatio, Quality
    from seedbed_client._job_log import JobLog
    from seedbed_client._polling import PollingSchedule
    from seedbed_client.callbacks import CallbackReceiver
    from seedbed_client.models import Submission


TIMEOUT: Final = 30.0
"""Default time limit of one HTTP request, in seconds."""


class AsyncSeedreamClient:
    """An asynchronous client of the Seedream job API; the tasks of an event loop may share it.

    Use it as a context manager, or call :meth:`close`, to close its connections.

    Args:
        base_url: URL of the service; by default ``SEEDBED_BASE_URL``, or the local mock server. The URL of the paid
            service is refused; use :meth:`live`.
        api_key: API key; by default ``SEEDBED_API_KEY``, or the key of the local mock server.
        contracts: Contracts of models to submit to, in addition to the shipped ones. A contract also says how to send
            its requests; those that name no model, such as polls, carry the key as the first contract says.
        timeout: Seconds that one HTTP request may take, including its response.
        max_retries: How often a failed request is repeated. ``createTask`` is only repeated if no task can have been
            created.
        polling: When to fetch a task that is waited for.
        transport: Transport for the requests, such as ``httpx2.MockTransport``.
        http_client: HTTP client to use instead of the client's own. You close it, and its own limits apply: the
            headers of a response may take longer than ``timeout`` if the server sends them bit by bit.
        sleep: Called to pause, with the seconds.
        clock: Returns the time, in seconds.
        on_submission: Called with a :class:`Submission` when the request of a task is about to be sent, and when it is
            known whether the task exists. If the first call raises an exception, the request is not sent.

    Raises:
        ConfigurationError: The URL, the key or a number is invalid.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        contracts: Iterable[Contract] = (),
        timeout: float = TIMEOUT,
        max_retries: int = MAX_RETRIES,
        polling: PollingSchedule = DEFAULT_SCHEDULE,
        transport: httpx2.AsyncBaseTransport | None = None,
        http_client: httpx2.AsyncClient | None = None,
        sleep: Callable[[float], Awaitable[object]] | None = None,
        clock: Callable[[], float] = monotonic,
        on_submission: Callable[[Submission], object] | None = None,
    ) -> None:
        key, api_key = Secret(api_key or ""), None  # tracebacks may show the arguments
        contracts = tuple(contracts)
        endpoint = local_endpoint(base_url, key, contracts)
        retries = Retries(max_retries, clock, is_local=endpoint.is_local)
        self._context = Context(endpoint, contracts, retries, polling, timeout, clock, on_submission)
        self._runner = AsyncRunner(self._context, transport, http_client, sleep)

    @classmethod
    def live(
        cls,
        api_key: str,
        *,
        contracts: Iterable[Contract] = (),
        timeout: float = TIMEOUT,
        max_retries: int = MAX_RETRIES,
        polling: PollingSchedule = DEFAULT_SCHEDULE,
        transport: httpx2.AsyncBaseTransport | None = None,
        http_client: httpx2.AsyncClient | None = None,
        sleep: Callable[[float], Awaitable[object]] | None = None,
        clock: Callable[[], float] = monotonic,
        on_submission: Callable[[Submission], object] | None = None,
    ) -> Self:
        """Return a client of the paid service, where every task costs credits.

        The arguments are those of the class. If you pass contracts, their server is called.

        Raises:
            ConfigurationError: The key is missing or invalid, a number is invalid, or the contracts name several
                servers.
        """
        key, api_key = Secret(api_key), ""
        contracts = tuple(contracts)
        client, endpoint = cls.__new__(cls), live_endpoint(key, contracts)
        retries = Retries(max_retries, clock)
        client._context = Context(endpoint, contracts, retries, polling, timeout, clock, on_submission)
        client._runner = AsyncRunner(client._context, transport, http_client, sleep)
        return client

    async def create_task(
        self,
        prompt: str,
        /,
        *,
        aspect_ratio: AspectRatio = "1:1",
        quality: Quality = "basic",
        callback_url: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> str:
        """Create a task that generates an image, and return its ID.

        Args:
            prompt: Description of the image.
            aspect_ratio: Ratio of width to height.
            quality: ``basic`` for 2K or ``high`` for 4K.
            callback_url: URL to which the service POSTs the finished task.
            extra_headers: Headers in addition to those of every request.

        Raises:
            ValidationError: The request breaks the contract. Nothing was sent.
            ApiError: The service refused the task. It was not created.
            SubmissionUnknownError: It is not known whether the task was created. The request is not repeated.
            httpx2.ConnectError: The service cannot be reached. The task was not created.
        """
        return (await self._create(text_to_image(prompt, aspect_ratio, quality, callback_url, extra_headers))).task_id

    @overload
    async def submit(
        self,
        prompt: str,
        /,
        *,
        aspect_ratio: AspectRatio = "1:1",
        quality: Quality = "basic",
        callback_url: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> AsyncTaskHandle: ...
    @overload
    async def submit(
        self,
        /,
        *,
        model: str,
        input: Mapping[str, Any],
        callback_url: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        validate: bool = True,
    ) -> AsyncTaskHandle: ...
    async def submit(
        self,
        prompt: str | None = None,
        /,
        *,
        aspect_ratio: AspectRatio = "1:1",
        quality: Quality = "basic",
        model: str | None = None,
        input: Mapping[str, Any] | None = None,  # noqa: A002 (the name that the service uses)
        callback_url: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        validate: bool = True,
    ) -> AsyncTaskHandle:
        """Create a task and return its handle, so that you can store the ID of the task before you wait for it.

        Pass a prompt, or the name of any model and its input. The errors are those of :meth:`create_task`.

        Args:
            prompt: Description of the image.
            aspect_ratio: Ratio of width to height.
            quality: ``basic`` for 2K or ``high`` for 4K.
            model: Name of the model.
            input: Input of the model.
            callback_url: URL to which the service POSTs the finished task.
            extra_headers: Headers in addition to those of every request.
            validate: Whether to check the request against the contract of the model first, and to fill in its
                defaults.

        Raises:
            ConfigurationError: There is no contract for the model, or the arguments do not fit together.
        """
        if prompt is not None and model is None and input is None:
            task = text_to_image(prompt, aspect_ratio, quality, callback_url, extra_headers)
        elif prompt is None and model is not None and input is not None:
            task = TaskRequest(model, input, callback_url, extra_headers, validate)
        else:
            raise ConfigurationError("submit() needs either a prompt, or both model= and input=")
        return await self._create(task)

    async def _create(self, task: TaskRequest) -> AsyncTaskHandle:
        # Python delivers Ctrl-C when a function is called. So nothing is called between the moment at which the ID is
        # known and the one at which the caller has it: no constructor, and no __exit__ of a context manager.
        tracker, handle = self._context.tracker(task), AsyncTaskHandle(self, "")
        try:
            handle.task_id = await self._runner.run(_operations.create_task(self._context, task, tracker))
        except BaseException as error:
            tracker.attach_to(error)
            raise
        return handle

    async def generate(
        self,
        prompt: str,
        /,
        *,
        aspect_ratio: AspectRatio = "1:1",
        quality: Quality = "basic",
        callback_url: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        on_update: Callable[[Task], object] | None = None,
    ) -> Task:
        """Create a task that generates an image, wait for it, and return it.

        ``timeout`` covers both. See :meth:`create_task` and :meth:`wait` for the arguments and the errors.
        """
        task = text_to_image(prompt, aspect_ratio, quality, callback_url, extra_headers)
        tracker = self._context.tracker(task)
        operation = _operations.generate(self._context, task, tracker, timeout=timeout, on_update=on_update)
        try:
            return await self._runner.run(operation)
        except BaseException as error:
            tracker.attach_to(error)
            raise

    async def generate_once(
        self,
        key: str,
        prompt: str,
        /,
        *,
        log: JobLog | Path | str,
        aspect_ratio: AspectRatio = "1:1",
        quality: Quality = "basic",
        callback_url: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        on_update: Callable[[Task], object] | None = None,
    ) -> Task:
        """Do as :meth:`generate` does, but create only one task for a key, in spite of crashes and other processes.

        A later call with the same key and request waits for the same task.

        Args:
            key: Key of the task, which you choose, for example the ID of an order.
            prompt: Description of the image.
            log: Log that remembers the task of each key, or the path of its file.
            aspect_ratio: Ratio of width to height.
            quality: ``basic`` for 2K or ``high`` for 4K.
            callback_url: URL to which the service POSTs the finished task.
            extra_headers: Headers in addition to those of every request.
            timeout: Seconds after which to stop waiting; by default the timeout of the polling schedule.
            on_update: Called with the task after each fetch.

        Raises:
            SubmissionInDoubtError: It is not known whether the task of the key was created. Nothing is sent.
            JobConflictError: The key belongs to another request. Nothing is sent.
            JobLogError: The log cannot be used. Nothing is sent, or ``task_id`` has the ID that could not be recorded.
        """
        from seedbed_client import _job_log  # loads SQLite, which most programs do not need

        task = text_to_image(prompt, aspect_ratio, quality, callback_url, extra_headers)
        submission = _job_log.LoggedSubmission(self._context, task, key, log)
        with submission.tracker:
            return await self._runner.run(
                _job_log.generate_once(self._context, submission, timeout=timeout, on_update=on_update)
            )

    async def submit_once(
        self,
        key: str,
        /,
        *,
        log: JobLog | Path | str,
        model: str,
        input: Mapping[str, Any],  # noqa: A002 (the name that the service uses)
        callback_url: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        validate: bool = True,
    ) -> AsyncTaskHandle:
        """Create the task of a key, or find it in the log, and return its handle.

        See :meth:`submit` for the other arguments, and :meth:`generate_once` for the key, the log and the errors.
        """
        from seedbed_client import _job_log  # as above

        task = TaskRequest(model, input, callback_url, extra_headers, validate)
        submission = _job_log.LoggedSubmission(self._context, task, key, log)
        with submission.tracker:
            return AsyncTaskHandle(self, await self._runner.run(submission.run()))

    async def get_task(self, task_id: AsyncTaskHandle | str) -> Task:
        """Return a task in its current state.

        Args:
            task_id: ID or handle of the task.

        Raises:
            ApiError: The service refused the request.
            InvalidResponseError: The response does not have the form that the service documents.
        """
        known_id = _operations.id_of(task_id)
        with SubmissionTracker(task_id=known_id):
            return await self._runner.run(_operations.get_task(self._context, known_id))

    async def wait(
        self,
        task: Task | AsyncTaskHandle | str,
        *,
        timeout: float | None = None,
        on_update: Callable[[Task], object] | None = None,
    ) -> Task:
        """Poll a task until it has succeeded, and return it.

        Args:
            task: The task, its handle or its ID.
            timeout: Seconds after which to stop waiting; by default the timeout of the polling schedule.
            on_update: Called with the task after each fetch.

        Raises:
            GenerationFailedError: The task failed.
            WaitTimeoutError: The task is still running.
            ApiError: The service refused the request for a reason that is not temporary.
        """
        with SubmissionTracker(task_id=_operations.id_of(task)):
            wait = _operations.start_wait(self._context, task, timeout=timeout, on_update=on_update)
            return await self._runner.run(wait.run())

    async def wait_for_callback(
        self,
        task: Task | AsyncTaskHandle | str,
        receiver: CallbackReceiver,
        *,
        timeout: float | None = None,
        on_update: Callable[[Task], object] | None = None,
    ) -> Task:
        """Wait until a callback reports that a task has finished, then fetch the task and return it.

        The task is also polled at long intervals, in case its callback is lost. The errors are those of :meth:`wait`.

        Args:
            task: The task, its handle or its ID.
            receiver: Receiver of the callback, which runs in another thread.
            timeout: Seconds after which to stop waiting; by default the timeout of the polling schedule.
            on_update: Called with the task after each fetch.
        """
        inbox = receiver.inbox
        with SubmissionTracker(task_id=_operations.id_of(task)):
            wait = _operations.start_wait(self._context, task, timeout=timeout, on_update=on_update, inbox=inbox)
            return await self._runner.run(wait.run())

    async def iter_states(
        self, task: Task | AsyncTaskHandle | str, *, timeout: float | None = None
    ) -> AsyncIterator[Task]:
        """Yield a task each time its state changes, until it has succeeded or failed.

        Raises:
            WaitTimeoutError: The task is still running.
            ApiError: The service refused the request for a reason that is not temporary.
        """
        with SubmissionTracker(task_id=_operations.id_of(task)):
            wait = _operations.start_wait(self._context, task, timeout=timeout)
            while (latest := await self._runner.run(wait.next_change())) is not None:
                yield latest

    @overload
    async def download(self, url: str, /) -> bytes: ...
    @overload
    async def download(self, url: str, /, *, to: Path | str) -> Path: ...
    async def download(self, url: str, /, *, to: Path | str | None = None) -> bytes | Path:
        """Download a result and return its bytes, or the path of the file that it was written to.

        The file appears only once the image is complete.

        Args:
            url: URL of the result.
            to: Path of the file.

        Raises:
            DownloadError: There is no complete image at the URL.
            OSError: The file cannot be written.
        """
        if to is None:
            return await self._runner.run(_downloads.in_memory(self._context, url))
        return await self._runner.run(_downloads.into_file(self._context, url, Path(to)))

    async def result_images(self, task: Task | AsyncTaskHandle | str) -> tuple[bytes, ...]:
        """Download all images of a successful task and return them.

        Raises:
            DownloadError: The task has no images, or one is not complete.
        """
        known = task if isinstance(task, Task) else await self.get_task(task)
        with SubmissionTracker(task_id=known.task_id):
            return await self._runner.run(_downloads.all_in_memory(self._context, known))

    async def download_url(self, url: str, /) -> str:
        """Return a URL from which anyone can download a result for some minutes.

        Raises:
            ValidationError: The URL is not that of a result of this service.
        """
        return await self._runner.run(_operations.download_url(self._context, url))

    async def credits(self) -> float:
        """Return the balance, in credits."""
        return await self._runner.run(_operations.get_credits(self._context))

    async def close(self) -> None:
        """Close the connections. An HTTP client that you passed stays open."""
        await self._runner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.close()
        except Exception as error:
            # The block may end with a task that is paid for. An error of a transport must not take its place.
            errors.log.warning("the connections could not be closed: %r", error)

    @property
    def base_url(self) -> str:
        """URL of the service, without a trailing slash."""
        return self._context.endpoint.base_url

    def __repr__(self) -> str:
        # A traceback that shows locals also shows a client whose construction failed.
        where = repr(self.base_url) if hasattr(self, "_context") else "invalid"
        return f"{type(self).__name__}({where})"


class AsyncTaskHandle:
    """A task that was created: its ID, and what can be done with it.

    Args:
        client: Client of the service.
        task_id: ID of the task. Store it before you wait: the service has no list of your tasks.
    """

    def __init__(self, client: AsyncSeedreamClient, task_id: str) -> None:
        self.task_id = task_id
        self._client = client

    async def wait(self, *, timeout: float | None = None, on_update: Callable[[Task], object] | None = None) -> Task:
        """Poll the task until it has succeeded, and return it; see :meth:`AsyncSeedreamClient.wait`."""
        return await self._client.wait(self.task_id, timeout=timeout, on_update=on_update)

    async def result(self, *, timeout: float | None = None) -> tuple[bytes, ...]:
        """Wait until the task has succeeded, download its images and return them.

        The errors are those of :meth:`wait` and :meth:`AsyncSeedreamClient.result_images`.

        Args:
            timeout: Seconds after which to stop waiting for the task; by default the timeout of the polling schedule.
        """
        return await self._client.result_images(await self.wait(timeout=timeout))

    def iter_states(self, *, timeout: float | None = None) -> AsyncIterator[Task]:
        """Yield the task each time its state changes; see :meth:`AsyncSeedreamClient.iter_states`."""
        return self._client.iter_states(self.task_id, timeout=timeout)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.task_id!r})"

    def __str__(self) -> str:
        return self.task_id
