"""The words in which a server is told how to play: flags of ``seedbed serve``, and of ``running`` in Python."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, get_args

import msgspec
from cyclopts import Parameter, validators
from seedbed_schemas import local

from seedbed_mock.clock import Reading, RealClock
from seedbed_mock.faults.scenarios import scenario_path
from seedbed_mock.settings import (
    DEFAULTS,
    ClockKind,
    HttpStatus,
    Progress,
    Rate,
    Settings,
    SettingsError,
    Span,
    check_speed,
    parse_credits,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import Token

    from seedbed_mock.stores.store import Store


_CLOCK = "clock"


class ServerKeywords(TypedDict, total=False):
    """The same words as keywords, none of them required; see :class:`ServerOptions` for what each means."""

    host: str
    port: int
    key: str | Iterable[str]
    dialect: str
    http_status: HttpStatus
    task_seconds: str | float
    progress: str
    visible_after: float
    credits: str | float | Decimal
    rate_limit: str
    poll_rate_limit: str
    speed: float
    callback_allow: str | Iterable[str]
    result_ttl: float
    result_dir: str | Path | None
    keep_tasks: int
    db: str | Path | None
    control_token: str | None
    seed: int
    scenario: str | Path


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    # The command line's own reader would round 8.5.
    try:
        return int(tokens[0].value)
    except ValueError as error:
        raise ValueError(f"It is a whole number, not {tokens[0].value}.") from error


def _path(_: Any, tokens: Sequence[Token]) -> Path:
    return _named(tokens[0].value)


def _named(path: str | Path) -> Path:
    """Return a path that was given; an empty one would be the current folder."""
    if path == "":
        raise SettingsError("A file or folder has a name, not nothing; leave the word out for none.")
    return Path(path)


_WHOLE = Parameter(converter=_whole)
_PATH = Parameter(converter=_path)


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How to play.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes any free one.
        key: API key to let in, an account of its own: NAME, or NAME:credits=80,rate=20/10,signing-key=SECRET with any
            of these options; may be repeated. A comma belongs to the SECRET unless an option such as rate= comes after
            it; a [[key]] table of --config takes any SECRET by the letter.
        dialect: documented answers as the documentation has it, observed as the service is known to.
        http_status: envelope answers HTTP 200 with the code in the body, mirror the code as HTTP status too.
        task_seconds: How long a task takes, in seconds; LEAST..MOST draws from between, with the seed.
        progress: What moves a task on: time, polls:N (it ends at the N-th query) or hand (the control API alone).
        visible_after: For how many seconds a new task is unknown to recordInfo.
        credits: Balance of each account at the start.
        rate_limit: New tasks that an account may make, as N/SECONDS, or off.
        poll_rate_limit: Queries of recordInfo that an account may make, as N/SECONDS such as 10/1, or off.
        clock: real, or manual: a clock that stands still until the control API turns it.
        speed: How many times as fast as real time the clock runs.
        callback_allow: Host or network to call back beside this machine, such as 10.0.0.0/8; may be repeated.
        result_ttl: For how many seconds a result is kept after its task has ended.
        result_dir: Folder of images of yours to give as results, cut to size, in place of drawn ones.
        keep_tasks: How many tasks are kept; beyond that, the oldest that have ended are forgotten.
        db: SQLite file in which tasks and balances are kept; in memory where there is none.
        control_token: What callers of the control API must show, as Authorization: Bearer TOKEN.
        seed: Decides what is drawn at random, such as the colours of the images.
        scenario: What goes wrong: the name of a scenario that is shipped, or a file of rules of yours.
    """

    host: str = local.HOST
    port: Annotated[int, _WHOLE, Parameter(validator=validators.Number(gte=0, lte=65535))] = local.PORT
    key: Annotated[tuple[str, ...], Parameter(show_default=", ".join)] = field(default=DEFAULTS.keys, repr=False)
    dialect: str = DEFAULTS.dialect
    http_status: HttpStatus = DEFAULTS.http_status
    task_seconds: str = str(DEFAULTS.span)
    progress: str = str(DEFAULTS.progress)
    visible_after: float = DEFAULTS.visible_after
    credits: str = str(DEFAULTS.credits)
    rate_limit: str = str(DEFAULTS.rate)
    poll_rate_limit: str = "off"
    clock: ClockKind = "real"
    speed: float = 1
    callback_allow: Annotated[tuple[str, ...], Parameter(show_default=False)] = ()
    result_ttl: float = DEFAULTS.result_ttl
    result_dir: Annotated[Path | None, _PATH] = None
    keep_tasks: Annotated[int, _WHOLE] = DEFAULTS.keep_tasks
    db: Annotated[Path | None, _PATH] = None
    control_token: Annotated[str | None, Parameter(show_default=False)] = field(default=None, repr=False)
    seed: Annotated[int, _WHOLE] = DEFAULTS.seed
    scenario: str = ""

    @classmethod
    def of(cls, words: ServerKeywords, clock: ClockKind = "real") -> ServerOptions:
        """Return the flags that say what the words of a Python program do."""
        _check_words(words)
        told: dict[str, Any] = {"port": 0, **words, "clock": clock}
        told |= {name: _several(told[name]) for name in ("key", "callback_allow") if name in told}
        told |= {name: _text(told[name]) for name in ("task_seconds", "credits") if name in told}
        told |= {name: _named(told[name]) for name in ("result_dir", "db") if told.get(name) is not None}
        told |= {"scenario": str(told["scenario"])} if "scenario" in told else {}
        return cls(**told)

    def settings(self) -> Settings:
        """Return what the words mean.

        Raises:
            SettingsError: A word cannot be used.
        """
        return Settings(
            keys=self.key,
            dialect=self.dialect,
            http_status=self.http_status,
            task_seconds=Span.parse(self.task_seconds),
            progress=Progress.parse(self.progress),
            visible_after=self.visible_after,
            credits=parse_credits(self.credits),
            rate=Rate.parse(self.rate_limit),
            poll_rate=Rate.parse(self.poll_rate_limit),
            callback_allow=self.callback_allow,
            result_ttl=self.result_ttl,
            result_dir=self.result_dir,
            keep_tasks=self.keep_tasks,
            control_token=self.control_token,
            seed=self.seed,
            scenario=scenario_path(self.scenario) if self.scenario else None,
        )

    def open_clock(self, store: Store) -> RealClock:
        """Return the clock, which goes on from where the last one of that store would stand, if that is in the future.

        Raises:
            SettingsError: It cannot run so.
        """
        if self.clock not in get_args(ClockKind):
            raise SettingsError(f"A clock is {' or '.join(get_args(ClockKind))}, not {self.clock!r}.")
        if self.clock == "manual" and self.speed != 1:
            raise SettingsError("A manual clock stands still: give --speed or --clock manual, not both.")
        speed = 0 if self.clock == "manual" else check_speed(self.speed)
        noted = store.note(_CLOCK)
        start = max(time.time(), msgspec.json.decode(noted, type=Reading).now()) if noted else None
        clock = RealClock(speed, start)

        def note(_: float = 0) -> None:
            store.note(_CLOCK, msgspec.json.encode(clock.reading()))

        note()
        clock.watch(note)
        return clock


def _check_words(words: Iterable[str]) -> None:
    known = ServerKeywords.__annotations__
    if unknown := next((word for word in words if word not in known), None):
        raise SettingsError(f"There is no word {unknown}; there are {', '.join(known)}, clock and contracts.")


def _text(amount: str | float | Decimal) -> str:
    if isinstance(amount, float):
        return f"{amount:.9f}"
    return f"{amount:f}" if isinstance(amount, Decimal) else str(amount)


def _several(words: str | Iterable[str]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words)
