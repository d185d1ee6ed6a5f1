"""Reader of Markdown pages that state their facts in tables, lists, headings or bold names, in Chinese or English."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from seedbed_schemas.clauses import CODE
from seedbed_schemas.derive import layouts
from seedbed_schemas.derive.examples import (
    StatedOperation,
    example_calls,
    field_of_example,
    headings_of_others,
    is_request,
    is_success,
    json_examples,
    server_from_examples,
    stated_operations,
)
from seedbed_schemas.derive.facts import (
    CodeFact,
    Field,
    OperationFacts,
    PageError,
    PageFacts,
    Place,
    RuleFact,
    check_job_api,
    codes_of_options,
    parse_type,
    split_url,
)
from seedbed_schemas.derive.fields import code_lines, read_fields
from seedbed_schemas.derive.vocabulary import (
    BODY,
    COLUMNS,
    LABELS,
    OPERATION,
    announcement,
    match_concept,
    words_for,
)
from seedbed_schemas.job_api import job_api

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from seedbed_schemas.derive.document import Section, Segment, Table
    from seedbed_schemas.derive.layouts import FieldEntry


def read_markdown(sections: Iterable[Section]) -> PageFacts:
    """Read a page of tables, lists, headings or bold names.

    Raises:
        PageError: The page lacks a part that a contract needs, contains an invalid statement, or documents something
            other than the creation of a task.
    """
    page = _PageReader(list(layouts.with_captions(sections, is_heading)))
    try:
        page.sort_entries()
        return page.facts()
    except PageError:
        # An invalid statement of a page about something else is not what its reader needs to know.
        operation = page.described_operation()
        if operation and not operation.endswith(job_api().create_task.path) and not page.is_candidate():
            check_job_api(operation, answer=None)
        raise


def is_heading(caption: str, *, has_colon: bool) -> bool:
    """Return whether a caption has the meaning of a heading.

    With a colon, a caption above codes is a label in the description of the field ``code``.
    """
    announced = announcement(caption)
    parts = _PARTS if has_colon else (*_PARTS, "code list")
    return bool(match_concept(caption, *parts)) or bool(announced and announced.is_certain)


_PARTS: Final = ("authorization", "request", "answer")
_MODEL: Final = job_api().fields.model


# --- the page --------------------------------------------------------------------------------------------------------


_STATED_KEY: Final = re.compile(
    r"(?P<header>Authorization)\s?[:：]\s?(?P<scheme>\w{1,100})\s\S{1,1000}(?:\s?[(（,，;；。].*)?", re.IGNORECASE
)
"""A line such as ``Authorization: Bearer YOUR_KEY (required)``, with or without marks."""
_HEADER: Final = re.compile(r"(?P<header>[\w-]{1,100})\s?[:：]\s?(?P<scheme>[^\s:]{1,100})\s\S{1,1000}")


class _PageReader:
    """The sections of a page by the part that they belong to.

    Args:
        sections: The sections, in page order.
    """

    def __init__(self, sections: Sequence[Section]) -> None:
        self._all = sections
        operations = list(stated_operations(sections))
        self._main = next((each for each in operations if each.method in {"", "POST"}), None)
        self._named = operations[0] if operations else None
        others = headings_of_others(self._main, operations) if self._main else set[tuple[str, ...]]()
        self._sections = [
            section
            for section in sections
            if not any(section.headings[:depth] in others for depth in range(1, len(section.headings) + 1))
        ]
        self._parts: dict[str, list[Section]] = {part: [] for part in _PARTS}
        self._entries: dict[str, list[FieldEntry]] = {part: [] for part in _PARTS}
        # The fields found so far, by name in lower case.
        self._names: dict[str, dict[str, str]] = {part: {} for part in _PARTS}
        self._unrecognized = list[str]()
        self._examples = list(json_examples(self._sections))

    def sort_entries(self) -> None:
        """Read the entries of all parts, in page order."""
        for section in self._sections:
            if part := self.part_of(section):
                self._parts[part].append(section)
                # A heading is the name of a field only if the field was listed before.
                found = list(layouts.entries(section, self._names[part]))
                self._entries[part] += found
                self._names[part].update({entry.name.casefold(): entry.name for entry in found})
                self._names[part].update({entry.parent.casefold(): entry.parent for entry in found if entry.parent})

    def part_of(self, section: Section) -> str:
        if any(match_concept(title, "authorization") for title in section.headings):
            return "authorization"
        found = next(filter(None, (match_concept(title, "request", "answer") for title in section.headings)), "")
        if found:
            return found
        # The properties of a field may stand beside the part that lists the field.
        for announced in filter(None, map(announcement, reversed(section.headings))):
            root = announced.field.partition(".")[0].casefold()
            for part in ("request", "answer"):
                if root in self._names[part]:
                    return part
        return ""

    def is_candidate(self) -> bool:
        """Return whether the page may document a task, even if its statements are invalid.

        It does if it mentions the ID of a task, or names a field like the input of a task.
        """
        task_id, task_input = job_api().record_info.query, job_api().fields.input
        names = [title for section in self._all for title in (section.heading, section.caption)]
        texts = [fence.text for section in self._all for fence in section.fences]
        for section in self._all:
            lines = list(section.lines())
            names += [line.label or line.text for line in lines]
            texts += [line.label + line.text for line in lines]
            names += [cell.text for table in section.tables for row in table.rows for cell in row.cells.values()]
        is_input = re.compile(rf"{task_input}\b(?!\s[a-z])")
        return any(task_id in text for text in (*names, *texts)) or any(map(is_input.match, names))

    def described_operation(self) -> str:
        """Return the method and path that the page documents, or an empty string."""
        call = next((call for call in example_calls(self._all) if call.method), None)
        named = self._main or self._named
        if named:
            stated = self.labelled("method")
            method = named.method or (stated.value.strip().upper() if stated else "POST")
            return f"{method} {named.path}"
        return f"{call.method} {split_url(call.url)[1]}" if call else ""

    def facts(self) -> PageFacts:
        """Return what the page states."""
        self.check_parts()
        operation = self.operation()
        answer = self.answer()
        names = {entry.name for entry in self._entries["request"]}
        request = self.read_part("request", "the request body")
        inputs = [field for field in request.fields if field.name == job_api().fields.input]
        check_job_api(
            f"{operation.method.value} {operation.path.value}",
            answer,
            has_model=_MODEL in names,
            has_input=any(field.rules["type"].value == "object" for field in inputs),
        )
        codes = (*self.codes(), *codes_of_options(answer))
        answer = self.with_code_options(answer, codes)
        codes = codes or tuple(self.codes_of_examples())
        return PageFacts(
            operation=operation,
            request=self.with_model(request),
            answer=answer,
            codes=codes,
            unrecognized=(*_unrecognized(self._sections), *self._unrecognized),
            contradictions=tuple(self.blanks_in_names()),
            requests=tuple(filter(is_request, self._examples)),
            answers=tuple(filter(is_success, self._examples)),
        )

    def check_parts(self) -> None:
        described = self.described_operation()
        if described.startswith("GET "):
            raise PageError(f"The page documents {described}, which creates no task; pass the page of a model.")
        listed = [entry for entry in self._entries["request"] if entry.name == job_api().record_info.query]
        if listed and listed[0].parent and not self._parts["answer"]:
            where = f"among the fields of the request (line {listed[0].line})"
            raise PageError(
                f"The page lists {listed[0].name!r} {where}; expected a section {words_for('answer')} above it."
            )
        for part in ("request", "answer"):
            if self._parts[part] or (part == "answer" and any(map(is_success, self._examples))):
                continue
            raise PageError(
                f"The page documents no {part}: it has no section {words_for(part)}; pass the documentation page of "
                "a model."
            )

    # --- fields ---

    def read_part(self, part: str, what: str) -> Field:
        sections, listed = self._parts[part], self._entries[part]
        headings = [section.heading for section in sections]
        bodies = [heading for heading in headings if BODY.fullmatch(heading)]
        place = Place(bodies[0] if bodies else headings[0])
        fields = read_fields(listed, what, self._unrecognized)
        parents = {entry.parent.rpartition(".")[2] for entry in listed}
        for announced in filter(None, map(announcement, headings)):
            if announced.is_certain and announced.field.rpartition(".")[2] not in parents:
                raise PageError(f"The page announces the properties of {announced.field!r}, but does not list them.")
        return Field("", {"type": RuleFact("object", place)}, fields=fields)

    def answer(self) -> Field:
        if self._entries["answer"]:
            return self.read_part("answer", "the response")
        examples = filter(is_success, self._examples)
        shown = next(map(field_of_example, examples), None)
        return shown or self.read_part("answer", "the response")

    def with_model(self, request: Field) -> Field:
        """Return the request with the name of the model as a rule, wherever the page states it."""
        fields = []
        for field in request.fields:
            is_open = field.name == _MODEL and not {"enum", "const"} & field.rules.keys()
            name = next(self.model_names(field), None) if is_open else None
            fields.append(replace(field, rules=field.rules | {"const": name}) if name else field)
        return replace(request, fields=tuple(fields))

    def model_names(self, field: Field) -> Iterator[RuleFact]:
        """Yield the names of the model that the page gives outside a list of options, the most certain first."""
        if "default" in field.rules:
            yield field.rules["default"]
        for entry in self._entries["request"]:
            codes = {code.strip("\"' ") for line in entry.lines() for code in line.codes} - {_MODEL}
            if entry.name == _MODEL and len(codes) == 1:
                yield RuleFact(codes.pop(), entry.at("description"))
        labelled = ((section, line) for section in self._sections for line in section.lines() if line.colon)
        for section, line in labelled:
            if match_concept(line.label, "model name") and len(line.codes) == 1:
                yield RuleFact(line.codes[0], Place(section.heading, label=line.label))
        yield from [RuleFact(rule.value[0], rule.place) for rule in [field.rules.get("examples")] if rule]
        yield from (RuleFact(example.value[_MODEL], example.place) for example in filter(is_request, self._examples))

    def with_code_options(self, answer: Field, codes: Sequence[CodeFact]) -> Field:
        """Return the response with the listed codes as options, if the page says that the code is one of a set.

        Raises:
            PageError: The page says so, but lists no codes.
        """
        entries = [entry for entry in self._entries["answer"] if entry.name == CODE]
        enums = [entry for entry in entries if parse_type(entry.text("type"), CODE).is_enum]
        if enums and not codes:
            raise PageError(
                f"The page says that {CODE!r} is an enum, but has no line {words_for('options')} for it (line "
                f"{enums[0].line})."
            )
        options = RuleFact(list(dict.fromkeys(code.number for code in codes)), codes[0].place) if codes else None
        fields = tuple(
            replace(field, rules={"enum": options} | field.rules) if field.name == CODE and enums and options else field
            for field in answer.fields
        )
        return replace(answer, fields=fields)

    def blanks_in_names(self) -> Iterator[str]:
        for part in ("request", "answer"):
            for entry in self._entries[part]:
                codes = (
                    [code for line in entry.cells["name"].segments for code in line.codes]
                    if "name" in entry.cells
                    else []
                )
                if any(code != code.strip() for code in codes):
                    where = f"under {entry.place.heading!r} (line {entry.line})"
                    yield f"the name of the field {entry.name!r} {where} has a blank at an end; it is read without"

    # --- the operation ---

    def operation(self) -> OperationFacts:
        method, path, server = self.address()
        header, scheme = self.authorization()
        return OperationFacts(method, path, server, header, scheme)

    def address(self) -> tuple[RuleFact, RuleFact, RuleFact]:
        """Return method, path and server, from labels, from an example call or, if both are missing, as documented."""
        main, documented = self._main, job_api().create_task
        if main:
            path = RuleFact(main.path, main.place)
            method = RuleFact(main.method, main.place) if main.method else self.stated_method(main)
            server = RuleFact(main.server, main.place) if main.server else None
            server = server or server_from_examples(self._sections, main.path)
            return method, path, server or RuleFact(job_api().server, Place("", label=""))
        calls = [call for call in example_calls(self._sections) if call.method == documented.method]
        if calls:
            (server_url, path_text), place = split_url(calls[0].url), calls[0].place
            return RuleFact(calls[0].method, place), RuleFact(path_text, place), RuleFact(server_url, place)
        stated = self.labelled("method")
        if stated or any(True for _ in example_calls(self._sections)):
            # What is stated in part may be another operation than the documented one.
            raise PageError(f"The page does not state {words_for('path')}.")
        place = Place(self._parts["request"][0].heading)
        return RuleFact(documented.method, place), RuleFact(documented.path, place), RuleFact(job_api().server, place)

    def stated_method(self, main: StatedOperation) -> RuleFact:
        if stated := self.labelled("method"):
            return stated
        for call in example_calls(self._sections):
            if call.method and split_url(call.url)[1] == main.path:
                return RuleFact(call.method, call.place)
        title = self._all[1].heading if len(self._all) > 1 else ""
        raise PageError(f"The page does not state {words_for('method')} of {main.path}, or in its title {title!r}.")

    def labelled(self, concept: str) -> RuleFact | None:
        for section in self._sections:
            for line in section.lines():
                if match_concept(line.label, concept) and line.text:
                    return RuleFact(line.text, Place(section.heading, label=line.label))
        return None

    def authorization(self) -> tuple[RuleFact, RuleFact]:
        """Return the header that carries the key and the word before the key, from an example such as ``A: B KEY``."""
        for entry in self._entries["authorization"]:
            for code in (code for line in entry.lines() for code in line.codes):
                if (match := _HEADER.fullmatch(code.strip())) and match["header"] == entry.name:
                    return RuleFact(entry.name, entry.at("name")), RuleFact(match["scheme"], entry.at("description"))
        for section in [*self._parts["authorization"], *self._all]:
            for header, scheme in headers_in(section):
                if section in self._parts["authorization"] or header.casefold() == "authorization":
                    return RuleFact(header, Place(section.heading)), RuleFact(scheme, Place(section.heading))
        sent = ((call, *header) for call in example_calls(self._sections) for header in call.headers)
        if found := next(sent, None):
            call, header, scheme = found
            return RuleFact(header, call.place), RuleFact(scheme, call.place)
        raise PageError(f"The page has no table {words_for('authorization')} that shows the header to send.")

    # --- codes ---

    def codes(self) -> Iterator[CodeFact]:
        """Yield the codes listed in the description of a response field, in a table, or below a heading for codes."""
        for entry in self._entries["answer"]:
            labels = [line.label for line in entry.lines() if match_concept(line.label, "codes")]
            for number, _ in code_lines(entry.lines(), is_code_field=entry.name == CODE):
                yield CodeFact(number, entry.at("description", labels[0] if labels else ""))
        for section in self._sections:
            is_list = bool(match_concept(section.heading, "code list"))
            for table in section.tables:
                yield from codes_of_table(section, table, is_list=is_list)
            for number, line in code_lines(section.lines(), is_code_field=True) if is_list else ():
                yield CodeFact(number, Place(section.heading, label=line.label))

    def codes_of_examples(self) -> Iterator[CodeFact]:
        for entry in self._entries["answer"]:
            if entry.name == CODE:
                for number in re.findall(r"(?<!\d)[1-5]\d\d(?!\d)", " ".join(line.text for line in entry.lines())):
                    yield CodeFact(int(number), entry.at("description"))
        for example in filter(is_success, self._examples):
            yield CodeFact(example.value[CODE], example.place)


def headers_in(section: Section) -> Iterator[tuple[str, str]]:
    """Yield the headers that code spans, fences and labelled lines show, each with the word before the key."""
    codes = [code for line in section.lines() for code in line.codes]
    codes += [line for fence in section.fences for line in fence.text.splitlines()]
    for match in filter(None, (_HEADER.fullmatch(code.strip()) for code in codes)):
        yield match["header"], match["scheme"]
    for line in section.lines():
        stated = _STATED_KEY.fullmatch(f"{line.label}: {line.text}" if line.label else line.text)
        if stated:
            yield stated["header"], stated["scheme"]


def codes_of_table(section: Section, table: Table, *, is_list: bool) -> Iterator[CodeFact]:
    """Yield the codes of a table with a column of codes; below a heading for codes, that is the first column."""
    if layouts.is_table_of_fields(table):
        return
    columns = [column for column in table.columns if match_concept(column, "status")]
    columns = columns or (list(table.columns[:1]) if is_list else [])
    for row in table.rows:
        for text in (row.cells[column].text for column in columns[:1]):
            if re.fullmatch(r"\d{3,5}", text):
                yield CodeFact(int(text), Place(section.heading, text, columns[0]))


# --- unrecognized statements -----------------------------------------------------------------------------------------


def _unrecognized(sections: Iterable[Section]) -> Iterator[str]:
    """Yield the statements outside the entries that are neither a known fact nor prose."""
    for section in sections:
        heading = repr(section.heading)
        if (match := BODY.fullmatch(section.heading)) and match["media"].casefold() != "application/json":
            yield f"the media type {match['media']!r}"
        if any(match_concept(title, "prose heading", "code list") for title in section.headings):
            continue
        for table in section.tables:
            # In a table of codes, the columns beside the code are prose.
            if not any(match_concept(column, "status") for column in table.columns):
                known = (*COLUMNS, *LABELS, "value")
                unknown = [column for column in table.columns if not match_concept(column, *known)]
                yield from (f"the column {column!r} of the table under {heading}" for column in unknown)
        listed = list(layouts.entries(section, {}))
        lines: Iterable[Segment] = ()
        if not listed or any(map(layouts.is_table_of_fields, section.tables)):
            lines = section.lines()
        elif listed[0].place.heading != section.heading or listed[0].place.row:
            # The section has bullets with fields. Below the name of a field, all lines belong to that field.
            lines = () if section.caption else layouts.paragraph_lines(section)
        # The line under the heading of the body may be its media type.
        labels = (line.label for line in lines if line.colon and line.text and line.text != "application/json")
        is_about_keys = any(match_concept(title, "authorization") for title in section.headings)
        known = (*OPERATION, "prose", "codes", "options", "authorization", *(COLUMNS if is_about_keys else ()))
        yield from (f"{label!r} under {heading}" for label in labels if not match_concept(label, *known))
