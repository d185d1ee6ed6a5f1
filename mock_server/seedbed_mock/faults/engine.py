"""The fault engine: the rules that are active on a server, and which of them a call matches.

A call matches at most one rule, the first of those that come with it and those that are active. Each rule counts the
calls that it sees and hits, on which conditions such as ``nth`` and ``times`` depend.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from heapq import merge
from itertools import chain
from operator import itemgetter
from random import Random
from typing import TYPE_CHECKING, Literal

from seedbed_mock.faults.effects import CodeEffect
from seedbed_mock.faults.rules import OPERATIONS, RuleError, compile_pattern, parse_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from seedbed_mock.faults.effects import Effect
    from seedbed_mock.faults.rules import Rule


RuleSource = Literal["header", "key", "prompt", "scenario", "control"]
"""Where a rule is given: with a call (header, key or prompt), in a scenario file, or over the control API."""

MAX_RULES = 1000
"""Largest number of rules added through the control API: every call is compared with each of them."""

_MAX_REQUEST_RULES = 1000
"""Rules that came with calls and whose counts are remembered; each client can make up new ones."""

_PHRASE_START, _PHRASE_END = "[[fault:", "]]"


@dataclass(frozen=True, slots=True)
class MatchContext:
    """The properties of a call that the conditions of a rule refer to.

    Attributes:
        operation: Name of the operation.
        space: Name of the space.
        account: Fingerprint of the key.
        model: Name of the model, empty if the request names none.
        prompt: Text of the prompt, empty if the request has none.
        seconds: Time of the call, in seconds of the clock since the server started.
    """

    operation: str
    space: str
    account: str
    model: str
    prompt: str
    seconds: float


@dataclass(slots=True)
class ActiveRule:
    """A rule on a server, with its counts.

    Attributes:
        number: Number of the rule, by which it can be removed; 0 for a rule that comes with a call.
        rule: The rule.
        source: Where it was given.
        random: Draws its share of calls and its delays.
        scope: Name of the space whose calls it applies to, empty for all.
        seen: Number of calls that met its conditions except ``p``, ``nth``, ``every`` and ``times``.
        hits: Number of calls that it applied to.
        is_enabled: Whether it is active; the rules of a scenario are disabled outside their phase.
    """

    number: int
    rule: Rule
    source: RuleSource
    random: Random
    scope: str = ""
    seen: int = 0
    hits: int = 0
    is_enabled: bool = True

    def describe(self) -> str:
        """Return the rule with its number and source, as the journal shows it."""
        number = f"rule {self.number}, " if self.number else ""
        return f"{self.rule} ({number}by {self.source})"

    def matches(self, context: MatchContext) -> bool:
        """Return whether the rule applies to a call, and count the call as seen.

        Only its effect counts as a hit, once it has changed something: a call can still be refused for another reason.
        """
        if not self.meets_conditions(context):
            return False
        self.seen += 1
        return self.is_counted_hit()

    def meets_conditions(self, context: MatchContext) -> bool:
        """Return whether a call meets all conditions except ``p``, ``nth``, ``every`` and ``times``."""
        match, operations = self.rule.match, self.rule.effect.operations
        return (
            self.is_enabled
            and (not operations or context.operation in operations)
            and (not self.scope or self.scope == context.space)
            and match.op in (None, context.operation)
            and match.space in (None, context.space)
            and match.key in (None, context.account)
            and match.model in (None, context.model)
            and (match.prompt is None or match.prompt in context.prompt)
            and (match.prompt_like is None or compile_pattern(match.prompt_like).is_valid(context.prompt))
            and (match.since is None or context.seconds >= match.since)
            and (match.until is None or context.seconds < match.until)
        )

    def is_counted_hit(self) -> bool:
        """Return whether the rule applies to the call that was counted as seen last."""
        match = self.rule.match
        return (
            (match.times is None or self.hits < match.times)
            and match.nth in (None, self.seen)
            and (match.every is None or self.seen % match.every == 0)
            # Drawn last and for each call, so that the same calls in the same order get the same faults.
            and (match.p is None or self.random.random() < match.p)
        )


class FaultEngine:
    """The active rules of a server.

    Args:
        seed: Seed of the shares and delays.
        codes: Documented codes of errors.
        success: Code of a success, which a rule may not respond with.

    Attributes:
        active_rules: The rules, in the order in which a call is compared with them.
        problem_of: Returns why this server cannot apply an effect, empty if it can.
        operations: Names of the operations that at least one of them concerns.
    """

    def __init__(self, seed: int, codes: Iterable[int] = (), success: int = 200) -> None:
        self._seed = seed
        self._codes, self._success = frozenset(codes), success
        self.active_rules: list[ActiveRule] = []
        self.problem_of: Callable[[Effect], str] = lambda _: ""
        self.operations: set[str] = set()
        # The places and rules for the calls of an operation in a space, or in any space under the name "".
        self._of_calls: dict[tuple[str, str], list[tuple[int, ActiveRule]]] = {}
        self._scopes: set[str] = set()
        self._request_rules: OrderedDict[tuple[RuleSource, str, str], ActiveRule] = OrderedDict()
        self._request_rules_of: defaultdict[str, set[tuple[RuleSource, str, str]]] = defaultdict(set)
        self._last_number = 0

    def __iter__(self) -> Iterator[ActiveRule]:
        return iter(tuple(self.active_rules))

    def parse(self, text: str) -> Rule:
        """Parse a rule for this server.

        Raises:
            RuleError: The text is not a valid rule, or its code is that of a success.
        """
        rule = parse_rule(text)
        if isinstance(rule.effect, CodeEffect) and rule.effect.code == self._success:
            documented = ", ".join(map(str, sorted(self._codes)))
            raise RuleError(f"{self._success} is the code of a success; use that of an error, such as {documented}")
        if problem := self.problem_of(rule.effect):
            raise RuleError(problem)
        return rule

    def add(self, rules: Iterable[Rule], source: RuleSource, scope: str = "") -> list[ActiveRule]:
        """Activate rules and return them with their numbers.

        Args:
            rules: Rules to add, after those that were added before.
            source: Where they were given.
            scope: Name of the space whose calls they apply to, empty for all.
        """
        first = self._last_number + 1
        added = [self._activate(rule, source, scope, number) for number, rule in enumerate(rules, first)]
        self._last_number += len(added)
        # A rule that is added while a scenario plays would otherwise often be hidden by a rule of the scenario.
        self._set_rules(sorted(self.active_rules + added, key=lambda active: active.source == "scenario"))
        return added

    def replace_added(self, rules: Iterable[tuple[int, str, str]]) -> list[ActiveRule]:
        """Replace the rules of the control API by those of a fleet and return them.

        Args:
            rules: Their numbers, texts and scopes, in their order. Rules that are active already stay the same.
        """
        known = {(each.number, each.scope, each.rule): each for each in self.active_rules if each.source == "control"}
        added = []
        for number, text, scope in rules:
            rule = self.parse(text)
            added.append(known.get((number, scope, rule)) or self._activate(rule, "control", scope, number))
        self._last_number = max([self._last_number, *(each.number for each in added)])
        self._set_rules([*added, *(each for each in self.active_rules if each.source != "control")])
        return added

    def _set_rules(self, rules: list[ActiveRule]) -> None:
        self.active_rules, self._of_calls = rules, {}
        for place, active in enumerate(rules):
            match = active.rule.match
            operations = {match.op} if match.op else active.rule.effect.operations or OPERATIONS
            for operation in operations:
                self._of_calls.setdefault((operation, active.scope or match.space or ""), []).append((place, active))
        self.operations = {operation for operation, _ in self._of_calls}
        self._scopes = {active.scope for active in rules}

    def clear(self, *, source: RuleSource | None = None, scope: str | None = None, number: int | None = None) -> int:
        """Remove the rules that meet all given criteria and return their number.

        Args:
            source: Only rules of this source.
            scope: Only rules of this space.
            number: Only the rule with this number.
        """
        # A space that gives way to a new one is cleared on the path of a call, and has rules of its own rarely.
        if scope is None or scope in self._scopes:
            removed = self._remove(source=source, scope=scope, number=number)
        else:
            removed = 0
        if source is None and number is None:
            # A reset also starts the counts of rules that come with calls afresh.
            if scope is None:
                self._request_rules.clear()
                self._request_rules_of.clear()
            for key in self._request_rules_of.pop(scope, ()) if scope is not None else ():
                del self._request_rules[key]
        return removed

    def _remove(self, *, source: RuleSource | None, scope: str | None, number: int | None) -> int:
        kept = [
            active
            for active in self.active_rules
            if source not in (None, active.source)
            or scope not in (None, active.scope)
            or number not in (None, active.number)
        ]
        removed = len(self.active_rules) - len(kept)
        self._set_rules(kept)
        if not kept:
            self._last_number = 0
        return removed

    def from_request(self, text: str, source: RuleSource, space: str) -> ActiveRule:
        """Return the rule that comes with a call; its counts continue with later calls in the same space.

        Raises:
            RuleError: The text is not a valid rule.
        """
        key = (source, space, text)
        if active := self._request_rules.get(key):
            self._request_rules.move_to_end(key)
            return active
        active = self._request_rules[key] = self._activate(self.parse(text), source, space, 0)
        self._request_rules_of[space].add(key)
        if len(self._request_rules) > _MAX_REQUEST_RULES:
            oldest, _ = self._request_rules.popitem(last=False)
            of_space = self._request_rules_of[oldest[1]]
            of_space.discard(oldest)
            if not of_space:
                del self._request_rules_of[oldest[1]]
        return active

    def find_match(self, context: MatchContext, request_rules: Iterable[ActiveRule]) -> ActiveRule | None:
        """Return the first rule that matches a call, or ``None``.

        Args:
            context: Properties of the call.
            request_rules: Rules that come with the call, which precede the active ones.
        """
        return next((active for active in self.candidates(context, request_rules) if active.matches(context)), None)

    def candidates(self, context: MatchContext, request_rules: Iterable[ActiveRule]) -> Iterator[ActiveRule]:
        """Return the rules to compare a call with, in their order; the arguments are those of :meth:`find_match`."""
        of_space = self._of_calls.get((context.operation, context.space), ())
        of_all = self._of_calls.get((context.operation, ""), ())
        # Only these can match: the rules of other operations and spaces cost nothing.
        active_rules = (active for _, active in merge(of_space, of_all, key=itemgetter(0)))
        return chain(request_rules, active_rules)

    def _activate(self, rule: Rule, source: RuleSource, scope: str, number: int) -> ActiveRule:
        # Each rule draws by itself, so that adding another rule does not change which calls it hits.
        random = Random(f"{self._seed}/{scope}/{rule}")  # noqa: S311 (a seed has to repeat the same faults)
        return ActiveRule(number, rule, source, random, scope)


def rule_in_prompt(prompt: str) -> str | None:
    """Return the text of the first rule that a prompt contains as ``[[fault: RULE]]``, or ``None``."""
    start = prompt.find(_PHRASE_START)
    end = prompt.find(_PHRASE_END, start) if start >= 0 else -1
    return prompt[start + len(_PHRASE_START) : end].strip() if end >= 0 else None
