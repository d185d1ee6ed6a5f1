"""The delivery of callbacks: what they contain, when they are sent, and what is recorded about each attempt."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import math
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace
from seedbed_schemas import job_api

from seedbed_mock.callbacks.targets import (
    AllowList,
    HostLookups,
    RefusedUrls,
    TargetRefusedError,
    UnknownTargetError,
    resolve,
)
from seedbed_mock.clock import real_monotonic
from seedbed_mock.journal import JournalEntry, truncated
from seedbed_mock.settings import CONTROL_ROOT
from seedbed_mock.tasks import CallbackFault, DeliveryAttempt, Failure, record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from seedbed_mock.callbacks.targets import CallbackTarget
    from seedbed_mock.responses import ResponseWriter
    from seedbed_mock.state import Service
    from seedbed_mock.tasks import CallbackDelivery, Task


_RULES = job_api().callback
_OPPOSITE_FAILURE = Failure(*next(iter(job_api().failures.items())))

_TIMEOUT = _RULES.timeout
_LEASE_SECONDS = 20
"""How long a claimed callback belongs to one server: a little longer than an attempt can last."""

_MAX_ATTEMPTS = 256
"""Largest number of simultaneous attempts; each holds a socket."""

_CLAIMED_AT_ONCE = 16
"""How many callbacks are claimed before other tasks of the event loop have their turn."""

_LONGEST_PAUSE = 5.0
"""In real seconds: how often a store is read that other servers can change."""

_RECOVERY_SECONDS = 1.0
"""In real seconds: how long to wait after an error of the store."""

_SETTLE_SECONDS = 2.0
"""In real seconds: how long advancing the clock waits for receivers."""


_CLOSE_SECONDS = 1.0
"""In real seconds: how long closing waits for interrupted attempts."""


def callback_body(task: Task, now: int, writer: ResponseWriter, service: Service) -> bytes:
    """Return the body of the callback of a task.

    Args:
        task: Task whose record the body contains.
        now: Time of the delivery in Unix milliseconds; a fault may set it before the end of the task.
        writer: Writes the body.
        service: Service of the task.
    """
    if task.callback and task.callback.fault.contradicts_record:
        task = replace(task, failure=None if task.failure else _OPPOSITE_FAILURE)
    now = max(now, task.ends or now)
    case = "callback_failed" if task.failure else "callback_done"
    base_url = service.url_for_clients(task.base_url)
    return writer.callback(case, record(task, now, dialect=service.dialect, base_url=base_url, channel="callback"))


def signature_headers(task: Task, now: int, signing_key: bytes) -> dict[str, str]:
    """Return the headers with the signature of a callback.

    The signature covers the task ID and a timestamp but not the body, as the service documents it.

    Args:
        task: Task of the callback.
        now: Time of the signature in Unix milliseconds.
        signing_key: Key of the account; without one, there are no headers.
    """
    fault = task.callback.fault if task.callback else CallbackFault()
    if not signing_key or fault.is_unsigned:
        return {}
    timestamp = str((now - fault.age) // 1000)
    digest = hmac.digest(
        fault.signing_key.encode() or signing_key,
        f"{fault.signed_id or task.task_id}.{timestamp}".encode(),
        hashlib.sha256,
    )
    return {_RULES.timestamp_header: timestamp, _RULES.signature_header: base64.b64encode(digest).decode()}


class _Outcome(NamedTuple):
    """What came of an attempt.

    Attributes:
        status: HTTP status of the response, ``None`` without one.
        retry_after: Seconds of its Retry-After header.
        error: Why there was no response.
        is_refused: Whether no callback may be sent to the target at all.
    """

    status: int | None = None
    retry_after: float | None = None
    error: str = ""
    is_refused: bool = False


class CallbackDispatcher:
    """Sends the callbacks of one service, in the event loop in which it is first woken.

    Receivers run in real time, so the time-out of an attempt is in real seconds whatever the speed of the clock; only
    advancing the clock shortens it.

    Args:
        service: Service whose tasks have callbacks.
        writer: Writes the bodies.

    Raises:
        SettingsError: An entry of the callback allow-list is invalid.
    """

    def __init__(self, service: Service, writer: ResponseWriter) -> None:
        self._service = service
        self._writer = writer
        self._allowed = AllowList.parse(service.options.callback_hosts)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: asyncio.Task[None] | None = None
        self._look_up = HostLookups()
        self._refused = RefusedUrls(self._start_finding_refusal)
        self._woken = asyncio.Event()
        self._is_closed = False
        self._wakes_at = math.inf
        self._attempts: set[asyncio.Task[None]] = set()
        self._deadlines: set[asyncio.Timeout] = set()
        service.callback_is_due = self.wake
        service.refused_callback = self._refused.delivery_at_once
        if service.fleet:
            service.fleet.on_settle = self._settle
        self._unwatch = service.clock.watch(self._on_clock_advanced)

    def wake(self, due: int | None = None) -> None:
        """Send the callbacks that are due, now and from now on.

        Args:
            due: When a callback is due that was just added, in Unix milliseconds; ``None`` to look in any case.
        """
        if self._is_closed:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # Without asyncio, as in a synchronous in-process call, callbacks stay due until the next call with it.
            return
        if self._loop is not loop or self._worker is None or self._worker.done():
            self._loop, self._woken = loop, asyncio.Event()
            self._worker = loop.create_task(self._work(), name="seedbed callback dispatcher")
        elif due is not None and due >= self._wakes_at:
            # Most callbacks are due later than another one, for which the dispatcher wakes anyway.
            return
        self._woken.set()

    async def close(self) -> None:
        """Stop; interrupted deliveries become due at once for the next dispatcher on the same store."""
        self._unwatch()
        self._is_closed = True
        # The worker first: it may be about to start further attempts.
        for running in ([self._worker] if self._worker else [], self._attempts):
            unfinished = [task for task in running if not task.done()]
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.wait(unfinished, timeout=_CLOSE_SECONDS)

    async def advance(self, seconds: float) -> None:
        """Advance the clock, with a stop at each time at which a callback is due, so that their order is kept.

        Args:
            seconds: Time in seconds.

        Raises:
            ValueError: The clock cannot be advanced by this time.
        """
        left = seconds
        while left > 0:
            await self.settle()
            due = await self._seconds_to_next_due()
            # One millisecond more, since the clock and the store round differently.
            steps = [left] if due is None else [left, due + 0.001]
            if self._loop:
                now = self._loop.time()
                # An attempt that times out makes its callback due again, so that its deadline is a stop as well.
                steps += [max(when - now, 0.001) for deadline in self._deadlines if (when := deadline.when())]
            step = min(steps)
            await self._service.advance(step)
            left -= step
        if not seconds:
            await self._service.advance(seconds)
        await self.settle()

    async def settle(self) -> None:
        """Wait until the receivers have responded to all callbacks that are due, but not longer than two seconds."""
        await self._settle()
        if self._service.fleet:
            # A clock that is turned on would end the leases of what other servers are sending.
            await self._service.fleet.announce("settle")

    async def _settle(self) -> None:
        self.wake()
        end = real_monotonic() + _SETTLE_SECONDS
        while (await self._start_due() or self._attempts) and (wait := end - real_monotonic()) > 0:
            # None if all that were due are refused, which is recorded at once.
            if self._attempts:
                await asyncio.wait(tuple(self._attempts), timeout=wait, return_when=asyncio.FIRST_COMPLETED)

    async def _seconds_to_next_due(self) -> float | None:
        """Return the time until the next callback is due, in seconds of the clock; ``None`` if none is waiting."""
        due = await self._service.store.next_due()
        return None if due is None else self._seconds_to(due)

    def _seconds_to(self, due: int) -> float:
        return max(due / 1000 - self._service.clock.now(), 0)

    def _on_clock_advanced(self, seconds: float) -> None:
        def shorten_deadlines() -> None:
            for deadline in self._deadlines:
                if not deadline.expired() and (when := deadline.when()) is not None:
                    deadline.reschedule(when - seconds)
            self._woken.set()

        # The clock may be advanced in any thread, but deadlines belong to the thread of their event loop.
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(shorten_deadlines)

    async def _work(self) -> None:
        """Start the attempts that are due, then sleep until the next callback is due or the dispatcher is woken."""
        # Another server on the same file may be killed: its callbacks become due without waking this dispatcher.
        longest = _LONGEST_PAUSE if self._service.store.is_shared else None
        while not self._is_closed:
            self._woken.clear()
            self._wakes_at = math.inf
            try:
                await self._start_due()
                pause, due, speed = longest, await self._service.store.next_due(), self._service.clock.speed
                self._wakes_at = math.inf if due is None else due
                # At the limit, the end of an attempt wakes the dispatcher.
                if due is not None and speed and len(self._attempts) < _MAX_ATTEMPTS:
                    pause = min(self._seconds_to(due) / speed + 0.001, longest or math.inf)
            except Exception as error:
                self._service.report(error, "callbacks")
                pause = _RECOVERY_SECONDS
            # Not wait_for: in Python 3.11 it drops a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()

    async def _start_due(self) -> bool:
        """Start an attempt for each callback that is due, and return whether there was any."""
        started = False
        while True:
            now, room = self._service.now(), _MAX_ATTEMPTS - len(self._attempts)
            # The lease is in real seconds, so that it is longer for a fast clock.
            lease_end = now + round(_LEASE_SECONDS * 1000 * max(self._service.clock.speed, 1))
            claimed = await self._service.store.claim(now, lease_end, limit=min(room, _CLAIMED_AT_ONCE))
            if not claimed:
                return started
            if self._is_closed:
                for task in claimed:
                    await self._give_back(task, now)
                return started
            for task in claimed:
                # Without a task of the event loop: a caller can name one refused receiver for thousands of tasks.
                if task.callback and (reason := self._refused.reason(task.callback.url)):
                    await self._record(task, now, _Outcome(error=reason, is_refused=True))
                    continue
                attempt = asyncio.create_task(self._deliver(task))
                self._attempts.add(attempt)
                attempt.add_done_callback(self._on_attempt_done)
            started = True
            await asyncio.sleep(0)

    def _on_attempt_done(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        self._woken.set()
        if not attempt.cancelled() and isinstance(error := attempt.exception(), Exception):
            self._service.report(error, "callbacks")

    def _start_finding_refusal(self, url: str) -> None:
        # Without a worker, no event loop runs that would do it.
        if self._worker and not self._worker.done() and len(self._attempts) < _MAX_ATTEMPTS:
            finding = asyncio.create_task(self._find_refusal(url))
            self._attempts.add(finding)
            finding.add_done_callback(self._on_attempt_done)

    async def _find_refusal(self, url: str) -> None:
        """Find out whether callbacks to a URL are refused, without sending one."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                await resolve(url, self._allowed, getaddrinfo=self._look_up)
        except TargetRefusedError as error:
            self._refused.add(url, str(error), has_many=True)
        except UnknownTargetError as error:
            if not self._allowed.may_allow(url):
                self._refused.add(url, str(error), has_many=True)
        except TimeoutError:
            pass

    async def _deliver(self, task: Task) -> None:
        """Make one attempt and record its outcome."""
        callback = task.callback
        assert callback  # the store claims only tasks with a callback
        at, started = self._service.now(), real_monotonic()
        body = callback_body(task, at, self._writer, self._service)
        try:
            outcome = await self._send(task, callback.url, at, body)
        except asyncio.CancelledError:
            await self._give_back(task, at)
            raise
        if outcome.is_refused:
            self._refused.add(callback.url, outcome.error)
        else:
            self._refused.remove(callback.url)
        await self._record(task, at, outcome, body, round((real_monotonic() - started) * 1000))

    async def _give_back(self, task: Task, at: int) -> None:
        """Make a claimed callback due, so that the next dispatcher need not wait for the lease to expire."""
        lease = task.callback.due if task.callback else None
        await self._change_callback(task, lambda callback: callback.claimed(at) if callback.due == lease else callback)

    async def _record(self, task: Task, at: int, outcome: _Outcome, body: bytes = b"", duration: int = 0) -> None:
        """Record an attempt.

        Args:
            task: Task of the callback.
            at: When the attempt started, in Unix milliseconds.
            outcome: What came of it.
            body: What was sent, or was to be; by default it is made now.
            duration: How long it took, in milliseconds of real time.
        """
        callback = task.callback
        assert callback  # the store claims only tasks with a callback
        status, error = outcome.status, outcome.error
        attempt = DeliveryAttempt(at=at, duration=duration, status=status, error=error, is_refused=outcome.is_refused)
        if not (outcome.is_refused and self._refused.reason_at_once(callback.url)):
            journal = self._service.spaces.named(task.space).journal
            journal.add(
                JournalEntry(
                    number=journal.next_number(),
                    at=at,
                    kind="callback",
                    operation="callback",
                    account=task.account,
                    target=callback.url,
                    request=truncated(body or callback_body(task, at, self._writer, self._service)),
                    status=status,
                    answer=error.encode(),
                    task_id=task.task_id,
                    attempt=callback.tries + 1,
                    duration=duration,
                )
            )
        now = self._service.now()
        lease = callback.due

        def attempted(current: CallbackDelivery) -> CallbackDelivery:
            # The end of the lease is its fencing number: with another one, the outcome is no longer this server's.
            if current.due != lease:
                return current.noted(attempt)
            return current.attempted(attempt, now, outcome.retry_after)

        await self._change_callback(task, attempted)
        await self._release_held(task.space)
        await self._service.forget_evicted()

    async def _send(self, task: Task, url: str, now: int, body: bytes) -> _Outcome:
        account = self._service.spaces.named(task.space).account(task.account)
        # Receivers compare the timestamp with their own clock, from which the clock of the server may be far. A test
        # may have replaced this function, for the receiver as well.
        signed_at = now if self._service.options.sign_with == "clock" else round(time.time() * 1000)
        headers = signature_headers(task, signed_at, account.signing_key if account else b"")
        # Imported with the first callback: its HTTP parser would take a good part of the start-up time.
        from seedbed_mock.callbacks.sender import DeliveryError, send_callback

        deadline = asyncio.timeout(_TIMEOUT)
        self._deadlines.add(deadline)
        try:
            async with deadline:
                target = await resolve(url, self._allowed, getaddrinfo=self._look_up)
                _check_not_control_api(target, task.base_url, self._service.ports)
                response = await send_callback(target, body, headers)
        except TimeoutError:
            return _Outcome(error=f"no response within {_TIMEOUT:g} seconds")
        except TargetRefusedError as error:
            return _Outcome(error=str(error), is_refused=True)
        except UnknownTargetError as error:
            # Otherwise the task would be kept for all retries, which cannot succeed.
            return _Outcome(error=str(error), is_refused=not self._allowed.may_allow(url))
        except DeliveryError as error:
            return _Outcome(error=str(error))
        else:
            return _Outcome(response.status, response.retry_after)
        finally:
            self._deadlines.discard(deadline)

    async def _release_held(self, space: str) -> None:
        """Make the callbacks due that were held until another one of their space was sent."""
        waiting = self._service.held_callbacks.pop(space, ())
        for task_id in waiting:
            held, now = await self._service.store.find(task_id), self._service.now()
            if held is None or held.callback is None or held.callback.outcome != "waiting" or held.callback.tries:
                continue
            if held.callback.is_held(now):
                await self._give_back(held, now)
            else:
                # Its task has not ended yet.
                self._service.hold_callback(held)

    async def _change_callback(self, task: Task, change: Callable[[CallbackDelivery], CallbackDelivery]) -> None:
        def change_task(task: Task) -> Task:
            return replace(task, callback=change(task.callback)) if task.callback else task

        await self._service.store.change(task.task_id, change_task)


def _check_not_control_api(target: CallbackTarget, base_url: str, ports: Collection[int]) -> None:
    """Check that a target is not the control API of this server.

    A callback comes from this machine, so it would pass the access control of the control API, and anyone who can
    create a task could control the server.

    Args:
        target: The target.
        base_url: Base URL at which the server was called; behind a port mapping, it has another port.
        ports: Ports on which the server is known to listen.

    Raises:
        TargetRefusedError: The target is the control API.
    """
    own = urlsplit(base_url)
    path = f"{unquote(target.path.partition('?')[0])}/".removeprefix(own.path)
    is_here = any(ip_address(address).is_loopback or address == own.hostname for address in target.addresses)
    if is_here and target.port in {*ports, own.port} and path.startswith(f"{CONTROL_ROOT}/"):
        raise TargetRefusedError(f"Callbacks cannot be sent to the control API of this server, under {CONTROL_ROOT}.")
