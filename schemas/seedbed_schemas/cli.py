"""The commands ``seedbed derive``, ``seedbed clauses``, ``seedbed openapi`` and ``seedbed docs``.

Each returns its exit code: 0 for success, 1 for a check that failed, 2 for a mistake of the user.
"""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, ParamSpec

from cyclopts import Parameter

from seedbed_schemas.commands import ExitCode, JsonFlag, fail, note, print_json
from seedbed_schemas.contract import Contract, ContractError, default_contract, shipped_contracts
from seedbed_schemas.derive import MAXIMUM_CHARACTERS, PageError, derive_page
from seedbed_schemas.documentation import DocsSection, UnknownTopicError, pages, search, section_named, sections
from seedbed_schemas.drift import Difference, drift
from seedbed_schemas.files import write_whole
from seedbed_schemas.openapi import HttpStatus, openapi_document
from seedbed_schemas.validation import for_display

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["clauses", "derive", "docs", "openapi"]

Parameters = ParamSpec("Parameters")

_MAXIMUM_MESSAGE_CHARACTERS: Final = 400
_MAXIMUM_UTF8_BYTES: Final = 4
_UNLIMITED_COLUMNS: Final = 10_000
_WIDEST: Final = 110

Words = Annotated[list[str], Parameter(name=["--search", "-s"], consume_multiple=True, negative="")]
"""The words after ``--search``."""


def _reports_errors(command: Callable[Parameters, int]) -> Callable[Parameters, int]:
    """Make a command print an expected error as one sentence on standard error and return 2."""

    @functools.wraps(command)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except OSError as error:
            if error.filename is None:
                raise  # standard output, which all commands share
            message = f"{error.filename}: {error.strerror}."
        except ValueError as error:
            message = str(error)
            # Messages quote the page, and a hostile page can make a quotation of any length.
            if len(message) > _MAXIMUM_MESSAGE_CHARACTERS:
                message = f"{message[:_MAXIMUM_MESSAGE_CHARACTERS]}..."
        return fail(command.__name__, message)

    return wrapped


@_reports_errors
def derive(
    page: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    check: Path | None = None,
    strict: bool = False,
    as_json: JsonFlag = False,
) -> int:
    """Derive a contract from a page of the vendor's documentation.

    Limits that only the prose states, statements that contradict each other, and statements that are not recognized are
    printed on standard error.

    Args:
        page: File with the page, or - for standard input: Markdown, OpenAPI, or JSON from /api/v1/models/MODEL/schema.
        output: File to write the contract to. Default: standard output.
        check: Contract to compare with. Prints the differences instead of the contract; exits with 1 if there are any.
        strict: Exit with 1 if the page contradicts itself or contains a statement that is not recognized.
        as_json: Print one JSON object with the contract and all that is to say about it.
    """
    known = Contract.load(check) if check else None
    derivation = derive_page(_read(page))
    for each in derivation.notes:
        note("derive", f"limit stated only in prose: {each}")
    for statement in derivation.contradictions:
        note("derive", f"contradiction: {statement}")
    for statement in derivation.unrecognized:
        note("derive", f"not recognized: {statement}")
    differences = drift(known, Contract(derivation.contract)) if known else []
    if output:
        _write(derivation.text, output)
    if as_json:
        found = {
            "contract": derivation.contract,
            "written": str(output) if output else None,
            "limits_in_prose": [*derivation.notes],
            "contradictions": [*derivation.contradictions],
            "unrecognized": [*derivation.unrecognized],
        }
        print_json(found | {"differences": [asdict(each) for each in differences] if known else None})
    elif known:
        _write("".join(map(_describe, differences)), None)
    elif not output:
        _write(derivation.text, None)
    is_doubtful = bool(derivation.unrecognized or derivation.contradictions)
    return int(bool(differences) or (strict and is_doubtful))


def _describe(difference: Difference) -> str:
    values = " -> ".join(for_display(value) for value in (difference.old, difference.new) if value is not None)
    impact = f"{difference.clients} for clients, {difference.servers} for servers"
    return f"{difference.change} {difference.id} ({values}): {impact}\n"


def _read(page: str) -> str:
    """Return the text of a page.

    Raises:
        OSError: The file cannot be read.
        PageError: The file is not UTF-8.
    """
    # One byte more than the longest page can have is enough to detect a longer one, even if the input never ends.
    limit = MAXIMUM_CHARACTERS * _MAXIMUM_UTF8_BYTES + 1
    if page == "-":
        content = sys.stdin.buffer.read(limit)
    else:
        with Path(page).open("rb") as file:
            content = file.read(limit)
    try:
        # The limit may cut the last character of a page that is too long; its error is the length, not the encoding.
        return content.decode("utf-8-sig", "strict" if len(content) < limit else "ignore")
    except UnicodeDecodeError as error:
        raise PageError("The page is not text in UTF-8.") from error


@_reports_errors
def clauses(model: str | None = None, /, *, as_json: JsonFlag = False) -> int:
    """List every testable statement of a contract.

    Args:
        model: Name of a built-in model, or a contract file. Default: the built-in model.
        as_json: Print a JSON array instead of a table.
    """
    listed = _choose_contract(model).clauses()
    if as_json:
        print_json([clause.to_json() for clause in listed], indent=2)
        return 0
    from rich import console, table, text  # the other commands do not need it

    rows = table.Table("clause", "kind", "value", "place", box=None, pad_edge=False)
    for clause in listed:
        value = clause.value if isinstance(clause.value, str) else json.dumps(clause.value, ensure_ascii=False)
        rows.add_row(*map(text.Text, (clause.id, clause.kind, value, " > ".join(clause.place.values()))))
    # Programs that read the output expect one clause per line.
    console.Console(width=None if sys.stdout.isatty() else _UNLIMITED_COLUMNS).print(rows)
    return 0


@_reports_errors
def openapi(
    model: str | None = None,
    /,
    *,
    http_status: HttpStatus = "envelope",
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    as_json: JsonFlag = False,
) -> int:
    """Write the OpenAPI 3.1 document of a model.

    Args:
        model: Name of a built-in model, or a contract file. Default: the built-in model.
        http_status: How responses carry their codes: in the body with HTTP status 200, or also as the HTTP status.
        output: File to write the document to. Default: standard output.
        as_json: With --output, print the name of the file as JSON; the document is JSON in any case.
    """
    document = openapi_document(_choose_contract(model), http_status=http_status)
    _write(json.dumps(document, ensure_ascii=False, indent=2) + "\n", output)
    if as_json and output:
        print_json({"written": str(output)})
    return 0


def _choose_contract(model: str | None) -> Contract:
    """Return the contract of a shipped model, or the contract in a file.

    Raises:
        OSError: The file cannot be read.
        ContractError: The model is unknown and no such file exists, or the file is not a contract.
    """
    if model is None:
        return default_contract()
    known = {contract.model: contract for contract in shipped_contracts()}
    if model in known:
        return known[model]
    if Path(model).is_file():
        return Contract.load(Path(model))
    raise ContractError(
        f"No model or contract file is named {for_display(model)!r}. Built-in models: {', '.join(known)}."
    )


def _write(text: str, output: Path | None) -> None:
    """Write text to a file, atomically, or to standard output.

    Raises:
        OSError: The file cannot be written.
    """
    if output is None:
        # As bytes, because the encoding of standard output may not be UTF-8.
        sys.stdout.buffer.write(text.encode())
    else:
        write_whole(output, text.encode())


def docs(topic: str | None = None, /, *, search_for: Words | None = None, as_json: JsonFlag = False) -> int:
    """Show the documentation, which is installed with the program.

    Args:
        topic: Page or section, such as faults or faults#effects, or a code or clause. Default: a list of the pages.
        search_for: Words to search for, or an error text as it was printed.
        as_json: Print JSON, with the text as Markdown.
    """
    if search_for:
        words = " ".join(search_for)
        return show_results(search(words), words, as_json=as_json)
    if topic is None and as_json:
        print_json({"topics": [{"topic": each.topic, "title": each.title} for each in sections().values()]})
        return ExitCode.DONE
    if topic is None:
        width = max(len(page.topic) for page in pages())
        print("\n".join(f"{page.topic:<{width}}  {page.title}" for page in pages()))
        print("\nShow one with seedbed docs TOPIC; find an error text with seedbed docs --search TEXT.")
        return ExitCode.DONE
    try:
        found = section_named(topic)
    except UnknownTopicError as error:
        return fail("docs", str(error), ExitCode.USAGE, docs="index")
    if as_json:
        print_json(found.to_json())
    elif sys.stdout.isatty():
        from rich.console import Console  # only a terminal needs it
        from rich.markdown import Markdown  # as above

        console = Console()
        console.print(Markdown(found.markdown, hyperlinks=False), width=min(console.width, _WIDEST))
    else:
        print(found.markdown, end="")
    return ExitCode.DONE


def show_results(found: list[DocsSection], words: str, *, as_json: bool) -> int:
    """Print what was found for some words, one section in full, and return the exit code."""
    if as_json:
        print_json({"results": [each.to_json() for each in found]})
    elif len(found) == 1:
        return docs(found[0].topic)
    elif found:
        width = max(len(each.topic) for each in found)
        print("\n".join(f"{each.topic:<{width}}  {each.title}" for each in found))
    if not found:
        return fail("docs", f"nothing is found for {words[:80]!r}; use fewer words", ExitCode.NEGATIVE, docs="index")
    return ExitCode.DONE
