"""The layouts in which Markdown pages list fields: table rows, bullets, and one heading per field.

The pages are in Chinese or English. ``lexicon.json`` maps the words by which they mark facts to concepts, which are
JSON Schema keywords and names such as ``options``; ``prose.json`` has patterns for limits that are stated in prose.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.derive.document import Cell, Segment
from seedbed_schemas.derive.facts import (
    Field,
    Note,
    PageError,
    Place,
    RuleFact,
    TypeSpec,
    parse_example,
    parse_number,
    parse_type,
    parse_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from seedbed_schemas.derive.document import Item, Section, Table


# --- the vocabulary --------------------------------------------------------------------------------------------------


LIMITS: Final = (
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "multipleOf",
)
"""Concepts of labels that are followed by a number: JSON Schema keywords."""

COLUMNS: Final = ("name", "type", "location", "required", "default", "description")
"""Concepts of the columns of a table of fields."""

LABELS: Final = (*LIMITS, "options", "example", "codes", "range", "array length", "pattern", "deprecated", "prose")
"""Concepts of labels in the description of a field."""

OPERATION: Final = ("method", "path")
"""Concepts of labels outside the fields."""

BODY: Final = re.compile(r"(?:Body|请求体)\s*[(（](?P<media>[\w/+.-]+)[)）]", re.IGNORECASE)
"""A heading above the fields of the body, with its media type."""

_PROPERTIES: Final = re.compile(
    r"(?P<field>[^\s的]+?)(?:\[\])?\s*(?:的?(?:对象)?属性|(?:object )?properties)"
    r"|properties of (?P<of>[^\s]+?)(?:\[\])?",
    re.IGNORECASE,
)
_FOLDER: Final = Path(__file__).parent
_WORDS: Final[dict[str, dict[str, str]]] = {
    concept: {word.casefold(): word for word in words}
    for concept, words in json.loads((_FOLDER / "lexicon.json").read_text(encoding="utf-8")).items()
}
_PROSE_PATTERNS: Final = tuple(
    (row["keyword"], re.compile(row["pattern"], re.IGNORECASE))
    for row in json.loads((_FOLDER / "prose.json").read_text(encoding="utf-8"))
)


def match_concept(word: str, *concepts: str) -> str:
    """Return the first of these concepts that the word denotes, or an empty string."""
    plain = word.strip().rstrip(":：").strip().casefold()
    return next((concept for concept in concepts if plain in _WORDS[concept]), "")


def words_for(concept: str) -> str:
    """Return the first word for a concept and the first English one, quoted for an error message."""
    words = _WORDS[concept]
    chosen = [next(iter(words)), next((word for word in words if word.isascii()), "")]
    return " or ".join(repr(words[word]) for word in dict.fromkeys(chosen) if word)


def properties_of(heading: str) -> str:
    """Return the field whose properties a heading announces, or an empty string."""
    match = _PROPERTIES.fullmatch(heading)
    return str(match["field"] or match["of"]) if match else ""


def prose_notes(lines: Iterable[str], rules: Mapping[str, RuleFact], place: Place) -> tuple[Note, ...]:
    """Return the limits that the lines state, each once, without those that a rule states with the same value."""
    found = dict.fromkeys(
        (keyword, int(match[1].replace(",", "")))
        for line in lines
        for keyword, pattern in _PROSE_PATTERNS
        for match in pattern.finditer(line)
    )
    return tuple(
        Note(keyword, value, place)
        for keyword, value in found
        if not (keyword in rules and rules[keyword].value == value)
    )


# --- entries: fields as a page lists them ----------------------------------------------------------------------------


_GROUP: Final = re.compile(r"\s*[(（](?P<inside>[^()（）]*)[)）]")
_BULLET_TYPE: Final = re.compile(r"[a-z]+(?:<[\w<>-]+>|\[\])?")


@dataclass
class FieldEntry:
    """One field as a page lists it, in any layout.

    Attributes:
        name: Name of the field.
        parent: Name of the field that contains it; empty at the top.
        place: Heading and row.
        cells: What the page says about the field, by concept.
        columns: The page's own words for these concepts.
    """

    name: str
    parent: str
    place: Place
    cells: dict[str, Cell] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)

    def set(self, concept: str, column: str, *segments: Segment) -> None:
        """Set what the page says about a concept, and the page's own word for it."""
        self.cells[concept] = Cell(segments)
        self.columns[concept] = column

    def text(self, concept: str) -> str:
        """Return what the page says about a concept, or an empty string."""
        return self.cells[concept].text if concept in self.cells else ""

    def at(self, concept: str, label: str = "") -> Place:
        """Return the place where the page says it."""
        return self.place.at(self.columns.get(concept, ""), label)


def entries(section: Section, above: Iterable[str]) -> Iterator[FieldEntry]:
    """Yield the fields that a section lists.

    Args:
        section: Section of the page.
        above: Names of the fields found so far; a section below the heading of such a field lists its children.

    Raises:
        PageError: A table lacks a column, or a row lacks a name or type.
    """
    # The innermost heading that announces properties or names a field found so far gives the parent.
    known = set(above) - {section.heading}
    parents = (properties_of(title) or (title if title in known else "") for title in reversed(section.headings))
    parent = next(filter(None, parents), "")
    for table in filter(is_table_of_fields, section.tables):
        yield from _rows(section, table, parent)
    if _has_type_line([*section.segments, *(line for item in section.items for line in item.segments)]):
        path, _, name = section.heading.rpartition(".")
        entry = FieldEntry(name, path.replace("[]", "") or parent, Place(section.heading))
        yield _with_description(entry, section.lines())
        return
    for item in section.items:
        yield from _bullets(section, item, parent)


def is_table_of_fields(table: Table) -> bool:
    """Return whether a table lists fields, which is the case if one of its columns contains names."""
    return any(match_concept(column, "name") for column in table.columns)


def _rows(section: Section, table: Table, parent: str) -> Iterator[FieldEntry]:
    columns = {concept: column for column in table.columns if (concept := match_concept(column, *COLUMNS))}
    for concept in ("type", "description"):
        if concept not in columns:
            raise PageError(f"The table under {section.heading!r} has no column {words_for(concept)}.")
    for row in table.rows:
        cells = {concept: row[column] for concept, column in columns.items()}
        name = cells["name"].text
        # A row without a type usually lost a cell, which shifts all others; reading on would misplace its facts.
        for concept in ("name", "type"):
            if not cells[concept].text:
                where = f"The row {name!r} of the table under {section.heading!r}"
                raise PageError(f"{where} has nothing in column {columns[concept]!r}.")
        yield FieldEntry(name, parent, Place(section.heading, name), cells, columns)


def _has_type_line(lines: Iterable[Segment]) -> bool:
    """Return whether labelled lines describe a field, which is the case if one of them gives its type."""
    return any(line.colon and match_concept(line.label, "type") and line.text for line in lines)


def _with_description(entry: FieldEntry, lines: Iterable[Segment]) -> FieldEntry:
    """Fill an entry from labelled lines; lines without a column's concept belong to the description."""
    rest = list(entry.cells["description"].segments) if "description" in entry.cells else []
    for line in lines:
        concept = match_concept(line.label, *COLUMNS) if line.colon else ""
        if concept == "description":
            rest.append(Segment(text=line.text, codes=line.codes))
        elif concept:
            entry.set(concept, line.label, line)
        else:
            rest.append(line)
    entry.set("description", "", *rest)
    return entry


def _bullets(section: Section, item: Item, parent: str) -> list[FieldEntry]:
    """Return the field that a bullet describes, followed by the fields of its nested bullets."""
    head = item.segments[0] if item.segments else Segment()
    name = head.label or (head.codes[0] if head.codes and head.text.startswith(head.codes[0]) else "")
    if not name:
        return []
    entry = FieldEntry(name, parent, Place(section.heading, name))
    _read_bullet_head(entry, head.text if head.label else head.text.removeprefix(name), head.codes)
    own, nested = list(item.segments[1:]), list[FieldEntry]()
    for child in item.items:
        found = _bullets(section, child, name)
        nested += found
        own += () if found else child.lines()
    return [_with_description(entry, own), *nested] if "type" in entry.cells or _has_type_line(own) else []


def _read_bullet_head(entry: FieldEntry, text: str, codes: list[str]) -> None:
    """Read the first line of a bullet, ``NAME (type, required, default: x): description``, after the name."""
    group = _GROUP.match(text)
    words = [word.strip() for word in re.split(r"[,，、;；]", group["inside"])] if group else []
    if not group or not _BULLET_TYPE.fullmatch(words[0]):
        entry.set("description", "", Segment(text=text, codes=codes))
        return
    entry.set("type", "", Segment(text=words[0]))
    unknown: list[Segment] = []
    for word in words[1:]:
        label, _, value = word.replace("：", ":", 1).partition(":")
        if match_concept(word, "yes", "no"):
            entry.set("required", "", Segment(text=word))
        elif match_concept(label, "default"):
            entry.set("default", "", Segment(text=value.strip()))
        elif word:
            # As a label, it is later reported as not recognized.
            unknown.append(Segment(label=word, text=word, colon=True))
    entry.set("description", "", Segment(text=text[group.end() :].lstrip(" :：-"), codes=codes), *unknown)


# --- fields: entries with their rules --------------------------------------------------------------------------------


_MAY_HAVE_FRACTIONS: Final = frozenset({"minimum", "maximum", "multipleOf"})
_RANGE: Final = re.compile(r"(?P<low>-?[\d.,]{1,20})\s?(?:<=\s?\w{1,20}\s?<=|-|~|to|至)\s?(?P<high>-?[\d.,]{1,20}).*")
_RANGES: Final = {"range": ("minimum", "maximum"), "array length": ("minItems", "maxItems")}
_ARRAY_KEYWORDS: Final = frozenset({"minItems", "maxItems", "default", "deprecated"})
"""Keywords that apply to an array itself; all others in its description apply to its items."""


def read_fields(entries: Iterable[FieldEntry], what: str, unrecognized: list[str]) -> tuple[Field, ...]:
    """Turn the entries of one part of the page into fields, each with its children.

    Args:
        entries: The entries.
        what: Name of the part, for error messages.
        unrecognized: Receives the statements that are neither a known fact nor prose.

    Raises:
        PageError: There are no entries, or they contradict each other.
    """
    by_parent = dict[str, list[Field]]()
    for entry in entries:
        by_parent.setdefault(entry.parent, []).append(_read_field(entry, unrecognized))
    if not by_parent.get(""):
        raise PageError(f"The page has no table or list of the fields of {what}.")
    names = {field.name for fields in by_parent.values() for field in fields}
    if orphans := {parent for parent in by_parent if parent.rpartition(".")[2] not in names and parent}:
        raise PageError(f"The page describes the properties of {min(orphans)!r}, but does not list that field.")
    return tuple(_with_children(field, by_parent, field.name) for field in by_parent.pop(""))


def _with_children(field: Field, by_parent: dict[str, list[Field]], path: str) -> Field:
    """Return a field with the fields that the page lists under its path, or under its name alone."""
    key = path if path in by_parent else field.name
    # Without the used key, a field that is listed as its own parent ends the recursion.
    others = {parent: fields for parent, fields in by_parent.items() if parent != key}
    fields = tuple(_with_children(child, others, f"{path}.{child.name}") for child in by_parent.get(key, ()))
    if field.items:
        items = Field("", field.items.rules, fields=fields)
        return Field(field.name, field.rules, field.required, items=items, notes=field.notes)
    return Field(field.name, field.rules, field.required, fields, notes=field.notes)


def _read_field(entry: FieldEntry, unrecognized: list[str]) -> Field:
    spec = parse_type(entry.text("type"), entry.name)
    rules = _type_rules(spec, entry)
    item_rules = _type_rules(spec.items, entry) if spec.items else {}
    lines, prose = entry.cells["description"].segments, list[str]()
    code_rows = {id(line) for _, line in code_lines(lines)}
    for line in lines:
        concept = match_concept(line.label, *LABELS) if line.label else ""
        if not concept:
            prose.append(line.text)
        values = dict(_labelled_values(concept, line, spec.items or spec, entry.name))
        for keyword, value in values.items():
            target = item_rules if spec.items and keyword not in _ARRAY_KEYWORDS else rules
            target[keyword] = RuleFact(value, entry.at("description", line.label))
        # A label without a colon is emphasis, and a label without text is a caption.
        is_statement = concept not in {"codes", "prose", "example"} and line.colon and line.text
        if not values and is_statement and id(line) not in code_rows:
            unrecognized.append(f"{line.label!r} of {entry.name!r} under {entry.place.heading!r}")
    if not match_concept(entry.text("default"), "no default"):
        rules["default"] = RuleFact(parse_value(entry.text("default"), spec, entry.name), entry.at("default"))
    if (spec.items or spec).is_enum and "enum" not in (rules | item_rules):
        raise PageError(f"The page says that {entry.name!r} is an enum, but has no line {words_for('options')} for it.")
    notes = prose_notes(prose, rules | item_rules, entry.at("description"))
    items = Field("", item_rules) if spec.items else None
    return Field(entry.name, rules, _required_rule(entry), items=items, notes=notes)


def _type_rules(spec: TypeSpec, entry: FieldEntry) -> dict[str, RuleFact]:
    place = entry.at("type")
    return {"type": RuleFact(spec.type, place)} | ({"format": RuleFact(spec.format, place)} if spec.format else {})


def _required_rule(entry: FieldEntry) -> RuleFact | None:
    if "required" not in entry.cells:
        return None
    text = entry.text("required")
    if not (answer := match_concept(text, "yes", "no")):
        words = f"{words_for('yes')}, {words_for('no')}"
        column = entry.columns["required"] or "required"
        raise PageError(f"The page says {text!r} under {column!r} for {entry.name!r}, which is not one of {words}.")
    return RuleFact(answer == "yes", entry.at("required"))


def code_lines(segments: Iterable[Segment]) -> Iterator[tuple[int, Segment]]:
    """Yield each code of the list that follows the label of the code list, with its line."""
    inside = False
    for segment in segments:
        number = re.match(r"[-*\s]*(\d{3,5})\b", segment.label or segment.text)
        inside = bool(match_concept(segment.label, "codes")) or (inside and (bool(number) or not segment.label))
        if inside and number:
            yield int(number[1]), segment


def _labelled_values(concept: str, line: Segment, spec: TypeSpec, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the keywords and values that a labelled line states."""
    if concept in LIMITS:
        yield concept, parse_number(line.text, name, whole=concept not in _MAY_HAVE_FRACTIONS)
    elif concept == "options":
        listed = line.codes or [word.strip() for word in line.text.split(",") if word.strip()]
        yield from [("enum", [parse_value(text, spec, name) for text in listed])] if listed else []
    elif concept == "example" and line.text and not re.search(r"\s", line.text):
        # An example with spaces is a sentence by the vendor. A contract copies facts, not texts.
        yield "examples", [parse_example(line.text, spec)]
    elif concept == "pattern" and line.codes:
        yield "pattern", line.codes[0]
    elif concept == "deprecated":
        yield "deprecated", True
    elif concept in _RANGES and (match := _RANGE.fullmatch(line.text)):
        yield from zip(_RANGES[concept], (parse_number(match[end], name) for end in ("low", "high")), strict=True)
