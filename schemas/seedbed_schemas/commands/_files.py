"""What the subcommands share: reading and writing files, choosing a contract, and mistakes told in one sentence."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

from seedbed_schemas.contract import Contract, ContractError, default_contract, shipped_contracts
from seedbed_schemas.files import write_whole
from seedbed_schemas.refusals import shown

if TYPE_CHECKING:
    from collections.abc import Callable

Parameters = ParamSpec("Parameters")

_LONGEST_SENTENCE = 400


def told(command: Callable[Parameters, int]) -> Callable[Parameters, int]:
    """Make a command tell the user's mistakes in one sentence on standard error and return 2."""

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except (ValueError, OSError) as error:
            print(f"seedbed {command.__name__}: {_sentence(error)}", file=sys.stderr)
            return 2

    return wrapped


def choose_contract(model: str | None) -> Contract:
    """Return the shipped contract of a model, or the contract in a file.

    Raises:
        ContractError: There is neither.
    """
    if model is None:
        return default_contract()
    known = {contract.model: contract for contract in shipped_contracts()}
    if model in known:
        return known[model]
    if Path(model).is_file():
        return Contract.load(Path(model))
    raise ContractError(f"There is no model or contract file {shown(model)!r}; known models: {', '.join(known)}.")


def write(text: str, output: Path | None) -> None:
    """Write all of the text or nothing: a reader of the file never sees half of it.

    Raises:
        OSError: The file cannot be written.
    """
    if output is None:
        sys.stdout.buffer.write(text.encode())
        return
    write_whole(output, text.encode())


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'standard output'}: {error.strerror}."
    text = str(error)
    return text if len(text) <= _LONGEST_SENTENCE else f"{text[:_LONGEST_SENTENCE]}..."
