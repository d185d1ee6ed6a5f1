"""The contract of one model: its operation, its codes, and the schemas of its request and response."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import msgspec

from seedbed_schemas.clauses import Clause, Node, clauses, nodes
from seedbed_schemas.job_api import job_api
from seedbed_schemas.validation import Schema, for_display, normalised

_PACKAGE: Final = Path(__file__).parent
_FOLDER: Final = _PACKAGE / "contracts"
_DEFAULT: Final = _FOLDER / "seedream-4.5-text-to-image.json"


class ContractError(ValueError):
    """A document is not a valid contract; the message is one sentence that gives the reason."""


@dataclass(frozen=True, slots=True)
class Code:
    """One documented outcome.

    Attributes:
        number: The ``code`` in the JSON body.
        name: Our name for it, such as ``rate_limited``.
        description: What it means.
    """

    number: int
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """How to send the documented request.

    Attributes:
        method: HTTP method.
        path: Path on the server.
        server: Base URL of the real service.
        header: Header that carries the API key.
        scheme: Word before the key in that header.
    """

    method: str
    path: str
    server: str
    header: str
    scheme: str


class Contract:
    """What the vendor's page promises about one model.

    Args:
        document: A contract as ``seedbed derive`` writes it.

    Raises:
        ContractError: The document is not a valid contract.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        _check(document)
        self.document = document
        self.model = str(document["title"])
        self.operation = Operation(**{name: document["x-operation"][name] for name in Operation.__slots__})
        self.codes = tuple(Code(row["code"], row["name"], row["description"]) for row in document["x-codes"])

    @classmethod
    def load(cls, path: Path = _DEFAULT) -> Contract:
        """Read a contract file, by default the contract of the shipped model.

        Raises:
            OSError: The file cannot be read.
            ContractError: The file does not contain a valid contract; the message names the file.
        """
        content = path.read_bytes()
        try:
            return cls(msgspec.json.decode(content.removeprefix(codecs.BOM_UTF8)))
        except ContractError as error:
            raise ContractError(f"{path} is not a contract: {error}") from error
        except (ValueError, RecursionError) as error:
            raise ContractError(f"{path} is not a contract: it is not JSON.") from error

    def clauses(self) -> tuple[Clause, ...]:
        """Return every testable statement of the page, in page order."""
        return tuple(clauses(self.document))

    def notes(self) -> tuple[str, ...]:
        """Return the limits that only the prose of the page states, such as ``input.caption maxLength 80``.

        Requests are not validated against them.
        """
        return tuple(
            f"{node.id} {note['keyword']} {note['value']}"
            for part in ("request", "answer")
            for node in nodes(self.document, part)
            for note in node.schema.get("x-notes", ())
        )

    @cached_property
    def request(self) -> Schema:
        """The schema of a request."""
        return Schema(self.part("request"), name="request")

    @cached_property
    def answer(self) -> Schema:
        """The schema of a response to a successful request."""
        return Schema(self.part("answer"), name="answer", prefix="answer/")

    def part(self, name: str) -> dict[str, Any]:
        """Return the JSON Schema of the ``request`` or of the ``answer``."""
        part: dict[str, Any] = self.document["$defs"][name]
        return part

    @property
    def input_fields(self) -> dict[str, Any]:
        """The schema of each input field by name; empty if the contract describes none."""
        schema = self.part("request").get("properties", {}).get(job_api().fields.input, {})
        fields: dict[str, Any] = schema.get("properties", {})
        return fields

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The default of each input field that has a valid one, by name."""
        stated = {name: schema for name, schema in self.input_fields.items() if "default" in schema}
        return {
            name: schema["default"]
            for name, schema in stated.items()
            if Schema(schema, name=name).accepts(schema["default"])
        }

    def with_defaults(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of an input with the defaults of the missing fields, unless these make it invalid.

        A default may belong to one of several fields that exclude each other.
        """
        filled = {**self.defaults, **values}
        return filled if self._input.accepts(filled) or not self._input.accepts(values) else dict(values)

    @cached_property
    def _input(self) -> Schema:
        return Schema(self.part("request").get("properties", {}).get(job_api().fields.input, {}), name="input")

    def normalised(self, request: Any) -> Any:
        """Return a request with texts such as ``"6"`` replaced by the numbers and booleans that they stand for."""
        return normalised(request, self.part("request"))

    def code_named(self, name: str) -> Code:
        """Return the code with a given name.

        Raises:
            KeyError: The contract has no code with that name.
        """
        return self.codes_by_name[name]

    @cached_property
    def codes_by_name(self) -> dict[str, Code]:
        """The codes by name."""
        return {code.name: code for code in self.codes}


@cache
def default_contract() -> Contract:
    """Return the contract of the shipped model; it is loaded once."""
    return Contract.load()


@cache
def shipped_contracts() -> tuple[Contract, ...]:
    """Return the contracts of all shipped models, ordered by file name; they are loaded once."""
    return tuple(Contract.load(path) for path in sorted(_FOLDER.glob("*.json")) if path.name != "job-api.json")


def merged(document: Any, patch: Any) -> Any:
    """Return a JSON value with a JSON Merge Patch (RFC 7396) applied."""
    if not isinstance(patch, Mapping):
        return patch
    found = dict(document) if isinstance(document, Mapping) else {}
    for name, change in patch.items():
        if change is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), change)
    return found


def patched_contract(source: str | Path | Mapping[str, Any], contracts: Mapping[str, Contract]) -> Contract:
    """Return a contract with a patch applied, for a service that differs from its documentation.

    Args:
        source: A JSON Merge Patch, or the path of a file with one. Its ``title`` names the model whose contract it
            changes; without one, that is the shipped model.
        contracts: Contracts by model that replace the shipped ones or add to them.

    Raises:
        OSError: The file cannot be read.
        ContractError: It contains no JSON object, the model is unknown, or the result is not a valid contract.
    """
    name, patch = "The contract patch", source
    if isinstance(source, str | Path):
        name = str(source)
        try:
            patch = msgspec.json.decode(Path(source).read_bytes().removeprefix(codecs.BOM_UTF8))
        except (ValueError, RecursionError) as error:
            raise ContractError(f"{name} is not a contract patch: it is not JSON.") from error
    if not isinstance(patch, Mapping):
        raise ContractError(f"{name} is not a contract patch: it must be a JSON object.")
    known = {**{each.model: each for each in shipped_contracts()}, default_contract().model: default_contract()}
    known |= contracts
    title = patch.get("title", default_contract().model)
    if title not in known:
        raise ContractError(f"{name} patches the model {title!r}; the models are {', '.join(known)}.")
    try:
        return Contract(merged(known[title].document, patch))
    except ContractError as error:
        raise ContractError(f"{name} makes the contract of {title} invalid: {error}") from error


# --- checks ----------------------------------------------------------------------------------------------------------


_BOUNDS: Final = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minimum", "maximum"))


@cache
def _contract_schema() -> Schema:
    return Schema(msgspec.json.decode((_PACKAGE / "contract.schema.json").read_bytes()), name="document")


def _check(document: Any) -> None:
    """Raise ``ContractError`` for a document that is not a valid contract."""
    if not _contract_schema().accepts(document):
        raise ContractError(f"{_contract_schema().violations(document)[0].message}.")
    # Each field is checked before the whole document, because only then does the message name the field.
    for part in ("request", "answer"):
        for node in nodes(document, part):
            _check_rules(node)
    if not jsonschema_rs.meta.is_valid(document):
        raise ContractError("it is not valid JSON Schema.")
    if document["$defs"]["request"]["properties"][job_api().fields.model]["const"] != document["title"]:
        raise ContractError("its title differs from the model in its request.")


def _check_rules(node: Node) -> None:
    """Raise ``ContractError`` for a rule that is invalid, or that contradicts another rule of the same field."""
    rules = {keyword: value for keyword, value in node.schema.items() if keyword not in {"properties", "items"}}
    for keyword, value in rules.items():
        # Compiling also finds invalid regular expressions, which the meta-schema accepts as patterns.
        try:
            jsonschema_rs.validator_for({keyword: value})
        except ValueError as error:
            raise ContractError(
                f"{node.id} has the {keyword} {for_display(value)}, which is not a valid JSON Schema rule."
            ) from error
    for low, high in _BOUNDS:
        if low in rules and high in rules and rules[low] > rules[high]:
            raise ContractError(
                f"{node.id} has a {low} of {rules[low]}, which is greater than its {high} of {rules[high]}."
            )
