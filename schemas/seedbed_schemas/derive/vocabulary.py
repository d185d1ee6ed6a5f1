"""The words by which pages in Chinese and English mark facts, and the patterns of limits that only prose states.

``lexicon.json`` maps words to concepts, which are JSON Schema keywords and names such as ``options``; ``prose.json``
has the patterns. A further wording is one entry in one of these files.
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


LIMITS: Final = ("minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "multipleOf")
"""Concepts of labels that are followed by a number: JSON Schema keywords."""

COLUMNS: Final = ("name", "type", "location", "required", "default", "description")
"""Concepts of the columns of a table of fields."""

RANGES: Final = {
    "range": ("minimum", "maximum"),
    "array length": ("minItems", "maxItems"),
    "string length": ("minLength", "maxLength"),
}
"""Concepts of labels that are followed by two numbers, with the keywords of these."""

LABELS: Final = (*LIMITS, "options", "example", "codes", *RANGES, "pattern", "deprecated", "prose")
"""Concepts of labels in the description of a field; each may also be the heading of a column."""

OPERATION: Final = ("method", "path", "model name")
"""Concepts of labels outside the fields."""

BODY: Final = re.compile(
    r"(?:Request\s+)?(?:Body|请求体)(?:\s*参数)?\s*[(（]\s*(?P<media>[\w.+-]+/[\w.+-]+)\s*[)）]", re.IGNORECASE
)
"""A heading above the fields of the body, with its media type."""

_FOLDER: Final = Path(__file__).parent
_LEXICON: Final[dict[str, list[str]]] = json.loads((_FOLDER / "lexicon.json").read_text(encoding="utf-8"))
_NUMBERING: Final = re.compile(
    r"(?:\d{1,3}(?:\.\d{1,3}){1,3}\s+|第?[\d一二三四五六七八九十]{1,3}(?:\.\d{1,3}){0,3}[.、)）步章节]+\s*)+"
)
_REMARK: Final = re.compile(r"\s*[(（][^()（）]{0,60}[)）]\s*")
_BLANK_IN_CHINESE: Final = re.compile(r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])")


@lru_cache(maxsize=4096)
def plain(word: str) -> str:
    """Return a word without the differences that make no difference: width, case, marks, blanks and a final colon."""
    folded = unicodedata.normalize("NFKC", word).casefold().strip(" \t*_`")
    return _BLANK_IN_CHINESE.sub("", re.sub(r"\s+", " ", folded.rstrip(": ")).strip(" *_`"))


_WORDS: Final[dict[str, frozenset[str]]] = {
    concept: frozenset(map(plain, words)) for concept, words in _LEXICON.items()
}


@lru_cache(maxsize=4096)
def match_concept(word: str, *concepts: str) -> str:
    """Return the first of these concepts that the word denotes, or an empty string.

    The number of a heading and a remark in brackets at its end are ignored.
    """
    whole = plain(word)
    without_remark = plain(_REMARK.sub(" ", whole))
    for form in dict.fromkeys((whole, without_remark, plain(_NUMBERING.sub("", without_remark)))):
        found = next((concept for concept in concepts if form in _WORDS[concept]), "")
        if found and (form or not whole):
            return found
    return ""


def words_for(concept: str) -> str:
    """Return the first word for a concept and the first English one, quoted for an error message."""
    words = _LEXICON[concept]
    chosen = [words[0], next((word for word in words if word.isascii()), "")]
    return " or ".join(repr(word) for word in dict.fromkeys(chosen) if word)


# --- headings --------------------------------------------------------------------------------------------------------


_PROPERTIES: Final = re.compile(
    r"`?(?P<field>[A-Za-z_][\w.\-\[\]]*?)(?:\[\])?`?\s*(?:"
    r"(?P<strict>的?(?:对象|数组)?(?:属性|结构|子属性)(?:说明)?"
    r"|(?:(?:object |array )?(?:parameters|fields) )?(?:object |array |item )?"
    r"(?:properties|shape|structure|attributes))"
    r"|的?(?:(?:对象|数组)(?:参数|字段)?|参数|字段)(?:说明|详情|列表)?"
    r"|(?:object|array)(?: parameters| fields)?|parameters|params|fields)"
    r"|(?:properties|fields|parameters) of `?(?P<of>[^\s`]+?)(?:\[\])?`?"
    r"|[^()（）]{0,20}(?:参数|对象|字段|属性|parameters|object|fields)[^()（）]{0,6}[(（]\s*(?P<inside>[A-Za-z_][\w.]*)\s*[)）]",
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"[A-Za-z_$][\w$-]*(?:\[\])?(?:\.[A-Za-z_$][\w$-]*(?:\[\])?)*")


class Announcement(NamedTuple):
    """A heading that announces the properties of a field.

    Attributes:
        field: Path of the field.
        is_certain: Whether the words mean nothing else; ``NAME parameters`` may be any heading.
    """

    field: str
    is_certain: bool


def announcement(heading: str) -> Announcement | None:
    """Return the field whose properties a heading announces, or ``None``."""
    text = _NUMBERING.sub("", heading.strip().rstrip(":：").strip())
    match = _PROPERTIES.fullmatch(text)
    if not match:
        return None
    field = str(match["of"] or match["field"] or match["inside"])
    return Announcement(field.replace("[]", ""), bool(match["strict"] or match["of"]))


def is_field_name(text: str) -> bool:
    """Return whether a text can be the name or the dotted path of a field."""
    return bool(_NAME.fullmatch(text))


# --- labels inside running text --------------------------------------------------------------------------------------


_INLINE_CONCEPTS: Final = (*LIMITS, "options", *RANGES, "default", "example")


def _alternatives(*concepts: str) -> str:
    words = {word for concept in concepts for word in _LEXICON[concept] if word}
    return "|".join(re.escape(word).replace(r"\ ", r"\s") for word in sorted(words, key=lambda word: -len(word)))


_PLAIN_LABEL: Final = re.compile(
    rf"[-*•·]?\s*(?P<label>{_alternatives(*LABELS, *COLUMNS[1:])})\s*[:：]\s*(?P<text>.*)", re.IGNORECASE | re.DOTALL
)
_INLINE_LABEL: Final = re.compile(
    rf"(?:^|(?<=[。.;；,，、(（!！:：\s]))(?P<label>{_alternatives(*_INLINE_CONCEPTS)})\s?[:：]\s?", re.IGNORECASE
)
_SENTENCE_END: Final = re.compile(r"[。；;)）\n]|\.(?=\s|$)|[,，](?=\s?\D)")


def plain_label(text: str) -> tuple[str, str] | None:
    """Return the label at the start of a line without bold text, and what follows its colon."""
    match = _PLAIN_LABEL.fullmatch(text)
    return (match["label"], match["text"].strip()) if match else None


def inline_labels(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield the statements inside a sentence: concept, label and value.

    A value ends with the sentence, the bracket or the next statement; a list of options may contain commas.
    """
    matches = list(_INLINE_LABEL.finditer(text))
    for match, after in zip(matches, [*matches[1:], None], strict=False):
        concept = match_concept(match["label"], *_INLINE_CONCEPTS)
        value = text[match.end() : after.start() if after else len(text)]
        ends = (end for end in _SENTENCE_END.finditer(value) if concept != "options" or end[0] not in ",，")
        end = next(ends, None)
        yield concept, match["label"], value[: end.start() if end else len(value)].strip(" \t,，;；、")


# --- limits in prose -------------------------------------------------------------------------------------------------


_PROSE_PATTERNS: Final = tuple(
    (row, re.compile(row["pattern"], re.IGNORECASE))
    for row in json.loads((_FOLDER / "prose.json").read_text(encoding="utf-8"))
)


def limits_in_prose(text: str, json_type: Any) -> Iterator[tuple[str, int | float]]:
    """Yield the limits that a sentence states: keyword and value.

    Args:
        text: The sentence.
        json_type: Type of the described field. A limit that does not apply to it is about something else.
    """
    types = {json_type} if isinstance(json_type, str) else set(json_type or ())
    taken = list[tuple[int, int]]()
    for row, pattern in _PROSE_PATTERNS:
        if types and not types & set(row["types"]):
            continue
        for match in pattern.finditer(text):
            # The first pattern that reads a number explains it.
            if not any(start < match.end() and match.start() < end for start, end in taken):
                taken.append(match.span())
                for keyword, number in zip(row["keywords"], match.groups(), strict=True):
                    value = float(number.replace(",", ""))
                    yield keyword, int(value) if value.is_integer() else value
