"""The file of ``--config``: the flags of a command as TOML, which those on the command line override."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import CycloptsError
from cyclopts.config import Dict

from seedbed_mock.settings import SEPARATOR

if TYPE_CHECKING:
    from cyclopts import App, ArgumentCollection


_FLAG = "config"


def fill_in(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Give a command the flags of its file that its command line does not have.

    Raises:
        CycloptsError: The file cannot be read, or has what the command does not know.
    """
    named = next((argument for argument in arguments if argument.name == f"--{_FLAG}"), None)
    if named is None or not named.tokens:
        return
    path = Path(named.tokens[0].value)
    flags = _read(path)
    if _FLAG in flags:
        raise CycloptsError(msg=f"{path}: a config file cannot name another.")
    # Under the name of its command, or a flag that is called like another command would be left out.
    for command in reversed(commands):
        flags = {command: flags}
    Dict(flags, source=str(path))(app, commands, arguments)


def _read(path: Path) -> dict[str, Any]:
    try:
        flags = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CycloptsError(msg=f"{path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise CycloptsError(msg=f"{path} is no TOML: {error}.") from error
    if "key" in flags:
        flags["key"] = _keys(path, flags["key"])
    return flags


def _keys(path: Path, keys: Any) -> list[str]:
    """Return keys as the texts of the flag ``--key``."""
    several = keys if isinstance(keys, list) else [keys]
    if not all(isinstance(each, str | dict) for each in several) or isinstance(keys, dict):
        raise CycloptsError(msg=f'{path}: keys are [[key]] tables, each with a name, or key = ["my-key"].')
    return [_key(path, each) if isinstance(each, dict) else each for each in several]


def _key(path: Path, table: dict[str, Any]) -> str:
    options = dict(table)
    if not isinstance(name := options.pop("name", None), str):
        raise CycloptsError(msg=f'{path}: every [[key]] needs a name, such as name = "my-key".')
    if mistaken := [option for option, value in options.items() if not _is_plain(value)]:
        raise CycloptsError(msg=f"{path}: the {mistaken[0]} of a [[key]] is a number or a text.")
    parts = [name, *(f"{option}={value}" for option, value in options.items())]
    if any(character in part for part in parts for character in "\0\r\n"):
        raise CycloptsError(msg=f"{path}: what a [[key]] says stands on one line, without control characters.")
    return "".join(part + SEPARATOR for part in parts)


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
