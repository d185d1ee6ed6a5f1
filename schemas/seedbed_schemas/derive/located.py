"""Schemas inside an OpenAPI document as fields, each fact with the JSON Pointer at which it stands."""

from __future__ import annotations

import re
from dataclasses import fields as parts_of
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.derive.facts import KEYWORDS, TYPES, Field, Note, PageError, Place, Rule
from seedbed_schemas.derive.kinds import is_of
from seedbed_schemas.derive.prose import notes
from seedbed_schemas.refusals import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
                raise PageError(f"The OpenAPI document refers to {shown(reference)!r}, which it does not have.")
        return spot

    def field(self, name: str, *spots: Spot, required: Rule | None = None) -> Field:
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
            rules["type"] = Rule(kind, next(self.place(step(part, word)) for part in parts if word in part[0]))
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
            raise PageError(f"The OpenAPI document has no schema at {shown(pointer)!r}.")
        if "$ref" in node:
            yield from self._parts(self.resolved((node, pointer)))
        for _, part in each(step((node, pointer), "allOf")):
            yield from self._parts(part)
        yield node, pointer

    def _check(self, parts: list[Spot]) -> None:
        """Refuse what is no schema, and tell what is none of its rules."""
        for node, pointer in parts:
            place = shown(pointer)
            if not isinstance(node.get("properties", {}), dict):
                raise PageError(f"The OpenAPI document has properties that are no object at {place!r}.")
            required = node.get("required", [])
            if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
                self.unread.append(f"required {shown(required)} at {place!r}")
            if not isinstance(node.get("nullable", False), bool):
                self.unread.append(f"nullable {shown(node['nullable'])} at {place!r}")

    def _inner(self, parts: list[Spot]) -> tuple[Field, ...]:
        properties = _properties(parts)
        listed = [spot for part in parts for _, spot in each(step(part, "required"))]
        required = {str(spot[0]): Rule(value=True, place=self.place(spot)) for spot in listed}
        strays = required.keys() - properties.keys()
        self.unread += [f"required {shown(name)!r} at {self.place(parts[0]).pointer!r}" for name in sorted(strays)]
        return tuple(
            self.field(name, *spots, required=_required(spots, required.get(name)))
            for name, spots in properties.items()
        )

    def _rules(self, part: Spot) -> Iterator[tuple[str, Rule]]:
        node, _ = part
        kind = node.get("type")
        for keyword, spot in each(part):
            place = told_place(_named(node, "x-places").get(keyword), self.place(spot))
            if kind == "string" and keyword == "enum" and any(isinstance(value, float) for _, value in _listed(spot)):
                self.unread.append(
                    f"how the options at {shown(place.pointer)!r} are written, for they stand as numbers"
                )
            if keyword in KEYWORDS:
                yield from self._rule(keyword, _of_type(spot[0], keyword, kind), kind, place)
            elif keyword == "example" and not _is_prose(spot[0]):
                yield "examples", Rule([spot[0]], place)
            elif keyword not in _WALKED | _PROSE and not keyword.startswith("x-"):
                self.unread.append(f"{shown(keyword)!r} at {self.place(part).pointer!r}")

    def _rule(self, keyword: str, value: Any, kind: Any, place: Place) -> Iterator[tuple[str, Rule]]:
        if keyword == "type" and not _is_type(value):
            raise PageError(f"The OpenAPI document gives the type {shown(value)} at {shown(place.pointer)!r}.")
        if keyword == "enum" and not (isinstance(value, list) and value):
            raise PageError(f"The OpenAPI document lists no options at {shown(place.pointer)!r}.")
        if keyword == "default" and (value is None or (isinstance(kind, str) and not is_of(value, kind))):
            self.unread += [] if value is None else [f"the default {shown(value)} at {place.pointer!r}"]
        elif keyword == "examples":
            kept = [example for example in value if not _is_prose(example)] if isinstance(value, list) else []
            yield from [(keyword, Rule(kept, place))] if kept else []
        elif value is not False or keyword in {"default", "const"}:
            yield keyword, Rule(value, place)

    def _notes(self, part: Spot, rules: dict[str, Rule]) -> Iterator[Note]:
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


def _required(spots: list[Spot], listed: Rule | None) -> Rule | None:
    """Say whether a field is required, at the place that its schema names where it names one."""
    for node in (spot[0] for spot in spots if isinstance(spot[0], dict)):
        if place := _named(node, "x-places").get("required"):
            return Rule(value=bool(listed), place=told_place(place, Place("")))
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


def _say_as_json_schema(parts: list[Spot], rules: dict[str, Rule]) -> None:
    """Say in the words of JSON Schema what OpenAPI 3.0 says in its own: null, and bounds that are excluded."""
    kind = rules.get("type")
    if kind and isinstance(kind.value, str) and any(node.get("nullable") is True for node, _ in parts):
        rules["type"] = Rule([kind.value, "null"], kind.place)
    for bound, excluded in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if excluded in rules and rules[excluded].value is True:
            place = rules.pop(excluded).place
            if bound in rules:
                rules[excluded] = Rule(rules.pop(bound).value, place)
