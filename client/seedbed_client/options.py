"""The flags of the command line that the contract decides on: one for each field of the input beside the prompt."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import Parameter
from seedbed_schemas import default_contract, job_api
from seedbed_schemas.profile import default_profile

if TYPE_CHECKING:
    from collections.abc import Callable

_TYPES: Final = {"string": str, "integer": int, "number": float, "boolean": bool}


def with_option_flags(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the contract's flags in place of its catch-all: the command line reads the signature."""
    own = inspect.signature(command)
    fixed = [parameter for parameter in own.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    command.__signature__ = own.replace(parameters=[*fixed, *_flags()])  # type: ignore[attr-defined]
    return command


def _flags() -> list[inspect.Parameter]:
    properties = default_contract().part("request")["properties"][job_api().fields.input]["properties"]
    return [_flag(name, schema) for name, schema in properties.items() if name != default_profile().caption]


def _flag(name: str, schema: dict[str, Any]) -> inspect.Parameter:
    choices = tuple(schema.get("enum", ()))
    kind: Any = Literal[choices] if choices else _TYPES[schema["type"]]
    annotation = Annotated[kind, Parameter(help=schema["description"])]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=schema.get("default"))
