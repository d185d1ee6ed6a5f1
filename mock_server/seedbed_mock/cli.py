"""The front door of the command ``seedbed``: names the subcommands of all rooms and loads the one that is called."""

from __future__ import annotations

import sys

from cyclopts import App, CycloptsError
from seedbed_schemas import __version__

from seedbed_mock.config_file import fill_in

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
    app.command("seedbed_mock.commands:serve", help="Play the whole service until Ctrl-C.")
    app.command(
        "seedbed_client.commands:generate",
        help="Generate images and save them.",
        help_epilogue="Exit codes: 0 all images are saved; 1 a task failed or was refused; 2 the command line cannot "
        "be used; 3 it cannot be told whether a task was made, and paid for: look into the account before asking "
        "again; 4 a task had not ended in time; 130 interrupted. The first of 3, 1, 4 that holds for any image counts.",
    )
    app.command(
        "seedbed_client.account_commands:task",
        help="Show a task.",
        help_epilogue="Exit codes: 0 it is shown, and has not failed; 1 it has failed, or the service refused; 2 the "
        "command line cannot be used; 4 it had not ended in time; 130 interrupted.",
    )
    app.command(
        "seedbed_client.account_commands:credits_left",
        name="credits",
        help="Show the balance.",
        help_epilogue="Exit codes: 0 it is shown; 1 the service refused; 2 the command line cannot be used.",
    )
    app.command("seedbed_contract.commands:check", help="Judge whether a server keeps the contract.")
    app.command("seedbed_schemas.commands:derive", help="Derive a contract from a page of the vendor's documentation.")
    app.command("seedbed_schemas.commands:clauses", help="List the clauses of a contract.")
    app.command("seedbed_schemas.commands:openapi", help="Write a contract as OpenAPI.")
    app.command(_faults_app())
    return app


def _faults_app() -> App:
    app = App(name="faults", help="Break things on purpose on a server that runs.")
    app.command("seedbed_mock.faults_commands:list_faults", name="list", help="List the rules in force.")
    app.command("seedbed_mock.faults_commands:add", help="Put rules in force.")
    app.command("seedbed_mock.faults_commands:clear", help="Take rules out of force.")
    app.command("seedbed_mock.faults_commands:scenarios", help="List the scenarios that are shipped.")
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
