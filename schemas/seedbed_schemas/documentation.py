"""The documentation as it is installed: its pages and sections as Markdown, and the entry of an error text.

A topic is the name of a page, such as ``faults``, or of a section of it, such as ``faults#effects``: the words that
follow ``docs:`` below an error. The page on troubleshooting lists the error texts, so it decides which topic a text
has. ``…`` in one of its texts stands for a part that varies.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

TROUBLESHOOTING: Final = "troubleshooting"
FIDELITY: Final = "fidelity"
PART: Final = "…"
"""Stands for the parts of an error text that vary."""

_INSTALLED: Final = Path(__file__).parent / "docs"
_CHECKOUT: Final = Path(__file__).parents[2] / "docs"
_LONGEST_QUESTION: Final = 4000
_ENTRY_LEVEL: Final = 3
"""Level of the headings of entries on the page on troubleshooting; groups of entries are above it."""
_HEADING: Final = re.compile(r"(#{1,6}) +(.+?) *#*$")
_COMMENT: Final = re.compile(r"<!--.*?-->\n*", re.DOTALL)
_LINK: Final = re.compile(r"\]\(([\w-]+)\.md(#[\w-]+)?\)")
_STEP: Final = re.compile(r"^\*\*Find out:\*\* (.+?)(?:\n\n|\Z)", re.DOTALL | re.MULTILINE)
_TEXTS: Final = re.compile(r"^```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CODE: Final = re.compile(r"(?:code|http)?\s*(\d{3})", re.IGNORECASE)
_NOISE: Final = re.compile(r"[`'\"“”‘’]")


class UnknownTopicError(ValueError):
    """The documentation has no such topic.

    Attributes:
        near: Topics with a similar name.
    """

    def __init__(self, topic: str, near: list[str]) -> None:
        hint = f"did you mean {' or '.join(near)}?" if near else "seedbed docs lists the topics."
        super().__init__(f"unknown topic {topic[:80]!r}; {hint}")
        self.near = near


@dataclass(frozen=True, slots=True)
class DocsSection:
    """A page or one of its sections.

    Attributes:
        topic: Name of the page, and the anchor of the section after ``#``.
        title: Its heading.
        level: Level of the heading, 1 for a page.
        markdown: Its content with the heading and the sections inside of it.
    """

    topic: str
    title: str
    level: int
    markdown: str

    @property
    def texts(self) -> tuple[str, ...]:
        """The error texts of an entry of the page on troubleshooting; empty for other sections."""
        is_entry = self.topic.startswith(f"{TROUBLESHOOTING}#") and self.level == _ENTRY_LEVEL
        return tuple(line for block in _TEXTS.findall(self.markdown) for line in block.splitlines()) if is_entry else ()

    @property
    def step(self) -> str:
        """What to do to find the cause, for an entry of the page on troubleshooting; empty for other sections."""
        found = _STEP.search(self.markdown)
        return " ".join(found[1].split()) if found else ""

    @property
    def own_text(self) -> str:
        """The text without the sections inside of it."""
        lines = self.markdown.splitlines()
        end = next((line for line, *_ in list(_headings(lines))[1:]), len(lines))
        return "\n".join(lines[:end])

    def to_json(self) -> dict[str, object]:
        """Return the section as a JSON object."""
        return {"topic": self.topic, "title": self.title, "markdown": self.markdown, "step": self.step}


@cache
def sections() -> dict[str, DocsSection]:
    """Return every page and section by topic, pages before their sections."""
    folder = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
    return {
        section.topic: section
        for path in sorted(folder.glob("*.md"))
        for section in sections_of(path.stem, path.read_text(encoding="utf-8"))
    }


def pages() -> list[DocsSection]:
    """Return the pages, ordered by name."""
    return [section for section in sections().values() if "#" not in section.topic]


def section(topic: str) -> DocsSection:
    """Return a page or section.

    Raises:
        UnknownTopicError: There is none with that name; the message names similar ones.
    """
    wanted = topic.strip().removesuffix(".md").replace(".md#", "#").replace(".html", "").lower()
    if found := sections().get(wanted):
        return found
    anchors = [name for name in sections() if name.partition("#")[2] == wanted.removeprefix("#")]
    if len(anchors) == 1:
        return sections()[anchors[0]]
    near = anchors[:3] or get_close_matches(wanted, list(sections()), 3, 0.6)
    raise UnknownTopicError(topic, near)


def entry_of(text: str) -> DocsSection | None:
    """Return the entry of an error text as it was printed, or ``None`` if no entry has it.

    The text may have the name of the command before it, other lines around it, and line breaks inside of it.
    """
    printed = _plain(text)
    best, most = None, 0
    for pattern, entry in error_patterns():
        size = sum(map(len, pattern))
        if size > most and occurs_in(pattern, printed):
            best, most = entry, size
    return best


def topic_of(text: str) -> str:
    """Return the topic of an error text: that of its entry, or the whole page on troubleshooting."""
    entry = entry_of(text)
    return entry.topic if entry else TROUBLESHOOTING


def search(words: str) -> list[DocsSection]:
    """Return what the documentation says about some words: the entry of an error text, or the sections with the words.

    At most ten sections, the best first.
    """
    if entry := entry_of(words):
        return [entry]
    wanted = set(re.findall(r"[\w-]{2,}", words.lower()))
    ranked = []
    for found in sections().values():
        text = found.own_text.lower()
        # Words in the heading count most; a section is better than the page around it.
        hits = sum(word in text for word in wanted) + 2 * sum(word in found.title.lower() for word in wanted)
        if hits and sum(word in text for word in wanted) * 2 > len(wanted):
            ranked.append((-hits, len(text), found.topic))
    return [sections()[topic] for *_, topic in sorted(ranked)[:10]]


def explain(question: str) -> DocsSection:
    """Return what the documentation says about an error text, a code such as ``402``, a clause ID or a topic.

    Raises:
        UnknownTopicError: It says nothing about it; the message names similar topics.
    """
    words = question.strip()[:_LONGEST_QUESTION]
    if found := entry_of(words) if " " in words and not _CODE.fullmatch(words) else None:
        return found
    try:
        return section_named(words)
    except UnknownTopicError:
        if results := search(words):
            return results[0]
        raise


def clause_section(name: str) -> DocsSection | None:
    """Return what is known about a clause of the contract: its value, its source and its rows on fidelity."""
    from seedbed_schemas.contract import default_contract  # errors are printed without a contract
    from seedbed_schemas.job_api import job_api  # as above

    clause = next((each for each in (*default_contract().clauses(), *job_api().clauses()) if each.id == name), None)
    if clause is None:
        return None
    place = " > ".join(clause.place.values())
    lines = [f"# {name}", "", f"- Kind: {clause.kind}", f"- States: {clause.value}", f"- Source: {place}"]
    rows = sections()[FIDELITY].markdown.splitlines() if FIDELITY in sections() else []
    held = [row for row in rows if row.startswith("|") and f"`{name}`" in row]
    if held:
        lines += ["", "| Behaviour | Basis | Source | Held by |", "|---|---|---|---|", *held]
    return DocsSection(FIDELITY, name, 1, "\n".join(lines) + "\n")


def sections_of(page: str, text: str) -> Iterator[DocsSection]:
    """Yield a page and its sections, with links between pages as topics."""
    lines = _LINK.sub(r"](\1\2)", _COMMENT.sub("", text)).splitlines(keepends=True)
    headings = list(_headings(lines))
    taken: set[str] = set()
    for number, (line, level, title) in enumerate(headings):
        end = next((start for start, depth, _ in headings[number + 1 :] if depth <= level), len(lines))
        anchor = anchor_of(title, taken)
        topic = page if number == 0 else f"{page}#{anchor}"
        yield DocsSection(topic, title, level, "".join(lines[line:end]).rstrip() + "\n")


def _headings(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """Yield the line, the level and the text of each heading."""
    fence = ""
    for number, line in enumerate(lines):
        if line.startswith(("```", "~~~")):
            fence = "" if fence and line.startswith(fence) else fence or line[:3]
        elif not fence and (heading := _HEADING.match(line.rstrip("\n"))):
            yield number, len(heading[1]), heading[2].replace("`", "")


def anchor_of(title: str, taken: set[str]) -> str:
    """Return the anchor of a heading, as the site has it."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    first = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())
    anchor, number = first, 0
    while anchor in taken:
        number += 1
        anchor = f"{first}_{number}"
    taken.add(anchor)
    return anchor


@cache
def error_patterns() -> tuple[tuple[tuple[str, ...], DocsSection], ...]:
    """Return the constant parts of every error text, with its entry."""
    return tuple(
        (tuple(_plain(part) for part in text.split(PART)), entry)
        for entry in sections().values()
        for text in entry.texts
    )


def _plain(text: str) -> str:
    """Return a text without quotation marks, upper case and repeated blanks, by which copies of it differ."""
    return re.sub(r"\s+", " ", _NOISE.sub("", text[:_LONGEST_QUESTION])).lower()


def occurs_in(parts: tuple[str, ...], text: str) -> bool:
    """Return whether the parts occur in a text in their order. The time is linear, whatever the text is."""
    position = 0
    for part in parts:
        found = text.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return True


def section_named(name: str) -> DocsSection:
    """Return the section of a topic, a code or a clause; raise ``UnknownTopicError`` if there is none."""
    code = _CODE.fullmatch(name)
    return sections().get(f"{TROUBLESHOOTING}#code-{code[1]}" if code else "") or clause_section(name) or section(name)
