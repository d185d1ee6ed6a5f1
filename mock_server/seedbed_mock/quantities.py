"""What the text of a flag means: rates, lengths of time, amounts, and how tasks move on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

NUMBER = r"\d{1,15}(?:\.\d{1,9})?"
"""Form of a number that is not negative."""

MOST_CREDITS = 10**9
LONGEST_TASK = 31_536_000
"""In seconds: a year."""


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
        match = re.fullmatch(rf"(\d{{1,9}})/({NUMBER})", text)
        if not match or not (requests := int(match[1])) or not (seconds := float(match[2])):
            raise SettingsError(f"A rate is N/SECONDS, such as 20/10, or off; not {text!r}.")
        return cls(requests, seconds)


def parse_credits(text: str) -> Decimal:
    """Read an amount of credits, exact to the last digit.

    Raises:
        SettingsError: The text is no amount.
    """
    if not re.fullmatch(NUMBER, text):
        raise SettingsError(f"An amount of credits is a number such as 80 or 6.5, not {text!r}.")
    return exact_credits(Decimal(text))


def exact_credits(amount: Decimal | float) -> Decimal:
    """Return an amount of credits, exact to the last digit that was written.

    Raises:
        SettingsError: No account can have so much, or less than nothing.
    """
    exact = Decimal(str(amount))
    if not (exact.is_finite() and 0 <= exact <= MOST_CREDITS):
        raise SettingsError(f"An account has from 0 to {MOST_CREDITS} credits, not {amount}.")
    return exact


def given_back(balance: Decimal, price: Decimal) -> Decimal:
    """Return a balance with a price that is given back, of which what no account can have is lost."""
    return min(balance + price, Decimal(MOST_CREDITS))


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
        match = re.fullmatch(rf"({NUMBER})(?:\.\.({NUMBER}))?", text)
        if not match:
            raise SettingsError(f"A time is SECONDS, such as 3, or LEAST..MOST, such as 10..60; not {text!r}.")
        return cls(float(match[1]), float(match[2] or match[1]))

    def __str__(self) -> str:
        return f"{self.least:g}" if self.least == self.most else f"{self.least:g}..{self.most:g}"

    def draw(self, source: Random) -> float:
        """Return a length between the bounds, each as likely as any other."""
        return source.uniform(self.least, self.most)


@dataclass(frozen=True, slots=True)
class Progress:
    """What moves a task on: the time, so many queries of its record, or nothing but a word from the control API.

    Attributes:
        by_time: Whether time does.
        polls: At which query it ends, ``None`` where queries do nothing.
    """

    by_time: bool = True
    polls: int | None = None

    @classmethod
    def parse(cls, text: str) -> Progress:
        """Read ``time``, ``polls:3`` or ``hand``.

        Raises:
            SettingsError: The text is none of them.
        """
        match = re.fullmatch(r"(time|hand)|polls:(\d{1,6})", text)
        if not match or (match[2] and not int(match[2])):
            raise SettingsError(f"A task moves on by time, by polls:N, such as polls:3, or by hand; not by {text!r}.")
        return cls(match[1] == "time", int(match[2]) if match[2] else None)

    def __str__(self) -> str:
        return "time" if self.by_time else f"polls:{self.polls}" if self.polls else "hand"


BY_TIME = Progress()
"""How tasks move on where nobody says otherwise."""
