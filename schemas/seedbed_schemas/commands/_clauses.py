"""The subcommand ``seedbed clauses``."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from seedbed_schemas.commands._files import choose_contract, told, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seedbed_schemas.clauses import Clause

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
