"""Plays a scenario: puts the rules of its phases in force in their turn, and reads it again when its file changes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from seedbed_mock.faults.scenarios import load_scenario
from seedbed_mock.faults.words import RuleError
from seedbed_mock.quantities import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from seedbed_mock.clock import Clock
    from seedbed_mock.faults.engine import Engine, Standing
    from seedbed_mock.faults.rules import Rule
    from seedbed_mock.faults.scenarios import Scenario

_PAUSE = 0.5
"""In real seconds: for so long nobody looks whether the file has changed."""


class Player:
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

    def __init__(self, path: Path, engine: Engine, clock: Clock) -> None:
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


def _turn(standing: list[Standing], *, is_on: bool) -> None:
    for each in standing:
        each.is_on = is_on


def _mark(path: Path) -> tuple[int, int] | None:
    """Return what changes with the content of a file, ``None`` where there is no file."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_mtime_ns, state.st_size
