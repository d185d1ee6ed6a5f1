"""The places of a request: where a value can stand, and what the smallest one there is."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas import Schema as Judge
from seedbed_schemas.clauses import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Schema = Mapping[str, Any]

Path = tuple[str | int, ...]
"""Names of fields, outermost first; 0 is the first item of an array."""

LETTER: Final = "a"
_PATTERN_LETTERS: Final = "aA1-_.:/ "
_LONGEST_PATTERN: Final = 5
_OF_FORMAT: Final = {
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


def places(schema: Schema, path: Path = (), node: Node | None = None) -> Iterator[tuple[Path, Node]]:
    """Yield every place of a request with its rules, the whole first."""
    node = node or Node("request", "", schema)
    yield path, node
    for step, child in inside(node):
        yield from places(child.schema, (*path, step), child)


def inside(node: Node) -> Iterator[tuple[str | int, Node]]:
    """Yield the fields in a node by their names, or the items of its arrays as 0."""
    # The names are read from the schema: those of nodes are joined by dots, which may be part of a name too.
    steps: list[str | int] = [*node.schema.get("properties", {}), *([0] if "items" in node.schema else [])]
    return zip(steps, node.children(), strict=True)


def types(schema: Schema) -> list[str]:
    """Return the types that a schema allows, of which it may name one, several or none."""
    kinds: str | list[str] = schema.get("type", "object" if "properties" in schema else "string")
    return [kinds] if isinstance(kinds, str) else kinds


def smallest(schema: Schema) -> Any:
    """Return the smallest plain value that keeps a schema: text is not empty, nor is an array, where that may be.

    Raises:
        ValueError: None was found.
    """
    for value in several(schema):
        return value
    raise ValueError(f"there is no example of {dict(schema)!r}; give the field a default or an example")


def several(schema: Schema) -> Iterator[Any]:
    """Yield distinct values that keep a schema, plain ones first."""
    judge = Judge(dict(schema), name="value")
    told = (schema[keyword] for keyword in ("const", "default") if keyword in schema)
    if "enum" in schema or "const" in schema:
        candidates: Iterable[Any] = (*told, *schema.get("enum", ()))
    else:
        ours = (_BY_TYPE[kind](schema) for kind in types(schema) if kind in _BY_TYPE)
        candidates = itertools.chain(*ours, told, schema.get("examples", ()))
    seen: list[str] = []
    for value in candidates:
        if repr(value) not in seen and judge.accepts(value):
            seen.append(repr(value))
            yield value


def put(whole: Any, schema: Schema, path: Path, value: Any) -> Any:
    """Return the whole with a value at a path; what is missing on the way there is the smallest of its kind."""
    if not path:
        return value
    step, *rest = path
    if step == 0:
        first, *others = whole or [smallest(schema["items"])]
        return [put(first, schema["items"], tuple(rest), value), *others]
    field = schema.get("properties", {}).get(step, {})
    if not rest:
        return {**whole, step: value}
    present = whole[step] if step in whole else smallest(field)
    return {**whole, step: put(present, field, tuple(rest), value)}


def without(whole: Any, schema: Schema, path: Path) -> Any:
    """Return the whole with the field at a path left out."""
    *around, name = path
    holder: Any = get(put(whole, schema, path, None), tuple(around))
    return put(whole, schema, tuple(around), {field: value for field, value in holder.items() if field != name})


def get(whole: Any, path: Path) -> Any:
    """Return what stands at a path.

    Raises:
        LookupError: Nothing does.
    """
    for step in path:
        whole = whole[step]
    return whole


def _texts(schema: Schema) -> Iterator[str]:
    if schema.get("format") in _OF_FORMAT:
        yield from (_OF_FORMAT[schema["format"]].format(number) for number in range(1, 29))
    if "pattern" in schema:
        lengths = range(_LONGEST_PATTERN)
        yield from ("".join(text) for n in lengths for text in itertools.product(_PATTERN_LETTERS, repeat=n))
    length = max(schema.get("minLength", 0), min(1, schema.get("maxLength", 1)))
    yield LETTER * length
    yield from (chr(ord(LETTER) + number) + LETTER * (length - 1) for number in range(1, 26))


def _numbers(schema: Schema) -> Iterator[float]:
    step = schema.get("multipleOf", 1)
    least = schema.get("minimum", schema.get("exclusiveMinimum", step))
    most = schema.get("maximum", schema.get("exclusiveMaximum", least + 100 * step))
    multiple = math.ceil(least / step) * step
    yield from (multiple + number * step for number in range(100))
    yield (least + most) / 2


def _arrays(schema: Schema) -> Iterator[list[Any]]:
    least = max(schema.get("minItems", 0), min(1, schema.get("maxItems", 1)))
    yield from (items(schema, length) for length in range(least, schema.get("maxItems", least + 3) + 1))


def items(schema: Schema, length: int) -> list[Any]:
    """Return so many items for an array, distinct ones where they have to be, if there are so many."""
    item = schema.get("items", {"type": "string"})
    if schema.get("uniqueItems"):
        return list(itertools.islice(several(item), length))
    return [smallest(item)] * length


def _objects(schema: Schema) -> Iterator[dict[str, Any]]:
    fields = schema.get("properties", {})
    yield {name: smallest(fields.get(name, {})) for name in schema.get("required", ())}


_BY_TYPE: Final[dict[str, Callable[[Schema], Iterator[Any]]]] = {
    "string": _texts,
    "integer": _numbers,
    "number": _numbers,
    "boolean": lambda _: iter((True, False)),
    "null": lambda _: iter((None,)),
    "array": _arrays,
    "object": _objects,
}
