"""Fault rules: the text of a rule, such as ``429; p=0.2``, and the value it parses to.

A rule is an effect with its options, followed by conditions after semicolons. ``str(rule)`` gives a text that parses
to an equal rule.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, TypeVar

import jsonschema_rs
import msgspec
from msgspec import Meta

from seedbed_mock.accounts import fingerprint
from seedbed_mock.faults import connection, effects
from seedbed_mock.faults.effects import CodeEffect, Effect

if TYPE_CHECKING:
    from collections.abc import Iterator


LONGEST_RULE = 2000
"""In characters. A header or a prompt can be far longer, and parsing one must not slow down other requests."""

EFFECTS: dict[str, type[Effect]] = {
    effect.name: effect
    for effect in (
        effects.CodeEffect,
        effects.StatusEffect,
        effects.HtmlResponse,
        effects.EmptyResponse,
        effects.WrongMediaType,
        effects.NotJsonResponse,
        effects.OtherShapeResponse,
        effects.NoDataResponse,
        connection.ResetConnection,
        connection.CloseAfterHeaders,
        connection.TruncatedResponse,
        connection.TrickledResponse,
        connection.HangingResponse,
        connection.CloseWithoutResponse,
        effects.Delay,
        effects.FailTask,
        effects.StuckTask,
        effects.SlowTask,
        effects.LateTask,
        effects.LostTask,
        effects.OrphanTask,
        effects.EmptyResultUrl,
        effects.DeadResultUrl,
        effects.ExpiredResult,
        effects.OtherResultSize,
        effects.TruncatedImage,
        effects.NoCallback,
        effects.LateCallback,
        effects.RepeatedCallback,
        effects.OutOfOrderCallback,
        effects.EarlyCallback,
        effects.UnsignedCallback,
        effects.WrongSignatureCallback,
        effects.OtherIdCallback,
        effects.StaleCallback,
        effects.ContradictingCallback,
        effects.RedeliveredCallback,
    )
}
"""Effects by their names, in the order of the documentation."""

OPERATIONS = ("createTask", "recordInfo", "credit", "downloadUrl", "models", "modelSchema")
"""Names of the operations of the service."""

_FINGERPRINT = r"key-[0-9a-f]{12}"
_CODE = r"0|-?[1-9]\d{0,8}"
_SHOWN_LENGTH = 40
_EXAMPLE = '"wire.reset; p=0.2; times=3"'

_BARE = r"[^\s,;=\"\[\]]+"
_QUOTED = r'"(?:[^"\\\x00-\x1f]|\\.)*"'
_GAP = r"[\s,]*"
_WORD = re.compile(rf"{_GAP}(?:({_BARE})(?:=({_QUOTED}|{_BARE}))?){_GAP}")

# In bytes. With the default limit, compiling a pattern of 20 characters can take 0.2 s.
_PATTERN_LIMITS = jsonschema_rs.RegexOptions(size_limit=256 * 1024, dfa_size_limit=256 * 1024)

_Struct = TypeVar("_Struct", bound=msgspec.Struct)

_Count = Annotated[int, Meta(ge=1, le=10**9)]
_Moment = Annotated[float, Meta(ge=0, le=10**9)]
_Short = Annotated[str, Meta(min_length=1, max_length=500)]


class RuleError(ValueError):
    """The text of a rule is invalid; the message says what is wrong with it and what is valid."""


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """The conditions of a rule; a condition that is ``None`` is met by every call.

    Attributes:
        op: Name of the operation.
        space: Name of the space.
        key: Fingerprint of the key; the text of a rule may give the key itself.
        model: Name of the model.
        prompt: Text that the prompt contains.
        prompt_like: Regular expression that is found in the prompt.
        nth: Only the n-th call that meets the conditions above.
        every: Every n-th call that meets the conditions above.
        p: Share of the calls, drawn with the seed of the server.
        times: Largest number of calls that the rule applies to.
        since: Seconds after the start of the server, by its clock, from which on the rule applies.
        until: Seconds after the start of the server, by its clock, until which the rule applies.
    """

    op: str | None = None
    space: _Short | None = None
    key: _Short | None = None
    model: _Short | None = None
    prompt: _Short | None = None
    prompt_like: _Short | None = None
    nth: _Count | None = None
    every: _Count | None = None
    p: Annotated[float, Meta(ge=0, le=1)] | None = None
    times: _Count | None = None
    since: _Moment | None = None
    until: _Moment | None = None

    def __post_init__(self) -> None:
        if self.op is not None and self.op not in OPERATIONS:
            raise ValueError(f"unknown operation {_quoted(self.op)}; valid operations: {', '.join(OPERATIONS)}")
        if self.prompt_like is not None:
            compile_pattern(self.prompt_like)


class Rule(msgspec.Struct, frozen=True):
    """An effect and the conditions under which it applies.

    Attributes:
        effect: What changes.
        match: Which calls it applies to.
    """

    effect: Effect
    match: Match = Match()

    def __str__(self) -> str:
        if isinstance(self.effect, CodeEffect):
            name, options = str(self.effect.code), [each for each in _changed_fields(self.effect) if each[0] != "code"]
        else:
            name, options = self.effect.name, _changed_fields(self.effect)
        effect = " ".join([name, *(f"{option}={value}" for option, value in options)])
        return "; ".join([effect, *(f"{condition}={value}" for condition, value in _changed_fields(self.match))])


def parse_rule(text: str) -> Rule:
    """Parse the text of a rule.

    Raises:
        RuleError: The text is not a valid rule.
    """
    first, *others = _segments(text)
    if not first or first[0][1] is not None:
        raise RuleError(f"a rule must start with an effect, as in {_EXAMPLE}; valid effects: {_effect_names()}")
    effect = _effect(first[0][0], _values(first[1:], "option"))
    conditions = _values([word for words in others for word in words], "condition")
    if "key" in conditions and not re.fullmatch(_FINGERPRINT, conditions["key"]):
        # Rules appear in lists, headers and the journal, where no key may be readable.
        conditions["key"] = fingerprint(conditions["key"])
    match = _match(conditions, effect)
    if match.op and effect.operations and match.op not in effect.operations:
        valid = " or ".join(f"op={name}" for name in sorted(effect.operations))
        raise RuleError(f"{effect.name} cannot apply to op={match.op}; use {valid} or leave out the condition")
    return Rule(effect, match)


def starts_like_rule(text: str) -> bool:
    """Return whether a text starts with an effect, so that an error in the rest should be reported."""
    name = re.split(r"[\s,;]", text.strip(), maxsplit=1)[0]
    return name in EFFECTS or bool(re.fullmatch(rf"\d{{3}}|{_CODE}|(?:answer|wire|task|result|callback)\..*", name))


def format_value(value: str) -> str:
    """Return a value as the text of a rule has it, in printable ASCII, so that it can be sent in a header."""
    is_bare = value.isascii() and value.isprintable() and re.fullmatch(_BARE, value)
    # json.dumps leaves DEL as it is, which no header may contain.
    return value if is_bare else json.dumps(value).replace("\x7f", "\\u007f")


# Compiling takes far longer than matching, and rules hold only the text of a pattern. All active rules find room.
@lru_cache(2048)
def compile_pattern(pattern: str) -> jsonschema_rs.Draft202012Validator:
    """Return a validator that accepts the texts in which a regular expression is found.

    Matching takes time linear in the length of the text. Python's ``re`` backtracks, so that a rule could block the
    server.

    Raises:
        ValueError: The pattern is invalid, needs backtracking or is too large.
    """
    try:
        return jsonschema_rs.Draft202012Validator(
            {"type": "string", "pattern": pattern}, pattern_options=_PATTERN_LIMITS
        )
    except (ValueError, jsonschema_rs.ValidationError) as error:
        raise ValueError(
            f"invalid regular expression {_quoted(pattern)}; look-around, back-references and large repetitions are"
            " not supported, because matching must take linear time"
        ) from error


def _segments(text: str) -> Iterator[list[tuple[str, str | None]]]:
    """Yield the parts of a rule between semicolons, each as names with their values, ``None`` for no value."""
    if len(text) > LONGEST_RULE:
        raise RuleError(f"the rule has {len(text)} characters; use at most {LONGEST_RULE}")
    position = 0
    while True:
        words: list[tuple[str, str | None]] = []
        while match := _WORD.match(text, position):
            words.append((match[1], None if match[2] is None else _unquoted(match[2])))
            position = match.end()
        yield words
        if position == len(text):
            return
        if text[position] != ";":
            raise RuleError(
                f"the rule cannot be parsed from {text[position : position + 20]!r} on; write an effect and conditions,"
                f" as in {_EXAMPLE}, and put values with spaces in double quotes"
            )
        position += 1


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        value: str = json.loads(text)
        value.encode()
    except UnicodeEncodeError as error:
        raise RuleError(f"the value {text[:20]} contains half a surrogate pair; write both halves") from error
    except ValueError as error:
        raise RuleError(f"the value {text[:20]} is not a valid JSON string") from error
    return value


def _values(words: list[tuple[str, str | None]], kind: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in words:
        if value is None:
            raise RuleError(f"the {kind} {_quoted(name)} has no value; write {name[:40]}=VALUE")
        if name in values:
            raise RuleError(f"the {kind} {_quoted(name)} is given twice; give it once")
        values[name] = value
    return values


def _effect(name: str, options: dict[str, str]) -> Effect:
    is_code = bool(re.fullmatch(_CODE, name))
    kind = CodeEffect if is_code else EFFECTS.get(name)
    if kind is None or name == CodeEffect.name:
        raise RuleError(f"unknown effect {_quoted(name)}; valid effects: {_effect_names()}")
    if is_code and "code" in options:
        raise RuleError(f"the code is already {name}; remove code=")
    valid = [option for option in _field_names(kind) if not (is_code and option == "code")]
    if unknown := next((option for option in options if option not in valid), None):
        hint = f"valid options: {', '.join(valid)}" if valid else "it has no options"
        if unknown in _field_names(Match):
            hint = f'conditions follow a semicolon: "{name}; {unknown}={format_value(options[unknown])}"'
        raise RuleError(f"unknown option {_quoted(unknown)} for {name}; {hint}")
    return _convert({**options, "code": name} if is_code else options, kind)


def _match(conditions: dict[str, str], effect: Effect) -> Match:
    valid = _field_names(Match)
    if unknown := next((name for name in conditions if name not in valid), None):
        hint = f"valid conditions: {', '.join(valid)}"
        if unknown in _field_names(type(effect)):
            hint = f'options precede the semicolon: "{effect.name} {unknown}={format_value(conditions[unknown])}"'
        raise RuleError(f"unknown condition {_quoted(unknown)}; {hint}")
    return _convert(conditions, Match)


def _convert(values: dict[str, str], kind: type[_Struct]) -> _Struct:
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        problem, _, name = str(error).removesuffix("`").partition(" - at `$.")
        if name not in values:
            raise RuleError(problem) from error  # raised by __post_init__ with a complete message
        raise RuleError(f"invalid value {_quoted(values[name])} for {name}; {_hint(kind, name, problem)}") from error


def _hint(kind: type[msgspec.Struct], name: str, problem: str) -> str:
    """Return what to write instead, from a message of msgspec such as ``Expected `float` <= 1.0``."""
    expected = re.fullmatch(r"Expected `(\w+)(?: \| null)?`(.*?)(?:, got .*)?", problem)
    if expected:
        words = {"int": "a whole number", "float": "a number", "str": "text"}
        return f"use {words.get(expected[1], expected[1])}{expected[2]}"
    field = next(field for field in msgspec.structs.fields(kind) if field.encode_name == name)
    info = msgspec.inspect.type_info(field.type)
    return (
        f"valid values: {', '.join(map(str, info.values))}"
        if isinstance(info, msgspec.inspect.LiteralType)
        else problem
    )


def _effect_names() -> str:
    return ", ".join(["a code such as 429", *(name for name in EFFECTS if name != CodeEffect.name)])


def _field_names(kind: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind)]


def _changed_fields(struct: msgspec.Struct) -> list[tuple[str, str]]:
    """Return the fields that differ from their defaults, with values as the text of a rule has them."""
    changed = []
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if value != field.default:
            # Beyond 10**15 a float has no exact decimal form, so that ":.0f" would write another number.
            is_whole = isinstance(value, float) and value.is_integer() and value < 10**15
            changed.append((field.encode_name, format_value(f"{value:.0f}" if is_whole else str(value))))
    return changed


def _quoted(text: str) -> str:
    return json.dumps(text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}...")
