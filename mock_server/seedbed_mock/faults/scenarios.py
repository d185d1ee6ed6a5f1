"""Scenarios: TOML files with fault rules in phases, which follow one another by time or by the number of calls."""

from __future__ import annotations

import tomllib
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from seedbed_mock.clock import real_monotonic
from seedbed_mock.durations import parse_duration
from seedbed_mock.faults.rules import Rule, RuleError, parse_rule
from seedbed_mock.settings import SettingsError

if TYPE_CHECKING:
    from seedbed_mock.clock import Clock
    from seedbed_mock.faults.engine import ActiveRule, FaultEngine


_SHIPPED = Path(__file__).parents[1] / "scenarios"
_LARGEST_FILE = 1024 * 1024

_RELOAD_SECONDS = 0.5
"""In real seconds: how often the file is checked for changes, which would cost a system call in every request."""


class Phase(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One phase of a scenario.

    Attributes:
        name: Name of the phase.
        seconds: Duration in seconds of the clock.
        calls: Duration in calls; a phase without either bound lasts forever.
        rules: Rules that are active during the phase.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    seconds: Annotated[float, Meta(gt=0, le=10**9)] | None = None
    calls: Annotated[int, Meta(ge=1, le=10**9)] | None = None
    rules: Annotated[list[str], Meta(max_length=1000)] = []


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of a scenario file.

    Attributes:
        description: What the scenario imitates, in one sentence.
        repeat: Whether the first phase follows the last one.
        task_seconds: How long tasks take, in place of the server's option; empty for that option.
        phases: The phases in their order.
    """

    description: str
    repeat: bool = False
    task_seconds: str = msgspec.field(name="task-seconds", default="")
    phases: Annotated[list[Phase], Meta(min_length=1, max_length=1000)] = msgspec.field(name="phase")

    @property
    def is_timed(self) -> bool:
        """Whether seconds bound the phases, not calls."""
        return self.phases[0].seconds is not None

    def phase_at(self, seconds: float, calls: int) -> int | None:
        """Return the index of the phase after some seconds and calls; ``None`` after the last phase."""
        passed = seconds if self.is_timed else calls
        ends = list(accumulate(phase.seconds or phase.calls or float("inf") for phase in self.phases))
        if self.repeat:
            passed %= ends[-1]
        return next((index for index, end in enumerate(ends) if passed < end), None)

    def check(self) -> None:
        """Check what the types of the fields do not express.

        Raises:
            SettingsError: The bounds of a phase do not fit the scenario, or a rule is invalid.
        """
        if self.task_seconds:
            parse_duration(self.task_seconds)
        for number, phase in enumerate(self.phases, 1):
            is_bounded = phase.seconds is not None or phase.calls is not None
            may_be_open = number == len(self.phases) and not self.repeat
            if (phase.seconds is not None and phase.calls is not None) or not (is_bounded or may_be_open):
                raise SettingsError(f"The phase {phase.name} must have either seconds or calls.")
            if is_bounded and (phase.seconds is not None) is not self.is_timed:
                raise SettingsError(
                    f"The phase {phase.name} is not bounded like the first; use seconds in all phases or calls in all."
                )
            for text in phase.rules:
                try:
                    parse_rule(text)
                except RuleError as error:
                    raise SettingsError(
                        f"The phase {phase.name} has an invalid rule, {text[:60]!r}: {error}."
                    ) from error


def shipped_scenarios() -> list[str]:
    """Return the names of the scenarios that Seedbed ships."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def scenario_path(name: str) -> Path:
    """Return the path of a scenario file.

    Args:
        name: Name of a built-in scenario, or the path of a file.
    """
    return _SHIPPED / f"{name}.toml" if name in shipped_scenarios() else Path(name)


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        SettingsError: The file cannot be read or is not a valid scenario.
    """
    try:
        _check_file(path)
        scenario = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8-sig")), Scenario)
        scenario.check()
    except OSError as error:
        raise SettingsError(
            f"{path}: {error.strerror}; the built-in scenarios are {', '.join(shipped_scenarios())}."
        ) from error
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path} is not a valid scenario: {error}.") from error
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    # Paths with a NUL character and invalid UTF-8 raise ValueError, deeply nested arrays RecursionError.
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not valid TOML: {str(error).rstrip('.')}.") from error
    return scenario


def _check_file(path: Path) -> None:
    # Reading a pipe would wait forever, and a device may never end.
    if path.exists() and not path.is_file():
        raise SettingsError("a scenario must be a regular file.")
    if path.stat().st_size > _LARGEST_FILE:
        raise SettingsError(f"the file is larger than {_LARGEST_FILE} bytes.")


class ScenarioRunner:
    """Plays one scenario file: activates the rules of the current phase, and reloads the file when it changes.

    Args:
        path: The scenario file.
        engine: Engine to which the rules are added.
        clock: Clock that measures the phases.

    Attributes:
        scenario: The scenario that is played.
        problem: Why the changed file cannot be played, empty if it can.
        duration: How long tasks take, ``None`` if the scenario does not say.

    Raises:
        SettingsError: The file is not a valid scenario.
    """

    def __init__(self, path: Path, engine: FaultEngine, clock: Clock) -> None:
        self._path = path
        self._engine = engine
        self._clock = clock
        self._file_state = _file_state(path)
        self._checked_at = real_monotonic()
        self.problem = ""
        self.scenario, self._rules = self._load()
        self.begin()

    @property
    def name(self) -> str:
        """Name of the scenario, which is that of its file without the suffix."""
        return self._path.stem

    @property
    def phase(self) -> str:
        """Name of the current phase, empty after the last one."""
        self.update()
        return "" if self._phase is None else self.scenario.phases[self._phase].name

    def begin(self) -> None:
        """Play the scenario from the start."""
        self._began_at, self._calls = self._clock.now(), 0
        self._phase: int | None = None
        self._engine.clear(source="scenario")
        self._active_rules = [self._engine.add(rules, "scenario") for rules in self._rules]
        for rules in self._active_rules:
            _enable(rules, is_enabled=False)
        self._enter_phase()

    def count_call(self) -> None:
        """Enter the phase of the next call, and count the call."""
        self.update()
        self._calls += 1

    def update(self) -> None:
        """Reload the file if it has changed, and enter the phase whose time has come."""
        if (now := real_monotonic()) - self._checked_at >= _RELOAD_SECONDS:
            self._checked_at = now
            if (state := _file_state(self._path)) != self._file_state:
                self._file_state = state
                try:
                    self.scenario, self._rules = self._load()
                except SettingsError as error:
                    # An editor may have saved half a file, so that stopping would lose a run that is under way.
                    self.problem = str(error)
                    from seedbed_schemas import commands  # it loads cyclopts, which most servers do without

                    commands.warn("", f"{error} The previous version stays active.")
                else:
                    self.problem = ""
                    self.begin()
        self._enter_phase()

    def _load(self) -> tuple[Scenario, list[list[Rule]]]:
        scenario = load_scenario(self._path)
        self.duration = parse_duration(scenario.task_seconds) if scenario.task_seconds else None
        try:
            return scenario, [[self._engine.parse(text) for text in phase.rules] for phase in scenario.phases]
        except RuleError as error:
            raise SettingsError(f"{self._path}: {error}.") from error

    def _enter_phase(self) -> None:
        phase = self.scenario.phase_at(self._clock.now() - self._began_at, self._calls)
        if phase == self._phase:
            return
        if self._phase is not None:
            _enable(self._active_rules[self._phase], is_enabled=False)
        if phase is not None:
            _enable(self._active_rules[phase], is_enabled=True)
        self._phase = phase


def _enable(rules: list[ActiveRule], *, is_enabled: bool) -> None:
    for rule in rules:
        rule.is_enabled = is_enabled


def _file_state(path: Path) -> tuple[int, int] | None:
    """Return when a file was last changed, and its size; ``None`` if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size
