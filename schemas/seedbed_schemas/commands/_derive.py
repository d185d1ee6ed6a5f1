"""The subcommand ``seedbed derive``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from seedbed_schemas.commands._files import told, write
from seedbed_schemas.contract import Contract
from seedbed_schemas.derive import LONGEST, PageError, derive_page
from seedbed_schemas.drift import drift
from seedbed_schemas.refusals import shown

if TYPE_CHECKING:
    from seedbed_schemas.drift import Difference

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
    values = [shown(value) for value in (difference.old, difference.new) if value is not None]
    what = f"{difference.change} {difference.id} ({' -> '.join(values)})"
    return f"{what}: {difference.callers} for callers, {difference.answerers} for those who answer"
