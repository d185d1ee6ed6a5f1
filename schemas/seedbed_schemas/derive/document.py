"""A Markdown page as sections, tables, fences and labelled segments; knows Markdown and nothing of APIs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markdown_it.token import Token


@dataclass
class Segment:
    """One line of running text: its bold label, its code spans and its plain text.

    The code spans stand in the text too, so that ``text`` is the whole line without the label.
    """

    label: str = ""
    text: str = ""
    codes: list[str] = field(default_factory=list)


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
class Section:
    """A heading and what stands under it, up to the next heading.

    Attributes:
        headings: The headings that lead here, outermost first.
    """

    headings: tuple[str, ...]
    segments: list[Segment] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    fences: list[str] = field(default_factory=list)

    @property
    def heading(self) -> str:
        """The section's own heading, empty before the first one."""
        return self.headings[-1] if self.headings else ""


def read_sections(text: str) -> list[Section]:
    """Split a Markdown page into its sections, in page order."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    sections, levels = [Section(())], list[tuple[int, str]]()
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            level = int(token.tag[1:])
            levels = [pair for pair in levels if pair[0] < level] + [(level, tokens[index + 1].content)]
            sections.append(Section(tuple(title for _, title in levels)))
        elif token.type == "table_open":
            sections[-1].tables.append(_table(tokens[index:]))
        elif token.type == "fence":
            sections[-1].fences.append(token.content)
        elif token.type == "paragraph_open":
            sections[-1].segments.extend(_segments(tokens[index + 1]))
    return sections


def _table(tokens: Sequence[Token]) -> Table:
    rows: list[list[Cell]] = []
    for token in _until(tokens, "table_close"):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(Cell(tuple(_segments(token))))
    columns = tuple(cell.text for cell in rows[0])
    return Table(columns, tuple(dict(zip(columns, row, strict=True)) for row in rows[1:]))


def _until(tokens: Sequence[Token], closing: str) -> Iterator[Token]:
    for token in tokens:
        if token.type == closing:
            return
        yield token


def _segments(inline: Token) -> list[Segment]:
    """Cut running text at its line breaks, ``<br>`` among them."""
    segments, in_label = [Segment()], False
    for token in inline.children or []:
        current = segments[-1]
        if token.type in {"softbreak", "hardbreak"} or _is_break(token):
            segments.append(Segment())
        elif token.type in {"strong_open", "strong_close"}:
            in_label = token.type == "strong_open" and not current.text.strip()
        elif in_label:
            current.label += token.content
        else:
            current.text += token.content
            if token.type == "code_inline":
                current.codes.append(token.content)
    for segment in segments:
        segment.label = segment.label.rstrip(":： ")
        segment.text = segment.text.strip()
    return segments


def _is_break(token: Token) -> bool:
    return token.type == "html_inline" and token.content.lower().startswith("<br")
