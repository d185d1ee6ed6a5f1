"""Reader of pages that state their facts in an OpenAPI document, 3.0 or 3.1."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from seedbed_schemas.clauses import CODE
from seedbed_schemas.derive.facts import Code, Field, Operation, PageError, PageFacts, Rule, codes_of_options
from seedbed_schemas.derive.located import Located, Spot, each, step, told_place
from seedbed_schemas.job_api import job_api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
_JSON: Final = "application/json"
_MODEL: Final = job_api().fields.model
_LISTED_CODE: Final = re.compile(r"\s{0,9}[-*•]?\s{0,3}[*`]{0,3}(\d{3,5})[*`]{0,3}\s?[:：\-–—]")


def read_openapi(
    document: Any, *, heading: str = "", base: str = "", server_of: Callable[[str], Rule] | None = None
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
    def __init__(self, located: Located, server_of: Callable[[str], Rule] | None) -> None:
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

    def _call(self) -> Operation:
        node, pointer = self._spot
        server, path = self._server()
        header, scheme = self._security()
        method = Rule(pointer.rpartition("/")[2].upper(), self._located.place(self._spot))
        places = node.get("x-places") if isinstance(node.get("x-places"), dict) else {}
        rules = {"method": method, "path": path, "server": server, "header": header, "scheme": scheme}
        return Operation(
            **{name: Rule(rule.value, told_place(places.get(name), rule.place)) for name, rule in rules.items()}
        )

    def _server(self) -> tuple[Rule, Rule]:
        """Return server and path, cut where the path begins, wherever the document cuts them."""
        at_path = (self._located.root, "paths", self._path)
        place = self._located.place(step(*at_path))
        for servers in (step(self._spot, "servers"), step(*at_path, "servers"), step(self._located.root, "servers")):
            for _, server in each(servers):
                url = urlsplit(str(step(server, "url")[0]))
                if url.scheme in {"http", "https"} and url.netloc:
                    base = Rule(f"{url.scheme}://{url.netloc}", self._located.place(step(server, "url")))
                    return base, Rule(url.path.rstrip("/") + self._path, place)
        if not self._server_of:
            raise PageError("The OpenAPI document names no server.")
        return self._server_of(self._path), Rule(self._path, place)

    def _security(self) -> tuple[Rule, Rule]:
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

    def _key_parameter(self) -> tuple[Rule, Rule]:
        """Learn from a documented header parameter what no security scheme says."""
        for spot in (self._located.resolved(listed) for _, listed in each(step(self._spot, "parameters"))):
            for example in (step(spot, "example"), step(spot, "schema", "default"), step(spot, "schema", "example")):
                word, _, key = str(example[0] or "").partition(" ")
                if step(spot, "in")[0] == "header" and key:
                    return self._rule(str(step(spot, "name")[0]), step(spot, "name")), self._rule(word, example)
        raise PageError("The OpenAPI document does not say which header carries the key.")

    def _rule(self, value: str, spot: Spot) -> Rule:
        return Rule(value, self._located.place(spot))

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

    def _codes(self, answer: Field) -> Iterator[Code]:
        """Yield the codes: as our own documents list them, else from the answer's code and the HTTP statuses."""
        own = [spot for _, spot in each(step(self._spot, "x-codes")) if isinstance(step(spot, "code")[0], int)]
        for spot in own:
            yield Code(step(spot, "code")[0], told_place(step(spot, "x-place")[0], self._located.place(spot)))
        if not own:
            yield from self._codes_of_field(answer)
            for status, spot in each(step(self._spot, "responses")):
                if re.fullmatch(r"\d{3,5}", status):
                    yield Code(int(status), self._located.place(spot))

    def _codes_of_field(self, answer: Field) -> Iterator[Code]:
        """Yield what the answer's code may be, and what its description lists."""
        yield from codes_of_options(answer)
        schema = self._good()
        described = self._located.properties(schema).get(CODE, []) if schema[0] is not None else []
        for spot in (step(schema, "description") for schema in described):
            matches = map(_LISTED_CODE.match, str(spot[0] or "").splitlines())
            yield from (Code(int(match[1]), self._located.place(spot)) for match in matches if match)
