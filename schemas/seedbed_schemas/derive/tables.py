"""Reader of the page form that states its facts in Markdown tables, one row a field."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from seedbed_schemas.derive import lexicon
from seedbed_schemas.derive.document import Cell, Section, Segment, read_sections
from seedbed_schemas.derive.facts import Code, Field, Operation, PageError, PageFacts, Place, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator


def read_tables(text: str) -> PageFacts:
    """Read a page of tables.

    Raises:
        PageError: The page lacks a part that a contract needs, or states something that cannot be read.
    """
    sections = read_sections(text)
    request = _part(sections, lexicon.REQUEST)
    answer = _part(sections, lexicon.ANSWER)
    body = [section for section in request if not _is_authorization(section)]
    return PageFacts(
        operation=_operation(sections, request),
        request=_fields(body, "the request body"),
        answer=_fields(answer, "the answer"),
        codes=tuple(_codes(answer)),
    )


def _part(sections: list[Section], heading: str) -> list[Section]:
    part = [section for section in sections if heading in section.headings]
    if not part:
        raise PageError(f"The page has no section {heading!r}.")
    return part


def _is_authorization(section: Section) -> bool:
    return section.heading == lexicon.AUTHORIZATION


# --- the operation ---------------------------------------------------------------------------------------------------


def _operation(sections: list[Section], request: list[Section]) -> Operation:
    path = _labelled(sections, lexicon.PATH)
    header, scheme = _authorization(request)
    return Operation(_labelled(sections, lexicon.METHOD), path, _server(sections, path.value), header, scheme)


def _labelled(sections: list[Section], label: str) -> Rule:
    for section in sections:
        for segment in section.segments:
            if segment.label == label and segment.text:
                return Rule(segment.text, Place(section.heading, label=label))
    raise PageError(f"The page does not say {label!r}.")


def _server(sections: list[Section], path: str) -> Rule:
    for section in sections:
        for word in (word for fence in section.fences for word in _shell_words(fence)):
            if word.startswith("https://") and word.endswith(path):
                return Rule(word.removesuffix(path), Place(section.heading))
    raise PageError(f"The page has no example call of https://.../{path.lstrip('/')} from which to learn the server.")


def _shell_words(fence: str) -> list[str]:
    try:
        return shlex.split(fence)
    except ValueError:  # a fence in another language than shell
        return []


def _authorization(request: list[Section]) -> tuple[Rule, Rule]:
    for section in filter(_is_authorization, request):
        for row in _rows(section):
            name = _code(row, lexicon.NAME, section)
            for code in (code for segment in row[lexicon.DESCRIPTION].segments for code in segment.codes):
                if match := re.fullmatch(rf"{re.escape(name)}: (\S+) \S+", code):
                    place = Place(section.heading, name)
                    return Rule(name, place.at(lexicon.NAME)), Rule(match[1], place.at(lexicon.DESCRIPTION))
    raise PageError(f"The page has no table {lexicon.AUTHORIZATION!r} that shows the header to send.")


# --- fields ----------------------------------------------------------------------------------------------------------


def _fields(part: list[Section], what: str) -> tuple[Field, ...]:
    """Read the tables of a part; one under ``FIELD 对象属性`` tells what is inside FIELD."""
    inner, outer = dict[str, list[Field]](), list[Field]()
    for section in part:
        match = lexicon.PROPERTIES.fullmatch(section.heading)
        target = inner.setdefault(match["field"], []) if match else outer
        target.extend(_field(section, row) for row in _rows(section))
    if not outer:
        raise PageError(f"The page has no table of the fields of {what}.")
    names = {field.name for fields in (outer, *inner.values()) for field in fields}
    if strays := inner.keys() - names:
        raise PageError(f"The page describes the properties of {min(strays)!r}, but no table names that field.")
    return tuple(_nest(field, inner) for field in outer)


def _nest(field: Field, inner: dict[str, list[Field]]) -> Field:
    children = inner.get(field.name, ())
    others = {name: fields for name, fields in inner.items() if name != field.name}
    return Field(field.name, field.rules, field.required, tuple(_nest(child, others) for child in children))


def _rows(section: Section) -> Iterator[dict[str, Cell]]:
    for table in section.tables:
        for column in (lexicon.NAME, lexicon.TYPE, lexicon.DESCRIPTION):
            if column not in table.columns:
                raise PageError(f"The table under {section.heading!r} has no column {column!r}.")
        yield from table.rows


def _field(section: Section, row: dict[str, Cell]) -> Field:
    name = _code(row, lexicon.NAME, section)
    place = Place(section.heading, name)
    written = _code(row, lexicon.TYPE, section)
    rules = {keyword: Rule(value, place.at(lexicon.TYPE)) for keyword, value in _type(written, name).items()}
    kind = rules["type"].value
    for keyword, value, label in _described(row[lexicon.DESCRIPTION], kind, name):
        rules[keyword] = Rule(value, place.at(lexicon.DESCRIPTION, label))
    if (default := row.get(lexicon.DEFAULT)) and default.text not in {"", lexicon.NO_DEFAULT}:
        rules["default"] = Rule(_typed(default.text, kind, name), place.at(lexicon.DEFAULT))
    if written.startswith("enum") and "enum" not in rules:
        raise PageError(f"The page says that {name!r} is one of a set, but lists no {lexicon.OPTIONS!r}.")
    return Field(name, rules, _required(row, place, name))


def _code(row: dict[str, Cell], column: str, section: Section) -> str:
    if not (text := row[column].text):
        name = row[lexicon.NAME].text
        raise PageError(f"The row {name!r} of the table under {section.heading!r} has nothing in column {column!r}.")
    return text


def _required(row: dict[str, Cell], place: Place, name: str) -> Rule | None:
    if lexicon.REQUIRED not in row:
        return None
    text = row[lexicon.REQUIRED].text
    if text not in lexicon.YES_NO:
        words = " or ".join(map(repr, lexicon.YES_NO))
        raise PageError(f"The page does not say {words} under {lexicon.REQUIRED!r} for {name!r}.")
    return Rule(lexicon.YES_NO[text], place.at(lexicon.REQUIRED))


def _type(written: str, name: str) -> dict[str, str]:
    """Read ``string``, ``string<uri>`` or ``enum<string>``."""
    match = re.fullmatch(r"(?P<outer>\w+)(?:<(?P<inner>[\w-]+)>)?", written)
    outer, inner = (match["outer"], match["inner"]) if match else (written, None)
    kind = inner if outer == "enum" else outer
    if kind not in lexicon.TYPES:
        raise PageError(f"The page gives {name!r} the type {written!r}, which is not known.")
    return {"type": kind} if outer == "enum" or not inner else {"type": kind, "format": inner}


def _described(cell: Cell, kind: str, name: str) -> Iterator[tuple[str, Any, str]]:
    """Yield (keyword, value, label) of each labelled line of a description."""
    for segment in cell.segments:
        if segment.label == lexicon.OPTIONS:
            yield "enum", [_typed(code, kind, name) for code in segment.codes], segment.label
        elif segment.label == lexicon.EXAMPLE and not re.search(r"\s", segment.text):
            # An example with spaces in it is a sentence of the vendor's: facts are ours to take, prose is not.
            yield "examples", [_typed(segment.text, "", name)], segment.label
        elif segment.label in lexicon.LIMITS:
            yield lexicon.LIMITS[segment.label], _typed(segment.text, "integer", name), segment.label


def _typed(text: str, kind: str, name: str) -> Any:
    """Read a value as the page writes it: strings bare, everything else as JSON."""
    if kind == "string":
        return text
    try:
        value = json.loads(text)
    except ValueError as error:
        raise PageError(
            f"The page gives {name!r} the value {text!r}, which is not of type {kind or 'JSON'}."
        ) from error
    if kind == "integer" and type(value) is not int:
        raise PageError(f"The page gives {name!r} the value {text!r}, which is not of type integer.")
    return value


# --- codes -----------------------------------------------------------------------------------------------------------


def _codes(answer: list[Section]) -> Iterator[Code]:
    for section in answer:
        for row in _rows(section):
            name = _code(row, lexicon.NAME, section)
            place = Place(section.heading, name)
            for segment in _listed(row[lexicon.DESCRIPTION].segments):
                yield Code(_typed(segment.codes[0], "integer", name), place.at(lexicon.DESCRIPTION, lexicon.CODES))


def _listed(segments: tuple[Segment, ...]) -> Iterator[Segment]:
    """Yield the list items that follow the label of the code list."""
    inside = False
    for segment in segments:
        inside = segment.label == lexicon.CODES or (inside and not segment.label)
        if inside and segment.codes:
            yield segment
