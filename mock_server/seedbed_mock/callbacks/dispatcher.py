"""What a callback carries: the record of the task, and a signature where the account has a key to sign with."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace
from seedbed_schemas import job_api

from seedbed_mock.callbacks.targets import AllowList, TargetRefusedError, UnknownTargetError, resolve
from seedbed_mock.journal import JournalEntry, truncated
from seedbed_mock.settings import CONTROL_ROOT
from seedbed_mock.tasks import CallbackFault, DeliveryAttempt, Failure, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seedbed_schemas.dialect import Dialect

    from seedbed_mock.callbacks.targets import CallbackTarget
    from seedbed_mock.responses import ResponseWriter
    from seedbed_mock.state import Service
    from seedbed_mock.tasks import CallbackDelivery, Task


_RULES = job_api().callback
_CONTRARY = Failure(*next(iter(job_api().failures.items())))


def callback_body(task: Task, now: int, answers: ResponseWriter, dialect: Dialect) -> bytes:
    """Return the body for a task that has ended by now, in Unix milliseconds, or is told of before."""
    if task.callback and task.callback.fault.contradicts_record:
        task = replace(task, failure=None if task.failure else _CONTRARY)
    now = max(now, task.ends or now)
    case = "callback_failed" if task.failure else "callback_done"
    return answers.callback(case, record(task, now, dialect=dialect, channel="callback"))


def signature_headers(task: Task, now: int, signing_key: bytes) -> dict[str, str]:
    """Return the headers that sign the name of a task at that time, in Unix milliseconds; none without a key.

    The body is not covered, as is known of the service.
    """
    fault = task.callback.fault if task.callback else CallbackFault()
    if not signing_key or fault.is_unsigned:
        return {}
    task_id = fault.signed_id or task.task_id
    signing_key = fault.signing_key.encode() or signing_key
    timestamp = str((now - fault.age) // 1000)
    digest = hmac.digest(signing_key, f"{task_id}.{timestamp}".encode(), hashlib.sha256)
    return {_RULES.timestamp_header: timestamp, _RULES.signature_header: base64.b64encode(digest).decode()}


_MOST_AT_ONCE = 256
_STARTED_AT_ONCE = 16
_LOOKED_THROUGH = 200
_TIMEOUT = job_api().callback.timeout
_LEASE_SECONDS = 20
"""For so long nobody else delivers what one server has taken on: a little longer than an attempt can last."""

_LONGEST_PAUSE = 5.0
"""In real seconds: how long a store that others may change is left unwatched."""

_RECOVERY_SECONDS = 1.0
"""In real seconds: how long a store that failed is left alone."""

_PATIENCE = 2.0
"""In real seconds: how long a clock that is being turned waits for receivers to answer."""


class CallbackDispatcher:
    """Delivers the callbacks of one service, in the event loop in which it is first woken.

    A receiver is somebody else's program and lives in real time, so that is how long it has to answer, whatever the
    speed of the clock; only where the clock is turned, that time is over sooner.

    Args:
        service: Whose tasks they are about.
        answers: How their bodies are written.
    """

    def __init__(self, service: Service, answers: ResponseWriter) -> None:
        self._service = service
        self._answers = answers
        self._allowed = AllowList.parse(service.options.callback_hosts)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._attempts: set[asyncio.Task[None]] = set()
        self._deadlines: set[asyncio.Timeout] = set()
        service.callback_is_due = self.wake
        self._unwatch = service.clock.watch(self._turned)

    def wake(self) -> None:
        """Look what is due, now and from now on."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # Not in asyncio, where a fake in process may be: what is due stays so until somebody looks.
        if self._loop is not loop or self._worker is None or self._worker.done():
            self._loop, self._woken = loop, asyncio.Event()
            self._worker = loop.create_task(self._work(), name="seedbed courier")
        self._woken.set()

    async def close(self) -> None:
        """Stop; what was not delivered is due at once for whoever goes on."""
        self._unwatch()
        running = [task for task in (self._worker, *self._attempts) if task]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def advance(self, seconds: float) -> None:
        """Turn the clock, stopping at every moment at which something is due, so that all happens in its order.

        Raises:
            ValueError: The clock cannot be turned by so much.
        """
        clock, left = self._service.clock, seconds
        while left > 0:
            await self.settle()
            step = min(left, self._next_moment())
            clock.advance(step)
            left -= step
        if not seconds:
            clock.advance(seconds)
        await self.settle()

    def _next_moment(self) -> float:
        """Return in how many seconds, by the clock, something is due or given up."""
        due = self._service.store.next_due()
        moments = [] if due is None else [max(due / 1000 - self._service.clock.now(), 0) + 0.001]
        if self._deadlines and self._loop:
            now = self._loop.time()
            moments += [max(when - now, 0.001) for deadline in self._deadlines if (when := deadline.when())]
        return min(moments, default=float("inf"))

    async def settle(self) -> None:
        """Wait until receivers have answered what is due, but not for ever."""
        self.wake()
        end = time.monotonic() + _PATIENCE
        while (await self._start_due() or self._attempts) and (wait := end - time.monotonic()) > 0:
            await asyncio.wait(tuple(self._attempts), timeout=wait, return_when=asyncio.FIRST_COMPLETED)

    def _turned(self, seconds: float) -> None:
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._give_up_sooner, seconds)

    def _give_up_sooner(self, seconds: float) -> None:
        for deadline in self._deadlines:
            if not deadline.expired() and (when := deadline.when()) is not None:
                deadline.reschedule(when - seconds)
        self._woken.set()

    async def _work(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._start_due()
                pause = self._pause()
            except Exception as error:
                self._service.errors.append(error)
                pause = _RECOVERY_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), pause)

    def _pause(self) -> float | None:
        """Return how long nothing is due, in real seconds; ``None`` until somebody says so."""
        due, clock = self._service.store.next_due(), self._service.clock
        # Nobody tells what another server on the same file left behind when it was killed.
        longest = _LONGEST_PAUSE if self._service.store.is_shared else None
        if due is None or not clock.speed or len(self._attempts) >= _MOST_AT_ONCE:
            return longest
        pause = max(due / 1000 - clock.now(), 0) / clock.speed + 0.001
        return pause if longest is None else min(pause, longest)

    async def _start_due(self) -> bool:
        """Start delivering what is due, some at a time so that others have their turn; tell whether there was any."""
        started = False
        while claimed := self._claim():
            for task in claimed:
                attempt = asyncio.create_task(self._deliver(task))
                self._attempts.add(attempt)
                attempt.add_done_callback(self._ended)
            started = True
            await asyncio.sleep(0)
        return started

    def _claim(self) -> list[Task]:
        now, room = self._service.now(), _MOST_AT_ONCE - len(self._attempts)
        until = now + round(_LEASE_SECONDS * 1000 * max(self._service.clock.speed, 1))
        return self._service.store.claim(now, until, limit=min(room, _STARTED_AT_ONCE))

    def _ended(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        self._woken.set()
        if not attempt.cancelled() and isinstance(error := attempt.exception(), Exception):
            self._service.errors.append(error)

    async def _deliver(self, task: Task) -> None:
        """Make one attempt and keep what came of it."""
        at, begun = self._service.now(), time.monotonic()
        body = callback_body(task, at, self._answers, self._service.dialect)
        try:
            status, retry_after, error, is_refused = await self._attempt(task, at, body)
        except asyncio.CancelledError:
            self._change(task, lambda callback: callback.claimed(at))
            raise
        duration = round((time.monotonic() - begun) * 1000)
        attempt = DeliveryAttempt(at=at, duration=duration, status=status, error=error, is_refused=is_refused)
        self._write_down(task, attempt, body)
        self._change(task, lambda callback: callback.attempted(attempt, self._service.now(), retry_after))
        self._let_go(task)

    async def _attempt(self, task: Task, now: int, body: bytes) -> tuple[int | None, float | None, str, bool]:
        assert task.callback  # noqa: S101 (what has none is never claimed)
        account = self._service.spaces.named(task.space).account(task.account)
        headers = signature_headers(task, now, account.signing_key if account else b"")
        # Imported with the first callback, since its parser takes a good part of a start of the server to load.
        from seedbed_mock.callbacks.sender import DeliveryError, send_callback  # noqa: PLC0415

        try:
            with self._deadline() as deadline:
                async with deadline:
                    target = await resolve(task.callback.url, self._allowed)
                    _check_own(target, task.base_url)
                    answer = await send_callback(target, body, headers)
        except TimeoutError:
            return None, None, f"no answer came within {_TIMEOUT:g} seconds", False
        except TargetRefusedError as error:
            return None, None, str(error), True
        except (UnknownTargetError, DeliveryError) as error:
            return None, None, str(error), False
        return answer.status, answer.retry_after, "", False

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[asyncio.Timeout]:
        deadline = asyncio.timeout(_TIMEOUT)
        self._deadlines.add(deadline)
        try:
            yield deadline
        finally:
            self._deadlines.discard(deadline)

    def _let_go(self, task: Task) -> None:
        """Send callbacks that were to let another one of their space go first."""
        if not self._service.faults.has_hit("callback.out-of-order"):
            return
        for held in self._service.store.tasks(task.space, limit=_LOOKED_THROUGH):
            if held.callback and held.callback.is_held(self._service.now()):
                self._change(held, lambda callback: callback.claimed(self._service.now()))

    def _write_down(self, task: Task, attempt: DeliveryAttempt, body: bytes) -> None:
        assert task.callback  # noqa: S101 (as above)
        journal = self._service.spaces.named(task.space).journal
        entry = JournalEntry(
            number=journal.next_number(),
            at=attempt.at,
            kind="callback",
            operation="callback",
            account=task.account,
            target=task.callback.url,
            request=truncated(body),
            status=attempt.status,
            answer=attempt.error.encode(),
            task_id=task.task_id,
            attempt=task.callback.tries + 1,
        )
        journal.add(entry)

    def _change(self, task: Task, changed: Callable[[CallbackDelivery], CallbackDelivery]) -> None:
        def with_callback(task: Task) -> Task:
            return replace(task, callback=changed(task.callback)) if task.callback else task

        self._service.store.change(task.task_id, with_callback)


def _check_own(target: CallbackTarget, base_url: str) -> None:
    """Check that a target is not the control API of the server that is reached at this URL.

    Raises:
        TargetRefusedError: It is: whoever makes a task would give orders to the server in the name of this machine.
    """
    own, path = urlsplit(base_url), f"{unquote(target.path.partition('?')[0])}/"
    is_here = any(ip_address(each).is_loopback or each == own.hostname for each in target.addresses)
    if is_here and target.port == own.port and path.startswith(f"{CONTROL_ROOT}/"):
        raise TargetRefusedError(f"The control API of this server, under {CONTROL_ROOT}, takes no callbacks.")
