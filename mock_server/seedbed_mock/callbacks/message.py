"""What a callback carries: the record of the task, and a signature where the account has a key to sign with."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING

from seedbed_schemas import job_api

from seedbed_mock.tasks import record

if TYPE_CHECKING:
    from seedbed_schemas.dialect import Dialect

    from seedbed_mock.answers import Answers
    from seedbed_mock.tasks import Task

_RULES = job_api().callback


def body(task: Task, now: int, answers: Answers, dialect: Dialect) -> bytes:
    """Return the body for a task that has ended by now, in Unix milliseconds."""
    case = "callback_failed" if task.failure else "callback_done"
    return answers.callback(case, record(task, now, dialect=dialect, channel="callback"))


def signature_headers(task_id: str, now: int, signing_key: bytes) -> dict[str, str]:
    """Return the headers that sign the name of a task at that time, in Unix milliseconds; none without a key.

    The body is not covered, as is known of the service.
    """
    if not signing_key:
        return {}
    timestamp = str(now // 1000)
    digest = hmac.digest(signing_key, f"{task_id}.{timestamp}".encode(), hashlib.sha256)
    return {_RULES.timestamp_header: timestamp, _RULES.signature_header: base64.b64encode(digest).decode()}
