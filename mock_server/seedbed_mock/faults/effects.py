"""What a fault does: one small class for each effect, which says what it imitates.

The fields of a class are what a rule may tell it, as ``name=value``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace
from seedbed_schemas import job_api

from seedbed_mock.settings import Span
from seedbed_mock.tasks import (
    CallbackFault,
    Failure,
    ResultFault,
    even_timeline,
    on_timeline,
    stuck_in,
)

if TYPE_CHECKING:
    from random import Random

    from seedbed_mock.tasks import CallbackDelivery, Task


_DAY = 86_400
Seconds = Annotated[float, Meta(ge=0, le=_DAY)]
Pause = Annotated[int, Meta(ge=0, le=_DAY)]
HttpStatus = Annotated[int, Meta(ge=200, le=599)]
Text = Annotated[str, Meta(max_length=500)]
MediaType = Annotated[str, Meta(pattern=r"^[!-~]([ -~]{0,198}[!-~])?\Z")]
Pixels = Annotated[int, Meta(ge=1, le=8192)]

_STATES = job_api().states


class Effect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """What a fault does.

    Attributes:
        name: How a rule names it.
        operations: Names of the operations that can carry it, empty for all.
    """

    name: ClassVar[str]
    operations: ClassVar[frozenset[str]] = frozenset()


class ResponseEffect(Effect, frozen=True):
    """Puts another answer in the place of the service's, which does not hear of the call."""


class TaskEffect(Effect, frozen=True):
    """Changes what becomes of a task as it is made."""

    operations: ClassVar[frozenset[str]] = frozenset({"createTask"})

    def changed(self, task: Task) -> Task:
        """Return the task as it is made instead."""
        return task


class ResultEffect(TaskEffect, frozen=True):
    """Breaks the result of a task."""

    fault: ClassVar[ResultFault]

    def changed(self, task: Task) -> Task:
        return replace(task, result_fault=self.fault)


class CallbackEffect(TaskEffect, frozen=True):
    """Breaks the callback of a task; one without a callback URL stays as it is."""

    fault: ClassVar[CallbackFault] = CallbackFault()

    def changed(self, task: Task) -> Task:
        return replace(task, callback=self.told(task.callback, task)) if task.callback else task

    def told(self, callback: CallbackDelivery, task: Task) -> CallbackDelivery:
        """Return the callback as it is sent instead."""
        return replace(callback, fault=self.fault)


# Answers


class CodeEffect(ResponseEffect, frozen=True):
    """A documented code, in the dialect's words or in others."""

    name = "CODE"
    code: int
    message: Text | None = None
    retry_after: Pause | None = None


class StatusEffect(ResponseEffect, frozen=True):
    """An HTTP status without a body: a load balancer answers in the place of the service."""

    name = "answer.status"
    status: HttpStatus = 503
    retry_after: Pause | None = None


class HtmlResponse(ResponseEffect, frozen=True):
    """A page of HTML: a proxy refuses a script (403), or finds nobody behind it (502)."""

    name = "answer.html"
    status: HttpStatus = 502


class EmptyResponse(ResponseEffect, frozen=True):
    """HTTP 200 and an empty body: a worker that died after its headers."""

    name = "answer.empty"


class WrongMediaType(ResponseEffect, frozen=True):
    """Success as JSON that calls itself something else: a server that is set up wrongly."""

    name = "answer.type"
    type: MediaType = "text/plain; charset=utf-8"


class NotJsonResponse(ResponseEffect, frozen=True):
    """Half a JSON document with a Content-Length that fits: an answer cut by a proxy that hides it."""

    name = "answer.not-json"


class OtherShapeResponse(ResponseEffect, frozen=True):
    """JSON of another shape, a list where an object was: a version of the API that nobody announced."""

    name = "answer.shape"


class NoDataResponse(ResponseEffect, frozen=True):
    """Success without ``data``: an answer written before its outcome was known."""

    name = "answer.no-data"


# Latency


class Delay(Effect, frozen=True):
    """An answer that takes its time: fixed, between two bounds, or lognormal about a median, as networks have it."""

    name = "delay"
    seconds: Text = "1"
    sigma: Annotated[float, Meta(ge=0, le=5)] = 0

    def __post_init__(self) -> None:
        span = Span.parse(self.seconds)
        if not span.least <= span.most <= _DAY:
            raise ValueError(f"a delay is at most {_DAY} seconds, its bounds in order, not {self.seconds}")
        if self.sigma and span.least != span.most:
            raise ValueError("sigma goes with one length of time, the median")

    def draw(self, chance: Random) -> float:
        """Return how long it takes this time, in seconds."""
        span = Span.parse(self.seconds)
        return min(span.least * chance.lognormvariate(0, self.sigma), _DAY) if self.sigma else span.draw(chance)


# Tasks


class FailTask(TaskEffect, frozen=True):
    """A task that fails: moderation says no minutes later, or the model breaks down."""

    name = "task.fail"
    code: Text = next(iter(job_api().failures))
    message: Text | None = None
    after: Seconds | None = None

    def changed(self, task: Task) -> Task:
        message = job_api().failures.get(self.code, "") if self.message is None else self.message
        return _timed(replace(task, failure=Failure(self.code, message)), self.after)


class StuckTask(TaskEffect, frozen=True):
    """A task that stays in a state for ever: a job that a worker lost."""

    name = "task.stuck"
    state: Literal["waiting", "queuing", "generating"] = "waiting"

    def changed(self, task: Task) -> Task:
        return stuck_in(task, self.state)


class SlowTask(TaskEffect, frozen=True):
    """A task that takes longer: a queue at its worst."""

    name = "task.slow"
    seconds: Seconds = 600

    def changed(self, task: Task) -> Task:
        return _timed(task, self.seconds)


class LateTask(TaskEffect, frozen=True):
    """A task that recordInfo does not know at first: a replica that lags behind."""

    name = "task.late"
    seconds: Seconds = 3

    def changed(self, task: Task) -> Task:
        return replace(task, visible=task.visible + round(self.seconds * 1000))


class LostTask(TaskEffect, frozen=True):
    """Charged, never created, and answered with 500: a crash between the till and the queue."""

    name = "task.lost"


class OrphanTask(TaskEffect, frozen=True):
    """Created and charged, but answered with 500: who tries again pays twice."""

    name = "task.orphan"


# Results


class EmptyResultUrl(ResultEffect, frozen=True):
    """Success with an empty URL."""

    name = "result.empty-url"
    fault = ResultFault(has_empty_url=True)


class DeadResultUrl(ResultEffect, frozen=True):
    """Success with the URL of a result that is not there."""

    name = "result.dead-url"
    fault = ResultFault(has_dead_url=True)


class ExpiredResult(ResultEffect, frozen=True):
    """A result that has expired before anybody fetched it."""

    name = "result.expired"
    fault = ResultFault(is_expired=True)


class OtherResultSize(ResultEffect, frozen=True):
    """An image of another size than was asked for."""

    name = "result.size"
    width: Pixels = 512
    height: Pixels = 512

    def changed(self, task: Task) -> Task:
        return replace(task, result_fault=ResultFault(size=(self.width, self.height)))


class TruncatedImage(ResultEffect, frozen=True):
    """An image that ends in the middle, its Content-Length true to that: an upload that broke."""

    name = "result.cut"
    fault = ResultFault(is_truncated=True)


# Callbacks


class NoCallback(CallbackEffect, frozen=True):
    """A callback that never comes."""

    name = "callback.never"

    def told(self, callback: CallbackDelivery, task: Task) -> CallbackDelivery:
        return replace(callback, due=None, outcome="withheld")


class LateCallback(CallbackEffect, frozen=True):
    """A callback that comes long after the task has ended."""

    name = "callback.late"
    seconds: Seconds = 60

    def told(self, callback: CallbackDelivery, task: Task) -> CallbackDelivery:
        return _put_off(callback, self.seconds)


class RepeatedCallback(CallbackEffect, frozen=True):
    """A callback that comes twice, as the service says that it may."""

    name = "callback.twice"
    fault = CallbackFault(deliveries=2)


class OutOfOrderCallback(CallbackEffect, frozen=True):
    """A callback that lets the next one of its space go first; alone, it comes after so many seconds."""

    name = "callback.out-of-order"
    seconds: Seconds = 60

    def told(self, callback: CallbackDelivery, task: Task) -> CallbackDelivery:
        return replace(_put_off(callback, self.seconds), fault=CallbackFault(lets_next_go_first=True))


class EarlyCallback(CallbackEffect, frozen=True):
    """A callback that tells of success so many seconds before recordInfo does."""

    name = "callback.early"
    seconds: Seconds = 1

    def told(self, callback: CallbackDelivery, task: Task) -> CallbackDelivery:
        due = None if callback.due is None else max(callback.due - round(self.seconds * 1000), task.created)
        return replace(callback, due=due)


class UnsignedCallback(CallbackEffect, frozen=True):
    """A callback without a signature, though the account has a signing key."""

    name = "callback.unsigned"
    fault = CallbackFault(is_unsigned=True)


class WrongSignatureCallback(CallbackEffect, frozen=True):
    """A callback whose signature was made with another key: somebody else's, or a key that was changed."""

    name = "callback.wrong-signature"
    fault = CallbackFault(signing_key="a key that nobody knows")


class OtherIdCallback(CallbackEffect, frozen=True):
    """A callback signed over ``undefined``, as by those who copy the vendor's own sample."""

    name = "callback.other-id"
    fault = CallbackFault(signed_id="undefined")


class StaleCallback(CallbackEffect, frozen=True):
    """A callback whose timestamp is old: a replay, or a clock that is wrong."""

    name = "callback.stale"
    seconds: Seconds = 3600

    def told(self, callback: CallbackDelivery, task: Task) -> CallbackDelivery:
        return replace(callback, fault=CallbackFault(age=round(self.seconds * 1000)))


class ContradictingCallback(CallbackEffect, frozen=True):
    """A callback that says the contrary of the record, which the signature does not keep anybody from."""

    name = "callback.unlike"
    fault = CallbackFault(contradicts_record=True)


class RedeliveredCallback(CallbackEffect, frozen=True):
    """A callback that is retried although it was answered with 200."""

    name = "callback.again"
    fault = CallbackFault(deliveries=job_api().callback.retries + 1)


def _put_off(callback: CallbackDelivery, seconds: float) -> CallbackDelivery:
    delay = round(seconds * 1000)
    return replace(callback, delay=delay, due=None if callback.due is None else callback.due + delay)


def _timed(task: Task, seconds: float | None) -> Task:
    if seconds is None:
        return task
    return on_timeline(task, even_timeline(task.created, round(seconds * 1000)))
