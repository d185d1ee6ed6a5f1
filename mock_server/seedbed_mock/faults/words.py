"""Words of a rule: how a value is read from text and written back, so that what was written reads as the same."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

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
