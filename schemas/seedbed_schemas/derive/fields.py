"""Makes fields of the entries of a Markdown page: what its cells and labelled lines say, as rules."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.derive import lexicon
from seedbed_schemas.derive.facts import Field, PageError, Rule
from seedbed_schemas.derive.kinds import Kind, is_of, read_kind, read_number, read_value
from seedbed_schemas.derive.prose import notes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seedbed_schemas.derive.document import Segment
    from seedbed_schemas.derive.entries import Entry

_MAY_HAVE_FRACTIONS: Final = frozenset({"minimum", "maximum", "multipleOf"})
_RANGE: Final = re.compile(r"(?P<low>-?[\d.,]{1,20})\s?(?:<=\s?\w{1,20}\s?<=|-|~|to|至)\s?(?P<high>-?[\d.,]{1,20}).*")
_RANGES: Final = {"range": ("minimum", "maximum"), "array length": ("minItems", "maxItems")}
_OF_THE_WHOLE: Final = frozenset({"minItems", "maxItems", "default", "deprecated"})
"""What is said of an array itself; everything else is said of its items."""


def read_fields(entries: Iterable[Entry], what: str, unread: list[str]) -> tuple[Field, ...]:
    """Make fields of entries, those inside a field with it.

    Args:
        entries: The entries of one part of the page.
        what: The part, for messages.
        unread: Takes what is understood as neither fact nor prose.

    Raises:
        PageError: The entries contradict themselves, or there are none.
    """
    inner = dict[str, list[Field]]()
    for entry in entries:
        inner.setdefault(entry.parent, []).append(_field(entry, unread))
    if not inner.get(""):
        raise PageError(f"The page has no table or list of the fields of {what}.")
    names = {field.name for fields in inner.values() for field in fields}
    if strays := {parent for parent in inner if parent.rpartition(".")[2] not in names and parent}:
        raise PageError(f"The page describes the properties of {min(strays)!r}, but nothing names that field.")
    return tuple(_nest(field, inner, field.name) for field in inner.pop(""))


def code_lines(segments: Iterable[Segment]) -> Iterator[tuple[int, Segment]]:
    """Yield the codes of the list that follows the label of the code list."""
    inside = False
    for segment in segments:
        number = re.match(r"[-*\s]*(\d{3,5})\b", segment.label or segment.text)
        inside = bool(lexicon.means(segment.label, "codes")) or (inside and (bool(number) or not segment.label))
        if inside and number:
            yield int(number[1]), segment


def _nest(field: Field, inner: dict[str, list[Field]], path: str) -> Field:
    """Put into a field what stands under its path, or under its name alone."""
    key = path if path in inner else field.name
    others = {parent: fields for parent, fields in inner.items() if parent != key}
    fields = tuple(_nest(child, others, f"{path}.{child.name}") for child in inner.get(key, ()))
    if field.items:
        items = Field("", field.items.rules, fields=fields)
        return Field(field.name, field.rules, field.required, items=items, notes=field.notes)
    return Field(field.name, field.rules, field.required, fields, notes=field.notes)


def _field(entry: Entry, unread: list[str]) -> Field:
    kind = read_kind(entry.text("type"), entry.name)
    rules, of_items = _typed(kind, entry), _typed(kind.items, entry) if kind.items else {}
    for keyword, rule in _described(entry, kind, unread):
        (of_items if kind.items and keyword not in _OF_THE_WHOLE else rules)[keyword] = rule
    if not lexicon.means(entry.text("default"), "no default"):
        rules["default"] = Rule(read_value(entry.text("default"), kind, entry.name), entry.at("default"))
    if (kind.items or kind).one_of and "enum" not in (rules | of_items):
        raise PageError(f"The page says that {entry.name!r} is one of a set, but lists no {lexicon.words('options')}.")
    prose = [line.text for line in entry.cells["description"].segments if not _concept(line)]
    told = notes(prose, rules | of_items, entry.at("description"))
    return Field(entry.name, rules, _required(entry), items=Field("", of_items) if kind.items else None, notes=told)


def _typed(kind: Kind, entry: Entry) -> dict[str, Rule]:
    place = entry.at("type")
    return {"type": Rule(kind.type, place)} | ({"format": Rule(kind.format, place)} if kind.format else {})


def _required(entry: Entry) -> Rule | None:
    if "required" not in entry.cells:
        return None
    text = entry.text("required")
    if not (answer := lexicon.means(text, "yes", "no")):
        words = f"{lexicon.words('yes')}, {lexicon.words('no')}"
        column = entry.columns["required"] or "required"
        raise PageError(f"The page says {text!r} under {column!r} for {entry.name!r}, not one of {words}.")
    return Rule(answer == "yes", entry.at("required"))


def _concept(line: Segment) -> str:
    return lexicon.means(line.label, *lexicon.LABELS) if line.label else ""


def _described(entry: Entry, kind: Kind, unread: list[str]) -> Iterator[tuple[str, Rule]]:
    """Yield (keyword, rule) of each labelled line of a description."""
    lines = entry.cells["description"].segments
    listed = {id(line) for _, line in code_lines(lines)}
    for line in lines:
        place, concept = entry.at("description", line.label), _concept(line)
        found = dict(_labelled(concept, line, kind.items or kind, entry.name))
        yield from ((keyword, Rule(value, place)) for keyword, value in found.items())
        if not found and _is_unread(concept, line) and id(line) not in listed:
            unread.append(f"{line.label!r} of {entry.name!r} under {entry.place.heading!r}")


def _is_unread(concept: str, line: Segment) -> bool:
    """Tell whether a line with a label is neither known prose, nor emphasis, nor a mere caption."""
    return concept not in {"codes", "prose", "example"} and line.colon and bool(line.text)


def _labelled(concept: str, line: Segment, kind: Kind, name: str) -> Iterator[tuple[str, Any]]:
    if concept in lexicon.LIMITS:
        yield concept, read_number(line.text, name, whole=concept not in _MAY_HAVE_FRACTIONS)
    elif concept == "options":
        listed = line.codes or [word.strip() for word in line.text.split(",") if word.strip()]
        yield from [("enum", [read_value(text, kind, name) for text in listed])] if listed else []
    elif concept == "example" and line.text and not re.search(r"\s", line.text):
        # An example with spaces in it is a sentence of the vendor's: facts are ours to take, prose is not.
        yield "examples", [_example(line.text, kind)]
    elif concept == "pattern" and line.codes:
        yield "pattern", line.codes[0]
    elif concept == "deprecated":
        yield "deprecated", True
    elif concept in _RANGES and (match := _RANGE.fullmatch(line.text)):
        yield from zip(_RANGES[concept], (read_number(match[end], name) for end in ("low", "high")), strict=True)


def _example(text: str, kind: Kind) -> Any:
    """Read an example, which pages write as JSON, or bare where it is a string."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if is_of(value, kind.type) or kind.type != "string" else text
