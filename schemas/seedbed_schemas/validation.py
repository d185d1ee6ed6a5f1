"""The words of a refusal: what a value would have to be, by JSON Schema keyword."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

import jsonschema_rs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from jsonschema import Draft202012Validator, ValidationError


_SHOWN_CHARACTERS = 60

_TYPES: Final = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}


def for_display(value: Any) -> str:
    """Return a value as a message may show it: on one line, printable, and short however long it is."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(text[:_SHOWN_CHARACTERS] + ("..." if len(text) > _SHOWN_CHARACTERS else ""))


def printable(text: str) -> str:
    """Return a text with the characters that a terminal would act on, or not show, written as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def type_name(value: Any) -> str:
    """Return the JSON name of the value's type."""
    return _TYPES[type(value)]


def describe(keyword: str, expected: Any, value: Any) -> str:
    """Return what follows the field's name in a refusal, such as ``must have at most 3 items, not 4``."""
    words = _WORDS.get(keyword)
    return words(expected, value) if words else f"breaks the rule {keyword}: {for_display(expected)}"


def _listed(values: Any) -> str:
    return ", ".join(map(for_display, values))


def _types(expected: Any) -> str:
    return expected if isinstance(expected, str) else " or ".join(expected)


_WORDS: Final[dict[str, Callable[[Any, Any], str]]] = {
    "type": lambda expected, value: f"must be of type {_types(expected)}, not {type_name(value)}",
    "enum": lambda expected, value: f"must be one of {_listed(expected)}, not {for_display(value)}",
    "const": lambda expected, value: f"must be {for_display(expected)}, not {for_display(value)}",
    "format": lambda expected, value: f"must be a valid {expected.upper()}, not '{for_display(value)}'",
    "minLength": lambda expected, value: f"must have at least {expected} characters, not {len(value)}",
    "maxLength": lambda expected, value: f"must have at most {expected} characters, not {len(value)}",
    "minItems": lambda expected, value: f"must have at least {expected} items, not {len(value)}",
    "maxItems": lambda expected, value: f"must have at most {expected} items, not {len(value)}",
    "minimum": lambda expected, value: f"must be at least {expected}, not {for_display(value)}",
    "maximum": lambda expected, value: f"must be at most {expected}, not {for_display(value)}",
}


FORMATS: Final = (
    *("date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname", "ipv4", "ipv6", "iri"),
    *("iri-reference", "json-pointer", "regex", "relative-json-pointer", "time", "uri", "uri-reference"),
    *("uri-template", "uuid"),
)
"""The formats that are rules; any other is taken as a remark."""


def _quick_judge_of(name: str) -> Callable[[object], bool]:
    return jsonschema_rs.validator_for({"format": name}, validate_formats=True).is_valid


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that an instance breaks.

    Attributes:
        clause: Stable id of the rule, such as ``input.prompt/maxLength``.
        field: Dotted path of the field, empty for the whole instance.
        keyword: The JSON Schema keyword that refuses.
        message: A sentence without full stop that names the field and the rule.
    """

    clause: str
    field: str
    keyword: str
    message: str


class Schema:
    """A compiled schema.

    jsonschema is the reference and words the refusals; jsonschema-rs, many times quicker, says yes or no.

    Args:
        document: A JSON Schema, with everything its ``$ref`` point to.
        name: What the instance is called in clause ids and messages, such as ``request``.
        prefix: What stands before the field in clause ids, such as ``answer/``.
    """

    def __init__(self, document: Mapping[str, Any], *, name: str, prefix: str = "") -> None:
        self.document = dict(document)
        self.name = name
        self._prefix = prefix
        # The quick judge's own tests of formats serve both, so that the two cannot disagree on one.
        self._quick = jsonschema_rs.validator_for(self.document, validate_formats=True)

    def accepts(self, instance: Any) -> bool:
        """Tell whether the instance keeps every rule."""
        return self._quick.is_valid(instance)

    def violations(self, instance: Any) -> list[Violation]:
        """Return the rules that the instance breaks, each once, in the order of the schema."""
        found = {
            violation.clause: violation
            for error in self._reference.iter_errors(instance)
            for violation in self._worded(error)
        }
        return list(found.values())

    @cached_property
    def _reference(self) -> Draft202012Validator:
        # Imported at the first refusal, since it takes longer to load than a server takes to start.
        from jsonschema import Draft202012Validator, FormatChecker  # noqa: PLC0415

        formats = FormatChecker(formats=())
        for name in FORMATS:
            formats.checks(name)(_quick_judge_of(name))
        return Draft202012Validator(self.document, format_checker=formats)

    def _worded(self, error: ValidationError) -> Iterator[Violation]:
        field = ".".join(map(str, error.absolute_path))
        rule = f"{self._prefix}{_rule_path(error.absolute_path)}" if field else self.name
        # The stubs allow for errors that are not yet tied to a rule; those of a validator always are.
        keyword, value, instance = str(error.validator), cast("Any", error.validator_value), cast("Any", error.instance)
        if keyword != "required":
            message = f"{field or f'the {self.name}'} {describe(keyword, value, instance)}"
            yield Violation(f"{rule}/{keyword}", field, keyword, message)
            return
        for missing in (name for name in value if name not in instance):
            path = f"{field}.{missing}" if field else missing
            yield Violation(f"{rule}/required/{missing}", path, keyword, f"{for_display(path)} is required")


def _rule_path(path: Iterable[str | int]) -> str:
    """Return a path as clauses name it: one rule holds for every item of an array."""
    return "".join("[]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
