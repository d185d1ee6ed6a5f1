"""A Markdown page as sections, tables, lists, fences and labelled segments; knows Markdown and nothing of APIs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token


_COLONS = (":", "：")


@dataclass
class Segment:
    """One line of running text.

    Attributes:
        label: What is bold at its beginning.
        text: The rest as plain text, the code spans among it.
        codes: The code spans.
        colon: Whether a colon stands between label and text; without one, the label may be mere emphasis.
    """

    label: str = ""
    text: str = ""
    codes: list[str] = field(default_factory=list)
    colon: bool = False


@dataclass(frozen=True)
class Cell:
    """One table cell."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The plain text of the cell, its lines joined by spaces."""
        return " ".join(segment.text for segment in self.segments).strip()


@dataclass(frozen=True)
class Table:
    """A table: its column headings and its rows, each with one cell per column."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, Cell], ...]


@dataclass
class Item:
    """One item of a list, with the items of the lists inside it."""

    segments: list[Segment] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)

    def lines(self) -> Iterator[Segment]:
        """Yield the lines of this item and of those inside, in page order."""
        yield from self.segments
        for item in self.items:
            yield from item.lines()


@dataclass
class Section:
    """A heading and what stands under it, up to the next heading.

    Attributes:
        headings: The headings that lead here, outermost first.
    """

    headings: tuple[str, ...]
    segments: list[Segment] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    fences: list[str] = field(default_factory=list)

    @property
    def heading(self) -> str:
        """The section's own heading, empty before the first one."""
        return self.headings[-1] if self.headings else ""

    def lines(self) -> Iterator[Segment]:
        """Yield the lines outside tables: those of paragraphs, then those of lists."""
        yield from self.segments
        for item in self.items:
            yield from item.lines()


def read_sections(text: str) -> list[Section]:
    """Split a Markdown page into its sections, in page order."""
    tokens = iter(MarkdownIt("commonmark").enable("table").parse(text))
    sections, levels, nest = [Section(())], list[tuple[int, str]](), list[Item]()
    for token in tokens:
        if token.type == "heading_open":
            level = int(token.tag[1:])
            levels = [pair for pair in levels if pair[0] < level] + [(level, _plain(next(tokens)))]
            sections.append(Section(tuple(title for _, title in levels)))
        elif token.type == "list_item_open":
            item = Item()
            (nest[-1].items if nest else sections[-1].items).append(item)
            nest.append(item)
        elif token.type == "list_item_close":
            nest.pop()
        else:
            _add(token, tokens, sections[-1], nest[-1].segments if nest else sections[-1].segments)
    return sections


def _add(token: Token, tokens: Iterator[Token], section: Section, lines: list[Segment]) -> None:
    if token.type == "table_open":
        section.tables.append(_table(tokens))
    elif token.type == "fence":
        section.fences.append(token.content)
    elif token.type == "inline":
        lines.extend(_segments(token))


def _plain(inline: Token) -> str:
    """Return a heading without the marks of code and emphasis."""
    return "".join(token.content for token in inline.children or ()).strip()


def _table(tokens: Iterator[Token]) -> Table:
    rows: list[list[Cell]] = []
    for token in tokens:
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(Cell(tuple(_segments(token))))
    columns = tuple(cell.text for cell in rows[0])
    return Table(columns, tuple(dict(zip(columns, row, strict=True)) for row in rows[1:]))


def _segments(inline: Token) -> list[Segment]:
    """Cut running text at its line breaks, ``<br>`` among them."""
    segments, in_label = [Segment()], False
    for token in inline.children or []:
        current = segments[-1]
        if token.type in {"softbreak", "hardbreak"} or _is_break(token):
            segments.append(Segment())
        elif token.type in {"strong_open", "strong_close"}:
            in_label = token.type == "strong_open" and not (current.text + current.label).strip()
        elif in_label:
            current.label += token.content
        else:
            current.text += token.content
            if token.type == "code_inline":
                current.codes.append(token.content)
    return [_tidy(segment) for segment in segments]


def _tidy(segment: Segment) -> Segment:
    label, text = segment.label.strip(), segment.text.strip()
    if not label:
        return Segment(text=text, codes=segment.codes)
    colon = label.endswith(_COLONS) or text.startswith(_COLONS)
    return Segment(label.rstrip(":： "), text.lstrip(":： "), segment.codes, colon)


def _is_break(token: Token) -> bool:
    return token.type == "html_inline" and token.content.lower().startswith("<br")
