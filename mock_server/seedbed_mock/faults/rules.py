"""Words of a rule: how a value is read from text and written back, so that what was written reads as the same."""

from __future__ import annotations

import json
import re
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
"""In characters."""

_BARE = r"[^\s,;=\"\[\]]+"
_QUOTED = r'"(?:[^"\\\x00-\x1f]|\\.)*"'
_GAP = r"[\s,]*"
_WORD = re.compile(rf"{_GAP}(?:({_BARE})(?:=({_QUOTED}|{_BARE}))?){_GAP}")


class RuleError(ValueError):
    """A text is no rule; the message is one sentence that says what was expected."""


def segments(text: str) -> Iterator[list[tuple[str, str | None]]]:
    """Yield the parts of a rule between semicolons, each as its words: names, with values where they have some.

    Raises:
        RuleError: The text cannot be read.
    """
    if len(text) > LONGEST_RULE:
        raise RuleError(f"A rule is at most {LONGEST_RULE} characters long, not {len(text)}.")
    place = 0
    while True:
        words: list[tuple[str, str | None]] = []
        while match := _WORD.match(text, place):
            words.append((match[1], None if match[2] is None else _value(match[2])))
            place = match.end()
        yield words
        if place == len(text):
            return
        if text[place] != ";":
            raise RuleError(
                f"A rule is an effect and conditions, such as wire.reset; p=0.2; times=3, but from"
                f" {text[place : place + 20]!r} on it cannot be read; values with spaces stand in double quotes."
            )
        place += 1


def _value(written: str) -> str:
    if not written.startswith('"'):
        return written
    try:
        value: str = json.loads(written)
    except ValueError as error:
        raise RuleError(f"The text {written[:20]} is no JSON string.") from error
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RuleError(f"The text {written[:20]} holds half a character.") from error
    return value


def written(value: str) -> str:
    """Return a value as it stands in a rule, in visible ASCII, so that it can travel in a header."""
    is_plain = value.isascii() and value.isprintable() and re.fullmatch(_BARE, value)
    return value if is_plain else json.dumps(value).replace("\x7f", "\\u007f")


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
        connection.UnrequestedResponse,
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
"""In the order in which they are documented."""


_OPERATIONS = ("createTask", "recordInfo", "credit", "downloadUrl", "models", "modelSchema")
_FINGERPRINT = r"key-[0-9a-f]{12}"

_Struct = TypeVar("_Struct", bound=msgspec.Struct)

_Count = Annotated[int, Meta(ge=1, le=10**9)]
_Moment = Annotated[float, Meta(ge=0, le=10**9)]
_Short = Annotated[str, Meta(min_length=1, max_length=500)]


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """When a rule applies, and to whom; what is not told does not matter.

    Attributes:
        op: Name of the operation.
        space: Name of the space.
        key: Key, or its fingerprint, which is what is kept.
        model: Name of the model.
        prompt: Text that the prompt contains.
        prompt_like: Regular expression that the prompt matches somewhere.
        nth: The n-th call that all this applies to, and no other.
        every: Every n-th such call.
        p: Share of such calls, drawn with the seed.
        times: At most so often.
        since: Not before, in seconds of the clock since the server began.
        until: No more from then on, in seconds of the clock since the server began.
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
        if self.op is not None and self.op not in _OPERATIONS:
            raise ValueError(f"op is one of {', '.join(_OPERATIONS)}, not {self.op}")
        if self.prompt_like is not None:
            expression(self.prompt_like)


class Rule(msgspec.Struct, frozen=True):
    """What goes wrong, and when.

    Attributes:
        effect: What goes wrong.
        match: When, and for whom.
    """

    effect: Effect
    match: Match = Match()

    def __str__(self) -> str:
        name = str(self.effect.code) if isinstance(self.effect, CodeEffect) else self.effect.name
        told = _told(self.effect, leave_out=isinstance(self.effect, CodeEffect))
        return "; ".join([" ".join([name, *told]), *_told(self.match)])


def parse_rule(text: str) -> Rule:
    """Read a rule.

    Raises:
        RuleError: The text is no rule.
    """
    first, *others = segments(text)
    if not first or first[0][1] is not None:
        raise RuleError(f"A rule begins with what goes wrong, such as 429 or wire.reset; known are {_known()}.")
    effect = _effect(first[0][0], first[1:])
    conditions = _values([word for words in others for word in words], "condition")
    if "key" in conditions and not re.fullmatch(_FINGERPRINT, conditions["key"]):
        conditions["key"] = fingerprint(conditions["key"])
    match = _made(Match, conditions, "A condition")
    if match.op and effect.operations and match.op not in effect.operations:
        raise RuleError(f"{effect.name} goes with op={' or op='.join(sorted(effect.operations))} only.")
    return Rule(effect, match)


def is_begun(text: str) -> bool:
    """Tell whether a text begins as a rule does, so that what is wrong with the rest is worth telling."""
    name = re.split(r"[\s,;]", text.strip(), maxsplit=1)[0]
    return name in EFFECTS or bool(re.fullmatch(r"\d{3}|(?:answer|wire|task|result|callback)\..*", name))


def _effect(name: str, words: list[tuple[str, str | None]]) -> Effect:
    values = _values(words, "detail")
    if re.fullmatch(r"[1-9]\d{2}", name):
        if "code" in values:
            raise RuleError(f"The code is {name} already; leave out code=.")
        return _made(CodeEffect, {**values, "code": name}, name)
    kind = EFFECTS.get(name)
    if kind is None or kind is CodeEffect:
        raise RuleError(f"There is no fault {name[:40]}; known are {_known()}.")
    return _made(kind, values, name)


def _known() -> str:
    return ", ".join(["a code such as 429", *(name for name in EFFECTS if name != "CODE")])


def _values(words: list[tuple[str, str | None]], what: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in words:
        if value is None:
            raise RuleError(f"The {what} {name[:40]} has no value; write {name[:40]}=VALUE.")
        if name in values:
            raise RuleError(f"The {what} {name[:40]} stands twice; once is enough.")
        values[name] = value
    return values


def _made(kind: type[_Struct], values: dict[str, str], what: str) -> _Struct:
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        names = ", ".join(field.encode_name for field in msgspec.structs.fields(kind)) or "nothing"
        problem = re.sub(r"Object contains unknown field", "unknown is", str(error)).replace(" - at `$.", " in `")
        raise RuleError(f"{what} cannot be told so ({problem}); it takes {names}.") from error


def _told(struct: msgspec.Struct, *, leave_out: bool = False) -> list[str]:
    """Return what is told to an effect or a match, beyond what is so anyway."""
    told = []
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if value != field.default and not (leave_out and field.name == "code"):
            told.append(f"{field.encode_name}={written(_text(value))}")
    return told


def _text(value: object) -> str:
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() and value < 10**15 else str(value)


def expression(pattern: str) -> jsonschema_rs.Draft202012Validator:
    """Return what tells whether a text matches a regular expression somewhere, in a time linear in its length.

    Raises:
        ValueError: It is no regular expression, or one that no machine can match in linear time.
    """
    try:
        return jsonschema_rs.Draft202012Validator(
            {"type": "string", "pattern": pattern}, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (ValueError, jsonschema_rs.ValidationError) as error:
        raise ValueError(f"{pattern[:40]} is no regular expression that can be matched in linear time") from error
