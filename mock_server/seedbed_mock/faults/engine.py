"""The rules that are in force on a server, and which of them a call meets: the first that matches."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Literal

from seedbed_mock.faults.effects import CodeEffect
from seedbed_mock.faults.rules import RuleError, expression, parse_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seedbed_mock.faults.rules import Rule


RuleSource = Literal["header", "key", "prompt", "scenario", "control"]

_PHRASE = re.compile(r"\[\[fault:(.*?)\]\]", re.DOTALL)
_KEPT_PASSING = 1000

MOST_RULES = 1000
"""So many at a time that were added."""


@dataclass(frozen=True, slots=True)
class MatchContext:
    """What is known of a call when it is asked which fault it meets.

    Attributes:
        operation: Name of the operation.
        space: Name of its space.
        account: Fingerprint of its key.
        model: Name of the model, empty where none is named.
        prompt: Text of the prompt, empty where there is none.
        seconds: When it came, in seconds of the clock since the server began.
    """

    operation: str
    space: str
    account: str
    model: str
    prompt: str
    seconds: float


@dataclass(slots=True)
class ActiveRule:
    """A rule in force, and what has come of it.

    Attributes:
        number: Its name for those who look.
        rule: The rule.
        door: How it came in.
        chance: Draws its share.
        scope: The space whose calls it is for, empty for all.
        seen: How many calls its match applied to, before shares and counts.
        hits: How many of them it broke.
        is_on: Whether its time has come, where it belongs to a phase of a scenario.
    """

    number: int
    rule: Rule
    door: RuleSource
    chance: Random
    scope: str = ""
    seen: int = 0
    hits: int = 0
    is_on: bool = True

    def told(self) -> str:
        """Return which rule it is and how it came in, for those who look at what it did."""
        return f"{self.rule} (rule {self.number}, by {self.door})"

    def meets(self, question: MatchContext) -> bool:
        """Tell whether a call meets this fault, and count it."""
        if not self.is_on or not self._applies(question):
            return False
        self.seen += 1
        if not self._is_its_turn():
            return False
        self.hits += 1
        return True

    def _applies(self, question: MatchContext) -> bool:
        match, operations = self.rule.match, self.rule.effect.operations
        return (
            (not operations or question.operation in operations)
            and (not self.scope or self.scope == question.space)
            and match.op in (None, question.operation)
            and match.space in (None, question.space)
            and match.key in (None, question.account)
            and match.model in (None, question.model)
            and (match.prompt is None or match.prompt in question.prompt)
            and (match.prompt_like is None or _is_like(match.prompt_like, question.prompt))
            and (match.since is None or question.seconds >= match.since)
            and (match.until is None or question.seconds < match.until)
        )

    def _is_its_turn(self) -> bool:
        match = self.rule.match
        return (
            (match.times is None or self.hits < match.times)
            and match.nth in (None, self.seen)
            and (match.every is None or self.seen % match.every == 0)
            # Drawn at every call that comes so far, so that the same order of calls meets the same faults.
            and (match.p is None or self.chance.random() < match.p)
        )


class FaultEngine:
    """The rules in force.

    Args:
        seed: Decides the shares.
        codes: The codes that can be answered.

    Attributes:
        standing: The rules, in the order in which a call is held against them.
    """

    def __init__(self, seed: int, codes: Iterable[int] = ()) -> None:
        self._seed = seed
        self._codes = frozenset(codes)
        self.standing: list[ActiveRule] = []
        self._passing: OrderedDict[tuple[RuleSource, str, str], ActiveRule] = OrderedDict()
        self._number = 0
        self._met: set[str] = set()

    def __iter__(self) -> Iterator[ActiveRule]:
        return iter(tuple(self.standing))

    def read(self, text: str) -> Rule:
        """Read a rule that can be in force here.

        Raises:
            RuleError: The text is no rule, or has a code that nobody knows.
        """
        rule = parse_rule(text)
        if isinstance(rule.effect, CodeEffect) and rule.effect.code not in self._codes:
            known = ", ".join(map(str, sorted(self._codes)))
            raise RuleError(f"There is no code {rule.effect.code} to answer with; there are {known}.")
        return rule

    def add(self, rules: Iterable[Rule], door: RuleSource, scope: str = "") -> list[ActiveRule]:
        """Put rules in force, after those that are but before those of a scenario, and return how they stand."""
        added = [self._stand(rule, door, scope) for rule in rules]
        # What somebody says while a scenario plays is meant to be heard.
        self.standing = sorted(self.standing + added, key=lambda each: each.door == "scenario")
        return added

    def _stand(self, rule: Rule, door: RuleSource, scope: str) -> ActiveRule:
        self._number += 1
        # A share is drawn for each rule by itself, so that one rule more changes nothing for the others.
        chance = Random(f"{self._seed}/{scope}/{rule}")  # noqa: S311 (drawn again alike by the same seed, on purpose)
        return ActiveRule(self._number, rule, door, chance, scope)

    def clear(self, *, door: RuleSource | None = None, scope: str | None = None, number: int | None = None) -> int:
        """Take rules out of force: all, those of a door or of a space, or one; return how many."""
        kept = [
            each
            for each in self.standing
            if (door is not None and each.door != door)
            or (scope is not None and each.scope != scope)
            or (number is not None and each.number != number)
        ]
        gone = len(self.standing) - len(kept)
        self.standing = kept
        if door is None and number is None:
            self._passing = OrderedDict(
                (key, each) for key, each in self._passing.items() if scope is not None and key[1] != scope
            )
        return gone

    def passing(self, text: str, door: RuleSource, space: str) -> ActiveRule:
        """Return a rule that comes with a call, whose counts go on from call to call of the same space.

        Raises:
            RuleError: The text is no rule.
        """
        key = (door, space, text)
        if standing := self._passing.get(key):
            self._passing.move_to_end(key)
            return standing
        standing = self._passing[key] = self._stand(self.read(text), door, space)
        if len(self._passing) > _KEPT_PASSING:
            self._passing.popitem(last=False)
        return standing

    def met(self, question: MatchContext, passing: Iterable[ActiveRule]) -> ActiveRule | None:
        """Return the first rule that a call meets: those that came with it, then those in force, in their order."""
        for standing in (*passing, *self.standing):
            if standing.meets(question):
                self._met.add(standing.rule.effect.name)
                return standing
        return None

    def was_met(self, effect: str) -> bool:
        """Tell whether any call met an effect of that name."""
        return effect in self._met


def phrases(prompt: str) -> list[str]:
    """Return the texts of the rules in a prompt: ``[[fault: RULE]]``."""
    return [text.strip() for text in _PHRASE.findall(prompt)]


def _is_like(pattern: str, prompt: str) -> bool:
    return _expression(pattern).is_valid(prompt)


_expression = lru_cache(256)(expression)
