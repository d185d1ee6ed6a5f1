"""A callback as a value: where it goes, when it is due next, and what came of each attempt."""

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


Outcome = Literal["waiting", "delivered", "failed", "refused", "withheld"]

_RETRIES = job_api().callback.retries
_BACKOFF_SECONDS = (2, 8, 32)
"""Our own choice: the service's spacing is not known."""

_LONGEST_WAIT = 3600
_GONE = 410


class DeliveryAttempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt at a delivery.

    Attributes:
        at: When it began, in Unix milliseconds.
        duration: How long it took, in milliseconds of real time.
        status: HTTP status of the answer, ``None`` where there was none.
        error: Why there was none, in one sentence.
        is_refused: Whether the address may not be called at all.
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


class CallbackDelivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is POSTed when a task has ended.

    Attributes:
        url: Where it goes.
        due: When the next attempt is due, in Unix milliseconds; ``None`` where none is to come, or not known yet.
        tries: How many attempts count towards the present delivery.
        outcome: What became of it.
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
        """Tell whether it waits, though its task has ended, for another one to go first."""
        is_first = self.fault.lets_next_go_first and not self.tries
        return is_first and self.due is not None and self.due - self.delay <= now < self.due

    def claimed(self, until: int) -> CallbackDelivery:
        """Return it as being delivered by somebody, who has given up if nothing came of it until that moment."""
        return replace(self, due=until)

    def redelivered(self, now: int) -> CallbackDelivery:
        """Return it as due once more, with all its retries."""
        return replace(self, due=now, tries=0, outcome="waiting")

    def attempted(self, attempt: DeliveryAttempt, now: int, retry_after: float | None = None) -> CallbackDelivery:
        """Return it after an attempt: done, to be retried later, or given up.

        Args:
            attempt: What came of it.
            now: The time in Unix milliseconds.
            retry_after: How long the receiver asks to be left alone, in seconds.
        """
        tries = self.tries + 1
        outcome = _outcome(attempt, tries, self)
        due = None
        if outcome == "waiting":
            pause = max(_BACKOFF_SECONDS[min(tries, len(_BACKOFF_SECONDS)) - 1], min(retry_after or 0, _LONGEST_WAIT))
            due = now + round(pause * 1000)
        return replace(self, due=due, tries=tries, outcome=outcome, attempts=(*self.attempts, attempt)[-_KEPT:])


def _outcome(attempt: DeliveryAttempt, tries: int, callback: CallbackDelivery) -> Outcome:
    if attempt.is_refused:
        return "refused"
    if attempt.status is not None and 200 <= attempt.status < 300:  # noqa: PLR2004 (the class of success)
        return "waiting" if tries < callback.fault.deliveries else "delivered"
    return "failed" if attempt.status == _GONE or tries > _RETRIES else "waiting"


_KEPT = 100
"""Attempts that are kept of one callback, however often it is redelivered."""


_STATES = job_api().states
_STEPS = len(_STATES.pending)
"""How often a task changes its state: from each that is pending to the next, and from the last to its end."""


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
        code: What the record has as ``failCode``.
        message: What the record has as ``failMsg``.
    """

    code: str
    message: str


class Task(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One task, which never changes: what happens to it makes another of the same name.

    Attributes:
        task_id: Its name.
        space: The space in which it was made.
        account: Fingerprint of the key that made it.
        model: What makes its image.
        request: The request, as the JSON text that was sent.
        result_name: File name of its result, which nobody can guess.
        base_url: Where the server was reached when it was made.
        price: What was charged for it, in credits.
        created: When it was made, in Unix milliseconds.
        visible: From when on it is shown, in Unix milliseconds.
        timeline: When it comes to be in each state after the first, as far as that is known, in Unix milliseconds.
        polls: How often its record was asked for, where that is what moves it on.
        failure: Why it fails in the end, ``None`` where it succeeds.
        is_refunded: Whether its price was given back.
        is_written_off: Whether the balance that it was paid from is no more, since the account has opened again.
        is_stuck: Whether polls do not move it on.
        result_fault: What is wrong with its result.
        fault_rule: Text of the fault rule that changed it, empty for none.
        callback: What is POSTed when it has ended.
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
        """When it ends, in Unix milliseconds; ``None`` where nobody knows yet."""
        return self.timeline[-1] if len(self.timeline) == _STEPS else None

    @property
    def owes_refund(self) -> bool:
        """Whether its price is still to be given back once it has ended."""
        return self.failure is not None and not (self.is_refunded or self.is_written_off)

    def has_ended(self, now: int) -> bool:
        """Tell whether it is over at that time, in Unix milliseconds."""
        return self.ends is not None and self.ends <= now

    def state(self, now: int) -> str:
        """Return its state at that time, in Unix milliseconds."""
        reached = bisect_right(self.timeline, now)
        if reached < _STEPS:
            return _STATES.pending[reached]
        return _STATES.failure if self.failure else _STATES.success

    def state_since(self, now: int) -> int:
        """Return when it came to be in its state at that time, both in Unix milliseconds."""
        reached = bisect_right(self.timeline, now)
        return self.timeline[reached - 1] if reached else self.created


def even_timeline(created: int, duration: int) -> tuple[int, ...]:
    """Return a timeline on which each state before the end lasts as long as any other, all in milliseconds."""
    return tuple([created - (-step * duration // _STEPS) for step in range(1, _STEPS + 1)])


def polled(task: Task, now: int, polls: int) -> Task:
    """Return the task after its record was asked for once more, where it ends when that happens for the n-th time."""
    if task.ends is not None or task.is_stuck:
        return task
    seen = task.polls + 1
    reached = min(seen * _STEPS // polls, _STEPS)
    return _reaching(replace(task, polls=seen), reached, now)


def on_timeline(task: Task, timeline: tuple[int, ...]) -> Task:
    """Return the task with another timeline, all of it known, and its callback due accordingly."""
    callback = replace(task.callback, due=timeline[-1] + task.callback.delay) if task.callback else None
    return replace(task, timeline=timeline, callback=callback)


def stuck_in(task: Task, state: str) -> Task:
    """Return the task as one that never leaves that state by itself."""
    timeline = task.timeline[: _STATES.pending.index(state)]
    if len(timeline) < _STATES.pending.index(state):
        timeline = (task.created,) * _STATES.pending.index(state)
    callback = replace(task.callback, due=None) if task.callback else None
    return replace(task, timeline=timeline, is_stuck=True, callback=callback)


def ended(task: Task, now: int, failure: Failure | None = None) -> Task:
    """Return the task as over from now on, well or with a failure."""
    passed = tuple(moment for moment in task.timeline if moment <= now)
    return _reaching(replace(task, timeline=passed, failure=failure), _STEPS, now)


def _reaching(task: Task, reached: int, now: int) -> Task:
    timeline = task.timeline + (now,) * (reached - len(task.timeline))
    return on_timeline(task, timeline) if reached == _STEPS else replace(task, timeline=timeline)


def result_url(task: Task, base_url: str) -> str:
    """Return where the result of a task is said to be."""
    if task.result_fault.has_empty_url:
        return ""
    name = f"gone-{task.result_name}" if task.result_fault.has_dead_url else task.result_name
    return f"{base_url or task.base_url}{RESULTS}/{quote(name)}"


def record(
    task: Task, now: int, *, dialect: Dialect, base_url: str = "", channel: str = "recordInfo"
) -> dict[str, Any]:
    """Return the task as the service shows it at that time.

    Args:
        task: The task.
        now: The time in Unix milliseconds.
        dialect: How its fields are written.
        base_url: Where the server is reached; where it was when the task was made, if empty.
        channel: Where the record travels, ``recordInfo`` or ``callback``.
    """
    state = task.state(now)
    ends = task.ends if task.has_ended(now) else None
    failure = None if ends is None else task.failure
    values = (
        task.task_id,
        task.model,
        state,
        _text_in_text(task.request) if dialect.input_is_text else task.request,
        _results(result_url(task, base_url)),
        failure.code if failure else None,
        failure.message if failure else None,
        None if ends is None else ends - task.created,
        ends,
        task.created,
        task.state_since(now),
        0.0 if failure else float(task.price),
    )
    return dialect.record(dict(zip(_RECORD_FIELDS, values, strict=True)), state, channel=channel)


def _results(url: str) -> str:
    return msgspec.json.encode(Results([url])).decode()


@lru_cache(1024)
def _text_in_text(request: str) -> str:
    """Return a request with its input as a JSON string of its own."""
    fields, sent = job_api().fields, json.loads(request)
    shown = {fields.input: json.dumps(sent.get(fields.input, {}))}
    shown |= {name: sent[name] for name in (fields.callback, fields.model) if name in sent}
    return json.dumps(shown)


_RECORD_FIELDS = Record.__struct_encode_fields__
