"""Why a call was refused: the clause, the field, the handler, and the fault rules that applied or nearly did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta
from seedbed_schemas import job_api, shipped_contracts

from seedbed_mock.agents.answers import one_line
from seedbed_mock.faults.rules import RuleError, compile_pattern, parse_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from seedbed_schemas import Contract

    from seedbed_mock.faults.rules import Rule


_SHOWN_RULES = 5
_SEVERAL = 1
"""A rule with more unmet conditions than this has not nearly matched."""

_COUNTED = ("nth", "every", "times", "p", "since", "until")


class BrokenClause(msgspec.Struct, omit_defaults=True):
    """A statement of the contract that a request breaks."""

    clause: Annotated[str, Meta(description="ID of the clause; pass it to explain.")]
    field: Annotated[str, Meta(description="Field of the request.")]
    demand: Annotated[str, Meta(description="What the contract demands of it.")] = ""


class RuleCase(msgspec.Struct, omit_defaults=True):
    """An active fault rule, and what keeps it from a call."""

    number: Annotated[int, Meta(description="Number of the rule.")]
    rule: Annotated[str, Meta(description="Its text.")]
    unmet: Annotated[list[str], Meta(description="Conditions that the call does not meet.")] = []
    counted: Annotated[str, Meta(description="Conditions that depend on counts, time or chance.")] = ""


def broken_clauses(entry: Mapping[str, Any], contracts: Mapping[str, Contract]) -> list[BrokenClause]:
    """Return the clauses that the request of a journal entry breaks, as its contract states them."""
    contract = contracts.get(model_of(entry)) or next(iter(contracts.values()))
    known = {each.id: each for each in contract.clauses()}
    found = []
    for name in entry["violations"]:
        clause = known.get(name)
        demand = f"{clause.kind} {one_line(msgspec.json.encode(clause.value).decode(), 120)}" if clause else ""
        # The texts of a contract that is not of Seedbed are those of a foreign page.
        if clause and contract not in shipped_contracts() and not isinstance(clause.value, int | float):
            demand = f"{clause.kind}, as untrusted.reason says"
        field, _, rest = name.partition("/")
        keyword, _, missing = rest.partition("/")
        field = f"{field}.{missing}" if keyword == "required" and missing else field
        found.append(BrokenClause(one_line(name, 120), one_line(field, 80), demand))
    return found


def model_of(entry: Mapping[str, Any]) -> str:
    """Return the model that the request of a journal entry names, empty if it names none."""
    request = entry["request"]
    model = request.get(job_api().fields.model) if isinstance(request, dict) else None
    return model if isinstance(model, str) else ""


def near_rules(entry: Mapping[str, Any], faults: Iterable[Mapping[str, Any]]) -> list[RuleCase]:
    """Return the active rules that nearly apply to the call of a journal entry, the nearest first."""
    cases = []
    for fault in faults:
        if f"rule {fault['number']}," in entry["fault"]:
            continue  # it applied
        try:
            rule = parse_rule(fault["rule"])
        except RuleError:
            continue  # a rule of a later version
        unmet = [*_unmet(rule, fault, entry)]
        if len(unmet) <= _SEVERAL:
            cases.append(RuleCase(fault["number"], fault["rule"], unmet, _counted(rule, fault)))
    return sorted(cases, key=lambda case: len(case.unmet))[:_SHOWN_RULES]


def _unmet(rule: Rule, fault: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[str]:
    match, operations, called = rule.match, rule.effect.operations, entry["operation"]
    if not fault["on"]:
        yield "the rule is not active in the current phase of its scenario"
    if (operations and called not in operations) or match.op not in (None, called):
        yield f"the call is {called}, and the rule is for {match.op or ' or '.join(sorted(operations))}"
    if fault["space"] not in (None, entry["space"]) or match.space not in (None, entry["space"]):
        yield f"space={match.space or fault['space']}: the call is in the space {entry['space']}"
    if match.key not in (None, entry["account"]):
        yield f"key={match.key}: the call has another key"
    if match.model not in (None, model_of(entry)):
        yield f"model={match.model}: the call names another model"
    request = entry["request"]
    values = request.get(job_api().fields.input) if isinstance(request, dict) else None
    # All texts of the input, as the conditions of rules see them.
    prompt = "\n".join(
        str(text) for text in (values.values() if isinstance(values, dict) else ()) if isinstance(text, str)
    )
    if match.prompt is not None and match.prompt not in prompt:
        yield "prompt: the texts of the input do not contain it"
    if match.prompt_like is not None and not compile_pattern(match.prompt_like).is_valid(prompt):
        yield "prompt-like: it is not found in the texts of the input"


def _counted(rule: Rule, fault: Mapping[str, Any]) -> str:
    """Return the conditions of which the journal does not show whether a call meets them."""
    named = [f"{name}={value:g}" for name in _COUNTED if (value := getattr(rule.match, name)) is not None]
    return f"{', '.join(named)}; seen {fault['seen']}, hits {fault['hits']}" if named else ""
