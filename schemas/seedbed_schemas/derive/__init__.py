"""Writes the facts of a page as a contract: one JSON Schema document with the operation and the code table."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import yaml12

from seedbed_schemas.contract import Contract, ContractError
from seedbed_schemas.derive.document import read_sections
from seedbed_schemas.derive.facts import KEYWORDS, PageError, PageFacts, RuleFact
from seedbed_schemas.derive.markdown import read_markdown, server
from seedbed_schemas.derive.openapi import read_openapi
from seedbed_schemas.job_api import job_api
from seedbed_schemas.validation import for_display

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seedbed_schemas.derive.facts import CodeFact, Field, OperationFacts


_MODEL = job_api().fields.model


def write_contract(facts: PageFacts) -> dict[str, Any]:
    """Return the contract that states these facts, and nothing but these facts.

    Raises:
        PageError: The facts do not name exactly one model, or list no codes.
    """
    request = replace(facts.request, fields=tuple(map(_fixed, facts.request.fields)))
    model = _model(request)
    if not facts.codes:
        raise PageError("The page lists no status codes for its answer.")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:seedbed:contract:{model}",
        "$comment": "Derived from the vendor's page by `seedbed derive`. Do not edit: derive again.",
        "title": model,
        "$ref": "#/$defs/request",
        "x-operation": _operation(facts.operation),
        "x-codes": [_code(code) for code in _each_once(facts.codes)],
        "$defs": {"request": _schema(request), "answer": _schema(facts.answer)},
    }


def render(contract: dict[str, Any]) -> str:
    """Return the contract as the text of its file.

    Raises:
        ValueError: It holds a value that JSON cannot say.
    """
    return json.dumps(contract, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _fixed(field: Field) -> Field:
    """Say of the model that it has one value, where the page lists one option."""
    options = field.rules.get("enum")
    if field.name != _MODEL or not options or len(options.value) != 1:
        return field
    others = {keyword: rule for keyword, rule in field.rules.items() if keyword != "enum"}
    return replace(field, rules=others | {"const": RuleFact(options.value[0], options.place)})


def _model(request: Field) -> str:
    for field in request.fields:
        if field.name == _MODEL and "const" in field.rules:
            return str(field.rules["const"].value)
    raise PageError(f"The page does not name the one value that {_MODEL!r} may have.")


def _operation(operation: OperationFacts) -> dict[str, Any]:
    rules: dict[str, RuleFact] = vars(operation)
    return {name: rule.value for name, rule in rules.items()} | {"x-places": _places(rules)}


def _places(rules: dict[str, RuleFact]) -> dict[str, dict[str, str]]:
    return {name: rule.place.as_json() for name, rule in rules.items()}


def _each_once(codes: Iterable[CodeFact]) -> Iterable[CodeFact]:
    """A page may list a code more than once: the first place counts."""
    first: dict[int, CodeFact] = {}
    for code in codes:
        first.setdefault(code.number, code)
    return first.values()


def _code(code: CodeFact) -> dict[str, Any]:
    unnamed = {"name": f"code_{code.number}", "description": f"The page documents code {code.number}."}
    words = _wording()["codes"].get(str(code.number), unnamed)
    return {"code": code.number, **words, "x-place": code.place.as_json()}


def _schema(field: Field) -> dict[str, Any]:
    """Write a field in one order of keywords, whatever the order in which the page says things."""
    schema: dict[str, Any] = {}
    if field.name:
        schema["description"] = _wording()["fields"].get(field.name, f"The field `{field.name}`.")
    rules = {keyword: field.rules[keyword] for keyword in KEYWORDS if keyword in field.rules}
    schema |= {keyword: rule.value for keyword, rule in rules.items()}
    if required := [inner.name for inner in field.fields if inner.required and inner.required.value]:
        schema["required"] = required
    if field.fields:
        schema["properties"] = {inner.name: _schema(inner) for inner in field.fields}
    if field.items:
        schema["items"] = _schema(field.items)
    places = rules | ({"required": field.required} if field.required else {})
    notes = [{"keyword": note.keyword, "value": note.value, "x-place": note.place.as_json()} for note in field.notes]
    return schema | ({"x-notes": notes} if notes else {}) | ({"x-places": _places(places)} if places else {})


@cache
def _wording() -> dict[str, Any]:
    """Our own words for what pages of this make name; they add no fact, and what they do not know goes without."""
    text = Path(__file__).with_name("wording.json").read_text(encoding="utf-8")
    wording: dict[str, Any] = json.loads(text)
    return wording


LONGEST: Final = 2 * 1024 * 1024
"""Characters beyond which a page is refused unread."""
_LONGEST_PROSE: Final = 256 * 1024
"""Characters outside fences beyond which a Markdown page is refused; known pages have a twentieth of them."""

_FENCE: Final = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_OPENAPI: Final = re.compile(r"\s*(?:---\s+)?(?:#[^\n]*\s+)*['\"]?openapi['\"]?\s*:")


@dataclass(frozen=True)
class Derivation:
    """A contract, and what its page says beyond it.

    Attributes:
        contract: The contract document.
        notes: Limits that stand only in the prose, a phrase each.
        unread: What was understood as neither fact nor prose, a phrase each.
    """

    contract: dict[str, Any]
    notes: tuple[str, ...]
    unread: tuple[str, ...]

    @property
    def text(self) -> str:
        """The contract as the text of its file."""
        return render(self.contract)


def derive_page(page: str) -> Derivation:
    """Derive the contract of a page of any known form.

    Args:
        page: The text of the page.

    Raises:
        PageError: The page cannot be read; the message is one sentence that names what was missed.
    """
    facts = read_page(page)
    contract = write_contract(facts)
    try:
        notes = tuple(Contract(contract).notes())
        msgspec.json.decode(render(contract).encode())
    except ContractError as error:
        raise PageError(f"The page makes no contract: {error}") from error
    except ValueError as error:
        raise PageError("The page states a value that JSON cannot say.") from error
    return Derivation(contract, notes, facts.unread)


def derive(page: str) -> str:
    """Return the text of the contract file that a page makes.

    Raises:
        PageError: The page cannot be read; the message is one sentence that names what was missed.
    """
    return derive_page(page).text


def read_page(page: str) -> PageFacts:
    """Return what a page of any known form states.

    Raises:
        PageError: The page cannot be read.
    """
    _check_length(page, LONGEST)
    if not page.strip():
        raise PageError("The page is empty.")
    if "\0" in page:
        raise PageError("The page is not text.")
    if page.lstrip().startswith("{"):
        return _from_json(page)
    return read_openapi(_yaml(page)) if _OPENAPI.match(page) else _from_markdown(page)


def _check_length(text: str, longest: int) -> None:
    if len(text) > longest:
        raise PageError(f"The page is longer than {longest // 1024} Ki characters, which no documentation page is.")


def _from_markdown(page: str) -> PageFacts:
    _check_length(_FENCE.sub("", page), _LONGEST_PROSE)
    sections = read_sections(page)
    for section in sections:
        for fence in section.fences:
            document = _document(fence)
            if document is not None:
                return read_openapi(document, heading=section.heading, server_of=lambda path: server(sections, path))
    return read_markdown(sections)


def _document(fence: str) -> Any:
    """Return the OpenAPI document in a fence, in either syntax, or ``None`` where it holds something else."""
    if _OPENAPI.match(fence):
        return _yaml(fence)
    if not fence.lstrip().startswith("{"):
        return None
    try:
        value = msgspec.json.decode(fence.encode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and "openapi" in value else None


def _from_json(page: str) -> PageFacts:
    """Read the answer of the service for a model's schema, or the OpenAPI document alone."""
    try:
        document: dict[str, Any] = msgspec.json.decode(page.encode())
    except (ValueError, RecursionError) as error:
        raise PageError("The page begins as JSON, but is no whole JSON.") from error
    if "openapi" in document:
        return read_openapi(document)
    data = document.get("data")
    if not isinstance(data, dict):
        raise PageError(f"The answer has no data: {for_display(document.get('msg', 'it gives no reason'))}.")
    if not isinstance(data.get("openapi"), dict):
        raise PageError(
            f"The answer has no OpenAPI document for the model {for_display(data.get('model', 'it names'))}."
        )
    return read_openapi(data["openapi"], base="/data/openapi")


def _yaml(text: str) -> Any:
    # A few aliases make a document of any size, and no page needs one.
    anchors, aliases = (set(re.findall(rf"{mark}([^\s,\[\]{{}}]+)", text)) for mark in ("&", r"\*"))
    if shared := anchors & aliases:
        raise PageError(
            f"The OpenAPI document of the page uses the YAML alias {for_display(min(shared))!r}; write it out."
        )
    try:
        return _plain(yaml12.parse_yaml(text))
    except RecursionError as error:
        raise PageError("The OpenAPI document of the page nests too deeply.") from error
    except ValueError as error:
        raise PageError(
            f"The OpenAPI document of the page is no whole YAML: {for_display(str(error)).rstrip('.')}."
        ) from error


def _plain(node: Any) -> Any:
    """Give a YAML value the form that JSON has: names are strings, and tags are gone."""
    if isinstance(node, yaml12.Yaml):
        return _plain(node.value)
    if isinstance(node, dict):
        return {str(_plain(name)): _plain(value) for name, value in node.items()}
    return [_plain(item) for item in node] if isinstance(node, list) else node


__all__ = ["LONGEST", "Derivation", "PageError", "derive", "derive_page"]
