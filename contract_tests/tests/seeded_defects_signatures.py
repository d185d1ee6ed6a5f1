"""Seeded defects in the signatures and timestamps of callbacks."""

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Final

from tests.minimal_service import Service
from tests.seeded_defect import SeededDefect, seeded

_SIGNATURE, _STAMP = "callback/signature", "callback/timestamp"


def _headers(change: Callable[[dict[str, str]], dict[str, str]]) -> Callable[..., dict[str, str]]:
    return lambda self, task, body: change(Service.signature(self, task, body))


def _stamp(change: Callable[[float], str]) -> Callable[..., str]:
    return lambda _: change(time.time())


def _hex(self: Service, key: str, text: bytes) -> str:
    return hmac.digest(key.encode(), text, hashlib.sha256).hex()


SIGNATURES: Final[tuple[SeededDefect, ...]] = (
    seeded("unsigned", _SIGNATURE, signature=lambda *_: {}),
    seeded(
        "a signature without timestamp",
        _STAMP,
        _SIGNATURE,
        signature=_headers(lambda headers: {"X-Webhook-Signature": headers["X-Webhook-Signature"]}),
    ),
    seeded(
        "a timestamp without signature",
        _SIGNATURE,
        signature=_headers(lambda headers: {"X-Webhook-Timestamp": headers["X-Webhook-Timestamp"]}),
    ),
    seeded(
        "the signature in another header",
        _SIGNATURE,
        signature=_headers(
            lambda headers: {
                "X-Signature": headers["X-Webhook-Signature"],
                "X-Webhook-Timestamp": headers["X-Webhook-Timestamp"],
            }
        ),
    ),
    *(
        seeded(f"a signature {description}", _SIGNATURE, signed_text=signed_text)
        for description, signed_text in (
            ("over the body", lambda _, task, stamp, body: body),
            ("over the timestamp and the body", lambda _, task, stamp, body: stamp.encode() + b"." + body),
            ("over undefined", lambda _, task, stamp, body: f"undefined.{stamp}".encode()),
            ("over the name alone", lambda _, task, stamp, body: task.id.encode()),
            ("without a point", lambda _, task, stamp, body: f"{task.id}{stamp}".encode()),
            ("the other way round", lambda _, task, stamp, body: f"{stamp}.{task.id}".encode()),
        )
    ),
    seeded("a signature in hex", _SIGNATURE, sign=_hex),
    seeded(
        "a signature with another key", _SIGNATURE, sign=lambda self, key, text: Service.sign(self, key[::-1], text)
    ),
    seeded("a signature with no key", _SIGNATURE, sign=lambda self, _, text: Service.sign(self, "", text)),
    seeded("the timestamp in milliseconds", _STAMP, timestamp=_stamp(lambda now: str(int(now * 1000)))),
    seeded("the timestamp with a fraction", _STAMP, timestamp=_stamp(lambda now: f"{now:.3f}")),
    seeded("a timestamp of an hour ago", _STAMP, timestamp=_stamp(lambda now: str(int(now - 3600)))),
    seeded("a timestamp of tomorrow", _STAMP, timestamp=_stamp(lambda now: str(int(now + 86_400)))),
    seeded(
        "a timestamp in words",
        _STAMP,
        timestamp=_stamp(lambda now: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))),
    ),
)
