"""What a callback carries: the record of the task, and a signature where the account has a key to sign with."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING

from msgspec.structs import replace
from seedbed_schemas import job_api

from seedbed_mock.tasks import Failure, record

if TYPE_CHECKING:
    from seedbed_schemas.dialect import Dialect

    from seedbed_mock.answers import Answers
    from seedbed_mock.tasks import Task

_RULES = job_api().callback
_CONTRARY = Failure(*next(iter(job_api().failures.items())))
_OTHER_KEY = b"a key that nobody knows"


def body(task: Task, now: int, answers: Answers, dialect: Dialect) -> bytes:
    """Return the body for a task that has ended by now, in Unix milliseconds, or is told of before."""
    if task.callback and task.callback.quirk == "unlike":
        task = replace(task, failure=None if task.failure else _CONTRARY)
    now = max(now, task.ends or now)
    case = "callback_failed" if task.failure else "callback_done"
    return answers.callback(case, record(task, now, dialect=dialect, channel="callback"))


def signature_headers(task: Task, now: int, signing_key: bytes) -> dict[str, str]:
    """Return the headers that sign the name of a task at that time, in Unix milliseconds; none without a key.

    The body is not covered, as is known of the service.
    """
    quirk, age = (task.callback.quirk, task.callback.age) if task.callback else ("", 0)
    if not signing_key or quirk == "unsigned":
        return {}
    task_id = "undefined" if quirk == "other-id" else task.task_id
    signing_key = _OTHER_KEY if quirk == "wrong-signature" else signing_key
    timestamp = str((now - age) // 1000)
    digest = hmac.digest(signing_key, f"{task_id}.{timestamp}".encode(), hashlib.sha256)
    return {_RULES.timestamp_header: timestamp, _RULES.signature_header: base64.b64encode(digest).decode()}
