"""Writes the facts of a page as a contract: one JSON Schema document with the operation and the code table."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedbed_schemas.derive.facts import PageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seedbed_schemas.derive.facts import Code, Field, Operation, PageFacts, Rule

_MODEL = "model"


def write_contract(facts: PageFacts) -> dict[str, Any]:
    """Return the contract that states these facts, and nothing but these facts.

    Raises:
        PageError: The facts do not name exactly one model, or list no codes.
    """
    model = _model(facts.request)
    if not facts.codes:
        raise PageError("The page lists no status codes for its answer.")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:seedbed:contract:{model}",
        "$comment": "Derived from the vendor's page by `seedbed derive`. Do not edit: derive again.",
        "title": model,
        "$ref": "#/$defs/request",
        "x-operation": _operation(facts.operation),
        "x-codes": [_code(code) for code in facts.codes],
        "$defs": {"request": _object(facts.request), "answer": _object(facts.answer)},
    }


def render(contract: dict[str, Any]) -> str:
    """Return the contract as the text of its file."""
    return json.dumps(contract, ensure_ascii=False, indent=2) + "\n"


def _model(fields: Iterable[Field]) -> str:
    for field in fields:
        options = field.rules.get("enum")
        if field.name == _MODEL and options and len(options.value) == 1:
            return str(options.value[0])
    raise PageError(f"The page does not name the one value that {_MODEL!r} may have.")


def _operation(operation: Operation) -> dict[str, Any]:
    rules: dict[str, Rule] = vars(operation)
    return {name: rule.value for name, rule in rules.items()} | {"x-places": _places(rules)}


def _places(rules: dict[str, Rule]) -> dict[str, dict[str, str]]:
    return {name: rule.place.as_json() for name, rule in rules.items()}


def _code(code: Code) -> dict[str, Any]:
    unnamed = {"name": f"code_{code.number}", "description": f"The page documents code {code.number}."}
    words = _wording()["codes"].get(str(code.number), unnamed)
    return {"code": code.number, **words, "x-place": code.place.as_json()}


def _object(fields: Iterable[Field]) -> dict[str, Any]:
    fields = tuple(fields)
    required = [field.name for field in fields if field.required and field.required.value]
    schema: dict[str, Any] = {"type": "object"}
    if required:
        schema["required"] = required
    return schema | {"properties": {field.name: _property(field) for field in fields}}


def _property(field: Field) -> dict[str, Any]:
    schema: dict[str, Any] = {"description": _wording()["fields"].get(field.name, f"The field `{field.name}`.")}
    schema |= {keyword: rule.value for keyword, rule in field.rules.items()}
    places = dict(field.rules)
    if field.required:
        places["required"] = field.required
    if field.name == _MODEL:
        schema["const"] = schema.pop("enum")[0]
        places["const"] = places.pop("enum")
    if field.fields:
        schema |= _object(field.fields)
    return schema | {"x-places": _places(places)}


@cache
def _wording() -> dict[str, Any]:
    """Our own words for what pages of this make name; they add no fact, and what they do not know goes without."""
    text = Path(__file__).with_name("wording.json").read_text(encoding="utf-8")
    wording: dict[str, Any] = json.loads(text)
    return wording
