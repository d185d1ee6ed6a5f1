"""The models that a service offers, and what the contract of each wants in responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from seedbed_schemas.contract import default_contract, shipped_contracts
from seedbed_schemas.messages import Envelope
from seedbed_schemas.openapi import example_of
from seedbed_schemas.profile import profile_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from seedbed_schemas import Code, Contract
    from seedbed_schemas.profile import Profile


_SHAPED: Final = frozenset({"const", "enum", "format", "pattern"})

_LONGEST_TEXT: Final = 1000
"""In characters: how much of a text of an input is searched for fault rules if its contract sets no limit."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the service.

    Attributes:
        contract: Its contract.
        profile: What is known of it beyond the contract, such as its price.
    """

    contract: Contract
    profile: Profile

    def quality(self, values: object) -> str:
        """Return the quality that an input asks for, which decides the size first; empty without one."""
        name = self.profile.size_fields[0] if self.profile.size_fields else ""
        value = values.get(name) if isinstance(values, dict) else None
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class CreationResponse:
    """What a model's contract wants in the response to an accepted request, beside ``code`` and ``msg``.

    Attributes:
        id_fields: Names of the fields of ``data`` that hold the task ID.
        data: The other required fields of ``data``, with example values.
        envelope: The other required fields of the response, with example values.
    """

    id_fields: tuple[str, ...]
    data: Mapping[str, Any]
    envelope: Mapping[str, Any]

    @classmethod
    def of(cls, contract: Contract, id_fields: Iterable[str]) -> CreationResponse:
        """Return what a contract wants.

        Args:
            contract: The contract.
            id_fields: Names of the fields that hold the task ID in the dialect; a closed ``data`` has only those that
                the contract names.
        """
        answer = contract.part("answer")
        data = answer.get("properties", {}).get("data", {})
        known: Mapping[str, Any] = data.get("properties", {})
        is_open = data.get("additionalProperties", True) is not False
        names = [name for name in id_fields if is_open or name in known]
        required = [name for name in data.get("required", ()) if name not in names]
        texts = [name for name in required if known.get(name, {}).get("type") == "string"]
        # A field such as jobId, of which the page says no more than that it is a text, can only be another name.
        ids = [name for name in texts if name.lower().endswith("id") and _SHAPED.isdisjoint(known[name])]
        return cls(
            (*names, *ids),
            {name: example_of(known.get(name, {})) for name in required if name not in ids},
            {
                name: example_of(answer.get("properties", {}).get(name, {}), whole=True)
                for name in answer.get("required", ())
                if name not in Envelope.__struct_fields__
            },
        )

    def with_id(self, task_id: str) -> dict[str, Any]:
        """Return ``data`` of the response that gives this task ID."""
        return {**dict.fromkeys(self.id_fields, task_id), **self.data}


class ModelCatalogue:
    """The shipped models and further ones, with the codes that they share.

    Args:
        more: Contracts of further models; one of a shipped model replaces it.

    Attributes:
        models: The models by name.
        shipped: The model that is used where a request names none.
        codes: The codes of all contracts by name; if contracts differ, the first counts.
        longest_prompt: Largest number of characters that the texts of an input have together.
    """

    def __init__(self, more: Iterable[Contract] = ()) -> None:
        contracts = {contract.model: contract for contract in (default_contract(), *shipped_contracts(), *more)}
        self.models = {name: Model(contract, profile_of(contract)) for name, contract in contracts.items()}
        self.shipped = self.models[default_contract().model]
        self.longest_prompt = max(
            sum(field.get("maxLength", _LONGEST_TEXT) + 1 for field in contract.input_fields.values())
            for contract in contracts.values()
        )
        self.codes: dict[str, Code] = {}
        # The default contract comes last, in case it was replaced by one that documents fewer codes.
        for contract in (*contracts.values(), default_contract()):
            for code in contract.codes:
                self.codes.setdefault(code.name, code)
