"""Valid requests for every option and limit of a contract, and one invalid request for each way to violate a clause.

All start from the smallest valid request and change one thing. jsonschema validates each, so that a mistake in a
proposal never counts against a service.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from seedbed_schemas import Contract, default_contract, job_api
from seedbed_schemas.clauses import Node

from seedbed_contract.cases.case_types import AcceptedCase, RefusedCase, cached_by_contract
from seedbed_contract.generation.locations import (
    allowed_types,
    array_of_length,
    children,
    examples,
    has_alternatives,
    locations,
    remove_at,
    set_at,
    smallest,
    variants,
    with_implied_fields,
)
from seedbed_contract.generation.wrong_values import LONGEST, SCRIPTS, wrong

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Schema = Mapping[str, Any]
    Described = tuple[str, Any]

_SHAPED: Final = frozenset({"enum", "const", "format", "pattern"})
_NAME_LENGTH: Final = 40
_EXAMPLES: Final = 3
_OPTIONS_ELSEWHERE: Final = 2
_AROUND: Final = (-1, 0, 1)

_TEXTS: Final[tuple[Described, ...]] = (
    ("of several lines, with capitals and spaces around", " A b\nC\r\n\td "),
    ("with quotes and backslashes", "\"a\" 'b' \\c\\ /d/"),
    ("with characters that are special in other languages", "<a> &amp; {b} ${c} %d #e; --f"),
    ("with a combining accent", "e\N{COMBINING ACUTE ACCENT}"),
    ("in Chinese", "山上的日出"),
    ("from right to left", "שלום عالم"),
    ("with an emoji of several characters", "👩\N{ZERO WIDTH JOINER}🚀 🇨🇳"),
    ("with a line separator", "a\N{LINE SEPARATOR}b"),
    ("with spaces around", " a "),
    ("that looks like a number", "1"),
    ("that looks like null", "null"),
)


@cached_by_contract
def accepted(contract: Contract | None = None, *, callback: str | None = None) -> tuple[AcceptedCase, ...]:
    """Return valid requests, which a service has to accept.

    They leave out what the page does not decide: empty and blank texts, and fields that the page does not name.

    Args:
        contract: The contract to keep, by default that of the built-in model.
        callback: A URL that the service may call. Without it, no request asks for a callback, unless the contract
            requires a URL; then it is one that does not exist.
    """
    contract = contract or default_contract()
    # Several proposals may make the same request; the first name stays.
    found: dict[str, AcceptedCase] = {}
    for name, request in _valid_proposals(contract, callback):
        if contract.request.accepts(request):
            found.setdefault(json.dumps(request), AcceptedCase(name, request, kept_clauses(contract, request)))
    request = _in_every_script(contract)
    clauses = kept_clauses(contract, request)
    return (*found.values(), *(AcceptedCase(name, request, clauses, body) for name, body in spellings(contract)))


@cached_by_contract
def refused(contract: Contract | None = None) -> tuple[RefusedCase, ...]:
    """Return invalid requests, which a service has to refuse.

    Each is the smallest valid request with one thing wrong, so it violates clauses of one field only, most of them a
    single clause. Cases at a limit come before the other cases of their field.

    Args:
        contract: The contract to violate, by default that of the built-in model.
    """
    contract = contract or default_contract()
    found: dict[str, RefusedCase] = {}
    for name, request in _invalid_proposals(contract):
        violations = contract.request.violations(request)
        if len({violation.field for violation in violations}) != 1:
            continue  # valid after all, or several fields are wrong, and a refusal could mean any of them
        clauses = {violation.keyword: violation.clause for violation in reversed(violations)}
        # A value of a wrong type may also violate other clauses on the value; the clause on the type explains it.
        clause = clauses.get("type", violations[0].clause)
        also = tuple(violation.clause for violation in violations if violation.clause != clause)
        found.setdefault(repr(request), RefusedCase(name, clause, request, also))
    # Of several requests with one name, the first stays.
    return tuple({case.name: case for case in reversed(found.values())}.values())[::-1]


def kept_clauses(contract: Contract, request: Any) -> tuple[str, ...]:
    """Return the clauses that a valid request keeps; for the options of an enum, only the one that it has."""
    return tuple(_kept_by_value(Node("request", "", contract.part("request")), request))


def _kept_by_value(node: Node, value: Any) -> Iterator[str]:
    for clause in node.clauses():
        if clause.kind not in {"option", "default"} or clause.value == value:
            yield clause.id
    for step, child in children(node):
        if step == 0 and isinstance(value, list):
            yield from dict.fromkeys(clause for item in value for clause in _kept_by_value(child, item))
        elif isinstance(value, dict) and step in value:
            yield from _kept_by_value(child, value[step])


def limits(contract: Contract) -> list[Any]:
    """Return the valid requests that have one value at or next to a limit of the contract."""
    schema = request_schema(contract)
    whole = smallest(schema)
    near = [
        set_at(whole, schema, path, value) for path, node in locations(schema) for _, value in _at_limits(node.schema)
    ]
    return [request for request in near if contract.request.accepts(request)]


def spellings(contract: Contract) -> Iterator[tuple[str, bytes]]:
    """Yield different JSON texts of one valid request, which a parser has to read alike (RFC 8259)."""
    request = _in_every_script(contract)
    text = json.dumps(request)
    yield "written in UTF-8 without escapes", json.dumps(request, ensure_ascii=False).encode()
    yield "written without spaces", json.dumps(request, separators=(",", ":")).encode()
    yield "written over several lines", json.dumps(request, indent=4).encode()
    yield "written with Windows line ends and tabs", json.dumps(request, indent="\t").replace("\n", "\r\n").encode()
    yield "written with white space around", f" \r\n\t{text}\n ".encode()
    yield "written with its fields in reverse", json.dumps(_reversed(request)).encode()
    yield "written with escaped slashes", text.replace("/", r"\/").encode()
    yield "written with all characters escaped", _escaped(request).encode()


def request_schema(contract: Contract) -> Schema:
    """Return the schema that the cases are made from, which also requires what the page implies."""
    return with_implied_fields(contract.part("request"))


def _in_every_script(contract: Contract) -> Any:
    """Return the smallest request with characters of every width in its free texts."""
    schema = request_schema(contract)
    whole = smallest(schema)
    for path, node in locations(schema):
        if node.required and is_free_text(node.schema):
            request = set_at(whole, schema, path, "".join(SCRIPTS.values()))
            whole = request if contract.request.accepts(request) else whole
    return whole


def _reversed(value: Any) -> Any:
    return {name: _reversed(value[name]) for name in reversed(value)} if isinstance(value, dict) else value


def _escaped(value: Any) -> str:
    r"""Return a value as a JSON text with every character of its strings as an escape such as ``\u0061``."""
    if isinstance(value, dict):
        return f"{{{','.join(f'{_escaped(name)}:{_escaped(inside)}' for name, inside in value.items())}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_escaped, value))}]"
    if not isinstance(value, str):
        return json.dumps(value)
    # JSON escapes are UTF-16 units: a character beyond the Basic Multilingual Plane needs two.
    units = value.encode("utf-16-be").hex()
    escapes = (rf"\u{units[at : at + 4]}" for at in range(0, len(units), 4))
    return f'"{"".join(escapes)}"'


def _valid_proposals(contract: Contract, callback: str | None) -> Iterator[Described]:
    schema = request_schema(contract)
    whole = smallest(schema)
    if callback is not None and job_api().fields.callback in whole:
        whole = {**whole, job_api().fields.callback: callback}
    yield "the smallest request", whole
    for path, node in locations(schema):
        if path != (job_api().fields.callback,):
            for description, value in _valid_values(node.schema):
                yield f"{node.path} {description}", set_at(whole, schema, path, value)
    yield from _combinations(schema, whole)
    name = job_api().fields.callback
    if callback is None or name not in schema.get("properties", {}):
        return
    parts = urlsplit(callback)
    longer = parts._replace(path=f"{parts.path.rstrip('/')}/a/b-c_d.e~f").geturl()
    query = f"{parts.query}&a=1&b=%E5%B1%B1+c" if parts.query else "a=1&b=%E5%B1%B1+c"
    yield f"with {name}", set_at(whole, schema, (name,), callback)
    yield f"with {name} with a longer path", set_at(whole, schema, (name,), longer)
    yield f"with {name} with a query", set_at(whole, schema, (name,), parts._replace(query=query).geturl())


def _valid_values(schema: Schema) -> Iterator[Described]:
    """Yield values that may be valid: first the text with the most in it, then those at the limits."""
    is_text = is_free_text(schema)
    if is_text:
        yield _TEXTS[0]
    if has_alternatives(schema):
        found = (next(examples(variant), None) for variant in variants(schema))
        yield from ((f"in form {number}", example) for number, example in enumerate(found, 1) if example is not None)
    yield from _at_limits(schema)
    if "enum" in schema:
        plain = examples(schema)
    else:
        each_type = (examples({**schema, "type": kind}) for kind in allowed_types(schema))
        plain = itertools.chain.from_iterable(itertools.islice(values, _EXAMPLES) for values in each_type)
    if "properties" not in schema:
        yield from ((f"of {json.dumps(value, ensure_ascii=False)[:_NAME_LENGTH]}", value) for value in plain)
    if is_text:
        yield from _TEXTS[1:]


def _at_limits(schema: Schema) -> Iterator[Described]:
    for limit in (schema[keyword] for keyword in ("maxLength", "minLength") if keyword in schema):
        for length in (limit, limit - 1, limit + 1):
            for script, letter in SCRIPTS.items() if 0 < length <= LONGEST else ():
                yield f"of {length} {script}characters", letter * length
        yield f"of {limit} mixed characters", ("".join(SCRIPTS.values()) * min(limit, LONGEST))[:limit]
    counts = [schema[keyword] + more for keyword in ("minItems", "maxItems") if keyword in schema for more in _AROUND]
    yield from ((f"of {count} items", array_of_length(schema, max(count, 1))) for count in counts if count <= LONGEST)
    bounds = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    numbers = [schema[keyword] + more for keyword in bounds if keyword in schema for more in _AROUND]
    yield from ((f"of {number}", number) for number in numbers)


def is_free_text(schema: Schema) -> bool:
    """Return whether a field takes any text up to some length."""
    is_limited = schema.get("minLength") or has_alternatives(schema)
    return schema.get("type") == "string" and not is_limited and _SHAPED.isdisjoint(schema)


def _combinations(schema: Schema, whole: Any) -> Iterator[Described]:
    """Yield every pair of options of two enum fields, and each optional field alone, present and absent."""
    enums = [(path, node) for path, node in locations(schema) if "enum" in node.schema]
    for (path, node), (other_path, other) in itertools.combinations(enums, 2):
        for value, other_value in itertools.product(node.schema["enum"], other.schema["enum"]):
            name = f"{node.path} of {json.dumps(value)} and {other.path} of {json.dumps(other_value)}"
            yield name, set_at(set_at(whole, schema, path, value), schema, other_path, other_value)
    optional = [
        (path, node)
        for path, node in locations(schema)
        if path and not node.required and not node.is_items and path != (job_api().fields.callback,)
    ]
    full = whole
    for path, node in optional:
        yield f"with {node.path}", set_at(whole, schema, path, smallest(node.schema))
        full = set_at(full, schema, path, smallest(node.schema))
    yield "with every optional field", full
    yield from ((f"without {node.path} alone", remove_at(full, schema, path)) for path, node in optional)


def _invalid_proposals(contract: Contract) -> Iterator[Described]:
    schema = request_schema(contract)
    found = list(locations(schema))
    smallest_request = smallest(schema)
    forms = [
        set_at(smallest_request, schema, path, value)
        for path, node in found
        if has_alternatives(node.schema) and "properties" in node.schema
        for variant in variants(node.schema)
        for value in itertools.islice(examples(variant), 1)
    ]
    # A field of one alternative can be wrong by itself only where the request takes that alternative.
    for whole in (smallest_request, *forms):
        for path, node in found:
            label = node.path or "the request"
            # A service that compares with the options of all fields, not with those of this one, accepts these.
            others = [other.schema.get("enum", ()) for _, other in found if other.path != node.path]
            elsewhere = [value for options in others for value in options[:_OPTIONS_ELSEWHERE]]
            for description, value in wrong(node.schema, elsewhere):
                separator = " " if description.startswith(("of ", "with ")) else ": "
                yield f"{label}{separator}{description}", set_at(whole, schema, path, value)
            for name in node.schema.get("required", ()):
                holder = set_at(whole, schema, path, smallest(node.schema))
                yield f"{node.path}.{name} is missing".lstrip("."), remove_at(holder, schema, (*path, name))
