"""Options that several commands share, and the options that the contract defines: one for each field of the input."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

from cyclopts import Parameter
from seedbed_schemas import Contract, Schema, default_contract
from seedbed_schemas.profile import default_profile

from seedbed_client._config import environment_key
from seedbed_client._polling import MAX_RETRIES
from seedbed_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from seedbed_client._async_client import AsyncSeedreamClient
    from seedbed_client._client import SeedreamClient

    Client = TypeVar("Client", SeedreamClient, AsyncSeedreamClient)

_TYPES: Final = {"string": str, "integer": int, "number": float, "boolean": bool}


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """The service to call.

    Attributes:
        url: URL of the service; by default SEEDBED_BASE_URL, or the local mock server.
        key: API key; by default SEEDBED_API_KEY, or the key of the local mock server.
        live: Call the paid service. Every task costs credits.
        max_retries: Largest number of retries. A request that may have been charged is not retried.
        contract: Contract of another model, written by seedbed derive; by default the built-in model.
    """

    url: str | None = None
    key: Annotated[str | None, Parameter(show_default=False)] = field(default=None, repr=False)
    live: bool = False
    max_retries: int = MAX_RETRIES
    contract: Path | None = None

    def model(self) -> Contract:
        """Return the contract of the model.

        Raises:
            ContractError: The file is not a contract.
            OSError: The file cannot be read.
        """
        return Contract.load(self.contract) if self.contract else default_contract()

    def client(self, cls: type[Client], **options: Any) -> Client:
        """Return a client of the service.

        Raises:
            ConfigurationError: The options are invalid, or name two services.
            ContractError: The file is not a contract.
            OSError: The file cannot be read.
        """
        if self.live and self.url:
            raise ConfigurationError("--live and --url name two services; give one of them")
        options |= {"max_retries": self.max_retries, "contracts": [self.model()]}
        if self.live:
            return cls.live(self.key or environment_key().reveal(), **options)
        return cls(self.url, self.key, **options)


def with_input_options(command: Callable[..., int]) -> Callable[..., int]:
    """Replace the ``**options`` of a command by one option for each field of the input, except for the prompt."""
    own = inspect.signature(command)
    fixed = [parameter for parameter in own.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    fields = default_contract().input_fields
    options = [_option(name, schema) for name, schema in fields.items() if name != default_profile().caption]
    # cyclopts reads the signature, so this is all that it takes.
    command.__signature__ = own.replace(parameters=[*fixed, *options])  # type: ignore[attr-defined]
    return command


def _option(name: str, schema: dict[str, Any]) -> inspect.Parameter:
    choices = tuple(schema.get("enum", ()))
    kind: Any = Literal[choices] if choices else _TYPES[schema["type"]]
    # The default is only shown: another contract, given with --contract, may have another one or none.
    default = f" [default: {schema['default']}]" if "default" in schema else ""
    annotation = Annotated[kind | None, Parameter(help=schema["description"] + default)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=None)


def parse_fields(assignments: Iterable[str], contract: Contract) -> dict[str, object]:
    """Return the fields of the input that assignments such as ``seed=7`` set, with the types of the contract.

    Raises:
        ConfigurationError: An assignment is malformed, or its value has the wrong type.
    """
    fields: dict[str, object] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not (name and equals):
            raise ConfigurationError(f"invalid field {assignment!r}; use NAME=VALUE")
        schema = contract.input_fields.get(name, {})
        # The name of a type, a list of names, or none if the field has options or alternatives.
        kind = schema.get("type", "string")
        try:
            is_text = "string" in kind and Schema(schema, name=name).accepts(text)
            fields[name] = text if is_text else json.loads(text)
            json.dumps(fields[name], allow_nan=False)  # Python reads NaN and 1e999, which JSON does not have
        except ValueError as error:
            if "string" not in kind:
                raise ConfigurationError(f"invalid value {text!r} for {name}; its type is {kind}") from error
            fields[name] = text
    return fields


def print_line(text: str) -> None:
    """Print a line, with escapes for characters that standard output cannot encode."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
