"""Schemas inside an OpenAPI document as fields, each fact with the JSON Pointer at which it stands."""

from __future__ import annotations

import re
from dataclasses import fields as parts_of
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from seedbed_schemas.clauses import CODE
from seedbed_schemas.derive.facts import (
    KEYWORDS,
    TYPES,
    CodeFact,
    Field,
    Note,
    OperationFacts,
    PageError,
    PageFacts,
    Place,
    RuleFact,
    codes_of_options,
    is_of,
)
from seedbed_schemas.derive.layouts import notes
from seedbed_schemas.job_api import job_api
from seedbed_schemas.validation import for_display

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


Spot = tuple[Any, str]
"""A value of the document, with its JSON Pointer."""

_MOST_SCHEMAS: Final = 5_000
_WALKED: Final = frozenset({"$ref", "allOf", "properties", "required", "items", "nullable", "example"})
_PROSE: Final = frozenset({"title", "description", "externalDocs", "xml", "$comment", "readOnly", "writeOnly"})


def step(spot: Spot, *names: str | int) -> Spot:
    """Return what stands under these names, ``None`` where there is nothing."""
    value, pointer = spot
    for name in names:
        if isinstance(value, list) and isinstance(name, int):
            value = value[name]
        else:
            value = value.get(str(name)) if isinstance(value, dict) else None
        pointer += "/" + str(name).replace("~", "~0").replace("/", "~1")
    return value, pointer


def each(spot: Spot) -> Iterator[tuple[str, Spot]]:
    """Yield the names of an object, or the indices of an array, with what stands there."""
    value, _ = spot
    names: Iterable[str | int] = (
        value if isinstance(value, dict) else range(len(value if isinstance(value, list) else ()))
    )
    yield from ((str(name), step(spot, name)) for name in names)


def told_place(place: Any, otherwise: Place) -> Place:
    """Return the place that a document itself names for one of its facts, as our own documents do."""
    known = {part.name for part in parts_of(Place)}
    if not isinstance(place, dict) or not all(isinstance(text, str) for text in place.values()):
        return otherwise
    return Place(**{"heading": ""} | {name: text for name, text in place.items() if name in known})


class Located:
    """An OpenAPI document whose facts know where they stand.

    Args:
        document: The document.
        heading: Heading of the page above it, empty where there is none.
        base: JSON Pointer to it in the page.
    """

    def __init__(self, document: Any, *, heading: str = "", base: str = "") -> None:
        self.root: Spot = (document, "")
        self.unread = list[str]()
        self._heading, self._base, self._schemas = heading, base, 0

    def place(self, spot: Spot) -> Place:
        """Return the place of a spot in the page."""
        return Place(self._heading, pointer=self._base + spot[1])

    def resolved(self, spot: Spot) -> Spot:
        """Follow the references that stand at a spot.

        Raises:
            PageError: A reference leads out of the page, or nowhere.
        """
        while isinstance(spot[0], dict) and "$ref" in spot[0]:
            self._count()
            reference = str(spot[0]["$ref"])
            names = [name.replace("~1", "/").replace("~0", "~") for name in reference.split("/")[1:]]
            spot = step(self.root, *names)
            if not reference.startswith("#/") or spot[0] is None:
                raise PageError(f"The OpenAPI document refers to {for_display(reference)!r}, which it does not have.")
        return spot

    def field(self, name: str, *spots: Spot, required: RuleFact | None = None) -> Field:
        """Read a schema, or several that hold together, as the field of that name.

        Raises:
            PageError: What stands there is no schema.
        """
        parts = [part for spot in spots for part in self._parts(spot)]
        rules = {keyword: rule for part in parts for keyword, rule in self._rules(part)}
        _say_as_json_schema(parts, rules)
        self._check(parts)
        inner = self._inner(parts)
        items = [step(part, "items") for part in parts if part[0].get("items") is not None]
        if "type" not in rules and (inner or items):
            kind, word = ("object", "properties") if inner else ("array", "items")
            rules["type"] = RuleFact(kind, next(self.place(step(part, word)) for part in parts if word in part[0]))
        told = tuple(note for part in parts for note in self._notes(part, rules))
        return Field(name, rules, required, inner, self.field("", *items) if items else None, told)

    def properties(self, *spots: Spot) -> dict[str, list[Spot]]:
        """Return the properties that schemas name, each with all that they say of it."""
        return _properties(part for spot in spots for part in self._parts(spot))

    def _count(self) -> None:
        # References to references can make a small document name more schemas than there is memory.
        self._schemas += 1
        if self._schemas > _MOST_SCHEMAS:
            raise PageError(f"The OpenAPI document has more than {_MOST_SCHEMAS} schemas, or refers to itself.")

    def _parts(self, spot: Spot) -> Iterator[Spot]:
        """Yield the plain schemas of which one is made by ``$ref`` and ``allOf``."""
        self._count()
        node, pointer = ({}, spot[1]) if spot[0] is True else spot
        if not isinstance(node, dict):
            raise PageError(f"The OpenAPI document has no schema at {for_display(pointer)!r}.")
        if "$ref" in node:
            yield from self._parts(self.resolved((node, pointer)))
        for _, part in each(step((node, pointer), "allOf")):
            yield from self._parts(part)
        yield node, pointer

    def _check(self, parts: list[Spot]) -> None:
        """Refuse what is no schema, and tell what is none of its rules."""
        for node, pointer in parts:
            place = for_display(pointer)
            if not isinstance(node.get("properties", {}), dict):
                raise PageError(f"The OpenAPI document has properties that are no object at {place!r}.")
            required = node.get("required", [])
            if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
                self.unread.append(f"required {for_display(required)} at {place!r}")
            if not isinstance(node.get("nullable", False), bool):
                self.unread.append(f"nullable {for_display(node['nullable'])} at {place!r}")

    def _inner(self, parts: list[Spot]) -> tuple[Field, ...]:
        properties = _properties(parts)
        listed = [spot for part in parts for _, spot in each(step(part, "required"))]
        required = {str(spot[0]): RuleFact(value=True, place=self.place(spot)) for spot in listed}
        strays = required.keys() - properties.keys()
        self.unread += [
            f"required {for_display(name)!r} at {self.place(parts[0]).pointer!r}" for name in sorted(strays)
        ]
        return tuple(
            self.field(name, *spots, required=_required(spots, required.get(name)))
            for name, spots in properties.items()
        )

    def _rules(self, part: Spot) -> Iterator[tuple[str, RuleFact]]:
        node, _ = part
        kind = node.get("type")
        for keyword, spot in each(part):
            place = told_place(_named(node, "x-places").get(keyword), self.place(spot))
            if kind == "string" and keyword == "enum" and any(isinstance(value, float) for _, value in _listed(spot)):
                self.unread.append(
                    f"how the options at {for_display(place.pointer)!r} are written, for they stand as numbers"
                )
            if keyword in KEYWORDS:
                yield from self._rule(keyword, _of_type(spot[0], keyword, kind), kind, place)
            elif keyword == "example" and not _is_prose(spot[0]):
                yield "examples", RuleFact([spot[0]], place)
            elif keyword not in _WALKED | _PROSE and not keyword.startswith("x-"):
                self.unread.append(f"{for_display(keyword)!r} at {self.place(part).pointer!r}")

    def _rule(self, keyword: str, value: Any, kind: Any, place: Place) -> Iterator[tuple[str, RuleFact]]:
        if keyword == "type" and not _is_type(value):
            raise PageError(
                f"The OpenAPI document gives the type {for_display(value)} at {for_display(place.pointer)!r}."
            )
        if keyword == "enum" and not (isinstance(value, list) and value):
            raise PageError(f"The OpenAPI document lists no options at {for_display(place.pointer)!r}.")
        if keyword == "default" and (value is None or (isinstance(kind, str) and not is_of(value, kind))):
            self.unread += [] if value is None else [f"the default {for_display(value)} at {place.pointer!r}"]
        elif keyword == "examples":
            kept = [example for example in value if not _is_prose(example)] if isinstance(value, list) else []
            yield from [(keyword, RuleFact(kept, place))] if kept else []
        elif value is not False or keyword in {"default", "const"}:
            yield keyword, RuleFact(value, place)

    def _notes(self, part: Spot, rules: dict[str, RuleFact]) -> Iterator[Note]:
        node, _ = part
        for _, (note, pointer) in each(step(part, "x-notes")):
            if isinstance(note, dict):
                yield Note(
                    note.get("keyword", ""),
                    note.get("value", 0),
                    told_place(note.get("x-place"), Place("", pointer=pointer)),
                )
        lines = str(node.get("description", "")).splitlines()
        yield from notes(lines, rules, self.place(step(part, "description")))


def _listed(spot: Spot) -> list[tuple[str, Any]]:
    return [(name, inner[0]) for name, inner in each(spot)]


def _properties(parts: Iterable[Spot]) -> dict[str, list[Spot]]:
    found = dict[str, list[Spot]]()
    for part in parts:
        for name, spot in each(step(part, "properties")):
            found.setdefault(name, []).append(spot)
    return found


def _named(node: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = node.get(name)
    return value if isinstance(value, dict) else {}


def _required(spots: list[Spot], listed: RuleFact | None) -> RuleFact | None:
    """Say whether a field is required, at the place that its schema names where it names one."""
    for node in (spot[0] for spot in spots if isinstance(spot[0], dict)):
        if place := _named(node, "x-places").get("required"):
            return RuleFact(value=bool(listed), place=told_place(place, Place("")))
    return listed


def _is_type(value: Any) -> bool:
    kinds = value if isinstance(value, list) else [str(value)]
    return bool(kinds) and all(isinstance(kind, str) and kind in TYPES for kind in kinds)


def _is_prose(example: Any) -> bool:
    """Tell whether an example holds a sentence: facts are ours to take, the vendor's prose is not."""
    if isinstance(example, list | dict):
        return any(map(_is_prose, example.values() if isinstance(example, dict) else example))
    return isinstance(example, str) and bool(re.search(r"\s", example))


def _of_type(value: Any, keyword: str, kind: Any) -> Any:
    """Make strings of numbers that stand without quotes where only strings can be meant."""
    if kind != "string" or keyword not in {"enum", "default", "const", "examples"}:
        return value
    if isinstance(value, list):
        return [_of_type(item, keyword, kind) for item in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _say_as_json_schema(parts: list[Spot], rules: dict[str, RuleFact]) -> None:
    """Say in the words of JSON Schema what OpenAPI 3.0 says in its own: null, and bounds that are excluded."""
    kind = rules.get("type")
    if kind and isinstance(kind.value, str) and any(node.get("nullable") is True for node, _ in parts):
        rules["type"] = RuleFact([kind.value, "null"], kind.place)
    for bound, excluded in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if excluded in rules and rules[excluded].value is True:
            place = rules.pop(excluded).place
            if bound in rules:
                rules[excluded] = RuleFact(rules.pop(bound).value, place)


_METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_JSON: Final = "application/json"
_MODEL: Final = job_api().fields.model
_LISTED_CODE: Final = re.compile(r"\s{0,9}[-*•]?\s{0,3}[*`]{0,3}(\d{3,5})[*`]{0,3}\s?[:：\-–—]")


def read_openapi(
    document: Any, *, heading: str = "", base: str = "", server_of: Callable[[str], RuleFact] | None = None
) -> PageFacts:
    """Read an OpenAPI document.

    Args:
        document: The document.
        heading: Heading of the page above it.
        base: JSON Pointer to it in the page.
        server_of: Learns the server of a path from the rest of the page, where the document names none.

    Raises:
        PageError: The document lacks a part that a contract needs, or states something that cannot be read.
    """
    located = Located(document, heading=heading, base=base)
    try:
        return _Reader(located, server_of).facts()
    except RecursionError as error:
        raise PageError("The OpenAPI document nests too deeply, or refers to itself.") from error


class _Reader:
    def __init__(self, located: Located, server_of: Callable[[str], RuleFact] | None) -> None:
        self._located, self._server_of = located, server_of
        self._path, self._spot = self._operation()

    def facts(self) -> PageFacts:
        """Return what the document states of the operation that names a model."""
        answer = self._answer()
        request = self._located.field("", self._body(self._spot))
        return PageFacts(
            operation=self._call(),
            request=request,
            answer=answer,
            codes=tuple(self._codes(answer)),
            unread=tuple(dict.fromkeys((*self._located.unread, *self._parameters()))),
        )

    def _operation(self) -> tuple[str, Spot]:
        """Find the operation whose request names a model; what others ask for is unread."""
        found: tuple[str, Spot] | None = None
        for path, item in each(step(self._located.root, "paths")):
            for method, spot in each(self._located.resolved(item)):
                if method not in _METHODS or self._body(spot)[0] is None:
                    continue
                if not found and _MODEL in self._located.properties(self._body(spot)):
                    found = path, spot
                else:
                    self._located.unread.append(f"the operation {method.upper()} {path}")
        if not found:
            raise PageError(f"The OpenAPI document has no operation whose JSON request has the field {_MODEL!r}.")
        return found

    def _body(self, operation: Spot) -> Spot:
        body = self._located.resolved(step(operation, "requestBody"))
        return step(body, "content", _JSON, "schema")

    # --- how it is called --------------------------------------------------------------------------------------------

    def _call(self) -> OperationFacts:
        node, pointer = self._spot
        server, path = self._server()
        header, scheme = self._security()
        method = RuleFact(pointer.rpartition("/")[2].upper(), self._located.place(self._spot))
        places = node.get("x-places") if isinstance(node.get("x-places"), dict) else {}
        rules = {"method": method, "path": path, "server": server, "header": header, "scheme": scheme}
        return OperationFacts(
            **{name: RuleFact(rule.value, told_place(places.get(name), rule.place)) for name, rule in rules.items()}
        )

    def _server(self) -> tuple[RuleFact, RuleFact]:
        """Return server and path, cut where the path begins, wherever the document cuts them."""
        at_path = (self._located.root, "paths", self._path)
        place = self._located.place(step(*at_path))
        for servers in (step(self._spot, "servers"), step(*at_path, "servers"), step(self._located.root, "servers")):
            for _, server in each(servers):
                url = urlsplit(str(step(server, "url")[0]))
                if url.scheme in {"http", "https"} and url.netloc:
                    base = RuleFact(f"{url.scheme}://{url.netloc}", self._located.place(step(server, "url")))
                    return base, RuleFact(url.path.rstrip("/") + self._path, place)
        if not self._server_of:
            raise PageError("The OpenAPI document names no server.")
        return self._server_of(self._path), RuleFact(self._path, place)

    def _security(self) -> tuple[RuleFact, RuleFact]:
        """Return the header that carries the key, and the word before the key."""
        for spot in self._schemes():
            kind, name = step(spot, "type"), step(spot, "name")
            scheme = step(spot, "x-scheme") if isinstance(step(spot, "x-scheme")[0], str) else step(spot, "scheme")
            if kind[0] == "bearer" and not isinstance(scheme[0], str):
                scheme = kind
            if kind[0] in {"http", "bearer"} and isinstance(scheme[0], str):
                word = scheme[0] if scheme[1].endswith("x-scheme") else scheme[0].capitalize()
                return self._rule("Authorization", kind), self._rule(word, scheme)
            if kind[0] == "apiKey" and step(spot, "in")[0] == "header" and isinstance(name[0], str):
                return self._rule(name[0], name), self._rule(scheme[0] or "", scheme if scheme[0] else name)
        return self._key_parameter()

    def _schemes(self) -> Iterator[Spot]:
        """Yield the security schemes, those that the operation or the document asks for first."""
        root, components = self._located.root, step(self._located.root, "components", "securitySchemes")
        for _, requirement in (*each(step(self._spot, "security")), *each(step(root, "security"))):
            yield from (self._located.resolved(step(components, name)) for name, _ in each(requirement))
        yield from (self._located.resolved(spot) for _, spot in each(components))

    def _key_parameter(self) -> tuple[RuleFact, RuleFact]:
        """Learn from a documented header parameter what no security scheme says."""
        for spot in (self._located.resolved(listed) for _, listed in each(step(self._spot, "parameters"))):
            for example in (step(spot, "example"), step(spot, "schema", "default"), step(spot, "schema", "example")):
                word, _, key = str(example[0] or "").partition(" ")
                if step(spot, "in")[0] == "header" and key:
                    return self._rule(str(step(spot, "name")[0]), step(spot, "name")), self._rule(word, example)
        raise PageError("The OpenAPI document does not say which header carries the key.")

    def _rule(self, value: str, spot: Spot) -> RuleFact:
        return RuleFact(value, self._located.place(spot))

    def _parameters(self) -> Iterator[str]:
        for _, spot in each(step(self._spot, "parameters")):
            node, pointer = self._located.resolved(spot)
            if not isinstance(node, dict) or node.get("in") != "header":
                yield f"the parameter at {pointer!r}"

    # --- what it answers ---------------------------------------------------------------------------------------------

    def _good(self) -> Spot:
        """Return the schema of the good answer, which a page may leave out; in a list of answers it is the first."""
        answers = each(step(self._spot, "responses"))
        good = next((spot for status, spot in answers if status.startswith("2")), (None, ""))
        schema = step(self._located.resolved(good), "content", _JSON, "schema")
        for word in ("oneOf", "anyOf"):
            schema = next((spot for _, spot in each(step(self._located.resolved(schema), word))), schema)
        return schema

    def _answer(self) -> Field:
        schema = self._good()
        return Field("") if schema[0] is None else self._located.field("", schema)

    def _codes(self, answer: Field) -> Iterator[CodeFact]:
        """Yield the codes: as our own documents list them, else from the answer's code and the HTTP statuses."""
        own = [spot for _, spot in each(step(self._spot, "x-codes")) if isinstance(step(spot, "code")[0], int)]
        for spot in own:
            yield CodeFact(step(spot, "code")[0], told_place(step(spot, "x-place")[0], self._located.place(spot)))
        if not own:
            yield from self._codes_of_field(answer)
            for status, spot in each(step(self._spot, "responses")):
                if re.fullmatch(r"\d{3,5}", status):
                    yield CodeFact(int(status), self._located.place(spot))

    def _codes_of_field(self, answer: Field) -> Iterator[CodeFact]:
        """Yield what the answer's code may be, and what its description lists."""
        yield from codes_of_options(answer)
        schema = self._good()
        described = self._located.properties(schema).get(CODE, []) if schema[0] is not None else []
        for spot in (step(schema, "description") for schema in described):
            matches = map(_LISTED_CODE.match, str(spot[0] or "").splitlines())
            yield from (CodeFact(int(match[1]), self._located.place(spot)) for match in matches if match)
