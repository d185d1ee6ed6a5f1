"""A Markdown page as sections of text, tables, lists and code fences. Nothing here depends on APIs or on the vendor."""

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
    """One line of running text, split into a bold label and the rest.

    Attributes:
        label: Bold text at the start of the line.
        text: The rest as plain text, including its code spans.
        codes: The code spans.
        colon: Whether a colon separates label and text; without one, the bold text may be mere emphasis.
    """

    label: str = ""
    text: str = ""
    codes: list[str] = field(default_factory=list)
    colon: bool = False

    def without_colon(self) -> Segment:
        """Return the segment without white space around its parts and without the colon between them.

        Pages write the colon inside or after the bold text.
        """
        label, text = self.label.strip(), self.text.strip()
        if not label:
            return Segment(text=text, codes=self.codes)
        colon = label.endswith(_COLONS) or text.startswith(_COLONS)
        return Segment(label.rstrip(":： "), text.lstrip(":： "), self.codes, colon)


@dataclass(frozen=True)
class Cell:
    """One table cell."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The plain text of the cell, with its lines joined by spaces."""
        return " ".join(segment.text for segment in self.segments).strip()


@dataclass(frozen=True)
class Table:
    """A table: its column headings, and its rows with one cell per column."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, Cell], ...]


@dataclass
class Item:
    """One list item, with the items nested in it."""

    segments: list[Segment] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)

    def lines(self) -> Iterator[Segment]:
        """Yield the lines of this item and of its nested items, in page order."""
        yield from self.segments
        for item in self.items:
            yield from item.lines()


@dataclass
class Section:
    """A heading and the content below it, up to the next heading.

    Attributes:
        headings: The headings of the section and of the sections around it, outermost first.
    """

    headings: tuple[str, ...]
    segments: list[Segment] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    fences: list[str] = field(default_factory=list)

    @property
    def heading(self) -> str:
        """The section's own heading; empty for the content before the first heading."""
        return self.headings[-1] if self.headings else ""

    def lines(self) -> Iterator[Segment]:
        """Yield the lines outside tables: first those of paragraphs, then those of lists."""
        yield from self.segments
        for item in self.items:
            yield from item.lines()


def read_sections(text: str) -> list[Section]:
    """Split a Markdown page into its sections, in page order."""
    tokens = iter(MarkdownIt("commonmark").enable("table").parse(text))
    sections, levels, open_items = [Section(())], list[tuple[int, str]](), list[Item]()
    for token in tokens:
        if token.type == "heading_open":
            level = int(token.tag[1:])
            # The text without the marks of code and emphasis.
            title = "".join(child.content for child in next(tokens).children or ()).strip()
            levels = [pair for pair in levels if pair[0] < level] + [(level, title)]
            sections.append(Section(tuple(title for _, title in levels)))
        elif token.type == "list_item_open":
            item = Item()
            (open_items[-1].items if open_items else sections[-1].items).append(item)
            open_items.append(item)
        elif token.type == "list_item_close":
            open_items.pop()
        elif token.type == "table_open":
            sections[-1].tables.append(_read_table(tokens))
        elif token.type == "fence":
            sections[-1].fences.append(token.content)
        elif token.type == "inline":
            (open_items[-1] if open_items else sections[-1]).segments.extend(_segments(token))
    return sections


def _read_table(tokens: Iterator[Token]) -> Table:
    """Read the tokens of a table up to its end."""
    rows: list[list[Cell]] = []
    for token in tokens:
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(Cell(tuple(_segments(token))))
    columns = tuple(cell.text for cell in rows[0])
    # Markdown-it pads and cuts every row to the width of the header, so the lengths are equal.
    return Table(columns, tuple(dict(zip(columns, row, strict=True)) for row in rows[1:]))


def _segments(inline: Token) -> list[Segment]:
    """Split running text at its line breaks; a table cell can only break lines with ``<br>``."""
    segments, in_label = [Segment()], False
    for token in inline.children or []:
        current = segments[-1]
        is_html_break = token.type == "html_inline" and token.content.lower().startswith("<br")
        if token.type in {"softbreak", "hardbreak"} or is_html_break:
            segments.append(Segment())
        elif token.type in {"strong_open", "strong_close"}:
            in_label = token.type == "strong_open" and not (current.text + current.label).strip()
        elif in_label:
            current.label += token.content
        else:
            current.text += token.content
            if token.type == "code_inline":
                current.codes.append(token.content)
    return [segment.without_colon() for segment in segments]
