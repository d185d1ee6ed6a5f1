"""The JSON messages of the job API: the envelope of every response, the task record and its results.

The mock server encodes these types and the client decodes them. A test compares their fields with
``contracts/job-api.json``.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class Envelope(msgspec.Struct, frozen=True):
    """The body of every response.

    Attributes:
        code: Outcome of the call.
        msg: Outcome in words.
        data: Payload; ``None`` if the call failed.
    """

    code: int
    msg: str | None = ""
    data: Any = None


class Results(msgspec.Struct, frozen=True, rename="camel"):
    """The content of a record's ``resultJson``."""

    result_urls: list[str]


class Record(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A task as ``recordInfo`` and callbacks report it.

    ``contracts/job-api.json`` describes each field. A field that is ``UNSET`` is left out of the JSON.
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
