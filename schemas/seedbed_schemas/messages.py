"""The shapes that travel: the envelope of every answer, the record of a task, and its results.

The names stand here once for the server that writes them and the client that reads them; a test holds them to
``contracts/job-api.json``.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class Envelope(msgspec.Struct, frozen=True):
    """The frame of every answer.

    Attributes:
        code: Outcome of the call.
        msg: Outcome in words.
        data: What the call gives back, ``None`` where it failed.
    """

    code: int
    msg: str | None = ""
    data: Any = None


class Created(msgspec.Struct, frozen=True, rename="camel"):
    """What createTask gives back."""

    task_id: str


class Results(msgspec.Struct, frozen=True, rename="camel"):
    """What stands in a record's ``resultJson``."""

    result_urls: list[str]


class Record(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A task as the service shows it.

    A field that is ``UNSET`` does not travel; see ``contracts/job-api.json`` for what each means.
    """

    task_id: str
    model: str
    state: str
    param: str
    result_json: str | UnsetType | None = UNSET
    fail_code: str | UnsetType | None = UNSET
    fail_msg: str | UnsetType | None = UNSET
    cost_time: int | UnsetType | None = UNSET
    complete_time: int | UnsetType | None = UNSET
    create_time: int
    update_time: int | UnsetType = UNSET
    credits_consumed: float | UnsetType | None = UNSET
