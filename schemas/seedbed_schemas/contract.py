"""The contract of one model, loaded: its operation, its codes, its request and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs
import msgspec

from seedbed_schemas.clauses import Clause, Node, clauses, nodes
from seedbed_schemas.job_api import job_api
from seedbed_schemas.validation import Schema, for_display

if TYPE_CHECKING:
    from collections.abc import Mapping


_HERE = Path(__file__).parent
_FOLDER = _HERE / "contracts"
_DEFAULT = _FOLDER / "seedream-4.5-text-to-image.json"


_BOUNDS: Final = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minimum", "maximum"))


class ContractError(ValueError):
    """A document is no contract; the message is one sentence that tells why."""


@dataclass(frozen=True, slots=True)
class Code:
    """One documented outcome.

    Attributes:
        number: The ``code`` on the wire.
        name: Our name for it, such as ``rate_limited``.
        description: What it means.
    """

    number: int
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Operation:
    """How the documented request is made.

    Attributes:
        method: HTTP method.
        path: Path on the server.
        server: Base URL of the real service.
        header: Header that carries the key.
        scheme: Word before the key in that header.
    """

    method: str
    path: str
    server: str
    header: str
    scheme: str


class Contract:
    """What the vendor's page promises of one model.

    Args:
        document: A contract as ``seedbed derive`` writes it.

    Raises:
        ContractError: The document is no contract.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        _check(document)
        self.document = document
        self.model = str(document["title"])
        self.operation = Operation(**{name: document["x-operation"][name] for name in Operation.__slots__})
        self.codes = tuple(Code(row["code"], row["name"], row["description"]) for row in document["x-codes"])

    @classmethod
    def load(cls, path: Path = _DEFAULT) -> Contract:
        """Read a contract file, by default that of the shipped model.

        Raises:
            OSError: The file cannot be read.
            ContractError: The file holds no contract; the message names it.
        """
        content = path.read_bytes()
        try:
            return cls(msgspec.json.decode(content))
        except ContractError as error:
            raise ContractError(f"{path} is not a contract: {error}") from error
        except (ValueError, RecursionError) as error:
            raise ContractError(f"{path} is not a contract: it is not JSON.") from error

    def clauses(self) -> tuple[Clause, ...]:
        """Return every testable statement of the page, in the order of the page."""
        return tuple(clauses(self.document))

    def notes(self) -> tuple[str, ...]:
        """Return the limits that stand only in the prose of the page, a phrase each: they are no rules."""
        return tuple(
            f"{node.id} {note['keyword']} {note['value']}"
            for part in ("request", "answer")
            for node in nodes(self.document, part)
            for note in node.schema.get("x-notes", ())
        )

    @cached_property
    def request(self) -> Schema:
        """The judge of requests."""
        return Schema(self.part("request"), name="request")

    @cached_property
    def answer(self) -> Schema:
        """The judge of answers to a request that succeeded."""
        return Schema(self.part("answer"), name="answer", prefix="answer/")

    def part(self, name: str) -> dict[str, Any]:
        """Return one of the contract's definitions as a schema of its own."""
        part: dict[str, Any] = self.document["$defs"][name]
        return part

    @property
    def input_fields(self) -> dict[str, Any]:
        """The schema of each field of the input, by name; empty where the contract tells of none."""
        inside = self.part("request").get("properties", {}).get(job_api().fields.input, {})
        fields: dict[str, Any] = inside.get("properties", {})
        return fields

    def code_named(self, name: str) -> Code:
        """Return the code of that name.

        Raises:
            KeyError: The contract has no code of that name.
        """
        return self.codes_by_name[name]

    @cached_property
    def codes_by_name(self) -> dict[str, Code]:
        """The codes by their names."""
        return {code.name: code for code in self.codes}


@cache
def default_contract() -> Contract:
    """Return the contract of the shipped model, loaded once."""
    return Contract.load()


@cache
def shipped_contracts() -> tuple[Contract, ...]:
    """Return the contracts of all models that ship with the package, loaded once, in the order of their names."""
    return tuple(Contract.load(path) for path in sorted(_FOLDER.glob("*.json")) if path.name != "job-api.json")


@cache
def _form() -> Schema:
    return Schema(msgspec.json.decode((_HERE / "contract.schema.json").read_bytes()), name="document")


def _check(document: Any) -> None:
    if not _form().accepts(document):
        raise ContractError(f"{_form().violations(document)[0].message}.")
    for node in (node for part in ("request", "answer") for node in nodes(document, part)):
        _check_rules(node)
    if not jsonschema_rs.meta.is_valid(document):
        raise ContractError("its rules are not JSON Schema.")
    if document["$defs"]["request"]["properties"][job_api().fields.model]["const"] != document["title"]:
        raise ContractError("its title is not the model that its request asks for.")


def _check_rules(node: Node) -> None:
    """Refuse rules that are none, or that nothing can keep."""
    own = {keyword: value for keyword, value in node.schema.items() if keyword not in {"properties", "items"}}
    for keyword, value in own.items():
        if not jsonschema_rs.meta.is_valid({keyword: value}) or not _can_be_judged({keyword: value}):
            raise ContractError(f"{node.id} has the {keyword} {for_display(value)}, which is no rule of JSON Schema.")
    for least, most in _BOUNDS:
        if least in own and most in own and own[least] > own[most]:
            raise ContractError(f"{node.id} has a {least} of {own[least]} above its {most} of {own[most]}.")


def _can_be_judged(rule: Mapping[str, Any]) -> bool:
    try:
        jsonschema_rs.validator_for(dict(rule))
    except ValueError:
        return False
    return True
