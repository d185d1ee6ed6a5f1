"""A task and its callback as values: a task's state at any time follows from its timeline, without background work."""

from __future__ import annotations

import json
from bisect import bisect_right
from decimal import Decimal  # noqa: TC003 (msgspec reads the annotations when it runs)
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import msgspec
from msgspec.structs import replace
from seedbed_schemas import job_api
from seedbed_schemas.messages import Record, Results

from seedbed_mock.results.picture import RESULTS

if TYPE_CHECKING:
    from seedbed_schemas.dialect import Dialect


_STATES = job_api().states
_STEPS = len(_STATES.pending)
"""Number of changes of state: from each pending state to the next, and from the last one to the end."""

_RETRIES = job_api().callback.retries
# The service documents how often it retries, not when.
_BACKOFF_SECONDS = (2, 8, 32)
_LONGEST_RETRY_AFTER = 3600
_GONE = 410

_OLDEST_SIGNATURE = 300_000
"""In milliseconds: a signature with an older timestamp may be a replayed one."""

_MOST_ATTEMPTS = 100
"""Number of attempts that a callback keeps; redelivery can add any number."""

_RECORD_FIELDS = Record.__struct_encode_fields__

Outcome = Literal["waiting", "delivered", "failed", "refused", "withheld"]


# The structs of this module are stored as JSON, so that a change to their fields needs a new version of the database.
# They are not garbage-collected: they are part of no cycle, and thousands of them would slow each collection down.


class DeliveryAttempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt to deliver a callback.

    Attributes:
        at: When it started, in Unix milliseconds.
        duration: How long it took, in milliseconds of real time.
        status: HTTP status of the response, ``None`` without a response.
        error: Why there was no response.
        is_refused: Whether the server may not call the address at all.
    """

    at: int
    duration: int
    status: int | None = None
    error: str = ""
    is_refused: bool = False


class CallbackFault(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What is wrong with the callback of a task; by default nothing.

    Attributes:
        deliveries: How many successful attempts complete the delivery.
        lets_next_go_first: Whether it waits until another callback of its space is delivered.
        is_unsigned: Whether it has no signature.
        signed_id: ID that is signed in place of the task's, empty for the task's.
        signing_key: Key that signs in place of the account's, empty for the account's.
        age: Age of the signature's timestamp, in milliseconds.
        contradicts_record: Whether it reports the opposite outcome.
    """

    deliveries: int = 1
    lets_next_go_first: bool = False
    is_unsigned: bool = False
    signed_id: str = ""
    signing_key: str = ""
    age: int = 0
    contradicts_record: bool = False

    @property
    def has_false_signature(self) -> bool:
        """Whether a receiver must refuse it for its signature, which is missing, wrong or too old."""
        is_old = abs(self.age) > _OLDEST_SIGNATURE
        return bool(self.is_unsigned or self.signing_key or self.signed_id or is_old)


class CallbackDelivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The callback of a task and what has become of it.

    Attributes:
        url: URL of the receiver.
        due: When the next attempt is due, in Unix milliseconds; ``None`` if there is none, or if it is not known yet.
        tries: Number of attempts of the present delivery.
        outcome: What has become of the delivery.
        attempts: All attempts, oldest first.
        delay: How long after the end of the task it is sent, in milliseconds.
        fault: What is wrong with it.
    """

    url: str
    due: int | None = None
    tries: int = 0
    outcome: Outcome = "waiting"
    attempts: tuple[DeliveryAttempt, ...] = ()
    delay: int = 0
    fault: CallbackFault = CallbackFault()

    def is_held(self, now: int) -> bool:
        """Return whether it waits for another callback although its task has ended."""
        waits = self.fault.lets_next_go_first and not self.tries
        return waits and self.due is not None and self.due - self.delay <= now < self.due

    def claimed(self, until: int) -> CallbackDelivery:
        """Return the callback as claimed by a server; it is due again at ``until`` if that server stops."""
        return replace(self, due=until)

    def redelivered(self, now: int) -> CallbackDelivery:
        """Return the callback as due again, with all its retries."""
        return replace(self, due=now, tries=0, outcome="waiting")

    def attempted(self, attempt: DeliveryAttempt, now: int, retry_after: float | None = None) -> CallbackDelivery:
        """Return the callback after an attempt: delivered, due for a retry, or given up.

        Args:
            attempt: The attempt.
            now: The time in Unix milliseconds.
            retry_after: Seconds of the receiver's Retry-After header.
        """
        tries = self.tries + 1
        outcome: Outcome = "failed" if attempt.status == _GONE or tries > _RETRIES else "waiting"
        if attempt.is_refused:
            outcome = "refused"
        elif attempt.status is not None and 200 <= attempt.status < 300:  # noqa: PLR2004 (the range of success)
            # The repeated-callback fault delivers a callback more than once.
            outcome = "waiting" if tries < self.fault.deliveries else "delivered"
        due = None
        if outcome == "waiting":
            backoff = _BACKOFF_SECONDS[min(tries, len(_BACKOFF_SECONDS)) - 1]
            due = now + round(max(backoff, min(retry_after or 0, _LONGEST_RETRY_AFTER)) * 1000)
        return replace(self.noted(attempt), due=due, tries=tries, outcome=outcome)

    def noted(self, attempt: DeliveryAttempt) -> CallbackDelivery:
        """Return the callback with one more attempt, which changes nothing else."""
        return replace(self, attempts=(*self.attempts, attempt)[-_MOST_ATTEMPTS:])


class ResultFault(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What is wrong with the result of a task; by default nothing.

    Attributes:
        has_empty_url: Whether the record gives an empty URL.
        has_dead_url: Whether the record gives a URL without a file behind it.
        is_expired: Whether the result is gone as soon as the task has ended.
        is_truncated: Whether the file ends in the middle.
        size: Width and height in pixels, ``None`` for the requested size.
    """

    has_empty_url: bool = False
    has_dead_url: bool = False
    is_expired: bool = False
    is_truncated: bool = False
    size: tuple[int, int] | None = None


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Why a task failed.

    Attributes:
        code: ``failCode`` of the record.
        message: ``failMsg`` of the record.
    """

    code: str
    message: str


class Task(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A task. It is immutable: what happens to it makes a new value with the same ID.

    Attributes:
        task_id: ID of the task.
        space: Name of its space.
        account: Fingerprint of the key that created it.
        model: Name of the model.
        request: The request as JSON, as the service keeps it.
        result_name: File name of the result, which cannot be guessed from the ID.
        base_url: URL at which the server was reached when the task was created.
        price: Credits charged for it.
        created: When it was created, in Unix milliseconds.
        visible: When recordInfo starts to know it, in Unix milliseconds.
        timeline: When it enters each state after the first, as far as that is known, in Unix milliseconds.
        polls: Number of polls that have advanced it.
        failure: Why it fails at its end, ``None`` if it succeeds.
        is_refunded: Whether the price was refunded.
        is_written_off: Whether the balance that paid for it was reset, so that there is nothing to refund.
        is_stuck: Whether polls do not advance it.
        result_fault: What is wrong with its result.
        fault_rule: Fault rule that changed it, empty if there is none.
        callback: Its callback, ``None`` without a callback URL.
    """

    task_id: str
    space: str
    account: str
    model: str
    request: str
    result_name: str
    base_url: str
    price: Decimal
    created: int
    visible: int
    timeline: tuple[int, ...] = ()
    polls: int = 0
    failure: Failure | None = None
    is_refunded: bool = False
    is_written_off: bool = False
    is_stuck: bool = False
    result_fault: ResultFault = ResultFault()
    fault_rule: str = ""
    callback: CallbackDelivery | None = None

    @property
    def ends(self) -> int | None:
        """When it ends, in Unix milliseconds; ``None`` if that is not known yet."""
        return self.timeline[-1] if len(self.timeline) == _STEPS else None

    @property
    def owes_refund(self) -> bool:
        """Whether its price is to be refunded once it has ended."""
        return self.failure is not None and not (self.is_refunded or self.is_written_off)

    def has_ended(self, now: int) -> bool:
        """Return whether it has ended at this time, in Unix milliseconds."""
        return self.ends is not None and self.ends <= now

    def state(self, now: int) -> str:
        """Return its state at this time, in Unix milliseconds."""
        reached = bisect_right(self.timeline, now)
        if reached < _STEPS:
            return _STATES.pending[reached]
        return _STATES.failure if self.failure else _STATES.success

    def states(self) -> list[tuple[str, int | None]]:
        """Return its states in their order, and when it enters each, ``None`` where that is not known."""
        last = _STATES.failure if self.failure else _STATES.success
        times = (self.created, *self.timeline, *[None] * (_STEPS - len(self.timeline)))
        return list(zip((*_STATES.pending, last), times, strict=True))

    def state_since(self, now: int) -> int:
        """Return when it entered the state that it has at this time, both in Unix milliseconds."""
        reached = bisect_right(self.timeline, now)
        return self.timeline[reached - 1] if reached else self.created


# Many tasks are created within one millisecond, and then share their timeline.
@lru_cache(256)
def even_timeline(created: int, duration: int) -> tuple[int, ...]:
    """Return a timeline on which all pending states last equally long; all times in milliseconds."""
    return tuple(map(created.__add__, _even_steps(duration)))


@lru_cache(256)
def _even_steps(duration: int) -> tuple[int, ...]:
    # Rounded up, so that no state ends early.
    return tuple(-(-step * duration // _STEPS) for step in range(1, _STEPS + 1))


def on_timeline(task: Task, timeline: tuple[int, ...]) -> Task:
    """Return the task with another, complete timeline, and its callback due accordingly."""
    callback = task.callback
    if callback and callback.outcome != "withheld":
        callback = replace(callback, due=timeline[-1] + callback.delay)
    return replace(task, timeline=timeline, callback=callback)


def stuck_in(task: Task, state: str) -> Task:
    """Return the task as one that never leaves a state by itself."""
    reached = _STATES.pending.index(state)
    timeline = task.timeline[:reached]
    # A task without a timeline, which polls would advance, is in that state from the start.
    if len(timeline) < reached:
        timeline = (task.created,) * reached
    callback = replace(task.callback, due=None) if task.callback else None
    return replace(task, timeline=timeline, is_stuck=True, callback=callback)


def polled(task: Task, now: int, polls: int) -> Task:
    """Return the task after one more poll, if it ends with the poll of this number."""
    if task.ends is not None or task.is_stuck:
        return task
    seen = task.polls + 1
    return _advanced(replace(task, polls=seen), min(seen * _STEPS // polls, _STEPS), now)


def ended(task: Task, now: int, failure: Failure | None = None) -> Task:
    """Return the task as ended now, successfully or with a failure."""
    passed = tuple(moment for moment in task.timeline if moment <= now)
    return _advanced(replace(task, timeline=passed, failure=failure), _STEPS, now)


def _advanced(task: Task, reached: int, now: int) -> Task:
    timeline = task.timeline + (now,) * (reached - len(task.timeline))
    return on_timeline(task, timeline) if reached == _STEPS else replace(task, timeline=timeline)


def record(
    task: Task, now: int, *, dialect: Dialect, base_url: str = "", channel: str = "recordInfo"
) -> dict[str, Any]:
    """Return the record of a task at a time, as the service writes it.

    Args:
        task: The task.
        now: The time in Unix milliseconds.
        dialect: How the fields are written.
        base_url: URL of the server; if empty, the one at which it was reached when the task was created.
        channel: Where the record is sent, ``recordInfo`` or ``callback``.
    """
    state = task.state(now)
    ends = task.ends if task.has_ended(now) else None
    failure = None if ends is None else task.failure
    # In the order of the fields of Record: keywords would take a good part of a recordInfo request.
    values = (
        task.task_id,
        task.model,
        state,
        _with_input_as_text(task.request) if dialect.input_is_text else task.request,
        msgspec.json.encode(Results([result_url(task, base_url)])).decode(),
        failure.code if failure else None,
        failure.message if failure else None,
        None if ends is None else ends - task.created,
        ends,
        task.created,
        task.state_since(now),
        0.0 if failure else float(task.price),
    )
    return dialect.record(dict(zip(_RECORD_FIELDS, values, strict=True)), state, channel=channel)


def result_url(task: Task, base_url: str) -> str:
    """Return the URL of the result that the record of a task gives."""
    if task.result_fault.has_empty_url:
        return ""
    name = f"gone-{task.result_name}" if task.result_fault.has_dead_url else task.result_name
    return f"{base_url or task.base_url}{RESULTS}/{quote(name)}"


@lru_cache(1024)
def _with_input_as_text(request: str) -> str:
    """Return a request with its input as a JSON string of its own."""
    fields, sent = job_api().fields, json.loads(request)
    written = {fields.input: msgspec.json.encode(sent.get(fields.input, {})).decode()}
    written |= {name: sent[name] for name in (fields.callback, fields.model) if name in sent}
    return msgspec.json.encode(written).decode()
