"""What a server is told at its start, checked once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, get_args

from seedbed_schemas import job_api, local
from seedbed_schemas.dialect import dialects

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

_NUMBER = r"\d{1,15}(?:\.\d{1,9})?"

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
        match = re.fullmatch(rf"(\d{{1,9}})/({_NUMBER})", text)
        if not match or not (requests := int(match[1])) or not (seconds := float(match[2])):
            raise SettingsError(f"A rate is N/SECONDS, such as 20/10, or off; not {text!r}.")
        return cls(requests, seconds)


def parse_credits(text: str) -> Decimal:
    """Read an amount of credits, exact to the last digit.

    Raises:
        SettingsError: The text is no amount.
    """
    if not re.fullmatch(_NUMBER, text):
        raise SettingsError(f"An amount of credits is a number such as 80 or 6.5, not {text!r}.")
    return Decimal(text)


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time between two bounds, in seconds.

    Attributes:
        least: The shortest.
        most: The longest; the same for a length that is fixed.
    """

    least: float
    most: float

    @classmethod
    def parse(cls, text: str) -> Span:
        """Read ``3`` or ``10..60``.

        Raises:
            SettingsError: The text is neither.
        """
        match = re.fullmatch(rf"({_NUMBER})(?:\.\.({_NUMBER}))?", text)
        if not match:
            raise SettingsError(f"A time is SECONDS, such as 3, or LEAST..MOST, such as 10..60; not {text!r}.")
        return cls(float(match[1]), float(match[2] or match[1]))

    def __str__(self) -> str:
        return f"{self.least:g}" if self.least == self.most else f"{self.least:g}..{self.most:g}"

    def draw(self, source: Random) -> float:
        """Return a length between the bounds, each as likely as any other."""
        return source.uniform(self.least, self.most)


def _documented_rate() -> Rate:
    return Rate(*job_api().rate)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server plays the service.

    Attributes:
        keys: Keys that are let in, each an account of its own.
        dialect: Title of the dialect to answer in.
        http_status: How the code of an answer shows in its HTTP status.
        task_seconds: How long a task takes; a span is drawn from, with the seed.
        credits: Balance of each account at the start.
        rate: New tasks that an account may make, ``None`` for no limit.
        seed: Decides what is drawn at random, such as the colours of the images.
        result_dir: Folder of images to give as results, ``None`` to draw them.

    Raises:
        SettingsError: A value cannot be used.
    """

    keys: tuple[str, ...] = (local.KEY,)
    http_status: HttpStatus = "envelope"
    dialect: str = "documented"
    task_seconds: Span | float = 3
    credits: Decimal | float = field(default_factory=lambda: job_api().new_account_credits)
    rate: Rate | None = field(default_factory=_documented_rate)
    seed: int = 0
    result_dir: Path | None = None

    def __post_init__(self) -> None:
        for key in self.keys:
            if not re.fullmatch(r"[!-~]{1,256}", key):
                raise SettingsError("A key is 1 to 256 visible ASCII characters without spaces.")
        if not self.keys:
            raise SettingsError("At least one key is needed.")
        if self.http_status not in get_args(HttpStatus):
            raise SettingsError(f"The HTTP status is envelope or mirror, not {self.http_status!r}.")
        if self.dialect not in dialects():
            raise SettingsError(f"A dialect is {' or '.join(dialects())}, not {self.dialect!r}.")
        if not 0 <= self.span.least <= self.span.most <= _LONGEST_TASK:
            raise SettingsError(f"A task takes from 0 to {_LONGEST_TASK} seconds, not {self.task_seconds}.")
        if not (math.isfinite(self.credits) and 0 <= self.credits <= _MOST_CREDITS):
            raise SettingsError(f"An account has from 0 to {_MOST_CREDITS} credits, not {self.credits}.")

    @property
    def span(self) -> Span:
        """How long a task takes, as bounds."""
        seconds = self.task_seconds
        return seconds if isinstance(seconds, Span) else Span(seconds, seconds)

    @property
    def balance(self) -> Decimal:
        """The balance of each account at the start, exact to the last digit that was written."""
        return Decimal(str(self.credits))


_LONGEST_TASK = 31_536_000
_MOST_CREDITS = 10**9

DEFAULTS = Settings()
"""What a server does that is told nothing."""
