"""One JSON Schema as a judge: a quick yes or no, and the rules that an instance breaks, in words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

import jsonschema_rs

from seedbed_schemas.refusals import describe, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from jsonschema import Draft202012Validator, ValidationError

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
            yield Violation(f"{rule}/required/{missing}", path, keyword, f"{shown(path)} is required")


def _rule_path(path: Iterable[str | int]) -> str:
    """Return a path as clauses name it: one rule holds for every item of an array."""
    return "".join("[]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
