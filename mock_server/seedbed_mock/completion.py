"""The command ``seedbed --install-completion``: completion of commands, options and values in a shell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import Parameter
from cyclopts.completion import detect_shell
from cyclopts.completion.detect import ShellDetectionError
from cyclopts.completion.install import get_default_completion_path
from seedbed_schemas import commands
from seedbed_schemas.commands import ExitCode, JsonFlag

if TYPE_CHECKING:
    from collections.abc import Mapping

Shell = Literal["bash", "zsh", "fish"]

_COMMAND: Final = "--install-completion"
_STARTUP: Final[Mapping[str, str]] = {"bash": ".bashrc", "zsh": ".zshrc"}
"""Files in the home directory that a shell reads when it starts. Fish finds a script by itself."""


def install_completion(
    *,
    shell: Annotated[Shell | None, Parameter(show_default=False)] = None,
    as_json: JsonFlag = False,
) -> int:
    """Install the completion of commands, options and values in a shell, and name the files that were changed.

    Args:
        shell: The shell; by default the one that runs the command.
        as_json: Print the files as JSON.
    """
    try:
        chosen = shell or detect_shell()
    except ShellDetectionError:
        return commands.fail(_COMMAND, "the shell is not known; pass --shell, such as --shell bash")
    if chosen == "powershell":
        return commands.fail(_COMMAND, "there is no completion for PowerShell; pass --shell bash, zsh or fish")
    from seedbed_mock.cli import make_app  # which names this module

    app = make_app()
    try:
        script = get_default_completion_path(chosen, "seedbed")
        paths = [script, *([Path.home() / _STARTUP[chosen]] if chosen in _STARTUP else [])]
        before = {path: _content(path) for path in paths}
        app.install_completion(shell=chosen)
        changed = {path: _content(path) != before[path] for path in paths}
    except OSError as error:
        return commands.fail(_COMMAND, f"{error.filename}: {error.strerror}")
    if as_json or commands.is_json():
        files = [{"path": str(path), "changed": is_changed} for path, is_changed in changed.items()]
        commands.print_json({"shell": chosen, "files": files})
        return ExitCode.DONE
    for path, is_changed in changed.items():
        what = "unchanged" if is_changed is False else "the script" if path == script else "loads the script"
        print(f"{path}: {what}")
    if chosen == "zsh" and b"compinit" not in (_content(paths[-1]) or b""):
        print("Zsh completes nothing until ~/.zshrc has the line: autoload -Uz compinit && compinit")
    print(f"To begin, start a new shell: exec {chosen}")
    return ExitCode.DONE


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
