"""The subcommand ``seedbed derive``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from seedbed_schemas.derive import PageError
from seedbed_schemas.derive import derive as derive_contract
from seedbed_schemas.files import write_whole


def derive(
    page: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> int:
    """Derive a contract from a page of the vendor's documentation.

    Args:
        page: The page, a Markdown file; - reads standard input.
        output: Where to write the contract; without it, standard output.
    """
    try:
        contract = derive_contract(_read(page))
        _write(contract, output)
    except (PageError, OSError) as error:
        print(f"seedbed derive: {_sentence(error)}", file=sys.stderr)
        return 2
    return 0


def _read(page: str) -> str:
    content = sys.stdin.buffer.read() if page == "-" else Path(page).read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PageError("The page is not text in UTF-8.") from error


def _write(contract: str, output: Path | None) -> None:
    if output:
        write_whole(output, contract.encode())
    else:
        sys.stdout.buffer.write(contract.encode())


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}."
    return str(error)
