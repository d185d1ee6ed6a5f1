"""Writes the facts of a page as a contract: one JSON Schema document with the operation and the code table."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedbed_schemas.derive.facts import KEYWORDS, PageError, Rule
from seedbed_schemas.job_api import job_api

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seedbed_schemas.derive.facts import Code, Field, Operation, PageFacts

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
    return replace(field, rules=others | {"const": Rule(options.value[0], options.place)})


def _model(request: Field) -> str:
    for field in request.fields:
        if field.name == _MODEL and "const" in field.rules:
            return str(field.rules["const"].value)
    raise PageError(f"The page does not name the one value that {_MODEL!r} may have.")


def _operation(operation: Operation) -> dict[str, Any]:
    rules: dict[str, Rule] = vars(operation)
    return {name: rule.value for name, rule in rules.items()} | {"x-places": _places(rules)}


def _places(rules: dict[str, Rule]) -> dict[str, dict[str, str]]:
    return {name: rule.place.as_json() for name, rule in rules.items()}


def _each_once(codes: Iterable[Code]) -> Iterable[Code]:
    """A page may list a code more than once: the first place counts."""
    first: dict[int, Code] = {}
    for code in codes:
        first.setdefault(code.number, code)
    return first.values()


def _code(code: Code) -> dict[str, Any]:
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
