"""Scenarios: files of rules, in phases that follow one another by time or by the number of calls."""

from __future__ import annotations

import tomllib
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from seedbed_mock.faults.rules import Rule, parse_rule
from seedbed_mock.faults.words import RuleError
from seedbed_mock.quantities import SettingsError

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
