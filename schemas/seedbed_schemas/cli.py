"""What the subcommands share: reading and writing files, choosing a contract, and mistakes told in one sentence."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

from cyclopts import Parameter

from seedbed_schemas.contract import Contract, ContractError, default_contract, shipped_contracts
from seedbed_schemas.derive import LONGEST, PageError, derive_page
from seedbed_schemas.drift import drift
from seedbed_schemas.files import write_whole
from seedbed_schemas.openapi import HttpStatus, openapi_document
from seedbed_schemas.validation import for_display

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from seedbed_schemas.clauses import Clause
    from seedbed_schemas.drift import Difference


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
    raise ContractError(f"There is no model or contract file {for_display(model)!r}; known models: {', '.join(known)}.")


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


_WIDEST = 10_000


@told
def clauses(
    model: str | None = None, /, *, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False
) -> int:
    """List every testable statement of a model's page.

    Args:
        model: A known model, or a contract file; without it, the model that ships.
        as_json: Print a JSON array instead of a table.
    """
    stated = choose_contract(model).clauses()
    if as_json:
        write(json.dumps([clause.as_json() for clause in stated], ensure_ascii=False, indent=2) + "\n", None)
    else:
        _print(stated)
    return 0


def _print(stated: Sequence[Clause]) -> None:
    # Imported here, since the other subcommands print no table.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("clause", "kind", "value", "place", box=None, pad_edge=False)
    for clause in stated:
        value = clause.value if isinstance(clause.value, str) else json.dumps(clause.value, ensure_ascii=False)
        table.add_row(*map(Text, (clause.id, clause.kind, value, " > ".join(clause.place.values()))))
    # What reads a file or a pipe wants one clause a line, however long.
    Console(width=None if sys.stdout.isatty() else _WIDEST).print(table)


_MOST_BYTES_OF_A_CHARACTER = 4


@told
def derive(
    page: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    check: Path | None = None,
    strict: bool = False,
) -> int:
    """Derive a contract from a page of the vendor's documentation.

    Args:
        page: The page: Markdown, OpenAPI, or the answer for a model's schema; - reads standard input.
        output: Where to write the contract; without it, standard output.
        check: A contract to compare with: prints what differs instead, and exits 1 where anything does.
        strict: Exit 1 where the page says something that is understood as neither fact nor prose.
    """
    known = Contract.load(check) if check else None
    derivation = derive_page(_read(page))
    for kind, phrases in (("only in the prose", derivation.notes), ("unread", derivation.unread)):
        for phrase in phrases:
            print(f"seedbed derive: {kind}: {phrase}", file=sys.stderr)
    differs = False
    if known:
        differences = drift(known, Contract(derivation.contract))
        write("".join(f"{_line(difference)}\n" for difference in differences), None)
        differs = bool(differences)
    if output or not known:
        write(derivation.text, output)
    return int(differs or (strict and bool(derivation.unread)))


def _read(page: str) -> str:
    # One byte more than the longest page may have is enough to see that this one is longer.
    most = LONGEST * _MOST_BYTES_OF_A_CHARACTER + 1
    if page == "-":
        content = sys.stdin.buffer.read(most)
    else:
        with Path(page).open("rb") as file:
            content = file.read(most)
    try:
        return content.decode("utf-8-sig", "strict" if len(content) < most else "ignore")
    except UnicodeDecodeError as error:
        raise PageError("The page is not text in UTF-8.") from error


def _line(difference: Difference) -> str:
    """Return a difference on one line: what, how, and whom it breaks."""
    values = [for_display(value) for value in (difference.old, difference.new) if value is not None]
    what = f"{difference.change} {difference.id} ({' -> '.join(values)})"
    return f"{what}: {difference.callers} for callers, {difference.answerers} for those who answer"


@told
def openapi(
    model: str | None = None,
    /,
    *,
    http_status: HttpStatus = "envelope",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Write the OpenAPI 3.1 document of a model, with every operation of the flow.

    Args:
        model: A known model, or a contract file; without it, the model that ships.
        http_status: How outcomes travel: in the body alone, or mirrored by the HTTP status.
        output: Where to write the document; without it, standard output.
    """
    document = openapi_document(choose_contract(model), http_status=http_status)
    write(json.dumps(document, ensure_ascii=False, indent=2) + "\n", output)
    return 0


__all__ = ["clauses", "derive", "openapi"]
