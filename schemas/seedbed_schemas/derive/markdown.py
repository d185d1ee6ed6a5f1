"""Reader of Markdown pages that state their facts in tables, in lists or under headings, Chinese or English."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from seedbed_schemas.derive import layouts
from seedbed_schemas.derive.facts import (
    CodeFact,
    Field,
    OperationFacts,
    PageError,
    PageFacts,
    Place,
    RuleFact,
    codes_of_options,
)
from seedbed_schemas.derive.layouts import (
    FieldEntry,
    code_lines,
    entries,
    is_table_of_fields,
    properties_of,
    read_fields,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seedbed_schemas.derive.document import Section, Segment


_HEADER: Final = re.compile(r"(?P<header>[\w-]{1,100}): (?P<scheme>\S{1,100}) \S{1,1000}")


def read_markdown(sections: list[Section]) -> PageFacts:
    """Read a page of tables, lists or headings.

    Raises:
        PageError: The page lacks a part that a contract needs, or states something that cannot be read.
    """
    request, answer = _part(sections, "request"), _part(sections, "answer")
    body = [section for section in request if not _is_authorization(section)]
    asked, told, unread = _entries(body), _entries(answer), list(_unread(sections))
    operation = _operation(sections, request)
    asked_for, answered = _whole(body, asked, "the request body", unread), _whole(answer, told, "the answer", unread)
    return PageFacts(
        operation=operation,
        request=asked_for,
        answer=answered,
        codes=(*_codes(sections, told), *codes_of_options(answered)),
        unread=tuple(unread),
    )


def _part(sections: list[Section], concept: str) -> list[Section]:
    part = [section for section in sections if any(layouts.means(title, concept) for title in section.headings)]
    if not part:
        raise PageError(f"The page has no section {layouts.words_for(concept)}.")
    return part


def _is_authorization(section: Section) -> bool:
    return any(layouts.means(title, "authorization") for title in section.headings)


def _entries(part: list[Section]) -> list[FieldEntry]:
    """Return the entries of a part in page order, each field known before a heading is inside it."""
    found = list[FieldEntry]()
    for section in part:
        found.extend(entries(section, [entry.name for entry in found]))
    return found


def _whole(part: list[Section], listed: list[FieldEntry], what: str, unread: list[str]) -> Field:
    bodies = [section.heading for section in part if layouts.BODY.fullmatch(section.heading)]
    place = Place(bodies[0] if bodies else part[0].heading)
    fields = read_fields(listed, what, unread)
    told = {entry.parent.rpartition(".")[2] for entry in listed}
    for announced in filter(None, (properties_of(section.heading) for section in part)):
        if announced.rpartition(".")[2] not in told:
            raise PageError(f"The page announces the properties of {announced!r}, but lists none that can be read.")
    return Field("", {"type": RuleFact("object", place)}, fields=fields)


# --- the operation ---------------------------------------------------------------------------------------------------


def _operation(sections: list[Section], request: list[Section]) -> OperationFacts:
    path = _labelled(sections, "path")
    header, scheme = _authorization(request)
    return OperationFacts(_labelled(sections, "method"), path, server(sections, path.value), header, scheme)


def _labelled(sections: list[Section], concept: str) -> RuleFact:
    for section in sections:
        for line in section.lines():
            if layouts.means(line.label, concept) and line.text:
                return RuleFact(line.text, Place(section.heading, label=line.label))
    raise PageError(f"The page does not say {layouts.words_for(concept)}.")


def server(sections: list[Section], path: str) -> RuleFact:
    """Learn the server from the page's example calls of that path.

    Raises:
        PageError: There is no such example.
    """
    for section in sections:
        for word in (word for fence in section.fences for word in _shell_words(fence)):
            if word.startswith("https://") and word.endswith(path):
                return RuleFact(word.removesuffix(path), Place(section.heading))
    raise PageError(f"The page has no example call of https://.../{path.lstrip('/')} from which to learn the server.")


def _shell_words(fence: str) -> list[str]:
    try:
        return shlex.split(fence)
    except ValueError:  # a fence in another language than shell
        return []


def _authorization(request: list[Section]) -> tuple[RuleFact, RuleFact]:
    for section in filter(_is_authorization, request):
        for entry in entries(section, ()):
            for code in (code for line in entry.cells["description"].segments for code in line.codes):
                if (match := _HEADER.fullmatch(code)) and match["header"] == entry.name:
                    return RuleFact(entry.name, entry.at("name")), RuleFact(match["scheme"], entry.at("description"))
    raise PageError(f"The page has no table {layouts.words_for('authorization')} that shows the header to send.")


# --- codes -----------------------------------------------------------------------------------------------------------


def _codes(sections: list[Section], answer: list[FieldEntry]) -> Iterator[CodeFact]:
    for entry in answer:
        lines = entry.cells["description"].segments
        labels = [line.label for line in lines if layouts.means(line.label, "codes")]
        for number, _ in code_lines(lines):
            yield CodeFact(number, entry.at("description", labels[0]))
    for section in sections:
        for table in section.tables:
            columns = [column for column in table.columns if layouts.means(column, "status")]
            for text in (row[column].text for column in columns for row in table.rows):
                if re.fullmatch(r"\d{3,5}", text):
                    yield CodeFact(int(text), Place(section.heading, text, columns[0]))


# --- what is left ----------------------------------------------------------------------------------------------------


def _unread(sections: Iterable[Section]) -> Iterator[str]:
    """Yield what outside the entries is neither fact nor prose."""
    for section in sections:
        heading = repr(section.heading)
        if (match := layouts.BODY.fullmatch(section.heading)) and match["media"] != "application/json":
            yield f"the media type {match['media']!r}"
        for table in section.tables:
            yield from (f"the column {column!r} of the table under {heading}" for column in _strange(table.columns))
        for line in _loose(section):
            if line.colon and line.text and not layouts.means(line.label, *layouts.OPERATION, "prose"):
                yield f"{line.label!r} under {heading}"


def _strange(columns: tuple[str, ...]) -> list[str]:
    """Return the columns that mean nothing known; in a table of codes, the words beside the code are prose."""
    if any(layouts.means(column, "status") for column in columns):
        return []
    return [column for column in columns if not layouts.means(column, *layouts.COLUMNS)]


def _loose(section: Section) -> Iterator[Segment]:
    """Yield the lines of a section that belong to no field."""
    listed = [entry for entry in entries(section, ()) if not any(map(is_table_of_fields, section.tables))]
    if not listed:
        yield from section.lines()
    elif listed[0].place.heading != section.heading or listed[0].place.row:
        yield from section.segments
