"""The three layouts in which a Markdown page lists its fields, read as entries: tables, bullet lists, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from seedbed_schemas.derive import lexicon
from seedbed_schemas.derive.document import Cell, Segment
from seedbed_schemas.derive.facts import PageError, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seedbed_schemas.derive.document import Item, Section, Table

_GROUP: Final = re.compile(r"\s*[(（](?P<inside>[^()（）]*)[)）]")
_TYPE: Final = re.compile(r"[a-z]+(?:<[\w<>-]+>|\[\])?")


@dataclass
class Entry:
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


def entries(section: Section, above: Iterable[str]) -> Iterator[Entry]:
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
        yield _described(Entry(name, above_it.replace("[]", "") or parent, Place(section.heading)), section.lines())
        return
    for item in section.items:
        yield from _bullets(section, item, parent)


def is_table_of_fields(table: Table) -> bool:
    """Tell whether a table lists fields: one of its columns gives their names."""
    return any(lexicon.means(column, "name") for column in table.columns)


def properties_of(heading: str) -> str:
    """Return the field whose properties a heading announces, empty where it announces none."""
    match = lexicon.PROPERTIES.fullmatch(heading)
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


def _rows(section: Section, table: Table, parent: str) -> Iterator[Entry]:
    if not is_table_of_fields(table):
        return
    columns = {concept: column for column in table.columns if (concept := lexicon.means(column, *lexicon.COLUMNS))}
    for concept in ("type", "description"):
        if concept not in columns:
            raise PageError(f"The table under {section.heading!r} has no column {lexicon.words(concept)}.")
    for row in table.rows:
        yield _row(section, parent, columns, {concept: row[column] for concept, column in columns.items()})


def _row(section: Section, parent: str, columns: dict[str, str], cells: dict[str, Cell]) -> Entry:
    name = cells["name"].text
    for concept in ("name", "type"):
        if not cells[concept].text:
            where = f"The row {name!r} of the table under {section.heading!r}"
            raise PageError(f"{where} has nothing in column {columns[concept]!r}.")
    return Entry(name, parent, Place(section.heading, name), cells, columns)


# --- lists and headings ----------------------------------------------------------------------------------------------


def _is_field(lines: Iterable[Segment]) -> bool:
    return any(line.colon and lexicon.means(line.label, "type") and line.text for line in lines)


def _described(entry: Entry, lines: Iterable[Segment]) -> Entry:
    """Fill an entry from labelled lines; what is no column of its own belongs to the description."""
    rest = list(entry.cells["description"].segments) if "description" in entry.cells else []
    for line in lines:
        concept = lexicon.means(line.label, *lexicon.COLUMNS) if line.colon else ""
        if concept == "description":
            rest.append(Segment(text=line.text, codes=line.codes))
        elif concept:
            entry.set(concept, line.label, line)
        else:
            rest.append(line)
    entry.set("description", "", *rest)
    return entry


def _bullets(section: Section, item: Item, parent: str) -> list[Entry]:
    """Return the field that a bullet tells of, then those that the bullets inside it tell of."""
    head = item.segments[0] if item.segments else Segment()
    name = head.label or (head.codes[0] if head.codes and head.text.startswith(head.codes[0]) else "")
    if not name:
        return []
    entry = Entry(name, parent, Place(section.heading, name))
    _head(entry, head.text if head.label else head.text.removeprefix(name), head.codes)
    own, inner = list(item.segments[1:]), list[Entry]()
    for each in item.items:
        found = _bullets(section, each, name)
        inner += found
        own += () if found else each.lines()
    return [_described(entry, own), *inner] if "type" in entry.cells or _is_field(own) else []


def _head(entry: Entry, text: str, codes: list[str]) -> None:
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


def _word(entry: Entry, word: str) -> bool:
    """Read one word between the brackets, and tell whether it means anything."""
    label, _, value = word.replace("：", ":", 1).partition(":")
    if lexicon.means(word, "yes", "no"):
        entry.set("required", "", Segment(text=word))
        return True
    if lexicon.means(label, "default"):
        entry.set("default", "", Segment(text=value.strip()))
        return True
    return not word
