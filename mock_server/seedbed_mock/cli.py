"""The command ``seedbed``: its subcommands by import path, and ``seedbed faults``, which changes a running server."""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from cyclopts import App, ArgumentCollection, CycloptsError, Parameter
from seedbed_schemas import __version__, default_contract, local

from seedbed_mock.control.client import ControlError, call_control_api

_USAGE_ERROR = 2
_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: Arguments after ``seedbed``, by default those of this process.
    """
    try:
        result = make_app()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        sentence = " ".join(str(error).split())
        print(f"seedbed: {sentence}{'' if sentence.endswith(('.', '?')) else '.'} See seedbed --help.", file=sys.stderr)
        return _USAGE_ERROR
    except KeyboardInterrupt:
        return _INTERRUPTED
    return result if isinstance(result, int) else 0


def make_app() -> App:
    """Return the command with its subcommands."""
    app = App(
        name="seedbed",
        help="A local test bed for the Seedream text-to-image job API.",
        version=__version__,
        suppress_keyboard_interrupt=False,
        config=(_read_config,),
    )
    # By import path: the other packages are imported only if their subcommand runs.
    app.command(
        "seedbed_mock.serve:serve",
        help="Run the mock server until Ctrl-C.",
        help_epilogue="Exit codes: 0 the server was stopped; 1 it cannot listen on the address; 2 invalid option.",
    )
    app.command(
        "seedbed_client.cli.generate:generate",
        help="Generate images and save them.",
        help_epilogue="Exit codes: 0 all images are saved; 1 a task failed or was refused; 2 the command line is "
        "invalid; 3 a task may have been created and charged, but the response is missing, so check the account before "
        "you try again; 4 a task did not end in time; 130 interrupted. If several apply, the first of 3, 1 and 4 is "
        "returned.",
    )
    app.command(
        "seedbed_client.cli.tasks:task",
        help="Show a task.",
        help_epilogue="Exit codes: 0 the task is shown and has not failed; 1 the task failed, or the service refused "
        "the request; 2 the command line is invalid; 4 the task did not end in time; 130 interrupted.",
    )
    app.command(
        "seedbed_client.cli.tasks:credits_left",
        name="credits",
        help="Show the balance of an account.",
        help_epilogue="Exit codes: 0 the balance is shown; 1 the service refused the request; 2 the command line is "
        "invalid.",
    )
    app.command("seedbed_contract.cli:check", help="Check whether a server honours the contract.")
    app.command("seedbed_schemas.cli:derive", help="Derive a contract from a page of the vendor's documentation.")
    app.command("seedbed_schemas.cli:clauses", help="List the clauses of a contract.")
    app.command("seedbed_schemas.cli:openapi", help="Write a contract as an OpenAPI document.")
    faults = App(name="faults", help="Inject faults into a running server.")
    faults.command("seedbed_mock.cli:list_faults", name="list", help="List the active fault rules.")
    faults.command("seedbed_mock.cli:add", help="Add fault rules.")
    faults.command("seedbed_mock.cli:clear", help="Remove fault rules.")
    faults.command("seedbed_mock.cli:scenarios", help="List the built-in scenarios.")
    app.command(faults)
    return app


def _read_config(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    config = next((each for each in arguments if each.name == "--config" and each.tokens), None)
    if config:
        # Imported late: the subcommands of the other packages have no config file.
        from seedbed_mock.options import read_config  # see above

        read_config(Path(config.tokens[0].value), app, commands, arguments)


# The subcommands of seedbed faults

_Url = Annotated[str | None, Parameter(name="--url")]
_Token = Annotated[str, Parameter(name="--control-token", show_default=False)]
_Space = Annotated[str, Parameter(name="--space", show_default=False)]

_COLUMNS = {
    "number": "No.",
    "rule": "Rule",
    "source": "Source",
    "space": "Space",
    "on": "On",
    "seen": "Seen",
    "hits": "Hits",
}
_INVALID_INPUT = (http.client.UNPROCESSABLE_ENTITY, http.client.CONFLICT)


def list_faults(*, url: _Url = None, token: _Token = "", space: _Space = "") -> int:
    """List the active fault rules; the first one that matches a request is applied.

    Args:
        url: Base URL of the server; by default SEEDBED_BASE_URL, or the local mock server.
        token: Control token of the server.
        space: List only the rules of this space.
    """
    return _call(url, token, "GET", query={"space": space} if space else None)


def add(*rules: str, url: _Url = None, token: _Token = "", space: _Space = "") -> int:
    """Add fault rules after the active ones, and list all.

    Args:
        rules: Rules such as '429; p=0.2', each in quotes.
        url: Base URL of the server; by default SEEDBED_BASE_URL, or the local mock server.
        token: Control token of the server.
        space: Apply the rules only to requests of this space.
    """
    if not rules:
        return _fail("give at least one rule in quotes, such as '429; p=0.2'.", _USAGE_ERROR)
    return _call(url, token, "POST", {"rules": rules, "space": space or None})


def clear(number: int | None = None, /, *, url: _Url = None, token: _Token = "", space: _Space = "") -> int:
    """Remove fault rules that were added, and list the remaining ones.

    Args:
        number: Number of the rule to remove; all rules by default.
        url: Base URL of the server; by default SEEDBED_BASE_URL, or the local mock server.
        token: Control token of the server.
        space: Remove only rules of this space.
    """
    query = {"number": number, "space": space or None}
    return _call(url, token, "DELETE", query={name: value for name, value in query.items() if value is not None})


def scenarios() -> int:
    """List the built-in scenarios, for seedbed serve --scenario NAME."""
    from seedbed_mock.faults.scenarios import (  # other subcommands do not need it
        load_scenario,
        scenario_path,
        shipped_scenarios,
    )

    width = max(map(len, shipped_scenarios()))
    for name in shipped_scenarios():
        print(f"{name:<{width}}  {load_scenario(scenario_path(name)).description}")
    return 0


def _call(url: str | None, token: str, method: str, body: object = None, query: dict[str, Any] | None = None) -> int:
    """Call ``/faults`` of the control API, print the rules that it lists, and return the exit code."""
    if url is None:
        url = os.environ.get(local.BASE_URL_VARIABLE) or local.BASE_URL
    try:
        if urlsplit(url).hostname == urlsplit(default_contract().operation.server).hostname:
            return _fail(f"{url} is the paid service, which has no faults; pass --url.", _USAGE_ERROR)
        listing = call_control_api(url, token, method, "faults", body, query)
    except ControlError as error:
        return _fail(str(error), _USAGE_ERROR if error.status in _INVALID_INPUT else 1)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return _fail(f"cannot connect to {url} ({reason}); start the mock server with seedbed serve, or pass --url.")
    except ValueError:
        return _fail(f"The server at {url} is not a mock server; pass --url, such as --url {local.BASE_URL}.")
    if scenario := listing["scenario"]:
        phase = f"in the phase {scenario['phase']}" if scenario["phase"] else "over"
        print(f"The scenario {scenario['name']} is {phase}. {scenario['problem'] or ''}".rstrip())
    print(_table(listing["faults"]) if listing["faults"] else "No active rules.")
    return 0


def _fail(sentence: str, code: int = 1) -> int:
    print(f"seedbed faults: {sentence}", file=sys.stderr)
    return code


def _table(faults: list[dict[str, Any]]) -> str:
    rows = [list(_COLUMNS.values())]
    for fault in ({**each, "on": "yes" if each["on"] else "no"} for each in faults):
        cells = (fault[name] for name in _COLUMNS)
        rows.append(["all" if cell is None else str(cell) for cell in cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
