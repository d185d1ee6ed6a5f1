"""A callback as a value: where it goes, when it is due next, and what came of each attempt."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec.structs import replace
from seedbed_schemas import job_api

Outcome = Literal["waiting", "delivered", "failed", "refused", "withheld"]

CallbackQuirk = Literal[
    "", "never", "twice", "out-of-order", "unsigned", "wrong-signature", "other-id", "stale", "unlike", "again"
]
"""What is wrong with a callback, where a fault was asked for."""

_RETRIES = job_api().callback.retries
_BACKOFF_SECONDS = (2, 8, 32)
"""Our own choice: the service's spacing is not known."""

_LONGEST_WAIT = 3600
_GONE = 410


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


class Callback(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is POSTed when a task has ended.

    Attributes:
        url: Where it goes.
        due: When the next attempt is due, in Unix milliseconds; ``None`` where none is to come, or not known yet.
        tries: How many attempts count towards the present delivery.
        outcome: What became of it.
        attempts: All attempts, oldest first.
        quirk: What is wrong with it.
        pause: How long after the end of the task it comes, in milliseconds.
        age: How old the timestamp of its signature is, in milliseconds.
    """

    url: str
    due: int | None = None
    tries: int = 0
    outcome: Outcome = "waiting"
    attempts: tuple[Attempt, ...] = ()
    quirk: CallbackQuirk = ""
    pause: int = 0
    age: int = 0

    def is_held(self, now: int) -> bool:
        """Tell whether it waits, though its task has ended, for another one to go first."""
        is_first = self.quirk == "out-of-order" and not self.tries
        return is_first and self.due is not None and self.due - self.pause <= now < self.due

    def claimed(self, until: int) -> Callback:
        """Return it as being delivered by somebody, who has given up if nothing came of it until that moment."""
        return replace(self, due=until)

    def asked_for(self, now: int) -> Callback:
        """Return it as due once more, with all its retries."""
        return replace(self, due=now, tries=0, outcome="waiting")

    def attempted(self, attempt: Attempt, now: int, retry_after: float | None = None) -> Callback:
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


def _outcome(attempt: Attempt, tries: int, callback: Callback) -> Outcome:
    if attempt.is_refused:
        return "refused"
    if attempt.status is not None and 200 <= attempt.status < 300:  # noqa: PLR2004 (the class of success)
        return "waiting" if tries < _WANTED.get(callback.quirk, 1) else "delivered"
    return "failed" if attempt.status == _GONE or tries > _RETRIES else "waiting"


_WANTED: dict[CallbackQuirk, int] = {"twice": 2, "again": _RETRIES + 1}
"""How many attempts that were answered well make a delivery, where that is not one."""

_KEPT = 100
"""Attempts that are kept of one callback, however often it is redelivered."""
