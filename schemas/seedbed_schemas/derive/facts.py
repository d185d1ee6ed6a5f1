"""The facts that a page states, in the form that all page readers share.

This module also parses the types, values and limits that pages write as text, such as ``array<enum<string>>``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from seedbed_schemas.clauses import CODE
from seedbed_schemas.derive.vocabulary import match_concept, plain
from seedbed_schemas.job_api import job_api
from seedbed_schemas.validation import for_display, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


KEYWORDS: Final = (
    "type",
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "uniqueItems",
    "enum",
    "examples",
    "default",
    "const",
    "additionalProperties",
    "oneOf",
    "anyOf",
    "deprecated",
)
"""The JSON Schema keywords of a single field, in the order in which a contract contains them."""

TYPES: Final = frozenset({"string", "integer", "number", "boolean", "object", "array", "null"})
"""The names of types in JSON Schema."""

TYPE_CONCEPTS: Final = ("string", "integer", "number", "boolean", "object", "array", "null", "enum", "uri")
"""The concepts of words for types."""


class PageError(ValueError):
    """A page cannot be derived; the message is one sentence that names what is missing or wrong."""


# --- facts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where in the page a fact is stated, in the words of the page.

    Attributes:
        heading: Text of the nearest heading above.
        row: First cell of the table row; empty outside tables.
        column: Heading of the table column; empty outside tables.
        label: Bold label before the value; empty if there is none.
        pointer: JSON Pointer into the page's OpenAPI document; empty in pages without one.
    """

    heading: str
    row: str = ""
    column: str = ""
    label: str = ""
    pointer: str = ""

    def at(self, column: str, label: str = "") -> Place:
        """Return the place of a cell in the same row, or of a labelled value in that cell."""
        return replace(self, column=column, label=label)

    def to_json(self) -> dict[str, str]:
        """Return the attributes that are not empty."""
        return {name: text for name, text in vars(self).items() if text}


@dataclass(frozen=True)
class RuleFact:
    """The value of one JSON Schema keyword and its place in the page."""

    value: Any
    place: Place


@dataclass(frozen=True)
class Note:
    """A limit that only the prose states; it is reported but is not a rule of the contract."""

    keyword: str
    value: int | float
    place: Place


@dataclass(frozen=True)
class Field:
    """One field of a request or response, or the whole request or response.

    Attributes:
        name: Name in the JSON; empty for the whole and for the items of an array.
        rules: The rules by JSON Schema keyword.
        required: Whether the field is required, and where the page says so; ``None`` if the page does not say.
        fields: The fields of an object.
        items: The items of an array, if the page describes them.
        notes: Limits that only the prose states.
    """

    name: str
    rules: dict[str, RuleFact] = field(default_factory=dict)
    required: RuleFact | None = None
    fields: tuple[Field, ...] = ()
    items: Field | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class CodeFact:
    """One row of the page's code table."""

    number: int
    place: Place


@dataclass(frozen=True)
class OperationFacts:
    """How to send the documented request: method, path, server and authorization."""

    method: RuleFact
    path: RuleFact
    server: RuleFact
    header: RuleFact
    scheme: RuleFact


@dataclass(frozen=True)
class Example:
    """An example in a page.

    Attributes:
        value: Its JSON value.
        place: Where it stands.
        line: Its line in the page; 0 if its place is a JSON Pointer.
    """

    value: Any
    place: Place
    line: int = 0

    def describe(self) -> str:
        """Return a phrase that names the place, such as ``the example under 'Try it' (line 12)``."""
        if self.place.pointer:
            return f"the example at {printable(self.place.pointer)!r}"
        return f"the example under {for_display(self.place.heading)!r} (line {self.line})"


@dataclass(frozen=True)
class PageFacts:
    """Everything that a page states.

    Attributes:
        unrecognized: Statements that are neither a known fact nor prose, one phrase each.
        contradictions: What the reader already found to be stated in two ways, one phrase each.
        requests: Examples of requests.
        answers: Examples of responses to successful requests.
    """

    operation: OperationFacts
    request: Field
    answer: Field
    codes: tuple[CodeFact, ...]
    unrecognized: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    requests: tuple[Example, ...] = ()
    answers: tuple[Example, ...] = ()


_ENVELOPE: Final = frozenset({CODE, "msg", "message"})


def check_job_api(operation: str, answer: Field | None, *, has_model: bool = True, has_input: bool = False) -> None:
    """Check that a page documents the creation of a task.

    Args:
        operation: Method and path, for the error message.
        answer: What the page states about the response.
        has_model: Whether the request names a model.
        has_input: Whether the request has an input object.

    Raises:
        PageError: The page documents another API.
    """
    documented = f"The page documents {for_display(operation) if operation else 'no operation'}"
    if not has_model:
        raise PageError(f"{documented}, which is no job API: its request has no field 'model'.")
    task_id = job_api().record_info.query
    fields = answer.fields if answer else ()
    data = [child.name for field in fields if field.name == "data" for child in field.fields]
    # A page may leave out the schema of the response; then the request decides.
    is_unstated = answer is not None and not data and {field.name for field in fields} <= _ENVELOPE | {"data"}
    if task_id not in data and not (is_unstated and has_input):
        raise PageError(f"{documented}, which is no job API: its answer names no task (no field {task_id!r}).")


def codes_of_options(answer: Field) -> Iterator[CodeFact]:
    """Yield the codes that are listed as options of the response field ``code``."""
    for field_ in answer.fields:
        if field_.name == CODE and (options := field_.rules.get("enum")):
            yield from (CodeFact(number, options.place) for number in options.value if isinstance(number, int))


_ADDRESS: Final = re.compile(r"(?P<server>https?://[^/?#\s]{1,300})?(?P<path>[^?#]*)(?:[?#].*)?", re.DOTALL)


def split_url(url: str) -> tuple[str, str]:
    """Return the server and the path of a URL; the server of a mere path is empty.

    Unlike the standard library, this accepts every text, because a page may contain any.
    """
    match = _ADDRESS.fullmatch(url)
    return ((match["server"] or "").rstrip("/"), match["path"]) if match else ("", url)


# --- locations in documents ------------------------------------------------------------------------------------------


class Location(NamedTuple):
    """A value in an OpenAPI document, with the JSON Pointer to it."""

    value: Any
    pointer: str

    def at(self, *names: str | int) -> Location:
        """Return the value under these names; it is ``None`` if there is nothing."""
        value, pointer = self
        for name in names:
            if isinstance(value, list) and isinstance(name, int):
                value = value[name]
            else:
                value = value.get(str(name)) if isinstance(value, dict) else None
            pointer += "/" + str(name).replace("~", "~0").replace("/", "~1")
        return Location(value, pointer)

    def children(self) -> Iterator[tuple[str, Location]]:
        """Yield the members of an object by name, or the items of an array by index."""
        names: Iterable[str | int] = ()
        if isinstance(self.value, dict):
            names = self.value
        elif isinstance(self.value, list):
            names = range(len(self.value))
        yield from ((str(name), self.at(name)) for name in names)

    def member(self, name: str) -> dict[str, Any]:
        """Return the object under a name, or an empty object if there is none."""
        value = self.value.get(name) if isinstance(self.value, dict) else None
        return value if isinstance(value, dict) else {}


def declared_place(place: Any, default: Place) -> Place:
    """Return the place that a document declares for a fact under an ``x-`` key, as ``seedbed openapi`` writes it."""
    known = {attribute.name for attribute in dataclass_fields(Place)}
    if not isinstance(place, dict) or not all(isinstance(text, str) for text in place.values()):
        return default
    return Place(**{"heading": ""} | {name: text for name, text in place.items() if name in known})


# --- types and values ------------------------------------------------------------------------------------------------


_NUMBER: Final = re.compile(r"-?\d{1,15}(?:,\d{3}){0,4}(?:\.\d{1,9})?(?!\d)")
_MAXIMUM_EXACT_NUMBER: Final = 2**53
_PYTHON_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "array": list,
    "null": type(None),
}


@dataclass(frozen=True)
class TypeSpec:
    """A type as a page writes it.

    Attributes:
        type: Its JSON name.
        format: Its format; empty if the page gives none.
        is_enum: Whether the page says that the value is one of a set.
        items: Type of the items of an array, if the page gives one.
        is_nullable: Whether the value may also be null.
    """

    type: str
    format: str = ""
    is_enum: bool = False
    items: TypeSpec | None = None
    is_nullable: bool = False


_NESTED_TYPE: Final = re.compile(r"(?P<outer>[^<>()\[\]]+?)\s?[<(\[](?P<inner>.+)[>)\]]")
_LIST_OF: Final = re.compile(r"(?:array|list) of (?P<inner>.+?)s?", re.IGNORECASE)
_NULLABLE: Final = re.compile(
    r"(?P<type>.+?)\s?(?:\||/|,| or )\s?null|null\s?(?:\||/|,| or )\s?(?P<last>.+)", re.IGNORECASE
)
_MAXIMUM_TYPE_CHARACTERS: Final = 80


def parse_type(text: str, name: str) -> TypeSpec:
    """Parse a type such as ``string<uri>``, ``enum<string>``, ``array(object)``, ``string[]`` or ``整数``.

    Args:
        text: The type as the page writes it.
        name: Name of the field, for the error message.

    Raises:
        PageError: The type is not known.
    """
    spec = _type_spec(text.strip().strip("`")) if len(text) <= _MAXIMUM_TYPE_CHARACTERS else None
    if not spec:
        while (match := _NESTED_TYPE.fullmatch(text)) and match_concept(match["outer"], "array"):
            text = match["inner"]
        raise PageError(
            f"The page gives {for_display(name)!r} the type {for_display(text)!r}, which is not known; expected one "
            f"of {', '.join(sorted(TYPES))}."
        )
    return spec


def _type_spec(text: str) -> TypeSpec | None:
    if match := _NULLABLE.fullmatch(text):
        spec = _type_spec(match["type"] or match["last"])
        return replace(spec, is_nullable=True) if spec else None
    if text.endswith("[]"):
        items = _type_spec(text.removesuffix("[]").strip())
        return TypeSpec("array", items=items) if items else None
    if match := _NESTED_TYPE.fullmatch(text) or _LIST_OF.fullmatch(text):
        outer = match.groupdict().get("outer") or "array"
        return nested_type(match_concept(outer, *TYPE_CONCEPTS), match["inner"].strip())
    concept = match_concept(text, *TYPE_CONCEPTS)
    if concept == "uri":
        return TypeSpec("string", "uri")
    return TypeSpec("string", is_enum=True) if concept == "enum" else TypeSpec(concept) if concept else None


def nested_type(outer: str, inner: str) -> TypeSpec | None:
    """Return the type that a word and the word in its brackets mean, or ``None``."""
    spec = _type_spec(inner)
    if outer == "array":
        return TypeSpec("array", items=spec) if spec else None
    if outer == "enum" or (outer and match_concept(inner, "enum")):
        json_type = (spec.type if spec else "") if outer == "enum" else outer
        return TypeSpec(json_type, is_enum=True) if json_type else None
    if outer and (spec or re.fullmatch(r"[\w-]+", inner)):
        return TypeSpec(outer, spec.format if spec and spec.format else "" if spec else plain(inner))
    return None


def parse_value(text: str, spec: TypeSpec, name: str) -> Any:
    """Parse a value as pages write it: strings with or without quotes, everything else as JSON.

    Raises:
        PageError: The value does not have the type.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        # Some pages write the constants of Python.
        value = {"true": True, "false": False}.get(text.casefold()) if spec.type == "boolean" else None
    if spec.type == "string":
        return value if isinstance(value, str) else text
    if not is_of_type(value, spec.type):
        raise PageError(
            f"The page gives {for_display(name)!r} the value {for_display(text)!r}, which is not of type {spec.type}."
        )
    return value


def parse_example(text: str, spec: TypeSpec) -> Any:
    """Parse an example, which pages write as JSON or, for strings, without quotes."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if is_of_type(value, spec.type) or spec.type != "string" else text


def parse_number(text: str, name: str, *, whole: bool = False) -> int | float:
    """Parse the number at the start of a text; a unit may follow.

    Raises:
        PageError: The text does not start with a number, the number is too large for JSON, or it has a fraction where
            ``whole`` does not allow one.
    """
    if not (match := _NUMBER.match(text)):
        raise PageError(f"The page gives {name!r} the limit {for_display(text)!r}, which is not a number.")
    number = float(match[0].replace(",", ""))
    # JSON readers that use double precision, such as JavaScript, would change a larger number.
    if abs(number) > _MAXIMUM_EXACT_NUMBER:
        raise PageError(
            f"The page gives {name!r} the limit {for_display(text)}, which is too large to be exact in JSON."
        )
    if whole and not number.is_integer():
        raise PageError(f"The page gives {name!r} the limit {text!r}, which is not of type integer.")
    return int(number) if number.is_integer() else number


def is_prose(example: Any) -> bool:
    """Return whether an example contains a sentence. A contract copies facts from the vendor, not texts."""
    if isinstance(example, list | dict):
        return any(map(is_prose, example.values() if isinstance(example, dict) else example))
    return isinstance(example, str) and bool(re.search(r"\s", example))


def is_of_type(value: Any, json_type: str) -> bool:
    """Return whether a JSON value has a JSON type."""
    # A bool is an int in Python, but not a number in JSON.
    if isinstance(value, bool):
        return json_type == "boolean"
    return json_type in _PYTHON_TYPES and isinstance(value, _PYTHON_TYPES[json_type])
