"""The words by which pages of the vendor's make mark their facts, in Chinese and in English: ``lexicon.json``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.derive.document import Cell, Segment
from seedbed_schemas.derive.facts import (
    Field,
    Kind,
    Note,
    PageError,
    Place,
    RuleFact,
    is_of,
    read_kind,
    read_number,
    read_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from seedbed_schemas.derive.document import Item, Section, Table


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


def words_for(concept: str) -> str:
    """Return the words for a concept as a message may show them, the Chinese one first."""
    known = _words()[concept]
    chosen = [next(iter(known)), next((word for word in known if word.isascii()), "")]
    return " or ".join(repr(known[word]) for word in dict.fromkeys(chosen) if word)


@cache
def _words() -> dict[str, dict[str, str]]:
    """Each concept with its words, folded, and as the file has them."""
    text = Path(__file__).with_name("lexicon.json").read_text(encoding="utf-8")
    return {concept: {word.casefold(): word for word in listed} for concept, listed in json.loads(text).items()}


def notes(lines: Iterable[str], rules: Mapping[str, RuleFact], place: Place) -> tuple[Note, ...]:
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


_GROUP: Final = re.compile(r"\s*[(（](?P<inside>[^()（）]*)[)）]")
_TYPE: Final = re.compile(r"[a-z]+(?:<[\w<>-]+>|\[\])?")


@dataclass
class FieldEntry:
    """One field as a page lists it, whatever the layout.

    Attributes:
        name: Name of the field.
        parent: Name of the field it is inside, empty at the top.
        place: Heading and row.
        cells: What the page says of the field, by concept.
        columns: The page's own words for these concepts.
    """

    name: str
    parent: str
    place: Place
    cells: dict[str, Cell] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)

    def set(self, concept: str, column: str, *segments: Segment) -> None:
        """Say something of the field, under the page's own word for it."""
        self.cells[concept] = Cell(segments)
        self.columns[concept] = column

    def text(self, concept: str) -> str:
        """Return what the page says, empty where it says nothing."""
        return self.cells[concept].text if concept in self.cells else ""

    def at(self, concept: str, label: str = "") -> Place:
        """Return the place of what the page says."""
        return self.place.at(self.columns.get(concept, ""), label)


def entries(section: Section, above: Iterable[str]) -> Iterator[FieldEntry]:
    """Yield the fields that a section lists.

    Args:
        section: Part of the page.
        above: Names of the fields known so far; a heading below one of them is inside it.

    Raises:
        PageError: A table lacks a column or a name.
    """
    parent = _parent(section, set(above))
    for table in section.tables:
        yield from _rows(section, table, parent)
    if _is_field([*section.segments, *(line for item in section.items for line in item.segments)]):
        above_it, _, name = section.heading.rpartition(".")
        yield _described_field(
            FieldEntry(name, above_it.replace("[]", "") or parent, Place(section.heading)), section.lines()
        )
        return
    for item in section.items:
        yield from _bullets(section, item, parent)


def is_table_of_fields(table: Table) -> bool:
    """Tell whether a table lists fields: one of its columns gives their names."""
    return any(means(column, "name") for column in table.columns)


def properties_of(heading: str) -> str:
    """Return the field whose properties a heading announces, empty where it announces none."""
    match = PROPERTIES.fullmatch(heading)
    return str(match["field"] or match["of"]) if match else ""


def _parent(section: Section, above: set[str]) -> str:
    """Return the field that a section is inside, by its heading or by one above it."""
    for heading in reversed(section.headings):
        if field := properties_of(heading):
            return field
        if heading in above and heading != section.heading:
            return heading
    return ""


# --- tables ----------------------------------------------------------------------------------------------------------


def _rows(section: Section, table: Table, parent: str) -> Iterator[FieldEntry]:
    if not is_table_of_fields(table):
        return
    columns = {concept: column for column in table.columns if (concept := means(column, *COLUMNS))}
    for concept in ("type", "description"):
        if concept not in columns:
            raise PageError(f"The table under {section.heading!r} has no column {words_for(concept)}.")
    for row in table.rows:
        yield _row(section, parent, columns, {concept: row[column] for concept, column in columns.items()})


def _row(section: Section, parent: str, columns: dict[str, str], cells: dict[str, Cell]) -> FieldEntry:
    name = cells["name"].text
    for concept in ("name", "type"):
        if not cells[concept].text:
            where = f"The row {name!r} of the table under {section.heading!r}"
            raise PageError(f"{where} has nothing in column {columns[concept]!r}.")
    return FieldEntry(name, parent, Place(section.heading, name), cells, columns)


# --- lists and headings ----------------------------------------------------------------------------------------------


def _is_field(lines: Iterable[Segment]) -> bool:
    return any(line.colon and means(line.label, "type") and line.text for line in lines)


def _described_field(entry: FieldEntry, lines: Iterable[Segment]) -> FieldEntry:
    """Fill an entry from labelled lines; what is no column of its own belongs to the description."""
    rest = list(entry.cells["description"].segments) if "description" in entry.cells else []
    for line in lines:
        concept = means(line.label, *COLUMNS) if line.colon else ""
        if concept == "description":
            rest.append(Segment(text=line.text, codes=line.codes))
        elif concept:
            entry.set(concept, line.label, line)
        else:
            rest.append(line)
    entry.set("description", "", *rest)
    return entry


def _bullets(section: Section, item: Item, parent: str) -> list[FieldEntry]:
    """Return the field that a bullet tells of, then those that the bullets inside it tell of."""
    head = item.segments[0] if item.segments else Segment()
    name = head.label or (head.codes[0] if head.codes and head.text.startswith(head.codes[0]) else "")
    if not name:
        return []
    entry = FieldEntry(name, parent, Place(section.heading, name))
    _head(entry, head.text if head.label else head.text.removeprefix(name), head.codes)
    own, inner = list(item.segments[1:]), list[FieldEntry]()
    for each in item.items:
        found = _bullets(section, each, name)
        inner += found
        own += () if found else each.lines()
    return [_described_field(entry, own), *inner] if "type" in entry.cells or _is_field(own) else []


def _head(entry: FieldEntry, text: str, codes: list[str]) -> None:
    """Read the first line of a bullet: ``NAME (type, required, default: x): words``."""
    group = _GROUP.match(text)
    words = [word.strip() for word in re.split(r"[,，、;；]", group["inside"])] if group else []
    if not group or not _TYPE.fullmatch(words[0]):
        entry.set("description", "", Segment(text=text, codes=codes))
        return
    entry.set("type", "", Segment(text=words[0]))
    unknown = [word for word in words[1:] if not _word(entry, word)]
    # A word of no known meaning gets to be a label, so that it is told as unread.
    rest = (Segment(label=word, text=word, colon=True) for word in unknown)
    entry.set("description", "", Segment(text=text[group.end() :].lstrip(" :：-"), codes=codes), *rest)


def _word(entry: FieldEntry, word: str) -> bool:
    """Read one word between the brackets, and tell whether it means anything."""
    label, _, value = word.replace("：", ":", 1).partition(":")
    if means(word, "yes", "no"):
        entry.set("required", "", Segment(text=word))
        return True
    if means(label, "default"):
        entry.set("default", "", Segment(text=value.strip()))
        return True
    return not word


_MAY_HAVE_FRACTIONS: Final = frozenset({"minimum", "maximum", "multipleOf"})
_RANGE: Final = re.compile(r"(?P<low>-?[\d.,]{1,20})\s?(?:<=\s?\w{1,20}\s?<=|-|~|to|至)\s?(?P<high>-?[\d.,]{1,20}).*")
_RANGES: Final = {"range": ("minimum", "maximum"), "array length": ("minItems", "maxItems")}
_OF_THE_WHOLE: Final = frozenset({"minItems", "maxItems", "default", "deprecated"})
"""What is said of an array itself; everything else is said of its items."""


def read_fields(entries: Iterable[FieldEntry], what: str, unread: list[str]) -> tuple[Field, ...]:
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
        inside = bool(means(segment.label, "codes")) or (inside and (bool(number) or not segment.label))
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


def _field(entry: FieldEntry, unread: list[str]) -> Field:
    kind = read_kind(entry.text("type"), entry.name)
    rules, of_items = _typed(kind, entry), _typed(kind.items, entry) if kind.items else {}
    for keyword, rule in _described(entry, kind, unread):
        (of_items if kind.items and keyword not in _OF_THE_WHOLE else rules)[keyword] = rule
    if not means(entry.text("default"), "no default"):
        rules["default"] = RuleFact(read_value(entry.text("default"), kind, entry.name), entry.at("default"))
    if (kind.items or kind).one_of and "enum" not in (rules | of_items):
        raise PageError(f"The page says that {entry.name!r} is one of a set, but lists no {words_for('options')}.")
    prose = [line.text for line in entry.cells["description"].segments if not _concept(line)]
    told = notes(prose, rules | of_items, entry.at("description"))
    return Field(entry.name, rules, _required(entry), items=Field("", of_items) if kind.items else None, notes=told)


def _typed(kind: Kind, entry: FieldEntry) -> dict[str, RuleFact]:
    place = entry.at("type")
    return {"type": RuleFact(kind.type, place)} | ({"format": RuleFact(kind.format, place)} if kind.format else {})


def _required(entry: FieldEntry) -> RuleFact | None:
    if "required" not in entry.cells:
        return None
    text = entry.text("required")
    if not (answer := means(text, "yes", "no")):
        words = f"{words_for('yes')}, {words_for('no')}"
        column = entry.columns["required"] or "required"
        raise PageError(f"The page says {text!r} under {column!r} for {entry.name!r}, not one of {words}.")
    return RuleFact(answer == "yes", entry.at("required"))


def _concept(line: Segment) -> str:
    return means(line.label, *LABELS) if line.label else ""


def _described(entry: FieldEntry, kind: Kind, unread: list[str]) -> Iterator[tuple[str, RuleFact]]:
    """Yield (keyword, rule) of each labelled line of a description."""
    lines = entry.cells["description"].segments
    listed = {id(line) for _, line in code_lines(lines)}
    for line in lines:
        place, concept = entry.at("description", line.label), _concept(line)
        found = dict(_labelled(concept, line, kind.items or kind, entry.name))
        yield from ((keyword, RuleFact(value, place)) for keyword, value in found.items())
        if not found and _is_unread(concept, line) and id(line) not in listed:
            unread.append(f"{line.label!r} of {entry.name!r} under {entry.place.heading!r}")


def _is_unread(concept: str, line: Segment) -> bool:
    """Tell whether a line with a label is neither known prose, nor emphasis, nor a mere caption."""
    return concept not in {"codes", "prose", "example"} and line.colon and bool(line.text)


def _labelled(concept: str, line: Segment, kind: Kind, name: str) -> Iterator[tuple[str, Any]]:
    if concept in LIMITS:
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
