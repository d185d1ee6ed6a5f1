"""Scenarios: files of rules, in phases that follow one another by time or by the number of calls."""

from __future__ import annotations

import sys
import time
import tomllib
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from seedbed_mock.faults.rules import Rule, RuleError, parse_rule
from seedbed_mock.settings import SettingsError

if TYPE_CHECKING:
    from seedbed_mock.clock import Clock
    from seedbed_mock.faults.engine import ActiveRule, FaultEngine


_SHIPPED = Path(__file__).parents[1] / "scenarios"
_LARGEST_FILE = 1024 * 1024


class Phase(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One phase of a scenario.

    Attributes:
        name: Its name.
        seconds: How long it lasts, by the clock.
        calls: How many calls it lasts; without either, it lasts for ever.
        rules: The rules in force while it lasts.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    seconds: Annotated[float, Meta(gt=0, le=10**9)] | None = None
    calls: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    rules: Annotated[list[str], Meta(max_length=1000)] = []


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """A story of what goes wrong.

    Attributes:
        description: What it imitates, in a sentence.
        repeat: Whether it begins again when its last phase is over.
        phases: Its phases, in their order.
    """

    description: str
    repeat: bool = False
    phases: Annotated[list[Phase], Meta(min_length=1, max_length=1000)] = msgspec.field(name="phase")

    @cached_property
    def rules(self) -> list[list[Rule]]:
        """The rules of each phase."""
        return [[parse_rule(text) for text in phase.rules] for phase in self.phases]

    def phase_at(self, seconds: float, calls: int) -> int | None:
        """Return which phase it is in after so long and so many calls; ``None`` where the last one is over.

        Every phase is bounded by time, or every one by calls; the last may have no bound.
        """
        passed = seconds if self._is_timed else calls
        ends = list(accumulate(self._lengths))
        if self.repeat:
            passed %= ends[-1]
        return next((number for number, end in enumerate(ends) if passed < end), None)

    @property
    def _is_timed(self) -> bool:
        return self.phases[0].seconds is not None

    @property
    def _lengths(self) -> list[float]:
        return [phase.seconds or phase.calls or float("inf") for phase in self.phases]

    def check(self) -> None:
        """Check what the shape of the file cannot say.

        Raises:
            SettingsError: The phases do not follow one another, or a rule is none.
        """
        for number, phase in enumerate(self.phases, 1):
            bounds = [phase.seconds is not None, phase.calls is not None]
            is_open = number == len(self.phases) and not self.repeat
            if sum(bounds) > 1 or (not any(bounds) and not is_open):
                raise SettingsError(f"The phase {phase.name} needs seconds or calls, one of them, to know its end.")
            if any(bounds) and (phase.seconds is not None) is not self._is_timed:
                raise SettingsError(
                    f"The phase {phase.name} counts otherwise than the first: all seconds, or all calls."
                )
        for phase in self.phases:
            for text in phase.rules:
                _checked(text, phase.name)


def _checked(text: str, phase: str) -> None:
    try:
        parse_rule(text)
    except RuleError as error:
        raise SettingsError(f"The phase {phase} has a rule that is none, {text[:60]!r}: {error}") from error


def scenario_path(name: str) -> Path:
    """Return the file of a scenario: of one that is shipped, by its name, or a file of the user's."""
    shipped = _SHIPPED / f"{name}.toml"
    return shipped if name in shipped_scenarios() else Path(name)


def shipped_scenarios() -> list[str]:
    """Return the names of the scenarios that are shipped."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def load_scenario(path: Path) -> Scenario:
    """Read a scenario.

    Raises:
        SettingsError: The file cannot be read or is no scenario; the message is one sentence.
    """
    try:
        scenario = msgspec.convert(tomllib.loads(_text(path)), Scenario)
        scenario.check()
    except OSError as error:
        known = ", ".join(shipped_scenarios())
        raise SettingsError(f"{path}: {error.strerror}; the scenarios shipped are {known}.") from error
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path} is no scenario: {error}.") from error
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is no TOML: {str(error).rstrip('.')}.") from error
    return scenario


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise SettingsError("A scenario is a file, which this is not.")
    if path.stat().st_size > _LARGEST_FILE:
        raise SettingsError(f"It is larger than {_LARGEST_FILE} bytes, which no scenario is.")
    return path.read_text(encoding="utf-8")


_PAUSE = 0.5
"""In real seconds: for so long nobody looks whether the file has changed."""


class ScenarioRunner:
    """Plays one scenario.

    Args:
        path: Its file.
        engine: Where its rules come into force.
        clock: By which its phases last.

    Attributes:
        scenario: What it plays.
        problem: Why the file as it is now cannot be played, empty where it is what is played.

    Raises:
        SettingsError: The file is no scenario.
    """

    def __init__(self, path: Path, engine: FaultEngine, clock: Clock) -> None:
        self._path = path
        self._engine = engine
        self._clock = clock
        self._mark = _mark(path)
        self._looked = time.monotonic()
        self.problem = ""
        self.scenario, self._rules = self._load()
        self.begin()

    @property
    def name(self) -> str:
        """What it is called."""
        return self._path.stem

    @property
    def phase(self) -> str:
        """Name of the phase that it is in, empty where the last one is over."""
        self.keep_up()
        return "" if self._phase is None else self.scenario.phases[self._phase].name

    def _load(self) -> tuple[Scenario, list[list[Rule]]]:
        scenario = load_scenario(self._path)
        try:
            return scenario, [[self._engine.read(text) for text in phase.rules] for phase in scenario.phases]
        except RuleError as error:
            raise SettingsError(f"{self._path}: {error}") from error

    def begin(self) -> None:
        """Play from the start."""
        self._begun, self._calls = self._clock.now(), 0
        self._engine.clear(door="scenario")
        self._standing = [self._engine.add(rules, "scenario") for rules in self._rules]
        self._phase: int | None = None
        for standing in self._standing:
            _turn(standing, is_on=False)
        self._move_on()

    def count_call(self) -> None:
        """Be ready for a call, and count it."""
        self.keep_up()
        self._calls += 1

    def keep_up(self) -> None:
        """Be in the phase whose time it is, of the file as it is."""
        if (now := time.monotonic()) - self._looked >= _PAUSE:
            self._looked = now
            if (mark := _mark(self._path)) != self._mark:
                self._mark = mark
                self._read_again()
        self._move_on()

    def _move_on(self) -> None:
        phase = self.scenario.phase_at(self._clock.now() - self._begun, self._calls)
        if phase == self._phase:
            return
        if self._phase is not None:
            _turn(self._standing[self._phase], is_on=False)
        if phase is not None:
            _turn(self._standing[phase], is_on=True)
        self._phase = phase

    def _read_again(self) -> None:
        try:
            self.scenario, self._rules = self._load()
        except SettingsError as error:
            self.problem = str(error)
            sys.stderr.write(f"seedbed: {error} The scenario goes on as it was.\n")
            return
        self.problem = ""
        self.begin()


def _turn(standing: list[ActiveRule], *, is_on: bool) -> None:
    for each in standing:
        each.is_on = is_on


def _mark(path: Path) -> tuple[int, int] | None:
    """Return what changes with the content of a file, ``None`` where there is no file."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_mtime_ns, state.st_size
