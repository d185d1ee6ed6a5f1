"""``seedbed --install-completion`` in shells that a user would start."""

import json
import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from seedbed_mock.cli import main

TYPED = {"seedbed se": "serve", "seedbed health --ti": "--timeout", "seedbed openapi --http-status mi": "mirror"}


def answer(shell: str, home: Path, typed: str, wanted: str) -> str:
    """Return what a shell shows after a line and a tab, until it shows what is wanted."""
    process, terminal = pty.fork()
    if not process:
        environment = {"HOME": str(home), "PATH": os.environ["PATH"], "TERM": "dumb", "PS1": "$ "}
        os.execvpe(shell, [shell, "-i"], environment)  # noqa: S606 (the shell of the user)
    try:
        os.write(terminal, f"{typed}\t".encode())
        shown, deadline = "", time.monotonic() + 20
        while wanted not in shown and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.2)[0]:
                shown += os.read(terminal, 4096).decode(errors="replace")
        return shown
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_completes_commands_flags_and_values(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    startup = tmp_path / f".{shell}rc"
    startup.write_text("autoload -Uz compinit && compinit -u\n" if shell == "zsh" else "# mine\n", encoding="utf-8")
    before = startup.read_text(encoding="utf-8")
    assert main(["--install-completion", "--shell", shell, "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert all(each["changed"] for each in files)
    # What is not named is not there, except for the cache of zsh.
    assert {str(path) for path in tmp_path.rglob("*") if path.is_file()} == {each["path"] for each in files}
    assert before in startup.read_text(encoding="utf-8")
    assert main(["--install-completion", "--shell", shell]) == 0
    assert capsys.readouterr().out.count(": unchanged\n") == 2
    for typed, wanted in TYPED.items():
        shown = answer(shell, tmp_path, typed, wanted)
        assert wanted in shown, (typed, shown)


def test_an_unknown_shell_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--install-completion", "--shell", "tcsh"]) == 2
    assert "bash" in capsys.readouterr().err


def test_the_script_is_valid_bash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["--install-completion", "--shell", "bash"]) == 0
    script = tmp_path / ".local/share/bash-completion/completions/seedbed"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
