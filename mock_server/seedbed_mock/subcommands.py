"""The subcommands of ``seedbed``, by import path: the other packages are imported only if theirs runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Subcommand:
    """A subcommand and where it is.

    Attributes:
        name: Its name, after that of its group if it is in one.
        path: Import path of its function.
        help: What it does.
        codes: Its exit codes.
        usage: How it is called, if that does not follow from the function.
    """

    name: str
    path: str
    help: str
    codes: str = ""
    usage: str | None = None


GROUPS: Final = {
    "har": "Work with recorded traffic.",
    "accounts": "Show, top up and reset the accounts of a running server.",
    "faults": "Inject faults into a running server.",
    "callbacks": "Test a receiver of callbacks.",
}
"""Groups of subcommands, with what they do together."""

SUBCOMMANDS: Final = (
    Subcommand(
        "init",
        "seedbed_mock.init:init",
        "Add a pytest example, a config file and a CI workflow to a project.",
        "0 each file is there; 2 a file cannot be written, or the command line is invalid",
    ),
    Subcommand(
        "--install-completion",
        "seedbed_mock.completion:install_completion",
        "Install the completion of this command in a shell.",
        "0 it is installed; 2 the shell is not known, or a file cannot be written",
    ),
    Subcommand(
        "serve",
        "seedbed_mock.serve:serve",
        "Run the mock server until Ctrl-C.",
        "0 the server was stopped, or runs in the background; 2 invalid option, or it cannot listen on the address or "
        "start in the background",
    ),
    Subcommand(
        "health",
        "seedbed_mock.health:health",
        "Ask a server whether it is ready.",
        "0 it is ready; 1 it is not; 2 invalid option",
    ),
    Subcommand(
        "wait",
        "seedbed_mock.health:wait",
        "Wait until a server is ready.",
        "0 it is ready; 1 it is not ready in time; 2 invalid option",
    ),
    Subcommand(
        "stop",
        "seedbed_mock.health:stop",
        "Stop a server in the background.",
        "0 it has ended; 1 no such server runs, or it does not end; 2 invalid option",
    ),
    Subcommand(
        "run",
        "seedbed_mock.run:run",
        "Run a program whose calls to the paid service reach a mock server.",
        "that of the program, or 128 plus the signal that ended it; 2 invalid option, or the server cannot listen on "
        "the address; 126 the program cannot be run; 127 it is not found",
        "Usage: seedbed run [OPTIONS] -- COMMAND [ARGUMENTS]",
    ),
    Subcommand(
        "drill",
        "seedbed_mock.drill.command:drill",
        "Run a program against scenarios, and show what it would have lost at the real service.",
        "0 no verdict is against the program, except known ones; 1 there is one; 2 nothing can be concluded, or the "
        "command line is invalid; 130 interrupted; 143 terminated",
        "Usage: seedbed drill [OPTIONS] -- COMMAND [ARGUMENTS]",
    ),
    Subcommand(
        "reconcile",
        "seedbed_mock.recording.reconcile:reconcile",
        "Show from files what was paid for and never fetched, is in doubt, or was paid twice.",
        "0 nothing is open; 1 something is open; 2 a file cannot be read, or the command line is invalid",
    ),
    Subcommand(
        "env",
        "seedbed_mock.run:environment",
        "Print the environment in which programs reach a server that runs with --tls.",
        "0 the environment is printed; 2 invalid option, or the CA cannot be used",
    ),
    Subcommand(
        "proxy",
        "seedbed_mock.proxy:proxy",
        "Pass requests on to the real service, record them and compare them with the contract.",
        "0 the proxy was stopped; 2 invalid option, or it cannot listen on the address",
    ),
    Subcommand(
        "generate",
        "seedbed_client.cli.generate:generate",
        "Generate images and save them.",
        "0 all images are saved; 1 a task failed or was refused; 2 the command line is invalid; 4 a task was or may "
        "have been created and charged, but its image is not saved, so look for it before you try again; 5 nothing was "
        "charged, or --resume has the tasks, so that you can repeat the command; 130 interrupted. If several apply, "
        "the first of 4, 1 and 5 is returned",
    ),
    Subcommand(
        "task",
        "seedbed_client.cli.tasks:task",
        "Show a task.",
        "0 the task is shown and has not failed; 1 the task failed, or the service refused the request; 2 the command "
        "line is invalid, or the response is; 5 the task did not end in time, or the service cannot be reached or is "
        "busy, so that you can repeat the command; 130 interrupted",
    ),
    Subcommand(
        "credits",
        "seedbed_client.cli.tasks:credits_left",
        "Show the balance of an account.",
        "0 the balance is shown; 1 the service refused the request; 2 the command line is invalid, or the response is; "
        "5 the service cannot be reached or is busy, so that you can repeat the command",
    ),
    Subcommand(
        "check",
        "seedbed_contract.cli:check",
        "Check whether a server honours the contract.",
        "0 the server conforms; 1 there are findings that make the run fail; 2 the command line is invalid, or the run "
        "cannot say whether the server conforms; 3 internal error of the checker; 130 interrupted; 143 terminated",
    ),
    Subcommand(
        "mcp",
        "seedbed_mock.agent_stdio:mcp",
        "Serve tools for coding agents over standard input and output (MCP).",
        "0 standard input has ended; 2 the extra is not installed, or invalid option; 130 interrupted; 143 terminated",
    ),
    Subcommand("derive", "seedbed_schemas.cli:derive", "Derive a contract from a page of the vendor's documentation."),
    Subcommand("clauses", "seedbed_schemas.cli:clauses", "List the clauses of a contract."),
    Subcommand("openapi", "seedbed_schemas.cli:openapi", "Write a contract as an OpenAPI document."),
    Subcommand(
        "docs",
        "seedbed_schemas.cli:docs",
        "Show the documentation, or find an error text in it.",
        "0 done; 1 nothing is found; 2 there is no such topic",
    ),
    Subcommand(
        "har export", "seedbed_mock.recording.export:export", "Write the journal of a running server as a HAR file."
    ),
    Subcommand("accounts list", "seedbed_mock.cli:list_accounts", "List the accounts with their balances."),
    Subcommand("accounts top-up", "seedbed_mock.cli:top_up", "Add credits to an account."),
    Subcommand("accounts reset", "seedbed_mock.cli:reset_account", "Restore the initial balance of an account."),
    Subcommand("faults list", "seedbed_mock.cli:list_faults", "List the active fault rules."),
    Subcommand("faults add", "seedbed_mock.cli:add", "Add fault rules."),
    Subcommand("faults clear", "seedbed_mock.cli:clear", "Remove fault rules."),
    Subcommand("faults scenarios", "seedbed_mock.cli:scenarios", "List the built-in scenarios."),
    Subcommand(
        "durations",
        "seedbed_mock.cli:show_durations",
        "Show how long tasks take, and how many of them a deadline loses.",
    ),
    Subcommand(
        "callbacks test",
        "seedbed_mock.callbacks.examiner:examine_receiver",
        "Send a receiver callbacks of every shape.",
        "0 the receiver handles all shapes correctly; 1 it does not; 2 it cannot be reached, or the command line is "
        "invalid",
    ),
)
"""The subcommands, in the order of the help."""
