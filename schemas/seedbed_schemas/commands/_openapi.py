"""The subcommand ``seedbed openapi``."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - the command line is read from the annotations
from typing import Annotated

from cyclopts import Parameter

from seedbed_schemas.commands._files import choose_contract, told, write
from seedbed_schemas.openapi import HttpStatus, openapi_document


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
