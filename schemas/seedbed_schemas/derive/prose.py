"""Limits that stand only in the prose of a page: told as notes, never taken as rules."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from seedbed_schemas.derive.facts import Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from seedbed_schemas.derive.facts import Place, Rule


def notes(lines: Iterable[str], rules: Mapping[str, Rule], place: Place) -> tuple[Note, ...]:
    """Return the limits that the lines tell and that no rule states with the same value, each once."""
    found = {
        (keyword, int(match[1].replace(",", ""))): None
        for line in lines
        for keyword, pattern in _patterns()
        for match in pattern.finditer(line)
    }
    return tuple(
        Note(keyword, value, place)
        for keyword, value in found
        if not (keyword in rules and rules[keyword].value == value)
    )


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    text = Path(__file__).with_name("prose.json").read_text(encoding="utf-8")
    return tuple((row["keyword"], re.compile(row["pattern"], re.IGNORECASE)) for row in json.loads(text))
