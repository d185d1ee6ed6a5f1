"""Reader of Markdown pages that state their facts in tables, lists or headings, in Chinese or English."""

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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from seedbed_schemas.derive.document import Section, Segment


_HEADER: Final = re.compile(r"(?P<header>[\w-]{1,100}): (?P<scheme>\S{1,100}) \S{1,1000}")


def read_markdown(sections: list[Section]) -> PageFacts:
    """Read a page of tables, lists or headings.

    Raises:
        PageError: The page lacks a part that a contract needs, or contains an invalid statement.
    """
    request_sections, answer_sections = _part(sections, "request"), _part(sections, "answer")
    body = [section for section in request_sections if not _is_authorization(section)]
    request_entries, answer_entries = _all_entries(body), _all_entries(answer_sections)
    unrecognized = list(_unrecognized(sections))
    operation = _operation(sections, request_sections)
    request = _read_part(body, request_entries, "the request body", unrecognized)
    answer = _read_part(answer_sections, answer_entries, "the response", unrecognized)
    return PageFacts(
        operation=operation,
        request=request,
        answer=answer,
        codes=(*_codes(sections, answer_entries), *codes_of_options(answer)),
        unrecognized=tuple(unrecognized),
    )


# --- parts of the page -----------------------------------------------------------------------------------------------


def _part(sections: list[Section], concept: str) -> list[Section]:
    part = [section for section in sections if any(layouts.match_concept(title, concept) for title in section.headings)]
    if not part:
        raise PageError(
            f"The page has no section {layouts.words_for(concept)}; pass the documentation page of a model."
        )
    return part


def _is_authorization(section: Section) -> bool:
    return any(layouts.match_concept(title, "authorization") for title in section.headings)


def _all_entries(part: list[Section]) -> list[layouts.FieldEntry]:
    """Return the entries of a part of the page, in page order."""
    found = list[layouts.FieldEntry]()
    for section in part:
        # A heading is the name of a field only if the field was listed before, so the names found so far are passed on.
        found.extend(layouts.entries(section, [entry.name for entry in found]))
    return found


def _read_part(part: list[Section], listed: list[layouts.FieldEntry], what: str, unrecognized: list[str]) -> Field:
    bodies = [section.heading for section in part if layouts.BODY.fullmatch(section.heading)]
    place = Place(bodies[0] if bodies else part[0].heading)
    fields = layouts.read_fields(listed, what, unrecognized)
    parents = {entry.parent.rpartition(".")[2] for entry in listed}
    for announced in filter(None, (layouts.properties_of(section.heading) for section in part)):
        if announced.rpartition(".")[2] not in parents:
            raise PageError(f"The page announces the properties of {announced!r}, but does not list them.")
    return Field("", {"type": RuleFact("object", place)}, fields=fields)


# --- the operation ---------------------------------------------------------------------------------------------------


def _operation(sections: list[Section], request: list[Section]) -> OperationFacts:
    path = _labelled_fact(sections, "path")
    header, scheme = _authorization(request)
    return OperationFacts(
        _labelled_fact(sections, "method"), path, server_from_examples(sections, path.value), header, scheme
    )


def _labelled_fact(sections: list[Section], concept: str) -> RuleFact:
    for section in sections:
        for line in section.lines():
            if layouts.match_concept(line.label, concept) and line.text:
                return RuleFact(line.text, Place(section.heading, label=line.label))
    raise PageError(f"The page does not state {layouts.words_for(concept)}.")


def server_from_examples(sections: list[Section], path: str) -> RuleFact:
    """Return the server that the page's example calls send a request for the path to.

    Raises:
        PageError: The page has no such example.
    """
    for section in sections:
        for fence in section.fences:
            try:
                words = shlex.split(fence)
            except ValueError:  # The example is in another language than shell.
                continue
            for word in words:
                if word.startswith("https://") and word.endswith(path):
                    return RuleFact(word.removesuffix(path), Place(section.heading))
    raise PageError(f"The page does not name the server: it has no example call of https://.../{path.lstrip('/')}.")


def _authorization(request: list[Section]) -> tuple[RuleFact, RuleFact]:
    """Return the header that carries the key and the word before the key, from an example such as ``A: Bearer KEY``."""
    for section in filter(_is_authorization, request):
        for entry in layouts.entries(section, ()):
            for code in (code for line in entry.cells["description"].segments for code in line.codes):
                if (match := _HEADER.fullmatch(code)) and match["header"] == entry.name:
                    return RuleFact(entry.name, entry.at("name")), RuleFact(match["scheme"], entry.at("description"))
    raise PageError(f"The page has no table {layouts.words_for('authorization')} that shows the header to send.")


# --- codes -----------------------------------------------------------------------------------------------------------


def _codes(sections: list[Section], answer: list[layouts.FieldEntry]) -> Iterator[CodeFact]:
    """Yield the codes that are listed in the description of a response field or in a table of codes."""
    for entry in answer:
        lines = entry.cells["description"].segments
        labels = [line.label for line in lines if layouts.match_concept(line.label, "codes")]
        for number, _ in layouts.code_lines(lines):
            yield CodeFact(number, entry.at("description", labels[0]))
    for section in sections:
        for table in section.tables:
            columns = [column for column in table.columns if layouts.match_concept(column, "status")]
            for text in (row[column].text for column in columns for row in table.rows):
                if re.fullmatch(r"\d{3,5}", text):
                    yield CodeFact(int(text), Place(section.heading, text, columns[0]))


# --- unrecognized statements -----------------------------------------------------------------------------------------


def _unrecognized(sections: Iterable[Section]) -> Iterator[str]:
    """Yield the statements outside the entries that are neither a known fact nor prose."""
    for section in sections:
        heading = repr(section.heading)
        if (match := layouts.BODY.fullmatch(section.heading)) and match["media"] != "application/json":
            yield f"the media type {match['media']!r}"
        for table in section.tables:
            # In a table of codes, the columns beside the code are prose.
            if not any(layouts.match_concept(column, "status") for column in table.columns):
                unknown = [column for column in table.columns if not layouts.match_concept(column, *layouts.COLUMNS)]
                yield from (f"the column {column!r} of the table under {heading}" for column in unknown)
        listed = list(layouts.entries(section, ()))
        lines: Iterable[Segment] = ()
        if not listed or any(map(layouts.is_table_of_fields, section.tables)):
            lines = section.lines()
        elif listed[0].place.heading != section.heading or listed[0].place.row:
            # The section has bullets with fields. Below the heading of a field, all lines belong to that field.
            lines = section.segments
        labels = (line.label for line in lines if line.colon and line.text)
        known = (*layouts.OPERATION, "prose")
        yield from (f"{label!r} under {heading}" for label in labels if not layouts.match_concept(label, *known))
