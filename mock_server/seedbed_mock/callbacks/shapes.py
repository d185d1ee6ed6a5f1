"""The shapes of callbacks that a receiver must cope with, and the verdict on its responses; nothing is sent here.

A shape says what is sent and which responses are right. The verdict follows from the statuses of the responses and
their times alone, since nothing else of a receiver is visible from outside.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

from msgspec.structs import replace
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.dialect import dialects
from seedbed_schemas.openapi import example_of

from seedbed_mock.callbacks.dispatcher import signature_headers
from seedbed_mock.catalogue import ModelCatalogue
from seedbed_mock.responses import ResponseWriter
from seedbed_mock.tasks import CallbackDelivery, CallbackFault, Failure, Task, even_timeline, record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_RULES: Final = job_api().callback
_FAILURE: Final = Failure(*next(iter(job_api().failures.items())))
_HOUR: Final = 3_600_000
_HUGE: Final = 8 * 1024 * 1024
_TASK_MILLISECONDS: Final = 30_000
_SUCCESS: Final = range(200, 300)
_GONE: Final = 410
_SERVER_ERROR: Final = 500

Expectation = Literal["accept", "refuse", "survive", "accept later"]
"""``accept``: 2xx. ``refuse``: neither 2xx nor 5xx, or a closed connection. ``survive``: no 5xx.
``accept later``: 2xx, or a status after which the service repeats the callback."""

Manner = Literal["whole", "in pieces", "without waiting"]
"""How a request is sent: at once; in pieces with pauses; or at once, and the connection is closed without waiting."""

ShapeVerdict = Literal["passed", "failed", "not judged"]


@dataclass(frozen=True, slots=True)
class ShapedRequest:
    """A request to a receiver.

    Attributes:
        headers: Headers with the signature.
        body: Body.
        manner: How it is sent.
    """

    headers: dict[str, str]
    body: bytes
    manner: Manner = "whole"


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a receiver did with one request.

    Attributes:
        status: HTTP status, ``None`` without a response.
        milliseconds: Time until the response, or until there was none.
        error: Why there is no response; empty if there is one, or if it was not waited for.
        is_unreachable: Whether there was no connection.
    """

    status: int | None
    milliseconds: int = 0
    error: str = ""
    is_unreachable: bool = False

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return self.status in _SUCCESS

    def describe(self) -> str:
        """Return the reaction in a few words."""
        if self.status is None and not self.error:
            return "not waited for"
        return f"HTTP {self.status} in {self.milliseconds} ms" if self.status else self.error.rstrip(".")

    def meets(self, expected: Expectation) -> bool:
        """Return whether it is what is expected."""
        if self.status is None:
            # Closing the connection is a refusal; being silent until the time-out is not.
            is_closed = bool(self.error) and not self.is_unreachable and "no response within" not in self.error
            return not self.error or (is_closed and expected in {"refuse", "survive"})
        match expected:
            case "accept":
                return self.is_success
            case "refuse":
                return not self.is_success and self.status < _SERVER_ERROR
            case "survive":
                return self.status < _SERVER_ERROR
            case "accept later":
                return self.status != _GONE


@cache
def _writer(dialect: str) -> ResponseWriter:
    # Reading all contracts for each callback would take longer than the receiver does.
    return ResponseWriter(ModelCatalogue().codes, dialects()[dialect], "envelope")


@dataclass(frozen=True)
class CallbackMaker:
    """Makes callbacks of invented tasks.

    Attributes:
        signing_key: Signing key of the account, empty for unsigned callbacks.
        task_ids: IDs of the tasks, which are used in turn.
        unknown_id: ID of a task that the receiver cannot know.
        now: Time of the signatures in Unix milliseconds.
    """

    signing_key: str
    task_ids: Sequence[str]
    unknown_id: str
    now: int

    def task(self, number: int = 0, failure: Failure | None = None, task_id: str = "") -> Task:
        """Return a task that has just ended; the task of the next number was created a second later."""
        created = self.now - _TASK_MILLISECONDS - 10_000 + 1000 * number
        return Task(
            task_id=task_id or self.task_ids[number % len(self.task_ids)],
            space="",
            account="",
            model=default_contract().model,
            request=json.dumps(example_of(default_contract().part("request"))),
            result_name="examined.jpg",
            base_url=job_api().server,
            price=Decimal(0),
            created=created,
            visible=created,
            timeline=even_timeline(created, _TASK_MILLISECONDS),
            failure=failure,
        )

    def body(self, task: Task, dialect: str = "documented") -> bytes:
        """Return the body of the callback of a task, as a dialect writes it."""
        case = "callback_failed" if task.failure else "callback_done"
        fields = record(task, self.now, dialect=dialects()[dialect], channel="callback")
        return _writer(dialect).callback(case, fields)

    def headers(self, task: Task, fault: CallbackFault | None = None) -> dict[str, str]:
        """Return the headers with the signature, or without one, as a fault wants it."""
        signed = replace(task, callback=CallbackDelivery(url="", fault=fault or CallbackFault()))
        return signature_headers(signed, self.now, self.signing_key.encode())

    def request(
        self,
        task: Task | None = None,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        manner: Manner = "whole",
        **fault: object,
    ) -> ShapedRequest:
        """Return a request: a correct callback of the first task, except for what is given."""
        task = task or self.task()
        return ShapedRequest(
            self.headers(task, CallbackFault(**fault)) if headers is None else headers,  # type: ignore[arg-type]
            self.body(task) if body is None else body,
            manner,
        )


@dataclass(frozen=True, slots=True)
class CallbackShape:
    """One shape of callbacks.

    Attributes:
        name: Its name.
        about: What is sent.
        expected: Which responses are right.
        risk: What goes wrong with a receiver that responds otherwise.
        make: Makes the requests.
        needs_key: Whether only a receiver that checks signatures can respond correctly.
        is_simultaneous: Whether all requests are sent at the same time.
    """

    name: str
    about: str
    expected: Expectation
    risk: str
    make: Callable[[CallbackMaker], list[ShapedRequest]]
    needs_key: bool = False
    is_simultaneous: bool = False

    def judge(self, reactions: Sequence[Reaction]) -> ShapeVerdict:
        """Return the verdict on the responses to the requests of this shape."""
        is_met = all(each.meets(self.expected) for each in reactions)
        if self.is_simultaneous:
            # A receiver may ask the service to repeat one of them while it handles the other.
            later = all(each.meets("accept later") for each in reactions)
            is_met = later and any(each.is_success for each in reactions)
        return "passed" if is_met else "failed"

    def reason(self, reactions: Sequence[Reaction]) -> str:
        """Return in one sentence what is wrong with responses that failed."""
        crashed = next((each.status for each in reactions if each.status and each.status >= _SERVER_ERROR), None)
        if crashed and self.expected in {"refuse", "survive"}:
            return f"The receiver fails with HTTP {crashed} in place of refusing it, so that the service repeats it."
        return self.risk


def _lower_case(maker: CallbackMaker) -> list[ShapedRequest]:
    headers = {name.lower(): value for name, value in maker.headers(maker.task()).items()}
    return [maker.request(headers=headers)]


def _hexadecimal(maker: CallbackMaker) -> list[ShapedRequest]:
    task, timestamp = maker.task(), str(maker.now // 1000)
    digest = hmac.digest(maker.signing_key.encode(), f"{task.task_id}.{timestamp}".encode(), hashlib.sha256)
    return [maker.request(headers={_RULES.timestamp_header: timestamp, _RULES.signature_header: digest.hex()})]


def _body_signed(maker: CallbackMaker) -> list[ShapedRequest]:
    body, timestamp = maker.body(maker.task()), str(maker.now // 1000)
    digest = hmac.digest(maker.signing_key.encode(), body, hashlib.sha256)
    signature = base64.b64encode(digest).decode()
    return [maker.request(headers={_RULES.timestamp_header: timestamp, _RULES.signature_header: signature})]


def _other_time(maker: CallbackMaker) -> list[ShapedRequest]:
    # The old signature of a callback that was seen once, with the timestamp made new.
    old = maker.headers(maker.task(), CallbackFault(age=_HOUR))
    return [maker.request(headers={**old, _RULES.timestamp_header: str(maker.now // 1000)})]


def _huge(maker: CallbackMaker) -> list[ShapedRequest]:
    envelope = json.loads(maker.body(maker.task()))
    return [maker.request(body=json.dumps({**envelope, "padding": "x" * _HUGE}).encode())]


CONTROL: Final = CallbackShape(
    "good",
    "the callback of a successful task",
    "accept",
    "The service repeats the callback three times and then drops it.",
    lambda maker: [maker.request()],
)
"""What every receiver must accept: without it, nothing can be concluded from the other shapes."""

SHAPES: Final = (
    CONTROL,
    CallbackShape(
        "failed-task",
        "the callback of a failed task",
        "accept",
        "A failed task is never noticed, and the program waits for it.",
        lambda maker: [maker.request(maker.task(failure=_FAILURE))],
    ),
    CallbackShape(
        "observed",
        "the fields as the real service is known to write them",
        "accept",
        "The real service sends more fields, and other values, than it documents.",
        lambda maker: [maker.request(body=maker.body(maker.task(), "observed"))],
    ),
    CallbackShape(
        "lower-case",
        "the names of the headers in lower case",
        "accept",
        "Proxies write header names in lower case, and every callback behind one is lost.",
        _lower_case,
    ),
    CallbackShape(
        "slow",
        "a sender that sends in small pieces",
        "accept",
        "A slow network makes the receiver lose callbacks.",
        lambda maker: [maker.request(manner="in pieces")],
    ),
    CallbackShape(
        "twice",
        "the same callback twice",
        "accept",
        "The service may repeat a callback, and goes on until it is confirmed.",
        lambda maker: [maker.request()] * 2,
    ),
    CallbackShape(
        "at-once",
        "the same callback twice at the same time",
        "accept",
        "Two deliveries of one callback break the receiver, or one stops the retries of the other.",
        lambda maker: [maker.request()] * 2,
        is_simultaneous=True,
    ),
    CallbackShape(
        "retried",
        "a callback whose sender left before the response, and its retry",
        "accept",
        "A callback whose first delivery was cut off is lost.",
        lambda maker: [maker.request(manner="without waiting"), maker.request()],
    ),
    CallbackShape(
        "out-of-order",
        "the callback of a later task before that of an earlier one",
        "accept",
        "Tasks end in any order; the callback of the earlier one is lost.",
        lambda maker: [maker.request(maker.task(1)), maker.request(maker.task(0))],
    ),
    CallbackShape(
        "early",
        "the callback of a task that the receiver does not know yet",
        "accept later",
        "HTTP 410 stops the retries, and no response costs one; the callback of a quick task is lost.",
        lambda maker: [maker.request(maker.task(task_id=maker.unknown_id))],
    ),
    CallbackShape(
        "unsigned",
        "no signature",
        "refuse",
        "Anyone who knows the URL can report any outcome.",
        lambda maker: [maker.request(is_unsigned=True)],
        needs_key=True,
    ),
    CallbackShape(
        "forged",
        "a signature with another key",
        "refuse",
        "Anyone who knows the URL can report any outcome.",
        lambda maker: [maker.request(signing_key=f"not-{maker.signing_key}")],
        needs_key=True,
    ),
    CallbackShape(
        "other-id",
        "a signature of another task",
        "refuse",
        "One genuine callback is enough to report an outcome for every task.",
        lambda maker: [maker.request(signed_id=maker.unknown_id)],
        needs_key=True,
    ),
    CallbackShape(
        "undefined",
        "a signature of the word undefined, as the vendor's sample code makes it",
        "refuse",
        "The signature holds for every task: data.task_id does not exist, the ID is in data.taskId.",
        lambda maker: [maker.request(signed_id="undefined")],
        needs_key=True,
    ),
    CallbackShape(
        "stale",
        "a correct signature that is an hour old",
        "refuse",
        "A callback that was recorded once can be replayed at any time.",
        lambda maker: [maker.request(age=_HOUR)],
        needs_key=True,
    ),
    CallbackShape(
        "future",
        "a correct signature from an hour in the future",
        "refuse",
        "The age of a signature is checked in one direction only.",
        lambda maker: [maker.request(age=-_HOUR)],
        needs_key=True,
    ),
    CallbackShape(
        "new-time",
        "an old signature with a new timestamp",
        "refuse",
        "The timestamp is not part of what is verified, so that any old signature is good.",
        _other_time,
        needs_key=True,
    ),
    CallbackShape(
        "hexadecimal",
        "the signature in hexadecimal digits",
        "refuse",
        "The signature is decoded loosely; the service sends Base64.",
        _hexadecimal,
        needs_key=True,
    ),
    CallbackShape(
        "signed-body",
        "a signature of the body in place of the task ID and the timestamp",
        "refuse",
        "The receiver verifies another text than the service signs, or does not verify at all.",
        _body_signed,
        needs_key=True,
    ),
    CallbackShape(
        "not-json",
        "a body that is not JSON",
        "refuse",
        "Noise raises an error in the receiver, or counts as a callback.",
        lambda maker: [maker.request(body=b"callback")],
    ),
    CallbackShape(
        "no-task",
        "JSON that is not a callback: a list, a null data, a taskId that is a number",
        "refuse",
        "Noise raises an error in the receiver, or counts as a callback.",
        lambda maker: [
            maker.request(body=body)
            for body in (b"[]", b'{"code":200,"data":null}', b'{"code":200,"data":{"taskId":7}}')
        ],
    ),
    CallbackShape(
        "huge",
        f"a callback of {_HUGE // 1024 // 1024} MiB",
        "survive",
        "A large body raises an error in the receiver, or blocks it.",
        _huge,
    ),
    CallbackShape(
        "still-good",
        "a good callback after all the others",
        "accept",
        "One of the callbacks before has broken the receiver.",
        lambda maker: [maker.request()],
    ),
)
"""All shapes, in the order in which they are sent."""

NOT_VISIBLE: Final = (
    "Not visible from outside: whether a repeated callback is handled once, and whether the record of a task is queried"
    " before its callback is believed."
)
