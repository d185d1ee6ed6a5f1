"""Derivation of the contract of a model from a page of the vendor's documentation.

A page is Markdown with tables, lists or headings; Markdown with an OpenAPI document in a code fence; an OpenAPI
document; or the JSON response of the service for a model's schema. One reader for each form returns the same facts,
and one writer turns them into a contract.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import yaml12

from seedbed_schemas.contract import Contract, ContractError
from seedbed_schemas.derive.document import read_sections
from seedbed_schemas.derive.examples import contradictions, server_from_examples
from seedbed_schemas.derive.facts import KEYWORDS, PageError, PageFacts, RuleFact
from seedbed_schemas.derive.markdown import read_markdown
from seedbed_schemas.derive.openapi import read_openapi
from seedbed_schemas.job_api import job_api
from seedbed_schemas.validation import for_display

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seedbed_schemas.derive.facts import Field


__all__ = ["MAXIMUM_CHARACTERS", "Derivation", "PageError", "derive", "derive_page"]

MAXIMUM_CHARACTERS: Final = 2 * 1024 * 1024
"""Longer pages are rejected before they are parsed."""
# The known pages have less than a twentieth of each of these outside fences. What parsing costs depends on the number
# of marks, and on the length of the lines in which they, or our own patterns, are looked for.
_MAXIMUM_MARKDOWN_CHARACTERS: Final = 256 * 1024
_MAXIMUM_LINE_CHARACTERS: Final = 32 * 1024
_MAXIMUM_MARKS: Final = 20_000
_MAXIMUM_CELLS: Final = 20_000
_FENCE_INDENT: Final = 3

_MARK: Final = re.compile(r"[\[\]*_`~<>|!&\\#\n]")
_FENCE: Final = re.compile(r"(`{3,})[^`]*|(~{3,}).*")
_OPENAPI_YAML: Final = re.compile(r"\s*(?:---\s+)?(?:#[^\n]*\n\s*)*['\"]?openapi['\"]?\s*:")


@dataclass(frozen=True)
class Derivation:
    """A contract, and what its page states beyond it.

    Attributes:
        contract: The contract document.
        notes: Limits that only the prose states, one phrase each.
        unrecognized: Statements that are neither a known fact nor prose, one phrase each.
        contradictions: What the page states in two ways, one phrase each with its place.
    """

    contract: dict[str, Any]
    notes: tuple[str, ...]
    unrecognized: tuple[str, ...]
    contradictions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The contract as the text of its file."""
        return _render(self.contract)


def derive(page: str) -> str:
    """Return the text of the contract file for a page.

    Raises:
        PageError: The page cannot be derived.
    """
    return derive_page(page).text


def derive_page(page: str) -> Derivation:
    """Derive the contract of a page.

    Args:
        page: The text of the page.

    Raises:
        PageError: The page cannot be derived.
    """
    facts = read_page(page)
    contract = write_contract(facts)
    try:
        checked = Contract(contract)
        notes = checked.notes()
        # YAML has values that JSON does not have, such as .nan and lone surrogates in strings.
        msgspec.json.decode(_render(contract).encode())
    except ContractError as error:
        raise PageError(f"The page does not result in a valid contract: {error}") from error
    except ValueError as error:
        raise PageError("The page states a value that JSON cannot represent.") from error
    found = (*facts.contradictions, *contradictions(checked, facts.requests, facts.answers))
    return Derivation(contract, notes, facts.unrecognized, found)


def _render(contract: dict[str, Any]) -> str:
    return json.dumps(contract, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


# --- the forms of a page ---------------------------------------------------------------------------------------------


def read_page(page: str) -> PageFacts:
    """Return the facts that a page states.

    Raises:
        PageError: The page cannot be read.
    """
    _check_length(len(page), MAXIMUM_CHARACTERS)
    page = page.removeprefix("\ufeff")
    if not page.strip():
        raise PageError("The page is empty.")
    if "\0" in page:
        raise PageError("The page is not text.")
    if (document := _openapi_in(page)) is not None:
        return read_openapi(document)
    if page.lstrip().startswith("{"):
        return _read_schema_response(page)
    _check_markdown(page)
    sections = read_sections(page)
    for section in sections:
        for fence in section.fences:
            if document := _openapi_in(fence.text):
                return read_openapi(
                    document, heading=section.heading, server_of=lambda path: server_from_examples(sections, path)
                )
    return read_markdown(sections)


def _check_length(characters: int, maximum: int) -> None:
    if characters > maximum:
        raise PageError(f"The page is longer than {maximum // 1024} Ki characters; it cannot be a documentation page.")


def _check_markdown(page: str) -> None:
    """Raise ``PageError`` for Markdown that would take long to parse: its work is bounded by what is counted here."""
    characters = marks = cells = bars = 0
    for number, line in _lines_outside_fences(page.replace("\r\n", "\n").replace("\r", "\n")):
        characters += len(line) + 1
        marks += len(_MARK.findall(line, 0, _MAXIMUM_LINE_CHARACTERS)) + 1
        # Each row of a table is filled up to the width of its header, which stands above it.
        bars = max(bars, line.count("|")) if line.strip() else 0
        cells += bars
        _check_length(characters, _MAXIMUM_MARKDOWN_CHARACTERS)
        for count, maximum, what in (
            (len(line), _MAXIMUM_LINE_CHARACTERS, "characters in a line"),
            (marks, _MAXIMUM_MARKS, "marks such as [, *, | and line breaks"),
            (cells, _MAXIMUM_CELLS, "cells in tables"),
        ):
            if count > maximum:
                raise PageError(
                    f"The page has more than {maximum} {what} (line {number}); it cannot be a documentation page."
                )


def _lines_outside_fences(page: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that a Markdown parser may read as text, with their numbers.

    Fences that start at the margin are left out. What seems to be one may be text in the middle of HTML, so a page with
    HTML has no fences here.
    """
    has_html, fence = bool(re.search(r"^[^\S\n]*<", page, re.MULTILINE)), ""
    for number, line in enumerate(page.split("\n"), 1):
        opening = _FENCE.fullmatch(line) if not (fence or has_html) else None
        if opening or not fence:
            yield number, line
        if opening:
            fence = opening[1] or opening[2]
        elif fence and len(line) - len(line.lstrip(" ")) <= _FENCE_INDENT and line.strip().startswith(fence):
            fence = "" if not line.strip().strip(fence[0]) else fence


def _openapi_in(text: str) -> Any:
    """Return the OpenAPI document in YAML or JSON that a page or a code fence consists of, or ``None``.

    Raises:
        PageError: The document is YAML that is not valid, nests too deeply or uses aliases.
    """
    if text.lstrip().startswith("{"):
        try:
            value = msgspec.json.decode(text.encode())
        except (ValueError, RecursionError):
            return None
        return value if "openapi" in value else None
    if not _OPENAPI_YAML.match(text):
        return None
    # A few nested aliases can expand to a document of any size ("billion laughs"), and the known pages use none.
    anchors, aliases = (set(re.findall(rf"{mark}([^\s,\[\]{{}}]+)", text)) for mark in ("&", r"\*"))
    if shared := anchors & aliases:
        raise PageError(
            f"The OpenAPI document of the page uses the YAML alias {for_display(min(shared))!r}; write out its value."
        )
    try:
        return _as_json(yaml12.parse_yaml(text))
    except RecursionError as error:
        raise PageError("The OpenAPI document of the page nests too deeply.") from error
    except ValueError as error:
        reason = for_display(str(error).removeprefix("YAML parse error: ")).rstrip(".")
        raise PageError(f"The OpenAPI document of the page is not valid YAML: {reason}.") from error


def _read_schema_response(page: str) -> PageFacts:
    """Read the response of the service for a model's schema."""
    try:
        document: dict[str, Any] = msgspec.json.decode(page.encode())
    except (ValueError, RecursionError) as error:
        raise PageError("The page starts like JSON, but is not valid JSON.") from error
    data = document.get("data")
    if not isinstance(data, dict):
        raise PageError(f"The response has no data: {for_display(document.get('msg', 'it gives no reason'))}.")
    if not isinstance(data.get("openapi"), dict):
        model = f"the model {for_display(data['model'])}" if "model" in data else "its model"
        raise PageError(f"The response has no OpenAPI document for {model}.")
    return read_openapi(data["openapi"], base="/data/openapi")


def _as_json(node: Any) -> Any:
    """Return a YAML value as JSON has it: with strings as names and without tags."""
    if isinstance(node, yaml12.Yaml):
        return _as_json(node.value)
    if isinstance(node, dict):
        return {str(_as_json(name)): _as_json(value) for name, value in node.items()}
    return [_as_json(item) for item in node] if isinstance(node, list) else node


# --- the contract ----------------------------------------------------------------------------------------------------


_MODEL: Final = job_api().fields.model
_WORDING: Final[dict[str, Any]] = json.loads(Path(__file__).with_name("wording.json").read_text(encoding="utf-8"))
"""Our own descriptions of fields and codes by name. The vendor's texts are not copied."""


def write_contract(facts: PageFacts) -> dict[str, Any]:
    """Return the contract that states these facts: a JSON Schema document with the operation and the code table.

    Raises:
        PageError: The facts do not name exactly one model, or list no codes.
    """
    request = replace(facts.request, fields=tuple(map(_with_constant_model, facts.request.fields)))
    rules = next((field.rules for field in request.fields if field.name == _MODEL), {})
    if "const" not in rules:
        listed = ", ".join(map(for_display, rules["enum"].value[:4])) if "enum" in rules else ""
        found = f"but {listed}" if listed else "and names it nowhere else"
        raise PageError(f"The page does not list exactly one option for the field {_MODEL!r}, {found}.")
    if not facts.codes:
        raise PageError("The page does not list the status codes of its response.")
    model = str(rules["const"].value)
    operation = vars(facts.operation)
    table: dict[int, dict[str, Any]] = {}
    for code in facts.codes:
        default = {"name": f"code_{code.number}", "description": f"The page documents code {code.number}."}
        wording = _WORDING["codes"].get(str(code.number), default)
        # A page may list a code several times; the first place counts.
        table.setdefault(code.number, {"code": code.number, **wording, "x-place": code.place.to_json()})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:seedbed:contract:{model}",
        "$comment": "Derived from the vendor's page by `seedbed derive`. Do not edit; derive it again.",
        "title": model,
        "$ref": "#/$defs/request",
        "x-operation": {name: rule.value for name, rule in operation.items()} | {"x-places": _places(operation)},
        "x-codes": list(table.values()),
        "$defs": {"request": _field_schema(request), "answer": _field_schema(facts.answer)},
    }


def _with_constant_model(field: Field) -> Field:
    """Replace the one option of the field ``model`` by a constant, which states the same."""
    options = field.rules.get("enum")
    if field.name != _MODEL or not options or len(options.value) != 1:
        return field
    others = {keyword: rule for keyword, rule in field.rules.items() if keyword != "enum"}
    return replace(field, rules=others | {"const": RuleFact(options.value[0], options.place)})


def _places(rules: dict[str, RuleFact]) -> dict[str, dict[str, str]]:
    return {name: rule.place.to_json() for name, rule in rules.items()}


def _field_schema(field: Field) -> dict[str, Any]:
    """Return the schema of a field, with its keywords in the same order for every page."""
    schema: dict[str, Any] = {}
    if field.name:
        schema["description"] = _WORDING["fields"].get(field.name, f"The field `{field.name}`.")
    rules = {keyword: field.rules[keyword] for keyword in KEYWORDS if keyword in field.rules}
    schema |= {keyword: rule.value for keyword, rule in rules.items()}
    if required := [child.name for child in field.fields if child.required and child.required.value]:
        schema["required"] = required
    if field.fields:
        schema["properties"] = {child.name: _field_schema(child) for child in field.fields}
    if field.items:
        schema["items"] = _field_schema(field.items)
    if field.notes:
        schema["x-notes"] = [
            {"keyword": note.keyword, "value": note.value, "x-place": note.place.to_json()} for note in field.notes
        ]
    if places := _places(rules | ({"required": field.required} if field.required else {})):
        schema["x-places"] = places
    return schema
