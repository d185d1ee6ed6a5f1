"""What a server is told at its start, checked once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, get_args

from seedbed_schemas import job_api, local

HttpStatus = Literal["envelope", "mirror"]
"""Whether the HTTP status is always 200, or the code in the body."""


class SettingsError(ValueError):
    """A setting cannot be used; the message is one sentence that says what would do."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many requests in so many seconds.

    Attributes:
        requests: How many.
        seconds: Length of the sliding window.
    """

    requests: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.requests}/{self.seconds:g}"

    @classmethod
    def parse(cls, text: str) -> Rate | None:
        """Read ``20/10`` or ``off``.

        Raises:
            SettingsError: The text is neither.
        """
        if text == "off":
            return None
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9}(?:\.\d{1,9})?)", text)
        if not match or not (requests := int(match[1])) or not (seconds := float(match[2])):
            raise SettingsError(f"A rate is N/SECONDS, such as 20/10, or off; not {text!r}.")
        return cls(requests, seconds)


def _documented_rate() -> Rate:
    return Rate(*job_api().rate)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server plays the service.

    Attributes:
        keys: Keys that are let in, each an account of its own.
        http_status: How the code of an answer shows in its HTTP status.
        task_seconds: How long a task takes.
        credits: Balance of each account at the start.
        rate: New tasks that an account may make, ``None`` for no limit.
        seed: Decides what is drawn at random, such as the colours of the images.

    Raises:
        SettingsError: A value cannot be used.
    """

    keys: tuple[str, ...] = (local.KEY,)
    http_status: HttpStatus = "envelope"
    task_seconds: float = 3
    credits: Decimal | float = field(default_factory=lambda: job_api().new_account_credits)
    rate: Rate | None = field(default_factory=_documented_rate)
    seed: int = 0

    def __post_init__(self) -> None:
        for key in self.keys:
            if not re.fullmatch(r"[!-~]{1,256}", key):
                raise SettingsError("A key is 1 to 256 visible ASCII characters without spaces.")
        if not self.keys:
            raise SettingsError("At least one key is needed.")
        if self.http_status not in get_args(HttpStatus):
            raise SettingsError(f"The HTTP status is envelope or mirror, not {self.http_status!r}.")
        if not (math.isfinite(self.task_seconds) and 0 <= self.task_seconds <= _LONGEST_TASK):
            raise SettingsError(f"A task takes from 0 to {_LONGEST_TASK} seconds, not {self.task_seconds}.")
        if not (math.isfinite(self.credits) and 0 <= self.credits <= _MOST_CREDITS):
            raise SettingsError(f"An account has from 0 to {_MOST_CREDITS} credits, not {self.credits}.")

    @property
    def balance(self) -> Decimal:
        """The balance of each account at the start, exact to the last digit that was written."""
        return Decimal(str(self.credits))


_LONGEST_TASK = 31_536_000
_MOST_CREDITS = 10**12
