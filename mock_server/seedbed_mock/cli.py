"""The subcommands ``seedbed faults``: what goes wrong on a server that runs."""

from __future__ import annotations

import http.client
import sys
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from seedbed_schemas import __version__, local

from seedbed_mock.config_file import fill_in
from seedbed_mock.control.client import ControlError, call_control_api

_Url = Annotated[str, Parameter(name="--url")]
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
_REFUSED = (http.client.UNPROCESSABLE_ENTITY, http.client.CONFLICT)


def list_faults(*, url: _Url = local.BASE_URL, token: _Token = "", space: _Space = "") -> int:
    """List the rules in force, in the order in which a call is held against them.

    Args:
        url: Base URL of the server.
        token: Its control token.
        space: Show the rules of this space alone.
    """
    return _asked(url, token, "GET", query={"space": space} if space else None)


def add(*rules: str, url: _Url = local.BASE_URL, token: _Token = "", space: _Space = "") -> int:
    """Put rules in force, after those that are, and list all.

    Args:
        rules: Rules such as '429; p=0.2', each in quotes.
        url: Base URL of the server.
        token: Its control token.
        space: For the calls of this space alone.
    """
    return _asked(url, token, "POST", {"rules": rules, "space": space or None})


def clear(number: int | None = None, /, *, url: _Url = local.BASE_URL, token: _Token = "", space: _Space = "") -> int:
    """Take rules out of force that were added, and list what is left.

    Args:
        number: Of one rule; all where none is given.
        url: Base URL of the server.
        token: Its control token.
        space: The rules of this space alone.
    """
    query = {"number": number, "space": space or None}
    return _asked(url, token, "DELETE", query={name: value for name, value in query.items() if value is not None})


def scenarios() -> int:
    """List the scenarios that are shipped, for seedbed serve --scenario NAME."""
    from seedbed_mock.faults.scenarios import load_scenario, scenario_path, shipped_scenarios  # noqa: PLC0415

    width = max(map(len, shipped_scenarios()))
    for name in shipped_scenarios():
        print(f"{name:<{width}}  {load_scenario(scenario_path(name)).description}")
    return 0


def _asked(url: str, token: str, method: str, body: object = None, query: dict[str, Any] | None = None) -> int:
    try:
        answer = call_control_api(url, token, method, "faults", body, query)
    except ControlError as error:
        return _refuse(str(error), 2 if error.status in _REFUSED else 1)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return _refuse(f"No Seedbed answers on {url} ({reason}); start one with seedbed serve, or name it with --url.")
    except ValueError:
        return _refuse(f"What answers on {url} is no Seedbed; name one with --url, such as {local.BASE_URL}.")
    print(_told(answer))
    return 0


def _refuse(sentence: str, code: int = 1) -> int:
    print(f"seedbed faults: {sentence}", file=sys.stderr)
    return code


def _told(answer: dict[str, Any]) -> str:
    lines = _table(answer["faults"]) if answer["faults"] else ["No rule is in force."]
    if scenario := answer["scenario"]:
        phase = f"in the phase {scenario['phase']}" if scenario["phase"] else "over"
        lines.insert(0, f"The scenario {scenario['name']} is {phase}. {scenario['problem'] or ''}".rstrip())
    return "\n".join(lines)


def _table(faults: list[dict[str, Any]]) -> list[str]:
    rows = [list(_COLUMNS.values()), *([_cell(fault[name]) for name in _COLUMNS] for fault in faults)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "all" if value is None else str(value)


_USAGE_ERROR = 2


def make_app() -> App:
    """Return the command with its subcommands, none of them loaded yet."""
    app = App(
        name="seedbed",
        help="A local test bed for the Seedream text-to-image job API.",
        version=__version__,
        suppress_keyboard_interrupt=False,
        config=(fill_in,),
    )
    app.command("seedbed_mock.serve:serve", help="Play the whole service until Ctrl-C.")
    app.command(
        "seedbed_client.cli.generate:generate",
        help="Generate images and save them.",
        help_epilogue="Exit codes: 0 all images are saved; 1 a task failed or was refused; 2 the command line cannot "
        "be used; 3 it cannot be told whether a task was made, and paid for: look into the account before asking "
        "again; 4 a task had not ended in time; 130 interrupted. The first of 3, 1, 4 that holds for any image counts.",
    )
    app.command(
        "seedbed_client.cli.tasks:task",
        help="Show a task.",
        help_epilogue="Exit codes: 0 it is shown, and has not failed; 1 it has failed, or the service refused; 2 the "
        "command line cannot be used; 4 it had not ended in time; 130 interrupted.",
    )
    app.command(
        "seedbed_client.cli.tasks:credits_left",
        name="credits",
        help="Show the balance.",
        help_epilogue="Exit codes: 0 it is shown; 1 the service refused; 2 the command line cannot be used.",
    )
    app.command("seedbed_contract.cli:check", help="Judge whether a server keeps the contract.")
    app.command("seedbed_schemas.cli:derive", help="Derive a contract from a page of the vendor's documentation.")
    app.command("seedbed_schemas.cli:clauses", help="List the clauses of a contract.")
    app.command("seedbed_schemas.cli:openapi", help="Write a contract as OpenAPI.")
    app.command(_faults_app())
    return app


def _faults_app() -> App:
    app = App(name="faults", help="Break things on purpose on a server that runs.")
    app.command("seedbed_mock.cli:list_faults", name="list", help="List the rules in force.")
    app.command("seedbed_mock.cli:add", help="Put rules in force.")
    app.command("seedbed_mock.cli:clear", help="Take rules out of force.")
    app.command("seedbed_mock.cli:scenarios", help="List the scenarios that are shipped.")
    return app


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: The words after ``seedbed``; those of this process where there are none.
    """
    try:
        result = make_app()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        sentence = " ".join(str(error).split())
        print(f"seedbed: {sentence}{'' if sentence.endswith(('.', '?')) else '.'} See seedbed --help.", file=sys.stderr)
        return _USAGE_ERROR
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else 0
