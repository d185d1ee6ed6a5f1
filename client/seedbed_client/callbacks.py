"""Callbacks: are they of the service, are they fresh, and what do they say.

The signature is made over the task's name and a timestamp. The name stands in ``data.taskId``: the vendor's own sample
reads ``data.task_id``, which is not there, and so signs, or checks, the word ``undefined``. The body is not covered, so
look at the task's record before acting on what a callback says.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from typing import TYPE_CHECKING, Final

import msgspec
from seedbed_schemas import job_api
from seedbed_schemas.wire import Envelope

from seedbed_client.errors import SignatureMismatch, Stale, UnreadableCallback
from seedbed_client.models import Task, task_of
from seedbed_client.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

TOLERANCE: Final = 300.0
"""Seconds by which a signature may be old, or ahead: clocks differ, and deliveries are tried again."""

_RULES: Final = job_api().callback
_SAMPLES_WORD: Final = "undefined"


class Callback(msgspec.Struct, frozen=True):
    """What the service tells when a task has ended.

    Attributes:
        code: The code of its end.
        message: Its end in words.
        task: Its record.
    """

    code: int
    message: str
    task: Task


def parse_callback(body: bytes) -> Callback:
    """Read a callback; it may be of anybody, see :func:`verify_callback`.

    Raises:
        UnreadableCallback: It is not in the form of the service.
    """
    try:
        envelope = msgspec.json.decode(body, type=Envelope)
        record = envelope.data if isinstance(envelope.data, dict) else {}
        return Callback(envelope.code, envelope.msg or "", task_of(record))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UnreadableCallback(f"the callback cannot be read: {error}") from error


def verify_callback(
    headers: Mapping[str, str],
    body: bytes,
    signing_key: str | bytes,
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> Callback:
    """Return a callback that is signed with the signing key, and was so just now.

    Args:
        headers: Headers of the request, in any case.
        body: Its body, as it came.
        signing_key: The key of the account with which the service signs.
        tolerance: Seconds by which the signature may be old, or ahead.
        now: What time it is, in Unix seconds; the time of day where there is none.

    Raises:
        UnreadableCallback: It is not in the form of the service.
        SignatureMismatch: It is not signed, or with another key.
        Stale: It was signed too long ago, or in the future.
    """
    key, signing_key = signing_secret(signing_key), ""  # so that no traceback shows it
    found = {name.lower(): value for name, value in headers.items()}
    signature = found.get(_RULES.signature_header.lower(), "")
    timestamp = found.get(_RULES.timestamp_header.lower(), "")
    callback = parse_callback(body)
    _check_signature(signature, timestamp, callback.task.task_id, key)
    age = (time.time() if now is None else now) - int(timestamp)
    if abs(age) > tolerance:
        when = f"{age:.0f} seconds ago" if age > 0 else f"{-age:.0f} seconds ahead of this clock"
        raise Stale(f"the callback was signed {when}, more than the {tolerance:g} that are tolerated")
    return callback


def _check_signature(signature: str, timestamp: str, task_id: str, key: Secret) -> None:
    if not key:
        raise ValueError("Give the signing key: with none, anybody's signature would do.")
    if not signature or not re.fullmatch(r"[0-9]{1,12}", timestamp):
        raise SignatureMismatch(f"the callback is not signed: it needs {_RULES.signature_header} and a timestamp")
    if _is_signature(signature, key, task_id, timestamp):
        return
    if _is_signature(signature, key, _SAMPLES_WORD, timestamp):
        raise SignatureMismatch(
            f"the callback is signed over {_SAMPLES_WORD!r} in place of its taskId, which would hold for any task: its "
            "sender reads data.task_id, as the vendor's own sample does"
        )
    raise SignatureMismatch("the callback is not signed with the signing key")


def _is_signature(signature: str, key: Secret, task_id: str, timestamp: str) -> bool:
    signed = f"{task_id}.{timestamp}".encode("utf-8", "replace")
    expected = base64.b64encode(hmac.digest(key.tell().encode("latin-1"), signed, hashlib.sha256))
    return hmac.compare_digest(signature.encode("utf-8", "replace"), expected)


def signing_secret(key: str | bytes) -> Secret:
    """Return a signing key as a secret; one of bytes may be any bytes."""
    return Secret((key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key).decode("latin-1"))
