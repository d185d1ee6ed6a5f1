"""The words by which pages of the vendor's make mark their facts, in Chinese and in English: ``lexicon.json``."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Final

LIMITS: Final = (
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "multipleOf",
)
"""What a label may mean that is followed by a number: JSON Schema keywords."""

COLUMNS: Final = ("name", "type", "location", "required", "default", "description")
"""What a column of a table of fields may mean."""

LABELS: Final = (*LIMITS, "options", "example", "codes", "range", "array length", "pattern", "deprecated", "prose")
"""What a label in the description of a field may mean."""

OPERATION: Final = ("method", "path")
"""What a label outside the fields may mean."""

PROPERTIES: Final = re.compile(
    r"(?P<field>[^\s的]+?)(?:\[\])?\s*(?:的?(?:对象)?属性|(?:object )?properties)"
    r"|properties of (?P<of>[^\s]+?)(?:\[\])?",
    re.IGNORECASE,
)
"""A heading above what is inside a field."""

BODY: Final = re.compile(r"(?:Body|请求体)\s*[(（](?P<media>[\w/+.-]+)[)）]", re.IGNORECASE)
"""A heading above the fields of the body, with the media type in which it travels."""


def means(word: str, *concepts: str) -> str:
    """Return the first of the concepts that the word stands for, or an empty string."""
    plain = word.strip().rstrip(":：").strip().casefold()
    return next((concept for concept in concepts if plain in _words()[concept]), "")


def words(concept: str) -> str:
    """Return the words for a concept as a message may show them, the Chinese one first."""
    known = _words()[concept]
    chosen = [next(iter(known)), next((word for word in known if word.isascii()), "")]
    return " or ".join(repr(known[word]) for word in dict.fromkeys(chosen) if word)


@cache
def _words() -> dict[str, dict[str, str]]:
    """Each concept with its words, folded, and as the file has them."""
    text = Path(__file__).with_name("lexicon.json").read_text(encoding="utf-8")
    return {concept: {word.casefold(): word for word in listed} for concept, listed in json.loads(text).items()}
