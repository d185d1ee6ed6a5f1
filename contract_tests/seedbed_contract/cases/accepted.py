"""Requests that keep the contract: each value that is allowed, each limit, each optional field with and without."""

from __future__ import annotations

import itertools
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from seedbed_schemas import Contract, default_contract, job_api
from seedbed_schemas.clauses import Node

from seedbed_contract.cases.case_types import AcceptedCase
from seedbed_contract.generation.places import Path, inside, items, places, put, several, smallest, types, without
from seedbed_contract.generation.wrong_values import LONGEST, SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Schema = Mapping[str, Any]
    Named = tuple[str, Any]

_CONTRACTS: Final = 8
_SHOWN: Final = 40
_FEW: Final = 3
_AT: Final = (-1, 0, 1)

_TEXTS: Final[tuple[Named, ...]] = (
    ("of several lines, with capitals and spaces around", " A b\nC\r\n\td "),
    ("with quotes and backslashes", "\"a\" 'b' \\c\\ /d/"),
    ("with marks that other languages mean something by", "<a> &amp; {b} ${c} %d #e; --f"),
    ("with accents of their own", "e\N{COMBINING ACUTE ACCENT}"),
    ("in Chinese", "山上的日出"),
    ("from right to left", "שלום عالم"),
    ("with an emoji of several characters", "👩\N{ZERO WIDTH JOINER}🚀 🇨🇳"),
    ("with a line separator", "a\N{LINE SEPARATOR}b"),
    ("with spaces around", " a "),
    ("that looks like a number", "1"),
    ("that looks like null", "null"),
)


def accepted(contract: Contract | None = None, *, callback: str | None = None) -> tuple[AcceptedCase, ...]:
    """Return requests that a service has to accept, jsonschema has judged each.

    None has what the page says nothing of: an empty or blank text, or a field that it does not name.

    Args:
        contract: The contract to keep, by default that of the shipped model.
        callback: A URL that the service may call; without one, no request asks for a callback.
    """
    return _accepted(contract or default_contract(), callback)


@lru_cache(_CONTRACTS)
def _accepted(contract: Contract, callback: str | None) -> tuple[AcceptedCase, ...]:
    node = Node("request", "", contract.part("request"))
    found: dict[str, AcceptedCase] = {}
    for name, request in _proposals(contract, callback):
        if contract.request.accepts(request):
            found.setdefault(json.dumps(request), AcceptedCase(name, request, tuple(_kept(node, request))))
    request = _in_every_script(contract)
    kept = tuple(_kept(node, request))
    return (*found.values(), *(AcceptedCase(name, request, kept, body) for name, body in writings(contract)))


def limits(contract: Contract) -> list[Any]:
    """Return the requests that have a value at a limit of the contract, or next to it."""
    schema = contract.part("request")
    whole = smallest(schema)
    near = [put(whole, schema, path, value) for path, node in places(schema) for _, value in _at_limits(node.schema)]
    return [request for request in near if contract.request.accepts(request)]


def writings(contract: Contract) -> Iterator[tuple[str, bytes]]:
    """Yield a valid request written in other ways than usual, all of which are the same JSON (RFC 8259)."""
    request = _in_every_script(contract)
    text = json.dumps(request)
    yield "written in UTF-8 without escapes", json.dumps(request, ensure_ascii=False).encode()
    yield "written without spaces", json.dumps(request, separators=(",", ":")).encode()
    yield "written over several lines", json.dumps(request, indent=4).encode()
    yield "written with line ends of Windows and tabs", json.dumps(request, indent="\t").replace("\n", "\r\n").encode()
    yield "written with white space around", f" \r\n\t{text}\n ".encode()
    yield "written with its fields in reverse", json.dumps(_reversed(request)).encode()
    yield "written with escaped slashes", text.replace("/", r"\/").encode()
    yield "written with all characters escaped", _escaped(request).encode()


def kept(contract: Contract, request: Any) -> tuple[str, ...]:
    """Return the clauses that a valid request keeps: of the options of an enum, the one that it has."""
    return tuple(_kept(Node("request", "", contract.part("request")), request))


def _in_every_script(contract: Contract) -> Any:
    """Return the smallest request with characters of each width in its free texts."""
    schema = contract.part("request")
    whole = smallest(schema)
    for path, node in places(schema):
        if node.required and is_free_text(node.schema):
            request = put(whole, schema, path, "".join(SCRIPTS.values()))
            whole = request if contract.request.accepts(request) else whole
    return whole


def _reversed(value: Any) -> Any:
    return {name: _reversed(value[name]) for name in reversed(value)} if isinstance(value, dict) else value


def _escaped(value: Any) -> str:
    """Return a value as JSON that spells each character of its texts as an escape."""
    if isinstance(value, dict):
        return f"{{{','.join(f'{_escaped(name)}:{_escaped(inside)}' for name, inside in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_escaped, value))}]"
    if not isinstance(value, str):
        return json.dumps(value)
    units = value.encode("utf-16-be").hex()
    escapes = (rf"\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    return f'"{"".join(escapes)}"'


def _proposals(contract: Contract, callback: str | None) -> Iterator[Named]:
    schema = contract.part("request")
    whole = smallest(schema)
    yield "the smallest request", whole
    for path, node in places(schema):
        if path != (job_api().fields.callback,):
            yield from ((f"{node.path} {what}", put(whole, schema, path, value)) for what, value in _good(node.schema))
    yield from _pairs(schema, whole)
    yield from _optional(schema, whole)
    yield from _called_back(schema, whole, callback)


def _good(schema: Schema) -> Iterator[Named]:
    """Yield values that keep a schema, or may: the text with the most in it, then those at its limits."""
    if is_free_text(schema):
        yield _TEXTS[0]
    yield from _at_limits(schema)
    if "properties" not in schema:
        yield from ((f"of {json.dumps(value, ensure_ascii=False)[:_SHOWN]}", value) for value in _plain(schema))
    if is_free_text(schema):
        yield from _TEXTS[1:]


def _at_limits(schema: Schema) -> Iterator[Named]:
    for keyword in ("maxLength", "minLength"):
        yield from _at_length(schema[keyword]) if keyword in schema else ()
    counts = [schema[keyword] + more for keyword in ("minItems", "maxItems") if keyword in schema for more in _AT]
    yield from ((f"of {count} items", items(schema, max(count, 1))) for count in counts if count <= LONGEST)
    bounds = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    numbers = [schema[keyword] + more for keyword in bounds if keyword in schema for more in _AT]
    yield from ((f"of {number}", number) for number in numbers)


def _plain(schema: Schema) -> Iterator[Any]:
    """Yield every value where they are listed, else a few of each type."""
    if "enum" in schema:
        yield from several(schema)
        return
    for kind in types(schema):
        yield from itertools.islice(several({**schema, "type": kind}), _FEW)


def _at_length(limit: int) -> Iterator[Named]:
    for length in (limit, limit - 1, limit + 1):
        for script, letter in SCRIPTS.items() if 0 < length <= LONGEST else ():
            yield f"of {length} {script}characters", letter * length
    mixed = "".join(SCRIPTS.values()) * min(limit, LONGEST)
    yield f"of {limit} mixed characters", mixed[:limit]


def is_free_text(schema: Schema) -> bool:
    """Tell whether a field holds any text, of at most some length."""
    return schema.get("type") == "string" and not {"enum", "const", "format", "pattern", "minLength"} & schema.keys()


def _pairs(schema: Schema, whole: Any) -> Iterator[Named]:
    """Yield every pair of values of two fields that allow some values alone."""
    chosen = [(path, node) for path, node in places(schema) if "enum" in node.schema]
    for (path, node), (other_path, other) in itertools.combinations(chosen, 2):
        for value, other_value in itertools.product(node.schema["enum"], other.schema["enum"]):
            name = f"{node.path} of {json.dumps(value)} and {other.path} of {json.dumps(other_value)}"
            yield name, put(put(whole, schema, path, value), schema, other_path, other_value)


def _optional(schema: Schema, whole: Any) -> Iterator[Named]:
    """Yield requests with each optional field alone, with all of them, and with all but one."""
    optional = [(path, node) for path, node in places(schema) if _is_optional(path, node)]
    full = whole
    for path, node in optional:
        yield f"with {node.path}", put(whole, schema, path, smallest(node.schema))
        full = put(full, schema, path, smallest(node.schema))
    yield "with every optional field", full
    yield from ((f"without {node.path} alone", without(full, schema, path)) for path, node in optional)


def _is_optional(path: Path, node: Node) -> bool:
    return bool(path) and not node.required and not node.is_items and path != (job_api().fields.callback,)


def _called_back(schema: Schema, whole: Any, callback: str | None) -> Iterator[Named]:
    name = job_api().fields.callback
    if callback is None or name not in schema.get("properties", {}):
        return
    parts = urlsplit(callback)
    path = f"{parts.path.rstrip('/')}/a/b-c_d.e~f"
    query = f"{parts.query}&a=1&b=%E5%B1%B1+c" if parts.query else "a=1&b=%E5%B1%B1+c"
    for what, url in (
        ("", callback),
        (" with a longer path", parts._replace(path=path).geturl()),
        (" with a query", parts._replace(query=query).geturl()),
    ):
        yield f"with {name}{what}", put(whole, schema, (name,), url)


def _kept(node: Node, value: Any) -> Iterator[str]:
    """Yield the clauses that a value keeps: of the options of an enum, the one that it is."""
    for clause in node.clauses():
        if clause.kind not in {"option", "default"} or clause.value == value:
            yield clause.id
    for step, child in inside(node):
        if step == 0 and isinstance(value, list):
            yield from dict.fromkeys(clause for item in value for clause in _kept(child, item))
        elif isinstance(value, dict) and step in value:
            yield from _kept(child, value[step])
