"""The locations in a request where a value can be, and example values for each of them.

A location is a path of field names and array indexes. The functions here list the locations of a schema, build the
smallest valid value for it, and return changed copies of a request. Nothing is changed in place.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from typing import TYPE_CHECKING, Any, Final

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from seedbed_schemas import Schema as Validator
from seedbed_schemas.clauses import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Schema = Mapping[str, Any]

Path = tuple[str | int, ...]
"""Field names, outermost first; 0 is the first item of an array."""

ABSENT: Final = object()
"""Stands for a field that is left out."""

LETTER: Final = "a"

# A text that matches a pattern is searched for among all texts of up to four of these characters, 7,381 candidates.
_PATTERN_LETTERS: Final = "aA1-_.:/ "
_LONGEST_PATTERN: Final = 5
_PATTERN_EXAMPLES: Final = 30
_PATTERNS: Final = 256

_ALTERNATIVES: Final = frozenset({"allOf", "anyOf", "oneOf"})

_FORMAT_TEMPLATES: Final = {
    "uri": "https://example.invalid/{0}",
    "iri": "https://example.invalid/{0}",
    "email": "a{0}@example.com",
    "uuid": "00000000-0000-4000-8000-{0:012}",
    "date": "2026-01-{0:02}",
    "date-time": "2026-01-01T00:00:{0:02}Z",
    "time": "00:00:{0:02}Z",
    "duration": "PT{0}S",
    "ipv4": "192.0.2.{0}",
    "ipv6": "2001:db8::{0}",
    "hostname": "a{0}.example.com",
}
"""Distinct texts of each format, by a number from 1 to 28, so that each number is a day of every month."""


def locations(schema: Schema, path: Path = (), node: Node | None = None) -> Iterator[tuple[Path, Node]]:
    """Yield the path of every location of a request with its schema node, the whole request first."""
    node = node or Node("request", "", schema)
    yield path, node
    for step, child in children(node):
        yield from locations(child.schema, (*path, step), child)


def children(node: Node) -> Iterator[tuple[str | int, Node]]:
    """Yield the fields of a node by name, and the items of its arrays as 0."""
    # Nodes join field names with dots, and a name may itself contain a dot, so the names come from the schema.
    steps: list[str | int] = [*node.schema.get("properties", {}), *([0] if "items" in node.schema else [])]
    return zip(steps, node.children(), strict=True)


def variants(schema: Schema) -> Iterator[Schema]:
    """Yield schemas without ``allOf``, ``anyOf`` and ``oneOf``: one for each choice of alternatives.

    Every valid value of the schema is valid for one of them, but the reverse is not always true.
    """
    plain: Schema = {keyword: value for keyword, value in schema.items() if keyword not in _ALTERNATIVES}
    choices = [schema[keyword] for keyword in ("anyOf", "oneOf") if keyword in schema]
    for chosen in itertools.product(*choices):
        merged = functools.reduce(_merged, (*schema.get("allOf", ()), *chosen), plain)
        yield from variants(merged) if _ALTERNATIVES & merged.keys() else (merged,)


def _merged(one: Schema, other: Schema) -> Schema:
    """Return a schema with the keywords of both; of two different limits, the stricter one counts."""
    merged = {**one, **other}
    for keyword in one.keys() & other.keys():
        mine, its = one[keyword], other[keyword]
        if keyword == "properties":
            merged[keyword] = {**mine, **{name: _merged(mine.get(name, {}), its[name]) for name in its}}
        elif keyword in {"required", *_ALTERNATIVES}:
            merged[keyword] = [*mine, *(value for value in its if value not in mine)]
        elif keyword == "enum":
            merged[keyword] = [value for value in mine if value in its] or mine
        elif keyword.startswith(("min", "exclusiveMin")):
            merged[keyword] = max(mine, its)
        elif keyword.startswith(("max", "exclusiveMax")):
            merged[keyword] = min(mine, its)
    return merged


def has_alternatives(schema: Schema) -> bool:
    """Return whether a schema has ``allOf``, ``anyOf`` or ``oneOf``."""
    return not _ALTERNATIVES.isdisjoint(schema)


def with_implied_fields(schema: Schema) -> Schema:
    """Return a request schema that also requires each object in which it requires a field.

    Many pages require ``input.prompt``, but not ``input``. They do not mean that a request may leave both out.
    """
    fields: Schema = schema.get("properties", {})
    objects = ((name, field) for name, field in fields.items() if "object" in allowed_types(field))
    implied = [name for name, field in objects if not Validator(dict(field), name=name).accepts({})]
    return {**schema, "required": list(dict.fromkeys((*schema.get("required", ()), *implied)))}


def allowed_types(schema: Schema) -> list[str]:
    """Return the types that a schema allows; one without ``type`` describes an object or a string."""
    if "type" not in schema and has_alternatives(schema):
        return list(dict.fromkeys(name for variant in variants(schema) for name in allowed_types(variant)))
    names: str | list[str] = schema.get("type", "object" if "properties" in schema else "string")
    return [names] if isinstance(names, str) else names


def smallest(schema: Schema) -> Any:
    """Return the smallest valid value that is not empty, where the schema allows one.

    Raises:
        ValueError: No valid value was found.
    """
    for value in examples(schema):
        return value
    raise ValueError(f"no example of {dict(schema)!r} was found; give the field a default or an example")


def examples(schema: Schema) -> Iterator[Any]:
    """Yield distinct valid values of a schema, simple ones first."""
    validator = Validator(dict(schema), name="value")
    stated = (schema[keyword] for keyword in ("const", "default") if keyword in schema)
    if has_alternatives(schema):
        candidates: Iterable[Any] = itertools.chain(*map(examples, variants(schema)), stated)
    elif "enum" in schema or "const" in schema:
        candidates = (*stated, *schema.get("enum", ()))
    else:
        made = (_BY_TYPE[kind](schema) for kind in allowed_types(schema) if kind in _BY_TYPE)
        candidates = itertools.chain(*made, stated, schema.get("examples", ()))
    seen: list[str] = []
    for value in candidates:
        # Compared by repr, because True == 1 and a list cannot be in a set.
        if repr(value) not in seen and validator.accepts(value):
            seen.append(repr(value))
            yield value


def array_of_length(schema: Schema, length: int) -> list[Any]:
    """Return an array of a given length, shorter if the schema wants unique items and there are fewer."""
    item = schema.get("items", {"type": "string"})
    if schema.get("uniqueItems"):
        return list(itertools.islice(examples(item), length))
    return [smallest(item)] * length


def get_at(whole: Any, path: Path) -> Any:
    """Return the value at a path, or :data:`ABSENT`."""
    for step in path:
        try:
            whole = whole[step]
        except (LookupError, TypeError):  # a missing field, an empty array, or a value of another type
            return ABSENT
    return whole


def set_at(whole: Any, schema: Schema, path: Path, value: Any) -> Any:
    """Return a copy of a request with a value at a path; missing parents get their smallest value."""
    if not path:
        return value
    step, *rest = path
    kind = list if step == 0 else dict
    # A field may also be null, or have another type.
    fitting = (each for each in itertools.chain((whole,), examples(schema)) if isinstance(each, kind))
    holder: Any = next(fitting, kind())
    if step == 0:
        first, *others = holder or [smallest(schema["items"])]
        return [set_at(first, schema["items"], tuple(rest), value), *others]
    if not rest:
        return {**holder, step: value}
    field = schema.get("properties", {}).get(step, {})
    present = holder[step] if step in holder else smallest(field)
    return {**holder, step: set_at(present, field, tuple(rest), value)}


def remove_at(whole: Any, schema: Schema, path: Path) -> Any:
    """Return a copy of a request without the field at a path."""
    *parents, name = path
    # Setting the field first creates missing parents.
    holder: Any = get_at(set_at(whole, schema, path, None), tuple(parents))
    return set_at(whole, schema, tuple(parents), {field: value for field, value in holder.items() if field != name})


def texts(schema: Schema) -> Iterator[str]:
    """Yield texts that may match the format or pattern of a schema, then plain ones of its shortest length."""
    if schema.get("format") in _FORMAT_TEMPLATES:
        yield from (_FORMAT_TEMPLATES[schema["format"]].format(number) for number in range(1, 29))
    if "pattern" in schema:
        lengths = range(_LONGEST_PATTERN)
        yield from ("".join(text) for n in lengths for text in itertools.product(_PATTERN_LETTERS, repeat=n))
        matches = _matches(schema["pattern"])
        yield from matches
        start = _FORMAT_TEMPLATES.get(schema.get("format", ""), "").format(1)
        # A pattern often states only how a URL ends.
        yield from (f"{start}{match.strip()}" for match in matches if start)
    length = max(schema.get("minLength", 0), min(1, schema.get("maxLength", 1)))
    yield LETTER * length
    yield from (chr(ord(LETTER) + number) + LETTER * (length - 1) for number in range(1, 26))


@functools.lru_cache(_PATTERNS)
def _matches(pattern: str) -> tuple[str, ...]:
    """Return some texts that match a pattern, the same in every run."""
    found: list[str] = []

    @settings(max_examples=_PATTERN_EXAMPLES, database=None, derandomize=True, deadline=None, phases=(Phase.generate,))
    @given(st.from_regex(pattern, alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
    def draw(text: str) -> None:
        found.append(text)

    # A pattern that only other characters match has no example here.
    with contextlib.suppress(HypothesisException):
        draw()
    return tuple(sorted(dict.fromkeys(found), key=len))


def numbers(schema: Schema) -> Iterator[float]:
    """Yield numbers from the least upwards, or from the most downwards, then the middle of the range."""
    step = schema.get("multipleOf", 1)
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    least = schema.get("minimum", schema.get("exclusiveMinimum", step if most is None else min(step, most)))
    first_multiple = math.ceil(least / step) * step
    yield from (first_multiple + number * step for number in range(100))
    yield from (first_multiple - number * step for number in range(1, 3))
    # Between two exclusive limits, such as 0 and 1, no multiple may be valid.
    yield (least + (least + 100 * step if most is None else most)) / 2


def arrays(schema: Schema) -> Iterator[list[Any]]:
    """Yield arrays from the shortest upwards."""
    least = max(schema.get("minItems", 0), min(1, schema.get("maxItems", 1)))
    yield from (array_of_length(schema, length) for length in range(least, schema.get("maxItems", least + 3) + 1))


def objects(schema: Schema) -> Iterator[dict[str, Any]]:
    """Yield the object that has only the required fields."""
    fields = schema.get("properties", {})
    yield {name: smallest(fields.get(name, {})) for name in schema.get("required", ())}


_BY_TYPE: Final[dict[str, Callable[[Schema], Iterator[Any]]]] = {
    "string": texts,
    "integer": numbers,
    "number": numbers,
    "boolean": lambda _: iter((True, False)),
    "null": lambda _: iter((None,)),
    "array": arrays,
    "object": objects,
}
