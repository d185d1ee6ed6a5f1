"""The command ``seedbed``, and its subcommands that change a running server."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Argument, ArgumentCollection, CycloptsError, Parameter, Token
from cyclopts.config import Env
from seedbed_schemas import __version__, commands
from seedbed_schemas.commands import CommandError, ExitCode, JsonFlag

from seedbed_mock.control.client import ControlledServer
from seedbed_mock.subcommands import GROUPS, SUBCOMMANDS

# Windows has no quota of this kind.
_OUTPUT_ERRORS = {errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


_JSON_HELP_WIDTH = 100
_FALSE = {"false", "no", "n", "0", "f"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: Arguments after ``seedbed``, by default those of this process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    with _usable_streams(), commands.session(given, GROUPS) as tokens:
        return _run(make_app(), tokens)


def _run(app: App, tokens: list[str]) -> int:
    """Run a command line, and return the exit code however it ends."""
    try:
        result = _call(app, tokens)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return commands.interrupted()
    except Exception as error:
        return _report(error)
    if result == ExitCode.USAGE and (used := [name for each in app.config for name in getattr(each, "used", ())]):
        commands.note("", f"options from the environment: {', '.join(used)}")
    return result if isinstance(result, int) else ExitCode.DONE


def _report(error: Exception) -> int:
    """Print the exception that ended a command, and return the exit code."""
    if isinstance(error, CycloptsError):
        chain = error.command_chain or ()
        fix = f"See {' '.join(['seedbed', *chain])} --help."
        text = " ".join(str(error).split())
        # Most of these texts are those of cyclopts, which have no entries of their own.
        return commands.fail(" ".join(chain), text, fix=fix, docs="troubleshooting#invalid-command-line")
    if isinstance(error, CommandError):
        return error.print()
    if not isinstance(error, OSError) or error.filename is not None or error.errno not in _OUTPUT_ERRORS:
        return commands.fail_internally(error)
    discard_output()
    # A reader such as head closes the pipe when it has seen enough, and needs no message.
    if error.errno == errno.EPIPE:
        return ExitCode.OUTPUT_CLOSED
    return commands.fail("", f"cannot print to standard output: {error.strerror}")


def _call(app: App, tokens: list[str]) -> object:
    """Call a command and return its result; with ``--json``, a help page or the version is printed as JSON."""
    if not commands.is_json():
        return app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    from rich.console import Console  # most runs print no JSON

    shown = io.StringIO()
    app.console = Console(file=shown, width=_JSON_HELP_WIDTH)
    result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    if text := shown.getvalue():
        commands.print_json({"version": __version__} if text.strip() == __version__ else {"help": text})
    return result


@contextlib.contextmanager
def _usable_streams() -> Iterator[None]:
    """Open the standard streams that are missing, and print escapes where an encoding lacks a character."""
    # One is missing if the command was started without it, and the first file that is opened would take its place.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper) or stream.errors != "strict":
        yield
        return
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors="strict")


def discard_output() -> None:
    """Discard what is not printed yet, and all that follows: Python would report its error again at the exit."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def make_app() -> App:
    """Return the command with its subcommands."""
    app = App(
        name="seedbed",
        help="A local test bed for the Seedream text-to-image job API.",
        version=__version__,
        suppress_keyboard_interrupt=False,
        config=(_Environment("SEEDBED_", source="env"), _read_config, _begin),
    )
    groups = {name: App(name=name, help=text) for name, text in GROUPS.items()}
    added: set[str] = set()
    for each in SUBCOMMANDS:
        group, _, name = each.name.rpartition(" ")
        # Not looked up in app.subapps, which would import all subcommands.
        if group and group not in added:
            app.command(groups[group])
            added.add(group)
        epilogue = f"Exit codes: {each.codes}." if each.codes else None
        parent = groups[group] if group else app
        parent.command(each.path, name=name, help=each.help, help_epilogue=epilogue, usage=each.usage)
    return app


# Options that may cost money: a variable that was set once would cost it in every run.
_NEVER_FROM_ENVIRONMENT = {"--live", "--max-credits", "--settle", "--spend", "--submit-again"}


class _Environment(Env):
    """Options from variables such as ``SEEDBED_SERVE_PORT``, which the command line overrides.

    Attributes:
        used: The variables that set an option.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.used: list[str] = []

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        del app  # the commands name it
        known = {self._convert_argument(commands, each): each for each in arguments if _is_option(each)}
        for name in sorted(os.environ):
            # An empty variable is one that is not set, as in a Compose file with ${PORT:-}.
            if not name.startswith(self._prefix(commands)) or not (value := os.environ[name]):
                continue
            if (argument := known.get(name)) is None:
                # What Kubernetes sets for a service of this name.
                if not re.search(r"_(SERVICE_(HOST|PORT\w*)|PORT_\d+_\w+)$", name):
                    raise CycloptsError(msg=_unknown_variable(name, known, " ".join(commands)))
            elif not argument.tokens:
                self.used.append(name)
                for index, text in enumerate(argument.env_var_split(value)):
                    argument.append(Token(keyword=name, value=text, source=self.source, index=index))

    def _convert_argument(self, commands: tuple[str, ...], argument: Argument) -> str:
        # Called for the help, which names a variable for every argument that does not say otherwise.
        if not _is_option(argument):
            argument.parameter = Parameter.combine(argument.parameter, Parameter(show_env_var=False))
        return super()._convert_argument(commands, argument)


def _unknown_variable(name: str, known: Iterable[str], command: str) -> str:
    """Return the sentence about a variable that sets no option of a command."""
    option = name.removeprefix(f"SEEDBED_{command.upper().replace(' ', '_').replace('-', '_')}_")
    if f"--{option.lower().replace('_', '-')}" in _NEVER_FROM_ENVIRONMENT:
        return f"{name} has no effect, because it may cost money; pass the option on the command line."
    from difflib import get_close_matches  # only for this message

    nearest = get_close_matches(name, known, 1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"see seedbed {command} --help."
    return f"The variable {name} sets no option of seedbed {command}; {hint}"


def _is_option(argument: Argument) -> bool:
    is_option = any(name.startswith("--") for name in argument.names)
    return bool(is_option and argument.parse and _NEVER_FROM_ENVIRONMENT.isdisjoint(argument.names))


PROJECT_CONFIG = "seedbed.toml"
"""Config file that ``seedbed serve`` reads if it is in the current folder, as ``seedbed init`` writes it."""


def _read_config(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    config = next((each for each in arguments if each.name == "--config"), None)
    if config and not config.tokens and commands == ("serve",) and Path(PROJECT_CONFIG).is_file():
        config.append(Token(keyword="--config", value=PROJECT_CONFIG, source="the current folder"))
    if config and config.tokens:
        # Imported late: the subcommands of the other packages have no config file.
        from seedbed_mock.options import read_config  # see above

        read_config(Path(config.tokens[0].value), app, commands, arguments)


def _begin(app: App, commands_: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Take note of ``--json`` and of secrets, wherever they are given."""
    del app, commands_
    for each in arguments:
        values = [token.value for token in each.tokens]
        if each.name in commands.SECRET_OPTIONS:
            commands.hide(*values)
        elif each.name == commands.JSON_OPTION and values:
            commands.use_json(wanted=values[-1].lower() not in _FALSE)


def _positive(_: type, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"invalid deadline {value}; use a number of seconds above 0")


# What the subcommands of seedbed faults and seedbed accounts share

_Url = Annotated[str | None, Parameter(name="--url")]
_Token = Annotated[str, Parameter(name="--control-token", show_default=False)]
_Space = Annotated[str, Parameter(name="--space", show_default=False)]


def _table(columns: dict[str, str], items: list[dict[str, Any]]) -> str:
    """Return items as a table of some columns, which have titles."""
    rows = [list(columns.values()), *([_cell(item[name]) for name in columns] for item in items)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "all"
    return f"{value:.15g}" if isinstance(value, float) else str(value)


# The subcommands of seedbed faults

_FAULT_COLUMNS = {
    "number": "No.",
    "rule": "Rule",
    "source": "Source",
    "space": "Space",
    "on": "On",
    "seen": "Seen",
    "hits": "Hits",
}


def list_faults(*, url: _Url = None, token: _Token = "", space: _Space = "", as_json: JsonFlag = False) -> int:
    """List the active fault rules; the first one that matches a request is applied.

    Args:
        url: Base URL of the server; by default SEEDBED_BASE_URL, or the local mock server.
        token: Control token of the server.
        space: List only the rules of this space.
        as_json: Print the rules as JSON.
    """
    return _print_faults(ControlledServer(url, token), "GET", as_json=as_json, space=space)


def add(*rules: str, url: _Url = None, token: _Token = "", space: _Space = "", as_json: JsonFlag = False) -> int:
    """Add fault rules after the active ones, and list all.

    Args:
        rules: Rules such as '429; p=0.2', each in quotes.
        url: Base URL of the server; by default SEEDBED_BASE_URL, or the local mock server.
        token: Control token of the server.
        space: Apply the rules only to requests of this space.
        as_json: Print the rules as JSON.
    """
    if not rules:
        return commands.fail("faults", "no rule was given; give at least one rule in quotes, such as '429; p=0.2'")
    return _print_faults(
        ControlledServer(url, token), "POST", {"rules": rules, "space": space or None}, as_json=as_json
    )


def clear(
    number: int | None = None,
    /,
    *,
    url: _Url = None,
    token: _Token = "",
    space: _Space = "",
    as_json: JsonFlag = False,
) -> int:
    """Remove fault rules that were added, and list the remaining ones.

    Args:
        number: Number of the rule to remove; all rules by default.
        url: Base URL of the server; by default SEEDBED_BASE_URL, or the local mock server.
        token: Control token of the server.
        space: Remove only rules of this space.
        as_json: Print the rules as JSON.
    """
    return _print_faults(ControlledServer(url, token), "DELETE", as_json=as_json, number=number, space=space)


def scenarios(*, as_json: JsonFlag = False) -> int:
    """List the built-in scenarios, for seedbed serve --scenario NAME.

    Args:
        as_json: Print the scenarios as JSON.
    """
    from seedbed_mock.faults.scenarios import (  # other subcommands do not need it
        load_scenario,
        scenario_path,
        shipped_scenarios,
    )

    described = {name: load_scenario(scenario_path(name)).description for name in shipped_scenarios()}
    if as_json:
        commands.print_json({"scenarios": [{"name": name, "description": text} for name, text in described.items()]})
        return 0
    width = max(map(len, described))
    for name, text in described.items():
        print(f"{name:<{width}}  {text}")
    return 0


def _print_faults(server: ControlledServer, method: str, body: object = None, *, as_json: bool, **query: object) -> int:
    """Call ``/faults`` of the control API, print the rules that it lists, and return the exit code."""
    try:
        listing = server.call(method, "faults", body, **query)
    except CommandError as error:
        return error.print("faults")
    if as_json:
        commands.print_json(listing)
        return 0
    if scenario := listing["scenario"]:
        phase = f"in the phase {scenario['phase']}" if scenario["phase"] else "over"
        print(f"The scenario {scenario['name']} is {phase}. {scenario['problem'] or ''}".rstrip())
    print(_table(_FAULT_COLUMNS, listing["faults"]) if listing["faults"] else "No active rules.")
    return 0


# The subcommand seedbed durations

_DURATION_COLUMNS = {"profile": "Profile", "quality": "Quality", "median": "Median", "p90": "90 %", "p99": "99 %"}
_PERCENTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99}


def show_durations(
    *, deadline: Annotated[float | None, Parameter(validator=_positive)] = None, as_json: JsonFlag = False
) -> int:
    """Show the duration profiles, for seedbed serve --task-seconds NAME.

    Args:
        deadline: Also show the share of tasks that take longer than these seconds.
        as_json: Print the profiles as JSON, with seconds and shares from 0 to 1.
    """
    from seedbed_mock.durations import duration_profiles, percentage  # other subcommands do not need it

    found: list[dict[str, Any]] = [
        {
            "profile": name,
            "quality": quality,
            **{column: float(f"{each.percentile(share):.3g}") for column, share in _PERCENTILES.items()},
            "lost": None if deadline is None else each.share_beyond(deadline),
        }
        for name, profile in duration_profiles().items()
        for quality, each in profile.quality.items()
    ]
    if as_json:
        commands.print_json({"deadline": deadline, "profiles": found})
        return 0
    columns = _DURATION_COLUMNS | ({} if deadline is None else {"lost": f"Lost after {deadline:g} s"})
    rows = [
        each | {column: f"{each[column]:g} s" for column in _PERCENTILES} | {"lost": percentage(each["lost"] or 0)}
        for each in found
    ]
    print(_table(columns, rows))
    return 0


# The subcommands of seedbed accounts

_Key = Annotated[str, Parameter(name="--key", show_default=False)]

_ACCOUNT_COLUMNS = {"account": "Account", "space": "Space", "balance": "Credits", "signs": "Signs callbacks"}


def list_accounts(*, url: _Url = None, token: _Token = "", space: _Space = "", as_json: JsonFlag = False) -> int:
    """List the accounts with their balances, in the order in which their keys were given.

    Args:
        url: Base URL of the server; by default SEEDBED_BASE_URL, or the local mock server.
        token: Control token of the server.
        space: List only the accounts of this space.
        as_json: Print the accounts as JSON.
    """
    try:
        listing = ControlledServer(url, token).call("GET", "accounts", space=space)
    except CommandError as error:
        return error.print("accounts")
    if as_json:
        commands.print_json(listing)
    else:
        print(_table(_ACCOUNT_COLUMNS, listing["accounts"]) if listing["accounts"] else "No accounts.")
    return 0


def top_up(
    amount: float,
    /,
    *,
    key: _Key = "",
    url: _Url = None,
    token: _Token = "",
    space: _Space = "",
    as_json: JsonFlag = False,
) -> int:
    """Add credits to an account, and show it.

    Args:
        amount: Credits to add.
        key: Key of the account, or its fingerprint; by default the first key of the server.
        url: Base URL of the server; by default SEEDBED_BASE_URL, or the local mock server.
        token: Control token of the server.
        space: Space of the account.
        as_json: Print the account as JSON.
    """
    change = ("top-up", {"credits": amount})
    return _change_account(ControlledServer(url, token), change, key, space, as_json=as_json)


def reset_account(
    *, key: _Key = "", url: _Url = None, token: _Token = "", space: _Space = "", as_json: JsonFlag = False
) -> int:
    """Restore the initial balance of an account, and show it.

    Args:
        key: Key of the account, or its fingerprint; by default the first key of the server.
        url: Base URL of the server; by default SEEDBED_BASE_URL, or the local mock server.
        token: Control token of the server.
        space: Space of the account.
        as_json: Print the account as JSON.
    """
    return _change_account(ControlledServer(url, token), ("reset", None), key, space, as_json=as_json)


def _change_account(
    server: ControlledServer, change: tuple[str, object], key: str, space: str, *, as_json: bool
) -> int:
    from seedbed_mock.accounts import fingerprint  # other commands start faster without it

    try:
        name = key if re.fullmatch("key-[0-9a-f]{12}", key) else fingerprint(key)
        if not key:
            name = server.call("GET", "accounts", space=space)["accounts"][0]["account"]
        account = server.call("POST", f"accounts/{name}/{change[0]}", change[1], space=space)
    except CommandError as error:
        return error.print("accounts")
    if as_json:
        commands.print_json(account)
    else:
        print(_table(_ACCOUNT_COLUMNS, [account]))
    return 0
