"""What the contract lets one choose on the command line: a flag for each field of the input beside the prompt."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

from cyclopts import Parameter
from seedbed_schemas import default_contract
from seedbed_schemas.profile import default_profile
from seedbed_schemas.validation import printable

from seedbed_client._config import environment_key
from seedbed_client._polling import MAX_RETRIES
from seedbed_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from seedbed_schemas import Contract

    from seedbed_client._async_client import AsyncSeedreamClient
    from seedbed_client._client import SeedreamClient

    Client = TypeVar("Client", SeedreamClient, AsyncSeedreamClient)

_TYPES: Final = {"string": str, "integer": int, "number": float, "boolean": bool}


def with_option_flags(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the contract's flags in place of its catch-all: the command line reads the signature."""
    own = inspect.signature(command)
    fixed = [parameter for parameter in own.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    command.__signature__ = own.replace(parameters=[*fixed, *_flags()])  # type: ignore[attr-defined]
    return command


def _flags() -> list[inspect.Parameter]:
    fields = default_contract().input_fields
    return [_flag(name, schema) for name, schema in fields.items() if name != default_profile().caption]


def _flag(name: str, schema: dict[str, Any]) -> inspect.Parameter:
    """Return a flag; its default is shown and not passed, for another contract may know another or none."""
    choices = tuple(schema.get("enum", ()))
    kind: Any = Literal[choices] if choices else _TYPES[schema["type"]]
    default = f" [default: {schema['default']}]" if "default" in schema else ""
    annotation = Annotated[kind | None, Parameter(help=schema["description"] + default)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=None)


def parse_fields(words: Iterable[str], contract: Contract) -> dict[str, object]:
    """Read words such as ``seed=7`` as fields of the input, each of the type that the contract gives it.

    Raises:
        ConfigurationError: A word is no NAME=VALUE, or its value is not of that type.
    """
    fields: dict[str, object] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals):
            raise ConfigurationError(f"A field is given as NAME=VALUE, not as {word!r}.")
        fields[name] = _value(name, text, contract)
    return fields


def _value(name: str, text: str, contract: Contract) -> object:
    kind = contract.input_fields.get(name, {}).get("type", "string")
    if "string" in kind:  # the name of a type, or a list of such names
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{name} is of type {kind}, and {text!r} cannot be read as one.") from error


USAGE_ERROR = 2
INTERRUPTED = 130


@Parameter(name="*", negative="")
@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """Which service to call.

    Attributes:
        url: Where the service is; else SEEDBED_BASE_URL, else the local fake.
        key: API key; else SEEDBED_API_KEY, else the local fake's own.
        live: Call the paid service, which costs credits.
        max_retries: How often a call is made again where that cannot pay twice.
    """

    url: str | None = None
    key: Annotated[str | None, Parameter(show_default=False)] = field(default=None, repr=False)
    live: bool = False
    max_retries: int = MAX_RETRIES

    def client(self, cls: type[Client], **options: Any) -> Client:
        """Return a client of the service.

        Raises:
            ConfigurationError: The flags name no service, or two.
        """
        if self.live and self.url:
            raise ConfigurationError("--live and --url name two services: give one of them.")
        options["max_retries"] = max(self.max_retries, 0)
        if self.live:
            return cls.live(self.key or environment_key().tell(), **options)
        return cls(self.url, self.key, **options)


def say(text: str) -> None:
    """Print what a command tells, with escapes for the characters that standard output cannot write."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def fail(command: str, sentence: str, code: int = 1) -> int:
    """Print why a command failed, and return its exit code."""
    print(f"seedbed {command}: {printable(sentence).rstrip('.')}.", file=sys.stderr)
    return code
