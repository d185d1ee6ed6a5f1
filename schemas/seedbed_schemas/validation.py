"""Validation of JSON values against a JSON Schema, with messages that name the field and the rule."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema_rs import Validator


FORMATS: Final = (
    *("date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname", "ipv4", "ipv6", "iri"),
    *("iri-reference", "json-pointer", "regex", "relative-json-pointer", "time", "uri", "uri-reference"),
    *("uri-template", "uuid"),
)
"""The formats that are validated; any other format is an annotation."""


_COMPARED_FIELDS: Final = 100
_NUMBERS_AND_BOOLEANS: Final = frozenset({"integer", "number", "boolean"})
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,18})?")


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule that a value breaks.

    Attributes:
        clause: Stable ID of the rule, such as ``input.prompt/maxLength``.
        field: Dotted path of the field, empty for the whole value.
        keyword: The JSON Schema keyword of the rule.
        message: A sentence without a full stop that names the field and the rule.
    """

    clause: str
    field: str
    keyword: str
    message: str


class Schema:
    """A compiled schema.

    Two libraries share the work. jsonschema-rs decides whether a value is valid: 0.4 µs for a createTask request,
    where jsonschema takes 33 µs. jsonschema is the reference; it reports which rules an invalid value breaks.

    Args:
        document: A JSON Schema that contains everything its ``$ref`` keywords point to.
        name: Name of the validated value in clause IDs and messages, such as ``request``.
        prefix: Text before the field in clause IDs, such as ``answer/``.
    """

    def __init__(self, document: Mapping[str, Any], *, name: str, prefix: str = "") -> None:
        self.document = dict(document)
        self.name = name
        self._prefix = prefix
        self._fast = _compile(self.document)

    def accepts(self, instance: Any) -> bool:
        """Return whether the instance is valid."""
        return self._fast.is_valid(instance)

    def violations(self, instance: Any) -> list[Violation]:
        """Return the rules that the instance breaks, each rule once, in the order of the schema."""
        found: dict[str, Violation] = {}
        for error in self._reference.iter_errors(instance):
            field = ".".join(map(str, error.absolute_path))
            # A clause applies to every item of an array, so its id has [] where the field has an index.
            steps = ("[]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
            rule = self._prefix + "".join(steps).removeprefix(".") if field else self.name
            # The stubs allow errors without a rule; a validator never yields these.
            keyword, expected, value = str(error.validator), cast("Any", error.validator_value), error.instance
            if keyword == "required":
                for name in (name for name in expected if name not in cast("Any", value)):
                    clause, path = f"{rule}/required/{name}", f"{field}.{name}" if field else name
                    hint = _misspelt(name, value, error.schema)
                    found[clause] = Violation(clause, path, keyword, f"{for_display(path)} is required{hint}")
            else:
                describe = _REQUIREMENTS.get(keyword)
                if keyword == "additionalProperties" and expected is False:
                    known = cast("Any", error.schema).get("properties", {})
                    requirement = f"must not have the fields {', '.join(map(for_display, value.keys() - known.keys()))}"
                elif describe:
                    requirement = describe(expected, value)
                else:
                    requirement = f"breaks the rule {keyword}: {for_display(expected)}"
                clause, subject = f"{rule}/{keyword}", field or f"the {self.name}"
                found[clause] = Violation(clause, field, keyword, f"{subject} {requirement}")
        return list(found.values())

    @cached_property
    def _reference(self) -> Draft202012Validator:
        from jsonschema import Draft202012Validator, FormatChecker, validators  # 93 ms; valid values never need it

        # The libraries disagree on some URIs. Both therefore use the format checks of jsonschema-rs.
        formats = FormatChecker(formats=())
        for name in FORMATS:
            formats.checks(name)(_compile({"format": name}).is_valid)
        # Its own check divides binary fractions, by which 0.3 is not a multiple of 0.1.
        exact = validators.extend(  # type: ignore[no-untyped-call]
            Draft202012Validator, {"multipleOf": _check_multiple}
        )
        return cast("Draft202012Validator", exact(self.document, format_checker=formats))


def _check_multiple(_validator: Any, step: Any, value: Any, _schema: Any) -> Iterator[ValidationError]:
    from jsonschema.exceptions import ValidationError  # as above

    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and Fraction(str(value)) % Fraction(str(step)):
        yield ValidationError(f"{value} is not a multiple of {step}")


def _misspelt(name: str, value: Any, schema: Any) -> str:
    """Return a note on a field that is likely meant for a missing one, empty if there is none."""
    from difflib import get_close_matches  # valid values never need it

    known = schema.get("properties", {}) if isinstance(schema, dict) else {}
    unknown = {_plain(each): each for each in itertools.islice(value, _COMPARED_FIELDS) if each not in known}
    close = get_close_matches(_plain(name), unknown, 1, 0.8)
    return f", and {for_display(unknown[close[0]])} is unknown: did you mean {name}?" if close else ""


def _plain(name: str) -> str:
    # Of one form for aspect_ratio, aspectRatio and Aspect-Ratio; a longer name is not that of a field.
    return re.sub("[^a-z0-9]", "", name[:_DISPLAYED_CHARACTERS].lower())


def normalised(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return a value in which each text that stands for a number or a boolean of the schema is replaced by it."""
    if isinstance(value, dict):
        fields: Mapping[str, Any] = schema.get("properties", {})
        return {name: normalised(inside, fields.get(name, {})) for name, inside in value.items()}
    if isinstance(value, list):
        return [normalised(inside, schema.get("items", {})) for inside in value]
    kinds = schema.get("type", ())
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    if not isinstance(value, str) or "string" in kinds or not (_NUMBERS_AND_BOOLEANS & kinds):
        return value
    is_number = _NUMBER.fullmatch(value) and kinds & {"integer", "number"}
    return json.loads(value) if is_number or (value in {"true", "false"} and "boolean" in kinds) else value


def _compile(document: dict[str, Any]) -> Validator:
    import jsonschema_rs  # 3 ms; the client imports this module for the texts of its messages

    return jsonschema_rs.validator_for(document, validate_formats=True)


# --- messages --------------------------------------------------------------------------------------------------------


_DISPLAYED_CHARACTERS: Final = 60
_TYPE_NAMES: Final = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}


def for_display(value: Any) -> str:
    """Return a value as printable text on one line, truncated to 60 characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return printable(text[:_DISPLAYED_CHARACTERS] + ("..." if len(text) > _DISPLAYED_CHARACTERS else ""))


def printable(text: str) -> str:
    """Return the text with control characters and other unprintable characters escaped.

    Text from a server or a page must not be able to send escape sequences to the terminal.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


# What follows the name of the field in a message.
_REQUIREMENTS: Final[dict[str, Callable[[Any, Any], str]]] = {
    "type": lambda expected, value: (
        f"must be of type {expected if isinstance(expected, str) else ' or '.join(expected)}, "
        f"not {_TYPE_NAMES[type(value)]}"
    ),
    "enum": lambda expected, value: f"must be one of {', '.join(map(for_display, expected))}, not {for_display(value)}",
    "const": lambda expected, value: f"must be {for_display(expected)}, not {for_display(value)}",
    "format": lambda expected, value: f"must be a valid {expected.upper()}, not '{for_display(value)}'",
    "minLength": lambda expected, value: f"must have at least {expected} characters, not {len(value)}",
    "maxLength": lambda expected, value: f"must have at most {expected} characters, not {len(value)}",
    "minItems": lambda expected, value: f"must have at least {expected} items, not {len(value)}",
    "maxItems": lambda expected, value: f"must have at most {expected} items, not {len(value)}",
    "minimum": lambda expected, value: f"must be at least {expected}, not {for_display(value)}",
    "maximum": lambda expected, value: f"must be at most {expected}, not {for_display(value)}",
    "oneOf": lambda expected, value: (
        f"must match exactly one of {len(expected)} forms, which {for_display(value)} does not"
    ),
    "anyOf": lambda expected, value: f"must match one of {len(expected)} forms, which {for_display(value)} does not",
}
