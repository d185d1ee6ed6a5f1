"""Addresses as URLs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal, get_args

from seedbed_schemas import job_api, local
from seedbed_schemas.dialect import dialects

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random


CONTROL_ROOT = "/__seedbed"
"""Where the control API is, apart from the documented paths."""


@lru_cache(256)
def base_url(host: str, port: int | None) -> str:
    """Return the URL of a server, whose port is left out where none is known."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}" if port is None else f"http://{name}:{port}"


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


__all__ = ["DEFAULTS", "ClockKind", "HttpStatus", "KeySettings", "Rate", "Settings", "SettingsError", "Span"]

HttpStatus = Literal["envelope", "mirror"]
"""Whether the HTTP status is always 200, or the code in the body."""

ClockKind = Literal["real", "manual"]
"""Whether time passes by itself, or only when the clock is turned."""

_AMOUNTS = ("credits", "rate")
_KEY_OPTIONS = (*_AMOUNTS, "signing-key")
SEPARATOR = "\0"
"""Between the parts of a key that was read from a table: no command line can have it, nor can a key."""

_OPTION = f"({'|'.join(_KEY_OPTIONS)})="
_SLOWEST, _FASTEST = 0.001, 1_000_000
"""How many seconds of a clock may pass in a real one; slower, and what is due would be years away."""


@dataclass(frozen=True, kw_only=True)
class KeySettings:
    """One key and its account.

    Attributes:
        key: The key.
        credits: Balance at the start, ``None`` for that of every account.
        rate: New tasks that it may make: a rate, ``None`` for no limit, or ``default`` for that of every account.
        signing_key: With what its callbacks are signed, empty where they are not.

    Raises:
        SettingsError: A value cannot be used.
    """

    key: str = field(repr=False)
    credits: Decimal | None = None
    rate: Rate | Literal["default"] | None = "default"
    signing_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[!-~]{1,256}", self.key):
            raise SettingsError("A key is 1 to 256 visible ASCII characters without spaces.")

    @classmethod
    def parse(cls, text: str) -> KeySettings:
        """Read ``NAME`` or ``NAME:credits=80,rate=20/10,signing-key=SECRET``, the options in any order.

        What a table of a file says is written with ``SEPARATOR`` after the name and after every option, so that none of
        it is taken for another.

        Raises:
            SettingsError: The text is neither.
        """
        is_table = SEPARATOR in text
        key, *parts = text.removesuffix(SEPARATOR).split(SEPARATOR) if is_table else _parts(text)
        options: dict[str, str] = {}
        for part in parts:
            name, _, value = part.partition("=")
            if name in options or not value:
                raise SettingsError(f"The option {name} of a key is given once, with a value, as in NAME:credits=80.")
            options[name] = value
        is_mistaken = options.keys() - set(_KEY_OPTIONS) or any("," in options.get(name, "") for name in _AMOUNTS)
        # None of it is repeated in the refusal: what follows a mistaken name may be a secret.
        if is_mistaken or (re.search(r":[\w-]+=", key) and not is_table):
            raise SettingsError(
                f"The options of a key are {', '.join(_KEY_OPTIONS)}, as in NAME:credits=80,rate=20/10."
            )
        return cls(
            key=key,
            credits=parse_credits(options["credits"]) if "credits" in options else None,
            rate=Rate.parse(options["rate"]) if "rate" in options else "default",
            signing_key=options.get("signing-key", ""),
        )


def _parts(text: str) -> list[str]:
    key, *rest = re.split(rf":(?={_OPTION})", text, maxsplit=1)[::2]
    return [key, *(re.split(rf",(?={_OPTION})", rest[0])[::2] if rest else [])]


def _documented_rate() -> Rate:
    return Rate(*job_api().rate)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server plays the service.

    Attributes:
        keys: Keys that are let in, each an account of its own; with options as in ``NAME:credits=80``.
        dialect: Title of the dialect to answer in.
        http_status: How the code of an answer shows in its HTTP status.
        task_seconds: How long a task takes; a span is drawn from, with the seed.
        progress: What moves a task on.
        visible_after: How long a new task is unknown to recordInfo, in seconds.
        credits: Balance of each account at the start.
        rate: New tasks that an account may make, ``None`` for no limit.
        poll_rate: Queries of recordInfo that an account may make, ``None`` for no limit.
        callback_allow: Hosts and networks that may be called back beside this machine itself.
        result_ttl: How long a result is kept after its task has ended, in seconds.
        result_dir: Folder of images to give as results, ``None`` to draw them.
        keep_tasks: How many tasks are kept; beyond that, the oldest that have ended are forgotten.
        control_token: What callers of the control API must show, ``None`` where they need not.
        seed: Decides what is drawn at random, such as the colours of the images.
        scenario: File of the scenario to play, ``None`` for none.

    Raises:
        SettingsError: A value cannot be used.
    """

    keys: tuple[str, ...] = field(default=(local.KEY,), repr=False)
    http_status: HttpStatus = "envelope"
    dialect: str = "documented"
    task_seconds: Span | float = 3
    progress: Progress = BY_TIME
    visible_after: float = 0
    credits: Decimal | float = field(default_factory=lambda: job_api().new_account_credits)
    rate: Rate | None = field(default_factory=_documented_rate)
    poll_rate: Rate | None = None
    callback_allow: tuple[str, ...] = ()
    result_ttl: float = field(default_factory=lambda: job_api().result_seconds)
    result_dir: Path | None = None
    keep_tasks: int = 10_000
    control_token: str | None = field(default=None, repr=False)
    seed: int = 0
    scenario: Path | None = None

    def __post_init__(self) -> None:
        if not self.keys:
            raise SettingsError("At least one key is needed.")
        if len({each.key for each in self.accounts}) < len(self.keys):
            raise SettingsError("Each key is given once.")
        if self.http_status not in get_args(HttpStatus):
            raise SettingsError(f"The HTTP status is envelope or mirror, not {self.http_status!r}.")
        if self.dialect not in dialects():
            raise SettingsError(f"A dialect is {' or '.join(dialects())}, not {self.dialect!r}.")
        if not 0 <= self.span.least <= self.span.most <= LONGEST_TASK:
            raise SettingsError(f"A task takes from 0 to {LONGEST_TASK} seconds, not {self.task_seconds}.")
        _check_range("visible-after", self.visible_after, 0, LONGEST_TASK)
        _check_range("result-ttl", self.result_ttl, 0, LONGEST_TASK)
        _check_range("keep-tasks", self.keep_tasks, 1, _MOST_TASKS)
        if self.control_token is not None and not re.fullmatch(r"[!-~]{1,256}", self.control_token):
            raise SettingsError("A control token is 1 to 256 visible ASCII characters without spaces.")
        exact_credits(self.credits)

    @cached_property
    def accounts(self) -> tuple[KeySettings, ...]:
        """The keys with their options."""
        return tuple(KeySettings.parse(key) for key in self.keys)

    @property
    def span(self) -> Span:
        """How long a task takes, as bounds."""
        seconds = self.task_seconds
        return seconds if isinstance(seconds, Span) else Span(seconds, seconds)


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise SettingsError(f"{name} is from {least} to {most}, not {value}.")


def check_speed(speed: float) -> float:
    """Return how fast a clock shall run.

    Raises:
        SettingsError: No clock can.
    """
    if not _SLOWEST <= speed <= _FASTEST:
        raise SettingsError(f"A clock runs at from {_SLOWEST} to {_FASTEST} times the speed of time, not {speed}.")
    return speed


_MOST_TASKS = 10_000_000

DEFAULTS = Settings()
"""What a server does that is told nothing."""
