"""The exploration of a drill: every fault with every request of the calm run, one at a time.

The faults come from the registry of effects and the codes of the contract, the requests from the calm run. A case is
one fault rule, such as ``wire.reset; op=recordInfo; nth=2``. Cases that fail alike are one failure: the rule of the
earliest request stands for all.
"""

from __future__ import annotations

import itertools
import shlex
from collections import defaultdict
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from seedbed_mock.catalogue import ModelCatalogue
from seedbed_mock.drill.outcomes import CaseMemory, CaseOutcome
from seedbed_mock.drill.runner import INTERRUPTED, DrillCase, Exploration
from seedbed_mock.faults.effects import CallbackEffect, CodeEffect, TaskEffect
from seedbed_mock.faults.rules import EFFECTS, Match, Rule
from seedbed_mock.handlers import CREATE_TASK, apply_fault
from seedbed_mock.observation import ControlRun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from seedbed_mock.drill.runner import Drill, DrillReport, ScenarioResult
    from seedbed_mock.faults.effects import Effect
    from seedbed_mock.journal import JournalEntry
    from seedbed_mock.observation import Observation
    from seedbed_mock.options import ServerOptions


_BEFORE_FAULTS: Final = {each.__name__ for each in CREATE_TASK[: CREATE_TASK.index(apply_fault)]}
"""Handlers that refuse a request before any fault rule counts it."""

_DONE: Final = "done"
_MOST_NUMBERS: Final = 10


@dataclass(frozen=True, slots=True)
class FaultCase:
    """One fault of one request.

    Attributes:
        effect: The fault.
        operation: Name of the operation.
        number: Which call of the operation, from 1.
    """

    effect: Effect
    operation: str
    number: int

    @property
    def identity(self) -> str:
        """The fault and the operation, without the number of the call."""
        return str(Rule(self.effect, self._match()))

    @property
    def rule(self) -> str:
        """The shortest rule that is this case."""
        return str(Rule(self.effect, msgspec.structs.replace(self._match(), nth=self.number)))

    def _match(self) -> Match:
        # An effect of one operation counts no calls of others.
        return Match() if self.effect.operations == {self.operation} else Match(op=self.operation)


def effects_of(codes: Iterable[int]) -> Iterator[Effect]:
    """Yield every effect: with its defaults, with each choice of an option that has choices, and with each code.

    Args:
        codes: Codes of errors.
    """
    for kind in EFFECTS.values():
        if kind is CodeEffect:
            yield from (CodeEffect(code=code) for code in codes)
            continue
        choices = {
            each.name: types.values
            for each in msgspec.structs.fields(kind)
            if isinstance(types := msgspec.inspect.type_info(each.type), msgspec.inspect.LiteralType)
        }
        for values in itertools.product(*choices.values()):
            yield kind(**dict(zip(choices, values, strict=True)))


def fault_cases(calm: Observation, codes: Iterable[int]) -> list[FaultCase]:
    """Return every fault with every request of a run, those first that find the most.

    These are the faults of the first and of the last call of each operation; the calls between them are mostly alike.

    Args:
        calm: The run.
        codes: Codes of errors.
    """
    effects = list(effects_of(codes))
    counted: dict[str, list[JournalEntry]] = defaultdict(list)
    for each in calm.calls:
        if each.handler not in _BEFORE_FAULTS:
            counted[each.operation].append(each)
    ranked = [
        (1 if number == 1 else 2 if number == len(calls) else 3, entry.number, number, entry)
        for calls in counted.values()
        for number, entry in enumerate(calls, 1)
    ]
    return [
        FaultCase(effect, entry.operation, number)
        for _, _, number, entry in sorted(ranked, key=lambda each: each[:2])
        for effect in effects
        if _applies(effect, entry, calm)
    ]


def _applies(effect: Effect, call: JournalEntry, calm: Observation) -> bool:
    """Return whether an effect can change anything about a call."""
    if effect.operations and call.operation not in effect.operations:
        return False
    task = calm.tasks.get(call.task_id)
    if isinstance(effect, TaskEffect) and task is None:
        return False
    if isinstance(effect, CallbackEffect):
        if task is None or task.callback is None:
            return False
        # Without a signing key, no receiver can find anything wrong with a signature.
        is_about_signature = effect.apply_to_callback(task.callback, task).fault.has_false_signature
        return calm.signs or not is_about_signature
    return True


@dataclass
class Explorer:
    """Explores the faults of a program.

    Attributes:
        budget: Largest number of runs.
        memory: Remembers outcomes from one drill to the next.
        on_case: Called after each run with the number of runs so far, the number that is planned, and the result.
    """

    budget: int
    memory: CaseMemory
    on_case: Callable[[int, int, ScenarioResult], None] = lambda *_: None

    def __call__(self, drill: Drill, report: DrillReport) -> None:
        """Explore, and add what was found to a report that has the calm run.

        Raises:
            OSError: The program cannot be run.
        """
        calm = report.results[0].seen
        # As `seedbed run` reads it from the command that repeats a case, so that both give the same verdicts.
        self._control = ControlRun.parse(ControlRun.of(calm).describe())
        success = {each.code for each in calm.calls if each.case == _DONE}
        codes = [each.number for each in ModelCatalogue(drill.options.patched_contracts).codes.values()]
        self._cases = fault_cases(calm, [each for each in codes if each not in success])
        remembered = self.memory.recall()
        self._outcomes = {each: remembered[each.rule] for each in self._cases if each.rule in remembered}
        self._results = dict[FaultCase, "ScenarioResult"]()
        self._runs = 0
        try:
            while planned := self._next()[: self.budget - self._runs]:
                calls = [partial(self._run, drill, each) for each in planned]
                drill.run_all(calls, partial(self._add, self._runs + len(planned)))
        except (KeyboardInterrupt, SystemExit) as error:
            report.interrupted = int(error.code or 0) if isinstance(error, SystemExit) else INTERRUPTED
        self.memory.keep({each.rule: outcome for each, outcome in self._outcomes.items()})
        # A remembered failure that did not come up again in this drill is neither a failure nor gone.
        left_out = {
            each for group in self._groups().values() if self._results.keys().isdisjoint(group) for each in group
        }
        left_out |= set(self._cases) - self._outcomes.keys()
        known = {each: outcome for each, outcome in self._outcomes.items() if each not in left_out}
        report.ran |= {each.identity for each in known}
        report.results += self._failures(drill)
        report.exploration = Exploration(
            cases=len(self._cases),
            runs=self._runs,
            remembered=len(known.keys() - self._results.keys()),
            failed=sum(bool(each.failed) for each in known.values()),
            absent=tuple(each.rule for each in self._cases if each in known and not known[each].occurred),
            left_out=tuple(each.rule for each in self._cases if each in left_out),
            note=self.memory.problem,
        )

    def _next(self) -> list[FaultCase]:
        """Return the cases to run: of each remembered failure one again, for its evidence, then those without outcome.

        If that one passes now, another of the same failure is next.
        """
        again = [
            min(waiting, key=lambda each: each.number)
            for group in self._groups().values()
            if not any(each in self._results for each in group)
            and (waiting := [each for each in group if each not in self._results])
        ]
        return [*again, *(each for each in self._cases if each not in self._outcomes)]

    def _groups(self) -> dict[tuple[str, tuple[str, ...]], list[FaultCase]]:
        """Return the cases that fail, those together that fail alike."""
        groups: dict[tuple[str, tuple[str, ...]], list[FaultCase]] = defaultdict(list)
        for case in self._cases:
            if (outcome := self._outcomes.get(case)) and outcome.failed:
                groups[case.identity, outcome.failed].append(case)
        return groups

    def _run(self, drill: Drill, case: FaultCase) -> tuple[FaultCase, ScenarioResult]:
        return case, drill.result(DrillCase(case.rule, rules=(case.rule,)), self._control)

    def _add(self, planned: int, done: tuple[FaultCase, ScenarioResult]) -> None:
        case, result = done
        self._runs += 1
        self._outcomes[case] = CaseOutcome(tuple(result.failed), result.occurred)
        self._results[case] = result
        self.on_case(self._runs, planned, result)

    def _failures(self, drill: Drill) -> Iterator[ScenarioResult]:
        """Yield one result for each failure, that of its earliest request, with the command that repeats it."""
        for group in self._groups().values():
            ran = sorted((each for each in group if each in self._results), key=lambda each: each.number)
            if not ran:
                continue
            result, notes = self._results[ran[0]], list[str]()
            if others := sorted(each.number for each in group if each != ran[0]):
                more = " and more" if len(others) > _MOST_NUMBERS else ""
                notes.append(f"The same happens with nth={', '.join(map(str, others[:_MOST_NUMBERS]))}{more}.")
            if not result.occurred:
                notes.append("The fault did not occur: the program failed without it.")
            yield replace(
                result,
                notes=(*result.notes, *notes),
                identity=ran[0].identity,
                repeat=repeat_command(drill, result, self._control),
            )


def repeat_command(drill: Drill, result: ScenarioResult, control: ControlRun) -> str:
    """Return the command that repeats a run with its verdicts, without the keys of the drill.

    Args:
        drill: The drill.
        result: The run, whose name is its fault rule.
        control: What the program does when nothing goes wrong.
    """
    words = ["seedbed", "run", "--fault", result.name, "--calm", control.describe()]
    if result.seen.exit.code is None:
        words += ["--deadline", f"{drill.deadline:g}"]
    return shlex.join([*words, *_changed(drill.options), "--", *drill.command])


def _changed(options: ServerOptions) -> Iterator[str]:
    """Yield the options that differ from their defaults, as words of a command line."""
    defaults = type(options)()
    for each in fields(options):
        value = getattr(options, each.name)
        if each.name != "key" and value != getattr(defaults, each.name):
            for word in value if isinstance(value, tuple) else (value,):
                yield from (f"--{each.name.replace('_', '-')}", str(word))
