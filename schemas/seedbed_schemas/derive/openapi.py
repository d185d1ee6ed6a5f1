"""Reader of OpenAPI documents, versions 3.0 and 3.1, that remembers where each fact is stated."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.clauses import CODE
from seedbed_schemas.derive.examples import field_of_example, is_success
from seedbed_schemas.derive.facts import (
    KEYWORDS,
    TYPES,
    CodeFact,
    Example,
    Field,
    Location,
    Note,
    OperationFacts,
    PageError,
    PageFacts,
    Place,
    RuleFact,
    check_job_api,
    codes_of_options,
    declared_place,
    is_of_type,
    is_prose,
    split_url,
)
from seedbed_schemas.derive.fields import prose_notes
from seedbed_schemas.job_api import job_api
from seedbed_schemas.validation import for_display

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def read_openapi(
    document: Any, *, heading: str = "", base: str = "", server_of: Callable[[str], RuleFact | None] | None = None
) -> PageFacts:
    """Read an OpenAPI document.

    Args:
        document: The document.
        heading: Heading of the page above the document.
        base: JSON Pointer to the document in the page.
        server_of: Finds the server of a path elsewhere in the page, if the document names none.

    Raises:
        PageError: The document lacks a part that a contract needs, or contains an invalid statement.
    """
    schemas = _SchemaReader(document, heading=heading, base=base)
    try:
        return _OperationReader(schemas, server_of).facts()
    except RecursionError as error:
        raise PageError("The OpenAPI document nests too deeply, or refers to itself.") from error


# --- schemas ---------------------------------------------------------------------------------------------------------


_MAXIMUM_SCHEMAS: Final = 5_000
_STRUCTURE: Final = frozenset({"$ref", "allOf", "properties", "required", "items", "nullable", "example"})
_SCHEMA_VALUES: Final = frozenset({"additionalProperties", "oneOf", "anyOf"})
"""Keywords whose value is a schema or several schemas, which a contract keeps as they are."""
"""Keywords that are read, but not as a rule of their own."""
_PROSE: Final = frozenset({"title", "description", "externalDocs", "xml", "$comment", "readOnly", "writeOnly"})


class _SchemaReader:
    """Reads the schemas of a document as fields.

    Args:
        document: The OpenAPI document.
        heading: Heading of the page above the document; empty if there is none.
        base: JSON Pointer to the document in the page.
    """

    def __init__(self, document: Any, *, heading: str = "", base: str = "") -> None:
        self.root = Location(document, "")
        self.unrecognized = list[str]()
        self.contradictions = list[str]()
        self._heading, self._base, self._schemas = heading, base, 0

    def place(self, location: Location) -> Place:
        """Return the place of a location in the page."""
        return Place(self._heading, pointer=self._base + location.pointer)

    def resolve(self, location: Location) -> Location:
        """Follow references until there is another value.

        Raises:
            PageError: A reference leads out of the document or to nothing.
        """
        while isinstance(location.value, dict) and "$ref" in location.value:
            self._count_schema()
            reference = str(location.value["$ref"])
            names = [name.replace("~1", "/").replace("~0", "~") for name in reference.split("/")[1:]]
            location = self.root.at(*names)
            if not reference.startswith("#/") or location.value is None:
                raise PageError(f"The OpenAPI document refers to {for_display(reference)!r}, which it does not have.")
        return location

    def field(self, name: str, *locations: Location, required: RuleFact | None = None) -> Field:
        """Read a schema, or several schemas that all apply, as a field.

        Raises:
            PageError: A location does not contain a schema.
        """
        parts = [part for location in locations for part in self._parts(location)]
        rules = {keyword: rule for part in parts for keyword, rule in self._rules(part)}
        _translate_openapi_3_0(parts, rules)
        self._check(parts)
        properties = _properties(parts)
        for part in parts:
            for blank in (child for child, _ in part.at("properties").children() if child != child.strip()):
                where = f"at {for_display(self.place(part.at('properties', blank)).pointer)!r}"
                self.contradictions.append(
                    f"the name of the field {for_display(blank.strip())!r} {where} has a blank at an end; it is read "
                    "without"
                )
        listed = [
            (str(location.value).strip(), location) for part in parts for _, location in part.at("required").children()
        ]
        required_names = {child: RuleFact(value=True, place=self.place(location)) for child, location in listed}
        self.unrecognized += [
            f"required {for_display(missing)!r} at {self.place(parts[0]).pointer!r}"
            for missing in sorted(required_names.keys() - properties.keys())
        ]
        children = tuple(
            self.field(child, *schemas, required=_required_rule(schemas, required_names.get(child)))
            for child, schemas in properties.items()
        )
        items = [part.at("items") for part in parts if part.value.get("items") is not None]
        if "type" not in rules and (children or items):
            json_type, keyword = ("object", "properties") if children else ("array", "items")
            place = next(self.place(part.at(keyword)) for part in parts if keyword in part.value)
            rules["type"] = RuleFact(json_type, place)
        notes = tuple(note for part in parts for note in self.notes(part, rules))
        return Field(name, rules, required, children, self.field("", *items) if items else None, notes)

    def properties(self, *locations: Location) -> dict[str, list[Location]]:
        """Return the properties of schemas that all apply, each with every schema for it."""
        return _properties(part for location in locations for part in self._parts(location))

    def _count_schema(self) -> None:
        # With references to references, a small document can expand to more schemas than fit in memory.
        self._schemas += 1
        if self._schemas > _MAXIMUM_SCHEMAS:
            raise PageError(f"The OpenAPI document has more than {_MAXIMUM_SCHEMAS} schemas, or refers to itself.")

    def _parts(self, location: Location) -> Iterator[Location]:
        """Yield the plain schemas that a schema combines with ``$ref`` and ``allOf``."""
        self._count_schema()
        # The schema `true` accepts everything, like the empty schema.
        schema = Location({}, location.pointer) if location.value is True else location
        if not isinstance(schema.value, dict):
            raise PageError(f"The OpenAPI document has no schema at {for_display(schema.pointer)!r}.")
        if "$ref" in schema.value:
            yield from self._parts(self.resolve(schema))
        for _, part in schema.at("allOf").children():
            yield from self._parts(part)
        yield schema

    def _check(self, parts: list[Location]) -> None:
        """Raise an error for invalid properties, and report other invalid keywords as not recognized."""
        for schema, pointer in parts:
            place = for_display(pointer)
            if not isinstance(schema.get("properties", {}), dict):
                raise PageError(f"The OpenAPI document has properties that are not an object at {place!r}.")
            required = schema.get("required", [])
            if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
                self.unrecognized.append(f"required {for_display(required)} at {place!r}")
            if not isinstance(schema.get("nullable", False), bool):
                self.unrecognized.append(f"nullable {for_display(schema['nullable'])} at {place!r}")

    def _rules(self, part: Location) -> Iterator[tuple[str, RuleFact]]:
        json_type = part.value.get("type")
        for keyword, location in part.children():
            place = declared_place(part.member("x-places").get(keyword), self.place(location))
            is_text_enum = keyword == "enum" and json_type == "string"
            if is_text_enum and any(isinstance(option.value, float) for _, option in location.children()):
                # YAML reads 1.0 as a number, so it is unknown whether the service expects "1" or "1.0".
                self.unrecognized.append(
                    f"the exact text of the options at {for_display(place.pointer)!r}, which are numbers without quotes"
                )
            if keyword in _SCHEMA_VALUES:
                value = self.plain(location, is_list=keyword != "additionalProperties")
                # An object may have further properties anyway.
                yield from [(keyword, RuleFact(value, place))] if value not in (True, {}) else []
            elif keyword in KEYWORDS:
                value = _with_text_values(location.value, keyword) if json_type == "string" else location.value
                yield from self.rule(keyword, value, json_type, place)
            elif keyword == "example" and not is_prose(location.value):
                yield "examples", RuleFact([location.value], place)
            elif keyword not in _STRUCTURE | _PROSE and not keyword.startswith("x-"):
                self.unrecognized.append(f"{for_display(keyword)!r} at {self.place(part).pointer!r}")

    def plain(self, location: Location, *, is_list: bool = False) -> Any:
        """Return a schema, or a list of schemas, without references and without the texts of the vendor."""
        if is_list:
            if not isinstance(location.value, list) or not location.value:
                raise PageError(f"The OpenAPI document has no alternatives at {for_display(location.pointer)!r}.")
            return [self.plain(alternative) for _, alternative in location.children()]
        if isinstance(location.value, bool):
            return location.value
        parts = list(self._parts(location))
        schema = {keyword: rule.value for part in parts for keyword, rule in self._rules(part)}
        rules = {keyword: RuleFact(value, self.place(location)) for keyword, value in schema.items()}
        _translate_openapi_3_0(parts, rules)
        schema = {keyword: rule.value for keyword, rule in rules.items() if keyword not in {"examples", "default"}}
        if required := [name for part in parts for name in part.value.get("required", []) if isinstance(name, str)]:
            schema["required"] = list(dict.fromkeys(required))
        if properties := _properties(parts):
            schema["properties"] = {name: self.plain(each[-1]) for name, each in properties.items()}
        for part in parts:
            if part.value.get("items") is not None:
                schema["items"] = self.plain(part.at("items"))
        return schema

    def rule(self, keyword: str, value: Any, json_type: Any, place: Place) -> Iterator[tuple[str, RuleFact]]:
        if keyword == "type":
            types = value if isinstance(value, list) else [str(value)]
            if not types or not all(isinstance(name, str) and name in TYPES for name in types):
                raise PageError(
                    f"The OpenAPI document gives the unknown type {for_display(value)} at "
                    f"{for_display(place.pointer)!r}."
                )
        if keyword == "enum" and not (isinstance(value, list) and value):
            raise PageError(f"The OpenAPI document has an enum without options at {for_display(place.pointer)!r}.")
        if keyword == "default" and (
            value is None or (isinstance(json_type, str) and not is_of_type(value, json_type))
        ):
            # Generators write a default of null for fields without a default.
            if value is not None:
                self.unrecognized.append(f"the default {for_display(value)} at {place.pointer!r}")
        elif keyword == "examples":
            facts = [example for example in value if not is_prose(example)] if isinstance(value, list) else []
            yield from [(keyword, RuleFact(facts, place))] if facts else []
        elif value is not False or keyword in {"default", "const"}:
            # Any other keyword that is false, such as `deprecated`, states nothing.
            yield keyword, RuleFact(value, place)

    def notes(self, part: Location, rules: dict[str, RuleFact]) -> Iterator[Note]:
        for _, (note, pointer) in part.at("x-notes").children():
            if isinstance(note, dict):
                place = declared_place(note.get("x-place"), Place("", pointer=pointer))
                yield Note(note.get("keyword", ""), note.get("value", 0), place)
        lines = str(part.value.get("description", "")).splitlines()
        yield from prose_notes(lines, rules, self.place(part.at("description")))


def _properties(parts: Iterable[Location]) -> dict[str, list[Location]]:
    found = dict[str, list[Location]]()
    for part in parts:
        for name, location in part.at("properties").children():
            found.setdefault(name.strip(), []).append(location)
    return found


def _required_rule(schemas: list[Location], listed: RuleFact | None) -> RuleFact | None:
    """Return whether a field is required, with the place that its schema declares, if it declares one."""
    for schema in schemas:
        if place := schema.member("x-places").get("required"):
            return RuleFact(value=bool(listed), place=declared_place(place, Place("")))
    return listed


def _with_text_values(value: Any, keyword: str) -> Any:
    """Turn numbers into strings in the values of a string field, because pages often omit the quotes."""
    if keyword not in {"enum", "default", "const", "examples"}:
        return value
    if isinstance(value, list):
        return [_with_text_values(item, keyword) for item in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _translate_openapi_3_0(parts: list[Location], rules: dict[str, RuleFact]) -> None:
    """Replace what OpenAPI 3.0 states with keywords of its own by JSON Schema: ``nullable`` and exclusive bounds."""
    json_type = rules.get("type")
    if json_type and isinstance(json_type.value, str) and any(schema.get("nullable") is True for schema, _ in parts):
        rules["type"] = RuleFact([json_type.value, "null"], json_type.place)
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in rules and rules[exclusive].value is True:
            place = rules.pop(exclusive).place
            if bound in rules:
                rules[exclusive] = RuleFact(rules.pop(bound).value, place)


# --- the operation and its codes -------------------------------------------------------------------------------------


_METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_JSON: Final = "application/json"
_MODEL: Final = job_api().fields.model
_LISTED_CODE: Final = re.compile(r"\s{0,9}[-*•]?\s{0,3}[*`]{0,3}(\d{3,5})[*`]{0,3}\s?[:：\-–—]")


class _OperationReader:
    """Reads the facts of the first operation whose request names a model, and reports the others as not recognized."""

    def __init__(self, schemas: _SchemaReader, server_of: Callable[[str], RuleFact | None] | None) -> None:
        self._schemas, self._server_of = schemas, server_of
        found: tuple[str, Location] | None = None
        for path, item in schemas.root.at("paths").children():
            for method, operation in schemas.resolve(item).children():
                is_shared = (method.upper(), path) == (job_api().download_url.method, job_api().download_url.path)
                if method not in _METHODS or is_shared or self._body(operation).value is None:
                    continue
                if not found and _MODEL in schemas.properties(self._body(operation)):
                    found = path, operation
                else:
                    schemas.unrecognized.append(f"the operation {method.upper()} {path}")
        if not found:
            raise PageError(f"The OpenAPI document has no operation whose JSON request has the field {_MODEL!r}.")
        self._path, self._operation = found

    def facts(self) -> PageFacts:
        """Return what the document states about the operation."""
        success = self.success_schema()
        # A page may leave out the schema of the response.
        answer = Field("") if success.value is None else self._schemas.field("", success)
        self.check_job_api(answer)
        request = self._schemas.field("", self._body(self._operation))
        server, path = self.server_and_path()
        header, scheme = self._authorization()
        method = self._fact(self._operation.pointer.rpartition("/")[2].upper(), self._operation)
        rules = {"method": method, "path": path, "server": server, "header": header, "scheme": scheme}
        declared = self._operation.member("x-places")
        operation = OperationFacts(
            **{
                name: RuleFact(rule.value, declared_place(declared.get(name), rule.place))
                for name, rule in rules.items()
            }
        )
        codes = tuple(self._codes(answer))
        unrecognized = self._schemas.unrecognized
        for _, location in self._operation.at("parameters").children():
            parameter, pointer = self._schemas.resolve(location)
            if not isinstance(parameter, dict) or parameter.get("in") != "header":
                unrecognized.append(f"the parameter at {pointer!r}")
        body = self._schemas.resolve(self._operation.at("requestBody")).at("content", _JSON)
        return PageFacts(
            operation,
            request,
            answer,
            codes,
            unrecognized=tuple(dict.fromkeys(unrecognized)),
            contradictions=tuple(self._schemas.contradictions),
            requests=tuple(self.examples(body)),
            answers=tuple(filter(is_success, self.examples(self.success()))),
        )

    def check_job_api(self, answer: Field) -> None:
        """Check that the operation creates a task, before a statement of another API is rejected."""
        inputs = self._schemas.properties(self._body(self._operation)).get(job_api().fields.input, [])
        parts = [self._schemas.resolve(location) for location in inputs]
        shown = next(iter(self.examples(self.success())), None)
        check_job_api(
            f"{self._operation.pointer.rpartition('/')[2].upper()} {self._path}",
            field_of_example(shown) if shown and not answer.fields else answer,
            has_input=any(part.at("type").value == "object" or part.member("properties") for part in parts),
        )

    def examples(self, content: Location) -> Iterator[Example]:
        """Yield the examples of a request or a response, beside its schema or in it."""
        schema = self._schemas.resolve(content.at("schema"))
        named = [example.at("value") for _, example in content.at("examples").children()]
        listed = [example for _, example in schema.at("examples").children()]
        for location in (content.at("example"), *named, schema.at("example"), *listed):
            if isinstance(location.value, dict):
                yield Example(location.value, self._schemas.place(location))

    def _body(self, operation: Location) -> Location:
        return self._schemas.resolve(operation.at("requestBody")).at("content", _JSON, "schema")

    def _fact(self, value: str, location: Location) -> RuleFact:
        return RuleFact(value, self._schemas.place(location))

    def server_and_path(self) -> tuple[RuleFact, RuleFact]:
        """Return the server and the whole path, because a document may put a part of the path into the server URL."""
        root = self._schemas.root
        path_item = root.at("paths", self._path)
        # In this order, because the more specific list of servers wins.
        for parent in (self._operation, path_item, root):
            for _, server in parent.at("servers").children():
                base, prefix = split_url(str(server.at("url").value))
                if base:
                    fact = self._fact(base, server.at("url"))
                    return fact, self._fact(prefix.rstrip("/") + self._path, path_item)
        found = self._server_of(self._path) if self._server_of else None
        return found or self._fact(job_api().server, root), self._fact(self._path, path_item)

    def _authorization(self) -> tuple[RuleFact, RuleFact]:
        """Return the header that carries the key, and the word before the key."""
        schemes = self._schemas.root.at("components", "securitySchemes")
        required = (
            schemes.at(name)
            for parent in (self._operation, self._schemas.root)
            for _, requirement in parent.at("security").children()
            for name, _ in requirement.children()
        )
        # A document may define schemes that it does not require, so those come last.
        for security in map(self._schemas.resolve, chain(required, (scheme for _, scheme in schemes.children()))):
            kind, name, scheme = security.at("type"), security.at("name"), security.at("scheme")
            # Our own documents keep the spelling of the word under x-scheme.
            spelled = security.at("x-scheme")
            if isinstance(spelled.value, str):
                scheme = spelled
            # Some pages write the type `bearer`, which OpenAPI does not have.
            if kind.value == "bearer" and not isinstance(scheme.value, str):
                scheme = kind
            if kind.value in {"http", "bearer"} and isinstance(scheme.value, str):
                word = scheme.value if scheme is spelled else scheme.value.capitalize()
                return self._fact("Authorization", kind), self._fact(word, scheme)
            if kind.value == "apiKey" and security.at("in").value == "header" and isinstance(name.value, str):
                return self._fact(name.value, name), self._fact(scheme.value or "", scheme if scheme.value else name)
        return self.authorization_parameter()

    def authorization_parameter(self) -> tuple[RuleFact, RuleFact]:
        """Return header and word from a documented header parameter, for documents without security schemes."""
        for _, listed in self._operation.at("parameters").children():
            parameter = self._schemas.resolve(listed)
            for example in (
                parameter.at("example"),
                parameter.at("schema", "default"),
                parameter.at("schema", "example"),
            ):
                word, _, key = str(example.value or "").partition(" ")
                if parameter.at("in").value == "header" and key:
                    name = parameter.at("name")
                    return self._fact(str(name.value), name), self._fact(word, example)
        raise PageError("The OpenAPI document does not state which header carries the key.")

    def success(self) -> Location:
        """Return the JSON content of a successful response, or a location of ``None``."""
        responses = self._operation.at("responses").children()
        success = next((response for status, response in responses if status.startswith("2")), Location(None, ""))
        return self._schemas.resolve(success).at("content", _JSON)

    def success_schema(self) -> Location:
        """Return the schema of a successful response, or a location of ``None``."""
        schema = self.success().at("schema")
        # In a list of alternatives, the success comes first.
        for keyword in ("oneOf", "anyOf"):
            alternatives = self._schemas.resolve(schema).at(keyword).children()
            schema = next((alternative for _, alternative in alternatives), schema)
        return schema

    def _codes(self, answer: Field) -> Iterator[CodeFact]:
        """Yield the codes from the ``x-codes`` of our own documents, or else from wherever pages list them.

        Pages list them as options of the response field ``code``, in its description, or as HTTP statuses.
        """
        own = [row for _, row in self._operation.at("x-codes").children() if isinstance(row.at("code").value, int)]
        for row in own:
            place = declared_place(row.at("x-place").value, self._schemas.place(row))
            yield CodeFact(row.at("code").value, place)
        if own:
            return
        yield from codes_of_options(answer)
        schema = self.success_schema()
        code_fields = self._schemas.properties(schema).get(CODE, []) if schema.value is not None else []
        for description in (field.at("description") for field in code_fields):
            matches = map(_LISTED_CODE.match, str(description.value or "").splitlines())
            yield from (CodeFact(int(match[1]), self._schemas.place(description)) for match in matches if match)
        for status, response in self._operation.at("responses").children():
            if re.fullmatch(r"\d{3,5}", status):
                yield CodeFact(int(status), self._schemas.place(response))
