"""Effects: what a fault changes about a response, a task, a result or a callback.

Each effect is one class. Its ``name`` is how a rule calls it, its fields are the options that a rule can set
(``name=value``), and its methods say what it changes. Effects that only mark a task, a callback or a delay are carried
out where these are handled: in ``handlers.py``, ``callbacks/dispatcher.py`` and ``asgi.py``. The docstrings name the
failures that the effects imitate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace
from seedbed_schemas import job_api

from seedbed_mock.responses import ApiResponse
from seedbed_mock.settings import SettingsError, Span
from seedbed_mock.tasks import CallbackFault, Failure, ResultFault, even_timeline, on_timeline, stuck_in

if TYPE_CHECKING:
    from random import Random

    from seedbed_mock.responses import ResponseWriter
    from seedbed_mock.tasks import CallbackDelivery, Task


APPLIED_HEADER = "x-seedbed-fault-applied"
"""Header of every response that a rule changed; its value is the rule."""

_DAY = 86_400
_JSON = "application/json"
_HTML = "text/html; charset=utf-8"

Seconds = Annotated[float, Meta(ge=0, le=_DAY)]
WholeSeconds = Annotated[int, Meta(ge=0, le=_DAY)]
HttpStatus = Annotated[int, Meta(ge=200, le=599)]
Text = Annotated[str, Meta(max_length=500)]
# \Z and not $, which also matches before a newline: the value becomes a header.
MediaType = Annotated[str, Meta(pattern=r"^[!-~]([ -~]{0,198}[!-~])?\Z")]
Pixels = Annotated[int, Meta(ge=1, le=8192)]


class Effect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Base class of all effects.

    Attributes:
        name: Name of the effect in a rule.
        operations: Operations that the effect applies to; empty for all.
    """

    name: ClassVar[str]
    operations: ClassVar[frozenset[str]] = frozenset()


# Responses


class ResponseEffect(Effect, frozen=True):
    """Replaces the response; the call itself has no effect on the service."""

    def respond(self, writer: ResponseWriter) -> ApiResponse:
        """Return the response to send.

        Args:
            writer: Writes the responses of the service.
        """
        raise NotImplementedError


class ResponseReplacedError(Exception):
    """Stop the handlers of a call: a fault replaces its response.

    Args:
        effect: Effect that gives the response.
    """

    def __init__(self, effect: ResponseEffect) -> None:
        super().__init__(effect.name)
        self.effect = effect


class CodeEffect(ResponseEffect, frozen=True):
    """A code, with the message of the dialect or another one."""

    name = "CODE"
    code: int
    message: Text | None = None
    retry_after: WholeSeconds | None = None

    def respond(self, writer: ResponseWriter) -> ApiResponse:
        return _with_retry_after(writer.for_code(self.code, self.message), self.retry_after)


class StatusEffect(ResponseEffect, frozen=True):
    """An HTTP status without a body: a load balancer responds instead of the service."""

    name = "answer.status"
    status: HttpStatus = 503
    retry_after: WholeSeconds | None = None

    def respond(self, writer: ResponseWriter) -> ApiResponse:
        return _with_retry_after(_fault_response(b"", _HTML, self.status), self.retry_after)


class HtmlResponse(ResponseEffect, frozen=True):
    """An HTML page: a proxy refuses a script (403) or cannot reach the service (502)."""

    name = "answer.html"
    status: HttpStatus = 502

    def respond(self, writer: ResponseWriter) -> ApiResponse:
        # HTTP allows no body with these.
        if self.status in {204, 205, 304}:
            return _fault_response(b"", _HTML, self.status)
        title = {403: "403 Forbidden", 502: "502 Bad Gateway"}.get(self.status, str(self.status))
        page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
        page += "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        return _fault_response(page.encode(), _HTML, self.status)


class EmptyResponse(ResponseEffect, frozen=True):
    """HTTP 200 with an empty body: a worker died after sending the headers."""

    name = "answer.empty"

    def respond(self, writer: ResponseWriter) -> ApiResponse:
        return _fault_response(b"", _JSON)


class WrongMediaType(ResponseEffect, frozen=True):
    """A successful JSON response with another Content-Type: a misconfigured server."""

    name = "answer.type"
    type: MediaType = "text/plain; charset=utf-8"

    def respond(self, writer: ResponseWriter) -> ApiResponse:
        return _fault_response(writer.success(None).body, self.type)


class NotJsonResponse(ResponseEffect, frozen=True):
    """Half a JSON document whose Content-Length is correct: a proxy cut the response and hid that."""

    name = "answer.not-json"

    def respond(self, writer: ResponseWriter) -> ApiResponse:
        body = writer.success(None).body
        return _fault_response(body[: len(body) // 2], _JSON)


class OtherShapeResponse(ResponseEffect, frozen=True):
    """JSON of another shape, a list instead of an object: an unannounced version of the API."""

    name = "answer.shape"

    def respond(self, writer: ResponseWriter) -> ApiResponse:
        return _fault_response(b'[{"status":"ok"}]', _JSON)


class NoDataResponse(ResponseEffect, frozen=True):
    """A successful response without ``data``: it was written before the result was known."""

    name = "answer.no-data"

    def respond(self, writer: ResponseWriter) -> ApiResponse:
        return _fault_response(writer.success_without_data(), _JSON)


def _fault_response(body: bytes, media_type: str, status: int = 200) -> ApiResponse:
    return ApiResponse(0, "fault", body, status, media_type)


def _with_retry_after(response: ApiResponse, seconds: int | None) -> ApiResponse:
    if seconds is not None:
        response.headers["retry-after"] = str(seconds)
    return response


# Latency


class Delay(Effect, frozen=True):
    """A slow response: a fixed delay, one between two bounds, or a lognormal one, as network latencies are.

    Attributes:
        seconds: Delay in seconds or its bounds, such as ``1..3``; the median if ``sigma`` is set.
        sigma: Standard deviation of the logarithm of the delay.
    """

    name = "delay"
    seconds: Text = "1"
    sigma: Annotated[float, Meta(ge=0, le=5)] = 0

    def __post_init__(self) -> None:
        try:
            span = Span.parse(self.seconds)
        except SettingsError as error:
            raise ValueError(f'invalid delay "{self.seconds[:40]}"; write seconds, such as 3, or 10..60') from error
        if not span.least <= span.most <= _DAY:
            raise ValueError(f'invalid delay "{self.seconds}"; use at most {_DAY} seconds, the lower bound first')
        if self.sigma and span.least != span.most:
            raise ValueError(f'sigma requires a single number of seconds, the median, not "{self.seconds}"')

    def draw(self, random: Random) -> float:
        """Return the delay of one call, in seconds."""
        span = Span.parse(self.seconds)
        # A lognormal distribution has no upper bound, but a client must not wait for years.
        return min(span.least * random.lognormvariate(0, self.sigma), _DAY) if self.sigma else span.draw(random)


# Tasks


class TaskEffect(Effect, frozen=True):
    """Changes a task when it is created."""

    operations: ClassVar[frozenset[str]] = frozenset({"createTask"})

    def apply(self, task: Task) -> Task:
        """Return the task to create instead."""
        return task


class FailTask(TaskEffect, frozen=True):
    """A failed task: moderation refuses it after minutes, or the model breaks down.

    Attributes:
        code: ``failCode`` of its record.
        message: ``failMsg`` of its record; by default the one observed with this code.
        after: Time until it fails, in seconds; by default the duration of any task.
    """

    name = "task.fail"
    code: Text = next(iter(job_api().failures))
    message: Text | None = None
    after: Seconds | None = None

    def apply(self, task: Task) -> Task:
        message = job_api().failures.get(self.code, "") if self.message is None else self.message
        failing = replace(task, failure=Failure(self.code, message))
        return failing if self.after is None else _with_duration(failing, self.after)


class StuckTask(TaskEffect, frozen=True):
    """A task that stays in one state forever: a worker lost the job."""

    name = "task.stuck"
    state: Literal["waiting", "queuing", "generating"] = "waiting"

    def apply(self, task: Task) -> Task:
        return stuck_in(task, self.state)


class SlowTask(TaskEffect, frozen=True):
    """A task that takes longer: a long queue."""

    name = "task.slow"
    seconds: Seconds = 600

    def apply(self, task: Task) -> Task:
        return _with_duration(task, self.seconds)


class LateTask(TaskEffect, frozen=True):
    """A task that recordInfo does not find at first: a database replica lags behind."""

    name = "task.late"
    seconds: Seconds = 3

    def apply(self, task: Task) -> Task:
        return replace(task, visible=task.visible + round(self.seconds * 1000))


class LostTask(TaskEffect, frozen=True):
    """A task that is charged but not created, with code 500: a crash between payment and queue."""

    name = "task.lost"


class OrphanTask(TaskEffect, frozen=True):
    """A task that is created and charged, with code 500: a client that retries pays twice."""

    name = "task.orphan"


def _with_duration(task: Task, seconds: float) -> Task:
    return on_timeline(task, even_timeline(task.created, round(seconds * 1000)))


# Results


class ResultEffect(TaskEffect, frozen=True):
    """Changes the result of a task.

    Attributes:
        fault: What is wrong with the result.
    """

    fault: ClassVar[ResultFault]

    def apply(self, task: Task) -> Task:
        return replace(task, result_fault=self.fault)


class EmptyResultUrl(ResultEffect, frozen=True):
    """A successful task whose result URL is empty."""

    name = "result.empty-url"
    fault = ResultFault(has_empty_url=True)


class DeadResultUrl(ResultEffect, frozen=True):
    """A successful task whose result URL leads to no file."""

    name = "result.dead-url"
    fault = ResultFault(has_dead_url=True)


class ExpiredResult(ResultEffect, frozen=True):
    """A result that expires before it can be downloaded."""

    name = "result.expired"
    fault = ResultFault(is_expired=True)


class OtherResultSize(ResultEffect, frozen=True):
    """An image of another size than requested."""

    name = "result.size"
    width: Pixels = 512
    height: Pixels = 512

    def apply(self, task: Task) -> Task:
        return replace(task, result_fault=ResultFault(size=(self.width, self.height)))


class TruncatedImage(ResultEffect, frozen=True):
    """An image file that ends in the middle, with a matching Content-Length: an interrupted upload."""

    name = "result.cut"
    fault = ResultFault(is_truncated=True)


# Callbacks


class CallbackEffect(TaskEffect, frozen=True):
    """Changes the callback of a task; a task without a callback URL stays as it is.

    Attributes:
        fault: What is wrong with the callback.
    """

    fault: ClassVar[CallbackFault] = CallbackFault()

    def apply(self, task: Task) -> Task:
        return replace(task, callback=self.apply_to_callback(task.callback, task)) if task.callback else task

    def apply_to_callback(self, callback: CallbackDelivery, task: Task) -> CallbackDelivery:
        """Return the callback to send instead.

        Args:
            callback: Callback of the task.
            task: Task that is created.
        """
        return replace(callback, fault=self.fault)


class NoCallback(CallbackEffect, frozen=True):
    """A callback that never arrives."""

    name = "callback.never"

    def apply_to_callback(self, callback: CallbackDelivery, task: Task) -> CallbackDelivery:
        return replace(callback, due=None, outcome="withheld")


class LateCallback(CallbackEffect, frozen=True):
    """A callback that arrives long after the task has ended."""

    name = "callback.late"
    seconds: Seconds = 60

    def apply_to_callback(self, callback: CallbackDelivery, task: Task) -> CallbackDelivery:
        return _postponed(callback, self.seconds)


class RepeatedCallback(CallbackEffect, frozen=True):
    """A callback that arrives twice, which the service documents as possible."""

    name = "callback.twice"
    fault = CallbackFault(deliveries=2)


class OutOfOrderCallback(CallbackEffect, frozen=True):
    """A callback that is sent after the next one of its space, or after ``seconds`` if no other is sent."""

    name = "callback.out-of-order"
    seconds: Seconds = 60

    def apply_to_callback(self, callback: CallbackDelivery, task: Task) -> CallbackDelivery:
        return replace(_postponed(callback, self.seconds), fault=CallbackFault(lets_next_go_first=True))


class EarlyCallback(CallbackEffect, frozen=True):
    """A callback that reports success some seconds before recordInfo does."""

    name = "callback.early"
    seconds: Seconds = 1

    def apply_to_callback(self, callback: CallbackDelivery, task: Task) -> CallbackDelivery:
        if callback.due is None:
            return callback
        return replace(callback, due=max(callback.due - round(self.seconds * 1000), task.created))


class UnsignedCallback(CallbackEffect, frozen=True):
    """A callback without a signature although the account has a signing key."""

    name = "callback.unsigned"
    fault = CallbackFault(is_unsigned=True)


class WrongSignatureCallback(CallbackEffect, frozen=True):
    """A callback that is signed with another key: a forged one, or a changed key."""

    name = "callback.wrong-signature"
    fault = CallbackFault(signing_key="not the key of the account")


class OtherIdCallback(CallbackEffect, frozen=True):
    """A callback whose signature covers ``undefined`` instead of the task ID, as the vendor's sample code makes it."""

    name = "callback.other-id"
    fault = CallbackFault(signed_id="undefined")


class StaleCallback(CallbackEffect, frozen=True):
    """A callback with an old timestamp: a replayed request or a wrong clock."""

    name = "callback.stale"
    seconds: Seconds = 3600

    def apply_to_callback(self, callback: CallbackDelivery, task: Task) -> CallbackDelivery:
        return replace(callback, fault=CallbackFault(age=round(self.seconds * 1000)))


class ContradictingCallback(CallbackEffect, frozen=True):
    """A callback that contradicts the record: the signature does not cover the body."""

    name = "callback.unlike"
    fault = CallbackFault(contradicts_record=True)


class RedeliveredCallback(CallbackEffect, frozen=True):
    """A callback that is retried although the receiver responds with 200."""

    name = "callback.again"
    fault = CallbackFault(deliveries=job_api().callback.retries + 1)


def _postponed(callback: CallbackDelivery, seconds: float) -> CallbackDelivery:
    delay = round(seconds * 1000)
    return replace(callback, delay=delay, due=None if callback.due is None else callback.due + delay)
