"""The layouts in which Markdown pages list fields: table rows, bullets, and one heading or bold name per field."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from seedbed_schemas.derive.document import Cell, Fence, Item, Paragraph, Section, Segment, Table
from seedbed_schemas.derive.facts import PageError, Place, parse_type
from seedbed_schemas.derive.vocabulary import (
    COLUMNS,
    LABELS,
    announcement,
    inline_labels,
    is_field_name,
    match_concept,
    plain_label,
    words_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from seedbed_schemas.derive.document import Block


@dataclass
class FieldEntry:
    """One field as a page lists it, in any layout.

    Attributes:
        name: Name of the field.
        parent: Path or name of the field that contains it; empty at the top.
        place: Heading and row.
        line: Line in the page.
        cells: What the page says about the field, by concept.
        columns: The page's own words for these concepts.
    """

    name: str
    parent: str
    place: Place
    line: int = 0
    cells: dict[str, Cell] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)

    def set(self, concept: str, column: str, *segments: Segment) -> None:
        """Set what the page says about a concept, and the page's own word for it."""
        self.cells[concept] = Cell(segments)
        self.columns[concept] = column

    def text(self, concept: str) -> str:
        """Return what the page says about a concept, or an empty string."""
        return self.cells[concept].text if concept in self.cells else ""

    def lines(self) -> tuple[Segment, ...]:
        """Return the lines of the description."""
        return self.cells["description"].segments if "description" in self.cells else ()

    @property
    def is_dotted(self) -> bool:
        """Whether the page gives the path of the field, which states that its parents are objects."""
        return "." in (self.place.row or self.place.heading)

    def at(self, concept: str, label: str = "") -> Place:
        """Return the place where the page says it."""
        return self.place.at(self.columns.get(concept, ""), label)


def entries(section: Section, above: Mapping[str, str]) -> Iterator[FieldEntry]:
    """Yield the fields that a section lists.

    Args:
        section: Section of the page.
        above: The fields found so far, by name in lower case; a section below the heading of such a field lists its
            children.

    Raises:
        PageError: A table lacks a column, or a row lacks a name or type.
    """
    parent = parent_of(section, above)
    lines, nested = list[Segment](), list[FieldEntry]()
    for block in section.blocks:
        found, others = _read_block(section, block, parent)
        nested += found
        lines += others
    own = own_entry(section, parent, lines)
    if own:
        yield own
        path = f"{own.parent}.{own.name}".lstrip(".")
        # What is listed below the name of a field, without a path of its own, belongs to that field.
        nested = [entry if entry.parent != parent else replace(entry, parent=path) for entry in nested]
        parent = path
    for table in filter(is_table_of_fields, section.tables):
        yield from rows(section, table, parent)
    yield from nested


def paragraph_lines(section: Section) -> Iterator[Segment]:
    """Yield the lines of a section's paragraphs, without those of its lists."""
    yield from (line for block in section.blocks if isinstance(block, Paragraph) for line in block.segments)


def parent_of(section: Section, above: Mapping[str, str]) -> str:
    """Return the field that the innermost heading with a meaning announces or names."""
    titles = list(section.headings if section.caption else section.headings[:-1])
    titles += [] if section.caption or not announcement(section.heading) else [section.heading]
    for title in reversed(titles):
        announced = announcement(title)
        if announced and (announced.is_certain or announced.field.casefold() in above):
            return above.get(announced.field.casefold(), announced.field)
        name = title.replace("[]", "").rpartition(".")[2]
        if above.get(name.casefold()) == name and title != section.heading:
            return title.replace("[]", "")
    return ""


def _read_block(section: Section, block: Block, parent: str) -> tuple[list[FieldEntry], list[Segment]]:
    """Return the fields that a list item describes, and the lines that describe something else."""
    if isinstance(block, Paragraph):
        return [], block.segments
    if isinstance(block, Fence):
        text = block.text.strip()
        return [], [Segment(text=text, codes=[text], line=block.line)]
    if isinstance(block, Table):
        return [], []
    if found := bullet(section, block, parent):
        return found, []
    fields, lines = list[FieldEntry](), list[Segment]()
    for child in block.blocks:
        found, others = _read_block(section, child, parent)
        fields += found
        lines += others
    return fields, lines


# --- tables ----------------------------------------------------------------------------------------------------------


_NESTING_MARK: Final = re.compile(r"[\s\u00a0\u3000└├─│↳→»>·•\-–—]+")
_NAME_REMARK: Final = re.compile(r"\s*(?:[(（][^()（）]*[)）]|\*+)$")


def is_table_of_fields(table: Table) -> bool:
    """Return whether a table lists fields: one of its columns contains names, and none the values of one field."""
    concepts = {match_concept(column, *COLUMNS, "value") for column in table.columns}
    return "name" in concepts and ("type" in concepts or "value" not in concepts)


def rows(section: Section, table: Table, parent: str) -> Iterator[FieldEntry]:
    """Yield the fields that the rows of a table list."""
    columns = dict[str, str]()
    for column in table.columns:
        columns.setdefault(match_concept(column, *COLUMNS, *LABELS), column)
    for concept in ("type", "description"):
        if concept not in columns:
            where = f"The table under {section.heading!r}"
            line = table.rows[0].line - 2 if table.rows else section.line
            raise PageError(f"{where} has no column {words_for(concept)} (line {line}).")
    others = [column for concept, column in columns.items() if concept in LABELS]
    above = ""
    for row in table.rows:
        cells: dict[str, Cell] = {concept: row.cells[columns[concept]] for concept in COLUMNS if concept in columns}
        written = cells["name"].text
        # A row without a type usually lost a cell, which shifts all others; reading on would misplace its facts.
        for concept in ("name", "type"):
            if not cells[concept].text:
                where = f"The row {written!r} of the table under {section.heading!r}"
                raise PageError(f"{where} has nothing in column {columns[concept]!r} (line {row.line}).")
        mark = _NESTING_MARK.match(written)
        path, _, name = _NAME_REMARK.sub("", written[mark.end() if mark else 0 :]).rpartition(".")
        nested_in = f"{parent}.{above}".strip(".") if mark and above else parent
        above = above if mark else name
        entry = FieldEntry(name, path.replace("[]", "") or nested_in, Place(section.heading, written), row.line)
        entry.cells, entry.columns = cells, columns
        extra = [as_statement(column, row.cells[column]) for column in others]
        lines = [line for line in (*cells["description"].segments, *extra) if line.text or line.label]
        entry.cells = cells | {"description": Cell(tuple(statements(lines)))}
        yield entry


def as_statement(column: str, cell: Cell) -> Segment:
    """Return a cell of a column such as ``Example`` as a labelled line; a dash means that there is none."""
    text = "" if match_concept(cell.text, "no default") else cell.text
    codes = [code for segment in cell.segments for code in segment.codes]
    return Segment(column if text else "", text, codes, colon=True)


# --- lines -----------------------------------------------------------------------------------------------------------


_GROUP: Final = re.compile(r"\s*[(（](?P<inside>[^()（）]*(?:\([^()]*\)[^()（）]*)?)[)）]")
_TYPE_START: Final = re.compile(
    r"(?P<type>[A-Za-z]+(?:<[\w<>-]{1,40}>|\[\w{1,20}\])?(?:\[\])?)(?P<rest>\s*(?:[(（·|,，].*)?)", re.DOTALL
)
_PLAIN_NAME: Final = re.compile(r"(?P<name>[\w$.\[\]-]+)(?=\s*[(（])")
_SEPARATORS: Final = re.compile(r"[,，、;；·|]")
_LOCATIONS: Final = frozenset({"header", "body", "query", "path"})


def own_entry(section: Section, parent: str, lines: list[Segment]) -> FieldEntry | None:
    """Return the field that the heading or the bold name of the section names, if the lines give its type."""
    title = section.caption or section.heading
    name = _NAME_REMARK.sub("", title)
    if not is_field_name(name):
        return None
    path, _, name = name.rpartition(".")
    place = Place(section.heading, section.caption)
    entry = FieldEntry(name, path.replace("[]", "") or parent, place, section.line)
    rest = lines[:]
    if lines and not lines[0].label and _read_head(entry, lines[0], lines[0].text):
        rest = [*entry.lines(), *lines[1:]]
        entry.cells.pop("description", None)
    elif section.caption and lines and (mark := _required_mark(lines[0].text)):
        entry.set("required", "", Segment(text=mark))
        rest = lines[1:]
    found = list(statements(rest))
    if "type" not in entry.cells and not _has_type_line(found):
        return None
    return _with_description(entry, found)


def _has_type_line(lines: Iterable[Segment]) -> bool:
    """Return whether labelled lines describe a field, which is the case if one of them gives its type."""
    return any(
        line.colon and match_concept(line.label, "type") and "/" not in line.text and line.text for line in lines
    )


def _with_description(entry: FieldEntry, lines: Iterable[Segment]) -> FieldEntry:
    """Fill an entry from labelled lines; lines without a column's concept belong to the description."""
    rest = list(entry.lines())
    for line in lines:
        concept = match_concept(line.label, *COLUMNS) if line.colon and not line.inline else ""
        if concept == "description":
            rest.append(replace(line, label="", colon=False))
        elif concept and concept not in entry.cells:
            entry.set(concept, line.label, line)
        elif not concept:
            rest.append(line)
    entry.set("description", entry.columns.get("description", ""), *rest)
    return entry


def bullet(section: Section, item: Item, parent: str) -> list[FieldEntry]:
    """Return the field that a bullet describes, followed by the fields of its nested bullets."""
    head = item.segments[0] if item.segments else Segment()
    label = head.label or (head.codes[0] if head.codes and head.text.startswith(head.codes[0]) else "")
    if not label and (match := _PLAIN_NAME.match(head.text)):
        label = match["name"]
    if not is_field_name(label.strip()):
        return []
    text = head.text if head.label else head.text[len(label) :]
    if head.colon and match_concept(label, *COLUMNS, *LABELS) and not _GROUP.match(text):
        return []
    path, _, name = label.strip().rpartition(".")
    entry = FieldEntry(name, path.replace("[]", "") or parent, Place(section.heading, label), head.line)
    is_typed = _read_head(entry, head, text)
    if not is_typed:
        entry.set("description", "", replace(head, label="", text=text.lstrip(" :：-"), colon=False))
    own, nested = list[Segment](), list[FieldEntry]()
    for block in item.blocks:
        found, others = _read_block(section, block, f"{entry.parent}.{name}".lstrip("."))
        nested += found
        own += [line for line in others if line is not head]
    own = list(statements(own))
    return [_with_description(entry, own), *nested] if is_typed or _has_type_line(own) else []


def _read_head(entry: FieldEntry, head: Segment, text: str) -> bool:
    """Read what follows the name of a field, and return whether that is its type.

    The forms are ``(string, required, default: x): description`` and ``string (required, default: x)``.
    """
    text = text.strip().lstrip(":：-–— ")
    if (group := _GROUP.match(text)) and (words := _SEPARATORS.split(group["inside"])):
        if not _is_known_type(words[0]):
            return False
        entry.set("type", "", Segment(text=words[0].strip()))
        rest = text[group.end() :]
    elif (match := _TYPE_START.fullmatch(text)) and _is_known_type(match["type"]):
        rest = match["rest"].strip()
        inner = _GROUP.match(rest)
        words = _SEPARATORS.split(inner["inside"] if inner else rest)
        rest = rest[inner.end() :] if inner else ""
        if not (match["type"] in head.codes or all(map(_head_concept, filter(str.strip, words)))):
            return False
        entry.set("type", "", Segment(text=match["type"]))
        words = ["", *words]
    else:
        return False
    unknown = list(read_words(entry, words[1:], head.codes))
    description = replace(head, label="", text=rest.lstrip(" :：-"), colon=False)
    entry.set("description", "", *([description] if description.text else []), *unknown)
    return True


def read_words(entry: FieldEntry, words: Iterable[str], codes: list[str]) -> Iterator[Segment]:
    """Read the words beside a type, and yield those that are not recognized."""
    for word in filter(str.strip, words):
        concept = _head_concept(word)
        value = word.replace("：", ":", 1).partition(":")[2].strip()
        if concept == "required":
            entry.set("required", "", Segment(text=word.strip()))
        elif concept == "default":
            entry.set("default", "", Segment(text=value, codes=[code for code in codes if code == value]))
        elif not concept:
            # As a label, it is later reported as not recognized.
            yield Segment(label=word.strip(), text=word.strip(), colon=True)


def _head_concept(word: str) -> str:
    """Return which fact a word beside a type states: ``required``, ``default`` or ``location``."""
    label = word.replace("：", ":", 1).partition(":")[0]
    if match_concept(word, "yes", "no"):
        return "required"
    if match_concept(label, "default"):
        return "default"
    return "location" if word.strip().casefold() in _LOCATIONS else ""


def _is_known_type(text: str) -> bool:
    try:
        return bool(parse_type(text.strip(), ""))
    except PageError:
        return False


# --- statements: lines with their label and all of their value -------------------------------------------------------


_CONTINUED: Final = ("options", "example", "default", "type", "required", "range", *LABELS[:7])
_BEFORE_MEANING: Final = re.compile(r"\s*(?:：|:\s|\s[-–—]\s|[(（]).*", re.DOTALL)


def statements(lines: Iterable[Segment]) -> Iterator[Segment]:
    """Yield the lines with their labels; a value may stand in the lines after its label, or inside a sentence."""
    found = list[Segment]()
    open_label: Segment | None = None
    inline = list[Segment]()
    for original in lines:
        line = _labelled(original)
        if open_label and not line.label and _continues(open_label, original):
            append_value(open_label, original)
            if match_concept(open_label.label, *_CONTINUED) != "options":
                open_label = None
            continue
        opens = line.colon and not line.text and match_concept(line.label, *_CONTINUED)
        open_label = replace(line, codes=[]) if opens else None
        found.append(open_label or line)
        if not match_concept(line.label, *LABELS, "type", "required", "default") and line.text:
            inline += inline_statements(line)
    yield from found
    yield from inline


def _labelled(line: Segment) -> Segment:
    if line.label:
        is_caption = not line.colon and not line.text and match_concept(line.label, *LABELS, *COLUMNS[1:])
        return replace(line, colon=True) if is_caption else line
    starts_with_code = line.codes and line.text.startswith(line.codes[0])
    if not starts_with_code and (parts := plain_label(line.text)):
        return replace(line, label=parts[0], text=parts[1], colon=True)
    return line


def _continues(label: Segment, line: Segment) -> bool:
    """Return whether a line without a label is a value of the label above it, rather than prose."""
    concept = match_concept(label.label, *_CONTINUED)
    if concept == "options":
        return line.bullet or bool(line.codes and line.text.startswith(line.codes[0]))
    return bool(line.codes and line.text.startswith(line.codes[0])) or bool(line.text and not line.bullet)


def append_value(label: Segment, line: Segment) -> None:
    """Add a line to the value of the label above it."""
    if match_concept(label.label, *_CONTINUED) == "options":
        if line.bullet:
            # The rest of a bullet says what the option means.
            is_code = line.codes and line.text.startswith(line.codes[0])
            text = line.label or (line.codes[0] if is_code else _BEFORE_MEANING.sub("", line.text))
            label.codes.append(text.strip(" *`\"'"))
        else:
            label.codes.extend(line.codes)
    else:
        label.codes.extend(line.codes)
        label.text = line.text


def inline_statements(line: Segment) -> Iterator[Segment]:
    """Yield the labelled values inside a sentence as lines of their own."""
    for _, label, value in inline_labels(line.text):
        codes = [code for code in line.codes if code and code in value]
        yield Segment(label, value, codes, colon=True, line=line.line, inline=True)


# --- captions --------------------------------------------------------------------------------------------------------


_MAXIMUM_CAPTION_CHARACTERS: Final = 60


def with_captions(sections: Iterable[Section], is_heading: Callable[..., bool]) -> Iterator[Section]:
    """Yield the sections, split at the bold names of fields and at the bold captions that serve as headings.

    Args:
        sections: The sections of a page.
        is_heading: Whether a caption has the meaning of a heading, given whether it has a colon.
    """
    for section in sections:
        current = Section(section.headings, section.line)
        for block in section.blocks:
            segments = block.segments if isinstance(block, Paragraph) else []
            first = segments[0] if segments else Segment()
            kept: Block = block
            if caption := heading_of(first, is_heading):
                yield current
                current = Section((*section.headings, caption), first.line)
                kept = Paragraph(segments[1:])
            elif first.label and not first.colon and is_field_caption(first):
                yield current
                current = Section(current.headings, first.line, caption=first.label)
                head = [replace(first, label="")] if first.text else []
                kept = Paragraph([*head, *segments[1:]])
            current.blocks.append(kept)
        yield current


def heading_of(line: Segment, is_heading: Callable[..., bool]) -> str:
    """Return the text of a line that serves as a heading: bold, or with a colon at its end."""
    text = line.label or (line.text if line.text.endswith((":", "：")) else "")
    is_alone = not (line.label and line.text) and len(text) <= _MAXIMUM_CAPTION_CHARACTERS
    has_colon = line.colon or not line.label
    return text.rstrip(":： ") if text and is_alone and is_heading(text.rstrip(":： "), has_colon=has_colon) else ""


def is_field_caption(line: Segment) -> bool:
    """Return whether a bold name, with or without its type beside it, starts the description of a field."""
    if not is_field_name(_NAME_REMARK.sub("", line.label)):
        return False
    probe = FieldEntry(line.label, "", Place(""))
    # `**Example**` is a label of the field above it; a field may have such a name only together with its type.
    is_name = not match_concept(line.label, *LABELS, *COLUMNS)
    return _read_head(probe, line, line.text) or (is_name and (not line.text or bool(_required_mark(line.text))))


def _required_mark(text: str) -> str:
    """Return what stands beside a bold name if it says whether the field is required; an asterisk says that it is."""
    word = text.strip().strip("()（）[]【】").strip()
    return "Yes" if word == "*" else word if match_concept(word, "yes", "no") else ""
