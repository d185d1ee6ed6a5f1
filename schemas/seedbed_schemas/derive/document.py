"""A Markdown page as sections of paragraphs, lists, tables and code fences. Nothing here depends on APIs or the vendor.

Every part remembers its line in the page, so that an error message can name it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final, TypeAlias

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
        line: Line in the page, from 1; 0 if unknown.
        bullet: Whether the line starts a list item.
        inline: Whether the statement stands inside a sentence, so that a line of its own takes precedence.
    """

    label: str = ""
    text: str = ""
    codes: list[str] = field(default_factory=list)
    colon: bool = False
    line: int = 0
    bullet: bool = False
    inline: bool = False

    def without_colon(self) -> Segment:
        """Return the segment without white space around its parts and without the colon between them.

        Pages write the colon inside or after the bold text.
        """
        label, text = self.label.strip(), self.text.strip()
        if not label:
            return Segment("", text, self.codes, line=self.line)
        colon = label.endswith(_COLONS) or text.startswith(_COLONS)
        return Segment(label.rstrip(":： "), text.lstrip(":： "), self.codes, colon, self.line)


@dataclass(frozen=True)
class Cell:
    """One table cell."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The plain text of the cell, its lines joined by spaces; a bold label without text beside it counts."""
        return " ".join(segment.text or segment.label for segment in self.segments).strip()


@dataclass(frozen=True)
class Row:
    """One row of a table: its cells by column heading, and its line in the page."""

    cells: dict[str, Cell]
    line: int = 0


@dataclass(frozen=True)
class Table:
    """A table: its column headings, and its rows with one cell per column."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Fence:
    """A code fence or an indented code block."""

    text: str
    line: int = 0


@dataclass
class Paragraph:
    """The lines of a paragraph."""

    segments: list[Segment]


@dataclass
class Item:
    """One list item with its paragraphs, its code fences and the items nested in it, in page order."""

    blocks: list[Block] = field(default_factory=list)

    @property
    def segments(self) -> list[Segment]:
        """The lines of the item itself, without those of nested items."""
        return [line for block in self.blocks if isinstance(block, Paragraph) for line in block.segments]

    @property
    def items(self) -> list[Item]:
        """The items nested in this one."""
        return [block for block in self.blocks if isinstance(block, Item)]

    def lines(self) -> Iterator[Segment]:
        """Yield the lines of this item and of its nested items, in page order."""
        yield from lines_of(self.blocks)


Block: TypeAlias = "Paragraph | Item | Table | Fence"


@dataclass
class Section:
    """A heading and the content below it, up to the next heading.

    Attributes:
        headings: The headings of the section and of the sections around it, outermost first.
        line: Line of the heading.
        blocks: The content in page order.
        caption: Bold name of a field above the content, in pages that use such names instead of headings.
    """

    headings: tuple[str, ...]
    line: int = 1
    blocks: list[Block] = field(default_factory=list)
    caption: str = ""

    @property
    def heading(self) -> str:
        """The section's own heading; empty for the content before the first heading."""
        return self.headings[-1] if self.headings else ""

    @property
    def items(self) -> list[Item]:
        """The list items of the section."""
        return [block for block in self.blocks if isinstance(block, Item)]

    @property
    def tables(self) -> list[Table]:
        """The tables of the section."""
        return [block for block in self.blocks if isinstance(block, Table)]

    @property
    def fences(self) -> list[Fence]:
        """The code fences of the section, including those in its lists."""
        return list(_fences(self.blocks))

    def lines(self) -> Iterator[Segment]:
        """Yield the lines of paragraphs and lists, in page order."""
        yield from lines_of(self.blocks)


def lines_of(blocks: Iterable[Block]) -> Iterator[Segment]:
    """Yield the lines of paragraphs and list items, in page order."""
    for block in blocks:
        if isinstance(block, Paragraph):
            yield from block.segments
        elif isinstance(block, Item):
            yield from block.lines()


def _fences(blocks: Iterable[Block]) -> Iterator[Fence]:
    for block in blocks:
        if isinstance(block, Fence):
            yield block
        elif isinstance(block, Item):
            yield from _fences(block.blocks)


# --- reading ---------------------------------------------------------------------------------------------------------


# Characters without width, which copied pages contain inside of names.
_INVISIBLE: Final = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"))
# Patterns that look for blanks before something would try each of them in turn.
_LONG_BLANK: Final = re.compile(r"(?<=\S)[^\S\n]{40,}")
_MARKER: Final = re.compile(r"\s{0,3}(`{3,}|~{3,})")


def read_sections(text: str) -> list[Section]:
    """Split a Markdown page into its sections, in page order."""
    sections, markdown = [Section(())], MarkdownIt("commonmark").enable("table")
    reader = _Reader(sections)
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_INVISIBLE)
    text = _LONG_BLANK.sub(" ", text)
    for line, part in _parts(text):
        if part.lstrip()[:6].lower() == "<table":
            sections[-1].blocks.extend(html_tables(markdown, part, line))
        else:
            reader.read(markdown.parse(part), line)
    return sections


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Split a page before and after each HTML table outside code fences, and yield the parts with their first line.

    CommonMark ends an HTML block at an empty line, which may be in the middle of a table.
    """
    if "<table" not in text.lower():
        yield 1, text
        return
    start, part, fence, in_table = 1, list[str](), "", False
    for number, line in enumerate(text.split("\n"), 1):
        if (marker := _MARKER.match(line)) and not in_table:
            fence = marker[1] if not fence else "" if marker[1].startswith(fence) else fence
        if not fence and not in_table and line.lstrip()[:6].lower() == "<table":
            yield start, "\n".join(part)
            start, part, in_table = number, [], True
        part.append(line)
        if in_table and "</table" in line.lower():
            yield start, "\n".join(part)
            start, part, in_table = number + 1, [], False
    yield start, "\n".join(part)


class _Reader:
    """Adds the content of Markdown tokens to the last section, and a section for each heading."""

    def __init__(self, sections: list[Section]) -> None:
        self._sections, self._levels, self._open = sections, list[tuple[int, str]](), list[Item]()

    def read(self, tokens: list[Token], first_line: int) -> None:
        stream = iter(tokens)
        for token in stream:
            line = first_line + (token.map[0] if token.map else 0)
            if token.type == "heading_open":
                self.open_section(int(token.tag[1:]), next(stream), line)
            elif token.type == "list_item_open":
                item = Item()
                self._blocks.append(item)
                self._open.append(item)
            elif token.type == "list_item_close":
                self._open.pop()
            elif token.type == "table_open":
                self._blocks.append(read_table(stream, first_line))
            elif token.type in {"fence", "code_block"}:
                self._blocks.append(Fence(token.content, line))
            elif token.type == "inline":
                self._blocks.append(Paragraph(_segments(token, line, bullet=bool(self._open) and not self._blocks)))

    @property
    def _blocks(self) -> list[Block]:
        return (self._open[-1] if self._open else self._sections[-1]).blocks

    def open_section(self, level: int, inline: Token, line: int) -> None:
        # The text without the marks of code and emphasis.
        title = "".join(child.content for child in inline.children or ()).strip()
        self._levels = [pair for pair in self._levels if pair[0] < level] + [(level, title)]
        self._sections.append(Section(tuple(title for _, title in self._levels), line))


def read_table(tokens: Iterator[Token], first_line: int) -> Table:
    """Read the tokens of a table up to its end."""
    rows: list[list[Cell]] = []
    lines: list[int] = []
    for token in tokens:
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            rows.append([])
            lines.append(first_line + (token.map[0] if token.map else 0))
        elif token.type == "inline":
            rows[-1].append(Cell(tuple(_segments(token, lines[-1]))))
    columns = tuple(cell.text for cell in rows[0])
    # Markdown-it pads and cuts every row to the width of the header, so the lengths are equal.
    body = zip(rows[1:], lines[1:], strict=True)
    return Table(columns, tuple(Row(dict(zip(columns, row, strict=True)), line) for row, line in body))


def _segments(inline: Token, line: int, *, bullet: bool = False) -> list[Segment]:
    """Split running text at its line breaks; a table cell can only break lines with ``<br>``."""
    segments, in_label = [Segment(line=line, bullet=bullet)], False
    for token in inline.children or []:
        current = segments[-1]
        is_html_break = token.type == "html_inline" and token.content.lower().startswith("<br")
        if token.type in {"softbreak", "hardbreak"} or is_html_break:
            line += 0 if is_html_break else 1
            segments.append(Segment(line=line))
        elif token.type in {"strong_open", "strong_close"}:
            in_label = token.type == "strong_open" and not (current.text + current.label).strip(" -*•·\t")
            current.text = "" if in_label else current.text  # the mark of a list inside a table cell
        elif token.type == "html_inline" and _HTML_TAG.match(token.content):
            pass
        elif in_label:
            current.label += token.content
        else:
            current.text += token.content
            if token.type == "code_inline":
                current.codes.append(token.content)
    done = [segment.without_colon() for segment in segments]
    done[0].bullet = bullet
    return done


# Other names in angle brackets are types, such as `enum<string>`.
_HTML_TAG: Final = re.compile(
    r"</?(?:a|b|center|code|del|div|em|font|i|img|kbd|li|mark|ol|p|pre|small|span|strong|sub|sup|u|ul)\b|<!--",
    re.IGNORECASE,
)


class _TableParser(HTMLParser):
    """Turns HTML tables into rows of Markdown text."""

    _MARKS: Final = {"code": "`", "b": "**", "strong": "**"}

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tables = list[list[tuple[int, list[str]]]]()
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - the name is that of the base class
        if tag == "table":
            self.tables.append([])
            self._in_cell = False
        elif tag == "tr" and self.tables:
            self.tables[-1].append((self.getpos()[0], []))
        elif tag in {"td", "th"} and self.tables and self.tables[-1]:
            self.tables[-1][-1][1].append("")
            self._in_cell = True
        elif tag in {"br", "li", "p"}:
            self.handle_data("\n")
        else:
            self.handle_data(self._MARKS.get(tag, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th", "tr"}:
            self._in_cell = False
        else:
            self.handle_data(self._MARKS.get(tag, ""))

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.tables[-1][-1][1][-1] += data


def html_tables(markdown: MarkdownIt, text: str, first_line: int) -> Iterator[Table]:
    """Yield the tables in HTML text that starts at a line of the page."""
    parser = _TableParser()
    parser.feed(text)
    parser.close()

    def read_cell(cell: str, line: int) -> Cell:
        inline = markdown.parseInline("\n".join(map(str.strip, cell.strip().split("\n"))))
        return Cell(tuple(_segments(inline[0], line)))

    for rows in parser.tables:
        read = [
            (first_line + start - 1, [read_cell(cell, first_line + start - 1) for cell in row]) for start, row in rows
        ]
        columns = tuple(cell.text for cell in read[0][1]) if read else ()
        padded = ((line, row + [Cell(())] * (len(columns) - len(row))) for line, row in read[1:])
        body = tuple(Row(dict(zip(columns, row, strict=False)), line) for line, row in padded)
        yield from [Table(columns, body)] if columns else []
